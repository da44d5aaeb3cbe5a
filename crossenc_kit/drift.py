"""How far a faster form of a model moves its scores: arrays in, numbers out, no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.metrics import spearman

ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of a score's size: what float32 sums in another order may differ by
HARDLY = 1e-3  # of the largest score: a spread below it is a model's that tells no pairs apart


class DriftError(ValueError):
    """A faster form of a model scores too differently; `drift` has the numbers."""

    def __init__(self, message: str, drift: Drift):
        super().__init__(message)
        self.drift = drift


@dataclass(frozen=True)
class Drift:
    """Scores of N pairs beside the exact ones.

    `largest`, `mean`: of the absolute differences, in the scores' own unit; `spread`: the standard deviation of the
    exact scores, `size` the largest of them without its sign; `spearman`: rank correlation with them, of several
    classes the lowest, 1 where all are equal within the rounding of float32; `agreement`: the share of pairs whose
    highest class is the same, None for one score a pair.
    """

    pairs: int
    largest: float
    mean: float
    spread: float
    spearman: float
    size: float
    agreement: float | None = None

    @property
    def relative(self) -> float:
        """The largest difference in standard deviations of the exact scores; rounding / 0 is 0."""
        if self.spread:
            return self.largest / self.spread
        return 0.0 if self.is_rounding else math.inf

    @property
    def is_rounding(self) -> bool:
        """Whether the scores are equal but for the rounding of float32: no drift, however little they differ."""
        return self.largest <= ROUNDING * self.size

    def __str__(self) -> str:
        text = f"largest {self.largest:.2g} ({self.relative:.2g} standard deviations of the scores), "
        text += f"mean {self.mean:.2g}, Spearman {self.spearman:.5f}"
        return text if self.agreement is None else f"{text}, same class {self.agreement:.1%}"

    def record(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {**asdict(self), "relative": self.relative}


def measure_drift(exact: ArrayLike, other: ArrayLike) -> Drift:
    """The drift of scores `(N,)` or `(N, C)` from the exact ones.

    Raises `ValueError` where the shapes differ, a score is not finite, or there are fewer than two pairs.
    """
    exact, other = np.asarray(exact, dtype=float), np.asarray(other, dtype=float)
    if exact.shape != other.shape or exact.ndim not in (1, 2):
        raise ValueError(f"scores of shapes {exact.shape} and {other.shape}; expected two of (N,) or two of (N, C)")
    if len(exact) < 2:
        raise ValueError(f"drift is measured on two pairs at least, better on hundreds; got {len(exact)}")
    for name, scores in (("exact", exact), ("other", other)):
        wrong = np.flatnonzero(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1))
        if len(wrong):
            raise ValueError(f"row {wrong[0]} of the {name} scores is not finite ({len(wrong)} of {len(scores)})")
    difference, size = np.abs(exact - other), float(np.abs(exact).max())
    columns = list(zip(exact.reshape(len(exact), -1).T, other.reshape(len(other), -1).T, strict=True))
    agreement = float(np.mean(exact.argmax(1) == other.argmax(1))) if exact.ndim == 2 else None
    return Drift(
        pairs=len(exact),
        largest=float(difference.max()),
        mean=float(difference.mean()),
        spread=float(np.where(np.ptp(exact, axis=0) > 0, np.std(exact, axis=0), 0.0).mean()),
        spearman=min(_order(ours, theirs, ROUNDING * size) for ours, theirs in columns),
        size=size,
        agreement=agreement,
    )


def _order(ours: np.ndarray, theirs: np.ndarray, rounding: float) -> float:
    """Spearman's correlation; 1 for scores that are equal, of which each may be constant."""
    return 1.0 if np.abs(ours - theirs).max() <= rounding else spearman(ours, theirs)


def check_drift(name: str, drift: Drift, least_spearman: float, most: float) -> None:
    """Raise `DriftError` for a Spearman below `least_spearman`, or a largest difference above `most` deviations.

    Scores that are equal but for rounding pass.
    """
    if drift.is_rounding or (drift.spearman >= least_spearman and drift.relative <= most):
        return
    doubt = ""
    if drift.spread <= HARDLY * drift.size:
        doubt = f"The exact scores hardly differ (sd {drift.spread:.2g}): is the model trained, are the pairs varied? "
    raise DriftError(
        f"{name} moves the scores too far from float32 on {drift.pairs} pairs: {drift}; allowed are Spearman "
        f"{least_spearman:g} and more, {most:g} standard deviations and less. {doubt}Give other bounds (min_spearman, "
        "max_drift), or write it all the same with allow_drift=True",
        drift,
    )
