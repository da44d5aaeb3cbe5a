"""Metrics of one query's ranking: scores and grades of its K candidates in, a float out.

Candidates with equal scores have no order of their own. Reciprocal rank takes the worst one, so that a scorer
gains nothing by giving every candidate the same score; nDCG takes the mean over all orders (McSherry and Najork,
"Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores", 2008); average
precision treats equal scores as retrieved together. None depends on the order in which candidates are given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def reciprocal_rank(scores: ArrayLike, grades: ArrayLike, k: int | None = None) -> float:
    """1 / rank of the first relevant candidate (grade above 0) among the first `k`, else 0; `(K,)` each.

    Its mean over queries is MRR@k; Voorhees, "The TREC-8 Question Answering Track Report", 1999.
    """
    x, y = _candidates(scores, grades, k)
    if not (y > 0).any():
        return 0.0
    best = x[y > 0].max()
    rank = int((x > best).sum() + ((x == best) & (y <= 0)).sum()) + 1
    return 1.0 / rank if k is None or rank <= k else 0.0


def ndcg(scores: ArrayLike, grades: ArrayLike, k: int | None = None) -> float:
    """Normalised discounted cumulative gain of the first `k` candidates, 0..1; 0 where no grade is above 0.

    DCG = sum of grade / log2(rank + 1), over that of the best order; Jarvelin and Kekalainen, "Cumulated
    Gain-Based Evaluation of IR Techniques", 2002. Grades below 0 raise `ValueError`.
    """
    x, y = _candidates(scores, grades, k)
    if (y < 0).any():
        raise ValueError(f"candidate {int(np.flatnonzero(y < 0)[0])}: the grade is below 0; count it as 0")
    discounts = 1.0 / np.log2(np.arange(len(y)) + 2.0)
    discounts[len(y) if k is None else k :] = 0.0
    best = float(np.sort(y)[::-1] @ discounts)
    if best == 0.0:
        return 0.0
    _, place, counts = np.unique(-x, return_inverse=True, return_counts=True)  # equal scores share their ranks
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    shared = np.add.reduceat(discounts, starts) / counts  # the mean discount of each group of equal scores
    return min(float(y @ shared[place]) / best, 1.0)  # the two sums may round differently


def average_precision_of(scores: ArrayLike, grades: ArrayLike) -> float:
    """Mean of the precision at each relevant candidate (grade above 0), 0 where there is none; its mean is MAP.

    Buckley and Voorhees, "Evaluating Evaluation Measure Stability", 2000.
    """
    x, y = _candidates(scores, grades, None)
    relevant = y > 0
    if not relevant.any():
        return 0.0
    at_least = x[None, :] >= x[relevant][:, None]  # (relevant, K): what is ranked no lower
    return float(((at_least & relevant).sum(axis=1) / at_least.sum(axis=1)).mean())


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
