"""Figures of classifiers draw the numbers that they say; what every figure must be is in test_plots."""

import types
import warnings

import numpy as np
import pytest
import sklearn.metrics

from crossenc_kit.evaluation.calibration import expected_calibration_error, reliability_curve, softmax
from crossenc_kit.evaluation.metrics import bootstrap_interval
from crossenc_kit.plots import classification
from crossenc_kit.plots.figures import alt_text, png

NLI = ("entailment", "neutral", "contradiction")


def a_report(probabilities, labels, names=None, name="model", threshold=0.5):
    """What the figures read of a `ClassificationReport`."""
    p, labels = np.asarray(probabilities, float), np.asarray(labels)
    predicted = p.argmax(1) if p.ndim == 2 else (p > threshold).astype(int)
    names = names or tuple(str(i) for i in range(2 if p.ndim == 1 else p.shape[1]))
    confusion = sklearn.metrics.confusion_matrix(labels, predicted, labels=range(len(names)))
    return types.SimpleNamespace(
        name=name,
        count=len(labels),
        label_names=names,
        probabilities=p,
        labels=labels,
        predicted=predicted,
        threshold=threshold if p.ndim == 1 else None,
        accuracy=float(np.mean(predicted == labels)),
        confusion=confusion,
    )


def several(size=120, classes=3, seed=0, names=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=size)
    return a_report(softmax(2 * np.eye(classes)[labels] + rng.normal(size=(size, classes))), labels, names)


def binary(size=120, seed=0, name="model", threshold=0.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=size)
    p = 1 / (1 + np.exp(-(2.0 * labels - 1 + rng.normal(size=size))))
    return a_report(p, labels, name=name, threshold=threshold)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


class TestConfusion:
    def test_each_cell_has_its_count_and_its_share_of_the_row(self):
        figure = classification.confusion(
            a_report([[1, 0], [1, 0], [0, 1], [0, 1]], [0, 0, 0, 1], ("no", "yes"), "mine")
        )
        ax = figure.axes[0]
        cells = {text.get_position(): text.get_text() for text in ax.texts}
        assert cells == {(0, 0): "2\n67%", (1, 0): "1\n33%", (0, 1): "0\n0%", (1, 1): "1\n100%"}
        assert ax.images[0].get_array().data == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))
        assert [text.get_text() for text in ax.get_yticklabels()] == ["no (3)", "yes (1)"]
        assert [text.get_text() for text in ax.get_xticklabels()] == ["no", "yes"]
        assert alt_text(figure) == (
            "mine: true against predicted class. Accuracy 0.750 on 4 pairs; most often no is taken for yes (1 of 3)."
        )

    def test_numbers_can_be_read_on_every_grey(self):
        from matplotlib.colors import to_rgb

        ax = classification.confusion(several(names=NLI)).axes[0]
        shares = np.asarray(ax.images[0].get_array())
        for text in ax.texts:
            column, row = text.get_position()
            ground = np.dot(ax.images[0].cmap(float(shares[row, column]))[:3], (0.299, 0.587, 0.114))
            assert abs(np.dot(to_rgb(text.get_color()), (0.299, 0.587, 0.114)) - ground) > 0.45

    def test_a_class_without_pairs_is_an_empty_row(self):
        figure = classification.confusion(a_report(np.eye(3)[[0, 1]], [0, 1], NLI))
        assert [text.get_text() for text in figure.axes[0].texts[6:]] == ["0", "0", "0"]
        assert "no pair is in a wrong class" in alt_text(figure)

    def test_many_classes_with_long_names(self):
        report = several(600, 24, names=tuple(f"relation number {i}" for i in range(24)))
        ax = classification.confusion(report).axes[0]
        assert not ax.texts  # the cells are too small for numbers
        assert {label.get_rotation() for label in ax.get_xticklabels()} == {90}
        assert {label.get_rotation() for label in classification.confusion(several()).axes[0].get_xticklabels()} == {0}


class TestReliability:
    def test_the_curve_and_the_counts_are_those_of_the_bins(self):
        report = several()
        figure = classification.reliability({"mine": report}, bins=10)
        curve, count = figure.axes
        expected = reliability_curve(report.probabilities, report.labels, 10)
        assert curve.lines[1].get_xdata() == pytest.approx(expected.confidence)
        assert curve.lines[1].get_ydata() == pytest.approx(expected.frequency)
        shares = count.patches[0].get_data().values
        assert shares[shares > 0] == pytest.approx(100 * expected.count / 120)
        assert shares.sum() == pytest.approx(100)
        error = expected_calibration_error(report.probabilities, report.labels, 10)
        assert legend(curve) == ["as sure as right", f"mine, ECE {error:.3f}"]
        assert f"mine: calibration error (ECE) {error:.3f}" in alt_text(figure)
        assert curve.get_ylabel() == "share that is right"

    def test_a_probability_on_an_edge_is_counted_where_the_curve_has_it(self):
        p, labels = np.array([0.2, 0.2, 0.5, 1.0]), np.array([0, 1, 1, 1])
        curve, count = classification.reliability({"edges": (p, labels)}, bins=10).axes
        assert count.patches[0].get_data().values.tolist() == [0, 50, 0, 0, 25, 0, 0, 0, 0, 25]
        assert curve.lines[1].get_ydata().tolist() == [0.5, 1, 1]
        assert count.get_xlabel() == "probability of class 1"

    def test_reports_and_arrays_may_be_mixed_but_not_their_kinds(self):
        report = several()
        lines = classification.reliability({"a": report, "b": (report.probabilities, report.labels)}).axes[0].lines
        assert lines[1].get_ydata() == pytest.approx(lines[2].get_ydata())
        with pytest.raises(ValueError, match=r"some systems give \(N,\) and some \(N, C\) probabilities"):
            classification.reliability({"a": report, "b": binary()})


class TestPrecisionRecall:
    def test_the_steps_are_those_of_scikit_learn(self):
        report = binary(name="mine")
        figure = classification.precision_recall(report)
        ax = figure.axes[0]
        precision, recall, _ = sklearn.metrics.precision_recall_curve(report.labels, report.probabilities)
        assert ax.lines[0].get_xdata() == pytest.approx(recall)
        assert ax.lines[0].get_ydata() == pytest.approx(precision)
        average = sklearn.metrics.average_precision_score(report.labels, report.probabilities)
        assert legend(ax) == [f"mine, AP {average:.3f}"]
        assert f"mine: average precision {average:.3f}" in alt_text(figure)
        assert ax.lines[-1].get_ydata() == pytest.approx([report.labels.mean()] * 2)

    def test_the_area_under_the_steps_as_drawn_is_the_average_precision(self):
        report = binary(20)
        line = classification.precision_recall(report).axes[0].lines[0]
        assert line.get_drawstyle() == "steps-post"  # from each point level to the next, which lies to its left
        area = np.sum(-np.diff(line.get_xdata()) * line.get_ydata()[:-1])
        assert area == pytest.approx(sklearn.metrics.average_precision_score(report.labels, report.probabilities))

    @pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
    def test_the_mark_is_what_the_threshold_gives(self, threshold):
        report = binary(threshold=threshold)
        mark = classification.precision_recall({"a": report}).axes[0].lines[1]
        metrics = (sklearn.metrics.recall_score, sklearn.metrics.precision_score)
        expected = [metric(report.labels, report.predicted, zero_division=1) for metric in metrics]
        assert [mark.get_xdata()[0], mark.get_ydata()[0]] == pytest.approx(expected)

    def test_scores_at_the_threshold_are_not_above_it(self):
        report = a_report([0.2, 0.5, 0.5, 0.9], [0, 0, 1, 1], threshold=0.5)
        mark = classification.precision_recall(report).axes[0].lines[1]
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (0.5, 1)

    def test_each_class_against_the_others(self):
        report = several(names=NLI)
        ax = classification.precision_recall(report).axes[0]
        averages = [
            sklearn.metrics.average_precision_score(report.labels == i, report.probabilities[:, i]) for i in range(3)
        ]
        assert legend(ax) == [f"{name}, AP {value:.3f}" for name, value in zip(NLI, averages, strict=True)]
        assert "mark" not in ax.get_xlabel()

    def test_a_class_without_pairs_has_no_curve(self):
        report = a_report([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]], [0, 1], NLI)
        assert [text.split(",")[0] for text in legend(classification.precision_recall(report).axes[0])] == list(NLI[:2])


class TestCompareByTag:
    def test_bars_and_whiskers(self):
        p, labels = np.array([0.9, 0.9, 0.9, 0.1, 0.1]), np.array([1, 1, 0, 0, 1])
        ours, theirs = a_report(p, labels), a_report(1 - p, labels)  # right: yes yes no yes no, and the opposite
        figure = classification.compare_by_tag(ours, theirs, ["x", "x", "x", None, None], ("a", "b"), resamples=200)
        ax = figure.axes[0]
        assert [bar.get_width() for bar in ax.patches] == pytest.approx([2 / 3, 1 / 2, 1 / 3, 1 / 2])
        assert [text.get_text() for text in ax.get_yticklabels()] == ["x (3)", "None (2)"]
        whisker = bootstrap_interval(np.mean, [1.0, 1.0, 0.0], resamples=200)
        assert tuple(ax.lines[0].get_xdata()) == pytest.approx(whisker)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
        assert alt_text(figure) == "Accuracy by tag. x: a 0.667, b 0.333; None: a 0.500, b 0.500."

    def test_ours_is_above_theirs_and_the_most_frequent_tag_on_top(self):
        ax = classification.compare_by_tag(binary(), binary(), ["rare"] * 20 + ["often"] * 100, resamples=10).axes[0]
        heights = [ax.transData.transform((0, bar.get_y() + bar.get_height() / 2))[1] for bar in ax.patches]
        often, rare, often_theirs, rare_theirs = heights
        assert often > often_theirs > rare > rare_theirs
        assert [text.get_text() for text in ax.get_yticklabels()] == ["often (100)", "rare (20)"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: classification.reliability({}), "expected 1 to 4 systems, which can be told apart; got 0"),
        (lambda: classification.reliability({str(i): binary() for i in range(5)}), "got 5"),
        (lambda: classification.reliability({"a": ([1.5], [1])}), r"row 0: the probability is 1\.5"),
        (lambda: classification.precision_recall(several(classes=5)), "1 to 4 curves"),
        (lambda: classification.precision_recall(a_report(np.eye(2)[[0, 0]], [0, 0])), "got 0"),
        (lambda: classification.precision_recall({"a": a_report([0.1], [0])}), "needs both classes"),
        (lambda: classification.compare_by_tag(binary(), binary(), ["a"]), "120 and 120 pairs and 1 tags"),
        (lambda: classification.compare_by_tag(binary(), binary(seed=1), ["a"] * 120), "two reports of the same pairs"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: classification.confusion(several(400, 45)),
        lambda: classification.confusion(a_report([0.9], [0])),
        lambda: classification.reliability({str(i): binary(seed=i) for i in range(4)}),
        lambda: classification.reliability({"one": ([1.0], [1])}),
        lambda: classification.precision_recall({"ties": a_report([0.5, 0.5], [0, 1])}),
        lambda: classification.precision_recall({"long " * 20: binary(), "$x": binary()}),
        lambda: classification.compare_by_tag(several(), several(), [f"{'tag ' * 20}{i % 30}" for i in range(120)]),
        lambda: classification.compare_by_tag(a_report([0.9], [1]), a_report([0.1], [1]), ["one"]),
    ],
)
def test_unusual_data_still_draw_without_a_warning(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png(call())
