"""Search a corpus: from every document's score to a run, and from several runs to one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from crossenc_kit.data.collection import Run, check_form
from crossenc_kit.data.documents import check_depth, ids_of
from crossenc_kit.errors import DataError, some
from crossenc_kit.scorers import warn_at_call

Search = Callable[..., dict[str, dict[str, float]]]  # search(queries, k=100, include=None), a run
Include = Mapping[str, Iterable[str]]  # {query id: document ids}
ScoresOf = Callable[[Sequence[str]], Iterable[tuple[np.ndarray, float]]]


def search_with(scores_of: ScoresOf, ids: Sequence[str]) -> Search:
    """Make the search of a first stage over D documents.

    scores_of: gives, for each query's text, all scores `(D,)` and the score that is no hit yet
    """
    row_of = {document: row for row, document in enumerate(ids)}

    def search(queries: Mapping[str, str], k: int = 100, include: Include | None = None) -> dict[str, dict[str, float]]:
        check_depth(k)
        asked = ids_of(queries, "query", least=0)
        run, nothing = {}, []
        found = scores_of(list(queries.values()))
        for query, (scores, floor) in zip(asked, found, strict=True):
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
            count = f"{len(nothing):,} of {len(asked):,} queries found nothing"
            warn_at_call(f"{count}: no document shares a word with {some(nothing)}")
        return run

    return search


def best_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the rows of the `k` largest scores `(D,)`, best first, equal ones in their order."""
    rows = np.arange(len(scores))
    if k < len(scores):
        rows = np.flatnonzero(scores >= np.partition(scores, -k)[-k])  # with ties at the border
    return rows[np.argsort(-scores[rows], kind="stable")][:k]


def _row(row_of: Mapping[str, int], document: str, query: str) -> int:
    if document not in row_of:
        raise DataError(f"query {query!r}: the document {document!r} to include is not in the corpus")
    return row_of[document]


def reciprocal_rank_fusion(
    runs: Sequence[Run],
    k: float = 60,
    weights: Sequence[float] | None = None,
    depth: int | None = None,
) -> dict[str, dict[str, float]]:
    """Fuse runs: a document's score is the sum over runs of  weight / (k + rank),  rank from 1.

    Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
    Learning Methods", 2009. A document that a run lacks, or has below its first `depth`, gets
    nothing from it. Equal scores keep their order in the run, and equal sums the order of the first
    run that has the document.

    Raises `DataError` for runs with scores that are not finite.
    """
    shares = [1.0] * len(runs) if weights is None else weights
    fused: dict[str, dict[str, float]] = {}
    for number, (run, share) in enumerate(zip(runs, shares, strict=True)):
        check_form(run, f"run {number}")
        for query, scored in run.items():
            sums = fused.setdefault(query, {})
            best = sorted(scored, key=lambda document: -scored[document])[:depth]
            for rank, document in enumerate(best, 1):
                sums[document] = sums.get(document, 0.0) + share / (k + rank)
    return {q: dict(sorted(sums.items(), key=lambda item: -item[1])) for q, sums in fused.items()}
