"""A notebook as an experiment: parameters in, a folder with the record out, and sweeps of them.

The folder of a run holds the executed notebook, `run.json` (parameters, provenance, status,
minutes), `metrics.json`, `figures/` and `history.jsonl`. The notebook writes its part with
`records.start_run`; the runner writes the status, because papermill's own output marks every cell completed
after a timeout or a dead kernel.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from crossenc_kit.history import plain, provenance
from crossenc_kit.parameters import RunError, find_notebook, read_cells, read_parameters, typed_parameters
from crossenc_kit.records import load_run, now, update_run


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
