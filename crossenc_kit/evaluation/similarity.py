"""A scorer and labelled examples become a report.

A scorer is any callable from a list of N pairs to an array `(N,)`: a trained `CrossEncoder`, word
overlap, a teacher. No torch here.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.pairs import Pairs, as_pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.metrics import bootstrap_difference, bootstrap_interval, pearson, spearman
from crossenc_kit.scorers import Scorer, score_pairs

CORRELATIONS = {"pearson": pearson, "spearman": spearman}


@dataclass(frozen=True, eq=False)
class CorrelationReport:
    """How far scores and labels agree: correlations with bootstrap intervals, and baselines beside them.

    `scores`, `labels`: `(N,)`. `intervals`: metric to (low, high) at 95 %, empty where none was asked for.
    `baselines`: name to `{"pearson": ..., "spearman": ...}`; `margins`: baseline to the paired bootstrap
    interval of this scorer's Spearman minus the baseline's.
    """

    name: str
    count: int
    pearson: float
    spearman: float
    scores: np.ndarray
    labels: np.ndarray
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    margins: dict[str, tuple[float, float]] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """`{"spearman": ..., "pearson": ...}`; the first is the one that model selection looks at."""
        return {"spearman": self.spearman, "pearson": self.pearson}

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.count:,} pairs",
            f"  {'':<22}{'Spearman':>9}  {'95 % interval':<16}{'Pearson':>9}",
        ]
        low, high = self.intervals.get("spearman", (float("nan"),) * 2)
        interval = f"{low:.3f} to {high:.3f}" if self.intervals else ""
        lines.append(f"  {'model':<22}{self.spearman:>9.3f}  {interval:<16}{self.pearson:>9.3f}")
        for name, values in self.baselines.items():
            lines.append(f"  {name:<22}{values['spearman']:>9.3f}  {'':<16}{values['pearson']:>9.3f}")
        for name, (low, high) in self.margins.items():
            lines.append(f"  Spearman above {name}: {low:+.3f} to {high:+.3f} (95 %, paired bootstrap)")
        return "\n".join(lines)


def evaluate_correlation(
    scorer: Scorer,
    data: Any,
    *,
    name: str = "",
    baselines: Mapping[str, Scorer] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> CorrelationReport:
    """Score labelled pairs and correlate the scores with the labels.

    `data`: anything `as_pairs` takes, with one label a pair. `baselines`: other scorers for the same
    pairs. `resamples=0` skips the intervals. Raises `DataError` where labels are missing, are not one a
    pair or are all equal, and where the scorer's answer does not fit.
    """
    pairs = as_pairs(data)
    labels = _single_labels(pairs)
    texts = pairs.texts
    scores = _single_scores(scorer, texts)
    others = {key: _single_scores(other, texts) for key, other in (baselines or {}).items()}
    options = {"resamples": resamples, "seed": seed}
    intervals, margins = {}, {}
    if resamples:
        intervals = {key: bootstrap_interval(f, scores, labels, **options) for key, f in CORRELATIONS.items()}
        margins = {
            key: bootstrap_difference(spearman, scores, other, labels, **options) for key, other in others.items()
        }
    return CorrelationReport(
        name or "evaluation",
        len(labels),
        pearson(scores, labels),
        spearman(scores, labels),
        scores,
        labels,
        intervals,
        {key: {m: f(other, labels) for m, f in CORRELATIONS.items()} for key, other in others.items()},
        margins,
    )


def _single_scores(scorer: Scorer, texts: Sequence[tuple[str, str]]) -> np.ndarray:
    scores = score_pairs(scorer, texts)
    if scores.ndim != 1:
        raise DataError(f"correlation needs one score a pair, the scorer gave scores of shape {scores.shape}")
    return scores


def _single_labels(pairs: Pairs) -> np.ndarray:
    if pairs.labels is None:
        raise DataError("evaluation needs labels: add a column named label, labels, score or scores")
    if pairs.labels.ndim != 1:
        raise DataError(f"correlation needs one label a pair, got {pairs.labels.shape[1]}")
    if len(pairs.labels) < 2 or np.ptp(pairs.labels) == 0:
        raise DataError(f"correlation needs at least two different labels; all {len(pairs.labels)} are equal")
    return np.asarray(pairs.labels, dtype=float)


def correlation_evaluator(data: Any, name: str = "") -> Callable[[Scorer], dict[str, float]]:
    """An evaluator for `train`: a function from the model to `{"spearman": ..., "pearson": ...}`."""
    pairs = as_pairs(data)
    _single_labels(pairs)

    def evaluate(model: Scorer) -> dict[str, float]:
        return evaluate_correlation(model, pairs, name=name, resamples=0).metrics()

    return evaluate


def by_tag(metric: Callable[..., float], scores: ArrayLike, labels: ArrayLike, tags: Sequence[Any]) -> dict[str, float]:
    """`metric(scores, labels)` within each value of a tag column `(N,)`, most frequent tag first.

    Tags are told apart, and named in the result, by their text. Raises `ValueError` for columns of
    different lengths, and naming the tag where the metric has no meaning within it.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if not len(scores) == len(labels) == len(tags):
        raise ValueError(f"{len(scores)} scores, {len(labels)} labels and {len(tags)} tags; expected one a pair")
    rows: dict[str, list[int]] = {}
    for row, tag in enumerate(tags):
        rows.setdefault(str(tag), []).append(row)
    found = {}
    for tag in sorted(rows, key=lambda tag: (-len(rows[tag]), tag)):
        try:
            found[tag] = metric(scores[rows[tag]], labels[rows[tag]])
        except ValueError as error:
            raise ValueError(f"tag {tag!r}: {error}") from error
    return found


def append_csv(path: str | os.PathLike, row: Mapping[str, Any]) -> Path:
    """Add one row to a CSV file, with a header where the file is new.

    Raises `ValueError` where the file has other columns, so that no figure ends up under a wrong name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    known: list[str] = []
    whole = True  # whether the last line has its end; editors may leave it out
    if path.exists():
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte-order mark
            known = next(csv.reader(file), [])
        whole = path.read_bytes()[-1:] in (b"", b"\n")
    if known and known != list(row):
        raise ValueError(f"{path} has the columns {known}, this row has {list(row)}; write to another file")
    with open(path, "a", newline="", encoding="utf-8") as file:
        if not whole:
            file.write("\r\n")
        writer = csv.DictWriter(file, fieldnames=list(row))
        if not known:
            writer.writeheader()
        writer.writerow(row)
    return path
