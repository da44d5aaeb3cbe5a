"""Metrics of one query's ranking: scores and grades of its K candidates in, a float out.

Candidates with equal scores have no order of their own. Reciprocal rank and success take the worst one, so that a
scorer gains nothing by giving every candidate the same score; nDCG, precision and recall take the mean over all
orders (McSherry and Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
Scores", 2008); average precision treats equal scores as retrieved together. None depends on the order in which
candidates are given. trec_eval orders equal scores by document id instead: `run_metrics` does that where it is asked.

`relevant_from`: the lowest grade that is relevant; by default every grade above 0 is. `judged`: the grades of all
judged documents of the query, `(J,)`, those of the candidates among them; where it is given, what the first stage
missed counts against nDCG, average precision and recall. Otherwise the candidates are all that there is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

GAINS = ("linear", "exponential")


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
