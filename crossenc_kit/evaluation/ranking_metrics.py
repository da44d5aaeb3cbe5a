"""Metrics of one query's ranking: scores and grades of its K candidates in, a float out.

Candidates with equal scores have no order of their own. Reciprocal rank and success take the worst one, so that a
scorer gains nothing by giving every candidate the same score; nDCG, precision and recall take the mean over all
orders (McSherry and Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
Scores", 2008); average precision treats equal scores as retrieved together. None depends on the order in which
candidates are given. trec_eval orders equal scores by document id instead: `run_metrics` does that where it is asked.

`relevant_from`: the lowest grade that is relevant; by default every grade above 0 is. `judged`: the grades of all
judged documents of the query, `(J,)`, those of the candidates among them; where it is given, what the first stage
missed counts against nDCG, average precision and recall. Otherwise the candidates are all that there is.

A run and judgements become one value a query and metric.

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
from numpy.typing import ArrayLike

from crossenc_kit.data.collection import Qrels, Run

GAINS = ("linear", "exponential")
TIES = ("trec_eval", "order_free")
NEED_DEPTH = ("recall", "success", "precision")


def reciprocal_rank(
    scores: ArrayLike, grades: ArrayLike, k: int | None = None, *, relevant_from: float | None = None
) -> float:
    """1 / rank of the first relevant candidate among the first `k`, else 0; `(K,)` each.

    Its mean over queries is MRR@k; Voorhees, "The TREC-8 Question Answering Track Report", 1999.
    """
    x, y = _candidates(scores, grades, k)
    relevant = _relevant(y, relevant_from)
    if not relevant.any():
        return 0.0
    best = x[relevant].max()
    rank = int((x > best).sum() + ((x == best) & ~relevant).sum()) + 1
    return 1.0 / rank if k is None or rank <= k else 0.0


def success_at(scores: ArrayLike, grades: ArrayLike, k: int, *, relevant_from: float | None = None) -> float:
    """1 where a relevant candidate is among the first `k`, else 0; also called hit rate."""
    return float(reciprocal_rank(scores, grades, k, relevant_from=relevant_from) > 0)


def precision_at(scores: ArrayLike, grades: ArrayLike, k: int, *, relevant_from: float | None = None) -> float:
    """The relevant candidates among the first `k`, over k, also where there are fewer candidates."""
    return _relevant_among(scores, grades, k, relevant_from) / k


def recall_at(
    scores: ArrayLike,
    grades: ArrayLike,
    k: int,
    *,
    judged: ArrayLike | None = None,
    relevant_from: float | None = None,
) -> float:
    """The relevant candidates among the first `k`, over all relevant documents; 0 where there are none."""
    found = _relevant_among(scores, grades, k, relevant_from)
    every = int(_relevant(_all_grades(grades, judged), relevant_from).sum())
    return min(found / every, 1.0) if every else 0.0


def ndcg(
    scores: ArrayLike,
    grades: ArrayLike,
    k: int | None = None,
    *,
    gains: str = "linear",
    judged: ArrayLike | None = None,
) -> float:
    """Normalised discounted cumulative gain of the first `k` candidates, 0..1; 0 where no grade is above 0.

    DCG = sum of gain / log2(rank + 1), over that of the best order of all judged documents. The gain is the grade
    ("linear"; Jarvelin and Kekalainen, "Cumulated Gain-Based Evaluation of IR Techniques", 2002; what trec_eval
    reports) or 2^grade - 1 ("exponential"; Burges et al., "Learning to Rank using Gradient Descent", 2005). Grades
    below 0 raise `ValueError`.
    """
    x, y = _candidates(scores, grades, k)
    every = _all_grades(y, judged)
    best_gains = np.sort(_gains(every, gains))[::-1]
    discounts = 1.0 / np.log2(np.arange(max(len(y), len(every))) + 2.0)
    discounts[len(discounts) if k is None else k :] = 0.0
    best = float(best_gains @ discounts[: len(every)])
    if best == 0.0:
        return 0.0
    return min(float(_gains(y, gains) @ _shared(x, discounts[: len(y)])) / best, 1.0)  # the sums may round differently


def average_precision_of(
    scores: ArrayLike, grades: ArrayLike, *, judged: ArrayLike | None = None, relevant_from: float | None = None
) -> float:
    """Mean of the precision at each relevant document, which is 0 where it is no candidate; 0 where there is none.

    Its mean over queries is MAP; Buckley and Voorhees, "Evaluating Evaluation Measure Stability", 2000.
    """
    x, y = _candidates(scores, grades, None)
    relevant = _relevant(y, relevant_from)
    if not relevant.any():
        return 0.0
    at_least = x[None, :] >= x[relevant][:, None]  # (relevant, K): what is ranked no lower
    precisions = (at_least & relevant).sum(axis=1) / at_least.sum(axis=1)
    return float(precisions.sum() / _relevant(_all_grades(y, judged), relevant_from).sum())


def _relevant_among(scores: ArrayLike, grades: ArrayLike, k: int, relevant_from: float | None) -> float:
    """How many relevant candidates are among the first `k`, in the mean over all orders of equal scores."""
    x, y = _candidates(scores, grades, k)
    return float(_relevant(y, relevant_from) @ _shared(x, (np.arange(len(y)) < k).astype(float)))


def _shared(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weight of each candidate's rank, `(K,)`; those of equal scores share the mean of theirs."""
    _, place, counts = np.unique(-x, return_inverse=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return (np.add.reduceat(weights, starts) / counts)[place]


def _relevant(grades: np.ndarray, relevant_from: float | None) -> np.ndarray:
    if relevant_from is None:
        return grades > 0
    if not relevant_from > 0:
        raise ValueError(f"relevant_from must be above 0, the grade of what nobody judged; got {relevant_from}")
    return grades >= relevant_from


def _gains(grades: np.ndarray, kind: str) -> np.ndarray:
    if kind not in GAINS:
        raise ValueError(f"gains must be one of {', '.join(GAINS)}; got {kind!r}")
    if (grades < 0).any():
        raise ValueError(f"candidate {int(np.flatnonzero(grades < 0)[0])}: the grade is below 0; count it as 0")
    if kind == "linear":
        return grades
    if grades.max() > 1000:
        raise ValueError(f"the grade {grades.max():g} has no exponential gain: 2^grade is too large; use linear gains")
    return np.exp2(grades) - 1.0


def _all_grades(grades: ArrayLike, judged: ArrayLike | None) -> np.ndarray:
    """The grades of all judged documents; raises `ValueError` where those of the candidates are not among them."""
    own = np.asarray(grades, dtype=float)
    if judged is None:
        return own
    every = np.asarray(judged, dtype=float)
    if every.ndim != 1 or not np.isfinite(every).all():
        raise ValueError(f"judged has shape {every.shape}; expected the finite grades of all judged documents, (J,)")
    for grade, count in zip(*np.unique(own[own > 0], return_counts=True), strict=True):
        if count > (known := int((every == grade).sum())):
            raise ValueError(
                f"grade {grade:g} is there {count} times among the candidates, but {known} times in judged, which "
                "holds the grades of all judged documents, candidates or not"
            )
    return every


def _candidates(scores: ArrayLike, grades: ArrayLike, k: int | None) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(scores, dtype=float), np.asarray(grades, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(
            f"scores have shape {x.shape} and grades {y.shape}; expected one of each for K >= 1 candidates"
        )
    for name, values in (("score", x), ("grade", y)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"candidate {row}: the {name} is {values[row]}; rankings need finite numbers")
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return x, y


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


METRICS = ("ndcg", "mrr", "map", "recall", "success", "precision")
HEADINGS = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP"}
