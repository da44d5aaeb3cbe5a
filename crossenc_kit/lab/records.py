"""What a run leaves in its folder: written by the notebook, read back, set side by side and combined."""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from crossenc_kit.errors import RunError
from crossenc_kit.files import dumps, plain, shipped, write_json
from crossenc_kit.history import History, provenance
from crossenc_kit.plots.figures import alt_text, save


class Record:
    """What a notebook reports of its own run; without a folder nothing is written."""

    def __init__(self, notebook: str, parameters: Mapping[str, Any], folder: Path | None):
        self.notebook, self.parameters, self.folder = notebook, dict(parameters), folder
        self.figures: dict[str, str] = {}
        self.start = time.monotonic()

    def figure(self, figure: Any, name: str, alt: str = "") -> None:
        """Keep a matplotlib figure as figures/<name>.png; `alt` is the figure in words, by default its own."""
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"{name!r} cannot name a figure; use letters, digits, _ and -")
        if alt:
            figure.set_label(alt)
        self.figures[name] = alt_text(figure)
        if self.folder is not None:
            save(figure, self.folder / "figures" / f"{name}.png")

    def finish(
        self, metrics: Mapping[str, Any], history: History | None = None, device: Any = None, **more: Any
    ) -> dict[str, Any]:
        """Write metrics.json, history.jsonl and the rest of run.json, and return all of it but the history.

        `metrics`: numbers by name, or such dicts by name. `device`: what it was computed on. `more`:
        what else identifies the run, such as the data's fingerprint.
        """
        minutes = round((time.monotonic() - self.start) / 60, 3)
        found = {"provenance": provenance(device), "minutes": minutes, **plain(more)}
        if self.folder is not None:
            write_json(self.folder / "metrics.json", metrics)
            if history is not None:
                history.save(self.folder / "history.jsonl")
            update_run(self.folder, status="finished", figures=self.figures, **found)
        return {"notebook": self.notebook, "parameters": self.parameters, "metrics": plain(metrics), **found}


def start_run(notebook: str, parameters: Mapping[str, Any], output_dir: str | os.PathLike = "") -> Record:
    """Begin a notebook's record in the folder `output_dir`, or nowhere if that is empty.

    `parameters` may be `globals()` right after the parameters cell: only public names that hold a
    number, a string, None or a list of such are kept. Raises `RunError` where the folder holds a
    finished run.
    """
    scalars = (bool, int, float, str, type(None))
    kept = {
        name: value
        for name, value in parameters.items()
        if not name.startswith("_") and name not in ("output_dir", "In")  # In: the input that IPython keeps
        if all(isinstance(item, scalars) for item in (value if isinstance(value, list) else [value]))
    }
    if not os.fspath(output_dir):
        return Record(notebook, kept, None)
    folder = Path(output_dir)
    if not (folder / "run.json").is_file():  # opened by hand, not by `run_notebook`
        folder.mkdir(parents=True, exist_ok=True)
        update_run(folder, notebook=notebook, status="running", started=now(), parameters=kept)
    elif load_run(folder)["status"] == "finished":
        raise RunError(f"{output_dir} holds a finished run; set output_dir to a new folder")
    return Record(notebook, kept, folder)


def now() -> str:
    """The local time to the second, as records hold it."""
    return datetime.now().isoformat(timespec="seconds")


def update_run(folder: Path, **changes: Any) -> None:
    """Set fields of the folder's run.json, which is made if need be."""
    path = folder / "run.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, {**record, **changes})


def load_run(folder: str | os.PathLike) -> dict[str, Any]:
    """The record in a run's folder: run.json with `metrics` ({} before they are written), `name` and `folder`."""
    folder = Path(folder)
    parts = {}
    for part in ("run", "metrics"):
        try:
            parts[part] = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            parts[part] = {}
        except ValueError as error:
            raise RunError(f"{folder / part}.json cannot be read ({error}); mend it or delete the folder") from None
    found = {"metrics": parts["metrics"], "name": folder.name, "folder": str(folder)}
    return {"notebook": "", "status": "unknown", "parameters": {}, **parts["run"], **found}


def load_runs(folder: str | os.PathLike = "runs") -> list[dict[str, Any]]:
    """The records of all runs in `folder` (or of the one run that it is), oldest first."""
    if not Path(folder).is_dir():
        raise RunError(f"there is no folder {os.fspath(folder)!r}; give the folder that holds the runs")
    files = [*Path(folder).glob("run.json"), *sorted(Path(folder).glob("*/run.json"))]
    return sorted((load_run(file.parent) for file in files), key=lambda run: str(run.get("started", "")))


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers among nested metrics, by dotted name: `{"test": {"spearman": .8}}` is `{"test.spearman": .8}`."""
    numbers: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            numbers.update(flat(value, f"{prefix}{name}."))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[prefix + name] = value
    return numbers


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, max - min, and sample standard deviation (None for fewer than two values)."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "range": max(values) - min(values), "std": deviation}


def settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run that are not its seed."""
    return {name: value for name, value in run["parameters"].items() if name != "seed"}


def results_table(runs: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None = None) -> str:
    """A plain text table for each notebook: a row for each setting, with mean and spread over its seeds.

    `metrics`: dotted names of the columns; by default the first five. Parameters that are the same in
    every run of a notebook are left out. Runs that are not finished are listed below with their error.
    """
    lines: list[str] = []
    finished = sorted((run for run in runs if run["status"] == "finished"), key=lambda run: run["notebook"])
    for notebook, group in itertools.groupby(finished, key=lambda run: run["notebook"]):
        lines += [f"{notebook}: mean ± standard deviation over runs that differ only in the seed", ""]
        lines += [*_rows(list(group), metrics), ""]
    for run in (run for run in runs if run["status"] != "finished"):
        error = (run.get("error") or {}).get("message", "").splitlines() or [""]
        lines.append(f"{run.get('name', run['notebook'])}: {run['status']}  {error[0]}".rstrip())
    return "\n".join(lines).rstrip() or "no runs"


def _rows(runs: list[Mapping[str, Any]], metrics: Sequence[str] | None) -> list[str]:
    numbers = [flat(run["metrics"]) for run in runs]
    columns = list(metrics or dict.fromkeys(name for found in numbers for name in found))[: None if metrics else 5]
    values: dict[str, set[str]] = {}
    for run in runs:
        for name, value in settings(run).items():
            values.setdefault(name, set()).add(dumps(value))
    varied = [name for name, seen in values.items() if len(seen) > 1 or any(name not in r["parameters"] for r in runs)]
    groups: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        groups.setdefault(dumps(settings(run)), []).append(index)
    table = [["runs", *varied, *columns, "minutes"]]
    for members in groups.values():
        chosen = settings(runs[members[0]])
        row = [str(len(members)), *(str(chosen.get(name, "")) for name in varied)]
        row += [_mean([numbers[i][name] for i in members if name in numbers[i]], 4) for name in columns]
        table.append([*row, _mean([runs[i]["minutes"] for i in members if "minutes" in runs[i]], 1)])
    return align(table)


def _mean(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    found = spread(values)
    return f"{found['mean']:.{digits}f}" + (f" ± {found['std']:.{digits}f}" if found["std"] is not None else "")


def align(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with columns of one width, without control characters."""
    cells = [["".join(c for c in cell if c.isprintable()) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def write_result(path: str | os.PathLike, runs: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """Combine finished runs that differ only in the seed into one JSON record at `path`, and return it.

    Holds the settings, every run's metrics, their mean, range (max - min) and sample standard
    deviation, minutes, provenance and commands; `more` is added. Raises `RunError` where the runs
    are of several notebooks or settings, or one of them did not finish.
    """
    if not runs:
        raise RunError("there are no runs to combine")
    for run in runs:
        name = run.get("name", run["notebook"])
        if run["status"] != "finished":
            raise RunError(f"run {name} is {run['status']}; only finished runs make a result")
        first, this = ({"notebook": r["notebook"], **settings(r)} for r in (runs[0], run))
        odd = [key for key in {**first, **this} if first.get(key) != this.get(key)]
        if odd:
            raise RunError(f"run {name} differs from the first in {', '.join(odd)}; combine runs of one setting")
    numbers = [flat(run["metrics"]) for run in runs]
    common = [name for name in numbers[0] if all(name in found for found in numbers)]
    seeds = [{"seed": r["parameters"].get("seed"), "minutes": r.get("minutes"), "metrics": r["metrics"]} for r in runs]
    origins = {dumps(run.get("provenance")): run.get("provenance") for run in runs}
    record = {
        "notebook": runs[0]["notebook"],
        "settings": settings(runs[0]),
        "runs": seeds,
        "summary": {name: spread([found[name] for found in numbers]) for name in common},
        "minutes": spread([run["minutes"] for run in runs]) if all("minutes" in run for run in runs) else None,
        "provenance": next(iter(origins.values())) if len(origins) == 1 else list(origins.values()),
        "commands": [run["command"] for run in runs if "command" in run],
        **more,
    }
    write_json(path, record)
    return plain(record)


def read_result(name: str) -> dict[str, Any]:
    """The recorded result `data/results/<name>.json` that travels with the kit; `RunError` where there is none."""
    path = shipped("data") / "results" / f"{name}.json"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.json"))) or "none"
        raise RunError(f"there is no recorded result {name!r}; recorded are: {there}")
    return json.loads(path.read_text(encoding="utf-8"))


def describe_result(result: Mapping[str, Any]) -> str:
    """A combined record as a plain table: each metric's mean over the runs, its range, and how it was made."""
    rows = [["metric", "mean", "range"]]
    rows += [[name, f"{found['mean']:.4f}", f"{found['range']:.4f}"] for name, found in result["summary"].items()]
    origins = result["provenance"] if isinstance(result["provenance"], list) else [result["provenance"]]
    devices = dict.fromkeys(origin["device"] for origin in origins)  # runs of two days differ in the date only
    lines = [f"{len(result['runs'])} runs, {' and '.join(devices)}", *align(rows)]
    return "\n".join([*lines, *(f"$ {command}" for command in result.get("commands", [])[:1])])
