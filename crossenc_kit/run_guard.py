"""One run at a time in a folder, how it stands, and how it is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossenc_kit.checkpoint import CheckpointError, write_text
from crossenc_kit.history import dumps

STATUSES = ("running", "finished", "stopped", "failed")
FAR = 1 << 20  # the byte that is locked on Windows: beyond the process id, which others must be able to read


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
    partial = path.with_name(".status.json.partial")
    try:
        write_text(partial, dumps({"status": status, **more}, indent=2) + "\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # half of it, where the disk is full
    return path


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
