"""Figures from reports and records; every figure function of the kit can be called from here.

Each returns a matplotlib `Figure` that shows itself as the last expression of a notebook cell; `show`
displays one in the middle of a cell and `save` writes it as PNG.

What quality costs: systems as named points, the frontier of those that none beats, labels that keep apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossenc_kit.plots.figures import BLUE, GREY, INK, PALE, STYLES, drawing, label_axes, one_line, safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from crossenc_kit.evaluation.similarity import CorrelationReport

CORRELATIONS = ("pearson", "spearman")
MOST = 24  # systems whose names there is room for
NAME = 28  # characters of a name that are drawn
REACHES = (9, 16, 26, 38, 52, 68, 86, 106, 128, 152, 178, 206)  # pixels from a point to its name, the nearest first
DIRECTIONS = 24


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


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: Box, gap: float = 2) -> bool:
        """Whether the two are closer than `gap`."""
        beside = self.left - gap < other.right and other.left - gap < self.right
        return beside and self.low - gap < other.high and other.low - gap < self.high

    def distance(self, x: float, y: float) -> float:
        """From a point outside to the nearest edge."""
        return math.hypot(x - min(max(x, self.left), self.right), y - min(max(y, self.low), self.high))

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left and other.right <= self.right and self.low <= other.low and other.high <= self.high
        )


def frontier(systems: Mapping[str, tuple[float, float]], *, more_is_better: bool = True) -> list[str]:
    """The names that no other system beats, by growing cost or speed: better in one of the two, and as good in both.

    `systems`: name to `(cost, quality)`. `more_is_better`: whether the first is a speed, not a cost. Differences
    count however small they are: of two systems with the same quality but for rounding, give both the same number.
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
    """Quality against cost or speed, a named point a system, on a logarithmic axis; a line joins those none beats.

    `systems`: name to `(cost, quality)`; `more_is_better`: whether the first is a speed (pairs/s) or a cost (ms a
    query). `intervals`: ends of a whisker of the quality, `spreads`: least and most of the cost; both may lack some
    names. `groups`: name to one of at most four kinds, each with its own marker. Names are put where they meet neither
    each other nor a point, joined to their point by a line where that is far. Raises `ValueError` for a cost that is
    not above 0, a number that is not finite, more than 24 systems or four groups, and a name that is not a system.
    """
    points = _checked(systems, {"intervals": intervals, "spreads": spreads, "groups": groups})
    kinds = list(dict.fromkeys((groups or {}).get(name, "other") for name in points)) if groups else [""]
    if len(kinds) > len(STYLES):
        raise ValueError(f"expected at most {len(STYLES)} groups, got {', '.join(kinds)}")
    best = frontier(points, more_is_better=more_is_better)
    said = [f"{name} {value:.3f} at {at:,.4g} {cost}" for name, (at, value) in points.items()]
    facts = "; ".join(said) + f"; not beaten: {', '.join(best)}"
    figure, axes = drawing(title or f"{quality} against {cost}", facts, height=4.4)
    ax = axes["all"]
    for kind, style in zip(kinds, STYLES, strict=False):
        own = [points[name] for name in points if not groups or groups.get(name, "other") == kind]
        look: dict[str, Any] = {"color": style["color"], "marker": style["marker"], "label": safe(kind, 30)}
        ax.plot(*zip(*own, strict=True), linestyle="none", markersize=6, zorder=3, **look)
    lines: list[Any] = []  # two x and two y
    for name, ends in (intervals or {}).items():
        lines.append(([points[name][0]] * 2, ends))
        ax.plot(*lines[-1], color=GREY, marker="_", markersize=5, linewidth=0.9)
    for name, ends in (spreads or {}).items():
        lines.append((ends, [points[name][1]] * 2))
        ax.plot(*lines[-1], color=GREY, marker="|", markersize=5, linewidth=0.9)
    steps = _steps([points[name] for name in best], more_is_better)
    lines += steps
    for step in steps:
        ax.plot(*step, color=GREY, linestyle=":", zorder=1)
    _logarithmic(ax, [at for name in points for at in ((spreads or {}).get(name) or points[name][:1])])
    ax.margins(y=0.16)
    if groups:
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=4)
    whiskers = (["95 % interval"] if intervals else []) + (["least to most"] if spreads else [])
    better = f"{'more' if more_is_better else 'less'} is better"
    notes = "; ".join([*([f"whiskers: {', '.join(whiskers)}"] if whiskers else []), "dotted: none is better"])
    label_axes(ax, f"{one_line(cost, 30)} ({better})\n{notes}", quality)
    _name_points(figure, ax, points, lines)
    return figure


def _checked(systems: Any, others: Mapping[str, Mapping[str, Any] | None]) -> dict[str, tuple[float, float]]:
    if not 1 <= len(systems) <= MOST:
        raise ValueError(f"expected 1 to {MOST} systems, got {len(systems)}")
    points = {name: (float(cost), float(quality)) for name, (cost, quality) in systems.items()}
    for name, (cost, quality) in points.items():
        if not (math.isfinite(cost) and cost > 0 and math.isfinite(quality)):
            raise ValueError(f"{name!r} is {(cost, quality)}; expected a cost above 0 and a quality, both finite")
    for what, given in others.items():
        if unknown := sorted(set(given or ()) - set(points)):
            raise ValueError(f"{what} names {unknown[0]!r}, which is no system; they are {', '.join(points)}")
    for name, ends in (others["spreads"] or {}).items():
        if not all(math.isfinite(end) and end > 0 for end in ends):
            raise ValueError(f"the spread of {name!r} is {tuple(ends)}; expected two costs above 0")
    return points


def _logarithmic(ax: Axes, costs: list[float]) -> None:
    """A logarithmic axis with plain numbers at a handful of round places."""
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
    """The edge of what is reached: level from each point to the next one's cost, and from there up or down to it."""
    lines: list[Any] = []
    for (x, y), (next_x, next_y) in pairwise(best):
        level, upright = (next_y, x) if more_is_better else (y, next_x)
        lines += [([x, next_x], [level] * 2), ([upright] * 2, [y, next_y])]
    return lines


def _name_points(figure: Figure, ax: Axes, points: Mapping[str, tuple[float, float]], lines: Sequence[Any]) -> None:
    """Write each point's name at the nearest place that is free; the most crowded points choose first."""
    figure.draw_without_rendering()  # where the axes are is known only now
    room = Box(*ax.get_window_extent().extents)
    marks = {name: ax.transData.transform(point) for name, point in points.items()}
    taken = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in marks.values()]
    ends = [ax.transData.transform(np.column_stack(line)) for line in lines]
    thin = [Box(*line.min(0), *line.max(0)) for line in ends]
    crowd = {name: sum(np.hypot(*(at - other)) < 80 for other in marks.values()) for name, at in marks.items()}
    unit = 72 / figure.dpi  # points a pixel
    for name in sorted(points, key=lambda name: -crowd[name]):
        text = ax.annotate(safe(name, NAME), points[name], fontsize=8, color=INK, zorder=4)
        text.set_in_layout(False)  # the axes stay where they are
        shape = text.get_window_extent()
        box = _free_place(marks[name], list(marks.values()), (shape.width, shape.height), room, taken, thin)
        text.set_position(((box.left - marks[name][0]) * unit, (box.low - marks[name][1]) * unit))
        text.set_anncoords("offset points")
        taken.append(box)
        _join(ax, points[name], marks[name], box, unit)


def _free_place(
    mark: np.ndarray,
    marks: Sequence[np.ndarray],
    shape: tuple[float, float],
    room: Box,
    taken: Sequence[Box],
    thin: Sequence[Box],
) -> Box:
    """The nearest place in the room that meets nothing of `taken`; to cross a thin line costs 40 pixels, and to lie
    as near to another mark 30."""
    (width, height), found, least = shape, Box(0, 0, 0, 0), math.inf
    for reach in REACHES:
        for angle in np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS:
            if reach >= least:
                return found
            x, y = mark + reach * np.array([math.cos(angle), math.sin(angle)])
            left, low = x - width * (1 - math.cos(angle)) / 2, y - height * (1 - math.sin(angle)) / 2
            box = Box(left, low, left + width, low + height)
            met = sum(box.meets(other) for other in taken) + (0 if room.holds(box) else 2)
            crossed = sum(box.meets(line, gap=0) for line in thin)
            own = box.distance(*mark)
            astray = any(box.distance(*other) <= own + 1 for other in marks if other is not mark)
            price = reach + 1000 * met + 40 * crossed + 30 * astray
            if price < least:
                found, least = box, price
    return found


def _join(ax: Axes, point: tuple[float, float], mark: np.ndarray, box: Box, unit: float) -> None:
    """A thin line from a point to its name, where the name is not beside it."""
    if box.distance(*mark) < 12:
        return
    end = np.clip(mark, (box.left, box.low), (box.right, box.high))
    offset = tuple((end - mark) * unit)
    arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
    line = ax.annotate("", point, offset, textcoords="offset points", arrowprops=arrow, zorder=2)
    line.set_in_layout(False)
