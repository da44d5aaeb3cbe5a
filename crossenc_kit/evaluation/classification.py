"""What counts as a class: its label, its name, its probability and its prediction.

N pairs, C classes. A class is its index, a whole number from 0. A scorer gives `(N, C)` scores, one a class, or `(N,)`
probabilities of class 1 of the two classes 0 and 1.

A scorer and pairs with class labels become a report, and two reports a comparison.

The scorer gives `(N, C)` scores, one a class, or `(N,)` probabilities of class 1 of the two classes 0 and 1. No torch
here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import Pairs, as_pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.calibration import expected_calibration_error, softmax
from crossenc_kit.evaluation.metrics import (
    ClassScores,
    accuracy,
    average_precision,
    bootstrap_difference,
    bootstrap_interval,
    class_scores,
    confusion_matrix,
    f1_score,
    log_loss,
)
from crossenc_kit.evaluation.similarity import by_tag
from crossenc_kit.scorers import Scorer, score_pairs, scorer_label_names

HEADINGS = {"average_precision": "avg. precision", "accuracy": "accuracy", "macro_f1": "macro F1"}


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


@dataclass(frozen=True, eq=False)
class ClassificationReport:
    """How well a scorer tells classes apart: metrics with bootstrap intervals, and baselines beside them.

    `scores`: `(N,)` or `(N, C)` as given; `probabilities`: `(N,)` of class 1, or `(N, C)`. `predicted`, `labels`:
    class indices `(N,)`; of one score, class 1 is predicted above `threshold`. `macro_f1`: mean F1 of the classes
    that occur among labels or predictions. `classes`: precision, recall, F1 and count of each class, `(C,)`.
    `average_precision`, `threshold`: None for several classes. `ece`: expected calibration error in 15 bins.
    `confusion`: counts `(C, C)`, row = label, column = predicted. `intervals`: metric to (low, high) at 95 %, empty
    where none was asked for. `baselines`: name to metrics; `margins`: baseline to the paired bootstrap interval of
    this scorer's accuracy minus the baseline's.
    """

    name: str
    count: int
    label_names: tuple[str, ...]
    scores: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray
    accuracy: float
    macro_f1: float
    classes: ClassScores
    average_precision: float | None
    threshold: float | None
    ece: float
    log_loss: float
    confusion: np.ndarray
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    margins: dict[str, tuple[float, float]] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Metrics by name; the first, average precision of one score or accuracy of several, selects models."""
        found = {} if self.average_precision is None else {"average_precision": self.average_precision}
        named = {"accuracy": self.accuracy, "macro_f1": self.macro_f1}
        return {**found, **named, "log_loss": self.log_loss, "calibration_error": self.ece}

    def correct(self) -> np.ndarray:
        """Whether each pair got its label, bool `(N,)`."""
        return self.predicted == self.labels

    def __str__(self) -> str:
        own = self.metrics()
        first, *rest = [metric for metric in HEADINGS if metric in own]
        cut = "" if self.threshold is None else f", {self.label_names[1]} above {self.threshold:.3g}"
        width = max(22, *map(len, (*self.label_names, *self.baselines)))
        headings = "".join(f"{HEADINGS[metric]:>10}" for metric in rest)
        lines = [f"{self.name}: {self.count:,} pairs, {len(self.label_names)} classes{cut}"]
        lines.append(f"  {'':<{width}}{HEADINGS[first]:>15}  {'95 % interval':<16}{headings}")
        for name, values in {"model": own, **self.baselines}.items():
            interval = ""
            if values is own and self.intervals:
                interval = "{:.3f} to {:.3f}".format(*self.intervals[first])
            others = "".join(f"{values[metric]:>10.3f}" for metric in rest)
            lines.append(f"  {name:<{width}}{values[first]:>15.3f}  {interval:<16}{others}")
        for name, (low, high) in self.margins.items():
            lines.append(f"  Accuracy above {name}: {low:+.3f} to {high:+.3f} (95 %, paired bootstrap)")
        lines.append(f"  {'':<{width}}{'precision':>15}{'recall':>10}{'F1':>10}{'pairs':>10}")
        for name, precision, recall, f1, count in zip(self.label_names, *self.classes, strict=True):
            lines.append(f"  {name:<{width}}{precision:>15.3f}{recall:>10.3f}{f1:>10.3f}{count:>10,}")
        return "\n".join([*lines, f"  Calibration error (ECE) {self.ece:.3f}, log loss {self.log_loss:.3f}"])


def evaluate_classification(
    scorer: Scorer,
    data: Any,
    *,
    name: str = "",
    label_names: Sequence[str] | None = None,
    threshold: float | None = None,
    baselines: Mapping[str, Scorer] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> ClassificationReport:
    """Score pairs with class labels, and measure what is predicted.

    `data`: anything `as_pairs` takes, with one class index a pair. `(N, C)` scores whose rows are probabilities are
    taken as they are, others go through softmax. `(N,)` scores are probabilities of class 1, predicted above
    `threshold` (0.5). `label_names`: by default those of the data, else those of the scorer. `baselines`: other
    scorers, with scores of the same shape. `resamples=0` skips the intervals. Warns of classes that the data lack.
    Raises `DataError` where labels are no classes of the scorer, where data and scorer name the classes in another
    order, and where the scorer's answer does not fit.
    """
    pairs = as_pairs(data)
    labels = class_labels(pairs)
    scores = score_pairs(scorer, pairs.texts)
    probabilities = as_probabilities(scores)
    size = 2 if scores.ndim == 1 else scores.shape[1]
    names = class_names(label_names, pairs, scorer, size)
    check_labels(labels, names, scores.ndim == 1)
    cut = check_threshold(threshold, scores.ndim)
    predicted = predict_classes(probabilities, cut)
    found = _measure(probabilities, predicted, labels)
    others = {key: _baseline(key, other, pairs, scores.shape, cut) for key, other in (baselines or {}).items()}
    intervals, margins = {}, {}
    if resamples:
        options = {"resamples": resamples, "seed": seed}
        intervals = _intervals(probabilities, predicted, labels, options)
        margins = {
            key: bootstrap_difference(accuracy, predicted, guess, labels, **options)
            for key, (_, guess) in others.items()
        }
    return ClassificationReport(
        name or "evaluation",
        len(labels),
        names,
        scores,
        probabilities,
        predicted,
        labels,
        found["accuracy"],
        found["macro_f1"],
        class_scores(predicted, labels, size),
        found.get("average_precision"),
        cut,
        found["calibration_error"],
        found["log_loss"],
        confusion_matrix(predicted, labels, size),
        intervals,
        {key: _measure(other, guess, labels) for key, (other, guess) in others.items()},
        margins,
    )


def classification_evaluator(data: Any, name: str = "") -> Callable[[Scorer], dict[str, float]]:
    """An evaluator for `train`: a function from the model to metrics, the one to select by first.

    Raises `DataError` at once where the labels are no classes, or one class only.
    """
    pairs = as_pairs(data)
    labels = class_labels(pairs)
    if np.ptp(labels) == 0:
        raise DataError(f"a model is chosen by at least two classes; all {len(labels)} labels are {labels[0]}")

    def evaluate(model: Scorer) -> dict[str, float]:
        return evaluate_classification(model, pairs, name=name, resamples=0).metrics()

    return evaluate


def _measure(probabilities: np.ndarray, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    found = {"average_precision": average_precision(probabilities, labels)} if probabilities.ndim == 1 else {}
    return {
        **found,
        "accuracy": accuracy(predicted, labels),
        "macro_f1": f1_score(predicted, labels),
        "log_loss": log_loss(probabilities, labels),
        "calibration_error": expected_calibration_error(probabilities, labels),
    }


def _baseline(
    name: str, scorer: Scorer, pairs: Pairs, shape: tuple[int, ...], threshold: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities, predicted) of a baseline, which gives scores of the same shape."""
    try:
        scores = score_pairs(scorer, pairs.texts)
        if scores.shape != shape:
            raise DataError(f"scores of shape {scores.shape}, the evaluated scorer's have {shape}")
        probabilities = as_probabilities(scores)
    except DataError as error:
        raise DataError(f"baseline {name!r}: {error}") from error
    return probabilities, predict_classes(probabilities, threshold)


def _intervals(
    probabilities: np.ndarray, predicted: np.ndarray, labels: np.ndarray, options: dict[str, int]
) -> dict[str, tuple[float, float]]:
    def precision_or_share(scores: np.ndarray, gold: np.ndarray) -> float:
        """Average precision; of a resample with one class, what a scorer that knows nothing gets: 0 or 1."""
        return float(gold[0]) if np.ptp(gold) == 0 else average_precision(scores, gold)

    found = {}
    if probabilities.ndim == 1:
        found["average_precision"] = bootstrap_interval(precision_or_share, probabilities, labels, **options)
    for name, metric in (("accuracy", accuracy), ("macro_f1", f1_score)):
        found[name] = bootstrap_interval(metric, predicted, labels, **options)
    return found


def accuracy_by_tag(
    report: ClassificationReport, tags: Sequence[Any], *, resamples: int = 1000, seed: int = 0
) -> tuple[dict[str, float], dict[str, tuple[float, float]], dict[str, int]]:
    """Accuracies, 95 % intervals and counts within each value of a tag column `(N,)`, most frequent tag first.

    They are what `plots.bars_with_intervals(values, intervals, counts=counts)` draws. `resamples=0` skips the
    intervals. Raises `ValueError` where there is not one tag a pair.
    """
    every = np.arange(report.count)
    rows: dict[str, Any] = by_tag(lambda rows, _: rows, every, every, tags)
    right = {tag: report.correct()[own].astype(float) for tag, own in rows.items()}
    options = {"resamples": resamples, "seed": seed}
    intervals = {tag: bootstrap_interval(np.mean, own, **options) for tag, own in right.items() if resamples}
    values = {tag: float(own.mean()) for tag, own in right.items()}
    return values, intervals, {tag: len(own) for tag, own in right.items()}
