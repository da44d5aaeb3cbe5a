"""Files and hub data sets become pairs: STS-B in each of its published forms, and any file of pairs.

A row that cannot be used is an error naming file, line and column; what was done to the labels is in the notes.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.pairs import TARGET_COLUMNS, DataError, Pairs, check_label, check_text
from crossenc_kit.parquet import rows_of_file
from crossenc_kit.sources import SPLITS, Layout, find_data, find_source
from crossenc_kit.tables import first_line, header, read_jsonl, read_table, read_tsv, write_jsonl

__all__ = ["find_data", "read_jsonl", "read_pairs", "read_sts", "read_tsv", "write_jsonl"]

STS = Layout("STS", ("sts", "stsb", "STS-B", "stsbenchmark"), ("{}.jsonl", "sts-{}.csv", "sts-{}.tsv", "{}.tsv"))
STS_COLUMNS = ("genre", "filename", "year", "id", "score", "sentence1", "sentence2")  # of the publisher's sts-*.csv
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


def read_pairs(path: str | os.PathLike, columns: Sequence[str] | None = None, encoding: str = "utf-8") -> Pairs:
    """A file of pairs, one a row: JSON Lines, TSV or CSV with a header, each also gzipped, or parquet.

    The form is told by the first bytes, not by the name. `columns` names the two texts; left out, they are a
    usual pair of names (sentence1, sentence2; query, document; ...), else the first two columns that hold texts
    and are neither a target nor an id. The first of `label`, `labels`, `score`, `scores` becomes the labels
    `(N,)` or `(N, C)`, or a tag if its values are names; all other columns become tags. The notes say which
    columns were used.
    """
    unit, found = rows_of_file(path, partial(read_table, encoding=encoding))
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
    labels = _labels(rows, target)
    notes += [f"labels from column {target!r}"] if target else []
    return _table(rows, left, right, target, labels, notes)


def read_sts(source: Any = None, split: str = "train", *, highest: float = 5.0, encoding: str = "utf-8") -> Pairs:
    """Sentence pairs of `split` with a similarity label in 0..1, `(N,)` float32; the notes say how it was scaled.

    label = score / highest; a column whose largest score is at most 1 is taken as already 0..1 and left
    as it is. `source`: None (see `find_data`); a folder or file with the publisher's sts-*.csv, GLUE's
    *.tsv or JSON Lines, the folder being it or its subfolder sts, stsb, STS-B or stsbenchmark; a
    `datasets.Dataset` (its own split is used) or `DatasetDict`; the name "org/name" of a hub data set.
    Columns other than sentence1, sentence2 and the target become tags; `dev` and `validation` are one
    split. A file without scores, or with -1 for every one (GLUE's hidden labels), gives unlabelled pairs.

    Raises `DataError` naming file, line and column for a score that is no number or outside 0..highest.
    """
    if highest <= 0:
        raise ValueError(f"highest is {highest}; expected the largest possible score, e.g. 5.0")
    origin, found = _sts_rows(source, split, encoding)
    rows = list(found)
    if not rows:
        raise DataError(f"{origin}: no rows for split {split!r}")
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    missing = [name for name in ("sentence1", "sentence2") if name not in names]
    if missing:
        raise DataError(f"{origin}: no column {' or '.join(missing)}; the columns are {', '.join(names)[:200]}")
    target = next((name for name in ("score", *TARGET_COLUMNS) if name in names), None)
    labels, scaled = _similarities(rows, target, highest)
    return _table(rows, "sentence1", "sentence2", target, labels, [f"from {origin}", scaled])


def _sts_rows(source: Any, split: str, encoding: str) -> tuple[str, Rows]:
    """Where an STS split comes from, in words, and its rows."""
    splits = SPLITS.get(split, (split,))
    origin, found = find_source(source, STS, splits)
    if not isinstance(found, Path):
        return origin, ((f"row {index}", row) for index, row in enumerate(found))
    rows: Rows = ((f"{found}, line {number}", row) for number, row in _read_sts_file(found, encoding))
    if source and Path(source).expanduser() == found:  # one file may hold all splits (sentence-transformers')
        rows = (pair for pair in rows if pair[1].get("split", split) in splits)
    return origin, rows


def _read_sts_file(path: Path, encoding: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of any published form; surplus cells (the source columns of some rows) are left out."""
    first = first_line(path, encoding).split("\t")
    if len(first) < 3:
        return read_table(path, encoding)
    if "sentence1" not in first and len(first) >= len(STS_COLUMNS):
        return read_tsv(path, STS_COLUMNS, encoding)
    return itertools.islice(read_tsv(path, header(first, path), encoding), 1, None)


def _similarities(rows: Sequence[tuple[str, Mapping]], target: str | None, highest: float) -> tuple[Any, str]:
    """Labels in 0..1, and what was done to the scores."""
    scores = _labels(rows, target)
    if scores is None:
        return None, "no score column: unlabelled"
    if scores.ndim > 1:
        raise DataError(f"{rows[0][0]}, column {target!r}: expected one score a pair, got {scores.shape[1]}")
    if (scores == -1).all():
        return None, "every score is -1, which marks hidden labels: unlabelled"
    wrong = np.flatnonzero((scores < 0) | (scores > highest))
    if wrong.size:
        where, score = rows[wrong[0]][0], scores[wrong[0]]
        more = f" (and {wrong.size - 1} more)" if wrong.size > 1 else ""
        raise DataError(
            f"{where}, column {target!r}: the score is {score:g}, outside 0 to {highest:g}{more}; "
            "drop the row or give the scale's largest score as highest="
        )
    if scores.max() <= 1:
        return scores.astype(np.float32), f"scores already 0 to 1 (largest {scores.max():g}): not scaled"
    return (scores / highest).astype(np.float32), f"scores 0 to {highest:g} divided by {highest:g}: labels 0 to 1"


def _labels(rows: Sequence[tuple[str, Mapping]], target: str | None) -> np.ndarray | None:
    """The target column as finite numbers, `(N,)` or `(N, C)`."""
    if target is None:
        return None
    labels = [_number(row.get(target), f"{where}, column {target!r}") for where, row in rows]
    odd = next((i for i, label in enumerate(labels) if np.shape(label) != np.shape(labels[0])), None)
    if odd is not None:
        raise DataError(f"{rows[odd][0]}, column {target!r}: the rows before it have another number of labels")
    return np.asarray(labels)


def _number(value: Any, where: str) -> Any:
    """A finite number (or a list of them), also from its text."""
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().isdigit() else float(value)
        except ValueError:
            raise DataError(f"{where}: expected a number, got {value[:40]!r}") from None
    return check_label(value, where)


def _is_name(value: Any) -> bool:
    """True for a text that is no number, such as "entailment"."""
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return bool(value)
    return False


def _table(
    rows: Sequence[tuple[str, Mapping]], left: str, right: str, target: str | None, labels: Any, notes: list[str]
) -> Pairs:
    """Rows as `Pairs`, with every column that is neither text nor target as a tag."""
    texts = [[check_text(row.get(name), f"{where}, column {name!r}") for where, row in rows] for name in (left, right)]
    others = dict.fromkeys(name for _, row in rows for name in row if name not in (left, right, target))
    tags = {name: [row.get(name) for _, row in rows] for name in others}
    if labels is not None:
        labels = labels.astype(np.int64 if labels.dtype.kind in "bi" else np.float32)
    return Pairs(texts[0], texts[1], labels, tags=tags, notes=tuple(notes))


def text_columns(
    names: list[str], first: Mapping[str, Any], columns: Sequence[str] | None, path: Any
) -> tuple[str, str]:
    """The names of the two text columns."""
    if columns is not None:
        missing = [name for name in columns if name not in names]
        if len(columns) != 2 or isinstance(columns, str) or missing:
            raise DataError(f"{path}: columns is {columns!r}; expected two of {', '.join(names)}")
        return columns[0], columns[1]
    usual = next((pair for pair in TEXT_COLUMNS if set(pair) <= set(names)), None)
    if usual:
        return usual
    texts = [
        name
        for name in names
        if name not in TARGET_COLUMNS
        and not ID_COLUMN.fullmatch(name)
        and isinstance(first.get(name), (str, type(None)))
    ]
    if len(texts) < 2:
        raise DataError(f"{path}: a pair needs two text columns; found {texts} among {', '.join(names)}")
    for name in texts[:2]:
        if len(name.split()) > 2 or name.endswith((".", "?", "!")):
            raise DataError(
                f"{path}, line 1: {name[:60]!r} looks like a text, not the name of a column; "
                "put a line with names (left, right) on top, or name the two columns with columns="
            )
    return texts[0], texts[1]
