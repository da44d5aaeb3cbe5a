"""Files of rows: JSON Lines, TSV and CSV, plain or gzipped, read as a stream and exactly.

Lines end at the newline byte only (`str.splitlines` would also cut a text at U+2028 or U+0085), bytes are
decoded strictly, and a row that cannot be used is an error naming file and line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossenc_kit.history import dumps
from crossenc_kit.pairs import DataError


def read_jsonl(path: str | os.PathLike, encoding: str = "utf-8") -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON Lines file, gzipped or not; blank lines are passed over."""
    for number, line in lines_of(path, encoding):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error}): {line[:60]!r}") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: expected a JSON object, got {line[:60]!r}")
        yield number, row


def read_tsv(
    path: str | os.PathLike, columns: Sequence[str] | None = None, encoding: str = "utf-8"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number from 1, row) of a tab-separated file, gzipped or not.

    Nothing is quoted in these files: a `"` is a character of the text, and so are "NA", "null" and
    "nan". Column names come from the first line, and then a row with more cells is an error; or from
    `columns`, when the file has no header, and then cells past the last name are left out.
    """
    names = list(columns or ())
    blank = 0
    for number, line in lines_of(path, encoding):
        if not line:
            blank = blank or number
            continue
        if blank:
            raise DataError(f"{path}, line {blank}: the line is empty; only the end of a file may be")
        cells = line.split("\t")
        if not names:
            names = header(cells, path)
            continue
        if columns is not None:
            cells = cells[: len(names)]
        yield number, _row(names, cells, f"{path}, line {number}")


def read_csv(path: str | os.PathLike, encoding: str = "utf-8") -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a comma-separated file with quoting and a header, numbered by their last line."""
    reader = csv.reader((line + "\n" for _, line in lines_of(path, encoding)), strict=True)
    names: list[str] = []
    try:
        for cells in reader:
            if names and cells:
                yield reader.line_num, _row(names, cells, f"{path}, line {reader.line_num}")
            names = names or header(cells, path)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: broken quoting ({error})") from None


def read_table(path: str | os.PathLike, encoding: str = "utf-8") -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a file whose form shows in its first line: JSON Lines, TSV, else CSV."""
    first = first_line(path, encoding).lstrip()
    if first.startswith("["):
        raise DataError(f"{path}, line 1: this looks like a JSON array; write one JSON object a line")
    if first.startswith("{"):
        return read_jsonl(path, encoding)
    return read_tsv(path, encoding=encoding) if "\t" in first else read_csv(path, encoding)


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


def _row(names: list[str], cells: list[str], where: str) -> dict[str, str]:
    """Cells by column name; a wrong number of them raises `DataError`."""
    if len(cells) < len(names):
        raise DataError(f"{where}: {len(cells)} columns, expected {len(names)} ({', '.join(names)})")
    if any(cells[len(names) :]):
        raise DataError(f"{where}: {len(cells)} columns, expected {len(names)}; is there a separator inside a text?")
    return dict(zip(names, cells, strict=False))


def first_line(path: str | os.PathLike, encoding: str = "utf-8") -> str:
    """The first line that is not blank, or an empty text."""
    return next((line for _, line in lines_of(path, encoding) if line.strip()), "")


def lines_of(path: str | os.PathLike, encoding: str) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its LF or CRLF), decoded strictly, of a file that may be gzipped."""
    with open(path, "rb") as raw:
        gzipped = raw.peek(2)[:2] == b"\x1f\x8b"  # by content: files are renamed, and some servers unpack
        stream = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if gzipped else raw  # type: ignore[arg-type]
        number = 0
        try:
            for number, line in enumerate(stream, 1):
                if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise DataError(f"{path}: the file is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                yield number, line.decode(encoding).removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}, line {number}, byte {error.start + 1}: 0x{error.object[error.start]:02x} is not {encoding}; "
                'if the file is older or from Windows, try encoding="latin-1"'
            ) from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}, after line {number}: the gzip file is damaged or cut short ({error})") from None
