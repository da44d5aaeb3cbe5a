"""A run and judgements become one value a query and metric.

A run is `{query id: {document id: score}}`, qrels are `{query id: {document id: grade}}`, both in any order: only
scores order documents. Metrics go by name: "ndcg@10", "mrr@10", "map", "recall@100", "success@5", "precision@10".

`ties`: what equal scores mean. "trec_eval": documents are ordered by score in single precision, equal ones by id,
descending, as trec_eval does, so that figures compare with published ones. "order_free": no order of equal scores is
assumed, see `ranking_metrics`; what ids happen to be then has no influence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from crossenc_kit.pairs import DataError
from crossenc_kit.ranking_metrics import (
    GAINS,
    average_precision_of,
    ndcg,
    precision_at,
    recall_at,
    reciprocal_rank,
    success_at,
)

Run = Mapping[str, Mapping[str, float]]
Qrels = Mapping[str, Mapping[str, float]]

TIES = ("trec_eval", "order_free")
METRICS = ("ndcg", "mrr", "map", "recall", "success", "precision")
NEED_DEPTH = ("recall", "success", "precision")
HEADINGS = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP"}


def measure_run(
    run: Run,
    qrels: Qrels,
    metrics: Sequence[str],
    *,
    relevant_from: float = 1,
    gains: str = "linear",
    ties: str = "trec_eval",
) -> dict[str, np.ndarray]:
    """Each metric's values `(Q,)` for the Q queries of the qrels, in their order; 0 for one that the run lacks.

    What the run has and the qrels do not is not relevant; relevant documents that the run lacks count in nDCG, MAP
    and recall. Grades below 0 count as 0. A query without a relevant document is 0. All as in trec_eval.
    """
    check_options(metrics, relevant_from, gains, ties)
    measures = {name: _metric_of(name, relevant_from, gains) for name in metrics}
    values: dict[str, list[float]] = {name: [] for name in measures}
    for query, judged in qrels.items():
        scores, grades = scores_and_grades(run.get(query, {}), judged, ties)
        every = np.maximum(np.fromiter(judged.values(), float, len(judged)), 0.0)
        for name, measure in measures.items():
            values[name].append(measure(scores, grades, every) if len(scores) else 0.0)
    return {name: np.asarray(own, dtype=float) for name, own in values.items()}


def judged_share(run: Run, qrels: Qrels, k: int, *, ties: str = "trec_eval") -> np.ndarray:
    """The part of each query's first `k` documents that has a judgement, `(Q,)`; 0 where the run has none."""
    check_ties(ties)
    shares = []
    for query, judged in qrels.items():
        found = run.get(query, {})
        scores, known = scores_and_grades(found, dict.fromkeys(judged, 1.0), ties)
        shares.append(precision_at(scores, known, k) * k / min(k, len(found)) if found else 0.0)
    return np.asarray(shares, dtype=float)


def scores_and_grades(
    found: Mapping[str, float], judged: Mapping[str, float], ties: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and grades `(K,)` of one query's documents; of ties="trec_eval" the scores are minus the ranks."""
    documents = ranked(found) if ties == "trec_eval" else list(found)
    scores = -np.arange(len(found)) if ties == "trec_eval" else np.fromiter(found.values(), float, len(found))
    grades = np.fromiter((judged.get(document, 0.0) for document in documents), float, len(documents))
    return scores, np.maximum(grades, 0.0)


def ranked(found: Mapping[str, float]) -> list[str]:
    """The documents of one query from best to worst, equal scores in single precision by id, descending."""
    with np.errstate(over="ignore"):
        scores = np.fromiter(found.values(), float, len(found)).astype(np.float32).tolist()
    return [document for _, document in sorted(zip(scores, found, strict=True), reverse=True)]


def best_order(run: Run, qrels: Qrels) -> dict[str, dict[str, float]]:
    """The documents of the run in the best order there is, scored by their grades: what reranking can reach."""
    return {
        query: {document: judged.get(document, 0.0) for document in run.get(query, {})}
        for query, judged in qrels.items()
    }


def relevant(judged: Mapping[str, float], relevant_from: float = 1) -> set[str]:
    """The relevant documents of one query."""
    return {document for document, grade in judged.items() if grade >= relevant_from}


def check_run(run: Any, name: str = "the run") -> None:
    """Raise `DataError` unless a run is `{query id: {document id: score}}` with finite scores."""
    _check(run, name, "score", "run")


def check_qrels(qrels: Any, name: str = "the qrels") -> None:
    """Raise `DataError` unless qrels are `{query id: {document id: grade}}` with finite grades and any query."""
    _check(qrels, name, "grade", "qrels")
    if not qrels:
        raise DataError(f"{name} have no query: there is nothing to measure")


def check_judged(run: Run, qrels: Qrels, name: str = "the run") -> None:
    """Raise `DataError` where no query of a run has judgements."""
    if not run.keys() & qrels.keys():
        ours, theirs = some(run) or "none", some(qrels)
        raise DataError(f"{name}: no query has judgements. Its queries: {ours}; those of the qrels: {theirs}")


def check_options(metrics: Iterable[str], relevant_from: float, gains: str, ties: str) -> None:
    """Raise `ValueError` for an option that is none."""
    for name in metrics:
        _metric_of(name, relevant_from, gains)
    if not relevant_from > 0:
        raise ValueError(f"relevant_from must be above 0, the grade of what nobody judged; got {relevant_from}")
    if gains not in GAINS:
        raise ValueError(f"gains must be one of {', '.join(GAINS)}; got {gains!r}")
    check_ties(ties)


def check_ties(ties: str) -> None:
    if ties not in TIES:
        raise ValueError(f"ties must be one of {', '.join(TIES)}; got {ties!r}")


def some(ids: Iterable[str], most: int = 3) -> str:
    """The first few ids, in words."""
    ids = list(ids)
    return ", ".join(repr(name) for name in ids[:most]) + (", ..." if len(ids) > most else "")


def heading(metric: str) -> str:
    """A metric as it is written: "ndcg@10" is nDCG@10."""
    kind, at, k = metric.partition("@")
    return HEADINGS.get(kind, kind) + at + k


def _metric_of(name: str, relevant_from: float, gains: str) -> Callable[[np.ndarray, np.ndarray, np.ndarray], float]:
    """The function of scores, grades and all judged grades that a metric's name stands for."""
    kind, k = metric_parts(name)
    threshold: dict[str, Any] = {"relevant_from": relevant_from}
    if kind == "ndcg":
        return lambda scores, grades, judged: ndcg(scores, grades, k, gains=gains, judged=judged)
    if kind == "mrr":
        return lambda scores, grades, _: reciprocal_rank(scores, grades, k, **threshold)
    if kind == "map":
        return lambda scores, grades, judged: average_precision_of(scores, grades, judged=judged, **threshold)
    if kind == "recall":
        return lambda scores, grades, judged: recall_at(scores, grades, k or 1, judged=judged, **threshold)
    metric = success_at if kind == "success" else precision_at
    return lambda scores, grades, _: metric(scores, grades, k or 1, **threshold)


def metric_parts(name: str) -> tuple[str, int | None]:
    """A metric's kind and depth: "ndcg@10" is ("ndcg", 10); raises `ValueError` for what is no metric."""
    found = re.fullmatch(r"([a-z]+)(?:@([1-9]\d*))?", name)
    kind, k = found.groups() if found else ("", None)
    if kind not in METRICS or (kind == "map" and k) or (kind in NEED_DEPTH and not k):
        raise ValueError(
            f"no metric {name!r}; there is ndcg, mrr, ndcg@k, mrr@k, map, recall@k, success@k, precision@k"
        )
    return kind, int(k) if k else None


def _check(table: Any, name: str, what: str, form: str) -> None:
    if not isinstance(table, Mapping):
        expected = f"{{query id: {{document id: {what}}}}}"
        raise DataError(f"{name}: expected a {form} as {expected}, got {type(table).__name__}")
    for query, row in table.items():
        if not isinstance(query, str):
            raise DataError(
                f"{name}: the query id {query!r} is {type(query).__name__}; ids are strings, use str() on it"
            )
        if not isinstance(row, Mapping):
            raise DataError(f"{name}, query {query!r}: expected {{document id: {what}}}, got {type(row).__name__}")
        values = np.asarray(list(row.values())) if row else np.zeros(0)
        if values.ndim == 1 and values.dtype.kind in "biuf" and np.isfinite(values).all() and _strings(row):
            continue
        for document, value in row.items():
            _check_cell(document, value, f"{name}, query {query!r}", what)


def _strings(row: Mapping[str, Any]) -> bool:
    return all(isinstance(document, str) for document in row)


def _check_cell(document: Any, value: Any, where: str, what: str) -> None:
    if not isinstance(document, str):
        kind = type(document).__name__
        raise DataError(f"{where}: the document id {document!r} is {kind}; ids are strings, use str() on it")
    number = np.asarray(value)
    if number.ndim or number.dtype.kind not in "biuf" or not np.isfinite(number):
        raise DataError(f"{where}, document {document!r}: the {what} is {value!r}; expected a finite number")
