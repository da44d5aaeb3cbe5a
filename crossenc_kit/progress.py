"""How far a long job is, in one line: rewritten in place in a terminal, a new line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

IN_PLACE, IN_A_LOG = 0.5, 15.0  # seconds between two lines


class Progress:
    """Counts pairs up to `total` and says so on `stream` (standard error), at most every few seconds.

    `done` of them were there at the start: they count as done, and not for the rate.
    """

    def __init__(self, total: int, done: int = 0, name: str = "", stream: TextIO | None = None, shown: bool = True):
        self.total, self.done, self.name, self.shown = total, done, name, shown
        self.stream = sys.stderr if stream is None else stream
        self.in_place = self.stream.isatty()
        self.began = self.told = time.monotonic()
        self.since = done
        self.width = 0

    def advance(self, count: int) -> None:
        """`count` more are done."""
        self.done += count
        now = time.monotonic()
        if self.shown and now - self.told >= (IN_PLACE if self.in_place else IN_A_LOG):
            self.told = now
            self._tell(self.line(now - self.began))

    def line(self, seconds: float) -> str:
        """How it stands `seconds` after the start."""
        rate = (self.done - self.since) / max(seconds, 1e-9)
        left = f", {duration((self.total - self.done) / rate)} left" if rate and self.done < self.total else ""
        part = f" ({self.done / self.total:.1%})" if self.total else ""
        return f"{self.name}{self.done:,} of {self.total:,} pairs scored{part}, {rate_text(rate)}{left}"

    def _tell(self, line: str) -> None:
        if self.in_place:
            print(f"\r{line:{self.width}}", end="", file=self.stream, flush=True)
            self.width = len(line)  # a shorter line covers all of a longer one
        else:
            print(line, file=self.stream, flush=True)

    def close(self) -> None:
        """End the line that was rewritten in place."""
        if self.width:
            print(file=self.stream, flush=True)
            self.width = 0


def rate_text(rate: float) -> str:
    """Pairs a second, of slow models with decimals."""
    return f"{rate:,.0f} pairs/s" if rate >= 10 else f"{rate:.2g} pairs/s"


def duration(seconds: float) -> str:
    """Seconds as 0:07, 12:05 or 3:07:41."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
