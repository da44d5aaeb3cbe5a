"""Measure fairly: runs taken in turns, medians with their spread, the memory of a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossenc_kit.history import Report

MEBIBYTE = 1 << 20  # bytes


@dataclass(frozen=True)
class Speed(Report):
    """R measurements of our side and of theirs; those with one number were taken one after the other."""

    name: str
    unit: str
    ours: list[float]
    theirs: list[float]  # may be empty
    higher_is_better: bool = False

    @property
    def gains(self) -> list[float]:
        """How many times better we are, for each of the R neighbours in time."""
        both = zip(self.ours, self.theirs, strict=True)
        return [ours / theirs if self.higher_is_better else theirs / ours for ours, theirs in both]

    @property
    def gain(self) -> float:
        """The ratio of the medians, above 1 if we are better."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return ours / theirs if self.higher_is_better else theirs / ours

    @property
    def metrics(self) -> dict[str, float]:
        """The gain first, if there is another side."""
        medians = {"median_ours": statistics.median(self.ours)}
        if not self.theirs:
            return medians
        return {"gain": self.gain, **medians, "median_theirs": statistics.median(self.theirs)}

    def gain_text(self) -> str:
        """Write the gain and (least to most) of the neighbours, for a table; empty without another side."""
        if not self.theirs:
            return ""
        return f"{self.gain:.2f}x ({min(self.gains):.2f} to {max(self.gains):.2f})"

    def to_dict(self) -> dict[str, Any]:
        """Return everything measured and what it comes to, ready for JSON."""
        spread = {"gain_spread": [min(self.gains), max(self.gains)]} if self.theirs else {}
        sides = {"ours": self.ours, "theirs": self.theirs}
        return {"name": self.name, "unit": self.unit, **sides, **self.metrics, **spread}

    def __str__(self) -> str:
        return f"{self.name}: {spread_text(self.ours)} {self.unit} {self.gain_text()}".rstrip()


def interleave(
    sides: Mapping[str, Callable[[], Any]],
    repeats: int,
    synchronize: Callable[[], Any] = lambda: None,
) -> dict[str, list[float]]:
    """Measure the seconds of each side's runs, taken in turns (A B A B ...).

    Turns let a slow minute of the machine hit both sides. The first run of each is not counted, because
    it warms caches and allocators. `synchronize` waits for a device that works asynchronously.
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


def spread_text(values: Sequence[float]) -> str:
    """Write the median and (least to most), for a table."""
    if not values:
        return "-"
    digits = 0 if min(values) >= 100 else 1 if min(values) >= 10 else 3
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def peak_memory() -> float:
    """Return the most memory this process ever had resident, in MiB.

    Linux starts a child's `ru_maxrss` at its parent's size; the mark in /proc is the process's own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024  # the file says kB and means KiB
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MEBIBYTE if sys.platform == "darwin" else peak / 1024


def own_process() -> ProcessPoolExecutor:
    """Return an executor with one fresh interpreter, which lives until the executor is shut down."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
