"""Searching a corpus: the best documents of each query from every document's score, and what ids and texts must be."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real

import numpy as np

from crossenc_kit.data.collection import check_form
from crossenc_kit.data.documents import check_depth, ids_of
from crossenc_kit.errors import DataError

Run = dict[str, dict[str, float]]  # {query id: {document id: score}}, best first
Search = Callable[..., Run]  # search(queries, k=100, include=None)
Include = Mapping[str, Iterable[str]]  # {query id: document ids}


def search_with(scores_of: Callable[[Sequence[str]], Iterable[tuple[np.ndarray, float]]], ids: Sequence[str]) -> Search:
    """The search of a first stage; `scores_of` gives each query's scores `(D,)`, and what is no hit at all."""
    row_of = {document: row for row, document in enumerate(ids)}

    def search(queries: Mapping[str, str], k: int = 100, include: Include | None = None) -> Run:
        check_depth(k)
        asked = ids_of(queries, "query", least=0)
        _check_include(include, queries)
        run: Run = {}
        nothing = []
        for query, (scores, floor) in zip(asked, scores_of(list(queries.values())), strict=True):
            rows = best_rows(scores, k)
            rows = rows[scores[rows] > floor]
            if not len(rows):
                nothing.append(query)
            more = [_row(row_of, document, query) for document in (include or {}).get(query, ())]
            if more:
                rows = np.union1d(rows, more)  # in the order of the documents
                rows = rows[np.argsort(-scores[rows], kind="stable")]
            run[query] = {ids[row]: float(scores[row]) for row in rows}
        if nothing:
            some = ", ".join(repr(query) for query in nothing[:3]) + (", ..." if len(nothing) > 3 else "")
            warnings.warn(
                f"{len(nothing):,} of {len(asked):,} queries found nothing, "
                f"no document has a word of theirs that counts: {some}",
                stacklevel=2,
            )
        return run

    return search


def best_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """The rows of the `k` largest scores `(D,)`, best first, equal ones in their order."""
    rows = np.arange(len(scores))
    if k < len(scores):
        rows = np.flatnonzero(scores >= np.partition(scores, -k)[-k])  # ties at the border are still all there
    return rows[np.argsort(-scores[rows], kind="stable")][:k]


def _check_include(include: Include | None, queries: Mapping[str, str]) -> None:
    if include is None:
        return
    if not isinstance(include, Mapping):
        raise DataError(f"include: expected {{query id: document ids}}, got {type(include).__name__}")
    strangers = [query for query in include if query not in queries]
    if strangers:
        raise DataError(f"include has {len(strangers):,} queries that are not asked, the first {strangers[0]!r}")


def _row(row_of: Mapping[str, int], document: str, query: str) -> int:
    if document not in row_of:
        raise DataError(f"query {query!r}: the document {document!r} to include is not in the corpus")
    return row_of[document]


def reciprocal_rank_fusion(
    runs: Sequence[Mapping[str, Mapping[str, float]]],
    k: float = 60,
    weights: Sequence[float] | None = None,
    depth: int | None = None,
) -> Run:
    """Several runs as one: a document's score is the sum over runs of  weight / (k + rank),  rank from 1.

    Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods", 2009. A run ranks by score, equal scores by their order in it. A document (or a query) that a run lacks,
    or has below its first `depth`, gets nothing from it. Equal sums are in the order of the first run that has the
    document. Raises `ValueError` for weights that do not fit, `DataError` for a run with scores that are not finite.
    """
    if not runs or isinstance(runs, Mapping):
        raise ValueError("fusion needs a list of runs, each {query id: {document id: score}}")
    if not isinstance(k, Real) or not k > -1:
        raise ValueError(f"k is {k!r}; it must be above -1, 60 is usual")
    if depth is not None:
        check_depth(depth, "depth")
    shares = [1.0] * len(runs) if weights is None else [float(weight) for weight in weights]
    if len(shares) != len(runs) or not all(0 <= share < math.inf for share in shares):
        raise ValueError(f"weights is {weights}; expected {len(runs)} numbers that are not negative, one a run")
    fused: dict[str, dict[str, float]] = {}
    for number, run in enumerate(runs):
        check_form(run, f"run {number}")
    for run, share in zip(runs, shares, strict=True):
        for query, scored in run.items():
            sums = fused.setdefault(query, {})
            best = sorted(scored, key=lambda document: -scored[document])[:depth]
            for rank, document in enumerate(best, 1):
                sums[document] = sums.get(document, 0.0) + share / (k + rank)
    return {query: dict(sorted(sums.items(), key=lambda item: -item[1])) for query, sums in fused.items()}
