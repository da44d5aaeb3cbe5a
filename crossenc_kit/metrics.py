"""Metrics as pure functions of arrays: arrays in, floats out, no model and no torch.

Every function takes numbers in any array-like form, works in float64, and raises `ValueError`
where the metric has no meaning (one value, a NaN, two lengths) instead of returning a NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def pearson(scores: ArrayLike, labels: ArrayLike) -> float:
    """Pearson's linear correlation of two arrays `(N,)`; 0.0 where one of them is constant.

    r = cov(x, y) / (std(x) std(y)); Pearson, "Notes on regression and inheritance", 1895.
    A constant scorer carries no information, so it gets 0 rather than the undefined 0 / 0.
    """
    x, y = _two(scores, labels)
    if np.all(x == x[0]) or np.all(y == y[0]):  # the mean of equal numbers may differ from them by rounding
        return 0.0
    x, y = _centred(x), _centred(y)
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def spearman(scores: ArrayLike, labels: ArrayLike) -> float:
    """Spearman's rank correlation of two arrays `(N,)`: Pearson's of the ranks, ties averaged.

    Spearman, "The proof and measurement of association between two things", 1904.
    """
    x, y = _two(scores, labels)
    return pearson(ranks(x), ranks(y))


def ranks(values: ArrayLike) -> np.ndarray:
    """Ranks 1..N of an array `(N,)`, equal values sharing the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # the highest rank of each distinct value
    return (last - (counts - 1) / 2)[inverse]


def bootstrap_interval(
    metric: Callable[..., float],
    *arrays: ArrayLike,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile bootstrap interval of `metric(*arrays)`, rows resampled together.

    `arrays`: one or more of length N. Returns (low, high) at the given level. Efron and Tibshirani,
    "An Introduction to the Bootstrap", 1993, chapter 13. Deterministic in `seed`.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    columns = [np.asarray(array) for array in arrays]
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"arrays of different lengths: {[len(column) for column in columns]}")
    rng = np.random.default_rng(seed)
    size = len(columns[0])
    if not size:
        raise ValueError("there are no rows to resample")
    values = []
    for _ in range(resamples):
        rows = rng.integers(size, size=size)
        values.append(metric(*(column[rows] for column in columns)))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_difference(
    metric: Callable[[Any, Any], float],
    scores: ArrayLike,
    other_scores: ArrayLike,
    labels: ArrayLike,
    **options: Any,
) -> tuple[float, float]:
    """The paired bootstrap interval of `metric(scores, labels) - metric(other_scores, labels)`.

    Both systems are measured on the same resampled rows, so what the rows have in common cancels;
    an interval that excludes 0 says that the difference is more than the luck of the test set.
    """

    def difference(ours: Any, theirs: Any, gold: Any) -> float:
        return metric(ours, gold) - metric(theirs, gold)

    return bootstrap_interval(difference, scores, other_scores, labels, **options)


def _centred(values: np.ndarray) -> np.ndarray:
    """Values `(N,)` less their mean, scaled to a largest size of 1: no overflow, neither summed nor squared."""
    values = values / np.abs(values).max()
    values = values - values.mean()
    return values / np.abs(values).max()


def _two(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Two finite float64 arrays of one length, at least 2."""
    x, y = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"scores have shape {x.shape} and labels {y.shape}; expected two arrays of one length")
    if len(x) < 2:
        raise ValueError(f"a correlation needs at least 2 pairs, got {len(x)}")
    for name, values in (("score", x), ("label", y)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"row {row}: the {name} is {values[row]}; correlations need finite numbers")
    return x, y
