"""Rows of a file with scores: which pair each is about, by its ids or by its texts, and the score."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from crossenc_kit.malformed import MalformedLines
from crossenc_kit.pairs import DataError
from crossenc_kit.parquet import is_parquet, rows_of_file
from crossenc_kit.readers import text_columns
from crossenc_kit.score_folder import read_scores
from crossenc_kit.tables import first_line, read_table, read_tsv
from crossenc_kit.trec import DOCUMENT_NAMES, QUERY_NAMES, run_of, run_width, unlike_ranks

SCORE_NAMES = ("score", "scores", "teacher_score", "label", "labels")  # beside a score, a label may be the gold one
TRIPLE = (("positive_score", "positive_id", "positive"), ("negative_score", "negative_id", "negative"))
FROM_RANKS = "scores are minus the ranks"
NO_RANKS = (
    "; three columns without a line of names are query, document and rank (1, 2, ... for each query); where the last "
    'is a score, give names=("query_id", "document_id", "score"), or those of two texts'
)
Key = tuple[str, str]  # query id and document id, or two texts
Scored = Iterator[tuple[str, Key, Any]]  # (where, key, score)


def score_rows(
    path: str | os.PathLike, names: Sequence[str] | None = None, encoding: str = "utf-8"
) -> tuple[dict[str, Callable[[], Scored]], tuple[str, ...]]:
    """By "ids", by "texts", or both: a function that yields (where, key, score) of a file's or a job's rows; and notes.

    `names`: the columns of a TSV file without a line of names. Raises `DataError` where the columns are not known.
    """
    folder = os.path.isdir(path)
    width = 0 if folder or is_parquet(path) or names is not None else run_width(path, encoding)
    if width:
        scored = _of_run(path, encoding) if width == 6 else _of_ranks(path, encoding)
        return {"ids": partial(_scored, path, scored)}, (FROM_RANKS,) if width == 3 else ()
    rows = partial(_rows_of_job, path, read_scores(path)) if folder else partial(_rows, path, names, encoding)
    _, first = next(iter(rows()), ("", None))
    if first is None:
        raise DataError(f"{path}: the file has no rows{_only_names(path, names, encoding)}")
    columns = {by: found for by in ("ids", "texts") if (found := _columns(first, by))}
    if not columns:
        raise DataError(
            f"{path}: found the columns {', '.join(map(str, first))[:200]}; expected query_id, document_id and score, "
            "or two texts and score; where the first line is no line of names, give them as names="
        )
    return {by: partial(_of_rows, rows, found) for by, found in columns.items()}, ()


def _only_names(path: str | os.PathLike, names: Sequence[str] | None, encoding: str) -> str:
    """What to do about a file without rows: its one line may be a row."""
    cells = first_line(path, encoding).split("\t") if names is None and not is_parquet(path) else []
    return f" below the names {', '.join(cells)[:200]}; if that line is a row, give names=" if any(cells) else ""


def _of_run(path: str | os.PathLike, encoding: str) -> dict[str, dict[str, float]]:
    return run_of(path, MalformedLines(path, advice=""), encoding)


def _of_ranks(path: str | os.PathLike, encoding: str) -> dict[str, dict[str, float]]:
    """Minus the ranks of a run of three columns; `DataError` unless they are 1, 2, ... for each query."""
    run = run_of(path, MalformedLines(path, advice=NO_RANKS), encoding)
    if odd := unlike_ranks(run):
        raise DataError(f"{path}: {odd}{NO_RANKS}")
    return run


def _scored(path: str | os.PathLike, run: dict[str, dict[str, float]]) -> Scored:
    return ((str(path), (query, document), score) for query, own in run.items() for document, score in own.items())


def _rows(
    path: str | os.PathLike, names: Sequence[str] | None, encoding: str
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """(where, row) of each row of a file."""

    def text_rows(path: Any) -> Iterable[tuple[int, Mapping[str, Any]]]:
        return read_table(path, encoding) if names is None else read_tsv(path, names, encoding)

    unit, rows = rows_of_file(path, text_rows)
    return ((f"{path}, {unit} {number}", row) for number, row in rows)


def _rows_of_job(path: str | os.PathLike, columns: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """(where, row) of each row of a bulk job."""
    rows = zip(*columns.values(), strict=True)
    return ((f"{path}, row {number}", dict(zip(columns, row, strict=True))) for number, row in enumerate(rows))


def _of_rows(rows: Callable[[], Iterable], columns: list[tuple[str, str, str]]) -> Scored:
    for where, row in rows():
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
