"""The model card: what it says, and that nothing from data becomes markup or a folder of one machine."""

from __future__ import annotations

import html
import re
import shutil

import pytest
from small_models import fitted

from crossenc_kit import CrossEncoder
from crossenc_kit.models.card import escape, model_card, without_folders

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
