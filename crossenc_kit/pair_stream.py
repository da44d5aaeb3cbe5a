"""Files of pairs as streams: read through once to check every row, then block by block, never held whole.

JSON Lines, TSV and CSV, gzipped or not, and parquet, told apart by what is in them.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from crossenc_kit.history import dumps
from crossenc_kit.pairs import DataError, check_text
from crossenc_kit.parquet import is_parquet, need_pyarrow, parquet_schema, read_parquet
from crossenc_kit.readers import text_columns
from crossenc_kit.tables import read_table

# What the values of a kept column are, and pyarrow's name for it; JSON holds what is none of these, or a mixture.
KINDS = {bool: "bool_", int: "int64", float: "float64", str: "string"}
AS_STORED = "as stored"  # the type that a parquet file gives


@dataclass(frozen=True)
class PairFile:
    """A file of N pairs whose every row has two texts.

    `left`, `right`: the columns with the texts. `kinds`: kept columns and what their values are, see `KINDS`.
    `stamp`: size and time of the last change, by which a file that changes under the reader is seen.
    """

    path: str
    encoding: str
    rows: int
    left: str
    right: str
    kinds: dict[str, str]
    stamp: tuple[int, int]

    def plan(self) -> dict[str, Any]:
        """What tells this input from another one: its bytes, and what is read of it."""
        columns = {"left": self.left, "right": self.right, "kept": self.kinds, "encoding": self.encoding}
        return {"sha256": file_sha256(self.path), "rows": self.rows, **columns}

    def column_type(self, name: str) -> Any:
        """The type (of pyarrow's) of a kept column: the same in every part of the file."""
        if self.kinds[name] == AS_STORED:
            return parquet_schema(self.path).field(name).type
        return getattr(need_pyarrow("writing parquet"), self.kinds[name] if self.kinds[name] != "json" else "string")()


class Block(NamedTuple):
    """Rows of a file, from number `start` (from 0): their texts, and the values of the kept columns."""

    start: int
    texts: list[tuple[str, str]]
    kept: dict[str, list]


def check_pairs(
    path: str | os.PathLike,
    columns: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    encoding: str = "utf-8",
) -> PairFile:
    """Read a file through and check that every row has two texts; `columns` are found as `read_pairs` finds them.

    Raises `DataError` naming file and line of the first row that cannot be used, and how many there are; the
    columns that there are where one is missing.
    """
    stamp = file_stamp(path)
    names = list(dict.fromkeys(keep))
    rows = numbered_rows(path, encoding)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: the file has no rows")
    sides = text_columns(list(first[1]), first[1], columns, path)
    first_bad, bad, count = "", 0, 0
    seen: dict[str, set[str]] = {name: set() for name in names}
    for number, row in itertools.chain([first], rows):
        count += 1
        if not all(type(row.get(side)) is str for side in sides):
            first_bad, bad = first_bad or _why_bad(row, sides, where(path, number)), bad + 1
        for name in names:
            if name in row:
                seen[name].add(_kind(row[name]))
    if bad:
        raise DataError(first_bad + (f" ({bad} of {count} rows have no two texts)" if bad > 1 else ""))
    missing = [name for name in names if not seen[name]]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r} to keep; the columns are {', '.join(first[1])[:200]}")
    stored = is_parquet(path)
    kinds = {name: AS_STORED if stored else _common(seen[name]) for name in names}
    return PairFile(os.fspath(path), encoding, count, *sides, kinds, stamp)


def _why_bad(row: Mapping[str, Any], sides: Sequence[str], place: str) -> str:
    try:
        for side in sides:
            check_text(row.get(side), f"{place}, column {side!r}")
    except DataError as error:
        return str(error)
    return f"{place}: expected two texts"  # a kind of string that is not quite one


def _kind(value: Any) -> str:
    """What a value of a text file is: one of `KINDS`, json, or none for a missing one."""
    if value is None:
        return "none"
    if type(value) is int and not -(2**63) <= value < 2**63:
        return "json"
    return KINDS.get(type(value), "json")


def _common(kinds: set[str]) -> str:
    """The one kind that holds all values of a column."""
    present = kinds - {"none"} or {"string"}
    if present == {"int64", "float64"}:
        return "float64"
    return present.pop() if len(present) == 1 else "json"


def numbered_rows(
    path: str | os.PathLike, encoding: str = "utf-8", columns: Sequence[str] | None = None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (number, row): the line of a text file, the row from 0 of a parquet file, of which `columns` are read."""
    return read_parquet(path, columns) if is_parquet(path) else read_table(path, encoding)


def where(path: str | os.PathLike, number: int) -> str:
    """A row's place, in words."""
    return f"{path}, {'row' if is_parquet(path) else 'line'} {number}"


def read_blocks(file: PairFile, size: int, wanted: Collection[int]) -> Iterator[tuple[int, Block]]:
    """Yield (k, block) for the `wanted` k in order: rows k size to (k + 1) size of the file; the last may be shorter.

    Raises `DataError` if the file was changed after it was checked.
    """
    if not wanted:
        return
    columns = list(dict.fromkeys([file.left, file.right, *file.kinds]))
    rows = numbered_rows(file.path, file.encoding, columns)
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


def file_stamp(path: str | os.PathLike) -> tuple[int, int]:
    """Size and time of the last change of a file."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def file_sha256(path: str | os.PathLike) -> str:
    """sha256 of a file's bytes, in 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
