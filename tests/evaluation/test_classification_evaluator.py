"""Evaluators of classes, label names that do not fit, and what cannot be reported."""

import numpy as np
import pytest
from classification_reports import LABELS, LOGITS, NLI, Scorer, evaluate, pairs_of

from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.classification import classification_evaluator, evaluate_classification
from crossenc_kit.models.cross_encoder import CrossEncoder


class TestEvaluator:
    def test_it_gives_the_figures_of_the_report_with_the_one_to_select_by_first(self):
        evaluator = classification_evaluator(pairs_of(LABELS))
        assert evaluator(Scorer(LOGITS)) == evaluate(LOGITS, resamples=0).metrics()
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
        with pytest.raises(DataError, match=r"label_names has the names .*; the scores are of 3 classes, each needs"):
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
            ([[0, 1], [1, 0]], LOGITS[:2], "one class index a pair, got 2 labels"),
            ([1, 1], [0.1, 0.9], "average precision needs both classes; none of 2 pairs has the label 0"),
            ([0, 1], [0.1, 1.5], r"the scorer gave 1.5 for row 1; .*activation_fn='sigmoid'"),
            ([0, 1], [-0.1, 0.5], "the scorer gave -0.1 for row 0"),
            ([0, 1], [[0.1], [0.9]], r"scores of shape \(N,\) or \(N, C\), C at least 2; got \(2, 1\)"),
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

    def test_thresholds(self):
        with pytest.raises(ValueError, match=r"threshold=0\.5 is for one score a pair"):
            evaluate(LOGITS, threshold=0.5)
        for value in (-0.5, 2, float("nan")):
            with pytest.raises(ValueError, match="the threshold of a probability lies between 0 and 1, got"):
                evaluate([0.1, 0.9], [0, 1], threshold=value)
