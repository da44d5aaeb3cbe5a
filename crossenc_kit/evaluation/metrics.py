"""Metrics as pure functions of arrays: arrays in, floats out, no model and no torch.

Every function takes numbers in any array-like form, works in float64, and raises `ValueError`
where the metric has no meaning (one value, a NaN, two lengths) instead of returning a NaN.

Metrics of classifiers as pure functions of arrays: counts, F1, average precision, a threshold, log loss.

N pairs, C classes. A class is its index, a whole number from 0; "binary" means the classes 0 and 1,
and a score is larger the more the scorer holds class 1 to be right. Every function takes numbers in any
array-like form and raises `ValueError`, naming the first bad row, for anything it cannot count.

Arrays: of finite numbers, anything else refused with the first bad row named, and of labels in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

AVERAGES = ("macro", "micro", "weighted", "binary")
MOST_CLASSES = 1_000_000  # a larger "class index" is an id or a score; its table of counts would fill the memory
NUMBER = (int, float, np.integer, np.floating, np.bool_)


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


class ClassScores(NamedTuple):
    """Precision, recall, F1 and support (the number of labels) of each class, each `(C,)`."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


class Threshold(NamedTuple):
    """A cut: `scores > threshold` are class 1; the value of the metric there, and precision and recall."""

    threshold: float
    value: float
    precision: float
    recall: float


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """The share of class indices `(N,)` that equal the labels `(N,)`."""
    guess, gold = _class_pairs(predicted, labels)
    return float(np.mean(guess == gold))


def confusion_matrix(predicted: ArrayLike, labels: ArrayLike, num_labels: int | None = None) -> np.ndarray:
    """How often each label `(N,)` met each predicted class `(N,)`: counts `(C, C)`, row = label, column = predicted.

    C is `num_labels`, or one more than the largest class that occurs.
    """
    guess, gold = _class_pairs(predicted, labels, num_labels)
    size = num_labels or _num_labels(guess, gold)
    return np.bincount(gold * size + guess, minlength=size * size).reshape(size, size)


def class_scores(predicted: ArrayLike, labels: ArrayLike, num_labels: int | None = None) -> ClassScores:
    """Precision, recall, F1 and support of each class of predictions `(N,)` and labels `(N,)`, each `(C,)`.

    With TP hits of a class, precision = TP / predicted, recall = TP / support and F1 = 2 TP / (predicted +
    support), their harmonic mean; van Rijsbergen, "Information Retrieval", 1979, chapter 7. Where a
    denominator is 0 the value is 0, as with scikit-learn's `zero_division=0`. C as in `confusion_matrix`.
    """
    guess, gold = _class_pairs(predicted, labels, num_labels)
    size = num_labels or _num_labels(guess, gold)
    hits, said, support = (np.bincount(rows, minlength=size) for rows in (gold[guess == gold], guess, gold))
    return ClassScores(_ratio(hits, said), _ratio(hits, support), _ratio(2 * hits, said + support), support)


def f1_score(predicted: ArrayLike, labels: ArrayLike, average: str = "macro", num_labels: int | None = None) -> float:
    """F1 of predictions `(N,)` and labels `(N,)` as one number, averaged as scikit-learn does.

    macro: the mean over the `num_labels` classes, or without it over those that occur among labels or
    predictions. weighted: the mean weighted by support. micro: from the counts of all classes together,
    which is the accuracy. binary: the F1 of class 1, labels and predictions being 0 or 1.
    """
    if average not in AVERAGES:
        raise ValueError(f"average is {average!r}; expected one of {', '.join(AVERAGES)}")
    if average == "binary" and num_labels not in (None, 2):
        raise ValueError(f"average='binary' has 2 classes, but num_labels is {num_labels}; use 'macro' or 'weighted'")
    guess, gold = _class_pairs(predicted, labels, 2 if average == "binary" else num_labels)
    if average == "micro":
        return accuracy(guess, gold)
    scores = class_scores(guess, gold, 2 if average == "binary" else num_labels)
    if average == "binary":
        return float(scores.f1[1])
    if average == "weighted":
        return float(np.average(scores.f1, weights=scores.support))
    f1 = scores.f1 if num_labels else scores.f1[np.union1d(guess, gold)]
    return float(f1.mean())


def precision_recall_curve(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision `(K + 1,)`, recall `(K + 1,)` and thresholds `(K,)` of scores `(N,)` and binary labels `(N,)`.

    The thresholds are the K distinct scores, rising; point k predicts 1 where `scores >= thresholds[k]`, and
    the last point is precision 1, recall 0, as in scikit-learn. Raises `ValueError` where no label is 1.
    """
    values, hits, said = _cuts(*_scored(scores, labels))
    if not hits[-1]:
        raise ValueError("no label is 1, so recall has no meaning")
    precision, recall = hits / said, hits / hits[-1]
    return np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), values[::-1]


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """The area of the steps under precision against recall, of scores `(N,)` and binary labels `(N,)`.

    AP = sum over distinct scores, falling, of (R_k - R_(k-1)) P_k: equal scores enter together, so ties
    cannot be broken luckily; Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", 2008,
    section 8.4. A scorer that knows nothing gets the share of labels that are 1. Raises `ValueError` where
    one class is missing.
    """
    x, gold = _scored(scores, labels)
    if np.all(gold == gold[0]):
        raise ValueError(f"all {len(gold)} labels are {gold[0]}; average precision needs both classes")
    precision, recall, _ = precision_recall_curve(x, gold)
    return float(-np.diff(recall) @ precision[:-1])


def best_threshold(scores: ArrayLike, labels: ArrayLike, metric: str = "accuracy") -> Threshold:
    """The cut of scores `(N,)` that gives the best `metric`, "accuracy" or "f1", for binary labels `(N,)`.

    `scores > threshold` are predicted 1. The cut lies midway between two neighbouring distinct scores, or
    one step of the scores' precision outside them where one class for all rows is best; of equally
    good cuts the highest is taken. Precision and recall are 0 where undefined. The value is that of the
    rows it was chosen on, so report it on others. Raises `ValueError` for "f1" where no label is 1.
    """
    if metric not in ("accuracy", "f1"):
        raise ValueError(f"metric is {metric!r}; expected 'accuracy' or 'f1'")
    x, gold = _scored(scores, labels)
    values, hits, said = _cuts(x, gold)
    values, hits, said = np.append(np.inf, values), np.append(0, hits), np.append(0, said)  # and the cut above all
    positives = hits[-1]
    if metric == "f1" and not positives:
        raise ValueError("no label is 1, so F1 has no meaning")
    right = len(gold) - positives - said + 2 * hits  # true negatives and hits
    quality = right / len(gold) if metric == "accuracy" else 2 * hits / (said + positives)
    best = int(np.argmax(quality))
    precision, recall = _ratio(hits, said)[best], _ratio(hits, np.full(1, positives))[best]
    return Threshold(_between(values, best, x.dtype), float(quality[best]), float(precision), float(recall))


def log_loss(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The mean negative log-likelihood of the labels `(N,)`, in nats.

    `probabilities`: `(N,)` of class 1, or `(N, C)`. They are clipped to [eps, 1 - eps], eps being the
    precision of their type, as in scikit-learn: a certain and wrong row costs 36 nats in float64, not infinity.
    """
    given = np.asarray(probabilities)
    p = finite_numbers(given, "probability").astype(float)
    if p.ndim not in (1, 2) or (p.ndim == 2 and p.shape[1] < 2):
        raise ValueError(f"probabilities have shape {p.shape}; expected (N,) of class 1, or (N, C) with C at least 2")
    gold = _classes(labels, "label", 2 if p.ndim == 1 else p.shape[1])
    _same_length(p, gold, "probabilities")
    refuse((p < 0) | (p > 1), p, "probability", "expected a number from 0 to 1; use softmax or sigmoid on scores")
    if p.ndim == 1:
        p = np.stack([1 - p, p], axis=1)
    sums = p.sum(axis=1)
    refuse(np.abs(sums - 1) > 1e-2, sums, "sum of the probabilities", "expected 1; use softmax on scores")
    eps = float(np.finfo(given.dtype if given.dtype.kind == "f" else float).eps)
    return float(-np.log(np.clip(p[np.arange(len(gold)), gold], eps, 1 - eps)).mean())


def _cuts(scores: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct scores, falling; at each, how many labels 1 and how many rows have that score or a higher one."""
    values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ones = np.bincount(place, weights=gold, minlength=len(values)).astype(np.int64)
    return values[::-1], np.cumsum(ones[::-1]), np.cumsum(counts[::-1])


def _between(values: np.ndarray, cut: int, dtype: np.dtype) -> float:
    """The threshold above which lie the scores `values[: cut + 1]`; `values` fall and start with infinity.

    It is a number of the scores' own type, so that comparing with it there rounds nothing.
    """
    if cut == 0:
        return float(np.nextafter(dtype.type(values[1]), dtype.type(np.inf)))
    lowest = dtype.type(values[cut])
    if cut == len(values) - 1:
        return float(np.nextafter(lowest, dtype.type(-np.inf)))
    below = dtype.type(values[cut + 1])
    middle = lowest / 2 + below / 2  # halved before the sum: no overflow
    return float(middle if below <= middle < lowest else below)  # neighbours of one type have nothing between them


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, 0 where the whole is 0."""
    return np.where(whole == 0, 0.0, part / np.maximum(whole, 1))


def _num_labels(*columns: np.ndarray) -> int:
    return 1 + max(int(column.max()) for column in columns)


def _scored(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Finite scores `(N,)` in their own float type, or float64, and labels 0 or 1."""
    x, gold = finite_numbers(scores, "score"), _classes(labels, "label", 2)
    if x.ndim != 1:
        raise ValueError(f"scores have shape {x.shape}; expected one score of class 1 a row, (N,)")
    _same_length(x, gold, "scores")
    return (x if x.dtype.kind == "f" else x.astype(float)), gold


def _class_pairs(
    predicted: ArrayLike, labels: ArrayLike, num_labels: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    if num_labels is not None and not 1 <= num_labels <= MOST_CLASSES:
        raise ValueError(f"num_labels must be from 1 to {MOST_CLASSES:,}, got {num_labels}")
    guess, gold = _classes(predicted, "predicted class", num_labels), _classes(labels, "label", num_labels)
    _same_length(guess, gold, "predictions")
    return guess, gold


def _classes(values: ArrayLike, what: str, num_labels: int | None = None) -> np.ndarray:
    """Class indices `(N,)` as int64: whole numbers from 0, below `num_labels`."""
    numbers = finite_numbers(values, what)
    if numbers.ndim != 1:
        raise ValueError(f"the array of {what} has shape {numbers.shape}; expected one class index a row, (N,)")
    if not len(numbers):
        raise ValueError("there are no rows")
    size = num_labels or MOST_CLASSES
    bad = (numbers < 0) | (numbers >= size) | (numbers != np.floor(numbers))
    refuse(bad, numbers, what, f"expected a whole number from 0 to {size - 1:,}")
    return numbers.astype(np.int64)


def _same_length(rows: np.ndarray, gold: np.ndarray, what: str) -> None:
    if len(rows) != len(gold):
        raise ValueError(f"{len(rows)} {what} and {len(gold)} labels; expected one label a row")


def finite_numbers(values: Any, what: str) -> np.ndarray:
    """An array of finite numbers; raises `ValueError` naming the first row that is none."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        cells = np.asarray(values, dtype=object)
        bad = np.array([not isinstance(cell, NUMBER) for cell in cells.ravel()], dtype=bool)
        refuse(bad.reshape(cells.shape), cells, what, "expected a number")
        raise ValueError(f"the array of {what} holds {array.dtype}; expected numbers")
    refuse(~np.isfinite(array), array, what, "expected a finite number")
    return array


def refuse(bad: np.ndarray, values: np.ndarray, what: str, expected: str) -> None:
    """Raise `ValueError` naming the first row where `bad` holds."""
    if bad.any():
        where = tuple(np.argwhere(bad)[0])
        place = ", column ".join(map(str, where)) or "0"
        raise ValueError(f"row {place}: the {what} is {np.asarray(values[where]).tolist()!r}; {expected}")
