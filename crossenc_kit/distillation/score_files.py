"""Teacher scores in files: read and matched to the pairs they belong to, and written.

| form | columns or content |
|---|---|
| JSON Lines (also .gz), parquet | two ids (`query_id`, `document_id`) or two texts, and `score` |
| a folder of `score_file` | the same, if the job kept them |
| a run, see `read_run` | query id, document id, score |

A score may be a list of C numbers. Rows that nobody asks for are skipped.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.pair_files import text_columns
from crossenc_kit.data.pairs import Pairs, as_pairs
from crossenc_kit.data.tables import a_score, first_line, is_parquet, read_jsonl, read_parquet
from crossenc_kit.data.trec import DOCUMENT_NAMES, QUERY_NAMES, read_run, run_width
from crossenc_kit.distillation.teachers import with_teacher_scores
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl
from crossenc_kit.inference.score_store import job_label_names, read_scores

ROUNDING = 1e-4  # two batches give one pair scores that differ by less
SCORE_NAMES = ("score", "scores", "teacher_score", "label", "labels")  # beside a score, a label may be gold
Key = tuple[str, str]  # query id and document id, or two texts
Rows = Iterable[tuple[str, Mapping[str, Any]]]  # (where, row)
Scored = Iterator[tuple[str, Key, Any]]  # (where, key, score)


def read_teacher_scores(
    path: str | os.PathLike,
    pairs: Any,
    *,
    missing: str = "error",
    gold: bool = False,
    label_names: Sequence[str] = (),
) -> Any:
    """Read a teacher's scores for N pairs from a file and make them the labels, `(N,)` or `(N, C)`.

    pairs: a `Pairs`, looked up by its tags query_id and document_ids (or document_id), else by its texts;
        or a list of N (query id, document id) or (left, right) texts, which gives an array
    missing: "drop" leaves out a `Pairs`' pairs without a score, and a note counts them
    gold: as in `with_teacher_scores`
    label_names: the classes of the C scores, in their order

    Raises `DataError` naming the pairs without a score, the lines that give one pair two scores, and
    scores that are not finite numbers.
    """
    if missing not in ("error", "drop"):
        raise ValueError(f"missing is {missing!r}; expected 'error' or 'drop'")
    table = pairs if isinstance(pairs, Pairs) else None
    records = _records(path)
    if table is None:
        keys, by = [(str(left), str(right)) for left, right in pairs], next(iter(records))
    else:
        keys, by = _keys(table, records)
    found = _look_up(records[by](), keys)
    rows = [row for row, score in enumerate(found) if score is not None]
    if len(rows) < len(keys):
        absent = [key for key, score in zip(keys, found, strict=True) if score is None]
        if missing == "error" or table is None or not rows:
            raise DataError(f"{path}: {_absent(absent, len(keys), by)}")
        table = _only(table, rows, absent, by)
    scores = np.array([found[row] for row in rows], dtype=float)
    if table is None:
        return scores
    classes = label_names or (job_label_names(path) if os.path.isdir(path) else ())
    return with_teacher_scores(table, scores, gold=gold, label_names=classes)


def _records(path: str | os.PathLike) -> dict[str, Callable[[], Scored]]:
    """Return how to read (where, key, score) of a file's rows, by "ids", by "texts", or both."""
    if os.path.isdir(path):
        rows = partial(_rows_of_job, path, read_scores(path))
    elif is_parquet(path):
        rows = partial(_numbered, f"{path}, row", read_parquet, path)
    elif first_line(path).lstrip().startswith("{"):
        rows = partial(_numbered, f"{path}, line", read_jsonl, path)
    elif run_width(path) == 3:
        raise DataError(f"{path}: the third column holds ranks, not scores; give a run with scores, or JSON Lines")
    else:
        run = read_run(path)
        scored = [(str(path), (q, d), score) for q, own in run.items() for d, score in own.items()]
        return {"ids": lambda: iter(scored)}
    _, first = next(iter(rows()), ("", None))
    if first is None:
        raise DataError(f"{path}: the file has no rows")
    known = {by: columns for by in ("ids", "texts") if (columns := _columns(first, by))}
    if not known:
        found = f"found the columns {', '.join(map(str, first))[:200]}"
        raise DataError(f"{path}: {found}; expected query_id, document_id and score, or two texts and score")
    return {by: partial(_of_rows, rows, columns) for by, columns in known.items()}


def _numbered(where: str, reader: Callable, path: str | os.PathLike) -> Rows:
    return ((f"{where} {number}", row) for number, row in reader(path))


def _rows_of_job(path: str | os.PathLike, columns: Mapping[str, Any]) -> Rows:
    rows = zip(*columns.values(), strict=True)
    return ((f"{path}, row {at}", dict(zip(columns, row, strict=True))) for at, row in enumerate(rows))


def _columns(row: Mapping[str, Any], by: str) -> tuple[str, str, str] | None:
    """Find the columns (left, right, score) by their names."""
    score = next((name for name in SCORE_NAMES if name in row), None)
    if score is None:
        return None
    if by == "ids":
        query, document = (
            next((name for name in names if name in row), None) for names in (QUERY_NAMES, DOCUMENT_NAMES)
        )
        return (query, document, score) if query and document else None
    try:
        return *text_columns([name for name in row if name not in SCORE_NAMES], row, None, ""), score
    except DataError:
        return None


def _of_rows(rows: Callable[[], Rows], columns: tuple[str, str, str]) -> Scored:
    left, right, score = columns
    for where, row in rows():
        for name in (left, right):
            if row.get(name) is None:
                raise DataError(f"{where}, column {name!r}: there is no value")
        key = str(row[left]), str(row[right])
        yield where, key, a_score(row.get(score), f"{where}, column {score!r}")


# --- which pair a score belongs to ----------------------------------------------------------------


def _keys(pairs: Pairs, known: Mapping[str, Any]) -> tuple[list[Key], str]:
    """Return the ids of N pairs if both they and the file have ids, else their texts."""
    ids = id_keys(pairs)
    if "ids" in known and ids is not None:
        return ids, "ids"
    if "texts" not in known:
        raise DataError(
            "the file has scores by query id and document id, and the pairs have no tags query_id "
            "and document_ids (a collection's as_pairs makes them); give a list of ids"
        )
    return pairs.texts, "texts"


def id_keys(pairs: Pairs) -> list[Key] | None:
    """Return (query id, document id) of N pairs from their tags; None if they have none."""
    queries, documents = pairs.tags.get("query_id"), pairs.tags.get("document_ids")
    if documents is None and pairs.is_pointwise and "document_id" in pairs.tags:
        documents = [[document] for document in pairs.tags["document_id"]]
    if queries is None or documents is None:
        return None
    for group, (own, size) in enumerate(zip(documents, np.diff(pairs.offsets), strict=True)):
        if len(own) != size:
            raise DataError(f"group {group} (query {queries[group]!r}) has {size} pairs, and {len(own)} document_ids")
    return [(str(query), str(d)) for query, own in zip(queries, documents, strict=True) for d in own]


def _look_up(records: Scored, keys: list[Key]) -> list[Any]:
    """Find the score of each key, or None; a pair that comes twice gets each of its scores."""
    table: dict[Key, list[tuple[str, Any]]] = {key: [] for key in keys}
    shape: Any = None
    for where, key, score in records:
        shape = np.shape(score) if shape is None else shape
        if np.shape(score) != shape:
            raise DataError(f"{where}: {np.size(score)} scores, in the rows before {max(1, *shape, 1)}")
        if (there := table.get(key)) is None:
            continue
        if there and not np.allclose(score, there[0][1], rtol=ROUNDING, atol=ROUNDING):
            before = f"and {there[0][1]} at {there[0][0]}"
            raise DataError(f"{where}: {_named(key)} has the score {score}, {before}; keep one")
        there.append((where, score))
    used: Counter[Key] = Counter()
    found = []
    for key in keys:
        there = table[key]
        found.append(there[min(used[key], len(there) - 1)][1] if there else None)
        used[key] += 1
    return found


def _named(key: Key) -> str:
    return f"{key[0][:40]!r} with {key[1][:40]!r}"


def _absent(absent: list[Key], count: int, by: str) -> str:
    first = "; ".join(map(_named, absent[:3])) + ("; ..." if len(absent) > 3 else "")
    return f"{len(absent):,} of {count:,} pairs have no score there, looked up by their {by}: {first}"


def _only(pairs: Pairs, rows: list[int], absent: list[Key], by: str) -> Pairs:
    """Keep the pairs of the given rows and note what is gone; a group without any pair goes too."""
    kept = np.zeros(pairs.num_pairs, dtype=bool)
    kept[rows] = True
    parts = np.split(kept, pairs.offsets[1:-1])
    groups = [group for group, part in enumerate(parts) if part.any()]
    notes = [f"left out: {_absent(absent, pairs.num_pairs, by)}"]
    if len(groups) < len(parts) and not pairs.is_pointwise:
        notes.append(f"left out: {len(parts) - len(groups):,} of {len(parts):,} groups, which had no score at all")
    return replace(
        pairs,
        left=[pairs.left[row] for row in rows],
        right=[pairs.right[row] for row in rows],
        labels=None if pairs.labels is None else pairs.labels[rows],
        offsets=np.concatenate([[0], np.cumsum([int(parts[g].sum()) for g in groups])]).astype(np.int64),
        tags={name: [_tag(column[g], parts[g]) for g in groups] for name, column in pairs.tags.items()},
        notes=(*pairs.notes, *notes),
    )


def _tag(value: Any, kept: np.ndarray) -> Any:
    """Return a group's tag; a list with one item per pair (document_ids) loses the items that go."""
    if isinstance(value, list) and len(value) == len(kept):
        return [item for item, keep in zip(value, kept, strict=True) if keep]
    return value


# --- writing --------------------------------------------------------------------------------------


def write_teacher_scores(path: str | os.PathLike, pairs: Any, scores: ArrayLike) -> Path:
    """Write a row of JSON per pair with its score(s), which `read_teacher_scores` reads back exactly.

    The columns are query_id, document_id and score if the pairs have ids, otherwise query, document and
    score with the texts. The file is gzipped if its name ends in .gz.

    Raises `DataError` for scores that do not fit.
    """
    pairs = as_pairs(pairs)
    values = np.asarray(scores, dtype=float)
    if values.ndim not in (1, 2) or len(values) != pairs.num_pairs or not np.isfinite(values).all():
        bad = "" if np.isfinite(values).all() else ", not all finite,"
        raise DataError(f"scores of shape {values.shape}{bad} for {pairs.num_pairs} pairs; expected one (row) per pair")
    ids = id_keys(pairs)
    names, keys = (("query", "document"), pairs.texts) if ids is None else (("query_id", "document_id"), ids)
    rows = zip(keys, values.tolist(), strict=True)
    return write_jsonl(path, ({names[0]: a, names[1]: b, "score": score} for (a, b), score in rows))
