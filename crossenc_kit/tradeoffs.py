"""What quality costs: systems as named points, the frontier of those that none beats, labels that keep apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossenc_kit.figures import GREY, INK, STYLES, drawing, label_axes, one_line, safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 24  # systems whose names there is room for
NAME = 28  # characters of a name that are drawn
REACHES = (9, 16, 26, 38, 52, 68, 86, 106, 128, 152, 178, 206)  # pixels from a point to its name, the nearest first
DIRECTIONS = 24


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
