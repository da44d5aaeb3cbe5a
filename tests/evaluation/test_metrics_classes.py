"""Counts, F1 and log loss of classes: known answers, scikit-learn's, and the laws they obey."""

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from row_orders import same_rows_in_another_order

from crossenc_kit.evaluation.metrics import accuracy, class_scores, confusion_matrix, f1_score, log_loss

CLASSES = st.integers(0, 4)
COLUMNS = st.integers(1, 30).flatmap(lambda size: st.tuples(*[st.lists(CLASSES, min_size=size, max_size=size)] * 2))


class TestCounts:
    def test_by_hand(self):
        predicted, labels = [0, 1, 1, 2, 2, 2], [0, 1, 2, 2, 2, 1]
        assert accuracy(predicted, labels) == pytest.approx(4 / 6)
        # rows are labels: of the three labels 2, one was predicted 1 and two were predicted 2
        assert confusion_matrix(predicted, labels).tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 2]]
        scores = class_scores(predicted, labels)
        assert scores.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
        assert scores.recall.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
        assert scores.f1.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
        assert scores.support.tolist() == [1, 2, 3]

    def test_precision_is_of_what_was_predicted_and_recall_of_what_was_there(self):
        scores = class_scores([1, 1, 1, 0], [1, 0, 0, 0])
        assert scores.precision.tolist() == pytest.approx([1, 1 / 3])
        assert scores.recall.tolist() == pytest.approx([1 / 3, 1])
        assert scores.f1.tolist() == pytest.approx([1 / 2, 1 / 2])

    def test_what_is_undefined_is_0(self):
        scores = class_scores([0, 0], [2, 2])  # class 1 never occurs, 0 is never the label, 2 is never predicted
        assert scores.precision.tolist() == scores.recall.tolist() == scores.f1.tolist() == [0, 0, 0]
        assert scores.support.tolist() == [0, 0, 2]

    def test_the_number_of_classes_can_be_more_than_occur(self):
        assert confusion_matrix([0], [1]).tolist() == [[0, 0], [1, 0]]
        assert confusion_matrix([0], [1], 3).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
        assert class_scores([0], [1], 3).support.tolist() == [0, 1, 0]

    def test_types(self):
        assert confusion_matrix([0, 1], [0, 1]).dtype == np.int64
        assert type(accuracy([0, 1], [0, 1])) is float
        assert type(f1_score([0, 1], [0, 1])) is float
        # labels of a table may be floats or booleans
        assert accuracy(np.array([True, False]), np.array([1.0, 1.0], dtype=np.float32)) == 0.5

    @pytest.mark.filterwarnings("ignore:A single label was found")
    @given(COLUMNS)
    def test_against_scikit_learn(self, columns):
        predicted, labels = columns
        classes = list(range(max(*predicted, *labels) + 1))
        assert accuracy(predicted, labels) == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
        theirs = sklearn.metrics.confusion_matrix(labels, predicted, labels=classes)
        assert confusion_matrix(predicted, labels).tolist() == theirs.tolist()
        theirs = sklearn.metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
        for ours, column in zip(class_scores(predicted, labels), theirs, strict=True):
            assert ours.tolist() == pytest.approx(column.tolist())

    @given(COLUMNS, st.randoms(use_true_random=False))
    def test_the_order_of_the_rows_does_not_matter(self, columns, random):
        predicted, labels = same_rows_in_another_order(random, *columns)
        assert confusion_matrix(predicted, labels).tolist() == confusion_matrix(*columns).tolist()

    @given(COLUMNS)
    def test_sums_and_the_other_way_round(self, columns):
        predicted, labels = columns
        table = confusion_matrix(predicted, labels)
        assert table.sum(axis=1).tolist() == class_scores(predicted, labels).support.tolist()
        assert table.trace() == pytest.approx(accuracy(predicted, labels) * len(labels))
        assert table.T.tolist() == confusion_matrix(labels, predicted).tolist()
        assert class_scores(predicted, labels).recall.tolist() == class_scores(labels, predicted).precision.tolist()


class TestF1:
    def test_by_hand(self):
        predicted, labels = [1, 1, 1, 0], [1, 0, 0, 0]
        assert f1_score(predicted, labels, "binary") == pytest.approx(1 / 2)  # precision 1/3, recall 1
        assert f1_score(predicted, labels, "micro") == 1 / 2
        predicted, labels = [0, 0, 0, 2], [0, 0, 2, 2]  # F1 of 0: 4 / 5; of 2: 2 / 3; class 1 does not occur
        assert f1_score(predicted, labels) == pytest.approx((4 / 5 + 2 / 3) / 2)
        assert f1_score(predicted, labels, num_labels=3) == pytest.approx((4 / 5 + 2 / 3) / 3)
        assert f1_score(predicted, labels, "weighted") == pytest.approx((2 * 4 / 5 + 2 * 2 / 3) / 4)
        assert f1_score(predicted, labels, "weighted", num_labels=3) == f1_score(predicted, labels, "weighted")

    @given(COLUMNS)
    @pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
    def test_against_scikit_learn(self, average, columns):
        predicted, labels = columns
        theirs = sklearn.metrics.f1_score(labels, predicted, average=average, zero_division=0)
        assert f1_score(predicted, labels, average) == pytest.approx(theirs)
        theirs = sklearn.metrics.f1_score(labels, predicted, average=average, labels=range(6), zero_division=0)
        assert f1_score(predicted, labels, average, num_labels=6) == pytest.approx(theirs)

    @given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
    def test_binary_against_scikit_learn(self, rows):
        predicted, labels = zip(*rows, strict=True)
        theirs = sklearn.metrics.f1_score(labels, predicted, average="binary", zero_division=0)
        assert f1_score(predicted, labels, "binary") == pytest.approx(theirs)
        assert f1_score(predicted, labels, "binary", num_labels=2) == pytest.approx(theirs)

    @given(COLUMNS)
    @pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
    def test_bounds_and_perfect_predictions(self, average, columns):
        predicted, labels = columns
        assert f1_score(labels, labels, average) == 1
        value = f1_score(predicted, labels, average)
        assert 0 <= value <= 1
        assert (value == 1) == (predicted == labels)

    @given(COLUMNS)
    def test_the_names_of_the_classes_do_not_matter(self, columns):
        predicted, labels = map(np.asarray, columns)
        for average in ("macro", "micro", "weighted"):
            assert f1_score(4 - predicted, 4 - labels, average) == pytest.approx(f1_score(predicted, labels, average))


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
