"""A job's folder: one job at a time in it, its status, stop signals, and whether its plan is the same.

Training and bulk scoring are both jobs: they run for hours, are killed, and go on where they stopped.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossenc_kit.errors import CheckpointError
from crossenc_kit.files import plain, write_json

LOCK, HOLDER = ".lock", ".pid"  # the locked file, and the process id of whoever locked it
ABSENT = "(absent)"


@contextmanager
def lock(folder: str | os.PathLike) -> Iterator[None]:
    """Keep a folder for one job; `CheckpointError` names the process of the job that has it.

    It is the operating system's lock, so that a dead process never blocks. On a file system without locks
    it warns and goes on.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    held = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.acquire()
        (folder / HOLDER).write_text(str(os.getpid()))
    except Timeout:
        raise CheckpointError(
            f"{folder} is in use by another job (process {_holder(folder)}). Wait for it, stop it, or choose "
            "another folder"
        ) from None
    except NotImplementedError as error:
        warnings.warn(f"{folder} cannot be locked ({error}); make sure that only one job uses it", stacklevel=3)
    except OSError as error:
        raise CheckpointError(f"cannot use {folder}: {error}. Make it writable or choose another folder") from error
    try:
        yield
    finally:
        if held.is_locked:
            (folder / HOLDER).unlink(missing_ok=True)
            held.release()


def _holder(folder: Path) -> str:
    try:
        return (folder / HOLDER).read_text() or "unknown"
    except OSError:
        return "unknown"


def write_status(folder: str | os.PathLike, status: str, **more: Any) -> Path:
    """Write `<folder>/status.json` in one move; status: running, finished, stopped or failed."""
    path = Path(folder) / "status.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_json(path, {"status": status, **more})


def read_status(folder: str | os.PathLike) -> dict[str, Any] | None:
    """Read what `write_status` last wrote in this folder; None if it wrote nothing."""
    path = Path(folder) / "status.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@dataclass
class StopRequest:
    """Holds the name of the first signal that asked the job to stop, or None."""

    requested: str | None = None


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a flag to read between steps; a second SIGINT raises KeyboardInterrupt at once.

    The old handlers come back at the end. Outside the main thread Python cannot set any, so none is set.
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
    """Raise `CheckpointError` naming every field, nested ones with dots, in which two plans differ."""
    before, now = (_fields(json.loads(json.dumps(plain(plan)))) for plan in (saved, current))
    names = [name for name in {**before, **now} if before.get(name, ABSENT) != now.get(name, ABSENT)]
    if names:
        lines = "".join(
            f"\n  {name}: {before.get(name, ABSENT)} in the checkpoint, {now.get(name, ABSENT)} now" for name in names
        )
        raise CheckpointError(
            f"cannot resume, {len(names)} setting(s) changed:{lines}\n"
            "Give these settings the checkpoint's values to go on with that job, or start a new one in another folder"
        )


def _fields(value: Any, name: str = "") -> dict[str, str]:
    """Flatten nested dicts into one from dotted names to values written as JSON."""
    if not isinstance(value, dict) or (not value and name):
        return {name: json.dumps(value, sort_keys=True)}
    found: dict[str, str] = {}
    for key, inner in value.items():
        found |= _fields(inner, f"{name}.{key}".strip("."))
    return found
