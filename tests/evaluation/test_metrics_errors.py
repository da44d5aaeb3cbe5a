"""What metrics of classes say of labels, scores and options that cannot be used."""

import numpy as np
import pytest

from crossenc_kit.evaluation.metrics import (
    accuracy,
    average_precision,
    best_threshold,
    class_scores,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_curve,
)

BINARY = pytest.mark.parametrize("metric", [average_precision, best_threshold, precision_recall_curve])
COUNTING = pytest.mark.parametrize("metric", [accuracy, confusion_matrix, class_scores, f1_score])


class TestErrors:
    @COUNTING
    @pytest.mark.parametrize(
        ("predicted", "labels", "message"),
        [
            ([0, 1, 1], [0, -1, -2], r"^row 1: the label is -1; expected a whole number from 0 to 999,999$"),
            ([0, 0.5], [0, 1], r"^row 1: the predicted class is 0\.5; expected a whole number from 0"),
            ([0, 1], [np.nan, 1], r"^row 0: the label is nan; expected a finite number$"),
            ([0, 1], [0, 2_000_000], r"^row 1: the label is 2000000; expected a whole number from 0 to 999,999$"),
            ([0, 1], ["yes", "no"], r"^row 0: the label is 'yes'; expected a number$"),
            ([0, 1], [0, "no"], r"^row 1: the label is 'no'; expected a number$"),
            ([0, None], [0, 1], r"^row 1: the predicted class is None; expected a number$"),
            ([[0, 1]], [0], r"^the array of predicted class has shape \(1, 2\); expected one class index a row"),
            (1, 1, r"^the array of predicted class has shape \(\)"),
            ([0, 1, 2], [0, 1], r"^3 predictions and 2 labels; expected one label a row$"),
            ([], [], r"^there are no rows$"),
        ],
    )
    def test_classes(self, metric, predicted, labels, message):
        with pytest.raises(ValueError, match=message):
            metric(predicted, labels)

    @pytest.mark.parametrize("metric", [confusion_matrix, class_scores, f1_score])
    def test_a_class_beyond_the_number_of_classes(self, metric):
        with pytest.raises(ValueError, match=r"^row 1: the predicted class is 2; expected a whole number from 0 to 1$"):
            metric([0, 2], [0, 1], num_labels=2)
        for count in (0, -1, 2_000_000):
            with pytest.raises(ValueError, match=rf"^num_labels must be from 1 to 1,000,000, got {count}$"):
                metric([0, 0], [0, 0], num_labels=count)

    def test_averages(self):
        with pytest.raises(ValueError, match="average is 'mean'; expected one of macro, micro, weighted, binary"):
            f1_score([0], [0], "mean")
        with pytest.raises(ValueError, match=r"^row 1: the label is 2; expected a whole number from 0 to 1$"):
            f1_score([0, 1], [0, 2], "binary")
        with pytest.raises(ValueError, match="average='binary' has 2 classes, but num_labels is 3; use 'macro'"):
            f1_score([0, 1], [0, 1], "binary", num_labels=3)

    @BINARY
    @pytest.mark.parametrize(
        ("scores", "labels", "message"),
        [
            ([1, np.inf, np.nan], [0, 1, 1], r"^row 1: the score is inf; expected a finite number$"),
            ([1, 2], [0, 2], r"^row 1: the label is 2; expected a whole number from 0 to 1$"),
            ([[1, 2], [2, 1]], [0, 1], r"^scores have shape \(2, 2\); expected one score of class 1 a row"),
            ([1, 2, 3], [0, 1], r"^3 scores and 2 labels"),
            ([], [], r"^there are no rows$"),
        ],
    )
    def test_scores(self, metric, scores, labels, message):
        with pytest.raises(ValueError, match=message):
            metric(scores, labels)

    def test_a_missing_class(self):
        for label in (0, 1):
            with pytest.raises(ValueError, match=f"all 2 labels are {label}; average precision needs both classes"):
                average_precision([1, 2], [label, label])
        with pytest.raises(ValueError, match="no label is 1, so recall has no meaning"):
            precision_recall_curve([1, 2], [0, 0])
        with pytest.raises(ValueError, match="no label is 1, so F1 has no meaning"):
            best_threshold([1, 2], [0, 0], "f1")
        with pytest.raises(ValueError, match="metric is 'recall'; expected 'accuracy' or 'f1'"):
            best_threshold([1, 2], [0, 1], "recall")

    @pytest.mark.parametrize(
        ("probabilities", "labels", "message"),
        [
            ([0.5, 1.5], [0, 1], r"^row 1: the probability is 1\.5; expected a number from 0 to 1; use softmax"),
            ([[0.5, 0.5], [1.2, -0.2]], [0, 1], r"^row 1, column 0: the probability is 1\.2"),
            ([[0.5, 0.5], [0.9, 0.8]], [0, 1], r"^row 1: the sum of the probabilities is 1\.7.*; expected 1"),
            ([[0.5, 0.5], [0.5, np.nan]], [0, 1], r"^row 1, column 1: the probability is nan"),
            ([[0.5, 0.5]], [2], r"^row 0: the label is 2; expected a whole number from 0 to 1$"),
            ([[0.5], [0.5]], [0, 0], r"^probabilities have shape \(2, 1\); expected \(N,\) of class 1, or \(N, C\)"),
            ([0.5, 0.5], [0], r"^2 probabilities and 1 labels"),
        ],
    )
    def test_probabilities(self, probabilities, labels, message):
        with pytest.raises(ValueError, match=message):
            log_loss(probabilities, labels)
