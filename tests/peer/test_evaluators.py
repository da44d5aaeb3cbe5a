"""Evaluators against those of sentence-transformers 6 and scikit-learn's functions, on the same scores."""

import numpy as np
import pytest
import scipy.stats
import sentence_transformers.cross_encoder.evaluation as theirs
import sklearn.metrics
from small_peer import Model, of, rows_of, spelled

from crossenc_kit import (
    CEBinaryAccuracyEvaluator,
    CEBinaryClassificationEvaluator,
    CECorrelationEvaluator,
    CEF1Evaluator,
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
    CrossEncoderRerankingEvaluator,
)


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
