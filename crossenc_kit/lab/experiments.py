"""Run a notebook as an experiment: parameters go in, a folder with its record comes out.

The folder holds the executed notebook, `record.json` (parameters, provenance, status, minutes),
`metrics.json`, `figures/` and `history.jsonl`. The notebook writes its part through
`records.start_run`. The runner writes the status, because papermill's own output marks every cell
as completed after a timeout or a dead kernel.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import itertools
import math
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from crossenc_kit.errors import RunError, need
from crossenc_kit.files import plain, shipped
from crossenc_kit.history import provenance
from crossenc_kit.lab.records import align, flat, load_record, now, update_record

TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
KERNEL_START = 180  # seconds that a kernel may take to start on a busy machine
KERNEL_MESSAGE = 60  # seconds to wait for its next message; papermill's 4 are too few there


def run_notebook(
    notebook: str | os.PathLike,
    parameters: Mapping[str, Any] | None = None,
    output_dir: str | os.PathLike | None = None,
    name: str | None = None,
    progress: bool = True,
    cell_timeout: int | None = None,
) -> dict[str, Any]:
    """Execute a notebook with `parameters` and return its record, kept in `<output_dir>/<name>/`.

    The notebook runs in its own folder, as under Jupyter; a path that exists here is passed on
    absolute. `status` in the record is "finished" or "failed"; `error` then has the message, the
    cell counted from 0, and its source. An interruption is recorded and raised again.

    output_dir: the folder of all experiments, ./experiments by default
    name: by default the notebook's name and the time; an unfinished experiment starts again
    cell_timeout: seconds

    Raises `RunError` or `OSError`, before anything starts, if notebook, parameters or folder cannot
    be used.
    """
    path = find_notebook(notebook)
    need("ipykernel", "running a notebook")
    given = typed_parameters(path, plain(parameters or {}))
    defaults = {key: value for key, value in read_parameters(path).items() if key != "output_dir"}
    words = [word for key, value in given.items() for word in ("-p", key, str(value))]
    folder = _new_folder(Path(output_dir or "experiments"), name, path.stem)
    values = {key: from_here(key, value) for key, value in given.items()}
    update_record(
        folder,
        notebook=path.stem,
        status="running",
        started=now(),
        parameters={**defaults, **given},
        command=shlex.join(["crossenc-kit", "run", path.stem, *words]),
        provenance=provenance(),
    )
    start, error, status = time.monotonic(), None, "interrupted"
    try:
        error = _execute(path, folder, values, progress, cell_timeout)
        status = "failed" if error else "finished"
    finally:
        minutes = round((time.monotonic() - start) / 60, 3)
        update_record(folder, status=status, minutes=minutes, **({"error": error} if error else {}))
    return load_record(folder)


def sweep(
    notebook: str | os.PathLike,
    grid: Mapping[str, Sequence[Any]],
    executor: Executor | None = None,
    parameters: Mapping[str, Any] | None = None,
    output_dir: str | os.PathLike | None = None,
) -> list[dict[str, Any]]:
    """Run a notebook for every combination of `grid` (name -> values) and return the records.

    The whole grid is checked before the first experiment starts. A failed experiment is a record
    like the others.

    executor: anything like those of `concurrent.futures`; None runs one after the other
    parameters: what all experiments share
    """
    path = find_notebook(notebook)
    rows = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    rows = [typed_parameters(path, plain({**(parameters or {}), **row})) for row in rows]
    calls: list[Callable[[], dict[str, Any]]]
    if executor is None:
        calls = [partial(run_notebook, path, row, output_dir) for row in rows]
    else:
        started = [executor.submit(run_notebook, path, row, output_dir, progress=False) for row in rows]
        calls = [future.result for future in started]
    records = []
    for row, call in zip(rows, calls, strict=True):
        try:
            records.append(call())
        except Exception as error:  # it could not start, or its process died
            lost = {"notebook": path.stem, "name": path.stem, "status": "failed", "metrics": {}}
            message = f"{type(error).__name__}: {error}"
            records.append({**lost, "parameters": row, "error": {"message": message}})
    return records


def from_here(name: str, value: Any) -> Any:
    """Make a relative path absolute if it exists here, since the notebook runs elsewhere."""
    if not isinstance(value, str) or not value:
        return value
    there = Path(value).expanduser()
    is_path = name.endswith(("_dir", "_file", "_path", "_folder")) or re.search(r"[/\\]", value)
    return str(there.resolve()) if is_path and there.exists() else value


def _new_folder(parent: Path, name: str | None, stem: str) -> Path:
    """Make the folder of an experiment; a finished one is never written over."""
    if name is not None and (not name.strip(". ") or Path(name).name != name):
        raise RunError(f"{name!r} cannot name an experiment; use one plain word")
    parent.mkdir(parents=True, exist_ok=True)
    stamp = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in itertools.count(1):  # several may start in one second
        folder = parent.resolve() / (name or (stamp if number == 1 else f"{stamp}-{number}"))
        try:
            folder.mkdir()
            break
        except FileExistsError:
            if name is not None:
                _reopen(folder)
                break
    return folder


def _reopen(folder: Path) -> None:
    """Clear what an unfinished experiment reported; its checkpoints and history stay."""
    if not (folder / "record.json").is_file():
        raise RunError(f"{folder} exists but holds no experiment; choose another --name")
    if load_record(folder)["status"] == "finished":
        raise RunError(f"{folder} is finished; choose another --name, or delete that folder")
    for left in ("record.json", "metrics.json"):
        (folder / left).unlink(missing_ok=True)
    shutil.rmtree(folder / "figures", ignore_errors=True)


def _execute(
    path: Path, folder: Path, values: dict[str, Any], progress: bool, timeout: int | None
) -> dict[str, Any] | None:
    """Run every cell; None if all were run, else what went wrong and at which cell."""
    import nbformat
    import papermill

    cells, at = nbformat.read(path, as_version=4).cells, -1

    def cell_starts(cell: Any, cell_index: int) -> None:
        nonlocal at
        at += "injected-parameters" not in cell.metadata.get("tags", [])

    message = "the notebook stopped itself before its last cell"  # papermill: sys.exit() is success
    try:
        papermill.execute_notebook(
            *(_no_template(file) for file in (path, folder / path.name)),
            parameters={**values, "output_dir": str(folder)},
            progress_bar=progress,
            start_timeout=KERNEL_START,
            execution_timeout=timeout,
            iopub_timeout=KERNEL_MESSAGE,
            on_cell_start=cell_starts,
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel, which shares this terminal
            # papermill's `cwd` would move this whole process, and with it other threads
            resources={"metadata": {"path": str(path.parent)}},
        )
        if at == len(cells) - 1:
            return None
    except Exception as error:
        message = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
    clean = re.sub(r"\x1b\[[\d;]*m", "", message).strip()
    return {"message": clean, "cell": at, "source": cells[max(at, 0)].source}


def _no_template(path: Path) -> str:
    """Escape the braces of a path, which papermill would fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def run_command(options: argparse.Namespace) -> int:
    """Run `crossenc-kit run`: execute a notebook and print what came of it."""
    if data := os.environ.get("CROSSENC_KIT_DATA"):  # the notebook runs in another folder
        os.environ["CROSSENC_KIT_DATA"] = os.path.abspath(data)
    given = dict(options.parameters)
    record = run_notebook(options.notebook, given, options.output_dir, options.name)
    name, folder = record["notebook"], Path(os.path.relpath(record["folder"]))
    executed = folder / f"{name}.ipynb"
    if record["status"] != "finished":
        reason = record["error"]["message"].splitlines() or ["stopped"]
        where = f"{name}, cell {record['error']['cell'] + 1}"
        print(f"crossenc-kit: {where}: {reason[0]} (executed so far: {executed})", file=sys.stderr)
        return 2
    rows = [["metric", "value"]]
    for metric, value in flat(record["metrics"]).items():
        rows.append([metric, f"{value:.4f}" if isinstance(value, float) else str(value)])
    print(f"\n{name} finished in {record['minutes']:.1f} minutes: {folder}\n")
    print(*(f"  {line}" for line in align(rows)), "", sep="\n")
    for figure in sorted(folder.glob("figures/*.png")):
        print(f"figure    {figure}")
    print(f"notebook  jupyter lab {executed}")
    return 0


# --- the notebook and its parameters --------------------------------------------------------------


def find_notebook(name: str | os.PathLike) -> Path:
    """Find a notebook by its path, its name or the start of it ("02_sts_regression", "02").

    Names are looked up in ./notebooks, then among the kit's own. Raises `RunError` listing both.
    """
    path = Path(name).expanduser()
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    wanted = path.name.removesuffix(".ipynb") if path.name == os.fspath(name) else ""
    looked = []
    for folder in dict.fromkeys([Path("notebooks").resolve(), shipped("notebooks")]):
        stems = sorted(file.stem for file in folder.glob("*.ipynb"))
        fit = [stem for stem in stems if wanted and stem.startswith(wanted)]
        fit = [wanted] if wanted in fit else fit
        if len(fit) == 1:
            return folder / f"{fit[0]}.ipynb"
        if fit:
            several = f"{os.fspath(name)!r} fits {len(fit)} notebooks: {', '.join(fit)}"
            raise RunError(f"{several}; write one of them")
        looked.append(f"{folder}: {', '.join(stems) or 'none'}")
    raise RunError(f"there is no notebook {os.fspath(name)!r}; notebooks in {'; in '.join(looked)}")


def read_parameters(notebook: str | os.PathLike) -> dict[str, Any]:
    """Read the names and default values that the cell tagged `parameters` sets.

    Raises `RunError` if there is no such cell, if a default is not a literal, or if `output_dir`
    is missing, which tells the notebook where to leave its record.
    """
    papermill = need("papermill", "running a notebook")
    path = Path(notebook)
    try:
        found = papermill.inspect_notebook(_no_template(path))
    except Exception as error:  # whatever JSON, nbformat or papermill object to
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RunError(f"{path} is not a notebook of format 4 ({why})") from None
    if "output_dir" not in found:
        hint = "its cell tagged 'parameters' needs the line: output_dir = \"\""
        raise RunError(f"{path.name} has nowhere to put its record; {hint}")
    defaults = {}
    for name, parameter in found.items():
        try:
            defaults[name] = ast.literal_eval(parameter["default"])
        except (SyntaxError, ValueError):
            line = f"{name} = {parameter['default'][:50]}"
            raise RunError(f"{path.name}, parameters cell: {line!r} is no literal") from None
    return defaults


def typed_parameters(notebook: str | os.PathLike, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give each value the type of its parameter's default; text is read as on a command line.

    "1e-2" becomes a float, "yes" and "true" a bool. A default of None takes any literal. Raises
    `RunError` for an unknown name (with the nearest known ones) and for a value that does not fit.
    """
    known = read_parameters(notebook)
    known.pop("output_dir")  # the runner sets it
    values = {}
    for name, value in given.items():
        if name not in known:
            near = " or ".join(difflib.get_close_matches(name, known))
            hint = f"did you mean {near}?" if near else f"it has {', '.join(known)}"
            raise RunError(f"{Path(notebook).stem} has no parameter {name!r}; {hint}")
        try:
            values[name] = _typed(value, known[name])
        except (ValueError, OverflowError):
            takes = f"{name} = {known[name]!r} takes {type(known[name]).__name__}"
            raise RunError(f"parameter {takes}, got {type(value).__name__} {value!r}") from None
    return values


def _typed(value: Any, default: Any) -> Any:
    """Turn `value` into the type of `default`, or raise `ValueError`."""
    kind = type(default)
    if isinstance(value, str) and kind is not str:
        word = value.strip().lower()
        if kind is bool or word == "none":
            value = TRUTH.get(word)
        else:
            with suppress(SyntaxError, ValueError):  # stays text
                value = ast.literal_eval(value)
    if kind in (int, float) and type(value) in (int, float):
        if not math.isfinite(value) or value != kind(value):
            raise ValueError
        return kind(value)
    if default is not None and type(value) is not kind:
        raise ValueError
    return value
