"""Figures of scores and labels, their lengths and intervals, and what quality costs.

Each function returns a matplotlib `Figure`, which shows itself as the last expression of a notebook
cell. `show` displays one in the middle of a cell, and `save` writes it as PNG.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.plots.figures import BLUE, GREY, INK, PALE, STYLES, drawing, few, label_axes, one_line, safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from crossenc_kit.evaluation.similarity import CorrelationReport

CORRELATIONS = ("pearson", "spearman")
NAME = 28  # characters of a name that are drawn
# Points (1/72 inch) that a name may be moved up or down from its point, the smallest move first.
SHIFTS = [sign * step for step in range(8, 200, 11) for sign in (1, -1)]


def predicted_against_gold(report: CorrelationReport) -> Figure:
    """Draw predicted scores against gold labels, jittered, with the mean score of each label bin."""
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
    jitter = np.random.default_rng(0).uniform(-0.012, 0.012, len(labels)) * span
    ax.scatter(labels + jitter, scores, s=9, color=GREY, alpha=0.45, linewidths=0, label="one pair")
    ax.plot(gold, mean, color=INK, marker="s", markersize=5, label="mean score of the labels nearby")
    ends = [min(labels.min(), 0.0), labels.max()]
    ax.plot(ends, ends, color=BLUE, linestyle="--", linewidth=1, label="score = label")
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    label_axes(ax, f"gold label ({labels.min():g} to {labels.max():g})", "predicted score")
    return figure


def residuals_by_length(report: CorrelationReport, lengths: ArrayLike) -> Figure:
    """Draw the residual (score - label) of each pair against its length, with binned quartiles.

    lengths: `(N,)`, in tokens
    """
    length = np.asarray(lengths)
    residual = np.asarray(report.scores, float) - np.asarray(report.labels, float)
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


def score_histograms(groups: Mapping[str, ArrayLike], *, title: str = "Scores", xlabel: str = "score") -> Figure:
    """Draw the distribution of each group's scores as an outline, in percent of its own pairs.

    Raises `ValueError` for more than four groups, whose outlines could not be told apart.
    """
    arrays = {name: np.asarray(values, float) for name, values in few(groups, "groups").items()}
    facts = "; ".join(f"{name}: median {np.median(a):.3f}, {a.size:,} pairs" for name, a in arrays.items())
    figure, axes = drawing(title, facts)
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), 25)
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
    """Draw how many pairs have each label.

    names: the names of classes 0, 1, ...; None if the labels are numbers
    """
    labels = np.asarray(labels)
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
    """Draw how long the pairs are in tokens, and the share that `max_length` would cut."""
    lengths = np.asarray(lengths)
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
    """Draw one horizontal bar per name, with its interval as a whisker; the first is on top.

    intervals: name -> ends of its whisker; names may be missing
    counts: name -> number of pairs behind its value, written after it; names may be missing
    """
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
        end = (max(high, value, 0.0), row)
        ax.annotate(f"{value:.3f}", end, (5, 0), textcoords="offset points", va="center", fontsize=8)
    names = [f"{safe(name, 34)} ({counts[name]:,})" if name in counts else safe(name, 34) for name in values]
    ax.set_yticks(rows, names)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    if min(values.values()) < 0:
        ax.axvline(0, color=INK, linewidth=0.8)
    whiskers = " (whiskers: 95 % interval)" if intervals else ""
    label_axes(ax, xlabel + whiskers, ylabel + (" (pairs)" if counts else ""))
    return figure


def _with_interval(name: str, value: float, interval: tuple[float, float] | None) -> str:
    return f"{name} {value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _bins(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Cut the rows by value into at most `count` bins of about equal size; equal values stay together."""
    kinds = np.unique(values)
    edges = kinds[1:] if len(kinds) <= count else np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1]))
    place = np.searchsorted(edges, values, side="right")
    return [np.flatnonzero(place == p) for p in np.unique(place)]


def frontier(systems: Mapping[str, tuple[float, float]], *, more_is_better: bool = True) -> list[str]:
    """Name the systems that no other beats, by growing cost or speed.

    One system beats another if it is better in cost or quality and at least as good in the other.
    Any difference counts, however small, so round numbers that differ only in their last digits.

    systems: name -> (cost, quality)
    more_is_better: the first number is a speed, not a cost
    """
    sign = 1 if more_is_better else -1
    points = {name: (sign * cost, quality) for name, (cost, quality) in systems.items()}
    kept = [
        name
        for name, own in points.items()
        if not any(o != own and o[0] >= own[0] and o[1] >= own[1] for o in points.values())
    ]
    return sorted(kept, key=lambda name: systems[name][0])


def tradeoff(
    systems: Mapping[str, tuple[float, float]],
    *,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    spreads: Mapping[str, tuple[float, float]] | None = None,
    groups: Mapping[str, str] | None = None,
    cost: str = "pairs/s",
    quality: str = "Spearman",
    more_is_better: bool = True,
    title: str = "",
) -> Figure:
    """Draw quality against cost or speed: one named point per system, cost on a logarithmic axis.

    A dotted line joins the systems that no other beats.

    systems: name -> (cost, quality)
    intervals: name -> ends of the whisker of its quality; names may be missing
    spreads: name -> least and most cost; names may be missing
    groups: name -> one of at most four kinds, each with its own marker
    more_is_better: the first number is a speed (pairs/s), not a cost (ms per query)

    Raises `ValueError` for a cost that is not above 0, and for more than four groups.
    """
    points = {name: (float(at), float(value)) for name, (at, value) in systems.items()}
    for name, (at, value) in points.items():
        if not (0 < at < math.inf and math.isfinite(value)):
            raise ValueError(f"{name!r} is {at, value}; expected a cost above 0 and a quality, both finite")
    kind_of = {name: (groups or {}).get(name, "other" if groups else "") for name in points}
    kinds = list(few(dict.fromkeys(kind_of.values()), "groups"))
    best = frontier(points, more_is_better=more_is_better)
    said = [f"{name} {value:.3f} at {at:,.4g} {cost}" for name, (at, value) in points.items()]
    facts = "; ".join(said) + f"; not beaten: {', '.join(best)}"
    figure, axes = drawing(title or f"{quality} against {cost}", facts, height=4.4)
    ax = axes["all"]
    for kind, style in zip(kinds, STYLES, strict=False):
        own = [points[name] for name in points if kind_of[name] == kind]
        look: dict[str, Any] = {"color": style["color"], "marker": style["marker"], "label": safe(kind, 30)}
        ax.plot(*zip(*own, strict=True), linestyle="none", markersize=6, zorder=3, **look)
    for name, ends in (intervals or {}).items():
        ax.plot([points[name][0]] * 2, ends, color=GREY, marker="_", markersize=5, linewidth=0.9)
    for name, ends in (spreads or {}).items():
        ax.plot(ends, [points[name][1]] * 2, color=GREY, marker="|", markersize=5, linewidth=0.9)
    for step in _steps([points[name] for name in best], more_is_better):
        ax.plot(*step, color=GREY, linestyle=":", zorder=1)
    _logarithmic(ax, [at for name in points for at in ((spreads or {}).get(name) or points[name][:1])])
    ax.margins(y=0.16)
    if groups:
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=4)
    whiskers = ", ".join(["95 % interval"] * bool(intervals) + ["least to most"] * bool(spreads))
    better = f"{'more' if more_is_better else 'less'} is better"
    notes = (f"whiskers: {whiskers}; " if whiskers else "") + "dotted: none is better"
    label_axes(ax, f"{one_line(cost, 30)} ({better})\n{notes}", quality)
    _name_points(figure, ax, points)
    return figure


def _logarithmic(ax: Axes, costs: list[float]) -> None:
    """Make the cost axis logarithmic, with plain numbers at a handful of round places."""
    low, high = min(costs) / 1.25, max(costs) * 1.25
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), np.arange(1, 10, 0.25)):
        ticks = [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
        if len(ticks) >= 4:
            break
    ax.set(xscale="log", xlim=(low, high))
    ax.minorticks_off()
    ax.set_xticks(ticks, [f"{tick:,.4g}" if tick < 1e4 else f"{tick:,.0f}" for tick in ticks])


def _steps(best: list[tuple[float, float]], more_is_better: bool) -> list[Any]:
    """List the lines of the frontier: level to the next point's cost, then up or down to it."""
    lines: list[Any] = []
    for (x, y), (next_x, next_y) in itertools.pairwise(best):
        level, upright = (next_y, x) if more_is_better else (y, next_x)
        lines += [([x, next_x], [level] * 2), ([upright] * 2, [y, next_y])]
    return lines


def _name_points(figure: Figure, ax: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each name beside its point, moved up or down until it covers no other name or point.

    If it ends up further away, a thin line joins it to its point.
    """
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # where the axes are is known only now
    room = ax.get_window_extent()
    marks = {name: ax.transData.transform(point) for name, point in points.items()}  # pixels
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in marks.values()]
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
    for name in sorted(points, key=lambda name: (-points[name][1], points[name][0])):
        text = ax.annotate(safe(name, NAME), points[name], (0, 0), textcoords="offset points")
        text.set(va="center", fontsize=8, color=INK, in_layout=False)  # so that the axes stay where they are
        right = marks[name][0] < room.x0 + 0.6 * room.width  # where there is room for the name
        for across, shift in itertools.product((4, -4) if right else (-4, 4), SHIFTS):
            text.xyann = (across, shift)
            text.set(ha="left" if across > 0 else "right")
            box = text.get_window_extent()
            inside = room.contains(box.x0, box.y0) and room.contains(box.x1, box.y1)
            if inside and not box.count_overlaps(taken):
                break
        taken.append(box.padded(3))
        if abs(shift) > SHIFTS[0]:
            look: dict[str, Any] = {"textcoords": "offset points", "arrowprops": line, "va": "center"}
            ax.annotate("", points[name], text.xyann, **look).set_in_layout(False)
