"""Parquet files: rows in as a stream, columns out. pyarrow is imported when one is read or written."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from crossenc_kit.pairs import DataError

MAGIC = b"PAR1"
ROWS_AT_ONCE = 4096  # rows that are Python objects at a time


def need_pyarrow(what: str) -> Any:
    """The package pyarrow; `ImportError` with the command that installs it, saying `what` needs it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f'{what} needs pyarrow: pip install "crossenc_kit[data]"') from error
    return pyarrow


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
    pyarrow = need_pyarrow(f"the parquet file {path}")
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
    pyarrow = need_pyarrow("writing parquet")
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
