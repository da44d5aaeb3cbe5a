"""Every error and warning that the kit raises on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class DataError(ValueError):
    """A text or a label cannot be used; the message says which row and column and what to do."""


class BackboneError(RuntimeError):
    """A base model cannot be had; the message names every place looked in and what would fix it."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read or resumed from; the message says where and what to do."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the step and the rows."""


class DriftError(ValueError):
    """A faster form of a model scores too differently; `drift` has the numbers."""

    def __init__(self, message: str, drift: Any):
        super().__init__(message)
        self.drift = drift


class RunError(ValueError):
    """A run cannot start as asked; the message says what was wrong and what to do."""


class PoolError(RuntimeError):
    """A process of the pool died or failed; the message says which, and why where that is known."""


class TruncationWarning(UserWarning):
    """Some pairs were longer than `max_length` and lost their last tokens."""


def some(ids: Iterable[str], most: int = 3) -> str:
    """The first few ids, in words."""
    ids = list(ids)
    return ", ".join(repr(name) for name in ids[:most]) + (", ..." if len(ids) > most else "")
