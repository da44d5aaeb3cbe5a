"""How the battery talks to two versions of one package, and how it writes an answer down.

Names are found wherever the checkout defines them, and arguments are handed over by name, so that files and orders may
change: `ask(function, given)` passes what the function has a parameter for. If a name differs between the two sides, an
item hands its value over under both.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

Item = Callable[[], Any]
ITEMS: dict[str, tuple[Item, bool]] = {}
MANY = 40  # entries above which a mapping is told by its hash


class Kit:
    """The package of one checkout: `kit.name` finds a name at the root, else in the file that defines it."""

    def __init__(self) -> None:
        import crossenc_kit

        self.root = crossenc_kit
        self.package = Path(crossenc_kit.__file__).parent
        self.files: dict[str, list[str]] = {}
        for path in sorted(self.package.rglob("*.py")):
            module = ".".join(path.relative_to(self.package.parent).with_suffix("").parts)
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                for name in _defined(node):
                    self.files.setdefault(name, []).append(module)

    def __getattr__(self, name: str) -> Any:
        from importlib import import_module

        if name in self.root.__all__:
            return getattr(self.root, name)
        if name not in self.files:
            raise LookupError(f"no file of the package defines {name}")
        return getattr(import_module(self.files[name][0]), name)

    def first(self, *names: str) -> Any:
        """The first of several names that there is."""
        return getattr(self, next(name for name in names if name in self.files))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


kit: Any = Kit()  # any: its names are found at run time


def item(name: str, near: bool = False) -> Callable[[Item], Item]:
    """Register an item; `near` for numbers that a library computes now."""

    def register(function: Item) -> Item:
        ITEMS[name] = function, near
        return function

    return register


def ask(function: Any, given: Mapping[str, Any], **options: Any) -> Any:
    """Call a function with those of `given` that it has a parameter for, and with all `options`."""
    return function(
        **{name: given[name] for name in inspect.signature(function).parameters if name in given}, **options
    )


def bits(value: Any, near: bool = False) -> Any:
    """A value as JSON that tells every bit: floats as hex, arrays by their sha256; `near` keeps plain floats."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray | np.generic) and near:
        return bits(value.tolist(), near)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        return bits(value.tolist())
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:20]}"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | None | str):
        return value
    if isinstance(value, int):
        return value if near else str(value)
    if isinstance(value, float):
        return value if near else value.hex()
    if isinstance(value, Mapping):
        told = {str(key): bits(own, near) for key, own in value.items()}
        return told if near or len(told) <= MANY else _digest(list(told.items()))
    if isinstance(value, list | tuple | set | range):
        told = [bits(own, near) for own in (sorted(value) if isinstance(value, set) else value)]
        return told if near or len(told) <= MANY else _digest(told)
    raise TypeError(f"an answer of type {type(value).__name__}")


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:20]


def metrics(report: Any) -> dict[str, Any]:
    """A report's metrics: a method before, an attribute now."""
    found = report.metrics
    return dict(found() if callable(found) else found)


def fields(report: Any, *names: str) -> dict[str, Any]:
    """Some fields of a report."""
    return {name: getattr(report, name) for name in names}


def weights(model: Any) -> str:
    """sha256 of names and bits of all weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.model.state_dict().items()):
        found.update(name.encode() + str(tensor.dtype).encode() + tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:20]


def rows_of(history: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def pairs_told(pairs: Any) -> dict[str, Any]:
    own = {"left": list(pairs.left), "right": list(pairs.right), "labels": pairs.labels, "offsets": pairs.offsets}
    return {name: value for name, value in own.items() if value is not None}


def run_told(run: Any) -> list[Any]:
    """A run in its order: candidates whose order changed are a difference too."""
    return [[query, list(found.items())] for query, found in run.items()]


def sha_of(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:20]
