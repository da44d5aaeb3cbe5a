"""Measuring fairly: interleaved runs, medians with their spread, memory of a process."""

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

    def gain_text(self) -> str:
        """The gain and (least to most) of the neighbours, for a table; empty where nothing is compared."""
        if not self.theirs:
            return ""
        gains = self.gains()
        return f"{self.gain():.2f}x ({min(gains):.2f} to {max(gains):.2f})"

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


def spread_text(values: Sequence[float]) -> str:
    """The median and (least to most), for a table."""
    if not values:
        return "-"
    digits = 0 if min(values) >= 100 else 1 if min(values) >= 10 else 3
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def peak_memory() -> float:
    """The most memory this process ever had resident, in MiB.

    Linux starts a child's `ru_maxrss` at its parent's size; the mark in /proc is the process's own,
    exact to a fraction of a MiB.
    """
    mark = _process_status("VmHWM")
    if mark is not None:
        return mark
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MEBIBYTE if sys.platform == "darwin" else peak / 1024


def memory_now(process: int | str = "self") -> float | None:
    """The memory that a process (its id) has resident now, in MiB; None where there is no /proc, or no such process."""
    return _process_status("VmRSS", process)


def _process_status(field: str, process: int | str = "self") -> float | None:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    line = next((line for line in lines if line.startswith(f"{field}:")), None)  # a process that ended has none
    return int(line.split()[1]) / 1024 if line else None  # the file says kB and means KiB


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in a fresh interpreter that does nothing else."""
    with own_process() as process:
        return process.submit(function, *arguments).result()


def own_process() -> ProcessPoolExecutor:
    """An executor with one fresh interpreter, which lives until the executor is shut down."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
