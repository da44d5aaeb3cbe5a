"""Measuring two sides fairly: interleaved runs, medians with their spread, peak memory in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Comparison:
    """R measurements of ours and theirs, those of one number taken one after the other, and what is wanted.

    `least`, `aim`: gains wanted and hoped for; `most`: a limit for our median. `theirs` may be empty.
    """

    name: str
    unit: str
    ours: list[float]
    theirs: list[float]
    higher_is_better: bool = False
    least: float | None = None
    aim: float | None = None
    most: float | None = None

    def gains(self) -> list[float]:
        """How many times better we are, for each of the R neighbours in time."""
        both = zip(self.ours, self.theirs, strict=True)
        return [ours / theirs if self.higher_is_better else theirs / ours for ours, theirs in both]

    def gain(self) -> float:
        """The ratio of the medians."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return ours / theirs if self.higher_is_better else theirs / ours

    def verdict(self) -> str:
        """What was wanted, and whether it was reached; empty where nothing was."""
        wanted = []
        if self.least is not None:
            met = "met" if self.gain() >= self.least else "MISSED"
            aim = f", aim {self.aim:g}x" if self.aim else ""
            wanted.append(f"at least {self.least:g}x: {met}{aim}")
        if self.most is not None:
            wanted.append(f"below {self.most:g}: {'met' if statistics.median(self.ours) < self.most else 'MISSED'}")
        return "; ".join(wanted)

    def record(self) -> dict[str, Any]:
        """Everything measured and what it comes to, for JSON."""
        record: dict[str, Any] = {"name": self.name, "unit": self.unit, "ours": self.ours, "theirs": self.theirs}
        record["median_ours"] = statistics.median(self.ours)
        if self.theirs:
            gains = self.gains()
            record |= {"median_theirs": statistics.median(self.theirs), "gain": self.gain()}
            record["gain_spread"] = [min(gains), max(gains)]
        return {**record, "target": self.verdict()}


def interleave(
    sides: Mapping[str, Callable[[], Any]], repeats: int, synchronize: Callable[[], Any] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each side's runs, taken in turns (A B A B ...).

    Turns let a slow minute of the machine hit both sides. The first run of each is not counted: it warms
    caches and allocators. `synchronize` waits for a device that works asynchronously.
    """
    for run in sides.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            gc.collect()
            synchronize()
            start = time.perf_counter()
            run()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def check_equal(name: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """Print how far two sides' answers `(N,)` are apart; end the benchmark where that is too far."""
    difference = float(np.abs(ours - theirs).max())
    print(f"{name}: largest difference of {len(ours)} values {difference:.1e} (they span {np.ptp(theirs):.2f})")
    if not difference <= tolerance:
        raise SystemExit(f"{name}: ours and theirs differ by {difference:.1e}, more than {tolerance:.0e}")


def check_precise(name: str, ours: np.ndarray, theirs: np.ndarray, exact: np.ndarray) -> None:
    """Print how far both sides are from exact answers `(N,)`; end the benchmark where we are clearly further."""
    error, peer = (float(np.sqrt(np.mean((side - exact) ** 2))) for side in (ours, theirs))
    print(f"{name}: root mean square error of {len(ours)} values {error:.1e}, theirs {peer:.1e}")
    if not error <= 1.5 * peer + 1e-6:
        raise SystemExit(f"{name}: our error {error:.1e} is more than one and a half times theirs, {peer:.1e}")


def peak_memory() -> float:
    """The most memory this process ever had resident, in MiB.

    Linux starts a child's `ru_maxrss` at its parent's size; the mark in /proc is the process's own,
    exact to a fraction of a MiB.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024  # the file says kB and means KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MEBIBYTE if sys.platform == "darwin" else peak / 1024


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in a fresh interpreter that does nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def table(comparisons: Sequence[Comparison]) -> str:
    """Aligned columns: median and (least to most) of both sides, the gain with its spread, the target."""
    rows = [["", "unit", "crossenc_kit", "sentence-transformers", "gain", "target"]]
    for comparison in comparisons:
        gain = ""
        if comparison.theirs:
            gains = comparison.gains()
            gain = f"{comparison.gain():.2f}x ({min(gains):.2f} to {max(gains):.2f})"
        sides = [_spread(comparison.ours), _spread(comparison.theirs)]
        rows.append([comparison.name, comparison.unit, *sides, gain, comparison.verdict()])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    digits = 0 if min(values) >= 100 else 1 if min(values) >= 10 else 3
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
