"""Classes: a scorer and pairs with class labels become a report.

N pairs, C classes. A class is its index, a whole number from 0. A scorer gives `(N, C)` scores, one
per class, or `(N,)` probabilities of class 1 of the two classes 0 and 1. No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    log_loss,
    macro_f1,
)
from crossenc_kit.history import Report
from crossenc_kit.scorers import (
    Evaluator,
    Scorer,
    score_pairs,
    scorer_label_names,
    warn_at_call,
)

HEADINGS = {"average_precision": "avg. precision", "accuracy": "accuracy", "macro_f1": "macro F1"}


def class_labels(pairs: Pairs) -> np.ndarray:
    """Return the labels `(N,)` as whole numbers from 0; raises `DataError` naming a row that fails."""
    if pairs.labels is None or not len(pairs.labels):
        raise DataError("evaluation needs labels: add a column named label or labels with class indices")
    if pairs.labels.ndim != 1:
        count = pairs.labels.shape[1]
        raise DataError(f"classification needs one class index per pair, got {count} labels")
    bad = np.flatnonzero(~(pairs.labels >= 0) | (pairs.labels % 1 != 0))
    if len(bad):
        raise DataError(
            f"row {bad[0]}: the label is {pairs.labels[bad[0]]}; a class is a whole number from 0 "
            "(drop rows without a class; for graded labels use evaluate_correlation)"
        )
    return pairs.labels.astype(np.int64)


def as_probabilities(scores: np.ndarray) -> np.ndarray:
    """Turn scores into probabilities: rows `(N, C)` that do not sum to 1 go through softmax.

    Raises `DataError` for scores `(N,)` outside 0..1.
    """
    if scores.ndim > 2 or scores.shape[1:] in ((0,), (1,)):
        shape = scores.shape
        raise DataError(f"classification needs scores (N,) or (N, C), C at least 2; got {shape}")
    if scores.ndim == 1:
        bad = np.flatnonzero((scores < 0) | (scores > 1))
        if len(bad):
            raise DataError(
                f"the scorer gave {scores[bad[0]]:.4g} for row {bad[0]}; a single score per pair must be the "
                "probability of class 1: give the scorer a sigmoid (activation_fn='sigmoid')"
            )
        return scores
    close = np.allclose(scores.sum(axis=1), 1, rtol=0, atol=1e-4)  # float16 rounds so much
    return scores if close and (scores >= 0).all() else softmax(scores)


def class_names(given: Sequence[str] | None, pairs: Pairs, scorer: Any, size: int) -> tuple[str, ...]:
    """Name the C = `size` classes: as given, else as in the data, else as the scorer does, or "0", ...

    Raises `DataError` if two of these sources disagree, be it on the order of the same names only.
    """
    from_scorer = scorer_label_names(scorer)
    made_up = all(re.fullmatch(r"(LABEL_)?\d+", word) for word in from_scorer)
    if made_up or (size == 2 and len(from_scorer) == 1):  # the name of the one score is no class
        from_scorer = ()
    sources = {"label_names": given or (), "the data": pairs.label_names, "the scorer": from_scorer}
    named = {source: tuple(names) for source, names in sources.items() if names}
    for source, names in named.items():
        if len(set(names)) != size or len(names) != size:
            raise DataError(f"{source} has the names {names}; the scores are of {size} classes")
    for (source, names), (other, others) in combinations(named.items(), 2):
        a, b = ([name.casefold() for name in words] for words in (names, others))
        if a != b and (not given or sorted(a) == sorted(b)):
            raise DataError(
                f"{source} has the classes {names}, in this order, and {other} {others}; an index must "
                "mean one class: give the data the scorer's order with read_nli(..., label_names=...) "
                "or Pairs.with_label_names"
            )
    return next(iter(named.values()), tuple(map(str, range(size))))


def check_labels(labels: np.ndarray, names: tuple[str, ...], one_score: bool) -> None:
    """Refuse labels beyond the C classes, and a single class for one score; warn of missing ones."""
    if len(bad := np.flatnonzero(labels >= len(names))):
        known = f"the scorer has the classes 0 to {len(names) - 1}"
        raise DataError(f"row {bad[0]}: the label is {labels[bad[0]]}; {known}")
    missing = [name for index, name in enumerate(names) if index not in labels]
    if missing and one_score:
        count = f"none of {len(labels)} pairs has the label {missing[0]}"
        raise DataError(f"average precision needs both classes; {count}")
    if missing:
        what = "macro F1 is over the classes that occur among labels or predictions"
        warn_at_call(f"no pair has the label {', '.join(missing)}; {what}")


def predict_classes(probabilities: np.ndarray, threshold: float | None) -> np.ndarray:
    """Return class indices `(N,)`: the largest of `(N, C)`, or 1 if one of `(N,)` is above the cut."""
    if threshold is None:
        return probabilities.argmax(axis=1)
    return (probabilities > threshold).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ClassificationReport(Report):
    """Report how well a scorer tells classes apart."""

    name: str
    count: int  # N pairs
    label_names: tuple[str, ...]  # C
    scores: np.ndarray  # (N,) or (N, C), as the scorer gave them
    probabilities: np.ndarray  # (N,) of class 1, or (N, C)
    predicted: np.ndarray  # class indices (N,)
    labels: np.ndarray  # class indices (N,)
    accuracy: float
    macro_f1: float  # over the classes that occur among labels or predictions
    classes: ClassScores  # precision, recall, F1 and count of each class
    average_precision: float | None  # None for several classes
    threshold: float | None  # class 1 is predicted above it; None for several classes
    ece: float  # expected calibration error in 15 bins
    log_loss: float  # nats
    confusion: np.ndarray  # counts (C, C), row = label, column = predicted
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # 95 %, by metric
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)  # name to metrics
    margins: dict[str, tuple[float, float]] = field(default_factory=dict)  # accuracy above each one

    @property
    def metrics(self) -> dict[str, float]:
        """Return the metrics; average precision of one score, or else accuracy, selects models."""
        found = {}
        if self.average_precision is not None:
            found["average_precision"] = self.average_precision
        found |= {"accuracy": self.accuracy, "macro_f1": self.macro_f1}
        return found | {"log_loss": self.log_loss, "calibration_error": self.ece}

    def correct(self) -> np.ndarray:
        """Say whether each pair got its label, bool `(N,)`."""
        return self.predicted == self.labels

    def __str__(self) -> str:
        own = self.metrics
        first, *rest = [metric for metric in HEADINGS if metric in own]
        width = max(22, *map(len, (*self.label_names, *self.baselines)))
        cut = ""
        if self.threshold is not None:
            cut = f", {self.label_names[1]} above {self.threshold:.3g}"
        columns = "".join(f"{HEADINGS[metric]:>10}" for metric in rest)
        lines = [f"{self.name}: {self.count:,} pairs, {len(self.label_names)} classes{cut}"]
        lines.append(f"  {'':<{width}}{HEADINGS[first]:>15}  {'95 % interval':<16}{columns}")
        for name, values in {"model": own, **self.baselines}.items():
            shown = ""
            if values is own and self.intervals:
                shown = "{:.3f} to {:.3f}".format(*self.intervals[first])
            columns = "".join(f"{values[metric]:>10.3f}" for metric in rest)
            lines.append(f"  {name:<{width}}{values[first]:>15.3f}  {shown:<16}{columns}")
        for name, (low, high) in self.margins.items():
            interval = f"{low:+.3f} to {high:+.3f} (95 %, paired bootstrap)"
            lines.append(f"  Accuracy above {name}: {interval}")
        lines.append(f"  {'':<{width}}{'precision':>15}{'recall':>10}{'F1':>10}{'pairs':>10}")
        for name, precision, recall, f1, count in zip(self.label_names, *self.classes, strict=True):
            figures = f"{precision:>15.3f}{recall:>10.3f}{f1:>10.3f}{count:>10,}"
            lines.append(f"  {name:<{width}}{figures}")
        errors = f"Calibration error (ECE) {self.ece:.3f}, log loss {self.log_loss:.3f}"
        return "\n".join([*lines, f"  {errors}"])


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
    """Score pairs with class labels, and measure the predictions.

    data: anything `as_pairs` takes, with one class index per pair
    label_names: by default those of the data, or else those of the scorer
    threshold: scores `(N,)` above it are class 1; by default 0.5
    baselines: other scorers, with scores of the same shape
    resamples: of the bootstrap; 0 skips the intervals

    Raises `DataError` if labels, names or scores do not fit together; warns of missing classes.
    """
    pairs = as_pairs(data)
    labels = class_labels(pairs)
    scores = score_pairs(scorer, pairs.texts)
    probabilities = as_probabilities(scores)
    size = 2 if scores.ndim == 1 else scores.shape[1]
    names = class_names(label_names, pairs, scorer, size)
    check_labels(labels, names, scores.ndim == 1)
    cut = _cut(scores, threshold)
    predicted = predict_classes(probabilities, cut)
    found = _measure(probabilities, predicted, labels)
    others = {}
    for key, other in (baselines or {}).items():
        others[key] = _baseline(key, other, pairs, scores.shape, cut)
    intervals, margins = {}, {}
    if resamples:
        options: dict[str, Any] = {"resamples": resamples, "seed": seed}
        intervals = _intervals(probabilities, predicted, labels, options)
        for key, (_, guess) in others.items():
            margins[key] = bootstrap_difference(accuracy, predicted, guess, labels, **options)
    report = {key: found[key] for key in ("accuracy", "macro_f1", "log_loss")}
    return ClassificationReport(
        name or "evaluation",
        len(labels),
        names,
        scores,
        probabilities,
        predicted,
        labels,
        **report,
        classes=class_scores(predicted, labels, size),
        average_precision=found.get("average_precision"),
        threshold=cut,
        ece=found["calibration_error"],
        confusion=confusion_matrix(predicted, labels, size),
        intervals=intervals,
        baselines={key: _measure(other, guess, labels) for key, (other, guess) in others.items()},
        margins=margins,
    )


def _cut(scores: np.ndarray, threshold: float | None) -> float | None:
    """Return the threshold of single scores `(N,)`; one score per class `(N, C)` has none."""
    if scores.ndim == 1:
        return 0.5 if threshold is None else threshold
    if threshold is not None:
        raise ValueError(f"threshold={threshold} is for one score per pair, not for one per class")
    return None


def classification_evaluator(data: Any, name: str = "") -> Evaluator:
    """Make an evaluator for `train`: from the model to metrics, the one that selects first.

    Raises `DataError` at once if the labels are no classes, or all the same.
    """
    pairs = as_pairs(data)
    labels = class_labels(pairs)
    if np.ptp(labels) == 0:
        count = f"all {len(labels)} labels are {labels[0]}"
        raise DataError(f"a model is chosen by at least two classes; {count}")

    def evaluate(model: Scorer) -> dict[str, float]:
        return evaluate_classification(model, pairs, name=name, resamples=0).metrics

    return evaluate


def _measure(probabilities: np.ndarray, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    one = probabilities.ndim == 1
    return {
        **({"average_precision": average_precision(probabilities, labels)} if one else {}),
        "accuracy": accuracy(predicted, labels),
        "macro_f1": macro_f1(predicted, labels),
        "log_loss": log_loss(probabilities, labels),
        "calibration_error": expected_calibration_error(probabilities, labels),
    }


def _baseline(
    name: str, scorer: Scorer, pairs: Pairs, shape: tuple[int, ...], threshold: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities and predictions of a baseline."""
    try:
        scores = score_pairs(scorer, pairs.texts)
        if scores.shape != shape:
            raise DataError(f"scores of shape {scores.shape}, the evaluated scorer's have {shape}")
        probabilities = as_probabilities(scores)
    except DataError as error:
        raise DataError(f"baseline {name!r}: {error}") from error
    return probabilities, predict_classes(probabilities, threshold)


def _intervals(
    probabilities: np.ndarray, predicted: np.ndarray, labels: np.ndarray, options: dict[str, Any]
) -> dict[str, tuple[float, float]]:
    def precision_or_share(scores: np.ndarray, gold: np.ndarray) -> float:
        # A resample with one class: what a scorer that knows nothing gets, 0 or 1.
        return float(gold[0]) if np.ptp(gold) == 0 else average_precision(scores, gold)

    found = {}
    if probabilities.ndim == 1:
        found["average_precision"] = bootstrap_interval(precision_or_share, probabilities, labels, **options)
    for name, metric in (("accuracy", accuracy), ("macro_f1", macro_f1)):
        found[name] = bootstrap_interval(metric, predicted, labels, **options)
    return found
