"""STS-B in its published forms: pairs of sentences with a similarity score.

A row that cannot be used is an error naming file, line and column; the notes say how scores became
labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.data.pair_files import labels_in, pairs_in
from crossenc_kit.data.pairs import TARGET_COLUMNS, Pairs
from crossenc_kit.data.sources import SPLITS, Layout, find_source
from crossenc_kit.data.tables import first_line, header, read_table, read_tsv
from crossenc_kit.errors import DataError

STS = Layout("STS", ("sts", "stsb", "STS-B", "stsbenchmark"), ("{}.jsonl", "sts-{}.csv", "sts-{}.tsv", "{}.tsv"))
# of the publisher's sts-*.csv
STS_COLUMNS = ("genre", "filename", "year", "id", "score", "sentence1", "sentence2")


def read_sts(source: Any = None, split: str = "train", *, highest: float = 5.0, encoding: str = "utf-8") -> Pairs:
    """Read sentence pairs of a split; labels `(N,)` float32 are score / highest, in 0..1.

    A column whose largest score is at most 1 is left as it is. Columns other than sentence1,
    sentence2 and the target become tags. Without scores, or if each is -1 (GLUE's hidden labels),
    the pairs are unlabelled.

    source: None (see `find_data`), a file or folder (also its subfolder stsb, ...) in a published
        form, a data set or a dictionary of them, or "org/name" on the hub
    split: train, dev (or validation), test; a `datasets.Dataset` is its own split

    Raises `DataError` naming file, line and column of a score that is outside 0..highest.
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
    return pairs_in(rows, ("sentence1", "sentence2"), target, labels, [f"from {origin}", scaled])


def _sts_rows(source: Any, split: str, encoding: str) -> tuple[str, Iterator[tuple[str, Mapping[str, Any]]]]:
    """Find an STS split: where it comes from, in words, and (where, row) of its rows."""
    splits = SPLITS.get(split, (split,))
    origin, found = find_source(source, STS, splits)
    if not isinstance(found, Path):
        return origin, ((f"row {index}", row) for index, row in enumerate(found))
    rows = ((f"{found}, line {number}", row) for number, row in _read_sts_file(found, encoding))
    if source and Path(source).expanduser() == found:  # it may hold all splits
        rows = ((where, row) for where, row in rows if row.get("split", split) in splits)
    return origin, rows


def _read_sts_file(path: Path, encoding: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """Read rows of any published form; surplus cells (sources of some rows) are left out."""
    first = first_line(path, encoding).split("\t")
    if len(first) < 3:
        return read_table(path, encoding)
    if "sentence1" not in first and len(first) >= len(STS_COLUMNS):
        return read_tsv(path, STS_COLUMNS, encoding)
    return itertools.islice(read_tsv(path, header(first, path), encoding), 1, None)


def _similarities(rows: Sequence[tuple[str, Mapping]], target: str | None, highest: float) -> tuple[Any, str]:
    """Scale scores to labels in 0..1, and say how."""
    scores = labels_in(rows, target)
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
