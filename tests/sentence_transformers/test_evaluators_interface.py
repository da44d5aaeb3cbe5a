"""Evaluators' arguments, files and log, as in sentence-transformers 3.4 and 6, and with a real model."""

import logging
import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from small_peer import OF_PAIRS, Model, of, pairs_of, rows_of, saying, spelled

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
    InputExample,
    word_overlap,
)


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
