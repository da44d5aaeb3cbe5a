"""Graded similarity: how far a scorer agrees with labelled pairs, beside baselines.

No torch here: a scorer is any function from N pairs to an array `(N,)`.
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
from crossenc_kit.evaluation.metrics import (
    bootstrap_difference,
    bootstrap_interval,
    pearson,
    spearman,
)
from crossenc_kit.history import Report
from crossenc_kit.scorers import Evaluator, Scorer, score_pairs

CORRELATIONS = {"pearson": pearson, "spearman": spearman}


@dataclass(frozen=True, eq=False)
class CorrelationReport(Report):
    """Report how far scores and labels agree."""

    name: str
    count: int  # N pairs
    pearson: float
    spearman: float
    scores: np.ndarray  # (N,)
    labels: np.ndarray  # (N,)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # 95 %, by metric
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)  # name to metrics
    margins: dict[str, tuple[float, float]] = field(default_factory=dict)  # Spearman above each one

    @property
    def metrics(self) -> dict[str, float]:
        """Return `{"spearman": ..., "pearson": ...}`; the first selects the best model."""
        return {"spearman": self.spearman, "pearson": self.pearson}

    def __str__(self) -> str:
        head = f"  {'':<22}{'Spearman':>9}  {'95 % interval':<16}{'Pearson':>9}"
        lines = [f"{self.name}: {self.count:,} pairs", head]
        for name, values in {"model": self.metrics, **self.baselines}.items():
            shown = ""
            if name == "model" and self.intervals:
                shown = "{:.3f} to {:.3f}".format(*self.intervals["spearman"])
            spearman, pearson = values["spearman"], values["pearson"]
            lines.append(f"  {name:<22}{spearman:>9.3f}  {shown:<16}{pearson:>9.3f}")
        for name, (low, high) in self.margins.items():
            interval = f"{low:+.3f} to {high:+.3f} (95 %, paired bootstrap)"
            lines.append(f"  Spearman above {name}: {interval}")
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

    data: anything `as_pairs` takes, with one label per pair
    baselines: other scorers of the same pairs, by name
    resamples: of the bootstrap; 0 skips the intervals

    Raises `DataError` if labels are missing or all equal, or if the scores do not fit the pairs.
    """
    pairs = as_pairs(data)
    labels = _single_labels(pairs)
    scores = _single_scores(scorer, pairs)
    others = {key: _single_scores(other, pairs) for key, other in (baselines or {}).items()}
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    intervals, margins = {}, {}
    if resamples:
        for metric, function in CORRELATIONS.items():
            intervals[metric] = bootstrap_interval(function, scores, labels, **options)
        for key, other in others.items():
            margins[key] = bootstrap_difference(spearman, scores, other, labels, **options)
    return CorrelationReport(
        name or "evaluation",
        len(labels),
        **_correlations(scores, labels),
        scores=scores,
        labels=labels,
        intervals=intervals,
        baselines={key: _correlations(other, labels) for key, other in others.items()},
        margins=margins,
    )


def _correlations(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {metric: function(scores, labels) for metric, function in CORRELATIONS.items()}


def _single_scores(scorer: Scorer, pairs: Pairs) -> np.ndarray:
    scores = score_pairs(scorer, pairs.texts)
    if scores.ndim != 1:
        raise DataError(f"correlation needs one score per pair; the scorer gave shape {scores.shape}")
    return scores


def _single_labels(pairs: Pairs) -> np.ndarray:
    if pairs.labels is None:
        raise DataError("evaluation needs labels: add a column named label, labels, score or scores")
    if pairs.labels.ndim != 1:
        raise DataError(f"correlation needs one label per pair, got {pairs.labels.shape[1]}")
    if len(pairs.labels) < 2 or np.ptp(pairs.labels) == 0:
        count = len(pairs.labels)
        raise DataError(f"correlation needs two different labels; all {count} are equal")
    return np.asarray(pairs.labels, dtype=float)


def correlation_evaluator(data: Any, name: str = "") -> Evaluator:
    """Make an evaluator for `train`: from the model to `{"spearman": ..., "pearson": ...}`."""
    pairs = as_pairs(data)
    _single_labels(pairs)

    def evaluate(model: Scorer) -> dict[str, float]:
        return evaluate_correlation(model, pairs, name=name, resamples=0).metrics

    return evaluate


def by_tag(metric: Callable[..., float], scores: ArrayLike, labels: ArrayLike, tags: Sequence[Any]) -> dict[str, float]:
    """Return `metric(scores, labels)` within each value of a tag column `(N,)`, most frequent first.

    Raises `ValueError` naming the tag if the metric has no meaning within it.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    found = {}
    for tag, rows in rows_by_tag(tags, len(labels)).items():
        try:
            found[tag] = metric(scores[rows], labels[rows])
        except ValueError as error:
            raise ValueError(f"tag {tag!r}: {error}") from error
    return found


def rows_by_tag(tags: Sequence[Any], count: int) -> dict[str, list[int]]:
    """Return the rows of each tag, told apart by their text, the most frequent tag first.

    Raises `ValueError` if there is not one tag for each of `count` pairs.
    """
    if len(tags) != count:
        raise ValueError(f"{count} pairs and {len(tags)} tags; expected one per pair")
    rows: dict[str, list[int]] = {}
    for row, tag in enumerate(tags):
        rows.setdefault(str(tag), []).append(row)
    return {tag: rows[tag] for tag in sorted(rows, key=lambda tag: (-len(rows[tag]), tag))}


def append_csv(path: str | os.PathLike, row: Mapping[str, Any]) -> Path:
    """Add one row to a CSV file, with a header if the file is new.

    Raises `ValueError` if the file has other columns, so that no figure gets a wrong name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    known: list[str] = []
    whole = True  # whether the last line ends; editors may leave the end out
    if path.exists():
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a mark
            known = next(csv.reader(file), [])
        whole = path.read_bytes()[-1:] in (b"", b"\n")
    if known and known != list(row):
        raise ValueError(f"{path} has the columns {known}, not {list(row)}; write to another file")
    with open(path, "a", newline="", encoding="utf-8") as file:
        if not whole:
            file.write("\r\n")
        writer = csv.DictWriter(file, fieldnames=list(row))
        if not known:
            writer.writeheader()
        writer.writerow(row)
    return path
