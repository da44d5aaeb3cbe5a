"""Figures of rankings: queries won and lost, ranks before and after, systems, depths, seeds.

Blue is better and orange is worse; hatches, markers and heights say the same without colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.collection import Qrels, Run
from crossenc_kit.evaluation.ranking_metrics import heading, ranked, relevant
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

ORANGE = STYLES[2]["color"]
HATCHED = 40  # the most bars that are wide enough for a hatch


def query_differences(comparison: Any, *, queries: Mapping[str, str] | None = None, named: int = 4) -> Figure:
    """Draw the difference of two runs on each query, sorted, and name those that won and lost most.

    comparison: the result of `compare_runs`
    queries: `{query id: text}`; texts are shown instead of ids
    named: how many queries are named at each end
    """
    values = np.asarray(comparison.differences, float)
    order = np.argsort(-values, kind="stable")
    (ours, theirs), metric = comparison.names, heading(comparison.metric)
    counts = f"{comparison.wins:,} better, {comparison.ties:,} equal, {comparison.losses:,} worse"
    low, high = comparison.interval
    mean = f"mean {comparison.difference:+.3f} [{low:+.3f}, {high:+.3f}], p = {comparison.p:.3g}"
    ends = order if len(order) <= 2 * named else np.concatenate([order[:named], order[len(order) - named :]])
    words = [(queries or {}).get(comparison.query_ids[row], comparison.query_ids[row]) for row in ends]
    most = "; ".join(f"{one_line(word, 40)} {values[row]:+.3f}" for word, row in zip(words, ends, strict=True))
    panels = [["each"], ["named"]] if len(ends) else [["each"]]
    heights = [2.2, 0.5 + 0.22 * len(ends)] if len(ends) else [2.2]
    title = f"{one_line(ours, 30)} against {one_line(theirs, 30)}: {metric} of each query"
    figure, axes = drawing(title, f"{mean}; {counts}; {most}", panels, height=1.2 + sum(heights), height_ratios=heights)
    axes["each"].set_title(safe(mean, 80), fontsize=9)
    _signed_bars(axes["each"], values[order], upright=True)
    label_axes(axes["each"], f"queries ({comparison.ties:,} of {len(values):,} are equal)", f"difference in {metric}")
    axes["each"].set_xticks([])
    if len(ends):
        _signed_bars(axes["named"], values[ends], upright=False)
        axes["named"].set_yticks(range(len(ends)), [safe(word, 46) for word in words])
        axes["named"].invert_yaxis()
        label_axes(axes["named"], f"difference in {metric}", "query")
    return figure


def _signed_bars(ax: Axes, values: np.ndarray, upright: bool) -> None:
    """Draw gains and losses as bars, told apart by colour, direction and, if there is room, hatch."""
    places = np.arange(len(values))
    kinds = {"better": (values > 0, BLUE, ""), "worse": (values < 0, ORANGE, "////")}
    for name, (rows, color, hatch) in kinds.items():
        look: dict[str, Any] = {"facecolor": color, "edgecolor": "white", "linewidth": 0}
        look |= {"hatch": hatch if len(values) <= HATCHED else "", "label": f"{name} ({rows.sum():,})"}
        draw = ax.bar if upright else ax.barh
        if rows.any():
            draw(places[rows], values[rows], 0.9 if upright else 0.7, **look)
    (ax.axhline if upright else ax.axvline)(0, color=INK, linewidth=0.8)
    if upright:
        ax.set_xlim(-0.7, len(values) - 0.3)
        if values.any():
            ax.legend(frameon=False, fontsize=8, loc="upper right")


def rank_changes(
    qrels: Qrels,
    before: Run,
    after: Run,
    *,
    queries: Mapping[str, str] | None = None,
    query_ids: Sequence[str] | None = None,
    names: tuple[str, str] = ("before", "after"),
    relevant_from: float = 1,
    title: str = "Ranks of the relevant documents",
) -> Figure:
    """Draw the rank of each relevant document in two runs, one panel per query.

    Rank 1 is on top, and ranks are on a log scale. A document that a run lacks is drawn below the
    dotted line.

    queries: `{query id: text}`; texts are shown instead of ids
    query_ids: by default the first 6 with a relevant document in either run

    Raises `ValueError` if neither run has a relevant document.
    """
    slopes = _slopes(qrels, before, after, query_ids, relevant_from)
    lines = [line for own in slopes.values() for line in own]
    rose, fell = sum(b > a for b, a in lines), sum(b < a for b, a in lines)
    lost = sum(not np.isfinite(a) for _, a in lines)
    facts = f"{len(lines):,} relevant documents of {len(slopes)} queries: {rose:,} rise, {fell:,} fall"
    facts += f", {len(lines) - rose - fell:,} stay" + (f"; {lost:,} are not in {names[1]}" if lost else "")
    columns = min(2 if len(slopes) == 4 else 3, len(slopes))
    panels = [str(panel) for panel in range(len(slopes))] + ["."] * (-len(slopes) % columns)
    grid = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    figure, axes = drawing(title, facts, grid, height=1.0 + 2.1 * len(grid), sharey=True)
    longest = max([rank for line in lines for rank in line if np.isfinite(rank)], default=1)
    foot = 2 * max(longest, 2) if any(np.inf in line for line in lines) else None
    for panel, query in enumerate(slopes):
        ax = axes[str(panel)]
        _draw_slopes(ax, slopes[query], foot)
        ax.set_title(safe((queries or {}).get(query, query), 84 // columns), fontsize=8)
        ax.set_xticks([0, 1], [safe(name, 16) for name in names])
        ax.set_xlim(-0.25, 1.25)
        label_axes(ax, "", "rank" if panel % columns == 0 else "")
    steps = [step for step in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if step <= longest]
    axes["0"].set(yscale="log", ylim=((foot or longest) * 1.3, 0.8))
    ticks = [*steps, foot] if foot else steps
    axes["0"].set_yticks(ticks, [str(step) if step != foot else "not found" for step in ticks])
    axes["0"].minorticks_off()
    figure.supxlabel(safe(facts, 110), fontsize=9)
    return figure


def _slopes(
    qrels: Qrels, before: Run, after: Run, query_ids: Sequence[str] | None, relevant_from: float
) -> dict[str, list[tuple[float, float]]]:
    """Rank each query's relevant documents before and after; infinite if a run lacks one."""
    found: dict[str, list[tuple[float, float]]] = {}
    for query in qrels if query_ids is None else query_ids:
        sides = [{d: rank for rank, d in enumerate(ranked(run.get(query, {})), 1)} for run in (before, after)]
        both = [tuple(side.get(d, np.inf) for side in sides) for d in sorted(relevant(qrels[query], relevant_from))]
        own = [(b, a) for b, a in both if np.isfinite(b) or np.isfinite(a)]
        if own and (query_ids is not None or len(found) < 6):
            found[query] = own
    if not found:
        raise ValueError("no query has a relevant document in either run")
    return found


def _draw_slopes(ax: Axes, lines: Sequence[tuple[float, float]], foot: float | None) -> None:
    if foot:
        ax.axhline(foot / 1.3, color=GREY, linestyle=(0, (1, 3)), linewidth=0.8)
    for ranks in lines:
        rise = ranks[0] - ranks[1] if np.isfinite(ranks).all() else (1 if np.isfinite(ranks[1]) else -1)
        color, dash, marker = (BLUE, "-", "^") if rise > 0 else (ORANGE, "--", "v") if rise < 0 else (GREY, ":", "o")
        drawn = [rank if foot is None or np.isfinite(rank) else foot for rank in ranks]
        ax.plot([0, 1], drawn, color=color, linestyle=dash, marker=marker, markersize=4, linewidth=1.3, clip_on=False)


def systems(reports: Mapping[str, Any], *, metric: str = "", title: str = "") -> Figure:
    """Draw one metric of several rankings with 95 % intervals, and each one's ceiling as a mark.

    reports: name -> report of `evaluate_ranking`; the first is on top
    metric: by default the first of the reports
    """
    metric = metric or next(iter(next(iter(reports.values())).means))
    said = []
    for name, report in reports.items():
        interval = report.intervals.get(metric)
        ends = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        said.append(f"{name} {report.means[metric]:.3f}{ends}, ceiling {report.ceiling[metric]:.3f}")
    title = title or f"{heading(metric)} of {len(reports)} systems"
    figure, axes = drawing(title, "; ".join(said), height=min(8.0, 1.5 + 0.36 * len(reports)))
    ax = axes["all"]
    rows = range(len(reports))
    means = [report.means[metric] for report in reports.values()]
    ax.barh(rows, means, height=0.62, color=PALE, edgecolor=INK, linewidth=0.8)
    for row, (mean, report) in enumerate(zip(means, reports.values(), strict=True)):
        low, high = report.intervals.get(metric, (mean, mean))
        if metric in report.intervals:
            ax.plot([low, high], [row, row], color=INK, marker="|", markersize=7, linewidth=1.2)
        ax.plot(report.ceiling[metric], row, "D", color=BLUE, markersize=5, label="" if row else "ceiling")
        ax.annotate(f"{mean:.3f}", (0, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(rows, [f"{safe(name, 34)} ({report.count:,})" for name, report in reports.items()])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.02)
    ax.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0)
    label_axes(ax, f"{heading(metric)} (whiskers: 95 % interval over queries)", "system (queries)")
    return figure


def quality_against_cost(curves: Any, *, cost: str = "depth", metric: str = "ndcg@10", title: str = "") -> Figure:
    """Draw quality against cost: one line per system, one point with its interval per depth.

    A grey line is the ceiling, if the points have one.

    curves: the points of one system, or name -> points of up to four; a point is from `depth_curve`
        or a tuple `(depth, cost, value)` or `(depth, cost, value, low, high)`
    cost: "depth", "pairs" or "seconds"
    """
    named = few(curves if isinstance(curves, Mapping) else {"reranked": curves})
    units = {"depth": "candidates reranked per query", "pairs": "pairs scored", "seconds": "seconds"}
    tables = {name: np.array([_point(p, cost, metric) for p in points], float) for name, points in named.items()}
    facts = "; ".join(
        f"{name}: {table[0, 2]:.3f} at depth {table[0, 0]:g}, most {table[:, 2].max():.3f} at depth "
        f"{table[table[:, 2].argmax(), 0]:g}, for {table[table[:, 2].argmax(), 1]:,.4g} {units[cost]}"
        for name, table in tables.items()
    )
    figure, axes = drawing(title or f"{heading(metric)} against {units[cost]}", facts, height=3.8)
    ax = axes["all"]
    for (name, table), style in zip(tables.items(), STYLES, strict=False):
        table = table[np.argsort(table[:, 1], kind="stable")]
        look: dict[str, Any] = {"marker": style["marker"], "markersize": 5, "label": safe(name, 30)}
        ax.plot(table[:, 1], table[:, 2], **line_style(style), **look)
        for _, at, _, *ends, _ in table[np.isfinite(table[:, 3])]:
            ax.plot([at, at], ends, color=style["color"], linewidth=0.9, alpha=0.7)
    if cost != "depth":
        _write_depths(ax, np.concatenate(list(tables.values())))
    table = next(iter(tables.values()))
    if np.isfinite(table[:, 5]).all():
        ax.plot(table[:, 1], table[:, 5], color=GREY, linestyle=":", linewidth=1.2, label="ceiling")
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    ax.margins(x=0.06, y=0.12)
    marks = "" if cost == "depth" else "numbers: depth; "
    label_axes(ax, f"{units[cost]} ({marks}whiskers: 95 % interval)", heading(metric))
    return figure


def _point(point: Any, cost: str, metric: str) -> tuple[float, ...]:
    """Read a point as (depth, cost, value, low, high, ceiling), with NaN for what it lacks."""
    nothing = float("nan")
    if isinstance(point, (tuple, list)):
        return (*point, *[nothing] * (6 - len(point)))
    low, high = point.intervals.get(metric, (nothing, nothing))
    ceiling = point.ceiling.get(metric, nothing)
    return (point.depth, getattr(point, cost), point.metrics[metric], low, high, ceiling)


def _write_depths(ax: Axes, table: np.ndarray) -> None:
    """Write each depth below its point, only once below the lowest if systems share its cost."""
    lowest: dict[tuple[float, float], float] = {}
    for depth, at, value in table[:, :3]:
        lowest[depth, at] = min(value, lowest.get((depth, at), value))
    for (depth, at), value in lowest.items():
        ax.annotate(f"{depth:g}", (at, value), (4, -11), textcoords="offset points", fontsize=7, color=INK)


def dots_by_seed(
    values: Mapping[str, ArrayLike | Mapping[Any, float]],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    *,
    references: Mapping[str, float] | None = None,
    title: str = "Losses, each with several seeds",
    xlabel: str = "value",
) -> Figure:
    """Draw one dot per seed and one line per system: do seeds lie as far apart as systems do?

    Systems are sorted by their mean, the best on top.

    values: name -> one value per seed, or {seed: value}
    intervals: name -> ends of a whisker, for example from a bootstrap over queries
    references: name -> a value to draw as a vertical line, for example BM25's
    """
    tables = {
        name: np.asarray(list(own.values()) if isinstance(own, Mapping) else own, float) for name, own in values.items()
    }
    order = sorted(tables, key=lambda name: -tables[name].mean())
    facts = "; ".join(
        f"{name} mean {own.mean():.3f}, {own.min():.3f} to {own.max():.3f} over {len(own)} seeds"
        for name, own in ((name, tables[name]) for name in order)
    )
    figure, axes = drawing(title, facts, height=min(8.0, 1.5 + 0.36 * len(tables)))
    ax = axes["all"]
    for row, name in enumerate(order):
        if name in (intervals or {}):
            ax.plot((intervals or {})[name], [row, row], color=GREY, marker="|", markersize=8, linewidth=1.2)
        spread = np.linspace(-0.12, 0.12, len(tables[name])) if len(tables[name]) > 1 else np.zeros(1)
        ax.plot(tables[name], row + spread, "o", color=BLUE, markersize=5, alpha=0.8, label="" if row else "one seed")
        ax.plot(tables[name].mean(), row, "|", color=INK, markersize=16, label="" if row else "mean", mew=2)
    for (name, value), style in zip((references or {}).items(), STYLES, strict=False):
        ax.axvline(value, color=GREY, linestyle=style["linestyle"], linewidth=1, label=safe(f"{name} {value:.3f}", 30))
    ax.set_yticks(range(len(order)), [f"{safe(name, 34)} ({len(tables[name])})" for name in order])
    ax.set_ylim(len(order) - 0.5, -0.5)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=4)
    label_axes(ax, xlabel + (" (whiskers: 95 % interval)" if intervals else ""), "loss (seeds)")
    return figure
