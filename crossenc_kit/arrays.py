"""Arrays: of finite numbers, anything else refused with the first bad row named, and of labels in another order."""

from __future__ import annotations

from typing import Any

import numpy as np

NUMBER = (int, float, np.integer, np.floating, np.bool_)


def finite_numbers(values: Any, what: str) -> np.ndarray:
    """An array of finite numbers; raises `ValueError` naming the first row that is none."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        cells = np.asarray(values, dtype=object)
        bad = np.array([not isinstance(cell, NUMBER) for cell in cells.ravel()], dtype=bool)
        refuse(bad.reshape(cells.shape), cells, what, "expected a number")
        raise ValueError(f"the array of {what} holds {array.dtype}; expected numbers")
    refuse(~np.isfinite(array), array, what, "expected a finite number")
    return array


def refuse(bad: np.ndarray, values: np.ndarray, what: str, expected: str) -> None:
    """Raise `ValueError` naming the first row where `bad` holds."""
    if bad.any():
        where = tuple(np.argwhere(bad)[0])
        place = ", column ".join(map(str, where)) or "0"
        raise ValueError(f"row {place}: the {what} is {np.asarray(values[where]).tolist()!r}; {expected}")


def reordered(labels: np.ndarray, old: list[int]) -> np.ndarray:
    """Labels of C classes in another order of the classes, of which `old` has the former indices.

    `(N,)` are indices; of columns, each C are one a class, and one that is left is of indices.
    """
    columns = labels.reshape(len(labels), -1) if labels.size else np.zeros((0, 1))
    parts = [columns[:, start : start + len(old)] for start in range(0, columns.shape[1], len(old))]
    new = np.argsort(old)
    moved = [part[:, old] if part.shape[1] == len(old) else new[part.astype(int)] for part in parts]
    return np.hstack(moved).astype(labels.dtype).reshape(labels.shape)
