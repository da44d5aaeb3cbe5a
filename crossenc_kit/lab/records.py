"""What an experiment leaves behind: written by its notebook, read back, compared and combined.

The experiments of one notebook with the same settings differ only in the seed. Tables and results
group them, and give the mean and the spread over the seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from crossenc_kit.errors import RunError, need
from crossenc_kit.files import dumps, plain, shipped, write_json
from crossenc_kit.history import History, provenance
from crossenc_kit.plots.figures import alt_text, save

SHOWN = 5  # metrics in a table, unless they are named


class Experiment:
    """The record that a notebook keeps of itself; without a folder nothing is written."""

    def __init__(self, notebook: str, parameters: Mapping[str, Any], folder: Path | None):
        self.notebook, self.parameters, self.folder = notebook, dict(parameters), folder
        self.figures: dict[str, str] = {}
        self.start = time.monotonic()

    def figure(self, figure: Any, name: str, alt: str = "") -> None:
        """Keep a figure as figures/<name>.png; `alt` says it in words, by default its own text."""
        if not re.fullmatch(r"[\w-]+", name):  # it becomes a file: ../x would leave the folder
            raise ValueError(f"{name!r} cannot name a figure; use letters, digits, _ and -")
        if alt:
            figure.set_label(alt)
        self.figures[name] = alt_text(figure)
        if self.folder is not None:
            save(figure, self.folder / "figures" / f"{name}.png")

    def finish(
        self, metrics: Mapping[str, Any], history: History | None = None, device: Any = None, **more: Any
    ) -> dict[str, Any]:
        """Write metrics.json, history.jsonl and the rest of record.json, and return the record.

        metrics: numbers by name, or dicts of them by name
        device: what the numbers were computed on
        more: whatever else identifies them, such as the fingerprint of the data
        """
        minutes = round((time.monotonic() - self.start) / 60, 3)
        found = {"provenance": provenance(device), "minutes": minutes, **plain(more)}
        if self.folder is not None:
            write_json(self.folder / "metrics.json", metrics)
            if history is not None:
                history.save(self.folder / "history.jsonl")
            update_record(self.folder, status="finished", figures=self.figures, **found)
        about = {"notebook": self.notebook, "parameters": self.parameters}
        return {**about, "metrics": plain(metrics), **found}


def start_run(notebook: str, parameters: Mapping[str, Any], output_dir: str | os.PathLike = "") -> Experiment:
    """Begin the record of a notebook in the folder `output_dir`, or nowhere if that is empty.

    parameters: may be `globals()` right after the parameters cell; only public names that hold a
        number, a string, None or a list of these are kept

    Raises `RunError` if the folder holds a finished experiment.
    """
    scalars = (bool, int, float, str, type(None))
    kept = {
        name: value
        for name, value in parameters.items()
        if not name.startswith("_") and name not in ("output_dir", "In")  # In: IPython's own list
        if all(isinstance(v, scalars) for v in (value if isinstance(value, list) else [value]))
    }
    if not os.fspath(output_dir):
        return Experiment(notebook, kept, None)
    folder = Path(output_dir)
    if not (folder / "record.json").is_file():  # opened by hand, not by `run_notebook`
        folder.mkdir(parents=True, exist_ok=True)
        update_record(folder, notebook=notebook, status="running", started=now(), parameters=kept)
    elif load_record(folder)["status"] == "finished":
        raise RunError(f"{output_dir} holds a finished experiment; set output_dir to a new folder")
    return Experiment(notebook, kept, folder)


def now() -> str:
    """Return the local time to the second, as records hold it."""
    return datetime.now().isoformat(timespec="seconds")


def update_record(folder: Path, **changes: Any) -> None:
    """Set fields of the folder's record.json, which is made if need be."""
    path = folder / "record.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, {**record, **changes})


def load_record(folder: str | os.PathLike) -> dict[str, Any]:
    """Read the record of one experiment, with its `metrics` ({} until written), `name`, `folder`."""
    folder = Path(folder)
    record: dict[str, Any] = {"notebook": "", "status": "unknown", "parameters": {}, "metrics": {}}
    for path in (folder / "record.json", folder / "metrics.json"):
        try:
            part = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError as error:
            raise RunError(f"{path} cannot be read ({error}); mend it or delete the folder") from None
        record |= {"metrics": part} if path.stem == "metrics" else part
    return {**record, "name": folder.name, "folder": str(folder)}


def load_records(folder: str | os.PathLike = "experiments") -> list[dict[str, Any]]:
    """Read the records of all experiments in `folder` (or of the one it is), oldest first."""
    if not Path(folder).is_dir():
        where = f"there is no folder {os.fspath(folder)!r}"
        raise RunError(f"{where}; give the folder of the experiments")
    files = [*Path(folder).glob("record.json"), *sorted(Path(folder).glob("*/record.json"))]
    return sorted((load_record(file.parent) for file in files), key=lambda r: r.get("started", ""))


def flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Name nested numbers with dots: `{"test": {"spearman": .8}}` becomes `{"test.spearman": .8}`."""
    numbers: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            numbers.update(flat(value, f"{prefix}{name}."))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[prefix + name] = value
    return numbers


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean, range (max - min) and sample standard deviation (None for a single value)."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "range": max(values) - min(values), "std": deviation}


def settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that are not the seed."""
    return {name: value for name, value in record["parameters"].items() if name != "seed"}


def results_table(records: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None = None) -> str:
    """Set experiments side by side: a text table per notebook, one row per setting.

    Parameters that never differ are left out. Unfinished experiments are listed below with their
    error.

    metrics: the columns by dotted name, by default the first five
    """
    lines: list[str] = []
    finished = [record for record in records if record["status"] == "finished"]
    for notebook in sorted({record["notebook"] for record in finished}):
        heading = "mean ± standard deviation over runs that differ only in the seed"
        rows = _rows([r for r in finished if r["notebook"] == notebook], metrics)
        lines += [f"{notebook}: {heading}", "", *align(rows), ""]
    for record in records:
        if record["status"] != "finished":
            error = (record.get("error") or {}).get("message", "").partition("\n")[0]
            lines.append(f"{record['name']}: {record['status']}  {error}".rstrip())
    return "\n".join(lines).rstrip() or "no experiments"


def _rows(records: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None) -> list[list[str]]:
    """Group the records of one notebook by their settings: a heading, then a row per setting."""
    pandas = need("pandas", "a table of experiments")
    chosen = pandas.DataFrame([{k: str(v) for k, v in settings(r).items()} for r in records])
    chosen = chosen.fillna("")
    varied = [chosen[name] for name in chosen if chosen[name].nunique() > 1]
    numbers = pandas.DataFrame([flat(record["metrics"]) for record in records])
    numbers = numbers.reindex(columns=list(metrics or numbers.columns[:SHOWN]))
    numbers["minutes"] = [record.get("minutes") for record in records]
    rows = [["runs", *(column.name for column in varied), *numbers.columns]]
    for setting, group in numbers.groupby(varied or [0] * len(records), sort=False):
        means = [_mean(group[name].dropna(), 1 if name == "minutes" else 4) for name in group]
        rows.append([str(len(group)), *(setting if varied else ()), *means])
    return rows


def _mean(values: Any, digits: int) -> str:
    if not len(values):
        return "-"
    deviation = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def align(table: Sequence[Sequence[str]]) -> list[str]:
    """Lay out rows of cells as lines with even columns, without control characters."""
    cells = [["".join(c for c in cell if c.isprintable()) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ([cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in cells)
    return ["  ".join(row).rstrip() for row in padded]


def write_result(path: str | os.PathLike, records: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """Combine finished experiments that differ only in the seed into one JSON file.

    Holds settings, all metrics, their mean, range and standard deviation, minutes, provenance and
    commands; `more` is added. Raises `RunError` for experiments of several notebooks or settings,
    and for one that is not finished.
    """
    if not records:
        raise RunError("there are no experiments to combine")
    first = {"notebook": records[0]["notebook"], **settings(records[0])}
    for record in records:
        this = {"notebook": record["notebook"], **settings(record)}
        name = record.get("name", record["notebook"])
        if record["status"] != "finished":
            raise RunError(f"{name} is {record['status']}; only finished experiments make a result")
        odd = [key for key in {**first, **this} if first.get(key) != this.get(key)]
        if odd:
            raise RunError(f"{name} differs from the first in {', '.join(odd)}; combine one setting")
    numbers = [flat(record["metrics"]) for record in records]
    common = [name for name in numbers[0] if all(name in found for found in numbers)]
    minutes: list[Any] = [record.get("minutes") for record in records]
    origins = list({dumps(r.get("provenance")): r.get("provenance") for r in records}.values())
    result = {
        "notebook": records[0]["notebook"],
        "settings": settings(records[0]),
        "runs": [
            {"seed": r["parameters"].get("seed"), "minutes": spent, "metrics": r["metrics"]}
            for r, spent in zip(records, minutes, strict=True)
        ],
        "summary": {name: spread([found[name] for found in numbers]) for name in common},
        "minutes": None if None in minutes else spread(minutes),
        "provenance": origins[0] if len(origins) == 1 else origins,
        "commands": [record["command"] for record in records if "command" in record],
        **more,
    }
    write_json(path, result)
    return plain(result)


def read_result(name: str) -> dict[str, Any]:
    """Read data/results/<name>.json, which travels with the kit; `RunError` if there is none."""
    path = shipped("data") / "results" / f"{name}.json"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.json"))) or "none"
        raise RunError(f"there is no recorded result {name!r}; recorded are: {there}")
    return json.loads(path.read_text(encoding="utf-8"))


def describe_result(result: Mapping[str, Any]) -> str:
    """Show a combined result as a table: each metric's mean and range, and how it was made."""
    rows = [["metric", "mean", "range"]]
    for name, value in result["summary"].items():
        rows.append([name, f"{value['mean']:.4f}", f"{value['range']:.4f}"])
    found = result["provenance"]
    origins = found if isinstance(found, list) else [found]  # which may differ in the date only
    devices = dict.fromkeys(origin["device"] for origin in origins)
    commands = [f"$ {command}" for command in result.get("commands", [])[:1]]
    return "\n".join([f"{len(result['runs'])} runs, {' and '.join(devices)}", *align(rows), *commands])


def results_command(options: argparse.Namespace) -> int:
    """Run `crossenc-kit results`: print the tables, and write the combined result if asked."""
    records = load_records(options.folder)
    print(results_table(records, options.metrics))
    if options.write:
        write_result(options.write, [r for r in records if r["status"] == "finished"])
        print(f"\nwritten: {options.write}")
    return 0
