"""One run at a time in a folder, how it stands, and how it is asked to stop.

How far a long job is, in one line: rewritten in place in a terminal, a new line now and then in a log.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from crossenc_kit.errors import CheckpointError
from crossenc_kit.files import plain, write_json

STATUSES = ("running", "finished", "stopped", "failed")
FAR = 1 << 20  # the byte that is locked on Windows: beyond the process id, which others must be able to read
IN_PLACE, IN_A_LOG = 0.5, 15.0  # seconds between two lines


@contextmanager
def lock(folder: str | os.PathLike) -> Iterator[None]:
    """One run at a time in a folder: `CheckpointError` with the process id of the run that has it.

    It is the operating system's lock on `<folder>/.lock`, so that a dead process never blocks; the file
    stays. Where the file system has no locks it warns and goes on.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CheckpointError(f"cannot use {folder}: {error}. Make it writable or choose another folder") from error
    try:
        locked = _take(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        try:
            yield
        finally:
            if locked:
                _give_back(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> bool:
    """Lock an open file; False if its file system has no locks, `CheckpointError` if another run has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # Unix and Windows
        os.lseek(descriptor, 0, os.SEEK_SET)
        holder = os.read(descriptor, 20).decode() or "unknown"
        raise CheckpointError(
            f"{folder} is in use by another run (process {holder}). Wait for it, stop it, or choose another folder"
        ) from None
    except OSError as error:
        warnings.warn(f"{folder} cannot be locked ({error}); see to it that only one run uses it", stacklevel=4)
        return False
    return True


def _give_back(descriptor: int) -> None:
    """Unlock, and not by closing alone: forked workers have the file open too and would keep it locked."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)


def write_status(folder: str | os.PathLike, status: str, **more: Any) -> Path:
    """Write `<folder>/status.json` in one move: `status` is running, finished, stopped or failed."""
    if status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}; got {status!r}")
    path = Path(folder) / "status.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_json(path, {"status": status, **more})


def read_status(folder: str | os.PathLike) -> dict[str, Any] | None:
    """What `write_status` wrote last in this folder, or None; `CheckpointError` if it is not JSON."""
    path = Path(folder) / "status.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it") from None


@dataclass
class StopRequest:
    """`requested` is None, or the name of the first signal that asked the run to stop."""

    requested: str | None = None


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a flag to read between steps; a second SIGINT is a KeyboardInterrupt at once.

    The handlers found are put back at the end. Outside the main thread none can be set, so none is.
    """
    request = StopRequest()
    seen: set[int] = set()

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and number in seen:
            raise KeyboardInterrupt
        seen.add(number)
        request.requested = request.requested or signal.Signals(number).name

    before: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, note)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python


def check_fingerprint(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` naming each field, nested ones with dots, in which two plans differ."""
    before, now = _fields(json.loads(json.dumps(plain(saved)))), _fields(json.loads(json.dumps(plain(current))))
    names = [name for name in {**before, **now} if before.get(name, "(absent)") != now.get(name, "(absent)")]
    if names:
        lines = "".join(
            f"\n  {name}: {before.get(name, '(absent)')} in the checkpoint, {now.get(name, '(absent)')} in this run"
            for name in names
        )
        raise CheckpointError(
            f"cannot resume, {len(names)} setting(s) changed:{lines}\n"
            "Give these settings the checkpoint's values to go on with that run, or start a new run in another folder"
        )


def _fields(value: Any, name: str = "") -> dict[str, str]:
    """Nested dicts as one flat dict from dotted names to values written as JSON."""
    if not isinstance(value, dict) or (not value and name):
        return {name: json.dumps(value, sort_keys=True)}
    return {dotted: leaf for key in value for dotted, leaf in _fields(value[key], f"{name}.{key}".strip(".")).items()}


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
