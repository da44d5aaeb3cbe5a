"""The inference pairs of the sample data are what their data sheet says: squares that no single text gives away."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from crossenc_kit import read_nli
from crossenc_kit.data.tables import read_jsonl
from crossenc_kit.files import shipped

SPLITS = {"train": 600, "dev": 150, "test": 150}  # premises
FOLDER = shipped("data") / "nli"
SHEET = (FOLDER / "README.md").read_text(encoding="utf-8")
LABELS = ("contradiction", "entailment", "neutral")
PHENOMENA = {"negation", "quantifier", "number", "lexical", "world_knowledge", "temporal", "role_swap"}


@pytest.fixture(scope="module")
def splits():
    return {split: [row for _, row in read_jsonl(FOLDER / f"{split}.jsonl")] for split in SPLITS}


def texts(rows):
    """The distinct texts, compared without case and punctuation."""
    return {re.sub(r"\W+", " ", row[side].lower()).strip() for row in rows for side in ("premise", "hypothesis")}


def test_there_are_as_many_premises_as_said(splits):
    assert {split: len({row["premise"] for row in rows}) for split, rows in splits.items()} == SPLITS
    assert len({row["domain"] for row in splits["test"]}) == 25


def test_no_text_is_in_two_splits(splits):
    found = {split: texts(rows) for split, rows in splits.items()}
    assert found["train"] & found["dev"] == found["train"] & found["test"] == found["dev"] & found["test"] == set()


def test_every_hypothesis_has_each_label_once(splits):
    """So that no model of the hypothesis alone can be right more often than one time in three."""
    for rows in splits.values():
        counts = Counter((row["hypothesis"], row["label"]) for row in rows)
        assert set(counts.values()) == {1}
        assert len(counts) == 3 * len({row["hypothesis"] for row in rows})


def test_every_premise_has_each_label_as_often(splits):
    for rows in splits.values():
        counts = Counter((row["premise"], row["label"]) for row in rows)
        assert set(counts.values()) == {3}


def test_a_square_is_three_premises_by_nine_hypotheses_and_in_one_split(splits):
    seen = {}
    for split, rows in splits.items():
        for row in rows:
            seen.setdefault(row["square"], set()).add((split, row["domain"]))
        for square in {row["square"] for row in rows}:
            own = [row for row in rows if row["square"] == square]
            assert (len({r["premise"] for r in own}), len({r["hypothesis"] for r in own}), len(own)) == (3, 9, 27)
    assert {len(places) for places in seen.values()} == {1}


def test_ids_are_unique_and_the_rows_are_in_no_order(splits):
    rows = [row for rows in splits.values() for row in rows]
    assert len({row["_id"] for row in rows}) == len(rows)
    squares = [row["square"] for row in splits["test"]]
    assert sum(a == b for a, b in itertools.pairwise(squares)) < len(squares) / 10


def test_the_sheet_counts_every_phenomenon(splits):
    table = {
        m[1]: tuple(map(int, m.groups()[1:]))
        for m in re.finditer(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) ", SHEET, re.M)
    }
    counts = {split: Counter(row["phenomenon"] for row in rows) for split, rows in splits.items()}
    assert table == {kind: tuple(counts[split][kind] for split in SPLITS) for kind in PHENOMENA}
    assert all(set(found) == PHENOMENA for found in counts.values())


def test_the_overview_counts_the_splits(splits):
    overview = (shipped("data") / "README.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(f'{len(rows):,}' for rows in splits.values())} |" in overview


def test_words_of_the_hypothesis_alone_do_no_better_than_chance(splits):
    """The best rule from words to labels, counted on train, scores a third on test: naive Bayes by hand."""

    def words(row):
        return set(re.findall(r"[\w']+", row["hypothesis"].lower()))

    counts = {
        label: Counter(word for row in splits["train"] if row["label"] == label for word in words(row))
        for label in LABELS
    }
    assert counts["contradiction"] == counts["entailment"] == counts["neutral"]
    lengths = {
        label: np.mean([len(row["hypothesis"]) for row in splits["test"] if row["label"] == label]) for label in LABELS
    }
    assert np.ptp(list(lengths.values())) < 1e-9


def test_the_reader_reads_it(splits):
    pairs = read_nli(shipped("data"), "test")
    assert pairs.label_names == LABELS
    assert [pairs.label_names[label] for label in pairs.labels] == [row["label"] for row in splits["test"]]
    assert set(pairs.tags) >= {"phenomenon", "form", "domain", "square"}


def test_every_text_is_clean(splits):
    for rows in splits.values():
        for row in rows:
            for side, most in (("premise", 31), ("hypothesis", 16)):
                assert row[side] == " ".join(row[side].split())
                assert row[side].isprintable()
                assert 3 <= len(row[side].split()) <= most
