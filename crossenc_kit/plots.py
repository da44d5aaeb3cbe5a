"""Figures from reports and records; every figure function of the kit can be called from here.

Each returns a matplotlib `Figure` that shows itself as the last expression of a notebook cell; `show`
displays one in the middle of a cell and `save` writes it as PNG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.classification_plots import compare_by_tag, confusion, precision_recall, reliability
from crossenc_kit.figures import (
    BLUE,
    GREY,
    INK,
    PALE,
    STYLES,
    alt_text,
    as_html,
    drawing,
    label_axes,
    one_line,
    png,
    safe,
    save,
    show,
)
from crossenc_kit.live import curves, live_progress
from crossenc_kit.pictures import architectures, attention_map, padding
from crossenc_kit.tradeoffs import tradeoff

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from crossenc_kit.evaluation import CorrelationReport

__all__ = [
    "alt_text",
    "architectures",
    "as_html",
    "attention_map",
    "bars_with_intervals",
    "compare_by_tag",
    "confusion",
    "curves",
    "label_histogram",
    "length_histogram",
    "live_progress",
    "padding",
    "png",
    "precision_recall",
    "predicted_against_gold",
    "reliability",
    "residuals_by_length",
    "save",
    "score_histograms",
    "show",
    "tradeoff",
]

CORRELATIONS = ("pearson", "spearman")


def predicted_against_gold(report: CorrelationReport, *, seed: int = 0) -> Figure:
    """Predicted score against gold label, jittered, with the mean score of each label bin."""
    labels, scores = np.asarray(report.labels, float), np.asarray(report.scores, float)
    said = [_with_interval(name.title(), getattr(report, name), report.intervals.get(name)) for name in CORRELATIONS]
    bins = _bins(labels, 11)
    gold, mean = (np.array([column[rows].mean() for rows in bins]) for column in (labels, scores))
    facts = f"{', '.join(said)}; {len(labels):,} pairs"
    rise = f"mean score {mean[0]:.2f} at label {gold[0]:.2f}, {mean[-1]:.2f} at label {gold[-1]:.2f}"
    figure, axes = drawing(f"{one_line(report.name, 60)}: predicted against gold", f"{facts}; {rise}")
    ax = axes["all"]
    ax.set_title(safe(facts + (" (95 % intervals)" if report.intervals else ""), 110), fontsize=9)
    span = float(np.ptp(labels)) or 1.0
    jitter = np.random.default_rng(seed).uniform(-0.012, 0.012, len(labels)) * span
    ax.scatter(labels + jitter, scores, s=9, color=GREY, alpha=0.45, linewidths=0, label="one pair")
    ax.plot(gold, mean, color=INK, marker="s", markersize=5, label="mean score of the labels nearby")
    ends = [min(labels.min(), 0.0), labels.max()]
    ax.plot(ends, ends, color=BLUE, linestyle="--", linewidth=1, label="score = label")
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    label_axes(ax, f"gold label ({labels.min():g} to {labels.max():g})", "predicted score")
    return figure


def residuals_by_length(report: CorrelationReport, lengths: ArrayLike) -> Figure:
    """Residual (score - label) of each pair against its length in tokens, with binned quartiles."""
    length = np.asarray(lengths)
    residual = np.asarray(report.scores, float) - np.asarray(report.labels, float)
    if length.shape != residual.shape:
        raise ValueError(f"{length.size} lengths for {residual.size} scores; give one length a pair")
    bins = _bins(length, 8)
    low, middle, high = np.array([np.quantile(residual[rows], (0.25, 0.5, 0.75)) for rows in bins]).T
    centre = np.array([np.median(length[rows]) for rows in bins])
    facts = f"Median residual {middle[0]:+.3f} at {centre[0]:g} tokens, {middle[-1]:+.3f} at {centre[-1]:g} tokens"
    figure, axes = drawing(f"{one_line(report.name, 40)}: residuals by length", f"{facts}; {residual.size:,} pairs")
    ax = axes["all"]
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.scatter(length, residual, s=9, color=GREY, alpha=0.4, linewidths=0, label="one pair")
    ax.fill_between(centre, low, high, facecolor="none", edgecolor=BLUE, hatch="////", linewidth=0.8, label="quartiles")
    ax.plot(centre, middle, color=INK, marker="s", markersize=5, label="median")
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper right")
    label_axes(ax, "length of the pair (tokens)", "residual (score - label)")
    return figure


def score_histograms(
    groups: Mapping[str, ArrayLike], *, title: str = "Scores", xlabel: str = "score", bins: int = 25
) -> Figure:
    """Distributions of several systems' or classes' scores as outlines, each as a share of its own pairs.

    Raises `ValueError` for more than four groups: more outlines than that cannot be told apart.
    """
    arrays = {name: np.asarray(values, float) for name, values in groups.items()}
    if not 1 <= len(arrays) <= len(STYLES) or not all(a.size for a in arrays.values()):
        raise ValueError(
            f"expected 1 to {len(STYLES)} groups, none empty; got sizes {[a.size for a in arrays.values()]}"
        )
    facts = "; ".join(f"{name}: median {np.median(a):.3f}, {a.size:,} pairs" for name, a in arrays.items())
    figure, axes = drawing(title, facts)
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins)
    for (name, values), style in zip(arrays.items(), STYLES, strict=False):
        share = 100 * np.histogram(values, edges)[0] / values.size
        look: dict[str, Any] = {"edgecolor": style["color"], "linestyle": style["linestyle"]}
        if len(arrays) < 3:  # a third hatch over the others would hide them
            look["hatch"] = style["hatch"]
        axes["all"].stairs(share, edges, fill=True, facecolor="none", linewidth=1.5, label=safe(name, 30), **look)
        middle = np.median(values)
        height = share[min(np.searchsorted(edges, middle, side="right"), len(share)) - 1]
        axes["all"].plot(middle, height, style["marker"], color=style["color"], markersize=8, markeredgecolor="white")
    axes["all"].legend(frameon=False, fontsize=8)
    label_axes(axes["all"], f"{xlabel}; marks: medians", "share of the pairs (%)")
    return figure


def label_histogram(
    labels: ArrayLike, names: Sequence[str] | None = None, *, title: str = "Labels", xlabel: str = "label"
) -> Figure:
    """How many pairs have each label; `names` are those of the classes 0, 1, ... if they have any."""
    labels = _filled(labels, "labels")
    values, counts = np.unique(labels, return_counts=True)
    words = [names[int(value)] if names else f"{value:g}" for value in values]
    most = int(counts.argmax())
    facts = f"{labels.size:,} pairs, {len(values)} labels, most often {words[most]} ({counts[most]:,} pairs)"
    figure, axes = drawing(title, facts if names else f"{facts}, mean {labels.mean():.3g}")
    ax = axes["all"]
    if len(values) > 25:
        ax.hist(labels, 25, color=PALE, edgecolor=INK)
    else:
        bars = ax.bar(range(len(values)), counts, color=PALE, edgecolor=INK)
        ax.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=1)
        ax.set_xticks(range(len(values)), [safe(word, 16) for word in words])
    label_axes(ax, xlabel, "pairs")
    return figure


def length_histogram(
    lengths: ArrayLike, max_length: int | None = None, *, title: str = "Length of the pairs"
) -> Figure:
    """How long the pairs are in tokens, and the share that `max_length` would cut."""
    lengths = _filled(lengths, "lengths")
    longest, limit = int(lengths.max()), max_length or 0
    facts = f"{lengths.size:,} pairs, median {np.median(lengths):g} tokens, longest {longest:,} tokens"
    cut = lengths[lengths > limit] if limit else lengths[:0]
    if limit:
        facts += f"; {cut.size:,} ({cut.size / lengths.size:.1%}) are cut at max_length {limit:,}"
    figure, axes = drawing(title, facts)
    ax = axes["all"]
    ax.set_title(safe(facts, 110), fontsize=9)
    step = max(1, -(-longest // 40))  # whole tokens in a bar; a bar ends at max_length
    below = limit % step + (int(lengths.min()) - 1 - limit % step) // step * step  # the first bar begins just under
    edges = (np.arange(below, longest + step, step) + 0.5).tolist()
    ax.hist(lengths, edges, color=PALE, edgecolor=INK, linewidth=0.7, label="whole")
    if cut.size:
        ax.hist(cut, edges, color="white", edgecolor=INK, linewidth=0.7, hatch="//////", label="cut")
    if limit and limit < 1.5 * longest:  # further off, the line would squeeze the bars
        ax.axvline(limit + 0.5, color=BLUE, linestyle="--", label="max_length")
        ax.legend(frameon=False, fontsize=8)
    label_axes(ax, "length (tokens)", "pairs")
    return figure


def bars_with_intervals(
    values: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    *,
    counts: Mapping[str, int] | None = None,
    title: str = "Comparison",
    xlabel: str = "value",
    ylabel: str = "system",
) -> Figure:
    """One horizontal bar a name, first on top, with its interval as a whisker and its number of pairs.

    `intervals` and `counts` may lack some names. Raises `ValueError` if there is no value at all.
    """
    if not values:
        raise ValueError("no values to draw")
    intervals, counts = intervals or {}, counts or {}
    facts = "; ".join(_with_interval(name, value, intervals.get(name)) for name, value in values.items())
    figure, axes = drawing(title, facts, height=min(8.0, 1.3 + 0.3 * len(values)))
    ax = axes["all"]
    rows = range(len(values))
    ax.barh(rows, list(values.values()), height=0.65, color=PALE, edgecolor=INK, linewidth=0.8)
    for row, (name, value) in enumerate(values.items()):
        low, high = intervals.get(name, (value, value))
        if name in intervals:
            ax.plot([low, high], [row, row], color=INK, marker="|", markersize=7)
        ax.annotate(
            f"{value:.3f}", (max(high, value, 0.0), row), (5, 0), textcoords="offset points", va="center", fontsize=8
        )
    names = [f"{safe(name, 34)} ({counts[name]:,})" if name in counts else safe(name, 34) for name in values]
    ax.set_yticks(rows, names)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    if min(values.values()) < 0:
        ax.axvline(0, color=INK, linewidth=0.8)
    label_axes(
        ax, xlabel + (" (whiskers: 95 % interval)" if intervals else ""), ylabel + (" (pairs)" if counts else "")
    )
    return figure


def _filled(values: ArrayLike, what: str) -> np.ndarray:
    array = np.asarray(values)
    if not array.size:
        raise ValueError(f"there are no {what} to draw")
    return array


def _with_interval(name: str, value: float, interval: tuple[float, float] | None) -> str:
    return f"{name} {value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _bins(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Row numbers cut by value into at most `count` bins of about equal size; equal values stay together."""
    kinds = np.unique(values)
    edges = kinds[1:] if len(kinds) <= count else np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1]))
    place = np.searchsorted(edges, values, side="right")
    return [np.flatnonzero(place == p) for p in np.unique(place)]
