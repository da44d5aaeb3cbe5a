"""A notebook as an experiment: parameters in, a folder with the record out, and sweeps of them.

The folder of a run holds the executed notebook, `run.json` (parameters, provenance, status,
minutes), `metrics.json`, `figures/` and `history.jsonl`. The notebook writes its part with
`records.start_run`; the runner writes the status, because papermill's own output marks every cell completed
after a timeout or a dead kernel.

The parameters of a notebook: where it is, what its `parameters` cell sets, and values typed to match.
"""

from __future__ import annotations

import ast
import difflib
import itertools
import json
import math
import os
import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from crossenc_kit.errors import RunError
from crossenc_kit.files import plain
from crossenc_kit.history import provenance
from crossenc_kit.lab.records import load_run, now, update_run

TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def run_notebook(
    notebook: str | os.PathLike,
    parameters: Mapping[str, Any] | None = None,
    output_dir: str | os.PathLike | None = None,
    name: str | None = None,
    progress: bool = True,
    cell_timeout: int | None = None,
) -> dict[str, Any]:
    """Execute a notebook with `parameters` and return the run's record, also written to `<output_dir>/<name>/`.

    `output_dir`: the folder of runs, ./runs if left out. `name`: the notebook's name and the time if
    left out; an unfinished run of that name starts again and finds its checkpoints. The notebook runs
    in its own folder, as under Jupyter; a parameter that is a path from here is passed on absolute.
    `cell_timeout`: seconds. The record's `status` is "finished" or "failed" (with `error`: message,
    cell counted from 0, source); an interruption is recorded and raised again. Raises `RunError`
    before anything starts where the notebook, a parameter or the folder will not do.
    """
    path = find_notebook(notebook)
    given = typed_parameters(path, plain(parameters or {}))
    defaults = {key: known.default for key, known in read_parameters(path).items() if key != "output_dir"}
    values = {key: _from_here(key, value) for key, value in given.items()}
    words = [word for key, value in given.items() for word in ("-p", key, str(value))]
    if find_spec("papermill") is None or find_spec("ipykernel") is None:
        raise RunError('running a notebook needs papermill and a kernel: pip install "crossenc_kit[lab]"')
    folder = _new_folder(Path(output_dir or "runs"), name, path.stem)
    update_run(
        folder,
        notebook=path.stem,
        status="running",
        started=now(),
        parameters={**defaults, **given},
        command=shlex.join(["crossenc-kit", "run", path.stem, *words]),
        provenance=provenance(),
    )
    line = ProgressLine(sys.stderr if progress else None)
    start, error, status = time.monotonic(), None, "interrupted"
    try:
        error = _execute(path, folder, {**values, "output_dir": str(folder)}, line, cell_timeout)
        status = "failed" if error else "finished"
    finally:
        minutes = (time.monotonic() - start) / 60
        update_run(folder, status=status, minutes=round(minutes, 3), **({"error": error} if error else {}))
        line.close(f"{path.stem}: {status}")
    return load_run(folder)


def _from_here(name: str, value: Any) -> Any:
    """A relative path that exists in the caller's folder as an absolute one, since the notebook runs in another."""
    if not isinstance(value, str) or not (re.search(r"_(dir|file|path|folder)$", name) or re.search(r"[/\\]", value)):
        return value
    there = Path(value).expanduser()
    return str(there.resolve()) if value and there.exists() else value


def _new_folder(parent: Path, name: str | None, stem: str) -> Path:
    """Make the folder of a run; a finished run is never written over."""
    if name is not None and (not name.strip(". ") or Path(name).name != name):
        raise RunError(f"{name!r} cannot name a run; use one plain word (the folder of all runs is --output-dir)")
    stamped = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
        folder = parent.resolve() / (name or stamped + suffix)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if name is None and folder.is_dir():
                continue
            _reopen(folder)
        except OSError as error:
            raise RunError(f"cannot make the folder {folder} ({error.strerror}); choose another --output-dir") from None
        break
    if not os.access(folder, os.W_OK):
        raise RunError(f"cannot write in {folder}; choose another --output-dir")
    return folder


def _reopen(folder: Path) -> None:
    """Clear what an unfinished run has reported, but not its checkpoints and history, from which it goes on."""
    if not (folder / "run.json").is_file():
        raise RunError(f"{folder} exists and is not the folder of a run; choose another --name")
    if load_run(folder)["status"] == "finished":
        raise RunError(f"{folder} holds a finished run; choose another --name, or delete that folder")
    for left in ("run.json", "metrics.json"):
        (folder / left).unlink(missing_ok=True)
    shutil.rmtree(folder / "figures", ignore_errors=True)


def _execute(path: Path, folder: Path, values: dict, line: ProgressLine, timeout: int | None) -> dict | None:
    """Run every cell; None when all were run, else what went wrong and at which cell of the source notebook."""
    import papermill

    cells, at = read_cells(path), -1

    def cell_starts(cell: Any, cell_index: int) -> None:
        nonlocal at
        if "injected-parameters" not in cell.metadata.get("tags", []):
            at += 1
            line.cell(at + 1, len(cells))

    message = "the notebook stopped itself before its last cell"  # sys.exit(), a success to papermill
    try:
        papermill.execute_notebook(
            *(str(file).replace("{", "{{").replace("}", "}}") for file in (path, folder / path.name)),
            parameters=values,
            progress_bar=False,
            stdout_file=line,
            start_timeout=180,
            execution_timeout=timeout,
            iopub_timeout=60,  # a busy machine needs more than the usual 4 seconds
            on_cell_start=cell_starts,
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel, which shares this terminal
            # papermill's `cwd` would move this whole process, and with it runs in other threads
            resources={"metadata": {"path": str(path.parent)}},
        )
        if at == len(cells) - 1:
            return None
    except Exception as error:
        message = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
    clean = re.sub(r"\x1b\[[\d;]*m", "", message).strip()
    return {"message": clean, "cell": at, "source": cells[max(at, 0)]["source"]}


class ProgressLine:
    """How far a run is, in one line: rewritten each second on a terminal, a new line every 10 seconds elsewhere.

    Shows elapsed minutes and seconds, cell k of n and the last line that the notebook printed;
    papermill writes the notebook's prints to it as to a file.
    """

    def __init__(self, stream: TextIO | None):
        self.stream, self.tty = stream, stream is not None and stream.isatty()
        self.start, self.shown = time.monotonic(), -60.0
        self.place, self.printed = "starting", ""
        self.lock, self.closed = threading.Lock(), threading.Event()
        if stream is not None:
            threading.Thread(target=self._tick, daemon=True).start()

    def cell(self, number: int, total: int) -> None:
        """Say that cell `number` of `total` starts."""
        self.place, self.printed = f"cell {number}/{total}", ""
        self.flush()

    def write(self, text: str) -> None:
        """Take what the notebook prints; control characters in it do not reach the terminal."""
        lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
        self.printed = "".join(c for c in lines[-1] if c.isprintable()).strip() if lines else self.printed

    def flush(self, every: float | None = None) -> None:
        """Show the line, unless it was shown less than `every` seconds ago."""
        every = every if every is not None else 0.2 if self.tty else 10
        with self.lock:
            elapsed = time.monotonic() - self.start
            if self.stream is None or elapsed - self.shown < every:
                return
            self.shown = elapsed
            text = f"{int(elapsed) // 60}:{int(elapsed) % 60:02d}  {self.place}  {self.printed}".rstrip()
            if self.tty:
                print(
                    f"\r\x1b[2K{text[: shutil.get_terminal_size().columns - 1]}", end="", file=self.stream, flush=True
                )
            else:
                print(text, file=self.stream, flush=True)

    def close(self, outcome: str) -> None:
        """End the line with the outcome."""
        self.closed.set()
        self.place, self.printed = outcome, ""
        self.flush(every=0)
        if self.tty:
            print(file=self.stream, flush=True)

    def _tick(self) -> None:
        while not self.closed.wait(1):
            self.flush()


def sweep(
    notebook: str | os.PathLike,
    grid: Mapping[str, Sequence[Any]],
    executor: Executor | None = None,
    parameters: Mapping[str, Any] | None = None,
    output_dir: str | os.PathLike | None = None,
) -> list[dict[str, Any]]:
    """Run a notebook for every combination of `grid` (name -> values) on top of `parameters`; return the records.

    `executor`: anything with the interface of `concurrent.futures`; None runs one after the other.
    The whole grid is typed before the first run starts; a failed run is a record like the others.
    """
    path = find_notebook(notebook)
    settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    settings = [typed_parameters(path, plain({**(parameters or {}), **chosen})) for chosen in settings]
    if executor is None:
        return [run_one(path, chosen, output_dir) for chosen in settings]
    futures = [executor.submit(run_one, path, chosen, output_dir, False) for chosen in settings]
    records = []
    for chosen, future in zip(settings, futures, strict=True):
        try:
            records.append(future.result())
        except Exception as error:
            records.append(_lost(path, chosen, error))
    return records


def run_one(path: Path, parameters: dict, output_dir: Any, progress: bool = True) -> dict[str, Any]:
    """`run_notebook`, with an error that kept the run from starting as a record too."""
    try:
        return run_notebook(path, parameters, output_dir, progress=progress)
    except Exception as error:
        return _lost(path, parameters, error)


def _lost(path: Path, parameters: dict, error: Exception) -> dict[str, Any]:
    message = {"message": f"{type(error).__name__}: {error}"}
    found = {"notebook": path.stem, "name": path.stem, "status": "failed", "parameters": parameters}
    return {**found, "error": message, "metrics": {}}


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
