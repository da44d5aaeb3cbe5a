"""Files of rows: JSON Lines, TSV, CSV and parquet, plain or gzipped, read as a stream and exactly.

Lines end at the newline byte only (`str.splitlines` would also cut a text at U+2028 or U+0085) and
are decoded strictly. A line that cannot be used is reported to `MalformedLines`, which raises an
error naming file and line, or counts it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from crossenc_kit.errors import DataError, need
from crossenc_kit.scorers import warn_at_call

ROWS_AT_ONCE = 4096  # rows of a parquet file that are Python objects at a time
MALFORMED = ("error", "count")
NAMED = 3  # malformed lines that are named, the others are counted
Line = TypeVar("Line")
Row = TypeVar("Row")
NumberedRows = Iterable[tuple[int, Mapping[str, Any]]]


class MalformedLines:
    """Collect the lines of a file that cannot be used: "error" raises at the first, "count" counts.

    unit: what a number counts, "row" in a parquet file
    advice: the end of an error, what the caller may do about it
    """

    def __init__(self, path: str | os.PathLike, mode: str = "error", *, unit: str = "line", advice: str | None = None):
        if mode not in MALFORMED:
            raise ValueError(f"malformed must be one of {', '.join(MALFORMED)}; got {mode!r}")
        self.path, self.mode, self.unit, self.count = path, mode, unit, 0
        self.advice = f' (malformed="count" passes over such {unit}s)' if advice is None else advice
        self.first: list[str] = []

    def add(self, number: int, wrong: str) -> None:
        """Report what is wrong with a line; raises `DataError` naming it if mode is "error"."""
        if self.mode == "error":
            raise DataError(f"{self.path}, {self.unit} {number}: {wrong}{self.advice}") from None
        self.count += 1
        if self.count <= NAMED:
            self.first.append(f"{self.unit} {number}: {wrong}")

    def notes(self) -> list[str]:
        """Say in words how many lines were passed over; empty if there were none."""
        if not self.count:
            return []
        named = "; ".join(self.first) + ("; ..." if self.count > NAMED else "")
        return [f"{os.path.basename(self.path)}: malformed {self.unit}s left out: {self.count:,} ({named})"]

    def warn(self) -> None:
        """Warn of them, for readers whose answer has no place for notes."""
        for note in self.notes():
            warn_at_call(note)

    def nothing_left(self) -> DataError:
        """Make the error for a file of which no line could be used."""
        return DataError("; ".join([f"{self.path}: no {self.unit} can be used", *self.notes()]))


def usable(
    lines: Iterable[tuple[int, Line]], parse: Callable[[Line], Row], malformed: MalformedLines
) -> Iterator[tuple[int, Row]]:
    """Yield (number, row) of each line that `parse` can read; for others it raises `DataError`.

    Empty lines are passed over.
    """
    for number, line in lines:
        if line == "":
            continue
        try:
            row = parse(line)
        except DataError as error:
            wrong = str(error)
        else:
            yield number, row
            continue
        malformed.add(number, wrong)


def lines_of(
    path: str | os.PathLike, encoding: str = "utf-8", bad: MalformedLines | None = None
) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its LF or CRLF) of a file that may be gzipped."""
    bad = bad or MalformedLines(path, advice="")
    with open(path, "rb") as raw:
        gzipped = raw.peek(2)[:2] == b"\x1f\x8b"  # not by name: some servers unpack files
        stream = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if gzipped else raw  # type: ignore[arg-type]
        number = 0
        try:
            for number, line in enumerate(stream, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # byte-order mark
                try:
                    text = line.decode(encoding)
                except UnicodeDecodeError as error:
                    wrong = f"0x{line[error.start]:02x} (byte {error.start + 1}) is not {error.encoding}"
                    bad.add(number, f'{wrong}; if the whole file is older or from Windows, try encoding="latin-1"')
                    continue
                yield number, text.removesuffix("\n").removesuffix("\r")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}, after line {number}: the gzip file is damaged or cut short ({error})") from None


def first_line(path: str | os.PathLike, encoding: str = "utf-8") -> str:
    """Return the first line that is not blank and is in the encoding, or an empty text."""
    ignored = MalformedLines(path, "count")  # whoever reads the whole file reports it
    return next((line for _, line in lines_of(path, encoding, ignored) if line.strip()), "")


def read_jsonl(
    path: str | os.PathLike, encoding: str = "utf-8", bad: MalformedLines | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON Lines file; blank lines are passed over."""
    bad = bad or MalformedLines(path, advice="")
    lines = ((number, line) for number, line in lines_of(path, encoding, bad) if line.strip())
    return usable(lines, json_object, bad)


def json_object(line: str) -> dict[str, Any]:
    """Parse a line that holds a JSON object."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON ({error}): {line[:60]!r}") from None
    if not isinstance(row, dict):
        raise DataError(f"expected a JSON object, got {line[:60]!r}")
    return row


def read_tsv(
    path: str | os.PathLike,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
    bad: MalformedLines | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) of a tab-separated file; empty lines are passed over.

    Nothing is quoted in these files: a `"` is a character, and so are "NA" and "null" texts. (The
    `csv` module with QUOTE_NONE reads the same, but ends a line at a carriage return too.)

    columns: names for a file without a header; cells beyond the last of them are left out
    """
    bad = bad or MalformedLines(path, advice="")
    lines = lines_of(path, encoding, bad)
    names = list(columns or ())
    if not names:  # a header that is not in the encoding is an error: without it there are no rows
        first = next((line for _, line in lines_of(path, encoding) if line), "")
        names = header(first.split("\t"), path)
        next((line for _, line in lines if line), None)

    def parse(line: str) -> dict[str, str]:
        cells = line.split("\t")
        return _row(names, cells if columns is None else cells[: len(names)])

    return usable(lines, parse, bad)


def read_csv(
    path: str | os.PathLike, encoding: str = "utf-8", bad: MalformedLines | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (number of its last line, row) of a comma-separated file with quoting and a header.

    Broken quoting and a wrong encoding are always errors: nobody knows where the next row begins.
    """
    reader = csv.reader((line + "\n" for _, line in lines_of(path, encoding)), strict=True)
    names: list[str] = []

    def rows() -> Iterator[tuple[int, list[str]]]:
        try:
            names.extend(header(next(reader, []), path))
            yield from ((reader.line_num, cells) for cells in reader if cells)
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: broken quoting ({error})") from None

    return usable(rows(), lambda cells: _row(names, cells), bad or MalformedLines(path, advice=""))


def read_table(path: str | os.PathLike, encoding: str = "utf-8", bad: MalformedLines | None = None) -> NumberedRows:
    """Read the rows of a file whose first line shows its form: JSON Lines, TSV, else CSV."""
    first = first_line(path, encoding).lstrip()
    if first.startswith("["):
        raise DataError(f"{path}, line 1: this looks like a JSON array; write one JSON object per line")
    if first.startswith("{"):
        return read_jsonl(path, encoding, bad)
    return read_tsv(path, None, encoding, bad) if "\t" in first else read_csv(path, encoding, bad)


def header(cells: list[str], path: Any) -> list[str]:
    """Return column names as they stand; one that comes twice raises `DataError`."""
    twice = [name for name in cells if cells.count(name) > 1]
    if twice:
        raise DataError(f"{path}, line 1: the column {twice[0]!r} is there twice; rename one of them")
    return cells


def _row(names: list[str], cells: list[str]) -> dict[str, str]:
    """Name the cells of a row; empty ones beyond the last name are ignored."""
    if len(cells) < len(names):
        raise DataError(f"{len(cells)} columns, expected {len(names)} ({', '.join(names)})")
    if any(cells[len(names) :]):
        raise DataError(f"{len(cells)} columns, expected {len(names)}; is there a separator inside a text?")
    return dict(zip(names, cells, strict=False))


def is_parquet(path: str | os.PathLike) -> bool:
    """Tell whether a file begins as parquet files do, whatever its name."""
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


def rows_of_file(path: str | os.PathLike, encoding: str = "utf-8") -> tuple[str, NumberedRows]:
    """Return what a number counts ("row" or "line") and the numbered rows of a file."""
    return ("row", read_parquet(path)) if is_parquet(path) else ("line", read_table(path, encoding))


def read_parquet(path: str | os.PathLike, columns: Sequence[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row number from 0, row) with the given columns (default: all), in flat memory."""
    number = 0
    with open_parquet(path, columns) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns and list(columns)):
            for row in batch.to_pylist():
                yield number, row
                number += 1


def parquet_columns(path: str | os.PathLike, columns: Sequence[str] | None = None) -> Any:
    """Read the given columns (default: all) of a whole file as a `pyarrow.Table`."""
    with open_parquet(path, columns) as file:
        return file.read(columns and list(columns))


@contextmanager
def open_parquet(path: str | os.PathLike, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Open a `pyarrow.parquet.ParquetFile` that has the given columns.

    Raises `DataError` for a damaged file and for a missing column.
    """
    pyarrow = need("pyarrow.parquet", f"the parquet file {path}")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            if missing := [name for name in columns or () if name not in there]:
                raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(there)}")
            yield file
    except (FileNotFoundError, PermissionError):
        raise
    except (pyarrow.ArrowException, OSError) as error:  # OSError: a page cannot be unpacked
        raise DataError(f"{path}: the parquet file is damaged or cut short ({error})") from None


def parquet_bytes(columns: Mapping[str, tuple[Sequence, Any]]) -> bytes:
    """Encode columns `{name: (values, type of pyarrow or None)}`; equal columns give equal bytes.

    Half of a surrogate pair, which UTF-8 cannot hold, is written as its JSON escape.
    """
    pyarrow = need("pyarrow.parquet", "writing parquet")
    arrays = {}
    for name, (values, kind) in columns.items():
        try:
            arrays[name] = pyarrow.array(values, type=kind)
        except UnicodeEncodeError:
            whole = [v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for v in values]
            arrays[name] = pyarrow.array(whole, type=kind)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays), buffer, compression="zstd")
    return buffer.getvalue()


def a_score(value: Any, where: str) -> float | list[float]:
    """Return a finite number, or a list of them, also from its text; else raise `DataError`."""
    try:
        value = json.loads(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise DataError(f"{where}: the score is {str(value)[:40]!r}; expected a number") from None
    if numbers.ndim > 1 or not numbers.size or not np.isfinite(numbers).all():
        raise DataError(f"{where}: the score is {str(value)[:40]}; expected a finite number")
    return numbers.tolist()
