"""What happened in a run: one row a logged step, in JSON Lines, and where the run came from."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

VERSIONS_OF = ("crossenc_kit", "torch", "transformers", "tokenizers", "accelerate", "numpy")


class History(Sequence[dict[str, Any]]):
    """The rows of a run, in order; every row has a `step` and whatever was measured at it.

    Training rows hold `step`, `epoch`, `loss`, `learning_rate`, `grad_norm`, `pairs`, `tokens`,
    `seconds`; evaluation rows hold `step`, `epoch`, `seconds` and the evaluator's metrics with the
    prefix `eval_`.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]] = ()):
        self.rows = [dict(row) for row in rows]

    def append(self, **row: Any) -> dict[str, Any]:
        """Add one row and return it as stored (numbers as plain Python numbers)."""
        self.rows.append({name: plain(value) for name, value in row.items()})
        return self.rows[-1]

    def column(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """`(steps, values)` of the rows that have `name`: two arrays of one length, possibly 0."""
        rows = [row for row in self.rows if name in row]
        return np.array([row["step"] for row in rows]), np.array([row[name] for row in rows], dtype=float)

    def names(self) -> list[str]:
        """Every column name, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def until(self, step: int) -> History:
        """The rows up to and including `step`."""
        return History([row for row in self.rows if row["step"] <= step])

    def save(self, path: str | os.PathLike) -> Path:
        """Write JSON Lines, replacing the file in one move."""
        return _replace(Path(path), "".join(dumps(row) + "\n" for row in self.rows))

    @classmethod
    def load(cls, path: str | os.PathLike) -> History:
        """Read JSON Lines; a broken row raises `ValueError` with file and line."""
        rows = []
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not a JSON object ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: not a JSON object but {line[:60]!r}")
            rows.append(row)
        return cls(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __repr__(self) -> str:
        return f"History: {len(self)} rows, columns {', '.join(self.names())}"


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers and arrays of numpy and torch, paths and tuples become plain ones."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinities become null, since no other JSON reader accepts them."""

    def finite(item: Any) -> Any:
        if isinstance(item, float) and not math.isfinite(item):
            return None
        if isinstance(item, dict):
            return {key: finite(sub) for key, sub in item.items()}
        return [finite(sub) for sub in item] if isinstance(item, list) else item

    return json.dumps(finite(plain(value)), indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write a record as indented JSON, replacing the file in one move."""
    return _replace(Path(path), dumps(value, indent=2) + "\n")


def _replace(path: Path, text: str) -> Path:
    """Write JSON as UTF-8; half of a surrogate pair, which UTF-8 cannot hold, as its JSON escape."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # half of it, where the disk is full
    return path


def provenance(device: Any = None, **more: Any) -> dict[str, Any]:
    """Versions, device and time of a run; no user, host or path, so that it can be shared."""
    versions = {}
    for name in VERSIONS_OF:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    record = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "device": describe_device(device),
    }
    return {**record, **{name: plain(value) for name, value in more.items()}}


def describe_device(device: Any = None) -> str:
    """The device in words: the GPU's name, or the CPU with the number of threads torch uses."""
    torch = sys.modules.get("torch")
    if torch is None:
        return f"cpu, {os.cpu_count()} cores"
    if device is not None and str(device).startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    if device is not None and not str(device).startswith("cpu"):
        return str(device)
    return f"cpu, {torch.get_num_threads()} threads"
