"""The graded pairs of the sample data are what their data sheet says."""

import re
from collections import Counter
from pathlib import Path

import pytest

from crossenc_kit import read_sts, spearman, word_overlap
from crossenc_kit.data.tables import read_jsonl
from crossenc_kit.files import shipped

SPLITS = {"train": 600, "dev": 150, "test": 150}  # the least number of pairs
SHEET = (shipped("data") / "sts" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def splits():
    return {split: [row for _, row in read_jsonl(shipped("data") / "sts" / f"{split}.jsonl")] for split in SPLITS}


def sentences(rows):
    """The distinct sentences, compared without case and punctuation."""
    return {re.sub(r"\W+", " ", row[side].lower()).strip() for row in rows for side in ("sentence1", "sentence2")}


def test_there_are_enough_pairs_and_domains(splits):
    for split, least in SPLITS.items():
        assert len(splits[split]) >= least
    assert len({row["domain"] for rows in splits.values() for row in rows}) >= 12


def test_no_sentence_is_in_two_splits(splits):
    found = {split: sentences(rows) for split, rows in splits.items()}
    assert found["train"] & found["dev"] == found["train"] & found["test"] == found["dev"] & found["test"] == set()


def test_no_pair_comes_twice_and_ids_are_unique(splits):
    rows = [row for rows in splits.values() for row in rows]
    assert len({frozenset((row["sentence1"], row["sentence2"])) for row in rows}) == len(rows)
    assert len({row["_id"] for row in rows}) == len(rows)


def test_grades_are_half_steps_from_0_to_5(splits):
    grades = {row["score"] for rows in splits.values() for row in rows}
    assert grades == {step / 2 for step in range(11)}


def test_the_sheet_counts_every_phenomenon(splits):
    table = {
        m[1]: tuple(map(int, m.groups()[1:]))
        for m in re.finditer(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) ", SHEET, re.M)
    }
    counts = {split: Counter(row["phenomenon"] for row in rows) for split, rows in splits.items()}
    kinds = {kind for found in counts.values() for kind in found}
    assert table == {kind: tuple(counts[split][kind] for split in ("train", "dev", "test")) for kind in kinds}


def test_the_overview_counts_the_splits(splits):
    overview = (Path(shipped("data")) / "README.md").read_text(encoding="utf-8")
    sizes = [f"{len(splits[split]):,}" for split in ("train", "dev", "test")]
    assert f"| {' | '.join(sizes)} |" in overview


def test_word_counting_does_not_solve_the_test_split():
    pairs = read_sts(shipped("data"), "test")
    found = spearman(word_overlap(pairs.texts), pairs.labels)
    assert abs(found) < 0.6
    assert f"word overlap is {found:.2f}" in SHEET


def test_every_sentence_is_clean_text(splits):
    for rows in splits.values():
        for row in rows:
            for text in (row["sentence1"], row["sentence2"]):
                assert text == " ".join(text.split())
                assert text.isprintable()
                assert 3 <= len(text.split()) <= 40
