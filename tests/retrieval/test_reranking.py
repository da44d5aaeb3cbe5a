"""Runs reranked, and the pipeline from queries to hits."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit.data import Collection
from crossenc_kit.errors import DataError
from crossenc_kit.retrieval import bm25_index, rerank, reranking, retrieve_and_rerank, word_overlap

QUERIES = {"q1": "cat", "q2": "dog", "unused": "sea"}
DOCUMENTS = {"a": "1", "b": "2", "c": "3", "d": "4"}
RUN = {"q1": {"a": 9.0, "b": 8.0, "c": 7.0, "d": 6.0}, "q2": {"d": 0.5, "a": 0.25}}
COLLECTION = Collection(QUERIES, DOCUMENTS)


def by_number(pairs):
    return [float(document) for _, document in pairs]


def constant(pairs):
    return np.zeros(len(pairs))


# --- by hand --------------------------------------------------------------------------------------


def test_the_first_are_ordered_by_the_scorer_and_the_rest_stay_below():
    assert rerank(by_number, COLLECTION, RUN, depth=3) == {
        "q1": {"c": 3, "b": 2, "a": 1, "d": 0},
        "q2": {"d": 4, "a": 1},
    }
    found = rerank(by_number, COLLECTION, RUN, depth=2)
    assert [list(own.items()) for own in found.values()] == [
        [("b", 2), ("a", 1), ("c", 0), ("d", -1)],
        [("d", 4), ("a", 1)],
    ]
    without = rerank(by_number, COLLECTION, RUN, depth=2, keep_rest=False)
    assert without == {"q1": {"b": 2, "a": 1}, "q2": {"d": 4, "a": 1}}


def test_a_run_is_ordered_by_its_scores():
    shuffled = {"q1": {"d": 6.0, "b": 8.0, "a": 9.0, "c": 7.0}}
    assert list(rerank(by_number, COLLECTION, shuffled, 2)["q1"]) == ["b", "a", "c", "d"]
    assert list(rerank(constant, COLLECTION, shuffled, 2)["q1"]) == ["a", "b", "c", "d"]


def test_pairs_are_scored_in_blocks_over_all_queries_and_no_more_than_asked_for(monkeypatch):
    monkeypatch.setattr(reranking, "PAIRS_AT_ONCE", 2)
    calls = []

    def scorer(pairs):
        calls.append(pairs)
        return by_number(pairs)

    found = rerank(scorer, COLLECTION, RUN, depth=3)
    assert calls == [[("cat", "1"), ("cat", "2")], [("cat", "3"), ("dog", "4")], [("dog", "1")]]
    assert found == rerank(by_number, COLLECTION, RUN, depth=3)
    calls.clear()
    rerank(scorer, COLLECTION, RUN, depth=0)
    assert calls == []


def test_documents_may_have_titles():
    documents = {"a": {"title": "one", "text": "cat", "_id": "a"}, "b": "dog"}
    seen = []
    collection = Collection({"q": "?"}, documents)
    rerank(lambda pairs: seen.extend(pairs) or constant(pairs), collection, {"q": {"a": 2.0, "b": 1.0}})
    assert seen == [("?", "one cat"), ("?", "dog")]


def test_scores_of_any_size_stay_in_order_in_single_precision():
    documents = {f"d{place:03d}": "text" for place in range(300)}
    run = {"q": {name: -float(place) for place, name in enumerate(documents)}}
    collection = Collection({"q": "?"}, documents)
    for size in (0.0, 0.5, 1e4, 3e7, 1e20, -1e20):
        found = rerank(lambda pairs, s=size: np.full(len(pairs), s), collection, run, 1)
        scores = list(found["q"].values())
        assert (np.diff(np.array(scores, dtype=np.float32)) < 0).all()


# --- laws -----------------------------------------------------------------------------------------

CANDIDATES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1)
RUNS = st.dictionaries(st.sampled_from(["q1", "q2"]), CANDIDATES, min_size=1)
DEPTHS = st.integers(0, 6)


def order(run):
    return {query: sorted(own, key=lambda document: -own[document]) for query, own in run.items()}


@given(RUNS)
def test_depth_0_is_the_first_stage(run):
    assert rerank(by_number, COLLECTION, run, 0) == run
    assert [list(own) for own in rerank(by_number, COLLECTION, run, 0).values()] == list(order(run).values())


@given(RUNS, DEPTHS)
def test_a_constant_scorer_keeps_the_order_of_the_first_stage(run, depth):
    found = rerank(constant, COLLECTION, run, depth)
    assert order(found) == order(run)
    assert {query: list(own) for query, own in found.items()} == order(run)


@given(RUNS, DEPTHS)
def test_what_is_reranked_is_the_first_by_their_scores_and_nothing_is_lost(run, depth):
    found = rerank(by_number, COLLECTION, run, depth)
    for query, own in order(run).items():
        expected = sorted(own[:depth], key=lambda document: -int(DOCUMENTS[document])) + own[depth:]
        assert list(found[query]) == expected == order(found)[query]
    kept = rerank(by_number, COLLECTION, run, depth, keep_rest=False)
    assert {query: list(own) for query, own in kept.items()} == {
        query: list(own)[:depth] for query, own in found.items()
    }


# --- what cannot be reranked ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "scorer", "message"),
    [
        ({**RUN, "q9": {"a": 1.0}, "q8": {"a": 1.0}}, by_number, "the run has 2 queries that .* lacks: 'q9', 'q8'"),
        ({"q1": {"a": 1.0, "z": 0.5}}, by_number, "the run has 1 documents that the collection lacks: 'z'"),
        ({"q1": {"a": math.nan}}, by_number, "nan"),
        ([("q1", "a")], by_number, "the run"),
        ({}, by_number, "the run has no queries"),
        (RUN, lambda pairs: np.zeros((len(pairs), 3)), r"scores of shape \(6, 3\) for 6 pairs; expected one"),
        (RUN, lambda pairs: [0.0], r"scores of shape \(1,\) for 6 pairs"),
        (
            RUN,
            lambda pairs: [math.nan if pair[1] == "4" else 0.0 for pair in pairs],
            r"the scorer gave nan for query 'q1', document 'd' \(2 of 6 scores are not finite\)",
        ),
    ],
)
def test_what_cannot_be_reranked(run, scorer, message):
    with pytest.raises(DataError, match=message):
        rerank(scorer, COLLECTION, run)


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (-1, "depth must be at least 0, got -1"),
        (1.5, "depth is 1.5; expected a whole number"),
        (None, "depth is None; expected a whole number"),
    ],
)
def test_depths_that_mean_nothing(depth, message):
    with pytest.raises(ValueError, match=message):
        rerank(by_number, COLLECTION, RUN, depth)


def test_queries_without_candidates_are_counted():
    with pytest.warns(UserWarning, match=r"1 of 3 queries have no candidates to rerank: 'unused'") as caught:
        found = rerank(by_number, COLLECTION, {**RUN, "unused": {}})
    assert found["unused"] == {}
    assert caught.list[0].filename == __file__


# --- the pipeline ---------------------------------------------------------------------------------


def first_stage(queries, k):
    return {query: dict(list(RUN["q1"].items())[:k]) for query in queries}


def test_hits_by_hand():
    documents = {**DOCUMENTS, "b": {"_id": "b", "text": "2", "url": "https://example.org", "rank": 77}}
    search = retrieve_and_rerank(first_stage, by_number, documents, depth=2, k=3)
    hits = search("cat")
    assert hits == [
        {
            "id": "b",
            "rank": 1,
            "score": 2,
            "first_rank": 2,
            "first_score": 8,
            "text": "2",
            "url": "https://example.org",
        },
        {"id": "a", "rank": 2, "score": 1, "first_rank": 1, "first_score": 9, "text": "1"},
        {"id": "c", "rank": 3, "score": 0, "first_rank": 3, "first_score": 7, "text": "3"},
    ]
    assert search("cat", top_k=1) == hits[:1]
    assert search(["cat", "dog"]) == [hits, hits]
    assert search({"x": "cat", "y": "dog"}) == {"x": hits, "y": hits}
    assert search([]) == []
    assert [hit["id"] for hit in retrieve_and_rerank(first_stage, by_number, DOCUMENTS, depth=0)("cat")] == list("abcd")


def test_the_first_stage_is_asked_for_as_many_as_are_needed():
    asked = []

    def stage(queries, k):
        asked.append((queries, k))
        return {}

    for options in ({}, {"depth": 7}, {"depth": 300}, {"depth": 7, "k": 9}):
        assert retrieve_and_rerank(stage, by_number, DOCUMENTS, **options)(["cat"]) == [[]]
    assert asked == [({"0": "cat"}, k) for k in (100, 100, 300, 9)]


def test_a_pipeline_with_bm25():
    pytest.importorskip("bm25s")
    documents = {"d1": "the cat sings", "d2": "the cat and the dog and the house", "d3": "a book", "d4": "cat"}
    search = retrieve_and_rerank(bm25_index(documents), word_overlap, documents, depth=2, k=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the query that finds nothing
        found = search({"q1": "cat house dog", "q2": "xylophone"})
    assert found["q2"] == []
    assert [hit["first_rank"] for hit in found["q1"]][-1] == 3
    assert {hit["id"] for hit in found["q1"]} == {"d1", "d2", "d4"}
    run = bm25_index(documents)({"q1": "cat house dog"}, 3)
    assert {hit["id"]: hit["first_score"] for hit in found["q1"]} == run["q1"]
    reranked = rerank(word_overlap, Collection({"q1": "cat house dog"}, documents), run, 2)
    assert {hit["id"]: hit["score"] for hit in found["q1"]} == reranked["q1"]


def test_a_pipeline_that_does_not_fit_together():
    with pytest.raises(ValueError, match="top_k must be at least 0, got -1"):
        retrieve_and_rerank(first_stage, by_number, DOCUMENTS)("cat", top_k=-1)
    with pytest.raises(ValueError, match=r"depth is 1\.5; expected a whole number"):
        retrieve_and_rerank(first_stage, by_number, DOCUMENTS, 1.5)
    with pytest.raises(DataError, match="none of the 2 queries of the run is in the collection: 'q1', 'q2'"):
        retrieve_and_rerank(lambda queries, k: RUN, by_number, DOCUMENTS)("cat")
    with pytest.raises(DataError, match="the run has 1 documents that the collection lacks: 'd'"):
        retrieve_and_rerank(first_stage, by_number, {key: DOCUMENTS[key] for key in "abc"}, depth=1)("cat")


# --- a model --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the head of")
def test_a_model_reranks_as_it_ranks():
    from crossenc_kit.models.cross_encoder import CrossEncoder

    model = CrossEncoder("tiny", num_labels=1, seed=4, device="cpu")
    documents = {"a": "the cat", "b": "a dog and a cat", "c": "the house in the city", "d": "a book"}
    run = {"q1": dict.fromkeys(documents, 1.0), "q2": {"d": 2.0, "a": 1.0}}
    found = rerank(model, Collection(QUERIES, documents), run)
    for query, own in run.items():
        hits = model.rank(QUERIES[query], {name: documents[name] for name in own}, activation_fn="identity")
        assert list(found[query]) == [hit["id"] for hit in hits]
        assert list(found[query].values()) == pytest.approx([hit["score"] for hit in hits], abs=1e-6)
    with pytest.raises(DataError, match=r"scores of shape \(6, 3\) for 6 pairs"):
        rerank(CrossEncoder("tiny", num_labels=3, seed=4, device="cpu"), Collection(QUERIES, documents), run)


@pytest.mark.filterwarnings("ignore:the head of")
def test_pairs_that_are_cut_are_told_of_once_at_the_line_that_called(monkeypatch):
    from crossenc_kit.errors import TruncationWarning
    from crossenc_kit.models.cross_encoder import CrossEncoder

    monkeypatch.setattr(reranking, "PAIRS_AT_ONCE", 1)
    model = CrossEncoder("tiny", num_labels=1, seed=4, device="cpu", max_length=16)
    documents = {"a": "the cat " * 20, "b": "a dog " * 20}
    with pytest.warns(TruncationWarning, match="^1 of 1 pairs exceed max_length=16") as caught:
        rerank(model, Collection({"q": "cat"}, documents), {"q": {"a": 2.0, "b": 1.0}})
    assert {one.filename for one in caught.list} == {__file__}
    search = retrieve_and_rerank(lambda queries, k: {name: {"a": 2.0} for name in queries}, model, documents)
    with pytest.warns(TruncationWarning) as caught:
        search("cat")
    assert caught.list[0].filename == __file__


@pytest.mark.filterwarnings("ignore:the head of")
def test_documents_whose_probabilities_are_all_1_stay_apart():
    """Above a raw score of 17 the sigmoid is 1 in float32: it is not what orders documents."""
    import torch

    from crossenc_kit import ranking_evaluator
    from crossenc_kit.models.cross_encoder import CrossEncoder

    model = CrossEncoder("tiny", num_labels=1, seed=4, device="cpu")
    with torch.no_grad():
        model.model.classifier.bias += 20
    documents = {"a": "the cat", "b": "a dog and a cat", "c": "the house in the city", "d": "a book"}
    raw = model.predict([("cat", text) for text in documents.values()], activation_fn="identity")
    assert set(model.predict([("cat", text) for text in documents.values()])) == {1.0}
    found = rerank(model, Collection({"q": "cat"}, documents), {"q": dict.fromkeys(documents, 1.0)})
    assert list(found["q"]) == [list(documents)[place] for place in np.argsort(-raw)]
    assert found["q"] == pytest.approx(dict(zip(documents, raw, strict=True)))

    best = next(iter(found["q"]))
    lists = [("cat", list(documents.values()), [int(name == best) for name in documents])]
    assert ranking_evaluator(lists)(model)["mrr@10"] == 1
    run, qrels = {"q": dict.fromkeys(documents, 1.0)}, {"q": {best: 1}}
    assert ranking_evaluator(Collection({"q": "cat"}, documents, qrels), run)(model)["mrr@10"] == 1
