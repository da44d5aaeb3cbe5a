"""Files of rows: JSON Lines, TSV and CSV, plain or gzipped, read as a stream and exactly.

Lines end at the newline byte only (`str.splitlines` would also cut a text at U+2028 or U+0085), bytes are
decoded strictly, and a row that cannot be used is an error naming file and line. A reader that is given `wrong`
tells it of each such line instead (a line that is not in the encoding too), and goes on with the next.

Parquet files: rows in as a stream, columns out. pyarrow is imported when one is read or written.

Lines (or rows) that cannot be used: an error at the first, or passed over, counted and named.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from crossenc_kit.errors import DataError, need

Wrong = Callable[[int, str], None]  # told of a line that cannot be used: its number, and what is wrong with it
BINARY = {  # what files begin with that hold no text
    b"PAR1": "a parquet file",
    b"ARROW1\0": "an Arrow file",
    b"\x93NUMPY": "a NumPy array",
    b"PK\x03\x04": "a zip archive (.zip, .npz, .xlsx)",
    b"BZh91AY": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstandard file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "a SQLite database",
}
MAGIC = b"PAR1"
ROWS_AT_ONCE = 4096  # rows that are Python objects at a time
MALFORMED = ("error", "count")
NAMED = 3  # lines that are named where more are counted
Line = TypeVar("Line")
Row = TypeVar("Row")


def read_jsonl(
    path: str | os.PathLike, encoding: str = "utf-8", wrong: Wrong | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON Lines file, gzipped or not; blank lines are passed over."""
    wrong = wrong or _refuse(path)
    for number, line in lines_of(path, encoding, wrong):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            wrong(number, f"not JSON ({error}): {line[:60]!r}")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            wrong(number, f"expected a JSON object, got {line[:60]!r}")


def read_tsv(
    path: str | os.PathLike, columns: Sequence[str] | None = None, encoding: str = "utf-8", wrong: Wrong | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number from 1, row) of a tab-separated file, gzipped or not.

    Nothing is quoted in these files: a `"` is a character of the text, and so are "NA", "null" and
    "nan". Column names come from the first line, and then a row with more cells is an error; or from
    `columns`, when the file has no header, and then cells past the last name are left out.
    """
    names = list(columns or ())
    refuse = _refuse(path)

    def told(number: int, what: str) -> None:
        (wrong if wrong and names else refuse)(number, what)  # without the line of names there are no rows

    blank = 0
    for number, line in lines_of(path, encoding, told):
        if not line:
            blank = blank or number
            continue
        if blank:
            told(blank, "the line is empty; only the end of a file may be")
            blank = 0
        cells = line.split("\t")
        if not names:
            names = header(cells, path)
            continue
        row = _row(names, cells if columns is None else cells[: len(names)], number, told)
        if row is not None:
            yield number, row


def read_csv(
    path: str | os.PathLike, encoding: str = "utf-8", wrong: Wrong | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a comma-separated file with quoting and a header, numbered by their last line.

    Broken quoting is an error always: nobody knows where the next row begins.
    """
    bad: list[tuple[int, str]] = []  # lines of the row at hand that are not in the encoding
    reader = csv.reader(_csv_lines(path, encoding, bad), strict=True)
    names: list[str] = []
    told = refuse = _refuse(path)
    try:
        for cells in reader:
            if bad:
                told(*bad[0])
                bad.clear()
            elif names and cells:
                row = _row(names, cells, reader.line_num, told)
                if row is not None:
                    yield reader.line_num, row
            elif not names:
                names, told = header(cells, path), wrong or refuse
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: broken quoting ({error})") from None


def _csv_lines(path: str | os.PathLike, encoding: str, bad: list[tuple[int, str]]) -> Iterator[str]:
    """The lines of a file, also those that are not in the encoding: without them the quotes would not match."""
    for number, line in _raw_lines(path):
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            bad.append((number, _not_decoded(path, number, error)))
            text = line.decode(encoding, "replace")
        yield text.removesuffix("\n").removesuffix("\r") + "\n"


def read_table(
    path: str | os.PathLike, encoding: str = "utf-8", wrong: Wrong | None = None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a file whose form shows in its first line: JSON Lines, TSV, else CSV."""
    first = first_line(path, encoding, wrong and _pass_over).lstrip()
    if first.startswith("["):
        raise DataError(f"{path}, line 1: this looks like a JSON array; write one JSON object a line")
    if first.startswith("{"):
        return read_jsonl(path, encoding, wrong)
    return read_tsv(path, None, encoding, wrong) if "\t" in first else read_csv(path, encoding, wrong)


def header(cells: list[str], path: Any) -> list[str]:
    """Column names as they stand; one that is there twice raises `DataError`."""
    twice = [name for name in cells if cells.count(name) > 1]
    if twice:
        raise DataError(f"{path}, line 1: the column {twice[0]!r} is there twice; rename one of them")
    return cells


def _row(names: list[str], cells: list[str], number: int, wrong: Wrong) -> dict[str, str] | None:
    """Cells by column name; None where there is a wrong number of them, and `wrong` is told."""
    if len(cells) < len(names):
        wrong(number, f"{len(cells)} columns, expected {len(names)} ({', '.join(names)})")
        return None
    if any(cells[len(names) :]):
        wrong(number, f"{len(cells)} columns, expected {len(names)}; is there a separator inside a text?")
        return None
    return dict(zip(names, cells, strict=False))


def _refuse(path: str | os.PathLike) -> Wrong:
    """What raises `DataError` naming file and line."""

    def wrong(number: int, what: str) -> None:
        raise DataError(f"{path}, line {number}: {what}") from None

    return wrong


def _pass_over(number: int, what: str) -> None:
    """Nothing is done about a line that cannot be used: whoever reads the file from the start is told of it."""


def first_line(path: str | os.PathLike, encoding: str = "utf-8", wrong: Wrong | None = None) -> str:
    """The first line that is not blank, or an empty text."""
    return next((line for _, line in lines_of(path, encoding, wrong) if line.strip()), "")


def first_usable_line(path: str | os.PathLike, encoding: str = "utf-8") -> str:
    """The first line that is not blank and is in the encoding, or an empty text."""
    return first_line(path, encoding, _pass_over)


def lines_of(path: str | os.PathLike, encoding: str, wrong: Wrong | None = None) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its LF or CRLF), decoded strictly, of a file that may be gzipped."""
    wrong = wrong or _refuse(path)
    for number, line in _raw_lines(path):
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            wrong(number, _not_decoded(path, number, error))
            continue
        yield number, text.removesuffix("\n").removesuffix("\r")


def _raw_lines(path: str | os.PathLike) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, bytes) of the lines of a file that may be gzipped; `DataError` where it is no text."""
    with open(path, "rb") as raw:
        gzipped = raw.peek(2)[:2] == b"\x1f\x8b"  # by content: files are renamed, and some servers unpack
        stream = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if gzipped else raw  # type: ignore[arg-type]
        number = 0
        try:
            for number, line in enumerate(stream, 1):
                if number == 1:
                    _check_is_text(path, line)
                    line = line.removeprefix(b"\xef\xbb\xbf")
                yield number, line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}, after line {number}: the gzip file is damaged or cut short ({error})") from None


def _check_is_text(path: str | os.PathLike, line: bytes) -> None:
    """Raise `DataError` where a file's first line shows that it is UTF-16, or no text at all."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: the file is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
    kind = next((kind for start, kind in BINARY.items() if line.startswith(start)), None)
    if kind:
        raise DataError(f"{path}: this is {kind}, no text; expected lines of text")
    if line.count(0) > len(line) // 4:  # one is perhaps a slip in a text
        raise DataError(f"{path}: this is no text, it has NUL bytes (or UTF-16 without its mark); expected UTF-8 lines")


def _not_decoded(path: str | os.PathLike, number: int, error: UnicodeDecodeError) -> str:
    """What is wrong with a line that is not in the encoding; `DataError` where the file seems to be no text."""
    if number == 1 and 0 in error.object:
        raise DataError(f"{path}: this is no text, its first line has NUL bytes; expected lines of text") from None
    return (
        f"0x{error.object[error.start]:02x} (byte {error.start + 1}) is not {error.encoding}; "
        'if the whole file is older or from Windows, try encoding="latin-1"'
    )


def is_parquet(path: str | os.PathLike) -> bool:
    """Whether a file begins as parquet files do, whatever its name; `OSError` where it cannot be read."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_parquet(path: str | os.PathLike, columns: Sequence[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row number from 0, row) with the given columns (default: all), a few thousand rows in memory at a time.

    Raises `DataError` for a damaged file and for a column that it lacks.
    """
    number = 0
    with _opened(path, columns) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns and list(columns)):
            for row in batch.to_pylist():
                yield number, row
                number += 1


def rows_of_file(
    path: str | os.PathLike, text_rows: Callable[[Any], Iterable[tuple[int, Mapping[str, Any]]]]
) -> tuple[str, Iterable[tuple[int, Mapping[str, Any]]]]:
    """What a number counts, "row" or "line", and the numbered rows: of a parquet file, or what `text_rows` reads."""
    return ("row", read_parquet(path)) if is_parquet(path) else ("line", text_rows(path))


def parquet_columns(path: str | os.PathLike, columns: Sequence[str] | None = None) -> Any:
    """The given columns (default: all) of a whole file, a `pyarrow.Table`; `DataError` as `read_parquet`."""
    with _opened(path, columns) as file:
        return file.read(columns and list(columns))


def parquet_schema(path: str | os.PathLike) -> Any:
    """The names and types of a file's columns, a `pyarrow.Schema`; `DataError` where it is damaged."""
    with _opened(path) as file:
        return file.schema_arrow


@contextmanager
def _opened(path: str | os.PathLike, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile` that has the given columns."""
    pyarrow = need("pyarrow.parquet", f"the parquet file {path}")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            if missing := [name for name in columns or () if name not in there]:
                raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(there)}")
            yield file
    except (FileNotFoundError, PermissionError):
        raise
    except (pyarrow.ArrowException, OSError) as error:  # an OSError too where a page cannot be unpacked
        raise DataError(f"{path}: the parquet file is damaged or cut short ({error})") from None


def parquet_bytes(columns: Mapping[str, tuple[Sequence, Any]]) -> bytes:
    """A parquet file of columns `name: (values, type)`; the type is one of pyarrow's, or None to go by the values.

    Equal columns give equal bytes. Half of a surrogate pair, which UTF-8 cannot hold, is written as its JSON escape.
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


class MalformedLines:
    """The lines of a file that cannot be used; `mode` "error" raises at the first, "count" counts and names them.

    `unit`: what a number counts, "row" where there are no lines. `advice` is the end of an error: what may be done.
    """

    def __init__(self, path: str | os.PathLike, mode: str = "error", *, unit: str = "line", advice: str | None = None):
        if mode not in MALFORMED:
            raise ValueError(f"malformed must be one of {', '.join(MALFORMED)}; got {mode!r}")
        self.path, self.mode, self.unit, self.count = path, mode, unit, 0
        self.advice = f' (malformed="count" passes over such {unit}s)' if advice is None else advice
        self.first: list[str] = []

    def add(self, number: int, wrong: str) -> None:
        """Take note of what is wrong with a line; raises `DataError` naming file and line where that is an error."""
        if self.mode == "error":
            raise DataError(f"{self.path}, {self.unit} {number}: {wrong}{self.advice}") from None
        self.count += 1
        if self.count <= NAMED:
            self.first.append(f"{self.unit} {number}: {wrong}")

    def notes(self) -> list[str]:
        """How many lines were passed over, and the first of them, in words; nothing where there were none."""
        if not self.count:
            return []
        more = "; ..." if self.count > NAMED else ""
        named = "; ".join(self.first) + more
        return [f"{os.path.basename(self.path)}: malformed {self.unit}s left out: {self.count:,} ({named})"]

    def warn(self, stacklevel: int = 1) -> None:
        """The notes as a warning, for readers whose answer has no place for notes."""
        for note in self.notes():
            warnings.warn(note, stacklevel=stacklevel + 1)


def usable(
    lines: Iterable[tuple[int, Line]], parse: Callable[[Line], Row], malformed: MalformedLines
) -> Iterator[tuple[int, Row]]:
    """Yield (number, row) of the lines (or rows) that `parse` can read; it raises `DataError` saying what is wrong.

    Empty lines are no rows, and are passed over.
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


def a_score(value: Any, where: str) -> float | list[float]:
    """A finite number, or a list of them, also from its text; `DataError` for anything else."""
    try:
        value = json.loads(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise DataError(f"{where}: the score is {str(value)[:40]!r}; expected a number") from None
    if numbers.ndim > 1 or not numbers.size or not np.isfinite(numbers).all():
        raise DataError(f"{where}: the score is {str(value)[:40]}; expected a finite number")
    return numbers.tolist()
