"""The parameters of a notebook: where it is, what its `parameters` cell sets, and values typed to match."""

from __future__ import annotations

import ast
import difflib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class RunError(ValueError):
    """A run cannot start as asked; the message says what was wrong and what to do."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell; `kind` is the name of a type, or "" where nothing says which."""

    name: str
    default: Any
    kind: str
    optional: bool  # None is allowed

    def __str__(self) -> str:
        return f"{self.name} = {self.default!r}"


def find_notebook(name: str | os.PathLike) -> Path:
    """The notebook that `name` stands for: a path, or a name such as "02_sts_regression" or "02".

    Names are looked up in ./notebooks, then among the kit's own. Raises `RunError` listing what exists.
    """
    path = Path(name).expanduser()
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    package = Path(__file__).resolve().parent
    kit = package / "notebooks" if (package / "notebooks").is_dir() else package.parent / "notebooks"
    looked = []
    for folder in dict.fromkeys([Path("notebooks").resolve(), kit]):
        stems = sorted(file.stem for file in folder.glob("*.ipynb"))
        wanted = path.name.removesuffix(".ipynb") if path.name == os.fspath(name) else ""
        fit = [stem for stem in stems if stem == wanted] or [
            stem for stem in stems if wanted and stem.startswith(wanted)
        ]
        if len(fit) == 1:
            return folder / f"{fit[0]}.ipynb"
        if fit:
            raise RunError(f"{os.fspath(name)!r} fits {len(fit)} notebooks: {', '.join(fit)}; write one of them")
        looked.append(f"{folder}: {', '.join(stems) or 'none'}")
    raise RunError(f"there is no notebook {os.fspath(name)!r}; notebooks in {'; in '.join(looked)}")


def read_cells(notebook: str | os.PathLike) -> list[dict[str, Any]]:
    """The cells of a notebook file, the source of each as one string; raises `RunError` where it is none."""
    try:
        cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
        return [{**cell, "source": "".join(cell["source"])} for cell in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{notebook} is not a notebook of format 4 ({type(error).__name__}: {error})") from None


def read_parameters(notebook: str | os.PathLike) -> dict[str, Parameter]:
    """The parameters that the cell tagged `parameters` sets, by name.

    Raises `RunError` where there is no such cell, where a line of it is not `name = literal`, and
    where it lacks `output_dir`, through which a run tells the notebook where its record goes.
    """
    name = Path(notebook).name
    sources = [c["source"] for c in read_cells(notebook) if "parameters" in c.get("metadata", {}).get("tags", [])]
    if not sources:
        raise RunError(f"{name} has no cell tagged 'parameters'; tag the cell that sets them")
    try:
        lines = ast.parse(sources[0]).body
    except SyntaxError as error:
        raise RunError(f"{name}, parameters cell, line {error.lineno}: {error.msg}") from None
    parameters = [_read_line(line, f"{name}, parameters cell, line {line.lineno}") for line in lines]
    known = {parameter.name: parameter for parameter in parameters}
    if "output_dir" not in known:
        raise RunError(f'{name} has nowhere to put its record; add to its parameters cell: output_dir = ""')
    return known


def _read_line(line: ast.stmt, where: str) -> Parameter:
    target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
    try:
        default = ast.literal_eval(line.value)  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        target = None
    if not isinstance(target, ast.Name):
        raise RunError(f"{where}: expected `name = literal`, found {ast.unparse(line)[:60]!r}")
    kind, optional = "" if default is None else type(default).__name__, default is None
    if isinstance(line, ast.AnnAssign):  # "int", "int | None", "list[float]"
        kinds = [part.strip().split("[")[0] for part in ast.unparse(line.annotation).strip("'\"").split("|")]
        kind, optional = next((k for k in kinds if k != "None"), ""), optional or "None" in kinds
    return Parameter(target.id, default, kind, optional)


def typed_parameters(notebook: str | os.PathLike, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `given`, each of its parameter's type; strings are read as a command line gives them.

    "1e-2" is a float, "yes" and "true" a bool, "none" None where the default is. Raises `RunError`
    for an unknown name (with the nearest known ones) and for a value that does not fit.
    """
    known = read_parameters(notebook)
    known.pop("output_dir")
    if "output_dir" in given:
        raise RunError("output_dir is set by the runner; choose the folder of runs with --output-dir and --name")
    values = {}
    for name, value in given.items():
        if name not in known:
            near = " or ".join(difflib.get_close_matches(name, known))
            hint = f"did you mean {near}?" if near else f"it has {', '.join(map(str, known.values()))}"
            raise RunError(f"{Path(notebook).stem} has no parameter {name!r}; {hint}")
        try:
            values[name] = cast(value, known[name])
        except ValueError:
            kind = known[name].kind + (" or none" if known[name].optional else "")
            raise RunError(f"parameter {known[name]} takes {kind}, got {type(value).__name__} {value!r}") from None
    return values


def cast(value: Any, parameter: Parameter) -> Any:
    """`value` with the parameter's type; `ValueError` where it has another."""
    kind, text = parameter.kind, value.strip() if isinstance(value, str) else None
    if parameter.optional and (value is None or (text or "").lower() == "none"):
        return None
    if text is not None and (kind in ("list", "dict", "")):
        value = _literal(text)
    if text is not None and kind == "bool":
        value = TRUTH.get(text.lower())
    if kind in ("int", "float") and not isinstance(value, bool):
        return _number(value if text is None else text, kind)
    if kind and type(value).__name__ != kind:
        raise ValueError
    return value


def _number(value: Any, kind: str) -> int | float:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value):
        value = int(value)
    if not isinstance(value, (int, float, str)):
        raise ValueError
    if kind == "int" and isinstance(value, int):
        return value
    number = float(value)
    if not math.isfinite(number) or (kind == "int" and not number.is_integer()):
        raise ValueError
    return number if kind == "float" else int(number)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
