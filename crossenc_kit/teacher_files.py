"""Teacher scores in files: read and aligned to the pairs they belong to, written; and margins as labels.

JSON Lines, TSV, CSV or parquet with a score a row, and runs. No pickles: see `pickled_scores`.
"""

from __future__ import annotations

import gzip
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.pairs import TARGET_COLUMNS, DataError, Pairs, as_pairs
from crossenc_kit.parquet import parquet_bytes
from crossenc_kit.pickled_scores import refuse_pickle
from crossenc_kit.score_folder import folder_label_names
from crossenc_kit.score_rows import FROM_RANKS, Key, Scored, a_score, score_rows
from crossenc_kit.score_shards import write_whole
from crossenc_kit.tables import write_jsonl
from crossenc_kit.teachers import with_teacher_scores

LIKE_RANKS = (
    "its third column is 1, 2, ... for each query, as ranks are, 1 the best; if these are scores, give "
    'names=("query_id", "document_id", "score")'
)
ROUNDING = 1e-4  # what two batches make of one pair: two scores that near are one


def read_teacher_scores(
    path: str | os.PathLike,
    pairs: Any,
    *,
    missing: str = "error",
    gold: bool = False,
    names: Sequence[str] | None = None,
    label_names: Sequence[str] = (),
    encoding: str = "utf-8",
) -> Any:
    """The pairs with a teacher's scores from a file as labels, `(N,)` or `(N, C)`; `gold` as in `with_teacher_scores`.

    The file: JSON Lines, TSV, CSV or parquet with columns query_id, document_id, score, or two texts (query and
    document, sentence1 and sentence2, ...) and score; a score may be a list of C. Also positive_score,
    negative_score with query_id, positive_id, negative_id, or with the texts query, positive, negative. `names` are
    the columns of a TSV file without a first line of them. Or a run without such a line: TREC's six columns, or MS
    MARCO's three with ranks 1, 2, ... for each query; then the scores are minus the ranks, as a note says, or, where
    an array is returned, a warning. Three columns with scores need `names`. Or the folder of a finished job of
    `score_file`, with ids or texts among the columns it kept. `label_names`: the classes of the C scores in their order
    (a job's folder tells it), which is brought to the data's as in `with_teacher_scores`.

    `pairs`: a `Pairs` whose tags query_id and document_ids (one list a group; or document_id, where every group is
    one pair) are the ids, and whose texts are looked up where there are no ids on both sides. Or a list of N (query
    id, document id), or of N (left, right) texts: then the scores are returned as an array. Rows that nobody asks
    for are passed over. `missing="drop"` leaves out pairs without a score, and a note counts them.

    Raises `DataError` naming the first of the pairs that have no score; the lines that give one pair two scores (more
    than 1e-4 apart); scores that are no finite numbers, or not as many as in the rows before; and for pickles.
    """
    if missing not in ("error", "drop"):
        raise ValueError(f"missing is {missing!r}; expected 'error' or 'drop'")
    if label_names and not isinstance(pairs, Pairs):
        raise ValueError("label_names are brought to the order of the classes of a Pairs; these pairs have none")
    folder = os.path.isdir(path)
    if not folder:
        refuse_pickle(path)
    records, notes = score_rows(path, names, encoding)
    table = pairs if isinstance(pairs, Pairs) else None
    keys, by = (_plain_keys(pairs), next(iter(records))) if table is None else _keys(table, records)
    found = _look_up(records[by](), keys)
    rows = [row for row, score in enumerate(found) if score is not None]
    if len(rows) < len(keys):
        absent = [key for key, score in zip(keys, found, strict=True) if score is None]
        droppable = table is not None and bool(rows)
        if missing == "error" or table is None or not rows:
            raise DataError(
                f"{path}: {_absent(absent, len(keys), by)}" + '; missing="drop" leaves them out' * droppable
            )
        table = _only(table, rows, absent, by)
    scores = np.array([found[row] for row in rows], dtype=float)
    if table is None:
        if FROM_RANKS in notes:  # an array carries no notes
            warnings.warn(f"{path}: {FROM_RANKS}: {LIKE_RANKS}", stacklevel=2)
        return scores
    classes = label_names or (folder_label_names(path) if folder else ())
    taught = with_teacher_scores(table, scores, gold=gold, label_names=classes)
    return replace(taught, notes=(*taught.notes, *notes))


def _plain_keys(pairs: Any) -> list[Key]:
    pairs = list(pairs)
    keys = [tuple(map(str, pair)) if isinstance(pair, (list, tuple)) else () for pair in pairs]
    odd = next((row for row, key in enumerate(keys) if len(key) != 2), None)
    if odd is not None:
        raise DataError(f"row {odd}: expected (query id, document id) or two texts, got {str(pairs[odd])[:60]}")
    return keys  # type: ignore[return-value]


def _keys(pairs: Pairs, known: Mapping[str, Any]) -> tuple[list[Key], str]:
    """The ids of N pairs where both they and the file have ids, else their texts."""
    ids = id_keys(pairs)
    if "ids" in known and ids is not None:
        return ids, "ids"
    if "texts" not in known:
        raise DataError(
            "the file has the scores by query id and document id, and the pairs have no tags query_id and document_ids "
            "(a collection's as_pairs makes them); give the ids as a list of (query id, document id)"
        )
    return pairs.texts, "texts"


def id_keys(pairs: Pairs) -> list[Key] | None:
    """(query id, document id) of N pairs, from the tags query_id and document_ids (or document_id); None without."""
    queries, documents = pairs.tags.get("query_id"), pairs.tags.get("document_ids")
    if documents is None and pairs.is_pointwise and "document_id" in pairs.tags:
        documents = [[document] for document in pairs.tags["document_id"]]
    if queries is None or documents is None:
        return None
    for group, (own, size) in enumerate(zip(documents, np.diff(pairs.offsets), strict=True)):
        if len(own) != size:
            raise DataError(f"group {group} (query {queries[group]!r}) has {size} pairs, and {len(own)} document_ids")
    return [(str(query), str(document)) for query, own in zip(queries, documents, strict=True) for document in own]


def _look_up(records: Scored, keys: list[Key]) -> list[Any]:
    """The score of each key, None where there is none; of a pair that is there twice each has its own."""
    table: dict[Key, list[tuple[str, Any]]] = {key: [] for key in keys}
    shape: Any = None
    for where, key, score in records:
        shape = np.shape(score) if shape is None else shape
        if np.shape(score) != shape:
            raise DataError(f"{where}: {np.size(score)} scores, in the rows before {max(1, *shape, 1)}")
        if (there := table.get(key)) is None:
            continue
        if there and not np.allclose(score, there[0][1], rtol=ROUNDING, atol=ROUNDING):
            raise DataError(
                f"{where}: {_named(key)} has the score {score}, and {there[0][1]} at {there[0][0]}; keep one"
            )
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
    """The pairs of the given rows, groups without any left out, and a note on what is gone."""
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
        tags={name: [_tag(column[group], parts[group]) for group in groups] for name, column in pairs.tags.items()},
        notes=(*pairs.notes, *notes),
    )


def _tag(value: Any, kept: np.ndarray) -> Any:
    """A group's tag; of a list with an item a pair, such as document_ids, the items of the pairs that are kept."""
    if isinstance(value, list) and len(value) == len(kept):
        return [item for item, keep in zip(value, kept, strict=True) if keep]
    return value


def margins_as_pairs(rows: Iterable[Mapping[str, Any]]) -> Pairs:
    """Rows of a query, a positive, one or more negatives, and a teacher's margins as groups with labels.

    The columns are inputs in order and a target, as in `as_pairs` (a `datasets.Dataset`). The target is the margin, the
    positive's score minus the negative's; or a list of them, one a negative: labels are then counted from the first
    negative's score, which is 0. Or a list of all scores, the positive's first, as they are. For losses that look at
    differences within a list alone, such as margin_mse. Raises `DataError` naming the row that is none of these.
    """
    groups = []
    for number, row in enumerate(rows):
        target = next((name for name in TARGET_COLUMNS if name in row), None)
        if target is None:
            raise DataError(f"row {number}: no column {', '.join(TARGET_COLUMNS)} with the margin")
        inputs = {name: value for name, value in row.items() if name != target}
        count = sum(len(value) if isinstance(value, (list, tuple)) else 1 for value in [*inputs.values()][1:])
        scores = np.atleast_1d(a_score(row[target], f"row {number}, column {target!r}"))
        if len(scores) == count - 1:
            scores = np.concatenate([scores[:1], scores[0] - scores])
        elif len(scores) != count or count < 2:
            raise DataError(
                f"row {number}: {len(scores)} scores for {count} documents; expected {count} or {count - 1}"
            )
        groups.append({**inputs, "labels": scores.tolist()})
    return replace(as_pairs(groups), notes=("labels are a teacher's margins within each list",))


def write_teacher_scores(path: str | os.PathLike, pairs: Any, scores: ArrayLike) -> Path:
    """Write a row a pair with its score(s), which `read_teacher_scores` reads back exactly; one move replaces the file.

    The columns are query_id, document_id, score where the pairs have ids (see `read_teacher_scores`), else query,
    document, score with the texts. `path` says the form: .jsonl, .tsv (each also .gz) or .parquet. Raises `DataError`
    for scores that do not fit, and for texts that the form cannot hold (in TSV, tabs and ends of lines).
    """
    path, pairs = Path(path), as_pairs(pairs)
    values = np.asarray(scores, dtype=float)
    if values.ndim not in (1, 2) or len(values) != pairs.num_pairs or not np.isfinite(values).all():
        bad = "" if np.isfinite(values).all() else ", not all finite,"
        raise DataError(f"scores of shape {values.shape}{bad} for {pairs.num_pairs} pairs; expected one (row) a pair")
    ids = id_keys(pairs)
    names, keys = (("query", "document"), pairs.texts) if ids is None else (("query_id", "document_id"), ids)
    form = path.name.removesuffix(".gz").rpartition(".")[2]
    rows = zip(keys, values.tolist(), strict=True)
    if form == "jsonl":
        return write_jsonl(path, ({names[0]: a, names[1]: b, "score": score} for (a, b), score in rows))
    _check_texts(keys, ("\t", "\n") if form == "tsv" else ())
    if form == "tsv":
        lines = ["\t".join((*names, "score")), *(f"{a}\t{b}\t{json.dumps(score)}" for (a, b), score in rows)]
        data = ("\n".join(lines) + "\n").encode()
        write_whole(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    elif path.suffix == ".parquet":
        texts: dict[str, Any] = {name: ([key[side] for key in keys], None) for side, name in enumerate(names)}
        write_whole(path, parquet_bytes({**texts, "score": (values.tolist(), None)}))
    else:
        raise ValueError(f"{path.name}: expected a name that ends in .jsonl, .tsv (or these with .gz) or .parquet")
    return path


def _check_texts(keys: list[Key], separators: tuple[str, ...]) -> None:
    for row, key in enumerate(keys):
        for text in key:
            if any(separator in text for separator in separators):
                raise DataError(f"pair {row}: {text[:40]!r} holds a tab or an end of line; write .jsonl or .parquet")
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise DataError(f"pair {row}: {text[:40]!r} holds half of a surrogate pair; write .jsonl")
