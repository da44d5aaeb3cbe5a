"""Files of rows: JSON Lines, TSV and CSV, plain or gzipped, read as a stream and exactly.

Lines end at the newline byte only (`str.splitlines` would also cut a text at U+2028 or U+0085), bytes are
decoded strictly, and a row that cannot be used is an error naming file and line. A reader that is given `wrong`
tells it of each such line instead (a line that is not in the encoding too), and goes on with the next.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossenc_kit.history import dumps
from crossenc_kit.pairs import DataError

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


def write_jsonl(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write one strict JSON object a line (gzipped if `path` ends in .gz), replacing the file in one move.

    Half of a surrogate pair, which UTF-8 cannot hold, is written as its JSON escape; NaN and infinities
    become null.
    """
    return write_lines(path, ((dumps(row) + "\n").encode("utf-8", "backslashreplace") for row in rows))


def write_lines(path: str | os.PathLike, lines: Iterable[bytes]) -> Path:
    """Write lines (gzipped if `path` ends in .gz), replacing the file in one move."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as raw:
        # no name and no time in the gzip header: equal lines give equal files
        stream = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        stream.writelines(lines)
        if stream is not raw:
            stream.close()
    os.replace(partial, path)
    return path


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
