"""Reports of classes and of one score: known answers, scikit-learn's, intervals, names, and refusals."""

import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.data import Pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.calibration import expected_calibration_error, softmax
from crossenc_kit.evaluation.classification import classification_evaluator, evaluate_classification
from crossenc_kit.evaluation.metrics import (
    accuracy,
    average_precision,
    best_threshold,
    bootstrap_difference,
    bootstrap_interval,
    macro_f1,
)
from crossenc_kit.models.cross_encoder import CrossEncoder

NLI = ("entailment", "neutral", "contradiction")
# Predicted 0, 0, 1, 2, 2 of the labels 0, 1, 1, 2, 0: three of five are right.
LOGITS = [[2, 0, 0], [1, 0, 0], [0, 3, 0], [0, 0, 1], [0, 0, 5]]
LABELS = [0, 1, 1, 2, 0]


class Scorer:
    """A scorer that answers `scores`, whatever the pairs, and may name its classes."""

    def __init__(self, scores, label_names=None):
        self.scores, self.asked = np.asarray(scores, float), 0
        if label_names:
            self.label_names = label_names

    def __call__(self, pairs):
        self.asked += 1
        return self.scores


def pairs_of(labels, **more):
    size = len(labels)
    return Pairs([f"l{i}" for i in range(size)], [f"r{i}" for i in range(size)], np.asarray(labels), **more)


def evaluate(scores, labels=LABELS, label_names=(), **options):
    return evaluate_classification(Scorer(scores), pairs_of(labels, label_names=label_names), **options)


def random_classes(size=200, classes=3, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=size)
    return 2 * np.eye(classes)[labels] + noise * rng.normal(size=(size, classes)), labels


def random_binary(size=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(size) < 0.3).astype(int)
    return 1 / (1 + np.exp(-(2.0 * labels - 1 + rng.normal(size=size)))), labels


class TestSeveralClasses:
    def test_by_hand(self):
        report = evaluate(LOGITS, name="five", label_names=NLI, resamples=0)
        assert (report.name, report.count, report.label_names) == ("five", 5, NLI)
        assert report.predicted.tolist() == [0, 0, 1, 2, 2]
        assert report.correct().tolist() == [True, False, True, True, False]
        assert report.accuracy == pytest.approx(3 / 5)
        assert report.confusion.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
        assert report.classes.precision.tolist() == [1 / 2, 1, 1 / 2]
        assert report.classes.recall.tolist() == [1 / 2, 1 / 2, 1]
        assert report.classes.support.tolist() == [2, 2, 1]
        # F1 1/2, 2/3, 2/3
        assert report.macro_f1 == pytest.approx(11 / 18)
        assert report.probabilities[0] == pytest.approx(np.array([np.e**2, 1, 1]) / (np.e**2 + 2))
        assert (report.average_precision, report.threshold) == (None, None)
        assert (report.intervals, report.baselines, report.margins) == ({}, {}, {})
        assert list(report.metrics) == ["accuracy", "macro_f1", "log_loss", "calibration_error"]
        assert report.metrics["accuracy"] == report.accuracy

    def test_against_scikit_learn(self):
        logits, labels = random_classes()
        report = evaluate(logits, labels, resamples=0)
        p = softmax(logits)
        scores = sklearn.metrics.precision_recall_fscore_support(labels, p.argmax(1))
        assert np.allclose(report.classes, scores)
        assert report.macro_f1 == pytest.approx(sklearn.metrics.f1_score(labels, p.argmax(1), average="macro"))
        assert report.accuracy == pytest.approx(sklearn.metrics.accuracy_score(labels, p.argmax(1)))
        assert report.log_loss == pytest.approx(sklearn.metrics.log_loss(labels, p))
        assert report.confusion.tolist() == sklearn.metrics.confusion_matrix(labels, p.argmax(1)).tolist()
        assert report.ece == expected_calibration_error(p, labels)

    def test_rows_that_sum_to_1_are_probabilities_and_others_go_through_softmax(self):
        given = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.10005], [1, 0, 0], [0.2, 0.2, 0.6], [0, 0, 1]]
        assert evaluate(given, resamples=0).probabilities.tolist() == given
        beyond = [[0.7, 0.2, 0.2], *given[1:]]
        assert np.allclose(evaluate(beyond, resamples=0).probabilities, softmax(beyond))
        below_zero = [[1.5, -0.5, 0], *given[1:]]
        assert np.allclose(evaluate(below_zero, resamples=0).probabilities, softmax(below_zero))

    def test_two_classes_with_a_score_each_are_several_classes(self):
        report = evaluate([[2, 0], [0, 2]], [0, 1], resamples=0)
        assert next(iter(report.metrics)) == "accuracy"
        assert report.average_precision is None

    def test_a_class_that_the_data_lack_is_named(self):
        with pytest.warns(UserWarning, match="no pair has the label contradiction; macro F1 is over the classes that"):
            report = evaluate(LOGITS[:3], LABELS[:3], NLI, resamples=0)
        assert report.macro_f1 == pytest.approx(2 / 3)  # of two classes, 2/3 each
        assert report.classes.support.tolist() == [1, 2, 0]
        with pytest.warns(UserWarning, match="no pair has the label 1, 2;"):
            assert evaluate(LOGITS[:2], [0, 0], resamples=0).accuracy == 1

    @settings(max_examples=30)
    @given(st.permutations(range(3)), st.integers(0, 10**6))
    def test_the_numbering_of_the_classes_does_not_matter(self, order, seed):
        logits, labels = random_classes(30, seed=seed)
        renumbered = np.argsort(order)[labels]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first = evaluate(logits, labels, resamples=0).metrics
            second = evaluate(logits[:, order], renumbered, resamples=0).metrics
        assert second == pytest.approx(first)


class TestOneScore:
    def test_by_hand(self):
        report = evaluate([0.1, 0.6, 0.5, 0.9], [0, 0, 1, 1], resamples=0)
        assert report.predicted.tolist() == [0, 1, 0, 1]  # 0.5 is not above 0.5
        assert report.threshold == 0.5
        assert report.accuracy == 0.5
        # by falling score 1, 0, 1, 0: precision 1 at recall 1/2, 2/3 at recall 1
        assert report.average_precision == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
        assert report.confusion.tolist() == [[1, 1], [1, 1]]
        assert report.label_names == ("0", "1")
        assert list(report.metrics) == ["average_precision", "accuracy", "macro_f1", "log_loss", "calibration_error"]

    def test_against_scikit_learn(self):
        p, labels = random_binary()
        report = evaluate(p, labels, threshold=0.3, resamples=0)
        assert report.average_precision == pytest.approx(sklearn.metrics.average_precision_score(labels, p))
        assert report.log_loss == pytest.approx(sklearn.metrics.log_loss(labels, p))
        assert np.allclose(report.classes, sklearn.metrics.precision_recall_fscore_support(labels, p > 0.3))
        assert report.probabilities.tolist() == p.tolist()

    def test_the_best_threshold_gives_the_accuracy_it_promised(self):
        p, labels = random_binary()
        best = best_threshold(p, labels)
        assert evaluate(p, labels, threshold=best.threshold, resamples=0).accuracy == best.value
        always = best_threshold([0.0, 0.4, 1.0], [1, 1, 1])  # below every score
        assert always.threshold < 0
        assert evaluate([0.0, 1.0], [0, 1], threshold=always.threshold, resamples=0).predicted.tolist() == [1, 1]

    def test_resamples_without_one_of_the_classes_count_as_knowing_nothing(self):
        # With one row of class 1 among four, 81/256 of the resamples have none: their average precision is 0.
        report = evaluate([0.1, 0.2, 0.3, 0.9], [0, 0, 0, 1], resamples=500)
        assert report.intervals["average_precision"] == (0, 1)


class TestIntervalsAndBaselines:
    def test_intervals_are_those_of_the_bootstrap(self):
        p, labels = random_binary(60)
        report = evaluate(p, labels, resamples=100, seed=3)
        options = {"resamples": 100, "seed": 3}
        assert report.intervals == {
            "average_precision": bootstrap_interval(average_precision, p, labels, **options),
            "accuracy": bootstrap_interval(accuracy, report.predicted, labels, **options),
            "macro_f1": bootstrap_interval(macro_f1, report.predicted, labels, **options),
        }
        for name, (low, high) in report.intervals.items():
            assert low < report.metrics[name] < high
        assert evaluate(*random_classes(60), resamples=20).intervals.keys() == {"accuracy", "macro_f1"}

    def test_a_margin_above_zero_says_that_the_baseline_is_beaten(self):
        logits, labels = random_classes()
        majority = Scorer(np.tile([1.0, 0, 0], (len(labels), 1)))
        report = evaluate(logits, labels, resamples=100, baselines={"majority": majority, "itself": Scorer(logits)})
        assert report.baselines["majority"]["accuracy"] == np.mean(labels == 0)
        assert report.baselines["itself"] == report.metrics
        low, high = report.margins["majority"]
        assert 0 < low < report.accuracy - np.mean(labels == 0) < high
        expected = bootstrap_difference(accuracy, report.predicted, np.zeros_like(labels), labels, resamples=100)
        assert report.margins == {"majority": expected, "itself": (0, 0)}
        assert majority.asked == 1

    def test_baselines_use_the_threshold(self):
        report = evaluate([0.1, 0.9], [0, 1], threshold=0.2, baselines={"low": Scorer([0.1, 0.3])}, resamples=0)
        assert report.baselines["low"]["accuracy"] == 1

    def test_in_words(self):
        logits, labels = random_classes()
        majority = Scorer(np.tile([1.0, 0, 0], (len(labels), 1)))
        report = evaluate(logits, labels, NLI, name="mine", resamples=50, baselines={"majority": majority})
        title, _, model, baseline, margin, head, first, *_, last = str(report).splitlines()
        low, high = report.intervals["accuracy"]
        assert title == "mine: 200 pairs, 3 classes"
        assert model.split() == f"model {report.accuracy:.3f} {low:.3f} to {high:.3f} {report.macro_f1:.3f}".split()
        assert baseline.split()[:2] == ["majority", f"{np.mean(labels == 0):.3f}"]
        assert margin.startswith("  Accuracy above majority: +0.")
        assert head.split() == ["precision", "recall", "F1", "pairs"]
        precision, recall, f1, support = (column[0] for column in report.classes)
        assert first.split() == f"entailment {precision:.3f} {recall:.3f} {f1:.3f} {support}".split()
        assert last == f"  Calibration error (ECE) {report.ece:.3f}, log loss {report.log_loss:.3f}"
        binary = str(evaluate([0.1, 0.9], [0, 1], ("no", "yes"), resamples=0)).splitlines()
        assert binary[0] == "evaluation: 2 pairs, 2 classes, yes above 0.5"
        assert binary[2].split() == ["model", "1.000", "1.000", "1.000"]

    def test_the_table_lines_up_whatever_the_names(self):
        long = ("a", "b" * 40, "c")
        lines = str(evaluate(LOGITS, label_names=long, baselines={"other": Scorer(LOGITS)}, resamples=0)).splitlines()
        assert len({len(line) for line in lines[4:8]}) == 1
        assert len({len(line) for line in lines[1:4]}) == 1


class TestEvaluator:
    def test_it_gives_the_figures_of_the_report_with_the_one_to_select_by_first(self):
        evaluator = classification_evaluator(pairs_of(LABELS))
        assert evaluator(Scorer(LOGITS)) == evaluate(LOGITS, resamples=0).metrics
        binary = classification_evaluator(pairs_of([0, 1]))
        assert next(iter(binary(Scorer([0.2, 0.9])))) == "average_precision"

    def test_what_cannot_choose_a_model_is_refused_at_once(self):
        with pytest.raises(DataError, match="at least two classes; all 3 labels are 1"):
            classification_evaluator(pairs_of([1, 1, 1]))
        with pytest.raises(DataError, match=r"row 1: the label is 0\.5"):
            classification_evaluator([("a", "b", 1.0), ("a", "b", 0.5)])

    @pytest.mark.filterwarnings("ignore:the head of 'tiny' is new")
    def test_a_cross_encoder_is_a_scorer(self):
        data = pairs_of([0, 1, 2, 1])
        model = CrossEncoder("tiny", num_labels=3, seed=0, device="cpu")
        report = evaluate_classification(model, data, resamples=0)
        assert np.allclose(report.probabilities, model.predict(data.texts, apply_softmax=True), atol=1e-6)
        assert report.label_names == ("0", "1", "2")
        model = CrossEncoder("tiny", num_labels=1, seed=0, device="cpu")
        assert evaluate_classification(model, pairs_of([0, 1]), resamples=0).probabilities.shape == (2,)


class TestLabelNames:
    def test_the_data_name_the_classes_else_the_scorer(self):
        named, plain = pairs_of(LABELS, label_names=NLI), pairs_of(LABELS)
        assert evaluate_classification(Scorer(LOGITS, [n.upper() for n in NLI]), named, resamples=0).label_names == NLI
        assert evaluate_classification(Scorer(LOGITS, list(NLI)), plain, resamples=0).label_names == NLI
        assert evaluate_classification(Scorer(LOGITS), plain, resamples=0).label_names == ("0", "1", "2")

    def test_names_that_hugging_face_makes_up_are_none(self):
        made_up = ("LABEL_0", "LABEL_1", "LABEL_2")
        data = pairs_of(LABELS, label_names=NLI)
        assert evaluate_classification(Scorer(LOGITS, made_up), data, resamples=0).label_names == NLI
        data = pairs_of([0, 1], label_names=("no", "yes"))
        report = evaluate_classification(Scorer([0.1, 0.9], ["score"]), data, resamples=0)  # the name of the one score
        assert report.label_names == ("no", "yes")

    def test_another_order_is_refused_even_where_names_are_given(self):
        data = pairs_of(LABELS, label_names=NLI)
        model = Scorer(LOGITS, ("Contradiction", "Entailment", "Neutral"))
        message = (
            r"the data has the classes \('entailment', 'neutral', 'contradiction'\), in this order, and the scorer "
            r"\('Contradiction', 'Entailment', 'Neutral'\).*read_nli\(\.\.\., label_names=\.\.\.\) or "
            "Pairs.with_label_names"
        )
        with pytest.raises(DataError, match=message):
            evaluate_classification(model, data)
        with pytest.raises(DataError, match="label_names has the classes"):
            evaluate_classification(model, data, label_names=NLI)
        mended = data.with_label_names(("contradiction", "entailment", "neutral"))
        assert evaluate_classification(model, mended, resamples=0).labels.tolist() == [1, 2, 2, 0, 1]

    def test_other_names_are_refused_unless_names_are_given(self):
        data = pairs_of(LABELS, label_names=NLI)
        model = Scorer(LOGITS, ("yes", "maybe", "no"))
        with pytest.raises(DataError, match="an index must mean one class"):
            evaluate_classification(model, data)
        report = evaluate_classification(model, data, label_names=("a", "b", "c"), resamples=0)
        assert report.label_names == ("a", "b", "c")

    @pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c", "d"), ("a", "b", "a")])
    def test_one_name_a_class(self, names):
        with pytest.raises(DataError, match=r"label_names has the names .*; the scores are of 3 classes"):
            evaluate_classification(Scorer(LOGITS), pairs_of(LABELS), label_names=names)


class TestUnusable:
    @pytest.mark.parametrize(
        ("labels", "scores", "message"),
        [
            ([0, 1, 3], LOGITS[:3], "row 2: the label is 3; the scorer has the classes 0 to 2"),
            ([0, 1, 2], [0.1, 0.2, 0.3], "row 2: the label is 2; the scorer has the classes 0 to 1"),
            ([0, -1, 2], LOGITS[:3], "row 1: the label is -1; a class is a whole number from 0"),
            ([0.0, 1.0, 0.25], LOGITS[:3], r"row 2: the label is 0.25; .*graded labels use evaluate_correlation"),
            ([0.0, np.nan], LOGITS[:2], "row 1: the label is nan"),
            ([[0, 1], [1, 0]], LOGITS[:2], "one class index per pair, got 2 labels"),
            ([1, 1], [0.1, 0.9], "average precision needs both classes; none of 2 pairs has the label 0"),
            ([0, 1], [0.1, 1.5], r"the scorer gave 1.5 for row 1; .*activation_fn='sigmoid'"),
            ([0, 1], [-0.1, 0.5], "the scorer gave -0.1 for row 0"),
            ([0, 1], [[0.1], [0.9]], r"scores \(N,\) or \(N, C\), C at least 2; got \(2, 1\)"),
            ([0, 1], np.zeros((2, 2, 2)), r"got \(2, 2, 2\)"),
            ([0, 1], [0.1], r"scores of shape \(1,\) for 2 pairs"),
        ],
    )
    def test_labels_and_scores(self, labels, scores, message):
        with pytest.raises(DataError, match=message):
            evaluate(scores, labels)

    def test_no_labels(self):
        for rows in ([("a", "b")], []):
            with pytest.raises(DataError, match="evaluation needs labels"):
                evaluate_classification(Scorer(LOGITS), rows)

    def test_whole_numbers_may_be_floats(self):
        assert evaluate(LOGITS, np.asarray(LABELS, np.float32), resamples=0).labels.tolist() == LABELS

    def test_a_baseline_is_named(self):
        with pytest.raises(DataError, match=r"baseline 'odd': scores of shape \(5,\), the evaluated .* \(5, 3\)"):
            evaluate(LOGITS, baselines={"odd": Scorer([0.5] * 5)})
        with pytest.raises(DataError, match="baseline 'logit': the scorer gave 7 for row 0"):
            evaluate([0.1, 0.9], [0, 1], baselines={"logit": Scorer([7, 0])})

    def test_a_threshold_is_for_one_score(self):
        with pytest.raises(ValueError, match=r"threshold=0\.5 is for one score per pair"):
            evaluate(LOGITS, threshold=0.5)
