"""Rows of a file with scores: which pair each is about, by its ids or by its texts, and the score."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from crossenc_kit.pairs import DataError
from crossenc_kit.parquet import is_parquet, read_parquet
from crossenc_kit.readers import text_columns
from crossenc_kit.tables import first_line, read_table, read_tsv
from crossenc_kit.trec import DOCUMENT_NAMES, QUERY_NAMES, read_run

SCORE_NAMES = ("score", "scores", "teacher_score", "label", "labels")  # beside a score, a label may be the gold one
TRIPLE = (("positive_score", "positive_id", "positive"), ("negative_score", "negative_id", "negative"))
Key = tuple[str, str]  # query id and document id, or two texts
Scored = Iterator[tuple[str, Key, Any]]  # (where, key, score)


def score_rows(
    path: str | os.PathLike, names: Sequence[str] | None = None, encoding: str = "utf-8"
) -> dict[str, Callable[[], Scored]]:
    """By "ids", by "texts", or both: a function that yields (where, key, score) of a file's rows.

    `names`: the columns of a TSV file without a line of names. Raises `DataError` where the columns are not known.
    """
    if not is_parquet(path) and names is None and _is_run(path, encoding):
        return {"ids": partial(_of_run, path, encoding)}
    _, first = next(iter(_rows(path, names, encoding)), ("", None))
    if first is None:
        raise DataError(f"{path}: the file has no rows")
    columns = {by: found for by in ("ids", "texts") if (found := _columns(first, by))}
    if not columns:
        raise DataError(
            f"{path}: found the columns {', '.join(map(str, first))[:200]}; expected query_id, document_id and score, "
            "or two texts and score; where the first line is no line of names, give them as names="
        )
    return {by: partial(_of_rows, path, names, encoding, found) for by, found in columns.items()}


def _is_run(path: str | os.PathLike, encoding: str) -> bool:
    """Whether the first line is one of a run: six columns with a number in the fifth, or three with one at the end."""
    cells = first_line(path, encoding).split()
    try:
        return len(cells) in (3, 6) and float(cells[{3: 2, 6: 4}[len(cells)]]) is not None
    except ValueError:
        return False


def _of_run(path: str | os.PathLike, encoding: str) -> Scored:
    for query, scored in read_run(path, encoding=encoding).items():
        for document, score in scored.items():
            yield str(path), (query, document), score


def _rows(
    path: str | os.PathLike, names: Sequence[str] | None, encoding: str
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """(where, row) of each row of a file."""
    if is_parquet(path):
        return ((f"{path}, row {number}", row) for number, row in read_parquet(path))
    lines = read_table(path, encoding) if names is None else read_tsv(path, names, encoding)
    return ((f"{path}, line {number}", row) for number, row in lines)


def _of_rows(
    path: str | os.PathLike, names: Sequence[str] | None, encoding: str, columns: list[tuple[str, str, str]]
) -> Scored:
    for where, row in _rows(path, names, encoding):
        for left, right, score in columns:
            for name in (left, right):
                if row.get(name) is None:
                    raise DataError(f"{where}, column {name!r}: there is no value")
            yield where, (str(row[left]), str(row[right])), a_score(row.get(score), f"{where}, column {score!r}")


def _columns(row: Mapping[str, Any], by: str) -> list[tuple[str, str, str]]:
    """The columns (left, right, score) of the one pair of a row, or of the two of a triple; empty where it has none."""
    query = next((name for name in QUERY_NAMES if name in row), "")
    if all(scored in row for scored, _, _ in TRIPLE):
        place = 1 if by == "ids" else 2
        query = query if by == "ids" else "query"
        found = [(query, names[place], names[0]) for names in TRIPLE]
        return found if all(left in row and right in row for left, right, _ in found) else []
    score = next((name for name in SCORE_NAMES if name in row), None)
    if score is None:
        return []
    if by == "ids":
        document = next((name for name in DOCUMENT_NAMES if name in row), "")
        return [(query, document, score)] if query and document else []
    try:
        return [(*text_columns([name for name in row if name not in SCORE_NAMES], row, None, ""), score)]
    except DataError:
        return []


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
