"""Retrieve, then rerank: a first stage finds candidates, a scorer that reads query and document together orders them.

Queries and documents are `{id: text}` (documents also dicts, see `ranking.read_document`), a run is
`{query id: {document id: score}}`. A run is ordered by its scores, equal ones by their order in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from crossenc_kit.data.collection import check_form
from crossenc_kit.data.documents import check_depth, check_not_blank, read_document
from crossenc_kit.errors import DataError, some
from crossenc_kit.retrieval.search import Run
from crossenc_kit.scorers import Scorer, check_finite, raw_scorer, warn_at_call

PAIRS_AT_ONCE = 16384  # of one call of the scorer: bounds the memory for their tokens
Candidates = dict[str, list[tuple[str, float]]]  # {query id: [(document id, score)]}, best first


def rerank(
    scorer: Scorer,
    queries: Mapping[str, str],
    documents: Mapping[str, Any],
    run: Mapping[str, Mapping[str, float]],
    depth: int = 100,
    keep_rest: bool = True,
    *,
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> Run:
    """A new run: the first `depth` candidates of each query ordered by the scorer, the rest below in their old order.

    The reranked have the scorer's scores, of a model its raw ones (`raw_scorer`); equal ones keep the order of the
    first stage. The rest, which `keep_rest=False` leaves out, go down in steps of at least 1 from the lowest of them,
    far enough apart to stay in order in float32. With `depth=0` it is the run as it was. All queries are scored
    together, `pairs_at_once` at a time. Raises `DataError` for ids without a text, empty texts, and scores that are
    not finite or not one a pair; a warning counts queries without candidates (those that the run does not name are
    not in the result either).
    """
    candidates = in_order(run)
    if keep_rest:
        _check_known("document", [document for own in run.values() for document in own], documents)
    scores = score_candidates(scorer, queries, documents, candidates, depth, pairs_at_once)
    return {query: _reordered(own, scores[query], keep_rest) for query, own in candidates.items()}


def retrieve_and_rerank(
    first_stage: Callable[[dict[str, str], int], Mapping[str, Mapping[str, float]]],
    scorer: Scorer,
    documents: Mapping[str, Any],
    depth: int = 100,
    candidates: int | None = None,
    **options: Any,
) -> Callable[..., Any]:
    """`search(queries, top_k=None)`: candidates from the first stage, the first `depth` of them reranked.

    `first_stage(queries, k)` gives a run for `{query id: text}`, for example `bm25_index(documents)`; `candidates` is
    its k (default: `depth`, at least 100), `options` go to `rerank`. Queries are one text, a list of texts or
    `{id: text}`; the answer is the hits of the one, a list of them, or hits by id. A hit has the document's "id",
    "rank" (from 1) and "score", "first_rank" and "first_score" of the first stage, "text", and the document's metadata.
    """
    check_depth(depth, "depth", least=0)
    count = max(depth, 100) if candidates is None else candidates
    check_depth(count, "candidates", least=0)
    if count < max(depth, 1):
        raise ValueError(f"candidates={count} of a query are too few to rerank depth={depth} of them")

    def search(queries: Any, top_k: int | None = None) -> Any:
        if top_k is not None:
            check_depth(top_k, "top_k", least=0)
        named = _named(queries)
        found = first_stage(named, count)
        if strange := [query for query in found if query not in named]:
            raise DataError(f"the first stage answered {len(strange)} queries that were not asked: {some(strange)}")
        run = {query: own for query, own in found.items() if own}  # first stages warn of those that found nothing
        ranked = rerank(scorer, named, documents, run, depth, **options)
        _check_known("document", [document for own in ranked.values() for document in own], documents)
        hits = {query: _hits(run.get(query, {}), ranked.get(query, {}), documents)[:top_k] for query in named}
        if isinstance(queries, Mapping):
            return hits
        return hits["0"] if isinstance(queries, str) else list(hits.values())

    return search


def in_order(run: Mapping[str, Mapping[str, float]]) -> Candidates:
    """Each query's candidates, best first; raises `DataError` for what is not a run of finite scores."""
    check_form(run)
    return {query: sorted(own.items(), key=lambda item: -item[1]) for query, own in run.items()}


def candidate_pairs(
    queries: Mapping[str, str], documents: Mapping[str, Any], candidates: Candidates, depth: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The ids (query, document) of the first `depth` candidates of each query, and the pairs of their texts."""
    ids = [(query, document) for query, own in candidates.items() for document, _ in own[:depth]]
    _check_known("query", [query for query, _ in ids], queries)
    _check_known("document", [document for _, document in ids], documents)
    asked = {query: queries[query] for query, _ in ids}
    texts = {document: read_document(documents[document], document).text for _, document in ids}
    check_not_blank("query", asked)
    check_not_blank("document", texts)
    return ids, [(asked[query], texts[document]) for query, document in ids]


def _check_known(kind: str, ids: Sequence[str], texts: Any) -> None:
    if not isinstance(texts, Mapping):
        raise DataError(f"expected the texts as a mapping {{{kind} id: text}}, got {type(texts).__name__}")
    unknown = list(dict.fromkeys(name for name in ids if name not in texts))
    if unknown:
        raise DataError(
            f"{len(unknown)} {kind} ids of the run are not among the {len(texts)} texts given: {some(unknown)}; "
            "give their texts, or take them out of the run"
        )


def score_candidates(
    scorer: Scorer,
    queries: Mapping[str, str],
    documents: Mapping[str, Any],
    candidates: Candidates,
    depth: int,
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> dict[str, np.ndarray]:
    """The scores of the first `depth` candidates of each query, by its id; of a model raw ones, see `raw_scorer`."""
    scorer = raw_scorer(scorer)
    check_depth(depth, "depth", least=0)
    check_depth(pairs_at_once, "pairs_at_once")
    if empty := [query for query, own in candidates.items() if not own]:
        warn_at_call(f"{len(empty)} of {len(candidates)} queries have no candidates to rerank: {some(empty)}")
    ids, pairs = candidate_pairs(queries, documents, candidates, depth)
    scores = np.empty(len(pairs))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for start in range(0, len(pairs), pairs_at_once):
            block = slice(start, start + pairs_at_once)
            scores[block] = _checked_scores(scorer(pairs[block]), ids[block])
    for message, kind in {(str(one.message), one.category): None for one in told}:
        warn_at_call(message, kind)
    ends = np.cumsum([min(depth, len(own)) for own in candidates.values()], dtype=np.int64)
    return dict(zip(candidates, np.split(scores, ends[:-1]), strict=False))


def _checked_scores(scores: Any, ids: list[tuple[str, str]]) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    if scores.shape != (len(ids),):
        raise DataError(f"the scorer gave scores of shape {scores.shape} for {len(ids)} pairs; expected one a pair")
    check_finite(scores, lambda row: "query {!r}, document {!r}".format(*ids[row]))
    return scores


def _reordered(own: list[tuple[str, float]], scores: np.ndarray, keep_rest: bool = True) -> dict[str, float]:
    """A query's candidates, the first of them by new scores, the rest below."""
    if not len(scores):
        return dict(own) if keep_rest else {}
    order = np.argsort(-scores, kind="stable")
    found = {own[place][0]: float(scores[place]) for place in order}
    rest = [document for document, _ in own[len(scores) :]] if keep_rest else []
    lowest = float(scores.min())
    step = max(1.0, 2.0**-22 * (abs(lowest) + len(rest)))  # at least what float32 tells apart
    return found | {document: lowest - step * number for number, document in enumerate(rest, 1)}


def _grades(own: list[tuple[str, float]], judged: Mapping[str, float]) -> np.ndarray:
    return np.array([max(float(judged.get(document, 0)), 0.0) for document, _ in own])


def _named(queries: Any) -> dict[str, str]:
    """Queries by id; texts without one get their place."""
    if isinstance(queries, Mapping):
        return dict(queries)
    texts = [queries] if isinstance(queries, str) else list(queries)
    return {str(place): text for place, text in enumerate(texts)}


def _hits(
    run: Mapping[str, float], reranked: Mapping[str, float], documents: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What a search answers for one query."""
    first = {document: rank for rank, (document, _) in enumerate(in_order({"": run})[""], 1)}
    hits = []
    for rank, (name, score) in enumerate(reranked.items(), 1):
        document = read_document(documents[name], name)
        own = {"id": name, "rank": rank, "score": score, "first_rank": first[name], "first_score": run[name]}
        hits.append({**own, **{key: v for key, v in document.fields.items() if key not in own}, "text": document.shown})
    return hits
