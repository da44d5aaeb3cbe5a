"""Metrics of a ranking: of one query from scores and grades, and of a run from its judgements.

Candidates with equal scores have no order of their own. Reciprocal rank and success take the worst
order, so that giving every candidate the same score gains nothing. nDCG, precision and recall take
the mean over all orders (McSherry and Najork, "Computing Information Retrieval Performance Measures
Efficiently in the Presence of Tied Scores", 2008), and average precision treats equal scores as
retrieved together. No metric depends on the order in which the candidates are given.

For a whole run, `ties` says what equal scores mean. "trec_eval" orders documents by their score in
single precision and then by id, descending, so that figures compare with published ones.
"order_free" measures as above, so that ids have no influence. Metrics go by name: "ndcg@10",
"mrr@10", "map", "recall@100", "success@5", "precision@10".

`relevant_from` is the lowest grade that counts as relevant; by default every grade above 0 does.
`judged` are the grades `(J,)` of all judged documents of the query, those of the candidates among
them. If it is given, what the first stage missed counts against nDCG, average precision and recall.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.collection import Qrels, Run

GAINS = ("linear", "exponential")
TIES = ("trec_eval", "order_free")
METRICS = ("ndcg", "mrr", "map", "recall", "success", "precision")
NEED_K = ("recall", "success", "precision")
HEADINGS = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP"}


def reciprocal_rank(
    scores: ArrayLike,
    grades: ArrayLike,
    k: int | None = None,
    *,
    relevant_from: float | None = None,
) -> float:
    """Return 1 / rank of the first relevant candidate among the first `k`, or 0; `(K,)` each.

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
    """Return 1 if a relevant candidate is among the first `k`, else 0; also called hit rate."""
    return float(reciprocal_rank(scores, grades, k, relevant_from=relevant_from) > 0)


def precision_at(scores: ArrayLike, grades: ArrayLike, k: int, *, relevant_from: float | None = None) -> float:
    """Count the relevant candidates among the first `k`, over k even if there are fewer."""
    return _relevant_among(scores, grades, k, relevant_from) / k


def recall_at(
    scores: ArrayLike,
    grades: ArrayLike,
    k: int,
    *,
    judged: ArrayLike | None = None,
    relevant_from: float | None = None,
) -> float:
    """Count the relevant candidates among the first `k`, over all relevant documents, or 0."""
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
    """Return the normalised discounted cumulative gain of the first `k` candidates, 0..1.

    DCG = sum of gain / log2(rank + 1), over the DCG of the best order of all judged documents; 0 if
    no grade is above 0. Grades below 0 have no gain and raise `ValueError`.

    gains: "linear", the grade itself (Jarvelin and Kekalainen, "Cumulated Gain-Based Evaluation of
        IR Techniques", 2002; what trec_eval reports), or "exponential", 2^grade - 1 (Burges et al.,
        "Learning to Rank using Gradient Descent", 2005)
    """
    x, y = _candidates(scores, grades, k)
    every = _all_grades(y, judged)
    best_gains = np.sort(_gains(every, gains))[::-1]
    discounts = 1.0 / np.log2(np.arange(max(len(y), len(every))) + 2.0)
    discounts[len(discounts) if k is None else k :] = 0.0
    best = float(best_gains @ discounts[: len(every)])
    if best == 0.0:
        return 0.0
    dcg = float(_gains(y, gains) @ _shared(x, discounts[: len(y)]))
    return min(dcg / best, 1.0)  # the two sums may round differently


def average_precision_of(
    scores: ArrayLike,
    grades: ArrayLike,
    *,
    judged: ArrayLike | None = None,
    relevant_from: float | None = None,
) -> float:
    """Return the mean precision at each relevant document; one that is no candidate counts 0.

    Its mean over queries is MAP; Buckley and Voorhees, "Evaluating Evaluation Measure Stability",
    2000.
    """
    x, y = _candidates(scores, grades, None)
    relevant = _relevant(y, relevant_from)
    if not relevant.any():
        return 0.0
    at_least = x[None, :] >= x[relevant][:, None]  # (relevant, K): what is ranked no lower
    precisions = (at_least & relevant).sum(axis=1) / at_least.sum(axis=1)
    return float(precisions.sum() / _relevant(_all_grades(y, judged), relevant_from).sum())


def _relevant_among(scores: ArrayLike, grades: ArrayLike, k: int, relevant_from: float | None) -> float:
    """Count the relevant among the first `k`, in the mean over all orders of equal scores."""
    x, y = _candidates(scores, grades, k)
    weights = (np.arange(len(y)) < k).astype(float)
    return float(_relevant(y, relevant_from) @ _shared(x, weights))


def _shared(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weight of each candidate's rank `(K,)`; equal scores share the mean of theirs."""
    _, place, counts = np.unique(-x, return_inverse=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return (np.add.reduceat(weights, starts) / counts)[place]


def _relevant(grades: np.ndarray, relevant_from: float | None) -> np.ndarray:
    return grades > 0 if relevant_from is None else grades >= relevant_from


def _gains(grades: np.ndarray, kind: str) -> np.ndarray:
    if kind not in GAINS:
        raise ValueError(f"gains must be one of {', '.join(GAINS)}; got {kind!r}")
    if (grades < 0).any():
        row = int(np.flatnonzero(grades < 0)[0])
        raise ValueError(f"candidate {row}: the grade is below 0; count it as 0")
    if kind == "linear":
        return grades
    if grades.max() > 1000:  # 2^1024 is no float64
        raise ValueError(f"2^grade is too large for the grade {grades.max():g}; use linear gains")
    return np.exp2(grades) - 1.0


def _all_grades(grades: ArrayLike, judged: ArrayLike | None) -> np.ndarray:
    """Return the grades of all judged documents, or of the candidates if nothing else is known."""
    return np.asarray(grades if judged is None else judged, dtype=float)


def _candidates(scores: ArrayLike, grades: ArrayLike, k: int | None) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(scores, dtype=float), np.asarray(grades, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(
            f"scores have shape {x.shape} and grades {y.shape}; expected one of each for K >= 1 candidates"
        )
    for name, values in (("score", x), ("grade", y)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"candidate {row}: the {name} is {values[row]}, not a finite number")
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return x, y


def query_values(
    qrels: Qrels,
    run: Run,
    metrics: Sequence[str],
    *,
    relevant_from: float = 1,
    gains: str = "linear",
    ties: str = "trec_eval",
) -> dict[str, np.ndarray]:
    """Measure a run: each metric's values `(Q,)` for the Q queries of the qrels, in their order.

    As in trec_eval, a query that the run lacks counts 0, and so does one without a relevant
    document; documents without a judgement and grades below 0 are not relevant.
    """
    measures = {name: _metric_of(name, relevant_from, gains) for name in metrics}
    values: dict[str, list[float]] = {name: [] for name in measures}
    for query, judged in qrels.items():
        scores, grades = scores_and_grades(run.get(query, {}), judged, ties)
        every = np.maximum(np.fromiter(judged.values(), float, len(judged)), 0.0)
        for name, measure in measures.items():
            values[name].append(measure(scores, grades, every) if len(scores) else 0.0)
    return {name: np.asarray(own, dtype=float) for name, own in values.items()}


def judged_share(qrels: Qrels, run: Run, k: int, *, ties: str = "trec_eval") -> np.ndarray:
    """Return the share of each query's first `k` documents that were judged, `(Q,)`."""
    shares = []
    for query, judged in qrels.items():
        found = run.get(query, {})
        scores, known = scores_and_grades(found, dict.fromkeys(judged, 1.0), ties)
        share = precision_at(scores, known, k) * k / min(k, len(found)) if found else 0.0
        shares.append(share)
    return np.asarray(shares, dtype=float)


def scores_and_grades(
    found: Mapping[str, float], judged: Mapping[str, float], ties: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and grades `(K,)` of one query; for ties="trec_eval", scores are minus ranks."""
    if ties == "trec_eval":
        documents, scores = ranked(found), -np.arange(len(found))
    else:
        documents, scores = list(found), np.fromiter(found.values(), float, len(found))
    grades = np.fromiter((judged.get(document, 0.0) for document in documents), float, len(found))
    return scores, np.maximum(grades, 0.0)


def ranked(found: Mapping[str, float]) -> list[str]:
    """Order one query's documents as trec_eval does: by float32 score, then by id, descending."""
    with np.errstate(over="ignore"):
        scores = np.fromiter(found.values(), float, len(found)).astype(np.float32).tolist()
    return [document for _, document in sorted(zip(scores, found, strict=True), reverse=True)]


def best_order(qrels: Qrels, run: Run) -> dict[str, dict[str, float]]:
    """Score the documents of a run by their grades: the best that reranking them can reach."""
    return {
        query: {document: judged.get(document, 0.0) for document in run.get(query, {})}
        for query, judged in qrels.items()
    }


def relevant(judged: Mapping[str, float], relevant_from: float = 1) -> set[str]:
    """Return the relevant documents of one query."""
    return {document for document, grade in judged.items() if grade >= relevant_from}


def check_options(metrics: Iterable[str], relevant_from: float, gains: str, ties: str) -> None:
    """Raise `ValueError` for an unknown option value."""
    for name in metrics:
        metric_parts(name)
    if not relevant_from > 0:
        raise ValueError(f"relevant_from must be above 0, the grade of what was not judged; got {relevant_from}")
    for what, value, known in (("gains", gains, GAINS), ("ties", ties, TIES)):
        if value not in known:
            raise ValueError(f"{what} must be one of {', '.join(known)}; got {value!r}")


def heading(metric: str) -> str:
    """Spell a metric as papers do: "ndcg@10" is nDCG@10."""
    kind, at, k = metric.partition("@")
    return HEADINGS.get(kind, kind) + at + k


def _metric_of(name: str, relevant_from: float, gains: str) -> Callable[[np.ndarray, np.ndarray, np.ndarray], float]:
    """Return the function of scores, grades and all judged grades that a name stands for."""
    kind, k = metric_parts(name)
    first, threshold = k or 1, {"relevant_from": relevant_from}
    return {
        "ndcg": lambda s, g, judged: ndcg(s, g, k, gains=gains, judged=judged),
        "mrr": lambda s, g, judged: reciprocal_rank(s, g, k, **threshold),
        "map": lambda s, g, judged: average_precision_of(s, g, judged=judged, **threshold),
        "recall": lambda s, g, judged: recall_at(s, g, first, judged=judged, **threshold),
        "success": lambda s, g, judged: success_at(s, g, first, **threshold),
        "precision": lambda s, g, judged: precision_at(s, g, first, **threshold),
    }[kind]


def metric_parts(name: str) -> tuple[str, int | None]:
    """Split a metric's name: "ndcg@10" is ("ndcg", 10). Raises `ValueError` for an unknown one."""
    found = re.fullmatch(r"([a-z]+)(?:@([1-9]\d*))?", name)
    kind, k = found.groups() if found else ("", None)
    if kind not in METRICS or (kind == "map" and k) or (kind in NEED_K and not k):
        known = "ndcg, mrr, ndcg@k, mrr@k, map, recall@k, success@k, precision@k"
        raise ValueError(f"no metric {name!r}; there is {known}")
    return kind, int(k) if k else None
