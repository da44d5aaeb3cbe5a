"""What happened and where: the rows of a training, the report of a result, the provenance of both."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.files import plain, write_jsonl

VERSIONS_OF = ("crossenc_kit", "torch", "transformers", "tokenizers", "accelerate", "numpy")
SHOWN = 20  # rows of a history in a notebook, the last ones


class History(Sequence[dict[str, Any]]):
    """The rows of a training, in order; each has a `step` and whatever was measured at it.

    A training row holds `step`, `epoch`, `loss`, `learning_rate`, `grad_norm`, `pairs`, `tokens` and `seconds`.
    An evaluation row holds `step`, `epoch`, `seconds` and the evaluator's metrics with the prefix `eval_`.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]] = ()):
        self.rows = [dict(row) for row in rows]

    def append(self, **row: Any) -> dict[str, Any]:
        """Add one row and return it as stored, with plain Python numbers."""
        self.rows.append({name: plain(value) for name, value in row.items()})
        return self.rows[-1]

    def column(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return `(steps, values)` of the rows that have `name`, two arrays of one length."""
        rows = [row for row in self.rows if name in row]
        return np.array([row["step"] for row in rows]), np.array([row[name] for row in rows], dtype=float)

    def names(self) -> list[str]:
        """List every column name in the order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def evaluations(self) -> list[dict[str, Any]]:
        """List the rows that an evaluator wrote."""
        return [row for row in self.rows if any(name.startswith("eval_") for name in row)]

    def save(self, path: str | os.PathLike) -> Path:
        """Write JSON Lines in one move."""
        return write_jsonl(path, self.rows)

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

    def _repr_html_(self) -> str:
        names, shown = self.names(), self.rows[-SHOWN:]
        left = len(self) - len(shown)
        rows = [[_cell(row.get(name)) for name in names] for row in shown]
        return html_table(names, rows, f"{len(self)} rows" + (f", the first {left} not shown" if left else ""))


def _cell(value: Any) -> Any:
    """Show a number with four digits, nothing if there is none."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else value


class Report:
    """What every evaluation returns: a frozen dataclass that shows itself as text and as HTML.

    A subclass has `metrics`, a dict of floats whose first entry selects the best model.
    """

    if TYPE_CHECKING:  # a field or a property of the subclass

        @property
        def metrics(self) -> Mapping[str, float]: ...

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain Python values, ready for JSON."""
        assert dataclasses.is_dataclass(self)
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def __str__(self) -> str:
        return "\n".join(f"{name:<24}{value:.4g}" for name, value in self.metrics.items())

    def _repr_html_(self) -> str:
        rows = [(name, f"{value:.4g}") for name, value in self.metrics.items()]
        return html_table(("metric", "value"), rows)


def html_table(headings: Iterable[Any], rows: Iterable[Iterable[Any]], caption: str = "") -> str:
    """Write an HTML table in which every cell, heading and caption is escaped."""
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in headings)
    body = ("".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows)
    lines = "".join(f"<tr>{cells}</tr>" for cells in body)
    said = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{said}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def provenance(device: Any = None, **more: Any) -> dict[str, Any]:
    """Record versions, device and date; no user, host or path, so that it can be shared."""
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
    """Name the device: the GPU, or the CPU with the number of threads torch uses."""
    torch = sys.modules.get("torch")
    if torch is None:
        return f"cpu, {os.cpu_count()} cores"
    if device is not None and str(device).startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    if device is not None and not str(device).startswith("cpu"):
        return str(device)
    return f"cpu, {torch.get_num_threads()} threads"
