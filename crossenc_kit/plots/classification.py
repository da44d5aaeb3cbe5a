"""Figures of classifiers: confusion, reliability, precision against recall, accuracy by tag.

A `report` is what `evaluate_classification` returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.evaluation.calibration import expected_calibration_error, reliability_curve
from crossenc_kit.evaluation.metrics import average_precision, bootstrap_interval, precision_recall_curve
from crossenc_kit.plots.figures import (
    BLUE,
    GREY,
    INK,
    PALE,
    STYLES,
    drawing,
    few,
    label_axes,
    line_style,
    one_line,
    safe,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def confusion(report: Any) -> Figure:
    """Draw how often each class (row) was predicted as each (column), and its share of the row."""
    counts, names = np.asarray(report.confusion), list(report.label_names)
    size = len(names)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    facts = (f"Accuracy {report.accuracy:.3f} on {report.count:,} pairs", _worst(counts, names))
    title = f"{one_line(report.name, 48)}: true against predicted class"
    figure, axes = drawing(title, "; ".join(facts), height=min(7.5, 2.3 + 0.55 * size))
    ax = axes["all"]
    ax.set_title("\n".join(safe(fact, 100) for fact in facts), fontsize=9)
    image = ax.imshow(shares, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(size, size) if size <= 12 else ():  # beyond, the cells are too small for numbers
        share = shares[row, column]
        said = f"{counts[row, column]:,}\n{share:.0%}" if totals[row] else "0"
        tone = "white" if share > 0.5 else INK
        ax.text(column, row, said, ha="center", va="center", color=tone, fontsize=min(9.0, 66 / size))
    words = [safe(name, 18) for name in names]
    upright = max(map(len, words)) > 54 // size
    ax.set_xticks(range(size), words, rotation=90 if upright else 0)
    ax.set_yticks(range(size), [f"{word} ({total:,})" for word, total in zip(words, totals[:, 0], strict=True)])
    ax.spines[:].set_visible(True)
    bar = figure.colorbar(image, ax=ax, shrink=0.9)
    bar.ax.tick_params(labelsize=8)
    label_axes(bar.ax, "", "share of the true class (row)")
    label_axes(ax, "predicted class", "true class (pairs)")
    return figure


def _worst(counts: np.ndarray, names: Sequence[str]) -> str:
    """Put the most frequent mistake into words."""
    mistakes = counts - np.diag(np.diag(counts))
    row, column = np.unravel_index(mistakes.argmax(), mistakes.shape)
    if not mistakes.any():
        return "no pair is in a wrong class"
    taken, total = int(mistakes[row, column]), int(counts[row].sum())
    return f"most often {one_line(names[row], 24)} is taken for {one_line(names[column], 24)} ({taken:,} of {total:,})"


def reliability(reports: Mapping[str, Any], *, bins: int = 15, title: str = "Reliability") -> Figure:
    """Draw how often predictions came true against how confident they were, and pairs per bin.

    A calibrated system lies on the diagonal; ECE, the calibration error, is its mean distance from it.
    Guo et al., "On calibration of modern neural networks", 2017.

    reports: name -> a report, or `(probabilities, labels)`, for up to four systems. `(N, C)` shows
        confidence and accuracy of the predicted class, `(N,)` probability and frequency of class 1

    Raises `ValueError` for `(N,)` beside `(N, C)`, which are different quantities.
    """
    systems = {name: _probabilities_and_labels(report) for name, report in few(reports).items()}
    kinds = {probabilities.ndim for probabilities, _ in systems.values()}
    if len(kinds) > 1:
        raise ValueError("some systems give (N,) and some (N, C) probabilities; draw them in two figures")
    errors = {name: expected_calibration_error(*system, bins) for name, system in systems.items()}
    facts = "; ".join(f"{name}: calibration error (ECE) {error:.3f}" for name, error in errors.items())
    panels = [["curve"], ["count"]]
    figure, axes = drawing(title, facts, panels, height=4.6, height_ratios=[3, 1], sharex=True)
    axes["curve"].plot([0, 1], [0, 1], color=GREY, linewidth=0.8, marker="", label="as sure as right")
    for (name, (probabilities, labels)), style in zip(systems.items(), STYLES, strict=False):
        look, label = line_style(style), f"{safe(name, 30)}, ECE {errors[name]:.3f}"
        confidence, frequency, _ = reliability_curve(probabilities, labels, bins)
        axes["curve"].plot(confidence, frequency, **look, marker=style["marker"], markersize=5, label=label)
        sure = probabilities if probabilities.ndim == 1 else probabilities.max(axis=1)
        place = np.searchsorted(np.arange(1, bins) / bins, sure)  # the bins of the curve
        share = 100 * np.bincount(place, minlength=bins) / len(sure)
        axes["count"].stairs(share, np.linspace(0, 1, bins + 1), **look)
    axes["curve"].legend(frameon=False, fontsize=8)
    of_one = kinds == {1}
    label_axes(axes["curve"], "", "frequency of class 1" if of_one else "share that is right")
    label_axes(axes["count"], "probability of class 1" if of_one else "confidence (probability)", "pairs (%)")
    axes["count"].set_xlim(0, 1)
    return figure


def _probabilities_and_labels(report: Any) -> tuple[np.ndarray, np.ndarray]:
    both = report if isinstance(report, tuple) else (report.probabilities, report.labels)
    return np.asarray(both[0], float), np.asarray(both[1])


def precision_recall(reports: Any, *, title: str = "Precision against recall") -> Figure:
    """Draw precision against recall as the threshold falls, and mark the threshold in use.

    AP, the average precision, is the area under the steps. Dotted lines show the share of the class,
    which is the precision of a random scorer.

    reports: name -> report with one score per pair, for up to four systems; or one report, of which
        each class (up to four) is drawn against the others
    """
    if isinstance(reports, Mapping):
        curves = {name: (r.probabilities, r.labels, r.threshold) for name, r in reports.items()}
    elif reports.probabilities.ndim == 1:
        curves = {reports.name: (reports.probabilities, reports.labels, reports.threshold)}
    else:
        curves = _one_against_rest(reports)
    few(curves, "curves")
    averages = {name: average_precision(scores, labels) for name, (scores, labels, _) in curves.items()}
    facts = "; ".join(f"{name}: average precision {average:.3f}" for name, average in averages.items())
    figure, axes = drawing(title, facts, height=4.0)
    ax = axes["all"]
    for (name, (scores, labels, cut)), style in zip(curves.items(), STYLES, strict=False):
        label = f"{safe(name, 30)}, AP {averages[name]:.3f}"
        precision, recall, thresholds = precision_recall_curve(scores, labels)
        ax.plot(recall, precision, **line_style(style), drawstyle="steps-post", label=label)
        if cut is not None:
            at = int(np.searchsorted(thresholds, cut, side="right"))  # the first point above the cut
            ax.plot(recall[at], precision[at], style["marker"], color=style["color"], markersize=8)
    for share in {float(labels.mean()) for _, labels, _ in curves.values()}:
        ax.axhline(share, color=GREY, linestyle=(0, (1, 3)), linewidth=1)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.04))
    ax.legend(frameon=False, fontsize=8, loc="lower left")
    marked = any(cut is not None for _, _, cut in curves.values())
    notes = ("marks: the threshold in use; " if marked else "") + "dotted: precision of a random scorer"
    label_axes(ax, f"recall ({notes})", "precision")
    return figure


def _one_against_rest(report: Any) -> dict[str, tuple[np.ndarray, np.ndarray, Any]]:
    """Map each class to its probabilities `(N,)`, to whether it is the label `(N,)`, and to None.

    Leave out classes that no pair has or all pairs have, because they have no curve.
    """
    curves = {}
    for index, name in enumerate(report.label_names):
        own = (report.labels == index).astype(int)
        if 0 < own.sum() < len(own):
            curves[name] = (report.probabilities[:, index], own, None)
    return curves


def compare_by_tag(
    ours: Any,
    theirs: Any,
    tags: Sequence[Any],
    names: tuple[str, str] = ("ours", "theirs"),
    *,
    title: str = "Accuracy by tag",
    resamples: int = 1000,
) -> Figure:
    """Draw the accuracy of two reports on the same pairs, side by side for each tag.

    Whiskers are 95 % bootstrap intervals.

    tags: one per pair, `(N,)`; the most frequent is drawn on top

    Raises `ValueError` if reports and tags are not of the same pairs.
    """
    if not np.array_equal(ours.labels, theirs.labels) or len(tags) != ours.count:
        given = f"{ours.count} and {theirs.count} pairs and {len(tags)} tags"
        raise ValueError(f"{given}; expected two reports of the same pairs, and one tag per pair")
    column = np.array([str(tag) for tag in tags], dtype=object)
    counts = Counter(column)
    order = sorted(counts, key=lambda tag: (-counts[tag], tag))
    rows = [column == tag for tag in order]
    measured = [_accuracies(report, rows, resamples) for report in (ours, theirs)]
    facts = "; ".join(
        f"{tag}: {names[0]} {a:.3f}, {names[1]} {b:.3f}"
        for tag, a, b in zip(order, measured[0][0], measured[1][0], strict=True)
    )
    figure, axes = drawing(title, facts, height=min(8.0, 1.5 + 0.45 * len(order)))
    ax = axes["all"]
    places = np.arange(len(order))
    _draw_accuracies(ax, places - 0.2, measured[0], names[0], {"color": PALE, "edgecolor": INK})
    _draw_accuracies(ax, places + 0.2, measured[1], names[1], {"color": "white", "edgecolor": BLUE, "hatch": "/////"})
    ax.set_yticks(range(len(order)), [f"{safe(tag, 30)} ({counts[tag]:,})" for tag in order])
    ax.set(xlim=(0, 1.1), ylim=(len(order) - 0.5, -0.5))
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    label_axes(ax, "accuracy (whiskers: 95 % interval)", "tag (pairs)")
    return figure


def _accuracies(report: Any, parts: Sequence[np.ndarray], resamples: int) -> np.ndarray:
    """Measure accuracy in each of P parts of the pairs: value, low and high end, `(3, P)`."""
    right = np.asarray(report.predicted == report.labels, float)
    ends = [bootstrap_interval(np.mean, right[part], resamples=resamples) for part in parts]
    return np.array([(right[part].mean(), *end) for part, end in zip(parts, ends, strict=True)]).T


def _draw_accuracies(ax: Axes, places: np.ndarray, measured: np.ndarray, name: str, look: dict[str, Any]) -> None:
    bars = ax.barh(places, measured[0], height=0.38, linewidth=0.8, **look)
    bars[0].set_label(safe(name, 30))
    ax.plot(measured[1:], [places, places], color=INK, marker="|", markersize=6, linewidth=1.2)
    for place, (value, _, high) in zip(places, measured.T, strict=True):
        end = (max(high, value), place)
        ax.annotate(f"{value:.2f}", end, (4, 0), textcoords="offset points", va="center", fontsize=7)
