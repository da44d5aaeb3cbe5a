"""Find a data set: a folder with a file for each split, a file, rows in memory, or a name on the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from crossenc_kit.errors import DataError
from crossenc_kit.files import shipped, shipped_places

DATA_VARIABLE = "CROSSENC_KIT_DATA"
DATA_SUFFIXES = (".jsonl", ".json", ".gz", ".tsv", ".csv", ".txt", ".parquet")
MATCHED, MISMATCHED = ("dev_matched", "validation_matched"), ("dev_mismatched", "validation_mismatched")
SPLITS = {  # the names of a split in published data sets, in the order in which they are looked for
    "test": ("test", "test_matched"),
    **dict.fromkeys(["dev", "validation"], ("dev", "validation", *MATCHED)),
    **dict.fromkeys(["matched", *MATCHED], MATCHED),
    **dict.fromkeys(["mismatched", *MISMATCHED], MISMATCHED),
}


class Layout(NamedTuple):
    """Say how a kind of data is stored.

    folders: subfolders it may be in
    files: names with {} for the split, each perhaps with .gz; one without {} is the training split
    configs: the configuration of each known data set on the hub
    """

    kind: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    configs: Mapping[str, str] = {}


def find_data(data_dir: str | os.PathLike | None = None) -> Path:
    """Find the folder of data sets: `data_dir`, else `$CROSSENC_KIT_DATA`, else the shipped one.

    Raises `DataError` if there is none; a folder that was asked for is never replaced by another.
    """
    chosen = data_dir or os.environ.get(DATA_VARIABLE)
    if chosen:
        origin = "data_dir" if data_dir else f"the environment variable {DATA_VARIABLE}"
        folder = Path(chosen).expanduser()
        if not folder.is_dir():
            raise DataError(f"no folder {folder} (from {origin}); create it, correct it, or leave it out")
        return folder
    folder = shipped("data")
    if not folder.is_dir():
        looked = " or ".join(map(str, shipped_places("data")))
        raise DataError(f"no data folder: looked for {looked}; give data_dir or set {DATA_VARIABLE}")
    return folder


def find_source(source: Any, layout: Layout, splits: Sequence[str]) -> tuple[str, Any]:
    """Find a split: where it comes from, in words, and its file (a `Path`) or its data set.

    source: None (see `find_data`), a folder, a file, "org/name" on the hub, a data set, or a
        dictionary of data sets by split
    splits: the names that the split may have, see `SPLITS`
    """
    if source is not None and not isinstance(source, (str, os.PathLike)):
        return "the data set given", pick_split(source, splits)
    path = Path(source).expanduser() if source else find_data()
    if path.is_dir():
        path = find_split(path, layout, splits)
    elif not path.is_file():
        named = isinstance(source, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", source)
        if named and path.suffix not in DATA_SUFFIXES:
            return str(source), pick_split(load_from_hub(str(source), layout.configs.get(str(source))), splits)
        raise DataError(f"no file or folder {path}; a hub data set is named 'org/name'")
    return f"{path.parent.name}/{path.name}", path


def find_split(folder: Path, layout: Layout, splits: Sequence[str]) -> Path:
    """Find a split's file in the first known place that holds any split, and in no other."""
    named = [form.format(split) for split in splits for form in layout.files if "{}" in form or split == "train"]
    looked = ", ".join(named[: max(1, len(named) // len(splits))])
    looked += f" (or {', '.join(splits[1:])})" if splits[1:] else ""
    for place in [folder / name for name in layout.folders] + [folder]:
        files = sorted(file.name for file in place.iterdir()) if place.is_dir() else []
        patterns = [form.format("*") + end for form in layout.files for end in ("", ".gz")]
        there = [name for name in files if any(fnmatch(name, pattern) for pattern in patterns)]
        found = next((name + end for name in named for end in ("", ".gz") if name + end in there), None)
        if found:
            return place / found
        if there:
            raise DataError(f"{place} has no split {splits[0]!r}: looked for {looked}; there is {', '.join(there)}")
    within = f"in it and in its folders {', '.join(layout.folders)}"
    raise DataError(f"no {layout.kind} data in {folder}: looked for {looked} {within}; each may end in .gz")


def load_from_hub(name: str, config: str | None = None) -> Any:
    """Load a data set from the hub."""
    import datasets

    try:
        return datasets.load_dataset(name, config) if config else datasets.load_dataset(name)
    except Exception as error:
        raise DataError(
            f"no file or folder {name!r} here, and the hub gave no such data set ({type(error).__name__}: {error}); "
            "correct the path, go online, or pass what datasets.load_dataset(...) returns"
        ) from error


def pick_split(data: Any, splits: Sequence[str]) -> Any:
    """Return a data set as it is, or the split of a dictionary of them."""
    if not isinstance(data, Mapping):
        return data
    found = next((split for split in splits if split in data), None)
    if found is None:
        raise DataError(f"the data set has no split {splits[0]!r}; it has {', '.join(map(str, data))}")
    return data[found]
