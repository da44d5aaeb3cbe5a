"""What counts as a class: its label, its name, its probability and its prediction.

N pairs, C classes. A class is its index, a whole number from 0. A scorer gives `(N, C)` scores, one a class, or `(N,)`
probabilities of class 1 of the two classes 0 and 1.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from crossenc_kit.calibration import softmax
from crossenc_kit.pairs import DataError, Pairs
from crossenc_kit.scorers import scorer_label_names


def class_labels(pairs: Pairs) -> np.ndarray:
    """The labels `(N,)` as whole numbers from 0."""
    if pairs.labels is None or not len(pairs.labels):
        raise DataError("evaluation needs labels: add a column named label or labels with class indices")
    if pairs.labels.ndim != 1:
        raise DataError(f"classification needs one class index a pair, got {pairs.labels.shape[1]} labels")
    bad = np.flatnonzero(~(pairs.labels >= 0) | (pairs.labels % 1 != 0))
    if len(bad):
        raise DataError(
            f"row {bad[0]}: the label is {pairs.labels[bad[0]]}; a class is a whole number from 0 "
            "(drop rows without a class; for graded labels use evaluate_correlation)"
        )
    return pairs.labels.astype(np.int64)


def as_probabilities(scores: np.ndarray) -> np.ndarray:
    """Scores `(N,)` in 0..1 as they are; `(N, C)` as they are where each row sums to 1, else their softmax."""
    if scores.ndim == 1:
        bad = np.flatnonzero((scores < 0) | (scores > 1))
        if len(bad):
            raise DataError(
                f"the scorer gave {scores[bad[0]]:.4g} for row {bad[0]}; one score a pair must be the probability "
                "of class 1, 0 to 1: give the scorer a sigmoid (activation_fn='sigmoid')"
            )
        return scores
    if scores.ndim > 2 or scores.shape[1] < 2:
        raise DataError(f"classification needs scores of shape (N,) or (N, C), C at least 2; got {scores.shape}")
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, rtol=0, atol=1e-4):
        return scores
    return softmax(scores)


def class_names(given: Sequence[str] | None, pairs: Pairs, scorer: Any, size: int) -> tuple[str, ...]:
    """The names of the C = `size` classes: those given, else the data's, else the scorer's, else "0", "1", ...

    Raises `DataError` where two of them have another order of the same names, whatever their case, or where data and
    scorer have other names and none are given.
    """
    from_scorer = scorer_label_names(scorer)
    if all(re.fullmatch(r"(LABEL_)?\d+", word) for word in from_scorer) or (size == 2 and len(from_scorer) == 1):
        from_scorer = ()  # what Hugging Face calls classes without names, or the one score of a model
    sources = {"label_names": tuple(given or ()), "the data": tuple(pairs.label_names), "the scorer": from_scorer}
    named = {source: names for source, names in sources.items() if names}
    for source, names in named.items():
        if len(set(names)) != size or len(names) != size:
            raise DataError(
                f"{source} has the names {names}; the scores are of {size} classes, each needs its own name"
            )
    for (source, names), (other, other_names) in combinations(named.items(), 2):
        a, b = ([name.casefold() for name in words] for words in (names, other_names))
        if a != b and (not given or sorted(a) == sorted(b)):
            raise DataError(
                f"{source} has the classes {names}, in this order, and {other} {other_names}; an index must mean one "
                "class: give the data the scorer's order with read_nli(..., label_names=...) or Pairs.with_label_names"
            )
    return next(iter(named.values()), tuple(map(str, range(size))))


def check_labels(labels: np.ndarray, names: tuple[str, ...], one_score: bool) -> None:
    """Refuse labels beyond the C classes and, for one score, a single class; warn of classes that are missing."""
    bad = np.flatnonzero(labels >= len(names))
    if len(bad):
        raise DataError(
            f"row {bad[0]}: the label is {labels[bad[0]]}; the scorer has the classes 0 to {len(names) - 1}"
        )
    missing = [name for index, name in enumerate(names) if index not in labels]
    if missing and one_score:
        raise DataError(f"average precision needs both classes; none of {len(labels)} pairs has the label {missing[0]}")
    if missing:
        warnings.warn(
            f"no pair has the label {', '.join(missing)}; macro F1 is over the classes that occur among labels or "
            "predictions",
            stacklevel=3,
        )


def check_threshold(threshold: float | None, dimensions: int) -> float | None:
    """The threshold of `(N,)` probabilities, by default 0.5; None for `(N, C)`. Raises `ValueError` for others."""
    if dimensions == 2:
        if threshold is not None:
            raise ValueError(f"threshold={threshold} is for one score a pair; of several classes the largest wins")
        return None
    cut = 0.5 if threshold is None else float(threshold)
    if not -1e-6 <= cut <= 1 + 1e-6:  # `best_threshold` may answer the next number beyond 0 or 1
        raise ValueError(f"the threshold of a probability lies between 0 and 1, got {cut}")
    return cut


def predict_classes(probabilities: np.ndarray, threshold: float | None) -> np.ndarray:
    """Class indices `(N,)`: the largest of `(N, C)` probabilities, or 1 where one of `(N,)` is above the threshold."""
    return probabilities.argmax(axis=1) if threshold is None else (probabilities > threshold).astype(np.int64)
