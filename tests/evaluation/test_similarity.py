"""Reports: a scorer and labels in, correlations, intervals and baselines out; rows of figures in a CSV file."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import crossenc_kit
from crossenc_kit.data.pairs import Pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.metrics import bootstrap_interval, pearson, spearman
from crossenc_kit.evaluation.similarity import append_csv, by_tag, correlation_evaluator, evaluate_correlation
from crossenc_kit.retrieval.baselines import word_overlap
from crossenc_kit.scorers import score_pairs

ROWS = [("a b c", "a b c", 1.0), ("a b", "b c", 0.5), ("a", "z", 0.0)]  # word overlap 1, 1/3, 0
TEXTS = [row[:2] for row in ROWS]


def constant(pairs):
    return np.full(len(pairs), 0.1)


def giving(scores):
    """A scorer that answers `scores`, whatever the pairs."""
    return lambda pairs: scores


def random_rows(size=60):
    rng = np.random.default_rng(0)
    labels = rng.random(size).round(2)
    return [(f"l{i}", f"r{i}", float(label)) for i, label in enumerate(labels)], labels + rng.normal(size=size) / 3


class TestReport:
    def test_by_hand(self):
        report = evaluate_correlation(word_overlap, ROWS, name="three", baselines={"nothing": constant}, resamples=0)
        assert (report.name, report.count) == ("three", 3)
        assert report.spearman == pytest.approx(1)
        # deviations of (1, 1/3, 0) from 4/9 are (5, -1, -4) / 9; of the labels (1, 0, -1) / 2: 9 / sqrt(42 * 2)
        assert report.pearson == pytest.approx(9 / np.sqrt(84))
        assert report.scores.tolist() == pytest.approx([1, 1 / 3, 0])
        assert report.labels.tolist() == [1, 0.5, 0]
        assert report.baselines == {"nothing": {"pearson": 0, "spearman": 0}}
        assert (report.intervals, report.margins) == ({}, {})
        assert list(report.metrics.items()) == [("spearman", report.spearman), ("pearson", report.pearson)]

    def test_against_scipy_and_the_bootstrap(self):
        rows, scores = random_rows()
        labels = [label for *_, label in rows]
        report = evaluate_correlation(giving(scores), rows, resamples=200, seed=3)
        assert report.pearson == pytest.approx(scipy.stats.pearsonr(scores, labels).statistic)
        assert report.spearman == pytest.approx(scipy.stats.spearmanr(scores, labels).statistic, abs=1e-6)
        assert report.intervals.keys() == {"pearson", "spearman"}
        expected = bootstrap_interval(spearman, scores, report.labels, resamples=200, seed=3)
        assert report.intervals["spearman"] == expected
        assert expected[0] < report.spearman < expected[1]

    def test_a_margin_above_zero_says_that_the_baseline_is_beaten(self):
        rows, scores = random_rows()
        worse = np.random.default_rng(1).normal(size=len(rows))
        report = evaluate_correlation(
            giving(scores), rows, baselines={"noise": giving(worse), "itself": giving(scores)}, resamples=200
        )
        low, high = report.margins["noise"]
        assert 0 < low < report.spearman - report.baselines["noise"]["spearman"] < high
        assert report.margins["itself"] == (0, 0)

    def test_in_words(self):
        rows, scores = random_rows()
        report = evaluate_correlation(giving(scores), rows, baselines={"constant": constant}, resamples=50)
        first, _, model, baseline, margin = str(report).splitlines()
        low, high = report.intervals["spearman"]
        assert first == "evaluation: 60 pairs"
        assert model.split() == f"model {report.spearman:.3f} {low:.3f} to {high:.3f} {report.pearson:.3f}".split()
        assert baseline.split() == ["constant", "0.000", "0.000"]
        assert margin.startswith("  Spearman above constant: +0.")
        without = str(evaluate_correlation(giving(scores), rows, resamples=0))
        assert "nan" not in without
        assert len(without.splitlines()) == 3

    def test_the_evaluator_of_training_gives_the_same_figures(self):
        evaluate = correlation_evaluator(ROWS)
        assert evaluate(word_overlap) == evaluate_correlation(word_overlap, ROWS).metrics
        assert next(iter(evaluate(word_overlap))) == "spearman"

    def test_each_scorer_is_asked_once(self):
        asked = []

        def scorer(pairs):
            asked.append(list(pairs))
            return word_overlap(pairs)

        evaluate_correlation(scorer, ROWS, resamples=20)
        assert asked == [TEXTS]

    def test_neither_metrics_nor_evaluation_needs_torch(self):
        code = f"""
import sys
from crossenc_kit import evaluate_correlation, word_overlap
print(evaluate_correlation(word_overlap, {ROWS!r}, baselines={{"same": word_overlap}}))
print("torch" in sys.modules)
"""
        environment = {**os.environ, "PYTHONPATH": str(Path(crossenc_kit.__file__).parent.parent)}
        command = [sys.executable, "-c", code]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        assert answer.splitlines()[-1] == "False"


class TestUnusable:
    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (TEXTS, "evaluation needs labels: add a column named label"),
            ([("a", "b", [0, 1]), ("c", "d", [1, 0])], "one label per pair, got 2"),
            ([("a", "b", 0.5), ("c", "d", 0.5)], "two different labels; all 2 are equal"),
            ([("a", "b", 0.5)], "two different labels"),
            ([("a", "b", 0.5), ("c", None)], "row 1, column '1': the text is missing"),
            ([], "evaluation needs labels"),
        ],
    )
    def test_data(self, rows, message):
        for evaluate in (lambda: evaluate_correlation(word_overlap, rows), lambda: correlation_evaluator(rows)):
            with pytest.raises(DataError, match=message):
                evaluate()

    def test_a_label_that_is_not_finite_is_named_with_its_row(self):
        rows = Pairs(["a", "b", "c"], ["d", "e", "f"], np.array([0, np.nan, 1]))
        with pytest.raises(ValueError, match="row 1: the label is nan"):
            evaluate_correlation(word_overlap, rows, resamples=0)

    @pytest.mark.parametrize(
        ("scores", "message"),
        [
            ([1.0, 2.0], r"scores of shape \(2,\) for 3 pairs"),
            (0.5, r"scores of shape \(\) for 3 pairs"),
            ([0.5, np.nan, np.inf], r"gave nan for row 1 \(2 of 3 scores are not finite\)"),
            ([[0.0], [1.0], [2.0]], r"one score per pair; the scorer gave shape \(3, 1\)"),
        ],
    )
    def test_scores(self, scores, message):
        with pytest.raises(DataError, match=message):
            evaluate_correlation(giving(scores), ROWS)
        with pytest.raises(DataError, match=message):  # a baseline is checked in the same way
            evaluate_correlation(word_overlap, ROWS, baselines={"odd": giving(scores)})

    def test_several_scores_a_pair_are_scores(self):
        assert score_pairs(giving([[1, 2], [3, 4]]), TEXTS[:2]).tolist() == [[1, 2], [3, 4]]
        assert score_pairs(giving([]), []).shape == (0,)
        with pytest.raises(DataError, match=r"gave \[ 3. nan\] for row 1 \(1 of 2"):
            score_pairs(giving([[1, 2], [3, np.nan]]), TEXTS[:2])


class TestByTag:
    def test_by_hand(self):
        scores, labels = [1, 2, 3, 1, 2], [1, 2, 3, 2, 1]
        found = by_tag(pearson, scores, labels, ["rises", "rises", "rises", "falls", "falls"])
        assert list(found) == ["rises", "falls"]
        assert found["rises"] == pytest.approx(1)
        assert found["falls"] == pytest.approx(-1)

    def test_tags_that_are_no_text(self):
        found = by_tag(
            lambda scores, labels: float(len(scores)), range(6), range(6), [3, None, 3, ("x", 1), None, None]
        )
        assert found == {"None": 3, "3": 2, "('x', 1)": 1}

    def test_equally_frequent_tags_stand_in_alphabetical_order(self):
        assert list(by_tag(lambda s, y: len(s), [1, 2, 3], [1, 2, 3], ["c", "a", "b"])) == ["a", "b", "c"]

    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from("abc")), min_size=1))
    def test_every_row_is_in_one_tag(self, rows):
        scores, labels, tags = zip(*rows, strict=True)
        found = by_tag(lambda s, y: (len(s), s.sum(), y.sum()), scores, labels, tags)
        assert found == {
            tag: (
                tags.count(tag),
                sum(score for score, own in zip(scores, tags, strict=True) if own == tag),
                sum(label for label, own in zip(labels, tags, strict=True) if own == tag),
            )
            for tag in set(tags)
        }
        counts = [count for count, *_ in found.values()]
        assert counts == sorted(counts, reverse=True)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"^3 pairs and 2 tags; expected one per pair$"):
            by_tag(pearson, [1, 2, 3], [1, 2, 3], ["a", "a"])
        with pytest.raises(ValueError, match=r"^tag 'b': a correlation needs at least 2 pairs, got 1$"):
            by_tag(pearson, [1, 2, 3], [1, 2, 3], ["a", "a", "b"])


class TestCsv:
    def rows(self, path):
        with open(path, newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))

    def test_rows_are_added_below_one_header(self, tmp_path):
        path = tmp_path / "new" / "results.csv"
        assert append_csv(path, {"name": "a", "spearman": 0.5}) == path
        append_csv(path, {"name": 'b, "quoted"\nand long', "spearman": np.float64(0.25)})
        assert path.read_text().count("spearman") == 1
        assert self.rows(path) == [
            {"name": "a", "spearman": "0.5"},
            {"name": 'b, "quoted"\nand long', "spearman": "0.25"},
        ]

    @pytest.mark.parametrize("row", [{"name": "b"}, {"spearman": 1, "name": "b"}, {"name": "b", "pearson": 1}])
    def test_other_columns_are_refused_and_nothing_is_written(self, tmp_path, row):
        path = append_csv(tmp_path / "results.csv", {"name": "a", "spearman": 0.5})
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"results.csv has the columns \['name', 'spearman'\], not \["):
            append_csv(path, row)
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "content", [b"", b"name,f\n", b"name,f", b"\xef\xbb\xbfname,f\r\nx,1", b"name,f\r\nx,1\r\n"]
    )
    def test_a_file_that_an_editor_or_a_spreadsheet_wrote(self, tmp_path, content):
        path = tmp_path / "results.csv"
        path.write_bytes(content)
        append_csv(path, {"name": "é", "f": 2})
        before = [{"name": "x", "f": "1"}] if b"x" in content else []
        assert self.rows(path) == [*before, {"name": "é", "f": "2"}]
