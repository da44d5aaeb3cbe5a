"""Metrics of classes and thresholds: known answers, those of peers, and the laws they obey."""

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator

from crossenc_kit.evaluation.metrics import (
    accuracy,
    average_precision,
    best_threshold,
    class_scores,
    confusion_matrix,
    f1_score,
    log_loss,
    macro_f1,
    precision_recall_curve,
)

CLASSES = st.integers(0, 4)
COLUMNS = st.integers(1, 30).flatmap(lambda size: st.tuples(*[st.lists(CLASSES, min_size=size, max_size=size)] * 2))
# Scores with ties, and labels of both classes.
SCORED = st.lists(
    st.tuples(st.integers(-4, 4).map(lambda n: n / 4), st.integers(0, 1)), min_size=2, max_size=30
).filter(lambda rows: {label for _, label in rows} == {0, 1})


def scored(size, seed, ties=False):
    """Scores that know a little, and labels 0 and 1."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(size) % 2)
    scores = labels + 1.5 * rng.normal(size=size)
    return (np.round(scores), labels) if ties else (scores, labels)


def same_rows_in_another_order(random, *columns):
    rows = list(zip(*columns, strict=True))
    random.shuffle(rows)
    return zip(*rows, strict=True)


class TestCounts:
    """scikit-learn counts; what is tested is the order of arguments and what is undefined."""

    def test_by_hand(self):
        predicted, labels = [0, 1, 1, 2, 2, 2], [0, 1, 2, 2, 2, 1]
        assert accuracy(predicted, labels) == pytest.approx(4 / 6)
        # rows are labels: of the three labels 2, one was predicted 1 and two were predicted 2
        assert confusion_matrix(predicted, labels, 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 2]]
        assert class_scores(predicted, labels, 3).support.tolist() == [1, 2, 3]

    def test_precision_is_of_what_was_predicted_and_recall_of_what_was_there(self):
        scores = class_scores([1, 1, 1, 0], [1, 0, 0, 0], 2)
        assert scores.precision.tolist() == pytest.approx([1, 1 / 3])
        assert scores.recall.tolist() == pytest.approx([1 / 3, 1])
        assert scores.f1.tolist() == pytest.approx([1 / 2, 1 / 2])

    def test_what_is_undefined_is_0(self):
        # class 1 never occurs, 0 is never the label, 2 is never predicted
        scores = class_scores([0, 0], [2, 2], 3)
        assert scores.precision.tolist() == scores.recall.tolist() == scores.f1.tolist() == [0, 0, 0]
        assert scores.support.tolist() == [0, 0, 2]

    def test_labels_may_be_floats_or_booleans(self):
        assert accuracy(np.array([True, False]), np.array([1.0, 1.0], dtype=np.float32)) == 0.5


class TestF1:
    def test_by_hand(self):
        predicted, labels = [1, 1, 1, 0], [1, 0, 0, 0]
        assert f1_score(predicted, labels, "binary") == pytest.approx(1 / 2)  # precision 1/3, recall 1
        assert f1_score(predicted, labels, "micro") == 1 / 2
        predicted, labels = [0, 0, 0, 2], [0, 0, 2, 2]  # F1 of 0: 4 / 5; of 2: 2 / 3; no class 1
        assert f1_score(predicted, labels) == macro_f1(predicted, labels) == pytest.approx((4 / 5 + 2 / 3) / 2)
        assert f1_score(predicted, labels, "weighted") == pytest.approx((2 * 4 / 5 + 2 * 2 / 3) / 4)

    @given(COLUMNS)
    def test_the_macro_mean_against_scikit_learn(self, columns):
        predicted, labels = columns
        theirs = sklearn.metrics.f1_score(labels, predicted, average="macro", zero_division=0)
        assert macro_f1(predicted, labels) == pytest.approx(theirs)

    @given(COLUMNS)
    def test_the_names_of_the_classes_do_not_matter(self, columns):
        predicted, labels = map(np.asarray, columns)
        assert macro_f1(4 - predicted, 4 - labels) == pytest.approx(macro_f1(predicted, labels))
        assert macro_f1(labels, labels) == 1


class TestAveragePrecision:
    def test_by_hand(self):
        # ranks of the labels 1 are 1 and 3: (1/1 + 2/3) / 2
        assert average_precision([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)
        assert average_precision([4, 3, 2, 1], [1, 1, 0, 0]) == 1
        assert average_precision([1, 2, 3, 4], [1, 1, 0, 0]) == pytest.approx((1 / 3 + 2 / 4) / 2)

    def test_a_constant_scorer_gets_the_share_of_ones(self):
        assert average_precision([7] * 4, [1, 0, 0, 0]) == pytest.approx(1 / 4)
        assert average_precision([7] * 4, [0, 0, 0, 1]) == pytest.approx(1 / 4)

    def test_equal_scores_enter_together(self):
        # one threshold takes 1 and 0 (recall 1/2, precision 1/2), the next takes the other 1 (recall 1, precision 2/3)
        assert average_precision([2, 2, 1], [0, 1, 1]) == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 2 / 3)

    def test_the_curve_by_hand(self):
        precision, recall, thresholds = precision_recall_curve([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        assert precision.tolist() == pytest.approx([1 / 2, 2 / 3, 1 / 2, 1, 1])
        assert recall.tolist() == [1, 1, 0.5, 0.5, 0]
        assert thresholds.tolist() == [0.1, 0.35, 0.4, 0.8]

    @given(SCORED)
    def test_against_scikit_learn(self, rows):
        scores, labels = zip(*rows, strict=True)
        theirs = sklearn.metrics.average_precision_score(labels, scores)
        assert average_precision(scores, labels) == pytest.approx(theirs)

    @given(SCORED)
    def test_only_the_order_of_the_scores_matters(self, rows):
        scores, labels = map(np.asarray, zip(*rows, strict=True))
        expected = average_precision(scores, labels)
        for rising in (lambda v: 3 * v + 7, np.arcsinh, lambda v: v**3):
            assert average_precision(rising(scores), labels) == expected

    @given(SCORED, st.randoms(use_true_random=False))
    def test_the_order_of_the_rows_does_not_matter(self, rows, random):
        scores, labels = same_rows_in_another_order(random, *zip(*rows, strict=True))
        assert average_precision(scores, labels) == average_precision(*zip(*rows, strict=True))

    @given(SCORED)
    def test_the_best_order_gives_1(self, rows):
        _, labels = zip(*rows, strict=True)
        assert average_precision(labels, labels) == 1
        assert 0 < average_precision(np.negative(labels), labels) < 1

    def test_all_labels_1_still_have_a_curve(self):
        precision, recall, _ = precision_recall_curve([2, 1], [1, 1])
        assert (precision.tolist(), recall.tolist()) == ([1, 1, 1], [1, 0.5, 0])


class TestBestThreshold:
    def test_by_hand(self):
        scores, labels = [0.9, 0.8, 0.4, 0.2], [1, 1, 0, 0]
        found = best_threshold(scores, labels)
        assert found == pytest.approx((0.6, 1, 1, 1))
        assert best_threshold(scores, labels, "f1") == found
        assert all(type(value) is float for value in found)

    def test_accuracy_and_f1_can_want_different_cuts(self):
        # rows above the cut: 1, 2, 3, 4, 5; right: 2, 3, 2, 1, 2; F1: 0/3, 2/4, 2/5, 2/6, 4/7
        scores, labels = [5, 4, 3, 2, 1], [0, 1, 0, 0, 1]
        assert best_threshold(scores, labels) == pytest.approx((np.nextafter(5, 6), 3 / 5, 0, 0))
        assert best_threshold(scores, labels, "f1") == pytest.approx((np.nextafter(1, 0), 4 / 7, 2 / 5, 1))

    def test_of_equally_good_cuts_the_highest_is_taken(self):
        # rows above the cut: 0, 1, 2, 3, 4, 5; right: 3, 4, 3, 2, 3, 2; F1: 0, 2/3, 2/4, 2/5, 4/6, 4/7
        scores, labels = [5, 4, 3, 2, 1], [1, 0, 0, 1, 0]
        assert best_threshold(scores, labels) == pytest.approx((4.5, 4 / 5, 1, 1 / 2))
        assert best_threshold(scores, labels, "f1") == pytest.approx((4.5, 2 / 3, 1, 1 / 2))

    def test_equal_scores_are_not_split(self):
        # "above 2" has 3 of 4 right; a cut within the threes, if there were one, would have 4
        assert best_threshold([3, 3, 2, 1], [1, 0, 0, 0]) == pytest.approx((np.nextafter(3, 4), 3 / 4, 0, 0))
        assert best_threshold([3, 3, 2, 1], [1, 0, 0, 0], "f1") == pytest.approx((2.5, 2 / 3, 1 / 2, 1))

    def test_one_class_for_all_rows_may_be_best(self):
        scores = np.array([1.0, 2.0, 3.0])
        nothing = best_threshold(scores, [1, 0, 0])
        assert not (scores > nothing.threshold).any()
        assert nothing[1:] == pytest.approx((2 / 3, 0, 0))
        everything = best_threshold(scores, [1, 1, 0])
        assert (scores > everything.threshold).all()
        assert everything[1:] == pytest.approx((2 / 3, 2 / 3, 1))

    @pytest.mark.parametrize(("labels", "expected"), [([0, 0], (1, 0, 0)), ([1, 1], (1, 1, 1))])
    def test_accuracy_of_one_class_alone(self, labels, expected):
        found = best_threshold([0.3, 0.6], labels)
        assert found[1:] == expected
        assert [score > found.threshold for score in (0.3, 0.6)] == [label == 1 for label in labels]

    @pytest.mark.parametrize("seed", range(20))
    @pytest.mark.parametrize("size", [2, 7, 300])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_against_sentence_transformers(self, dtype, size, seed):
        scores, labels = scored(size, seed)
        scores = scores.astype(dtype)
        value, threshold = BinaryClassificationEvaluator.find_best_acc_and_threshold(scores, labels, True)
        ours = best_threshold(scores, labels)
        assert ours.value == pytest.approx(value, abs=1e-12)
        if ours.threshold > scores.min():  # theirs is the lowest score itself where all rows are 1
            assert ours.threshold == threshold
        *values, threshold = BinaryClassificationEvaluator.find_best_f1_and_threshold(scores, labels, True)
        ours = best_threshold(scores, labels, "f1")
        assert ours[1:] == pytest.approx(tuple(values), abs=1e-12)
        if ours.threshold > scores.min():
            assert ours.threshold == threshold

    @given(SCORED)
    def test_never_below_sentence_transformers_where_scores_are_equal(self, rows):
        scores, labels = zip(*rows, strict=True)
        value, _ = BinaryClassificationEvaluator.find_best_acc_and_threshold(scores, labels, True)
        assert best_threshold(scores, labels).value >= value - 1e-12
        value, *_ = BinaryClassificationEvaluator.find_best_f1_and_threshold(scores, labels, True)
        assert best_threshold(scores, labels, "f1").value >= value - 1e-12

    @given(SCORED)
    @pytest.mark.parametrize("metric", ["accuracy", "f1"])
    def test_the_threshold_does_what_is_said_and_no_other_does_better(self, metric, rows):
        scores, labels = map(np.asarray, zip(*rows, strict=True))
        measure = {"accuracy": accuracy, "f1": lambda p, y: f1_score(p, y, "binary")}[metric]
        found = best_threshold(scores, labels, metric)
        predicted = scores > found.threshold
        assert measure(predicted, labels) == pytest.approx(found.value)
        both = class_scores(predicted, labels, 2)
        assert (both.precision[1], both.recall[1]) == pytest.approx((found.precision, found.recall))
        for cut in np.arange(-1.125, 1.2, 0.25):  # above, between and below all scores
            assert measure(scores > cut, labels) <= found.value + 1e-12

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_a_cut_between_neighbouring_numbers_separates_them_in_their_own_type(self, dtype):
        for low in (
            dtype(0.3),
            dtype(1),
            dtype(-2),
            np.finfo(dtype).smallest_subnormal,
            np.finfo(dtype).max / dtype(2),
        ):
            scores = np.array([low, np.nextafter(low, dtype(np.inf))])
            found = best_threshold(scores, [0, 1])
            assert (scores > found.threshold).tolist() == [False, True]
            assert found.value == 1

    def test_very_large_scores(self):
        found = best_threshold([1.5e308, 1.7e308], [0, 1])
        assert found.threshold == pytest.approx(1.6e308)


class TestLogLoss:
    def test_by_hand(self):
        assert log_loss([0.8, 0.4], [1, 0]) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
        rows = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]
        assert log_loss(rows, [0, 1]) == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2)

    def test_knowing_nothing_costs_the_logarithm_of_the_number_of_classes(self):
        assert log_loss(np.full((5, 3), 1 / 3), [0, 1, 2, 2, 0]) == pytest.approx(math.log(3))
        assert log_loss([0.5, 0.5], [0, 1]) == pytest.approx(math.log(2))

    def test_a_certain_and_wrong_row_costs_much_and_not_infinity(self):
        assert log_loss([0.0], [1]) == pytest.approx(-math.log(np.finfo(np.float64).eps))
        assert log_loss([1], [0]) == pytest.approx(36.04, abs=0.01)
        assert log_loss(np.array([[0, 1]], dtype=np.float32), [0]) == pytest.approx(15.94, abs=0.01)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("classes", [2, 3])
    def test_against_scikit_learn(self, dtype, classes):
        rng = np.random.default_rng(0)
        p = rng.dirichlet([0.02] * classes, size=200).astype(dtype)  # many of them 0 and 1
        labels = rng.integers(classes, size=200)
        theirs = sklearn.metrics.log_loss(labels, p, labels=range(classes))
        assert log_loss(p, labels) == pytest.approx(theirs, rel=1e-5)
        if classes == 2:
            theirs = sklearn.metrics.log_loss(labels, p[:, 1])
            assert log_loss(p[:, 1], labels) == pytest.approx(theirs, rel=1e-5)

    @given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 1)), min_size=1, max_size=20))
    def test_one_column_or_two_and_the_complement(self, rows):
        # Multiples of 2^-20, whose complement is exact: 1 - (1 - p) would lose the digits of a smaller p.
        p, labels = map(np.asarray, zip(*rows, strict=True))
        p = p / 2**20
        assert log_loss(np.stack([1 - p, p], axis=1), labels) == log_loss(p, labels)
        assert log_loss(1 - p, 1 - labels) == pytest.approx(log_loss(p, labels), rel=1e-12, abs=1e-12)
        assert log_loss(labels, labels) == pytest.approx(0, abs=1e-15)


def test_a_missing_class():
    for label in (0, 1):
        with pytest.raises(ValueError, match="all 2 labels are equal; average precision needs both classes"):
            average_precision([1, 2], [label, label])
    with pytest.raises(ValueError, match="no label is 1, so F1 has no meaning"):
        best_threshold([1, 2], [0, 0], "f1")
