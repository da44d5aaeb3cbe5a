"""The errors and warnings that the kit raises on purpose, and what their messages share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from typing import Any

# What to install for each optional package; any other is installed under its own name.
INSTALL = {
    "datasets": "crossenc_kit[data]",
    "bm25s": "crossenc_kit[search]",
    "onnx": "crossenc_kit[onnx]",
    "onnxruntime": "crossenc_kit[onnx]",
    "onnxscript": "crossenc_kit[onnx]",
    "papermill": "crossenc_kit[lab]",
    "ipykernel": "crossenc_kit[lab]",
    "ipywidgets": "crossenc_kit[lab]",
    "matplotlib": "crossenc_kit[lab]",
    "pandas": "crossenc_kit[lab]",
    "peft": "peft>=0.13",
    "sentence_transformers": "sentence-transformers>=6,<7",
}


class DataError(ValueError):
    """A text or a label cannot be used; the message names row and column and says what to do."""


class BackboneError(RuntimeError):
    """A base model cannot be loaded; the message names every place looked in and how to fix it."""


class CheckpointError(RuntimeError):
    """A job's folder cannot be written, read or resumed from; the message says what to do."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the step and the rows."""


class DriftError(ValueError):
    """A faster form of a model scores too differently; `drift` holds the numbers."""

    def __init__(self, message: str, drift: Any):
        super().__init__(message)
        self.drift = drift


class RunError(ValueError):
    """An experiment cannot start as asked; the message says what is wrong and what to do."""


class PoolError(RuntimeError):
    """A process of the pool died or failed; the message says which one, and why if that is known."""


class TruncationWarning(UserWarning):
    """Some pairs were longer than `max_length` and lost their last tokens."""


def need(package: str, what: str) -> Any:
    """Import an optional package and return it, or raise `ImportError` saying how to install it.

    package: may name a module inside it ("pyarrow.parquet"), which is then imported as well
    what: what needs the package, the start of the message ("BM25", "reading a .parquet file")
    """
    name = package.partition(".")[0]
    try:
        importlib.import_module(package)
    except ImportError as error:
        install = f'pip install "{INSTALL.get(name, name)}"'
        raise ImportError(f"{what} needs {name}, which is not installed: {install}") from error
    return sys.modules[name]


def some(ids: Iterable[Any], most: int = 3) -> str:
    """Name the first few ids, for a message."""
    ids = list(ids)
    return ", ".join(repr(name) for name in ids[:most]) + (", ..." if len(ids) > most else "")
