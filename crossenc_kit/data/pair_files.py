"""Files of pairs: read whole into `Pairs`, or checked once and then read block by block.

JSON Lines, TSV and CSV, gzipped or not, and parquet are told apart by their content. Blocks serve
files that do not fit into memory.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.pairs import TARGET_COLUMNS, Pairs, check_label, check_text
from crossenc_kit.data.tables import is_parquet, open_parquet, read_parquet, read_table, rows_of_file
from crossenc_kit.errors import DataError, need
from crossenc_kit.files import dumps, file_sha256, file_stamp

# Python types of a kept column and pyarrow's names for them; others, and mixtures, become JSON.
KINDS = {bool: "bool_", int: "int64", float: "float64", str: "string"}
AS_STORED = "as stored"  # the type that a parquet file gives
ID_COLUMN = re.compile(r"(.*[_\- ]|q|d|doc|p|pair|prompt|s|gu|uu)?(id|idx|index)\d?", re.IGNORECASE)
TEXT_COLUMNS = (
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("query", "document"),
    ("query", "passage"),
    ("left", "right"),
)
Rows = Iterable[tuple[str, Mapping[str, Any]]]  # (where the row stood, the row)


@dataclass(frozen=True)
class PairFile:
    """Describe a checked file of N pairs.

    left, right: the columns with the texts
    kinds: the kept columns and what their values are, see `KINDS`
    stamp: size and time of the last change, which tell whether the file changed since
    """

    path: str
    encoding: str
    rows: int
    left: str
    right: str
    kinds: dict[str, str]
    stamp: tuple[int, int]

    def plan(self) -> dict[str, Any]:
        """Tell this input from any other: its bytes, and what is read of it."""
        columns = {"left": self.left, "right": self.right, "kept": self.kinds, "encoding": self.encoding}
        return {"sha256": file_sha256(self.path), "rows": self.rows, **columns}

    def column_type(self, name: str) -> Any:
        """Return the pyarrow type of a kept column, the same in every part of the file."""
        kind = self.kinds[name]
        if kind == AS_STORED:
            with open_parquet(self.path) as file:
                return file.schema_arrow.field(name).type
        return getattr(need("pyarrow", "writing parquet"), "string" if kind == "json" else kind)()


class Block(NamedTuple):
    """Rows from number `start` (from 0): their texts, and the values of the kept columns."""

    start: int
    texts: list[tuple[str, str]]
    kept: dict[str, list]


def check_pairs(
    path: str | os.PathLike,
    columns: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    encoding: str = "utf-8",
) -> PairFile:
    """Read a file through and check that every row has two texts.

    columns: the two text columns; left out, they are found as in `read_pairs`
    keep: other columns that a block carries along

    Raises `DataError` naming file and line of the first bad row, and how many there are.
    """
    stamp = file_stamp(path)
    unit, numbered = rows_of_file(path, encoding)
    rows = iter(numbered)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: the file has no rows")
    sides = text_columns(list(first[1]), first[1], columns, path)
    wrong, bad, count = "", 0, 0
    seen: dict[str, set[str]] = {name: set() for name in keep}
    for number, row in itertools.chain([first], rows):
        count += 1
        try:
            for side in sides:
                check_text(row.get(side), f"{path}, {unit} {number}, column {side!r}")
        except DataError as error:
            wrong, bad = wrong or str(error), bad + 1
        for name, kinds in seen.items():
            if name in row:
                kinds.add(_kind(row[name]))
    if bad:
        raise DataError(wrong + (f" ({bad} of {count} rows have no two texts)" if bad > 1 else ""))
    if missing := [name for name, kinds in seen.items() if not kinds]:
        raise DataError(f"{path}: no column {missing[0]!r} to keep; the columns are {', '.join(first[1])[:200]}")
    stored = is_parquet(path)
    kinds_of = {name: AS_STORED if stored else _common(kinds) for name, kinds in seen.items()}
    return PairFile(os.fspath(path), encoding, count, *sides, kinds_of, stamp)


def _kind(value: Any) -> str:
    """Name what a value is: one of `KINDS`, "json", or "none" if it is missing."""
    if value is None:
        return "none"
    if type(value) is int and not -(2**63) <= value < 2**63:  # too large for int64
        return "json"
    return KINDS.get(type(value), "json")


def _common(kinds: set[str]) -> str:
    """Find the one kind that holds all values of a column."""
    present = kinds - {"none"} or {"string"}
    if present == {"int64", "float64"}:
        return "float64"
    return present.pop() if len(present) == 1 else "json"


def read_blocks(file: PairFile, size: int, wanted: Collection[int]) -> Iterator[tuple[int, Block]]:
    """Yield (k, block) for the `wanted` k in order; block k has rows k size to (k + 1) size.

    Raises `DataError` if the file changed after it was checked.
    """
    if not wanted:
        return
    columns = list(dict.fromkeys([file.left, file.right, *file.kinds]))
    stored = is_parquet(file.path)
    rows = iter(read_parquet(file.path, columns) if stored else read_table(file.path, file.encoding))
    for number in range(max(wanted) + 1):
        chunk = itertools.islice(rows, size)
        if number in wanted:
            yield number, _block(file, number * size, chunk)
        else:
            deque(chunk, maxlen=0)  # read past them
        if file_stamp(file.path) != file.stamp:
            raise DataError(f"{file.path} was changed while it was read; run the job again on the file as it is now")


def _block(file: PairFile, start: int, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Block:
    texts: list[tuple[str, str]] = []
    kept: dict[str, list] = {name: [] for name in file.kinds}
    for _, row in rows:
        texts.append((row[file.left], row[file.right]))
        for name, values in kept.items():
            value = row.get(name)
            values.append(value if file.kinds[name] != "json" or value is None else dumps(value))
    return Block(start, texts, kept)


def read_pairs(path: str | os.PathLike, columns: Sequence[str] | None = None, encoding: str = "utf-8") -> Pairs:
    """Read a file of pairs, one per row: JSON Lines, TSV or CSV with a header, or parquet.

    The first of `label`, `labels`, `score`, `scores` becomes the labels `(N,)` or `(N, C)`, or a
    tag if its values are names; all other columns become tags. The notes say what was used.

    columns: the two text columns; left out, they are a usual pair of names (sentence1, sentence2;
        query, document; ...), else the first two with texts that are neither a target nor an id
    """
    unit, found = rows_of_file(path, encoding)
    rows = [(f"{path}, {unit} {number}", row) for number, row in found]
    if not rows:
        raise DataError(f"{path}: the file has no rows")
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    left, right = text_columns(names, rows[0][1], columns, path)
    target = next((name for name in TARGET_COLUMNS if name in names and name not in (left, right)), None)
    notes = [f"texts from columns {left!r} and {right!r} of {Path(path).name}"]
    if target and all(_is_name(row.get(target)) for _, row in rows):
        notes.append(f"{target!r} holds names, not numbers: kept as a tag")
        target = None
    labels = labels_in(rows, target)
    notes += [f"labels from column {target!r}"] if target else []
    return pairs_in(rows, (left, right), target, labels, notes)


def labels_in(rows: Sequence[tuple[str, Mapping]], target: str | None) -> np.ndarray | None:
    """Read the target column as finite numbers, `(N,)` or `(N, C)`; None without such a column."""
    if target is None:
        return None
    labels = [_number(row.get(target), f"{where}, column {target!r}") for where, row in rows]
    odd = next((i for i, label in enumerate(labels) if np.shape(label) != np.shape(labels[0])), None)
    if odd is not None:
        raise DataError(f"{rows[odd][0]}, column {target!r}: the rows before it have another number of labels")
    return np.asarray(labels)


def _number(value: Any, where: str) -> Any:
    """Read a finite number (or a list of them), also from its text."""
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().isdigit() else float(value)
        except ValueError:
            raise DataError(f"{where}: expected a number, got {value[:40]!r}") from None
    return check_label(value, where)


def _is_name(value: Any) -> bool:
    """Tell whether a value is a text that is no number, such as "entailment"."""
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return bool(value)
    return False


def pairs_in(
    rows: Sequence[tuple[str, Mapping]], sides: tuple[str, str], target: str | None, labels: Any, notes: list[str]
) -> Pairs:
    """Make `Pairs` of rows, with every column that is neither text nor target as a tag."""
    texts = [[check_text(row.get(name), f"{where}, column {name!r}") for where, row in rows] for name in sides]
    others = dict.fromkeys(name for _, row in rows for name in row if name not in (*sides, target))
    tags = {name: [row.get(name) for _, row in rows] for name in others}
    if labels is not None:
        labels = labels.astype(np.int64 if labels.dtype.kind in "bi" else np.float32)
    return Pairs(texts[0], texts[1], labels, tags=tags, notes=tuple(notes))


def text_columns(
    names: list[str], first: Mapping[str, Any], columns: Sequence[str] | None, path: Any
) -> tuple[str, str]:
    """Find the two text columns among `names`; `first` is the first row."""
    if columns is not None:
        if len(columns) != 2 or isinstance(columns, str) or not set(columns) <= set(names):
            raise DataError(f"{path}: columns is {columns!r}; expected two of {', '.join(names)}")
        return columns[0], columns[1]
    usual = next((pair for pair in TEXT_COLUMNS if set(pair) <= set(names)), None)
    if usual:
        return usual
    others = [name for name in names if name not in TARGET_COLUMNS and not ID_COLUMN.fullmatch(name)]
    texts = [name for name in others if isinstance(first.get(name), (str, type(None)))]
    if len(texts) < 2:
        raise DataError(f"{path}: a pair needs two text columns; found {texts} among {', '.join(names)}")
    for name in texts[:2]:  # a file without a header would lose its first pair to the names
        if len(name.split()) > 2 or name.endswith((".", "?", "!")):
            raise DataError(
                f"{path}, line 1: {name[:60]!r} looks like a text, not the name of a column; "
                "put a line with names (left, right) on top, or name the two columns with columns="
            )
    return texts[0], texts[1]
