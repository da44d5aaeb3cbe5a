"""Retrieve, then rerank: a first stage finds candidates, a cross-encoder orders them.

A run is `{query id: {document id: score}}`. It is ordered by its scores, equal ones by their order
in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from crossenc_kit.data.collection import Collection, Run
from crossenc_kit.data.documents import Hits, check_depth, read_document
from crossenc_kit.errors import DataError, some
from crossenc_kit.scorers import Scorer, check_finite, raw_scorer, warn_at_call

PAIRS_AT_ONCE = 16384  # in one call of the scorer: bounds the memory for their tokens
Candidates = dict[str, list[tuple[str, float]]]  # {query id: [(document id, score)]}, best first


def rerank(
    scorer: Scorer,
    collection: Collection,
    run: Run,
    depth: int = 100,
    *,
    keep_rest: bool = True,
) -> dict[str, dict[str, float]]:
    """Order the first `depth` candidates of each query by `scorer`, and the rest below them.

    The reranked get the scorer's scores, a model's before its activation; equal scores keep the order
    of the first stage. The rest goes down in steps of at least 1 from the lowest of them, far enough
    apart to stay in order in float32. `depth=0` returns the run unchanged.

    keep_rest: append the unscored candidates in their old order

    Raises `DataError` if the run does not fit the collection, or for scores that are not finite.
    """
    collection.check(run)
    candidates = in_order(run)
    scores = score_candidates(scorer, collection, candidates, depth)
    return {query: reordered(own, scores[query], keep_rest) for query, own in candidates.items()}


def retrieve_and_rerank(
    first_stage: Callable[[dict[str, str], int], Run],
    scorer: Scorer,
    documents: Mapping[str, Any],
    depth: int = 100,
    *,
    k: int | None = None,
    keep_rest: bool = True,
) -> Callable[..., Any]:
    """Make a `search(queries, top_k=None)`: candidates of the first stage, `depth` of them reranked.

    Queries are one text, a list of texts or `{id: text}`; the answer is the hits of the one, a list
    of hits, or hits by id. A hit has the document's "id", "rank" (from 1), "score", "first_rank",
    "first_score", its metadata and its "text".

    first_stage: `first_stage(queries, k)` gives a run, as `bm25_index(documents)` does
    k: candidates asked of the first stage; by default `depth`, at least 100
    """
    check_depth(depth, "depth", least=0)
    count = max(depth, 100) if k is None else k

    def search(queries: Any, top_k: int | None = None) -> Any:
        if top_k is not None:
            check_depth(top_k, "top_k", least=0)
        named = _named(queries)
        found = first_stage(named, count)
        run = {query: own for query, own in found.items() if own}  # the first stage warns of others
        ranked: Mapping[str, Mapping[str, float]] = {}
        if run:
            names = {name for own in run.values() for name in own}
            known = {name: documents[name] for name in names if name in documents}
            ranked = rerank(scorer, Collection(named, known), run, depth, keep_rest=keep_rest)
        hits = {}
        for query in named:
            own = _hits(run.get(query, {}), ranked.get(query, {}), documents)
            hits[query] = Hits(own[:top_k])
        if isinstance(queries, Mapping):
            return hits
        return hits["0"] if isinstance(queries, str) else list(hits.values())

    return search


def in_order(run: Run) -> Candidates:
    """Return each query's candidates, best first."""
    return {query: sorted(own.items(), key=lambda item: -item[1]) for query, own in run.items()}


def score_candidates(
    scorer: Scorer, collection: Collection, candidates: Candidates, depth: int
) -> dict[str, np.ndarray]:
    """Score the first `depth` candidates of each query, all queries together; scores by query id."""
    scorer = raw_scorer(scorer)
    check_depth(depth, "depth", least=0)
    if empty := [query for query, own in candidates.items() if not own]:
        count = f"{len(empty)} of {len(candidates)} queries"
        warn_at_call(f"{count} have no candidates to rerank: {some(empty)}")
    ids = [(query, name) for query, own in candidates.items() for name, _ in own[:depth]]
    pairs = [(collection.queries[query], collection.documents[name]) for query, name in ids]
    scores = np.empty(len(pairs))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            block = slice(start, start + PAIRS_AT_ONCE)
            scores[block] = _checked_scores(scorer(pairs[block]), ids[block])
    for message, kind in {(str(one.message), one.category): None for one in told}:
        warn_at_call(message, kind)
    ends = np.cumsum([min(depth, len(own)) for own in candidates.values()], dtype=np.int64)
    return dict(zip(candidates, np.split(scores, ends[:-1]), strict=False))


def _checked_scores(scores: Any, ids: Sequence[tuple[str, str]]) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    if scores.shape != (len(ids),):
        raise DataError(f"the scorer gave scores of shape {scores.shape} for {len(ids)} pairs; expected one per pair")
    check_finite(scores, lambda row: "query {!r}, document {!r}".format(*ids[row]))
    return scores


def reordered(own: list[tuple[str, float]], scores: np.ndarray, keep_rest: bool = True) -> dict[str, float]:
    """Order a query's candidates: the first by their new `scores`, the rest below them."""
    if not len(scores):
        return dict(own) if keep_rest else {}
    order = np.argsort(-scores, kind="stable")
    found = {own[place][0]: float(scores[place]) for place in order}
    rest = [document for document, _ in own[len(scores) :]] if keep_rest else []
    lowest = float(scores.min())
    step = max(1.0, 2.0**-22 * (abs(lowest) + len(rest)))  # at least what float32 tells apart
    return found | {document: lowest - step * number for number, document in enumerate(rest, 1)}


def _named(queries: Any) -> dict[str, str]:
    """Return queries by id; texts without one get their place."""
    if isinstance(queries, Mapping):
        return dict(queries)
    texts = [queries] if isinstance(queries, str) else list(queries)
    return {str(place): text for place, text in enumerate(texts)}


def _hits(
    run: Mapping[str, float], reranked: Mapping[str, float], documents: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what a search answers for one query."""
    first = {name: rank for rank, (name, _) in enumerate(in_order({"": run})[""], 1)}
    hits = []
    for rank, (name, score) in enumerate(reranked.items(), 1):
        document = read_document(documents[name], name)
        hit = {"id": name, "rank": rank, "score": score}
        hit |= {"first_rank": first[name], "first_score": run[name]}
        more = {key: value for key, value in document.fields.items() if key not in hit}
        hits.append({**hit, **more, "text": document.shown})
    return hits
