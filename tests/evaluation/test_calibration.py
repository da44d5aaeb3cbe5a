"""Calibration: known answers, those of scipy and scikit-learn, and the laws of probabilities and temperatures."""

import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import sklearn.calibration
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability_curve,
    sigmoid,
    softmax,
)
from crossenc_kit.evaluation.metrics import log_loss

BINARY = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


def drawn(temperature, size=4000, classes=3, seed=0):
    """Scores, and labels that fall as softmax(scores / temperature) says; scores `(N,)` where `classes` is 1."""
    rng = np.random.default_rng(seed)
    scores = 3 * rng.normal(size=(size, classes))
    if classes == 1:
        return scores[:, 0], (rng.random(size) < scipy.special.expit(scores[:, 0] / temperature)).astype(int)
    p = scipy.special.softmax(scores / temperature, axis=1)
    return scores, (rng.random((size, 1)) > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)


def loss(scores, labels, temperature):
    """The mean negative log-likelihood, written out."""
    if scores.ndim == 1:
        scores = np.stack([0 * scores, scores], axis=1)
    logs = scipy.special.log_softmax(scores / temperature, axis=1)
    return -np.mean([row[label] for row, label in zip(logs, labels, strict=True)])


class TestProbabilities:
    def test_by_hand(self):
        assert softmax([[0, np.log(3)], [5, 5]]).tolist() == [pytest.approx([1 / 4, 3 / 4]), [0.5, 0.5]]
        assert sigmoid([0, np.log(3), -np.log(3)]).tolist() == pytest.approx([1 / 2, 3 / 4, 1 / 4])
        assert sigmoid(0.0) == 0.5
        assert sigmoid([[0.0, 0.0]]).shape == (1, 2)

    def test_very_large_scores_overflow_nowhere(self):
        with np.errstate(all="raise", under="ignore"):
            assert softmax([[1e4, 0, -1e4], [-1e4, -1e4, -2e4]]).tolist() == [[1, 0, 0], [0.5, 0.5, 0]]
            assert sigmoid([1e4, -1e4]).tolist() == [1, 0]

    @given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(-10, 10))
    def test_laws(self, scores, origin):
        s = np.array(scores)
        two = np.stack([0 * s, s], axis=1)
        assert softmax(two)[:, 1] == pytest.approx(sigmoid(s), rel=1e-12)
        assert softmax(two + origin) == pytest.approx(softmax(two), rel=1e-9)
        assert softmax(two).sum(axis=1) == pytest.approx(1)
        assert sigmoid(-s) + sigmoid(s) == pytest.approx(1)


class TestReliability:
    def test_by_hand_with_one_probability_a_row(self):
        # two bins; 0.5 belongs to the lower one, and 0 too
        curve = reliability_curve([0.0, 0.2, 0.5, 0.6, 1.0], [0, 1, 0, 1, 1], bins=2)
        assert curve.confidence.tolist() == pytest.approx([0.7 / 3, 0.8])
        assert curve.frequency.tolist() == pytest.approx([1 / 3, 1])
        assert curve.count.tolist() == [3, 2]
        error = expected_calibration_error([0.0, 0.2, 0.5, 0.6, 1.0], [0, 1, 0, 1, 1], bins=2)
        assert error == pytest.approx(3 / 5 * (1 / 3 - 0.7 / 3) + 2 / 5 * 0.2)

    def test_by_hand_with_classes(self):
        p = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]]
        curve = reliability_curve(p, [0, 2, 0, 0], bins=10)  # of two equal classes the first is the prediction
        assert curve.confidence.tolist() == pytest.approx([0.4, 0.5, 0.8])
        assert curve.frequency.tolist() == [1, 1, 0.5]
        assert curve.count.tolist() == [1, 1, 2]
        assert expected_calibration_error(p, [0, 2, 0, 0], bins=10) == pytest.approx((0.6 + 0.5 + 2 * 0.3) / 4)

    def test_edges_belong_to_the_bin_below(self):
        edges = [k / 10 for k in range(1, 11)]
        assert reliability_curve(edges, [1] * 10, bins=10).count.tolist() == [1] * 10
        above = np.nextafter(edges[:-1], 1)
        curve = reliability_curve([*edges[:-1], *above], [1] * 18, bins=10)
        assert curve.count.tolist() == [1, 2, 2, 2, 2, 2, 2, 2, 2, 1]

    def test_one_probability_is_not_the_same_as_two_classes(self):
        p, labels = np.array([0.2, 0.8]), [0, 1]
        assert expected_calibration_error(p, labels) == pytest.approx(0.2)
        assert expected_calibration_error(np.stack([1 - p, p], axis=1), labels) == pytest.approx(0.2)
        labels = [1, 1]  # the most probable class is right in 1 of 2 rows, but 0.2 came true
        assert expected_calibration_error(p, labels) == pytest.approx((0.8 + 0.2) / 2)
        assert expected_calibration_error(np.stack([1 - p, p], axis=1), labels) == pytest.approx(0.8 - 0.5)

    def test_certain_and_right_or_wrong(self):
        assert expected_calibration_error(np.eye(3), [0, 1, 2]) == 0
        assert expected_calibration_error(np.eye(3), [1, 2, 0]) == 1
        assert expected_calibration_error([0, 1], [0, 1]) == 0
        assert expected_calibration_error([0, 1], [1, 0]) == 1

    @given(BINARY, st.integers(1, 20))
    def test_against_scikit_learn(self, rows, bins):
        p, labels = zip(*rows, strict=True)
        edges = np.arange(1, bins) / bins
        if np.isclose(np.subtract.outer(p, edges), 0, atol=1e-9).any():
            return  # their edges may differ in the last digit
        frequency, confidence = sklearn.calibration.calibration_curve(labels, p, n_bins=bins)
        curve = reliability_curve(p, labels, bins)
        assert curve.frequency.tolist() == pytest.approx(frequency.tolist())
        assert curve.confidence.tolist() == pytest.approx(confidence.tolist())
        assert curve.count.sum() == len(labels)

    def test_against_the_definition(self):
        scores, labels = drawn(temperature=3, size=500)
        p = softmax(scores)
        error = 0.0
        for m in range(15):
            rows = [i for i in range(500) if m / 15 < p[i].max() <= (m + 1) / 15]
            if rows:
                right = np.mean([np.argmax(p[i]) == labels[i] for i in rows])
                error += len(rows) / 500 * abs(right - np.mean([p[i].max() for i in rows]))
        assert expected_calibration_error(p, labels) == pytest.approx(error)
        assert error > 0.1

    @given(BINARY, st.randoms(use_true_random=False))
    def test_laws(self, rows, random):
        p, labels = map(np.asarray, zip(*rows, strict=True))
        error = expected_calibration_error(p, labels)
        assert 0 <= error <= 1
        assert error >= abs(p.mean() - labels.mean()) - 1e-9  # one bin, where errors of both signs cancel
        assert expected_calibration_error(p, labels, bins=1) == pytest.approx(abs(p.mean() - labels.mean()))
        random.shuffle(rows)
        assert expected_calibration_error(*zip(*rows, strict=True)) == pytest.approx(error)

    @given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 1)), min_size=1, max_size=40))
    def test_the_complement_has_the_same_error(self, rows):
        p, labels = map(np.asarray, zip(*rows, strict=True))
        p = (p + 0.3) / 15  # away from the edges
        error = expected_calibration_error(p, labels)
        assert expected_calibration_error(1 - p, 1 - labels) == pytest.approx(error)


class TestTemperature:
    @pytest.mark.parametrize("classes", [1, 2, 5])
    @pytest.mark.parametrize("temperature", [0.4, 1, 2.5])
    def test_what_the_labels_were_drawn_with_is_found(self, classes, temperature):
        scores, labels = drawn(temperature, classes=classes)
        assert fit_temperature(scores, labels) == pytest.approx(temperature, rel=0.1)

    @pytest.mark.parametrize("classes", [1, 2, 5])
    @pytest.mark.parametrize("temperature", [0.2, 1, 20])
    def test_against_scipy(self, classes, temperature):
        scores, labels = drawn(temperature, size=300, classes=classes)
        options = {"method": "bounded", "bounds": (np.log(0.01), np.log(100)), "options": {"xatol": 1e-10}}
        theirs = scipy.optimize.minimize_scalar(lambda t: loss(scores, labels, np.exp(t)), **options)
        ours = fit_temperature(scores, labels)
        assert ours == pytest.approx(np.exp(theirs.x), rel=1e-5)
        assert loss(scores, labels, ours) <= theirs.fun + 1e-12

    def test_by_hand(self):
        # 3 of 4 rows with the score 6 are right: sigmoid(6 / T) = 3/4, so T = 6 / log(3)
        assert fit_temperature([6, 6, 6, 6], [1, 1, 1, 0]) == pytest.approx(6 / np.log(3), rel=1e-12)
        assert fit_temperature([[0, 6]] * 4, [1, 1, 1, 0]) == pytest.approx(6 / np.log(3), rel=1e-12)
        assert type(fit_temperature([6, 6, 6], [1, 1, 0])) is float

    @settings(max_examples=30)
    @given(st.floats(0.05, 20), st.integers(0, 5), st.sampled_from([1, 3]))
    def test_it_grows_with_the_scores(self, factor, seed, classes):
        scores, labels = drawn(1.0, size=60, classes=classes, seed=seed)
        expected = factor * fit_temperature(scores, labels)
        assert fit_temperature(factor * scores, labels) == pytest.approx(expected, rel=1e-9)

    @settings(max_examples=30)
    @given(st.integers(0, 1000), st.randoms(use_true_random=False))
    def test_the_order_of_rows_and_of_classes_and_the_origin_of_a_row_do_not_matter(self, seed, random):
        scores, labels = drawn(2.0, size=60, seed=seed)
        expected = fit_temperature(scores, labels)
        rows, classes = random.sample(range(60), 60), random.sample(range(3), 3)
        assert fit_temperature(scores[rows], labels[rows]) == pytest.approx(expected, rel=1e-9)
        assert fit_temperature(scores[:, classes], np.argsort(classes)[labels]) == pytest.approx(expected, rel=1e-9)
        assert fit_temperature(scores + np.arange(60)[:, None], labels) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("classes", [1, 3])
    def test_no_other_temperature_has_a_lower_loss_and_the_error_falls(self, classes):
        scores, labels = drawn(3.0, classes=classes)
        probabilities = sigmoid if classes == 1 else softmax
        best = fit_temperature(scores, labels)
        for factor in (0.01, 0.5, 0.99, 1.01, 2, 10):
            assert log_loss(probabilities(scores / best), labels) < log_loss(
                probabilities(scores / best / factor), labels
            )
        after = expected_calibration_error(probabilities(scores / best), labels)
        assert after < 0.3 * expected_calibration_error(probabilities(scores), labels)

    def test_the_opposite_class_has_the_same_temperature(self):
        scores, labels = drawn(2.0, classes=1)
        assert fit_temperature(-scores, 1 - labels) == pytest.approx(fit_temperature(scores, labels), rel=1e-9)

    @pytest.mark.parametrize("scale", [1, 100])  # with the larger one, all other probabilities round to 0
    def test_scores_that_separate_the_classes_end_at_the_lower_bound_with_a_warning(self, scale):
        with pytest.warns(
            RuntimeWarning, match=r"^the temperature is at its bound, 0\.01: the scores separate"
        ) as seen:
            assert fit_temperature(scale * np.eye(3), [0, 1, 2]) == 0.01
        assert seen[0].filename == __file__
        with pytest.warns(RuntimeWarning, match="the scores separate the classes"):
            assert fit_temperature([-scale, scale], [0, 1]) == 0.01

    def test_scores_that_say_the_opposite_end_at_the_upper_bound_with_a_warning(self):
        with pytest.warns(
            RuntimeWarning, match=r"bound, 100\.0: the scores do not predict the labels; check the order"
        ):
            assert fit_temperature([[1, 0], [0, 1]], [1, 0]) == 100
        with pytest.warns(RuntimeWarning, match=r"bound, 100\.0"):
            assert fit_temperature([1, 1, -1, -1], [1, 0, 1, 0]) == 100  # no relation at all

    def test_no_warning_within_the_bounds(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert fit_temperature(*drawn(50.0, size=20_000)) == pytest.approx(50, rel=0.3)


class TestErrors:
    @pytest.mark.parametrize("function", [expected_calibration_error, reliability_curve, fit_temperature])
    @pytest.mark.parametrize(
        ("values", "labels", "message"),
        [
            ([0.5, np.nan], [0, 1], r"^row 1: the (probability|score) is nan; expected a finite number$"),
            ([[0.5, 0.5], [np.inf, 0]], [0, 1], r"^row 1, column 0: the (probability|score) is inf"),
            ([0.5, 0.5], [0, 2], r"^row 1: the label is 2; expected a whole number from 0 to 1$"),
            ([[0.2, 0.3, 0.5]], [3], r"^row 0: the label is 3; expected a whole number from 0 to 2$"),
            ([0.5, 0.5], [0, 0.5], r"^row 1: the label is 0\.5; expected a whole number"),
            ([0.5, 0.5], [0], r"^labels have shape \(1,\); expected one for each of 2 rows$"),
            ([[0.5], [0.5]], [0, 0], r"^the array of (probability|score) has shape \(2, 1\); expected \(N,\) or"),
        ],
    )
    def test_rows(self, function, values, labels, message):
        with pytest.raises(ValueError, match=message):
            function(values, labels)

    @pytest.mark.parametrize("function", [expected_calibration_error, reliability_curve])
    def test_what_is_no_probability(self, function):
        with pytest.raises(ValueError, match=r"^row 1: the probability is 1\.5; expected 0 to 1; use softm"):
            function([0.5, 1.5], [0, 1])
        with pytest.raises(ValueError, match=r"^row 0: the sum of the probabilities is 0\.6; use softmax"):
            function([[0.1, 0.5], [0.5, 0.5]], [0, 1])

    def test_scores_that_no_temperature_changes(self):
        for scores in ([0.0, 0.0], [[2.0, 2.0], [3.0, 3.0]]):
            with pytest.raises(ValueError, match="the scores of every row are equal, so no temperature changes"):
                fit_temperature(scores, [0, 1])
