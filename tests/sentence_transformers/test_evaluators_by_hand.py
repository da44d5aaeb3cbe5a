"""Evaluators of both generations of sentence-transformers: numbers worked by hand, and the files."""

import math

import numpy as np
import pytest
from small_peer import Model, of, rows_of, saying

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
)

BINARY_COLUMNS = ["Accuracy", "Accuracy_Threshold", "F1", "F1_Threshold", "Precision", "Recall", "Average_Precision"]
DISCOUNT = [1 / math.log2(rank + 1) for rank in range(1, 10)]


class TestOlderOnesByHand:
    @pytest.mark.parametrize(("threshold", "expected"), [((), 2 / 4), ((0.4,), 3 / 4), ((0.9,), 2 / 4)])
    def test_binary_accuracy(self, tmp_path, threshold, expected):
        # above 0.5: rows 0 and 3; above 0.4: row 1 as well; above 0.9: none
        evaluator = of(CEBinaryAccuracyEvaluator, [1, 1, 0, 0], "dev", *threshold)
        model = Model([0.9, 0.5, 0.2, 0.7])
        assert evaluator(model, tmp_path, 2, 30) == expected
        name = "CEBinaryAccuracyEvaluator_dev_results.csv"
        assert rows_of(tmp_path, name) == (["epoch", "steps", "Accuracy"], [[2, 30, expected]])

    @pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
    def test_a_score_at_the_threshold_says_0_in_every_precision(self, kind):
        for threshold in (0.3, 0.1, 0.5, 0.7):  # 0.3 as float32 is above 0.3
            below, above = (np.nextafter(kind(threshold), kind(end)) for end in (0, 1))
            evaluator = of(CEBinaryAccuracyEvaluator, [0, 0, 1], threshold=threshold)
            assert evaluator(Model(np.array([below, threshold, above], dtype=kind))) == 1

    def test_binary_classification(self, tmp_path):
        # ranked: 1 0 1 0. Precision at the two hits: 1 and 2/3. Right: 3 of 4 after the first; F1 2 * 2 / (3 + 2)
        # after the third, where precision is 2/3 and recall 1
        evaluator = of(CEBinaryClassificationEvaluator, [0, 1, 1, 0], "dev")
        assert evaluator(Model([0.3, 0.9, 0.6, 0.8]), str(tmp_path)) == pytest.approx(5 / 6)
        header, rows = rows_of(tmp_path, "CEBinaryClassificationEvaluator_dev_results.csv")
        assert header == ["epoch", "steps", *BINARY_COLUMNS]
        assert rows == [pytest.approx([-1, -1, 3 / 4, 0.85, 4 / 5, 0.45, 2 / 3, 1, 5 / 6])]

    def test_thresholds_above_and_below_all_scores_count(self, tmp_path):
        of(CEBinaryClassificationEvaluator, [1, 0, 0])(Model([0.1, 0.5, 0.9]), tmp_path)
        _, [[_, _, accuracy, cut, f1, f1_cut, precision, recall, _]] = rows_of(
            tmp_path, "CEBinaryClassificationEvaluator_results.csv"
        )
        assert (accuracy, f1, precision, recall) == pytest.approx((2 / 3, 2 / 4, 1 / 3, 1))  # all 0; all 1
        assert cut >= 0.9
        assert f1_cut < 0.1

    def test_correlation(self, tmp_path):
        # deviations (-1, 0, 1) and (-4, -1, 5) / 3; the order is the same
        evaluator = of(CECorrelationEvaluator, [1, 2, 3], "dev")
        assert evaluator(Model([0, 1, 3]), tmp_path) == pytest.approx(1)
        header, rows = rows_of(tmp_path, "CECorrelationEvaluator_dev_results.csv")
        assert header == ["epoch", "steps", "Pearson_Correlation", "Spearman_Correlation"]
        assert rows == [pytest.approx([-1, -1, 3 / math.sqrt(2 * 42 / 9), 1])]
        assert evaluator(Model([7, 7, 7])) == 0

    def test_f1_of_two_classes(self, tmp_path):
        # one hit and one false alarm more: 2 * 2 / (3 predicted + 2 labels)
        evaluator = of(CEF1Evaluator, [1, 0, 0, 1], name="dev")
        assert evaluator(saying([1, 1, 0, 1], 2), tmp_path, 1) == pytest.approx(4 / 5)
        header, rows = rows_of(tmp_path, "CEF1Evaluator_dev_results.csv")
        assert header == ["epoch", "steps", "Binary F1 score"]
        assert rows == [pytest.approx([1, -1, 4 / 5])]

    def test_f1_of_three_classes_is_weighted_by_the_labels(self, tmp_path):
        # F1 by class: 2 * 1 / (2 + 2), 2 * 2 / (2 + 3), 2 * 1 / (2 + 1); there are 2, 3 and 1 labels of them.
        # Each class is predicted twice, so that weighing by predictions would give the macro F1 again
        labels, predicted = [0, 1, 1, 1, 2, 0], [0, 0, 1, 1, 2, 2]
        assert of(CEF1Evaluator, labels)(saying(predicted, 3), tmp_path) == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
        header, [row] = rows_of(tmp_path, "CEF1Evaluator_results.csv")
        assert header == ["epoch", "steps", "Macro F1 score", "Micro F1 score", "Weighted F1 score"]
        assert row == pytest.approx([-1, -1, 59 / 90, 4 / 6, (2 / 2 + 3 * 4 / 5 + 2 / 3) / 6])

    def test_softmax_accuracy(self, tmp_path):
        evaluator = of(CESoftmaxAccuracyEvaluator, [0, 1, 1, 1, 2, 0], "dev")
        assert evaluator(saying([0, 0, 1, 1, 2, 2], 3), tmp_path) == pytest.approx(4 / 6)
        header, rows = rows_of(tmp_path, "CESoftmaxAccuracyEvaluator_dev_results.csv")
        assert (header, rows) == (["epoch", "steps", "Accuracy"], [pytest.approx([-1, -1, 4 / 6])])

    @pytest.mark.parametrize(
        ("k", "mrr", "ndcg"),
        [
            # the first relevant one at ranks 2 and 1; the second sample has another at rank 3
            (10, 3 / 4, (DISCOUNT[1] + (1 + DISCOUNT[2]) / (1 + DISCOUNT[1])) / 2),
            (2, 3 / 4, (DISCOUNT[1] + 1 / (1 + DISCOUNT[1])) / 2),
            (1, 1 / 2, 1 / 2),
        ],
    )
    def test_reranking(self, tmp_path, k, mrr, ndcg):
        samples = [
            {"query": "first", "positive": ["p"], "negative": ["n", "o"]},
            {"query": "left out", "positive": ["p"], "negative": []},
            {"query": "left out", "positive": [], "negative": ["n"]},
            {"query": "second", "positive": ["q", "r"], "negative": ("m",)},
        ]
        model = Model({"p": 0.5, "n": 0.9, "o": 0.1, "q": 0.9, "r": 0.2, "m": 0.5})
        for given in (samples, dict(enumerate(samples))):
            assert CERerankingEvaluator(given, k, "dev")(model, tmp_path) == pytest.approx(mrr)
        header, rows = rows_of(tmp_path, f"CERerankingEvaluator_dev_results_@{k}.csv")
        assert header == ["epoch", "steps", f"MRR@{k}", f"NDCG@{k}"]
        assert rows == [pytest.approx([-1, -1, mrr, ndcg])] * 2
        assert [pair[0] for pair in model.calls[0][0]] == ["first"] * 3 + ["second"] * 3

    def test_reranking_takes_sets_and_single_texts(self):
        # the form in which the examples of sentence-transformers read MS MARCO
        samples = [{"query": "q", "positive": {"a", "b"}, "negative": {"c", "d"}}]
        scores = {"a": 0.1, "b": 0.4, "c": 0.5, "d": 0.2}
        assert CERerankingEvaluator(samples)(Model(scores)) == 1 / 2
        samples = [{"query": "q", "positive": "ab", "negative": "cd", "documents": "not for this one"}]
        assert CERerankingEvaluator(samples)(Model({"ab": 0.1, "cd": 0.2})) == 1 / 2


class TestLaterOnesByHand:
    def test_classification_with_one_score(self, tmp_path):
        evaluator = of(CrossEncoderClassificationEvaluator, [0, 1, 1, 0], name="dev")
        found = evaluator(Model([0.3, 0.9, 0.6, 0.8]), tmp_path, 3)
        values = [3 / 4, 0.85, 4 / 5, 0.45, 2 / 3, 1, 5 / 6]  # as for the older one
        assert found == pytest.approx(
            {f"dev_{name.lower()}": value for name, value in zip(BINARY_COLUMNS, values, strict=True)}
        )
        assert evaluator.primary_metric == "dev_average_precision"
        header, rows = rows_of(tmp_path, "CrossEncoderClassificationEvaluator_dev_results.csv")
        assert (header, rows) == (["epoch", "steps", *BINARY_COLUMNS], [pytest.approx([3, -1, *values])])

    def test_classification_with_a_score_a_class(self, tmp_path):
        evaluator = of(CrossEncoderClassificationEvaluator, [0, 1, 1, 1, 2, 0])
        found = evaluator(saying([0, 0, 1, 1, 2, 2], 3), tmp_path)
        weighted = (2 / 2 + 3 * 4 / 5 + 2 / 3) / 6
        assert found == pytest.approx({"f1_macro": 59 / 90, "f1_micro": 4 / 6, "f1_weighted": weighted})
        assert evaluator.primary_metric == "f1_macro"
        header, rows = rows_of(tmp_path, "CrossEncoderClassificationEvaluator_results.csv")
        assert header == ["epoch", "steps", "Macro_F1", "Micro_F1", "Weighted_F1"]
        assert rows == [pytest.approx([-1, -1, *found.values()])]

    def test_correlation(self, tmp_path):
        evaluator = of(CrossEncoderCorrelationEvaluator, [1, 2, 3], "dev")
        found = evaluator(Model([0, 1, 3]), tmp_path)
        assert found == pytest.approx({"dev_pearson": 3 / math.sqrt(2 * 42 / 9), "dev_spearman": 1})
        assert evaluator.primary_metric == "dev_spearman"
        header, rows = rows_of(tmp_path, "CrossEncoderCorrelationEvaluator_dev_results.csv")
        assert header == ["epoch", "steps", "Pearson_Correlation", "Spearman_Correlation"]
        assert rows == [pytest.approx([-1, -1, *found.values()])]

    def test_reranking_with_negatives(self, tmp_path):
        samples = [
            {"query": "one", "positive": "p", "negative": ["n", "o"]},
            {"query": "two", "positive": ["q", "r"], "negative": ["m"]},
            {"query": "nothing to find counts 0", "positive": [], "negative": ["m"]},
        ]
        model = Model({"p": 0.5, "n": 0.9, "o": 0.1, "q": 0.9, "r": 0.2, "m": 0.5})
        evaluator = CrossEncoderRerankingEvaluator(samples)
        found = evaluator(model, tmp_path)
        gain = (DISCOUNT[1] + (1 + DISCOUNT[2]) / (1 + DISCOUNT[1])) / 3
        # average precision 1/2, and of ranks 1 and 3 the mean of 1 and 2/3
        assert found == pytest.approx({"map": (1 / 2 + 5 / 6) / 3, "mrr@10": (1 / 2 + 1) / 3, "ndcg@10": gain})
        assert evaluator.primary_metric == "ndcg@10"
        header, rows = rows_of(tmp_path, "CrossEncoderRerankingEvaluator_results_@10.csv")
        assert header == ["epoch", "steps", "MAP", "MRR@10", "NDCG@10"]
        assert rows == [pytest.approx([-1, -1, *found.values()])]

    @pytest.mark.parametrize(
        ("positives_too", "precision", "rank", "gain"),
        [
            # "found" at rank 1, "missed" no candidate; the second sample counts 0
            (False, 1 / 2, 1 / 2, 1 / 2),
            # ranks 1 and 4 of 4, and rank 2 of 3
            (True, (3 / 4 + 1 / 2) / 2, 3 / 4, ((1 + DISCOUNT[3]) / (1 + DISCOUNT[1]) + DISCOUNT[1]) / 2),
        ],
    )
    def test_reranking_of_a_first_stage(self, tmp_path, positives_too, precision, rank, gain):
        samples = [
            {"query": "one", "positive": ["missed", "found"], "documents": ["x", "found", "y"]},
            {"query": "two", "positive": ["sought"], "documents": ("x", "y")},
        ]
        model = Model({"missed": 0.05, "found": 0.9, "x": 0.1, "y": 0.5, "sought": 0.4})
        evaluator = CrossEncoderRerankingEvaluator(samples, 4, positives_too, "dev")
        found = evaluator(model, tmp_path)
        assert found == pytest.approx(
            {
                "dev_map": precision,
                "dev_mrr@4": rank,
                "dev_ndcg@4": gain,
                # the order given is x, found, y, and missed last; of the second sample nothing was found
                "dev_base_map": (1 / 2 + 2 / 4) / 2 / 2,
                "dev_base_mrr@4": 1 / 2 / 2,
                "dev_base_ndcg@4": (DISCOUNT[1] + DISCOUNT[3]) / (1 + DISCOUNT[1]) / 2,
            }
        )
        assert evaluator.primary_metric == "dev_ndcg@4"
        header, rows = rows_of(tmp_path, "CrossEncoderRerankingEvaluator_dev_results_@4.csv")
        assert header == ["epoch", "steps", "MAP", "MRR@4", "NDCG@4"]
        assert rows == [pytest.approx([-1, -1, precision, rank, gain])]

    def test_missed_positives_are_reranked_only_when_asked_for(self):
        samples = [{"query": "q", "positive": ["missed"], "documents": ["x", "y"]}]
        model = Model({"missed": 0.9, "x": 0.1, "y": 0.5})
        assert CrossEncoderRerankingEvaluator(samples)(model)["ndcg@10"] == 0
        assert model.calls == []  # nothing to score
        assert CrossEncoderRerankingEvaluator(samples, always_rerank_positives=True)(model)["ndcg@10"] == 1

    def test_a_first_stage_that_gave_nothing_counts_0(self):
        samples = [
            {"query": "q", "positive": ["p"], "documents": []},
            {"query": "q", "positive": ["p"], "documents": ["p", "x"]},
        ]
        found = CrossEncoderRerankingEvaluator(samples)(Model({"p": 0.9, "x": 0.1}))
        assert set(found.values()) == {1 / 2}

    def test_the_metric_to_select_by_is_known_before_the_first_call(self):
        samples = [{"query": "q", "positive": "p", "negative": "n"}]
        assert of(CrossEncoderCorrelationEvaluator, [0, 1], "dev").primary_metric == "dev_spearman"
        assert CrossEncoderRerankingEvaluator(samples, 5, name="dev").primary_metric == "dev_ndcg@5"

    def test_the_name_before_a_metric_of_the_same_name(self):
        evaluator = of(CrossEncoderClassificationEvaluator, [0, 1, 2], name="f1")
        assert evaluator.primary_metric == ""  # only a model tells which it is
        assert evaluator(saying([0, 1, 2], 3))["f1_f1_macro"] == 1
        assert evaluator.primary_metric == "f1_f1_macro"
