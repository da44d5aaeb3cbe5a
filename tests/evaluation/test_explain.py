"""Probes change what they say and no more; their effects are counted right; slices cut every pair once."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.data.pairs import Pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.explain import PROBES, error_slices, negated, probe
from crossenc_kit.evaluation.metrics import bootstrap_interval
from crossenc_kit.evaluation.similarity import evaluate_correlation
from crossenc_kit.retrieval.baselines import word_overlap

DATA = Pairs(["a b c", "d e"], ["The dog is big.", "f g h i"], np.array([1, 0]), tags={"kind": ["x", "y"]})
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=30)


def reads_right_only(pairs):
    """1 for a right text of four words or more: a scorer that never looks at the left text."""
    return np.array([float(len(right.split()) >= 4) for _, right in pairs])


def three_classes(pairs):
    """Entailment (0) for the same first letter, contradiction (2) for a "not" on the right, else neutral (1)."""
    kinds = [2 if " not " in right else 0 if left[:1] == right[:1] else 1 for left, right in pairs]
    return 4.0 * np.eye(3)[kinds]


class TestProbes:
    def test_what_each_changes(self):
        texts = {name: function(DATA, 0).texts for name, function in PROBES.items()}
        assert texts["swap"] == [("The dog is big.", "a b c"), ("f g h i", "d e")]
        assert texts["negate"] == [("a b c", "The dog is not big."), ("d e", "It is not true that f g h i")]
        assert texts["right only"] == [("", "The dog is big."), ("", "f g h i")]
        assert texts["left only"] == [("a b c", ""), ("d e", "")]
        assert texts["shuffled words"] != DATA.texts

    @settings(max_examples=50)
    @given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.integers(0, 99))
    def test_labels_tags_and_the_number_of_pairs_stay(self, texts, seed):
        left, right = map(list, zip(*texts, strict=True))
        data = Pairs(left, right, np.arange(len(left)), tags={"n": list(range(len(left)))})
        for function in PROBES.values():
            changed = function(data, seed)
            assert changed.labels.tolist() == data.labels.tolist()
            assert changed.tags == data.tags
            assert changed.num_pairs == data.num_pairs
        assert PROBES["swap"](PROBES["swap"](data, seed), seed).texts == data.texts
        shuffled = PROBES["shuffled words"](data, seed)
        for before, after in zip(left + right, shuffled.left + shuffled.right, strict=True):
            assert sorted(before.split()) == sorted(after.split())
        assert data.texts == texts  # nothing is changed in place

    def test_the_seed_alone_decides_the_order_of_the_words(self):
        data = Pairs([" ".join("abcdefghij")], ["k l m n o p q r"])
        shuffle = PROBES["shuffled words"]
        assert shuffle(data, 1).texts == shuffle(data, 1).texts
        assert shuffle(data, 1).texts != shuffle(data, 2).texts


class TestNegated:
    @pytest.mark.parametrize(
        ("text", "denied"),
        [
            ("The dog is big.", "The dog is not big."),
            ("They may come and they will stay.", "They may not come and they will stay."),
            ("The dog is not big.", "The dog is big."),
            ("It isn't cold.", "It is cold."),
            ("It isn’t cold.", "It is cold."),
            ("He can't swim and won't try.", "He can swim and won't try."),
            ("She won't try.", "She will try."),
            ("They cannot come.", "They can come."),
            ("Not every snake is harmless.", "Every snake is harmless."),
            ("He never smokes", "He smokes"),
            ("Is it? It isn't.", "Is it? It is."),
            ("The can was empty.", "The can was not empty."),
            ("A dog runs.", "It is not true that a dog runs."),
            ("Paris fell in May.", "It is not true that Paris fell in May."),
            ("I sleep.", "It is not true that I sleep."),
            ("An ant", "It is not true that an ant"),
            ("Annotated maps sell.", "It is not true that Annotated maps sell."),
            ("", ""),
            (" ...", " ..."),
        ],
    )
    def test_each_rule(self, text, denied):
        assert negated(text) == denied

    @given(TEXT)
    def test_whatever_has_a_word_is_changed(self, text):
        has_word = any(c.isalnum() or c == "_" for c in text)
        assert (negated(text) != text) == has_word


class TestProbe:
    def test_by_hand_with_one_score(self):
        report = probe(reads_right_only, DATA, ["swap", "left only", "right only"])
        given_, swapped, left, right = report.rows
        assert (report.count, [row.name for row in report.rows]) == (
            2,
            ["as given", "swap", "left only", "right only"],
        )
        # scores 1, 1 of the labels 1, 0; 0, 0 without the right texts
        assert (given_.accuracy, given_.mean, given_.change, given_.absolute_change, given_.flipped) == (
            0.5,
            1,
            0,
            0,
            0,
        )
        assert (left.accuracy, left.mean, left.change, left.absolute_change, left.flipped) == (0.5, 0, -1, 1, 1)
        assert (swapped.mean, swapped.flipped) == (0, 1)
        assert (right.change, right.flipped) == (0, 0)  # it never read the left text
        assert report.scores["left only"].tolist() == [0, 0]

    def test_changes_that_cancel_are_seen_in_their_size(self):
        data = Pairs(["a", "b c"], ["a b", "c"])
        report = probe(
            lambda pairs: [0.2 + 0.4 * len(right.split()) for _, right in pairs], data, ["swap"], threshold=0.8
        )
        row = report.rows[1]
        assert (row.mean, row.change, row.absolute_change) == pytest.approx((0.8, 0, 0.4))
        assert row.flipped == 1
        assert row.accuracy is None
        assert probe(lambda pairs: [0.9, 0.9], data, ["swap"]).rows[1].flipped == 0

    def test_by_hand_with_classes(self):
        data = Pairs(["a x", "a y"], ["a z is", "b z was here"], np.array([0, 1]))
        given_, denied = probe(three_classes, data, ["negate"]).rows
        sure = np.exp(4) / (np.exp(4) + 2)
        left = 1 / (np.exp(4) + 2)  # what the class first predicted has left
        # "a z is not" has no word after "not", so the first pair keeps its class
        assert (given_.accuracy, given_.mean, given_.flipped) == (1, pytest.approx(sure), 0)
        assert (denied.accuracy, denied.flipped) == (0.5, 0.5)
        assert denied.mean == pytest.approx((sure + left) / 2)
        assert denied.change == pytest.approx((left - sure) / 2)
        assert denied.absolute_change == pytest.approx((sure - left) / 2)

    @pytest.mark.parametrize("labels", [None, np.array([0.5, 1.0]), np.array([0, 3]), np.eye(2)])
    def test_without_class_labels_there_is_no_accuracy(self, labels):
        report = probe(three_classes, Pairs(["a", "b"], ["a", "c"], labels))
        assert {row.accuracy for row in report.rows} == {None}
        assert len(report.rows) == 1 + len(PROBES)

    def test_probes_of_ones_own(self):
        def upper(pairs, seed):
            assert seed == 3
            return Pairs([text.upper() for text in pairs.left], pairs.right)

        asked = []
        report = probe(lambda pairs: asked.append(pairs) or [0.0] * len(pairs), DATA, {"upper": upper}, seed=3)
        assert [row.name for row in report.rows] == ["as given", "upper"]
        assert asked == [DATA.texts, [("A B C", "The dog is big."), ("D E", "f g h i")]]

    def test_candidates_of_a_query_are_pairs(self):
        groups = Pairs(["q", "q", "r"], ["a b c d", "b", "c"], np.array([1, 0, 1]), np.array([0, 2, 3]))
        report = probe(reads_right_only, groups, ["swap"])
        assert report.scores["as given"].tolist() == [1, 0, 0]
        assert report.count == 3

    def test_in_words(self):
        one = str(probe(reads_right_only, DATA, ["left only"])).splitlines()
        assert one[0] == "2 pairs"
        assert one[1].split() == ["accuracy", "score", "change", "|change|", "flipped"]
        assert one[2].split() == ["as", "given", "0.500", "1.000"]
        assert one[3].split() == ["left", "only", "0.500", "0.000", "-1.000", "1.000", "100.0%"]
        assert len(one[1]) == len(one[3])
        several = str(probe(three_classes, DATA, []))
        assert "P(class)" in several
        assert several.endswith("P(class): mean probability of the class predicted for the pair as given")

    def test_errors(self):
        with pytest.raises(ValueError, match="unknown probe 'nothing'; there are: swap, negate, right only"):
            probe(reads_right_only, DATA, ["swap", "nothing"])
        with pytest.raises(DataError, match="the probe 'half' made 1 pairs of 2"):
            probe(reads_right_only, DATA, {"half": lambda pairs, seed: pairs[:1]})
        with pytest.raises(DataError, match="there are no pairs to probe"):
            probe(reads_right_only, [])
        with pytest.raises(DataError, match="gave nan for row 0"):
            probe(lambda pairs: np.full(2, np.nan), DATA)


def a_classification(right):
    right = np.asarray(right, bool)
    return SimpleNamespace(count=len(right), labels=np.zeros(len(right), int), correct=lambda: right)


def of_lengths(lengths, **more):
    return Pairs(["w " * (n - 1) for n in lengths], ["w"] * len(lengths), np.zeros(len(lengths), int), **more)


class TestSlices:
    def test_length_by_hand(self):
        slices = error_slices(a_classification([1, 1, 0, 1]), of_lengths([2, 9, 9, 30]), by=["length"], bins=2)
        # the median is 9: it begins the upper half
        assert [(part.by, part.name, part.count) for part in slices] == [
            ("length", "2 words", 1),
            ("length", "9 to 30 words", 3),
        ]
        assert [part.value for part in slices] == pytest.approx([1, 2 / 3])
        assert slices[1].interval == bootstrap_interval(np.mean, [1.0, 0.0, 1.0])
        assert (slices.metric, slices.overall) == ("accuracy", 0.75)

    def test_overlap_by_hand(self):
        data = Pairs(["a b", "a b", "a b"], ["a b", "a c", "x"], np.zeros(3, int))  # 1, 1/3, 0
        slices = error_slices(a_classification([1, 0, 0]), data, by=["overlap"], bins=3, resamples=10)
        assert [(part.name, part.value) for part in slices] == [("0.00", 0), ("0.33", 0), ("1.00", 1)]

    def test_a_tag_column(self):
        data = of_lengths([3] * 4, tags={"phenomenon": ["n", "m", "n", 7]})
        slices = error_slices(a_classification([1, 1, 0, 0]), data, by=["phenomenon"], resamples=10)
        assert [(part.name, part.count, part.value) for part in slices] == [("n", 2, 0.5), ("7", 1, 0), ("m", 1, 1)]

    def test_a_group_gives_its_tag_to_all_its_pairs(self):
        labels = np.zeros(3, int)
        groups = Pairs(["q", "q", "r"], ["a", "b", "c"], labels, np.array([0, 2, 3]), {"kind": ["one", "two"]})
        slices = error_slices(a_classification([1, 0, 1]), groups, by=["kind"], resamples=10)
        assert [(part.name, part.count, part.value) for part in slices] == [("one", 2, 0.5), ("two", 1, 1)]

    def test_of_a_correlation_the_mean_error(self):
        rows = [("a b", "a b", 0.5), ("a", "c", 0.0), ("a b", "a c", 1.0)]
        slices = error_slices(evaluate_correlation(word_overlap, rows, resamples=0), rows, by=["overlap"], bins=2)
        assert slices.metric == "mean |error|"
        assert slices.overall == pytest.approx((0.5 + 0 + 2 / 3) / 3)
        assert [part.value for part in slices] == pytest.approx([0, (0.5 + 2 / 3) / 2])

    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=60), st.integers(1, 6))
    def test_every_pair_is_in_one_slice_and_equal_ones_are_together(self, rows, bins):
        lengths, right = zip(*rows, strict=True)
        slices = error_slices(a_classification(right), of_lengths(lengths), by=["length"], bins=bins, resamples=1)
        assert 1 <= len(slices) <= bins
        assert sum(part.count for part in slices) == len(rows)
        assert sum(part.count * part.value for part in slices) == pytest.approx(sum(right))
        ranges = [[int(word) for word in part.name.split() if word.isdigit()] for part in slices]
        ends = [end for found in ranges for end in (found[0], found[-1])]
        assert ends == sorted(ends)
        assert len({tuple(found) for found in ranges}) == len(ranges)

    def test_in_words(self):
        data = of_lengths([2, 2, 4, 4], tags={"a long name of a column": ["x" * 20] * 4})
        slices = error_slices(a_classification([1, 0, 1, 1]), data, by=["length", "a long name of a column"], bins=2)
        head, whole, first, second, _ = str(slices).splitlines()
        assert head.split() == ["pairs", "accuracy", "95", "%", "interval"]
        assert whole.split() == ["all", "0.750"]
        assert first.split() == ["length:", "2", "words", "2", "0.500", "0.000", "to", "1.000"]
        assert second.split() == ["length:", "4", "words", "2", "1.000", "1.000", "to", "1.000"]
        assert len({line.index(".") for line in (whole, first, second)}) == 1

    def test_errors(self):
        data = of_lengths([2, 3], tags={"kind": ["a", "b"]})
        with pytest.raises(DataError, match="no column 'topic'; there are: length, overlap, kind"):
            error_slices(a_classification([1, 1]), data, by=["topic"])
        with pytest.raises(DataError, match="column 'kind' has another value for each pair"):
            error_slices(a_classification([1, 1]), data, by=["kind"])
        with pytest.raises(DataError, match="the 2 pairs or their labels are not those of the report, which has 3"):
            error_slices(a_classification([1, 1, 1]), data)
        other = SimpleNamespace(count=2, labels=np.array([0, 1]), correct=lambda: np.ones(2, bool))
        with pytest.raises(DataError, match="the 2 pairs or their labels are not those of the report, which has 2"):
            error_slices(other, data)
