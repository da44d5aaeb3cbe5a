"""Teacher scores in files: read and aligned to the pairs they belong to, written; and margins as labels.

JSON Lines, TSV, CSV or parquet with a score a row, and runs. No pickles: see `pickled_scores`.

Rows of a file with scores: which pair each is about, by its ids or by its texts, and the score.

Score files that are pickles: refused, with the reason and the way to convert them.

The teacher scores of MS MARCO are published as `cross-encoder-ms-marco-MiniLM-L-6-v2-scores.pkl.gz`, a pickled
`{query id: {passage id: score}}`.
"""

from __future__ import annotations

import gzip
import json
import os
import warnings
import zlib
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
from crossenc_kit.data.tables import (
    MalformedLines,
    a_score,
    first_line,
    is_parquet,
    parquet_bytes,
    read_table,
    read_tsv,
    rows_of_file,
)
from crossenc_kit.data.trec import DOCUMENT_NAMES, QUERY_NAMES, run_of, run_width, unlike_ranks
from crossenc_kit.distillation.teachers import with_teacher_scores
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_bytes, write_jsonl
from crossenc_kit.inference.score_store import folder_label_names, read_scores

LIKE_RANKS = (
    "its third column is 1, 2, ... for each query, as ranks are, 1 the best; if these are scores, give "
    'names=("query_id", "document_id", "score")'
)
ROUNDING = 1e-4  # what two batches make of one pair: two scores that near are one
SCORE_NAMES = ("score", "scores", "teacher_score", "label", "labels")  # beside a score, a label may be the gold one
TRIPLE = (("positive_score", "positive_id", "positive"), ("negative_score", "negative_id", "negative"))
FROM_RANKS = "scores are minus the ranks"
NO_RANKS = (
    "; three columns without a line of names are query, document and rank (1, 2, ... for each query); where the last "
    'is a score, give names=("query_id", "document_id", "score"), or those of two texts'
)
Key = tuple[str, str]  # query id and document id, or two texts
Scored = Iterator[tuple[str, Key, Any]]  # (where, key, score)
SUFFIXES = {".pkl", ".pickle", ".pk", ".joblib", ".pt", ".pth", ".bin"}
COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}
OLD_PROTOCOLS = (b"(dp", b"(lp", b"}q\x00", b"]q\x00", b"ccollections\n", b"cnumpy", b"ccopy_reg\n")  # 0 and 1
ZIP = b"PK\x03\x04"


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
        write_bytes(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    elif path.suffix == ".parquet":
        texts: dict[str, Any] = {name: ([key[side] for key in keys], None) for side, name in enumerate(names)}
        write_bytes(path, parquet_bytes({**texts, "score": (values.tolist(), None)}))
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


def refuse_pickle(path: str | os.PathLike) -> None:
    """Raise `DataError` for a file that is a pickle by its name or its first bytes, gzipped or not."""
    path = Path(path)
    head = _first_bytes(path)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSED]
    named = bool(suffixes) and suffixes[-1] in SUFFIXES
    pickled = (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or head[:4] == ZIP
    if named or pickled or head.startswith(OLD_PROTOCOLS):
        raise DataError(
            f"{path} is a pickle, and it is not read here: reading one runs whatever code its author, or anyone who "
            "changed it on the way, put in it. Convert it once, where there is nothing to lose (a container without "
            f"network and keys), and read the file of JSON Lines that this writes:\n\n{conversion(path, head)}"
        )


def conversion(path: Path, head: bytes) -> str:
    """A few lines of Python that write a pickled `{query id: {document id: score}}` as JSON Lines."""
    gzipped = _is_gzipped(path)
    opened = f"gzip.open({path.name!r})" if gzipped else f"open({path.name!r}, 'rb')"
    load = "torch.load(file, weights_only=True)" if head[:4] == ZIP else "pickle.load(file)"
    stem = path.name.split(".")[0]
    target = f"{stem}.jsonl"
    if target.lower() == path.name.lower():  # some file systems tell no cases apart
        target = f"{stem}-converted.jsonl"
    return "\n".join(
        [
            f"import {'gzip, ' if gzipped else ''}json, {load.split('.')[0]}",
            f"with {opened} as file, open({target!r}, 'x') as out:",
            f"    for query, scored in {load}.items():",
            "        for document, score in scored.items():",
            "            row = {'query_id': str(query), 'document_id': str(document), 'score': float(score)}",
            "            out.write(json.dumps(row) + '\\n')",
        ]
    )


def _is_gzipped(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _first_bytes(path: Path) -> bytes:
    try:
        with gzip.open(path) if _is_gzipped(path) else open(path, "rb") as file:
            return file.read(16)
    except (EOFError, zlib.error, gzip.BadGzipFile):  # whoever reads on will say so
        return b""
