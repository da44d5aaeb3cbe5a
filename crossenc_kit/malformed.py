"""Lines (or rows) that cannot be used: an error at the first, or passed over, counted and named."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from crossenc_kit.pairs import DataError

MALFORMED = ("error", "count")
NAMED = 3  # lines that are named where more are counted
Line = TypeVar("Line")
Row = TypeVar("Row")


class MalformedLines:
    """The lines of a file that cannot be used; `mode` "error" raises at the first, "count" counts and names them.

    `unit`: what a number counts, "row" where there are no lines. `advice` is the end of an error: what may be done.
    """

    def __init__(self, path: str | os.PathLike, mode: str = "error", *, unit: str = "line", advice: str | None = None):
        if mode not in MALFORMED:
            raise ValueError(f"malformed must be one of {', '.join(MALFORMED)}; got {mode!r}")
        self.path, self.mode, self.unit, self.count = path, mode, unit, 0
        self.advice = f' (malformed="count" passes over such {unit}s)' if advice is None else advice
        self.first: list[str] = []

    def add(self, number: int, wrong: str) -> None:
        """Take note of what is wrong with a line; raises `DataError` naming file and line where that is an error."""
        if self.mode == "error":
            raise DataError(f"{self.path}, {self.unit} {number}: {wrong}{self.advice}") from None
        self.count += 1
        if self.count <= NAMED:
            self.first.append(f"{self.unit} {number}: {wrong}")

    def notes(self) -> list[str]:
        """How many lines were passed over, and the first of them, in words; nothing where there were none."""
        if not self.count:
            return []
        more = "; ..." if self.count > NAMED else ""
        named = "; ".join(self.first) + more
        return [f"{os.path.basename(self.path)}: malformed {self.unit}s left out: {self.count:,} ({named})"]

    def warn(self, stacklevel: int = 1) -> None:
        """The notes as a warning, for readers whose answer has no place for notes."""
        for note in self.notes():
            warnings.warn(note, stacklevel=stacklevel + 1)


def usable(
    lines: Iterable[tuple[int, Line]], parse: Callable[[Line], Row], malformed: MalformedLines
) -> Iterator[tuple[int, Row]]:
    """Yield (number, row) of the lines (or rows) that `parse` can read; it raises `DataError` saying what is wrong.

    Empty lines are no rows, and are passed over.
    """
    for number, line in lines:
        if line == "":
            continue
        try:
            row = parse(line)
        except DataError as error:
            wrong = str(error)
        else:
            yield number, row
            continue
        malformed.add(number, wrong)
