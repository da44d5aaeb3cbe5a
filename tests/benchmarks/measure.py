"""What the benchmarks say of two sides: do their answers agree, and a table of what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossenc_kit.inference.timing import Comparison, spread_text


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


def table(comparisons: Sequence[Comparison]) -> str:
    """Aligned columns: median and (least to most) of both sides, the gain with its spread, the target."""
    rows = [["", "unit", "crossenc_kit", "sentence-transformers", "gain", "target"]]
    for comparison in comparisons:
        sides = [spread_text(comparison.ours), spread_text(comparison.theirs)]
        rows.append([comparison.name, comparison.unit, *sides, comparison.gain_text(), comparison.verdict()])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
