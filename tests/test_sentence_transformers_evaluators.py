"""Evaluators: numbers worked by hand, those of sentence-transformers 6 on the same scores, files, and errors.

The arguments and columns of the `CE...` evaluators are those of sentence-transformers 3.4, written down here.
"""

import csv
import inspect
import logging
import math

import numpy as np
import pytest
import scipy.stats
import sentence_transformers.cross_encoder.evaluation as theirs
import sklearn.metrics

import crossenc_kit
from crossenc_kit import (
    CEBinaryAccuracyEvaluator,
    CEBinaryClassificationEvaluator,
    CECorrelationEvaluator,
    CEF1Evaluator,
    CERerankingEvaluator,
    CESoftmaxAccuracyEvaluator,
    CrossEncoder,
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
    CrossEncoderRerankingEvaluator,
    DataError,
    InputExample,
    word_overlap,
)

OLDER = [CEBinaryAccuracyEvaluator, CEBinaryClassificationEvaluator, CECorrelationEvaluator]
OLDER += [CEF1Evaluator, CESoftmaxAccuracyEvaluator]
LATER = [CrossEncoderClassificationEvaluator, CrossEncoderCorrelationEvaluator]
OF_PAIRS = pytest.mark.parametrize("kind", OLDER + LATER)
OF_SAMPLES = pytest.mark.parametrize("kind", [CERerankingEvaluator, CrossEncoderRerankingEvaluator])
BINARY_COLUMNS = ["Accuracy", "Accuracy_Threshold", "F1", "F1_Threshold", "Precision", "Recall", "Average_Precision"]
DISCOUNT = [1 / math.log2(rank + 1) for rank in range(1, 10)]


class Model:
    """A model whose scores are given: in the order of the pairs, or by the second text; it notes how it was called."""

    def __init__(self, scores, num_labels=1):
        self.scores, self.num_labels, self.calls = scores, num_labels, []
        self.model_card_data = self  # for the evaluators of sentence-transformers

    def predict(self, pairs, **options):
        self.calls.append((pairs, options))
        if isinstance(self.scores, dict):
            return np.array([self.scores[right] for _, right in pairs])
        return np.asarray(self.scores)

    def set_evaluation_metrics(self, *_):
        pass


def saying(classes, num_labels):
    """A model whose highest score is that of the given classes."""
    return Model(np.eye(num_labels)[classes] - 0.5, num_labels)


def pairs_of(labels):
    return [[f"left {row}", f"right {row}"] for row in range(len(labels))]


def of(kind, labels, *options, **named):
    """An evaluator of pairs with the given labels."""
    return kind(pairs_of(labels), labels, *options, **named)


def rows_of(folder, name):
    with open(folder / name, newline="") as file:
        header, *rows = csv.reader(file)
    return header, [[float(cell) for cell in row] for row in rows]


def spelled(kind):
    """The arguments of a constructor, in words."""
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(kind).parameters.values()]
    return str(inspect.Signature(parameters))[1:-1]


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


def scores_by_text(texts, seed):
    """A score for every text, no two alike."""
    rng = np.random.default_rng(seed)
    return dict(zip(texts, rng.permutation(len(texts)) + rng.random(len(texts)) / 2, strict=True))


def first_stages(seed, with_negatives):
    """Samples of 3 to 10 documents: of up to 4 positives some are found, some not, and now and then none."""
    rng = np.random.default_rng(seed)
    for number in range(25):
        positive = [f"{number} right {i}" for i in range(rng.integers(1, 5))]
        negative = [f"{number} wrong {i}" for i in range(rng.integers(3, 7))]
        if with_negatives:
            yield {"query": f"query {number}", "positive": positive, "negative": negative}
            continue
        documents = [*rng.permutation(positive)[: rng.integers(0, len(positive) + 1)].tolist(), *negative]
        yield {"query": f"query {number}", "positive": positive, "documents": rng.permutation(documents).tolist()}


class TestAgainstSentenceTransformers6:
    def agree(self, tmp_path, ours, other, model):
        """Both evaluators: the same values, files and calls of the model."""
        for epoch, steps in ((-1, -1), (2, 70)):
            found = ours(model, str(tmp_path / "ours"), epoch, steps)
            expected = other(model, str(tmp_path / "theirs"), epoch, steps)
            assert list(found) == list(expected)
            assert found == pytest.approx(expected, abs=1e-9)
            assert {type(value) for value in found.values()} == {float}
            assert ours.primary_metric == other.primary_metric
            assert ours.primary_metric in found
        assert ours.csv_file == other.csv_file
        header, rows = rows_of(tmp_path / "ours", ours.csv_file)
        expected_header, expected_rows = rows_of(tmp_path / "theirs", other.csv_file)
        assert header == expected_header
        assert rows == [pytest.approx(row, abs=1e-9) for row in expected_rows]
        (pairs, options), (expected_pairs, expected_options) = model.calls[-2:]
        assert [list(pair) for pair in pairs] == [list(pair) for pair in expected_pairs]
        assert options == {key: value for key, value in expected_options.items() if key != "prompt_name"}

    @pytest.mark.parametrize("name", ["", "dev"])
    @pytest.mark.parametrize("seed", range(8))
    def test_classification_with_one_score(self, tmp_path, seed, name):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(61) % 2)
        scores = labels + rng.normal(size=61)
        options = {"name": name, "batch_size": 7}
        ours = of(CrossEncoderClassificationEvaluator, labels, **options)
        other = of(theirs.CrossEncoderClassificationEvaluator, labels, **options)
        assert best_cuts(scores, labels) == 1  # of thresholds with the same F1 either might be given
        self.agree(tmp_path, ours, other, Model(scores))

    @pytest.mark.parametrize("name", ["", "dev"])
    @pytest.mark.parametrize("num_labels", [2, 3, 5])
    def test_classification_with_a_score_a_class(self, tmp_path, num_labels, name):
        rng = np.random.default_rng(num_labels)
        labels = rng.integers(0, num_labels, size=50).tolist()
        model = Model(rng.normal(size=(50, num_labels)) + np.eye(num_labels)[labels], num_labels)
        ours = of(CrossEncoderClassificationEvaluator, labels, name=name)
        self.agree(tmp_path, ours, of(theirs.CrossEncoderClassificationEvaluator, labels, name=name), model)

    @pytest.mark.parametrize("name", ["", "dev"])
    @pytest.mark.parametrize("precision", [np.float64, np.float32])
    def test_correlation(self, tmp_path, precision, name):
        rng = np.random.default_rng(3)
        labels = rng.random(80).tolist()
        model = Model((labels + rng.normal(size=80)).astype(precision))
        ours = of(CrossEncoderCorrelationEvaluator, labels, name, batch_size=9, show_progress_bar=True)
        options = {"name": name, "batch_size": 9, "show_progress_bar": True}
        self.agree(tmp_path, ours, of(theirs.CrossEncoderCorrelationEvaluator, labels, **options), model)

    @pytest.mark.parametrize("name", ["", "dev"])
    @pytest.mark.parametrize("at_k", [1, 3, 10])
    @pytest.mark.parametrize("always", [True, False])
    @pytest.mark.parametrize("kinds", ["documents", "negative", "both"])
    def test_reranking(self, tmp_path, kinds, always, at_k, name):
        samples = []
        samples += first_stages(at_k, with_negatives=False) if kinds != "negative" else []
        samples += first_stages(at_k + 50, with_negatives=True) if kinds != "documents" else []
        if kinds != "negative":  # the data are as they should be: found in part, in whole, and not at all
            found = [np.isin(s["positive"], s["documents"]).mean() for s in samples if "documents" in s]
            assert {0, 1} < set(found)
        texts = {t for s in samples for key in ("positive", "negative", "documents") for t in s.get(key, [])}
        model = Model(scores_by_text(sorted(texts), at_k))
        options = {"at_k": at_k, "always_rerank_positives": always, "name": name, "batch_size": 5}
        ours = CrossEncoderRerankingEvaluator(samples, **options)
        self.agree(tmp_path, ours, theirs.CrossEncoderRerankingEvaluator(samples, **options), model)

    @pytest.mark.parametrize("kind", [CrossEncoderClassificationEvaluator, CrossEncoderCorrelationEvaluator])
    def test_the_arguments_of_pairs(self, kind):
        assert "prompt_name" not in spelled(kind)
        same = spelled(getattr(theirs, kind.__name__)).replace(", prompt_name=None", "").replace(", **kwargs", "")
        assert spelled(kind).replace("*, ", "") == same.replace("*, ", "")

    def test_the_arguments_of_samples(self):
        same = spelled(theirs.CrossEncoderRerankingEvaluator).replace(", prompt_name=None", "")
        ours = spelled(CrossEncoderRerankingEvaluator).replace("*, ", "")
        assert ours == same.replace("always_rerank_positives=True", "always_rerank_positives=False")


def best_cuts(scores, labels):
    """At how many places between scores the F1 is highest, up to rounding."""
    hits = np.cumsum(labels[np.argsort(-scores)])
    f1 = 2 * hits / (np.arange(1, len(labels) + 1) + hits[-1])
    return int((f1 > f1.max() - 1e-12).sum())


class TestAgainstScikitLearn:
    """The older ones on random scores; sentence-transformers 3.4 calls these functions."""

    @pytest.mark.parametrize("num_labels", [2, 3, 4])
    def test_f1(self, tmp_path, num_labels):
        rng = np.random.default_rng(num_labels)
        labels = rng.integers(0, num_labels, size=80)
        scores = rng.normal(size=(80, num_labels)) + np.eye(num_labels)[labels]
        found = of(CEF1Evaluator, labels)(Model(scores, num_labels), tmp_path)
        averages = ["binary"] if num_labels == 2 else ["macro", "micro", "weighted"]
        expected = [sklearn.metrics.f1_score(labels, scores.argmax(axis=1), average=kind) for kind in averages]
        assert found == pytest.approx(expected[0])
        assert rows_of(tmp_path, "CEF1Evaluator_results.csv")[1] == [pytest.approx([-1, -1, *expected])]

    def test_one_number_each(self):
        rng = np.random.default_rng(0)
        scores, labels, gold = rng.normal(size=80), rng.integers(0, 2, size=80), rng.random(80)
        model = Model(scores)
        expected = sklearn.metrics.average_precision_score(labels, scores)
        assert of(CEBinaryClassificationEvaluator, labels)(model) == pytest.approx(expected)
        expected = sklearn.metrics.accuracy_score(labels, scores > 0.2)
        assert of(CEBinaryAccuracyEvaluator, labels, threshold=0.2)(model) == pytest.approx(expected)
        assert of(CECorrelationEvaluator, gold)(model) == pytest.approx(scipy.stats.spearmanr(gold, scores).statistic)


class TestInterface:
    def test_a_function_of_pairs_is_a_scorer_too(self):
        pairs, labels = [("a b", "a b"), ("a b", "a c"), ("a b", "c d")], [1.0, 0.4, 0.1]
        assert CECorrelationEvaluator(pairs, labels)(word_overlap) == pytest.approx(1.0)
        samples = [{"query": "a b", "positive": ["a b"], "negative": ["b c", "d"]}]
        assert CERerankingEvaluator(samples)(word_overlap) == 1.0
        assert CrossEncoderRerankingEvaluator(samples)(word_overlap)["mrr@10"] == 1.0

    @pytest.mark.parametrize(
        ("kind", "arguments"),
        [
            (CEBinaryAccuracyEvaluator, "sentence_pairs, labels, name='', threshold=0.5, write_csv=True"),
            (
                CEBinaryClassificationEvaluator,
                "sentence_pairs, labels, name='', show_progress_bar=False, write_csv=True",
            ),
            (CECorrelationEvaluator, "sentence_pairs, scores, name='', write_csv=True"),
            (
                CEF1Evaluator,
                "sentence_pairs, labels, *, batch_size=32, show_progress_bar=False, name='', write_csv=True",
            ),
            (CESoftmaxAccuracyEvaluator, "sentence_pairs, labels, name='', write_csv=True"),
            (CERerankingEvaluator, "samples, at_k=10, name='', write_csv=True, mrr_at_k=None"),
        ],
    )
    def test_the_arguments_of_3_4(self, kind, arguments):
        assert spelled(kind) == arguments
        assert spelled(kind.__call__) == "self, model, output_path=None, epoch=-1, steps=-1"

    @OF_PAIRS
    def test_input_examples(self, kind):
        labels = [0, 1, 1, 0]
        examples = [InputExample(texts=pair, label=label) for pair, label in zip(pairs_of(labels), labels, strict=True)]
        evaluator = kind.from_input_examples(examples, name="dev", write_csv=False)
        assert type(evaluator) is kind
        assert (evaluator.name, evaluator.write_csv) == ("dev", False)
        assert (evaluator.sentence_pairs, list(evaluator.labels)) == (pairs_of(labels), labels)

    @OF_PAIRS
    @pytest.mark.parametrize("form", [tuple, np.asarray, lambda labels: np.asarray(labels, dtype=np.float32)])
    def test_labels_and_pairs_in_other_forms(self, kind, form):
        labels = [0, 1, 1, 0]
        evaluator = kind(np.array(pairs_of(labels)), form(labels))
        assert (evaluator.sentence_pairs, list(evaluator.labels)) == (pairs_of(labels), labels)

    @OF_SAMPLES
    def test_reranking_knows_no_input_examples(self, kind):
        assert not hasattr(kind, "from_input_examples")

    @pytest.mark.parametrize(
        ("evaluator", "options"),
        [
            (of(CEBinaryAccuracyEvaluator, [0, 1]), {"show_progress_bar": False}),
            (of(CEBinaryClassificationEvaluator, [0, 1], "", True), {"show_progress_bar": True}),
            (of(CEBinaryClassificationEvaluator, [0, 1]), {"show_progress_bar": False}),
            (of(CECorrelationEvaluator, [0, 1]), {"show_progress_bar": False}),
            (CERerankingEvaluator([{"query": "q", "positive": "p", "negative": "n"}]), {"show_progress_bar": False}),
        ],
    )
    def test_what_a_model_with_one_score_is_asked(self, evaluator, options):
        model = Model([0.25, 0.75])
        evaluator(model)
        [(_, asked)] = model.calls
        assert asked == {"convert_to_numpy": True, **options}

    def test_what_a_model_with_a_score_a_class_is_asked(self):
        model = saying([0, 1], 2)
        of(CESoftmaxAccuracyEvaluator, [0, 1])(model)
        of(CEF1Evaluator, [0, 1])(model)
        of(CEF1Evaluator, [0, 1], batch_size=3, show_progress_bar=True)(model)
        assert [asked for _, asked in model.calls] == [
            {"convert_to_numpy": True, "show_progress_bar": False},
            {"convert_to_numpy": True, "show_progress_bar": False, "batch_size": 32},
            {"convert_to_numpy": True, "show_progress_bar": True, "batch_size": 3},
        ]

    @pytest.mark.parametrize(
        "kind",
        [CEBinaryClassificationEvaluator, CrossEncoderClassificationEvaluator, CrossEncoderCorrelationEvaluator],
    )
    @pytest.mark.parametrize(
        ("level", "shown"), [(logging.INFO, True), (logging.DEBUG, True), (logging.WARNING, False)]
    )
    def test_a_progress_bar_that_is_not_asked_for_is_shown_where_the_log_shows_info(self, caplog, kind, level, shown):
        caplog.set_level(level)
        model = Model([0.25, 0.75])
        of(kind, [0, 1], show_progress_bar=None)(model)
        of(kind, [0, 1], show_progress_bar=False)(model)
        assert [asked["show_progress_bar"] for _, asked in model.calls] == [shown, False]

    def test_the_older_name_of_at_k(self, caplog):
        samples = [{"query": "q", "positive": ["p"], "negative": ["n"]}]
        for kind in (CERerankingEvaluator, CrossEncoderRerankingEvaluator):
            caplog.clear()
            evaluator = kind(samples, 10, mrr_at_k=1)
            assert caplog.messages == ["mrr_at_k is an older name: use at_k=1"]
            assert evaluator.csv_file == f"{kind.__name__}_results_@1.csv"
        assert evaluator(Model({"p": 0.1, "n": 0.2})) == {"map": 1 / 2, "mrr@1": 0, "ndcg@1": 0}

    def test_a_second_call_adds_a_row(self, tmp_path):
        evaluator, folder = of(CEBinaryAccuracyEvaluator, [0, 1]), tmp_path / "not" / "there yet"
        evaluator(Model([0.1, 0.9]), str(folder), epoch=0, steps=-1)
        evaluator(Model([0.9, 0.1]), str(folder), epoch=1, steps=500)
        header, rows = rows_of(folder, "CEBinaryAccuracyEvaluator_results.csv")
        assert (header, rows) == (["epoch", "steps", "Accuracy"], [[0, -1, 1], [1, 500, 0]])
        assert [path.name for path in folder.iterdir()] == ["CEBinaryAccuracyEvaluator_results.csv"]

    def test_no_file_without_a_folder_or_where_none_is_wanted(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        of(CEBinaryAccuracyEvaluator, [0, 1])(Model([0.1, 0.9]))
        of(CEBinaryAccuracyEvaluator, [0, 1], write_csv=False)(Model([0.1, 0.9]), str(tmp_path))
        samples = [{"query": "q", "positive": "p", "negative": "n"}]
        for kind in (CERerankingEvaluator, CrossEncoderRerankingEvaluator):
            kind(samples, write_csv=False)(Model([0.1, 0.9]), tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_results_of_other_columns_are_refused(self, tmp_path):
        of(CEF1Evaluator, [0, 1])(saying([0, 1], 2), tmp_path)
        with pytest.raises(ValueError, match="write to another file"):
            of(CEF1Evaluator, [0, 1, 2])(saying([0, 1, 2], 3), tmp_path)

    def test_the_log(self, caplog):
        caplog.set_level(logging.INFO)
        of(CEBinaryAccuracyEvaluator, [0, 1], "dev")(Model([0.1, 0.2]), epoch=1, steps=20)
        assert caplog.messages == ["CEBinaryAccuracyEvaluator dev, epoch 1, steps 20: Accuracy 0.5000"]
        caplog.clear()
        CERerankingEvaluator([{"query": "q", "positive": "p", "negative": negative} for negative in ("n", [])])
        assert caplog.messages == ["1 of 2 samples have positives and negatives"]

    def test_a_text_that_is_there_twice_is_told_of(self, caplog):
        CERerankingEvaluator([GOOD, {"query": "q", "positive": ["p"], "negative": ["p", "n"]}], name="dev")
        assert caplog.messages == [
            "CERerankingEvaluator dev: 1 of 2 samples have a text more than once among their candidates, and each "
            "counts; the first is sample 1",
            "CERerankingEvaluator dev: 1 of 2 samples have a text both as a positive and as a negative; "
            "the first is sample 1",
        ]
        caplog.clear()
        CrossEncoderRerankingEvaluator([{"query": "q", "positive": "a", "documents": ["a", "a", "b"]}, STAGE])
        (said,) = caplog.messages
        assert said.startswith("CrossEncoderRerankingEvaluator: 1 of 2 samples have a text more than once")

    def test_what_base_is_over_is_logged(self, caplog):
        """The order left as it was: over the one positive found, and beside it over both."""
        caplog.set_level(logging.INFO)
        sample = {"query": "q", "positive": ["a", "c"], "documents": ["a", "b"]}
        found = CrossEncoderRerankingEvaluator([sample])(Model([2.0, 1.0]))
        assert found["ndcg@10"] == 1 > found["base_ndcg@10"]
        (said,) = [message for message in caplog.messages if "found positives only" in message]
        assert said.endswith("the model's figures are over found positives only, base_ counts missed ones")

    @OF_PAIRS
    def test_the_lists_of_the_caller_are_left_as_they_were(self, kind):
        pairs, labels = pairs_of([0, 1]), [0, 1]
        kind(pairs, labels).sentence_pairs[0][0] = "other"
        assert (pairs, labels) == (pairs_of([0, 1]), [0, 1])


GOOD = {"query": "q", "positive": ["p"], "negative": ["n", "m"]}
STAGE = {"query": "q", "positive": ["p"], "documents": ["x", "p"]}


def without(sample, key):
    return {name: value for name, value in sample.items() if name != key}


class TestErrorsOfPairs:
    @OF_PAIRS
    @pytest.mark.parametrize(
        ("pairs", "labels", "message"),
        [
            (pairs_of([0, 1]), [0, 1, 1], r"^2 sentence_pairs, but 3 labels; expected one a pair$"),
            ([], [], r"^there are no sentence_pairs to score$"),
            ([["a", "b"], ["a", None]], [0, 1], r"^row 1, text 1: the text is missing \(None\)"),
            ([[math.nan, "b"], ["a", "b"]], [0, 1], r"^row 0, text 0: the text is missing \(nan\)"),
            ([["a", "b"], ["a", 7]], [0, 1], r"^row 1, text 1: expected a string, got int '7'"),
            ([["a", "b"], ["a", "b", "c"]], [0, 1], r"^row 1: a pair has two texts, got 3$"),
            ([["a", "b"], ["a"]], [0, 1], r"^row 1: a pair has two texts, got 1$"),
            (["ab", "cd"], [0, 1], r"^row 0: expected two texts, got str 'ab'$"),
            ([None, ["a", "b"]], [0, 1], r"^row 0: expected two texts, got NoneType"),
            (pairs_of([0, 1]), [0, "entailment"], r"^row 1: the label is the string 'entailment'; map label names"),
            (pairs_of([0, 1]), [0, None], r"^row 1: the label is None; expected a number$"),
            (pairs_of([0, 1]), [0, math.nan], r"^row 1: the label is nan; drop the row or give it a finite label$"),
            (pairs_of([0, 1]), [0, [1, 0]], r"^row 1: the label is \[1, 0\]; expected one number a pair$"),
        ],
    )
    def test_pairs_and_labels(self, kind, pairs, labels, message):
        with pytest.raises(DataError, match=message):
            kind(pairs, labels)

    @pytest.mark.parametrize("kind", [CEBinaryAccuracyEvaluator, CEBinaryClassificationEvaluator])
    @pytest.mark.parametrize("label", [2, -1, 0.5])
    def test_labels_that_are_not_0_or_1(self, kind, label):
        with pytest.raises(DataError, match=rf"^row 2: the label is {label}; expected 0 or 1$"):
            of(kind, [0, 1, label])

    @pytest.mark.parametrize("kind", [CEF1Evaluator, CESoftmaxAccuracyEvaluator, CrossEncoderClassificationEvaluator])
    @pytest.mark.parametrize("label", [-1, 1.5])
    def test_labels_that_are_no_class(self, kind, label):
        with pytest.raises(
            DataError, match=rf"^row 3: the label is {label}; expected the index of a class, a whole number from 0$"
        ):
            of(kind, [0, 1, 2, label])

    @pytest.mark.parametrize("kind", [CEF1Evaluator, CESoftmaxAccuracyEvaluator, CrossEncoderClassificationEvaluator])
    def test_a_label_that_the_model_does_not_have(self, kind):
        with pytest.raises(DataError, match=r"^row 3: the label is 3; expected a class of the model, 0 to 2$"):
            of(kind, [0, 1, 2, 3])(saying([0, 1, 2, 2], 3))

    def test_labels_of_a_model_with_one_score_are_0_and_1(self):
        for labels, message in ([0, 1, 2], "row 2: the label is 2; expected 0 or 1"), ([1, 1], "all 2 labels are 1;"):
            with pytest.raises(DataError, match=message):
                of(CrossEncoderClassificationEvaluator, labels)(Model([0.1] * len(labels)))

    @pytest.mark.parametrize(
        "kind",
        [
            CEBinaryClassificationEvaluator,
            CECorrelationEvaluator,
            CEF1Evaluator,
            CrossEncoderCorrelationEvaluator,
        ],
    )
    @pytest.mark.parametrize("labels", [[1, 1, 1], [0]])
    def test_labels_that_are_all_equal(self, kind, labels):
        message = rf"^all {len(labels)} labels are {labels[0]}; expected at least two different ones$"
        with pytest.raises(DataError, match=message):
            of(kind, labels)

    def test_equal_labels_have_an_accuracy(self):
        assert of(CEBinaryAccuracyEvaluator, [1, 1])(Model([0.9, 0.1])) == 1 / 2
        assert of(CESoftmaxAccuracyEvaluator, [1])(saying([1], 3)) == 1

    def test_binary_f1_has_two_classes(self):
        with pytest.raises(DataError, match=r"^row 1: the label is 2; expected 0 or 1$"):
            of(CEF1Evaluator, [1, 2])
        evaluator = of(CEF1Evaluator, [0, 1, 1])
        assert evaluator(saying([0, 1, 0], 3)) == pytest.approx(2 / 3)  # as in 3.4, a third class may be there
        with pytest.raises(DataError, match=r"^row 1: the model predicts class 2, but the labels are 0 and 1 only"):
            evaluator(saying([0, 2, 0], 3))

    @pytest.mark.parametrize("kind", [k for k in OLDER + LATER if k not in (CEF1Evaluator, CESoftmaxAccuracyEvaluator)])
    @pytest.mark.parametrize("shape", [(2, 3), (2, 1), (3,), (), (2, 1, 1)])
    def test_a_model_without_one_score_a_pair(self, kind, shape):
        message = rf"^{kind.__name__} needs one score a pair, from a model with num_labels=1; got scores of shape \("
        with pytest.raises(DataError, match=message):
            of(kind, [0, 1])(Model(np.zeros(shape)))

    @pytest.mark.parametrize("kind", [CEF1Evaluator, CESoftmaxAccuracyEvaluator, CrossEncoderClassificationEvaluator])
    @pytest.mark.parametrize("shape", [(2,), (2, 1), (3, 2), (), (2, 2, 2)])
    def test_a_model_without_a_score_a_class(self, kind, shape):
        message = (
            rf"^{kind.__name__} needs one score a class, from a model with num_labels of 2 or more; got .* 2 pairs$"
        )
        with pytest.raises(DataError, match=message):
            of(kind, [0, 1])(Model(np.zeros(shape), num_labels=2))

    @OF_PAIRS
    def test_scores_that_are_not_finite(self, kind, tmp_path):
        several = kind in (CEF1Evaluator, CESoftmaxAccuracyEvaluator)
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
            ({}, r"^there are no samples to rank$"),
            ([GOOD, without(GOOD, "query")], r"^sample 1: no 'query' among \['positive', 'negative'\]$"),
            ([GOOD, without(GOOD, "positive")], r"^sample 1: no 'positive' among"),
            ([GOOD, ("q", "p", "n")], r"^sample 1: expected a dict with query, positive and .*, got tuple$"),
            ([GOOD, None], r"^sample 1: expected a dict with query, positive and .*, got NoneType$"),
            ([GOOD, {**GOOD, "query": None}], r"^sample 1, query: the text is missing \(None\)"),
            ([GOOD, {**GOOD, "query": ["q"]}], r"^sample 1, query: expected a string, got list"),
            ([GOOD, {**GOOD, "positive": None}], r"^sample 1, positive: the text is missing \(None\)"),
            ([GOOD, {**GOOD, "positive": ["p", None]}], r"^sample 1, positive\[1\]: the text is missing \(None\)"),
            ([GOOD, {**GOOD, "negative": ["n", 3]}], r"^sample 1, negative\[1\]: expected a string, got int '3'"),
            ({"a": GOOD, "b": {**GOOD, "negative": {}}}, r"^sample 1, negative: expected a string, got dict"),
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
        with pytest.raises(DataError, match=r"^sample 0: documents must be in order, got set$"):
            CrossEncoderRerankingEvaluator([{**STAGE, "documents": {"x", "p"}}])
        with pytest.raises(DataError, match=r"^sample 0, documents\[1\]: the text is missing \(None\)"):
            CrossEncoderRerankingEvaluator([{**STAGE, "documents": ["x", None]}])

    @OF_SAMPLES
    def test_a_model_with_a_score_a_class(self, kind):
        message = rf"^{kind.__name__} needs one score a pair, .*; got scores of shape \(3, 2\) for 3 pairs$"
        with pytest.raises(DataError, match=message):
            kind([GOOD])(Model(np.zeros((3, 2)), 2))

    @OF_SAMPLES
    def test_scores_that_are_not_finite(self, kind, tmp_path):
        samples = [{**GOOD, "negative": ["n"]}, {**GOOD, "positive": []}, {**GOOD, "negative": ["n", "odd"]}]
        message = r"^the model gave nan for sample 2, candidate 2 \('odd'\) \(1 of 5 scores are not finite\)$"
        with pytest.raises(DataError, match=message):
            kind(samples)(Model({"p": 0.5, "n": 0.1, "m": 0.2, "odd": math.nan}), tmp_path)
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def one():
    return CrossEncoder("tiny", num_labels=1, seed=0, device="cpu")


@pytest.fixture(scope="module")
def three():
    return CrossEncoder("tiny", num_labels=3, seed=0, device="cpu")


@pytest.mark.filterwarnings("ignore:the head of")  # untrained on purpose
class TestARealModel:
    TEXTS = (("a cat", "the cat sat"), ("a dog", "rain"), ("red", "green and blue"), ("one", "two"), ("sun", "a star"))

    def test_one_score(self, one, tmp_path):
        labels, gold = np.array([1, 0, 1, 0, 1]), [0.9, 0.1, 0.3, 0.2, 0.8]
        scores = one.predict(self.TEXTS)
        assert scores.dtype == np.float32
        cut = float(np.median(scores))  # one of the scores: that pair is said to be 0
        found = CEBinaryAccuracyEvaluator(self.TEXTS, labels, threshold=cut)(one, tmp_path)
        assert found == np.mean((scores > np.float32(cut)) == labels)
        precision = sklearn.metrics.average_precision_score(labels, scores)
        assert CEBinaryClassificationEvaluator(self.TEXTS, labels)(one, tmp_path) == pytest.approx(precision)
        rank = scipy.stats.spearmanr(scores, gold).statistic
        assert CECorrelationEvaluator(self.TEXTS, gold)(one, tmp_path) == pytest.approx(rank)
        assert CrossEncoderCorrelationEvaluator(self.TEXTS, gold)(one, tmp_path)["spearman"] == pytest.approx(rank)
        found = CrossEncoderClassificationEvaluator(self.TEXTS, labels)(one, tmp_path)
        assert found["average_precision"] == pytest.approx(precision)
        assert np.mean((scores > np.float32(found["accuracy_threshold"])) == labels) == found["accuracy"]
        assert len(list(tmp_path.iterdir())) == 5

    def test_a_score_a_class(self, three, tmp_path):
        labels = [0, 1, 2, 1, 0]
        predicted = three.predict(self.TEXTS).argmax(axis=1)
        macro = sklearn.metrics.f1_score(labels, predicted, average="macro")
        assert CESoftmaxAccuracyEvaluator(self.TEXTS, labels)(three, tmp_path) == np.mean(predicted == labels)
        assert CEF1Evaluator(self.TEXTS, labels)(three, tmp_path) == pytest.approx(macro)
        found = CrossEncoderClassificationEvaluator(self.TEXTS, labels)(three, tmp_path)
        assert found["f1_macro"] == pytest.approx(macro)
        assert len(list(tmp_path.iterdir())) == 3

    def test_reranking(self, one, tmp_path):
        documents = ["a cat sat there", "dogs", "it rains in the north", "a cat"]
        order = np.argsort(-one.predict([("which animal sat", text) for text in documents]))
        rank = order.tolist().index(0) + 1
        samples = [{"query": "which animal sat", "positive": documents[0], "negative": documents[1:]}]
        assert CERerankingEvaluator(samples)(one, tmp_path) == 1 / rank
        samples = [{"query": "which animal sat", "positive": documents[0], "documents": documents}]
        found = CrossEncoderRerankingEvaluator(samples)(one, tmp_path)
        assert found == pytest.approx(
            {
                **{"map": 1 / rank, "mrr@10": 1 / rank, "ndcg@10": 1 / math.log2(rank + 1)},
                **{"base_map": 1, "base_mrr@10": 1, "base_ndcg@10": 1},
            }
        )
        assert len(list(tmp_path.iterdir())) == 2

    def test_models_with_the_wrong_number_of_scores(self, one, three):
        with pytest.raises(DataError, match=r"needs one score a pair, .* got scores of shape \(5, 3\) for 5 pairs$"):
            CECorrelationEvaluator(self.TEXTS, range(5))(three)
        with pytest.raises(DataError, match=r"needs one score a class, .* got scores of shape \(5,\) for 5 pairs$"):
            CESoftmaxAccuracyEvaluator(self.TEXTS, [0, 1, 2, 1, 0])(one)


def test_every_evaluator_is_a_public_name():
    for kind in [*OLDER, *LATER, CERerankingEvaluator, CrossEncoderRerankingEvaluator]:
        assert getattr(crossenc_kit, kind.__name__) is kind
        assert kind.__doc__
        assert "sentence-transformers" in inspect.getmodule(kind).__doc__
