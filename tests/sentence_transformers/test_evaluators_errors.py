"""What evaluators say of pairs, samples, labels and scores that cannot be used."""

import math

import numpy as np
import pytest
from small_peer import GOOD, LATER, OF_PAIRS, OF_SAMPLES, OLDER, STAGE, Model, of, pairs_of, saying

from crossenc_kit import (
    CEBinaryAccuracyEvaluator,
    CEBinaryClassificationEvaluator,
    CECorrelationEvaluator,
    CEF1Evaluator,
    CERerankingEvaluator,
    CESoftmaxAccuracyEvaluator,
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
    CrossEncoderRerankingEvaluator,
    DataError,
)

BINARY = [CEBinaryAccuracyEvaluator, CEBinaryClassificationEvaluator]
OF_CLASSES = [CEF1Evaluator, CESoftmaxAccuracyEvaluator, CrossEncoderClassificationEvaluator]
DIFFERENT = [BINARY[1], CECorrelationEvaluator, CEF1Evaluator, CrossEncoderCorrelationEvaluator]


def without(sample, key):
    return {name: value for name, value in sample.items() if name != key}


class TestErrorsOfPairs:
    @OF_PAIRS
    @pytest.mark.parametrize(
        ("pairs", "labels", "message"),
        [
            (pairs_of([0, 1]), [0, 1, 1], r"^2 sentence_pairs and 3 labels; expected at least one pair"),
            ([], [], r"^0 sentence_pairs and 0 labels; expected at least one pair, and one label per pair$"),
            ([["a", "b"], ["a", None]], [0, 1], r"^row 1, text 1: the text is missing \(None\)"),
            ([["a", "b"], ["a", "b", "c"]], [0, 1], r"^row 1: a pair has two texts, got 3$"),
            ([None, ["a", "b"]], [0, 1], r"^row 0: expected two texts, got NoneType"),
            (pairs_of([0, 1]), [0, "entailment"], r"^row 1: the label is the string 'entailment'; map label names"),
            (pairs_of([0, 1]), [0, math.nan], r"^row 1: the label is nan; drop the row or give it a finite label$"),
        ],
    )
    def test_pairs_and_labels(self, kind, pairs, labels, message):
        with pytest.raises(DataError, match=message):
            kind(pairs, labels)

    @pytest.mark.parametrize(
        ("kinds", "labels", "row", "end"),
        [
            (BINARY, [0, 1, 2], 2, " to 1"),
            (BINARY, [0, -1, 1], 1, " to 1"),
            (BINARY, [0.5, 1, 0], 0, " to 1"),
            ([CEF1Evaluator], [1, 2], 1, " to 1"),  # binary F1 has two classes
            (OF_CLASSES, [0, 1, 2, -1], 3, ""),
            (OF_CLASSES, [0, 1, 2, 1.5], 3, ""),
        ],
    )
    def test_labels_that_are_no_class(self, kinds, labels, row, end):
        expected = f"expected the index of a class, a whole number from 0{end}$"
        for kind in kinds:
            with pytest.raises(DataError, match=f"^row {row}: the label is {labels[row]}; {expected}"):
                of(kind, labels)

    @pytest.mark.parametrize("kind", OF_CLASSES)
    def test_a_label_that_the_model_does_not_have(self, kind):
        with pytest.raises(DataError, match=r"^row 3: the label is 3; .*, a whole number from 0 to 2$"):
            of(kind, [0, 1, 2, 3])(saying([0, 1, 2, 2], 3))

    def test_labels_of_a_model_with_one_score_are_0_and_1(self):
        for labels, message in ([0, 1, 2], "row 2: the label is 2; .* 0 to 1"), ([1, 1], "all 2 labels are 1;"):
            with pytest.raises(DataError, match=message):
                of(CrossEncoderClassificationEvaluator, labels)(Model([0.1] * len(labels)))

    @pytest.mark.parametrize("kind", DIFFERENT)
    @pytest.mark.parametrize("labels", [[1, 1, 1], [0]])
    def test_labels_that_are_all_equal(self, kind, labels):
        message = rf"^all {len(labels)} labels are {labels[0]}; expected at least two different ones$"
        with pytest.raises(DataError, match=message):
            of(kind, labels)

    def test_equal_labels_have_an_accuracy(self):
        assert of(CEBinaryAccuracyEvaluator, [1, 1])(Model([0.9, 0.1])) == 1 / 2
        assert of(CESoftmaxAccuracyEvaluator, [1])(saying([1], 3)) == 1

    def test_binary_f1_of_a_model_with_a_third_class(self):
        evaluator = of(CEF1Evaluator, [0, 1, 1])
        assert evaluator(saying([0, 1, 0], 3)) == pytest.approx(2 / 3)  # as in 3.4
        with pytest.raises(ValueError, match="multiclass"):
            evaluator(saying([0, 2, 0], 3))

    @pytest.mark.parametrize("kind", [kind for kind in OLDER + LATER if kind not in OF_CLASSES[:2]])
    @pytest.mark.parametrize("shape", [(2, 3), (2, 1), (3,), (), (2, 1, 1)])
    def test_a_model_without_one_score_a_pair(self, kind, shape):
        message = rf"^{kind.__name__} needs one score per pair \(num_labels=1\); got scores of shape \("
        with pytest.raises(DataError, match=message):
            of(kind, [0, 1])(Model(np.zeros(shape)))

    @pytest.mark.parametrize("kind", OF_CLASSES)
    @pytest.mark.parametrize("shape", [(2,), (2, 1), (3, 2), (), (2, 2, 2)])
    def test_a_model_without_a_score_a_class(self, kind, shape):
        message = rf"^{kind.__name__} needs one score per class \(num_labels of 2 or more\); got .* 2 pairs$"
        with pytest.raises(DataError, match=message):
            of(kind, [0, 1])(Model(np.zeros(shape), num_labels=2))

    @OF_PAIRS
    def test_scores_that_are_not_finite(self, kind, tmp_path):
        several = kind in OF_CLASSES[:2]
        scores = np.array([0.5, math.nan, 0.1, math.inf])
        model = Model(np.stack([np.zeros(4), scores], axis=1) if several else scores, 2 if several else 1)
        with pytest.raises(DataError, match=r"^the model gave .*nan.* for row 1 \(2 of 4 scores are not finite\)$"):
            of(kind, [0, 1, 0, 1])(model, tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestErrorsOfSamples:
    @OF_SAMPLES
    @pytest.mark.parametrize(
        ("samples", "message"),
        [
            ([], r"^there are no samples to rank$"),
            ([GOOD, without(GOOD, "query")], r"^sample 1: no 'query' among \['positive', 'negative'\]$"),
            ([GOOD, without(GOOD, "positive")], r"^sample 1: no 'positive' among"),
            ([GOOD, {**GOOD, "query": None}], r"^sample 1, query: the text is missing \(None\)"),
            ([GOOD, {**GOOD, "query": ["q"]}], r"^sample 1, query: expected a string, got list"),
            ([GOOD, {**GOOD, "positive": None}], r"^sample 1, positive: the text is missing \(None\)"),
            ([GOOD, {**GOOD, "positive": ["p", None]}], r"^sample 1, positive\[1\]: the text is missing \(None\)"),
            ([GOOD, {**GOOD, "negative": ["n", 3]}], r"^sample 1, negative\[1\]: expected a string, got int '3'"),
        ],
    )
    def test_samples(self, kind, samples, message):
        with pytest.raises(DataError, match=message):
            kind(samples)

    @OF_SAMPLES
    @pytest.mark.parametrize("depth", [{"at_k": 0}, {"mrr_at_k": -1}])
    def test_a_depth_below_1(self, kind, depth):
        with pytest.raises(ValueError, match=r"^at_k must be at least 1, got (0|-1)$"):
            kind([GOOD], **depth)

    def test_the_older_one_needs_negatives(self):
        with pytest.raises(DataError, match=r"^sample 1: no 'negative' among \['query', 'positive', 'documents'\]$"):
            CERerankingEvaluator([GOOD, STAGE])
        with pytest.raises(DataError, match=r"^no sample has both positives and negatives: there is nothing to rank$"):
            CERerankingEvaluator([{**GOOD, "negative": []}, {**GOOD, "positive": []}])

    def test_the_later_one_needs_one_kind_of_the_other_candidates(self):
        for sample in ({**GOOD, **STAGE}, without(GOOD, "negative")):
            with pytest.raises(DataError, match=r"^sample 1: exactly one of 'negative' and 'documents' is needed$"):
                CrossEncoderRerankingEvaluator([GOOD, sample])
        with pytest.raises(DataError, match=r"^sample 0: documents must be in order, got a set$"):
            CrossEncoderRerankingEvaluator([{**STAGE, "documents": {"x", "p"}}])
        with pytest.raises(DataError, match=r"^sample 0, documents\[1\]: the text is missing \(None\)"):
            CrossEncoderRerankingEvaluator([{**STAGE, "documents": ["x", None]}])

    @OF_SAMPLES
    def test_a_model_with_a_score_a_class(self, kind):
        message = rf"^{kind.__name__} needs one score per pair .*; got scores of shape \(3, 2\) for 3 pairs$"
        with pytest.raises(DataError, match=message):
            kind([GOOD])(Model(np.zeros((3, 2)), 2))

    @OF_SAMPLES
    def test_scores_that_are_not_finite(self, kind, tmp_path):
        samples = [{**GOOD, "negative": ["n"]}, {**GOOD, "positive": []}, {**GOOD, "negative": ["n", "odd"]}]
        message = r"^the model gave nan for sample 2, candidate 2 \('odd'\) \(1 of 5 scores are not finite\)$"
        with pytest.raises(DataError, match=message):
            kind(samples)(Model({"p": 0.5, "n": 0.1, "m": 0.2, "odd": math.nan}), tmp_path)
        assert list(tmp_path.iterdir()) == []
