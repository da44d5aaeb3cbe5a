"""A folder that appears whole or not at all, and the model card in it."""

from __future__ import annotations

import html
import os
import re
import shutil
import stat
from pathlib import Path

import pytest
import torch
from families import fitted, pairs_of_all_lengths

from crossenc_kit import CrossEncoder
from crossenc_kit.cards import escape, model_card, without_folders
from crossenc_kit.folders import mend_folder, replace_folder, shipped

PAIRS = pairs_of_all_lengths()[:6]


def content(folder):
    """Everything in a folder: path to text."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def older(tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("old a")
    (folder / "sub" / "b.txt").write_text("old b")
    return folder


OLDER = {"a.txt": "old a", "sub/b.txt": "old b"}


def fill(folder, **texts):
    for name, text in texts.items():
        (folder / name).write_text(text)


# --- replacing a folder ---------------------------------------------------------------------------


def test_a_new_folder_appears_at_the_end(tmp_path):
    target = tmp_path / "deep" / "down" / "model"
    with replace_folder(target) as partial:
        fill(partial, a="new a")
        assert not target.exists()
        assert partial.parent == target.parent  # a rename within one file system
    assert content(target) == {"a": "new a"}
    assert os.listdir(target.parent) == ["model"]


def test_an_older_folder_keeps_what_the_new_one_does_not_write(older):
    with replace_folder(older) as partial:
        fill(partial, **{"a.txt": "new a", "c.txt": "new c"})
        assert content(older) == OLDER
    assert content(older) == {"a.txt": "new a", "c.txt": "new c", "sub/b.txt": "old b"}
    assert os.listdir(older.parent) == ["model"]


def test_but_nothing_that_belongs_to_the_older_content(older):
    fill(older, **{"model-1.safetensors": "", "model.txt": "mine"})
    with replace_folder(older, owned=("model*.safetensors*", "sub")) as partial:
        fill(partial, c="new c")
    assert content(older) == {"a.txt": "old a", "c": "new c", "model.txt": "mine"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_while_writing_leaves_the_older_folder(older, error):
    def write():
        with replace_folder(older) as partial:
            fill(partial, **{"a.txt": "half"})
            raise error

    with pytest.raises(error):
        write()
    assert content(older) == OLDER
    assert os.listdir(older.parent) == ["model"]


def test_a_failure_while_writing_leaves_nothing_where_there_was_nothing(tmp_path):
    with pytest.raises(ValueError, match="by design"), replace_folder(tmp_path / "model"):
        raise ValueError("by design")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failing", range(1, 4))
def test_a_failure_while_swapping_leaves_the_older_folder(older, monkeypatch, failing):
    """Whichever of its renames fails: moving the older one aside, moving the new one in, or every one after that."""
    rename, calls = Path.rename, []

    def fails(self, target):
        calls.append(self)
        if len(calls) == failing:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    if failing == 3:  # two renames are enough
        with replace_folder(older) as partial:
            fill(partial, c="new c")
        assert len(calls) == 2
        return
    with pytest.raises(OSError, match="Input/output error"), replace_folder(older) as partial:
        fill(partial, **{"a.txt": "new a"})
    assert content(older) == OLDER
    if failing == 2:
        assert os.listdir(older.parent) == ["model"]


def test_the_folder_can_be_read_by_those_who_may_read_other_new_folders(tmp_path):
    (tmp_path / "usual").mkdir()
    with replace_folder(tmp_path / "model") as partial:
        fill(partial, a="")
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_files_are_on_the_disk_before_the_folder_is_named(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not tell the names of open files")
    with replace_folder(tmp_path / "model") as partial:
        (partial / "sub").mkdir()
        fill(partial, a="", **{"sub/b": ""})
        assert not done
    assert sorted(os.path.basename(path) for path in done) == ["a", "b"]
    assert all(Path(path).parent.name.startswith((".model-", "sub")) for path in done)  # still under the other name


def test_a_link_to_a_folder_stays_a_link(older):
    link = older.parent / "link"
    link.symlink_to(older)
    with replace_folder(link) as partial:
        fill(partial, **{"a.txt": "new a"})
    assert link.is_symlink()
    assert content(older)["a.txt"] == "new a"


def test_links_inside_a_folder_are_kept_as_they_are(older):
    (older / "gone").symlink_to("nowhere")
    (older / "linked").symlink_to("sub")
    with replace_folder(older) as partial:
        fill(partial, c="")
    assert {name: os.readlink(older / name) for name in ("gone", "linked")} == {"gone": "nowhere", "linked": "sub"}


def test_the_current_folder_is_not_replaced(older, monkeypatch):
    monkeypatch.chdir(older)
    for path in (".", "", older):
        with pytest.raises(OSError, match=r"cannot replace the current folder '.*'; choose"), replace_folder(path):
            pytest.fail("never reached")
    assert content(older) == OLDER


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path / "file", tmp_path / "file" / "model", tmp_path / "file" / "deep" / "model"):
        with pytest.raises(OSError, match=r"cannot write into '.*': .*; choose"), replace_folder(path):
            pytest.fail("never reached")
    assert (tmp_path / "file").read_text() == "kept"

    def denied(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", denied)
    with pytest.raises(OSError, match=r"cannot write into '.*': Permission denied; choose another folder"):
        fitted().save_pretrained(tmp_path / "model")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="Permission denied; choose another folder"), replace_folder(tmp_path / "model"):
        pytest.fail("never reached")


# --- after a kill ---------------------------------------------------------------------------------


def test_a_kill_while_writing_is_cleared_up(older):
    partial = older.parent / ".model-abc"
    partial.mkdir()
    fill(partial, a="half")
    mend_folder(older)
    assert content(older) == OLDER
    assert os.listdir(older.parent) == ["model"]


def test_a_kill_between_the_renames_brings_the_older_folder_back(older):
    retired, partial = older.parent / ".model-abc", older.parent / ".model-def"
    retired.mkdir()
    older.rename(retired / "model")
    partial.mkdir()
    mend_folder(older)
    assert content(older) == OLDER
    assert os.listdir(older.parent) == ["model"]


def test_nothing_to_mend(tmp_path):
    mend_folder(tmp_path / "model")
    mend_folder(tmp_path / "none" / "model")
    assert os.listdir(tmp_path) == []


def test_shipped_folders():
    assert (shipped("data") / "sts" / "train.jsonl").is_file()


# --- saving a model -------------------------------------------------------------------------------


def test_a_save_that_fails_midway_leaves_the_older_model(tmp_path, monkeypatch):
    first, second = fitted(), fitted()
    with torch.no_grad():
        second.model.classifier.weight.neg_()
    first.save_pretrained(tmp_path / "model")
    expected = first.predict(PAIRS).tolist()

    def fails(folder):
        assert (Path(folder) / "model.safetensors").is_file()  # the new weights are written already
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(second.tokenizer, "save_pretrained", fails)
    with pytest.raises(OSError, match="No space left on device"):
        second.save_pretrained(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]
    assert CrossEncoder(tmp_path / "model", device="cpu").predict(PAIRS).tolist() == expected
    monkeypatch.undo()
    second.save(tmp_path / "model")
    assert CrossEncoder(tmp_path / "model", device="cpu").predict(PAIRS).tolist() == second.predict(PAIRS).tolist()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_leaves_the_older_model(tmp_path, monkeypatch):
    model = fitted()
    model.save_pretrained(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    monkeypatch.setattr("crossenc_kit.model.model_card", lambda *facts: Path("/dev/full").write_text("x" * 10_000))
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


# --- the card -------------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script> | [x](javascript:y) `code`\n## Heading http://a.example www.b.example &amp;"
FACTS = {
    "base_model": "sentence-transformers/all-MiniLM-L6-v2",
    "data": {"training pairs": "5,749", "notes": "labels scaled from 0..5"},
    "settings": {"loss": "bce", "learning_rate": 5e-5},
    "metrics": {"spearman": 0.83456789, "by length": {"short": 0.5}},
    "command": "crossenc-kit run 02_sts_regression -p seed 1",
    "provenance": {"versions": {"torch": "2.13.0"}},
}


def test_a_card_says_data_settings_results_command_limits_and_versions():
    card = model_card(FACTS, 1, 128)
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "\nbase_model: sentence-transformers/all-MiniLM-L6-v2\n---\n" in card
    for part in (
        "gives the pair one score. Base model: all-MiniLM-L6-v2. Longest input: 128 tokens.",
        "## Training data\n\n| | |\n| --- | --- |\n| training pairs | 5,749 |\n",
        "| learning_rate | 5e-05 |",
        "| spearman | 0.8346 |",
        "| by length | short 0.5 |",
        "```\ncrossenc-kit run 02_sts_regression -p seed 1\n```",
        "## Limits\n\n- It was measured on the data named above",
        "- Pairs longer than 128 tokens are cut",
        "| torch | 2.13.0 |",
    ):
        assert part in card
    assert "3 scores" in model_card(FACTS, 3, 128)


def test_a_card_of_nothing_is_whole():
    card = model_card({}, 1, 512)
    assert "Base model: an unnamed model." in card
    assert "base_model" not in card.split("---")[1]
    assert "## Limits" in card
    assert "## Training data" not in card


def test_a_card_is_yaml_and_then_markdown():
    yaml = pytest.importorskip("yaml")
    front = yaml.safe_load(model_card(FACTS, 1, 128).split("---")[1])
    assert front["tags"] == ["cross-encoder"]
    assert front["base_model"] == FACTS["base_model"]
    for name in ("a/b\nlicense: mit", "a/b: c", "../model", "./model", "C:\\models/x"):
        assert "base_model" not in yaml.safe_load(model_card({"base_model": name}, 1, 128).split("---")[1])


def test_a_folder_that_looks_like_a_hub_name_is_not_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "base_model: models/mine" in model_card({"base_model": "models/mine"}, 1, 8)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert "base_model: " not in model_card({"base_model": "models/mine"}, 1, 8)


@pytest.mark.parametrize("key", ["data", "settings", "metrics"])
def test_what_comes_from_data_is_text_and_nothing_else(key):
    card = model_card({key: {HOSTILE: HOSTILE}, "limits": [HOSTILE], "base_model": HOSTILE}, 1, 8)
    page = pytest.importorskip("mistune").create_markdown(escape=False, plugins=["table", "url"])(card)
    for mark in ("<script", "<a ", "<h2>Heading", "<code>code"):
        assert mark not in page, mark
    assert len(re.findall("<h[1-6]>", page)) == 4  # the card, its use, the table, the limits
    row = next(line for line in card.splitlines() if "alert(1)" in line and line.startswith("|"))
    assert row.count("|") == 3  # one row of two cells
    assert html.unescape(row).count(" ".join(HOSTILE.split())) == 2  # and all of it can be read


def test_a_command_cannot_leave_its_block():
    card = model_card({"command": "run\n```\n<script>"}, 1, 8)
    assert card.count("```") == 4
    assert card.index("<script>") < card.rindex("```")


def test_escape_by_hand():
    assert escape("a < b & c | d") == "a &lt; b &amp; c &#124; d"
    assert escape(" two\n\nlines ") == "two lines"
    assert escape("[x](y) `z`") == "&#91;x](y) &#96;z&#96;"
    assert escape(0.5) == "0.5"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{root}/ann/lab/model", "model"),
        ("texts from {root}/ann/pairs.tsv, labels scaled", "texts from pairs.tsv, labels scaled"),
        ("-p data_dir '{root}/ann/my data/sts'", "-p data_dir 'my data/sts'"),
        ("--output={root}/ann/runs/x", "--output=x"),
        ("C:\\Users\\ann\\model", "model"),
        ("~/models/mine", "mine"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("data/sts/train.jsonl", "data/sts/train.jsonl"),
        ("1/2 and and/or", "1/2 and and/or"),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_folders_of_one_machine_are_left_out(text, expected):
    assert without_folders(text.format(root="/" + "home")) == expected


def test_no_path_of_this_machine_is_in_a_saved_model(tmp_path):
    first = tmp_path / "first"
    fitted().save_pretrained(first)
    model = CrossEncoder(first, device="cpu")
    model.card |= {"data": {"notes": f"read from {first}/pairs.tsv"}, "command": f"crossenc-kit run 02 -p d {first}/x"}
    model.save_pretrained(tmp_path / "second")
    card = (tmp_path / "second" / "README.md").read_text()
    assert "Base model: first." in card
    for path in (tmp_path / "second").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    shutil.rmtree(first)
    assert CrossEncoder(tmp_path / "second").num_labels == 1  # and it needs nothing of the first
