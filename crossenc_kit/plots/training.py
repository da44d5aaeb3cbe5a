"""Curves of training: of a finished history, and live while the model trains."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.history import History
from crossenc_kit.plots.figures import (
    BLUE,
    GREY,
    INK,
    PALE,
    alt_text,
    as_html,
    drawing,
    label_axes,
    one_line,
    running_shell,
    safe,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Hook = Callable[[Mapping[str, Any]], None]


def curves(
    history: History | Sequence[Mapping[str, Any]], metric: str | None = None, *, title: str = "Training"
) -> Figure:
    """Draw training loss (raw and its running mean), learning rate and `metric` against the step.

    metric: by default the first that the evaluator gave

    Raises `ValueError` if no row has a loss, or if none of the evaluations has `metric`.
    """
    history = history if isinstance(history, History) else History(history)
    steps, loss = history.column("loss")
    measured = [name for name in history.names() if name.startswith("eval_")]
    metric = metric or next(iter(measured), "eval_score")
    at, values = history.column(metric)
    if not len(steps):
        raise ValueError("the history has no row with a loss, so there is no curve to draw")
    if measured and not len(at):
        raise ValueError(f"the history has no {metric!r}; its metrics are: {', '.join(measured)}")
    width = max(1, len(loss) // 20)
    smooth = _running_mean(loss, width)
    facts = (
        f"Training loss (mean of {width} logged rows) from {smooth[0]:.3g} to {smooth[-1]:.3g} at step {steps[-1]:,}"
    )
    best = _best(values, metric)
    if best is not None:
        word = _word(metric)
        facts += f"; {word} ends at {values[-1]:.3f}, best {values[best]:.3f} at step {at[best]:,}"
    panels = [["loss", "metric"], ["rate", "metric"]] if len(at) else [["loss"], ["rate"]]
    figure, axes = drawing(title, facts, panels, height_ratios=[3, 1])
    _draw_loss(axes["loss"], steps, loss, smooth, f"mean of {width} rows")
    axes["loss"].sharex(axes["rate"])
    axes["rate"].plot(*history.column("learning_rate"), color=GREY, linestyle="--")
    axes["rate"].set_ylim(bottom=0)
    axes["rate"].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes["rate"].yaxis.get_offset_text().set_fontsize(8)
    label_axes(axes["rate"], "step (optimizer updates)", "learning\nrate")
    if len(at):
        _draw_metric(axes["metric"], at, values, metric)
    return figure


def _draw_loss(ax: Axes, steps: np.ndarray, loss: np.ndarray, smooth: np.ndarray, label: str) -> None:
    ax.plot(steps, loss, color=PALE, linewidth=1, label="each row")
    ax.plot(steps, smooth, color=INK, label=label)
    ax.legend(frameon=False, fontsize=8)
    ax.tick_params(labelbottom=False)
    label_axes(ax, "", "training loss")


def _draw_metric(ax: Axes, at: np.ndarray, values: np.ndarray, metric: str) -> None:
    ax.plot(at, values, color=BLUE, marker="o", markersize=4)
    label_axes(ax, "step (optimizer updates)", f"{_word(metric)}, evaluation data")
    best = _best(values, metric)
    if best is not None:
        ax.plot(at[best], values[best], "o", markersize=11, markerfacecolor="none", color=INK)
        ax.set_title(safe(f"best (ringed): {values[best]:.3f} at step {at[best]:,}"), fontsize=9)


def _word(metric: str) -> str:
    return metric.removeprefix("eval_").replace("_", " ")


def _best(values: np.ndarray, metric: str) -> int | None:
    """Find the best row: the highest, or the lowest of a loss or error; None if there is no number."""
    if not np.isfinite(values).any():
        return None
    lowest = metric.endswith(("loss", "error"))
    return int(np.nanargmin(values) if lowest else np.nanargmax(values))


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Average over `width` values around each; over fewer at the ends and beside a NaN."""
    known = np.isfinite(values)
    window = np.ones(width)
    total = np.convolve(np.where(known, values, 0.0), window, "same")
    count = np.convolve(known, window, "same")
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def live_progress(
    total_steps: int,
    describe: str = "training",
    *,
    metric: str | None = None,
    live: bool | None = None,
    interval: float = 0.5,
    clock: Callable[[], float] = time.monotonic,
) -> Hook:
    """Make a function that shows how training goes: `train(..., on_row=live_progress(n))`.

    In a notebook that somebody has open, it redraws one figure. Elsewhere (papermill, nbval, a script)
    it prints a plain line each fifth of the steps, and in a terminal also every 10 seconds.

    metric: the curve beside the loss; by default Spearman, else the first metric evaluated
    live: overrides the choice between figure and lines
    interval: seconds between two figures at least; drawing takes at most a tenth of the time
    """
    if live if live is not None else _somebody_watches():
        return _live_figure(total_steps, describe, metric, interval, clock)
    return _text_lines(total_steps, describe, metric, clock)


def _somebody_watches() -> bool:
    """Tell a kernel that a notebook page started; papermill, nbval and nbconvert leave no such mark."""
    shell = running_shell()
    if shell is None or not hasattr(shell, "kernel"):
        return False
    page = any(name in os.environ for name in ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG"))
    return page or "__vsc_ipynb_file__" in shell.user_ns


def _live_figure(total: int, describe: str, metric: str | None, interval: float, clock: Callable[[], float]) -> Hook:
    from IPython.display import display

    history = History()
    handle = display({"text/plain": one_line(describe, 80)}, raw=True, display_id=True)
    due, trained = clock(), False

    def hook(row: Mapping[str, Any]) -> None:
        nonlocal due, trained
        history.append(**row)
        trained = trained or "loss" in row
        started = clock()
        if not trained or (started < due and row["step"] < total):
            return
        title = f"{one_line(describe, 60)}: step {row['step']:,} of {total:,}"
        figure = curves(history, _metric(history.names(), metric), title=title)
        handle.update({"text/html": as_html(figure), "text/plain": alt_text(figure)}, raw=True)
        due = clock() + max(interval, 9 * (clock() - started))

    return hook


def _text_lines(total: int, describe: str, metric: str | None, clock: Callable[[], float]) -> Hook:
    latest: dict[str, Any] = {}
    losses: list[float] = []
    fifths, said, total = 0, clock(), max(1, total)

    def hook(row: Mapping[str, Any]) -> None:
        nonlocal fifths, said
        latest.update(row)
        losses.extend(row[name] for name in ("loss",) if name in row)
        step = row["step"]
        patience_over = sys.stdout.isatty() and clock() - said >= 10
        if 5 * step // total <= fifths and not patience_over and (step < total or "loss" in row):
            return
        parts = [f"{one_line(describe, 60)}: step {step:,} of {total:,}"]
        parts += [f"loss {np.mean(losses):.4f}"] if losses else []
        name = _metric(list(latest), metric)
        parts += [f"{one_line(_word(name), 40)} {latest[name]:.4f}"] if name in latest else []
        parts += [f"{latest['seconds']:.0f} s"] if "seconds" in latest else []
        print(", ".join(parts), flush=True)
        fifths, said = 5 * step // total, clock()
        losses.clear()

    return hook


def _metric(names: Sequence[str], wanted: str | None) -> str:
    """Choose the metric to show: the one asked for, else Spearman, else the first evaluated."""
    found = [name for name in names if name.startswith("eval_")]
    return next((name for name in (wanted, "eval_spearman", *found) if name in found), "eval_spearman")
