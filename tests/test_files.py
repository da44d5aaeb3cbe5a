"""A folder that appears whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
import torch
from small_models import fitted, pairs_of_all_lengths

from crossenc_kit import CrossEncoder
from crossenc_kit.files import file_sha256, mend_folder, replace_folder, shipped, text_hash

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


class TestTextHash:
    def test_a_known_digest(self):
        whole = hashlib.sha256(b"5:caf\xc3\xa93:\xed\xa0\xbd")  # the second text is half of a surrogate pair
        assert text_hash(["caf\xe9", "\ud83d"]).hexdigest() == whole.hexdigest()

    def test_where_a_text_ends_counts(self):
        assert text_hash(["ab", "c"]).hexdigest() != text_hash(["a", "bc"]).hexdigest()

    def test_a_digest_goes_on(self):
        assert text_hash(["b"], text_hash(["a"])).hexdigest() == text_hash(["a", "b"]).hexdigest()


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert file_sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
