"""What the benchmarks say of two sides: do their answers agree, and a table of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.inference.timing import Speed, own_process, spread_text


@dataclass(frozen=True)
class Goal(Speed):
    """A speed, and what is wanted: at least a gain (and hoped for), at most a median of ours."""

    least: float | None = None
    aim: float | None = None
    most: float | None = None

    def verdict(self) -> str:
        """Say what was wanted and whether it was reached; empty if nothing was."""
        wanted = []
        if self.least is not None:
            met = "met" if self.gain >= self.least else "MISSED"
            aim = f", aim {self.aim:g}x" if self.aim else ""
            wanted.append(f"at least {self.least:g}x: {met}{aim}")
        if self.most is not None:
            met = "met" if statistics.median(self.ours) < self.most else "MISSED"
            wanted.append(f"below {self.most:g}: {met}")
        return "; ".join(wanted)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "target": self.verdict()}


def memory_of(process: int | str = "self") -> float | None:
    """Return the resident memory of a process in MiB; None without /proc or without such a process."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    line = next((line for line in lines if line.startswith("VmRSS:")), None)  # none if it has ended
    return int(line.split()[1]) / 1024 if line else None  # the file says kB and means KiB


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh interpreter that does nothing else."""
    with own_process() as process:
        return process.submit(function, *arguments).result()


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


def table(comparisons: Sequence[Goal]) -> str:
    """Aligned columns: median and (least to most) of both sides, the gain with its spread, the target."""
    rows = [["", "unit", "crossenc_kit", "sentence-transformers", "gain", "target"]]
    for comparison in comparisons:
        sides = [spread_text(comparison.ours), spread_text(comparison.theirs)]
        rows.append([comparison.name, comparison.unit, *sides, comparison.gain_text(), comparison.verdict()])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
