"""Functions and models as scorers: raw scores where documents are ordered, models of another library included."""

import numpy as np
import pytest
import torch
from torch import nn

from crossenc_kit import Collection, CrossEncoder, bm25_index, cached_scores, mine_hard_negatives, read_ranking, rerank
from crossenc_kit.data.documents import rank_candidates
from crossenc_kit.distillation.augmentation import label_pairs
from crossenc_kit.evaluation.reranking import evaluate_collections
from crossenc_kit.inference.long_documents import chunked
from crossenc_kit.scorers import as_scorer, raw_options, raw_scorer, saturates

PAIRS = [("how long to boil an egg", "Seven minutes."), ("how long to boil an egg", "Paint it with a brush.")]
TEXTS = {"d1": "Boil it for seven minutes.", "d2": "Paint it with a fine brush.", "d3": "An egg weighs sixty grams."}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights whose raw scores are all above 17: their sigmoid is 1."""
    model = CrossEncoder("tiny", num_labels=1, seed=0)
    with torch.no_grad():
        list(model.model.parameters())[-1].add_(40)
    path = tmp_path_factory.mktemp("models") / "far"
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def far(folder):
    return CrossEncoder(folder)


@pytest.fixture(scope="module")
def peer(folder):
    return pytest.importorskip("sentence_transformers").CrossEncoder(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("activation", "bounded"),
    [
        (nn.Sigmoid(), True),
        (nn.Tanh(), True),
        (nn.Hardsigmoid(), True),
        (nn.Identity(), False),
        (nn.Softplus(), False),
        (lambda x: 1 - torch.sigmoid(x), False),  # falls: the raw order would be another one
        (nn.Softmax(dim=1), False),  # of one label it is always 1
        (None, False),
        ("sigmoid", False),
    ],
)
def test_what_saturates(activation, bounded):
    assert saturates(activation) is bounded


def test_a_function_is_taken_as_it_is_and_so_is_a_method():
    def constant(pairs):
        return [1.0] * len(pairs)

    assert as_scorer(constant) is constant
    assert raw_scorer(constant) is constant
    assert raw_options(constant) == {}


@pytest.mark.parametrize("nothing", [None, 3, "minilm"])
def test_what_is_no_scorer(nothing):
    with pytest.raises(TypeError, match="a scorer is a function of text pairs or a model with a method predict, got"):
        raw_scorer(nothing)


def test_raw_scores_of_a_model_with_a_sigmoid(far):
    assert far.predict(PAIRS).tolist() == [1.0, 1.0]
    assert raw_scorer(far)(PAIRS) == pytest.approx(far.predict(PAIRS, activation_fn="identity"))
    assert raw_scorer(far.predict)(PAIRS).tolist() == [1.0, 1.0]
    assert raw_options(CrossEncoder("tiny", num_labels=3)) == {}


class TestRank:
    def test_equal_scores_are_ordered_by_what_they_were_before_the_activation(self, far):
        raw = far.predict([("egg", text) for text in TEXTS.values()], activation_fn="identity")
        worst_first = [list(TEXTS.values())[place] for place in np.argsort(raw)]
        hits = far.rank("egg", worst_first)
        assert [hit["corpus_id"] for hit in hits] == [2, 1, 0]
        assert [hit["score"] for hit in hits] == [1.0, 1.0, 1.0]

    def test_an_activation_that_falls_turns_the_order_round(self, far):
        hits = far.rank("egg", TEXTS, activation_fn=lambda raw: -raw)
        straight = far.rank("egg", TEXTS, activation_fn="identity")
        assert [hit["id"] for hit in hits] == [hit["id"] for hit in straight][::-1]
        assert hits[0]["score"] == pytest.approx(-straight[-1]["score"])

    def test_shown_scores_come_first_and_ties_in_both_keep_their_order(self):
        scores = [1.0, 3.0, 2.0, 2.0]
        (hits,) = rank_candidates(lambda pairs: scores, ["q"], [list("abcd")], shown=lambda raw: np.minimum(raw, 2))
        assert [(hit["corpus_id"], hit["score"]) for hit in hits] == [(1, 2.0), (2, 2.0), (3, 2.0), (0, 1.0)]

    @pytest.mark.parametrize("options", [{"convert_to_tensor": True}, {"activation_fct": nn.Tanh()}, {"batch_size": 1}])
    def test_options_of_predict(self, far, options):
        expected = [float(score) for score in far.predict([("egg", text) for text in TEXTS.values()], **options)]
        assert {hit["corpus_id"]: hit["score"] for hit in far.rank("egg", TEXTS, **options)} == pytest.approx(
            dict(enumerate(expected))
        )


class TestWhereDocumentsAreOrdered:
    def test_windows(self, far):
        raw = far.predict(PAIRS, activation_fn="identity")
        assert chunked(far)(PAIRS) == pytest.approx(raw)
        assert chunked(far, unit="tokens")(PAIRS) == pytest.approx(raw)

    def test_evaluators_of_the_older_call_style(self, far):
        from crossenc_kit.sentence_transformers.reranking import CERerankingEvaluator

        raw = far.predict([("egg", text) for text in TEXTS.values()], activation_fn="identity")
        texts = [list(TEXTS.values())[place] for place in np.argsort(raw)]  # the worst first
        sample = {"query": "egg", "positive": texts[-1:], "negative": texts[:-1]}
        assert CERerankingEvaluator([sample])(far) == 1.0


class TestModelsOfSentenceTransformers:
    def test_rerank_and_evaluate(self, far, peer):
        collection, run = Collection({"q": "egg"}, TEXTS), {"q": dict.fromkeys(TEXTS, 0.0)}
        ours, theirs = (rerank(model, collection, run) for model in (far, peer))
        assert list(ours["q"]) == list(theirs["q"])
        assert theirs["q"] == pytest.approx(ours["q"], abs=1e-4)

    def test_windows(self, far, peer):
        assert chunked(peer)(PAIRS) == pytest.approx(chunked(far)(PAIRS), abs=1e-4)

    def test_kept_scores(self, far, peer, tmp_path):
        raw = {"activation_fn": "identity"}
        found = cached_scores(peer, PAIRS, tmp_path, teacher="peer 1", settings=raw)
        assert found == pytest.approx(far.predict(PAIRS, **raw), abs=1e-4)

    def test_labels_without_a_cache(self, far, peer):
        raw = {"activation_fn": "identity"}
        assert label_pairs(peer, PAIRS, settings=raw).labels == pytest.approx(far.predict(PAIRS, **raw), abs=1e-4)

    def test_mining(self, peer):
        collection = Collection({"q": "boil an egg"}, TEXTS, {"q": {"d1": 1}})
        mined = mine_hard_negatives(collection, num_negatives=1, cross_encoder=peer)
        assert set(mined.negatives["q"]) <= {"d2", "d3"}


def test_a_collection_measured_by_a_model_of_another_library(far, peer):
    test = read_ranking(split="test").select_queries(["q004", "q005"])
    task = test, bm25_index(test.documents)(test.queries, k=3)
    reports = [evaluate_collections(model, {"sample": task}, depth=3, resamples=0) for model in (far, peer)]
    assert reports[0].metrics == pytest.approx(reports[1].metrics)
