"""Rows of queries and candidate documents become groups, one a query: MS MARCO and its kin as they are on the hub.

Rows of queries and candidate documents: found, read, and with texts in the place of ids.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.documents import check_depth
from crossenc_kit.data.pairs import TARGET_COLUMNS, Pairs, as_pairs
from crossenc_kit.data.sources import SPLITS, Layout, find_source
from crossenc_kit.data.tables import MalformedLines, a_score, is_parquet, read_table, rows_of_file, usable
from crossenc_kit.errors import DataError

Groups = list[tuple[int, dict[str, Any]]]  # a row's number, and its inputs and labels
ID_COLUMN = re.compile(r"(.*[_-])?(ids?|idx|index|urls?)([_-]\d+)?|[qp]id", re.IGNORECASE)  # also negative_id_1
QUERY_ID = re.compile(r"(query|anchor|question|q)[_-]?ids?", re.IGNORECASE)
FILES = ("{}.jsonl", "{}.tsv", "{}.parquet")
Texts = Mapping[str, str] | Iterable[Any]
Row = Mapping[str, Any]
Numbered = list[tuple[int, Row]]  # the line of a file, else the row from 0, and the row


def read_candidates(
    source: Any,
    split: str = "train",
    *,
    config: str | None = None,
    columns: Sequence[str] | None = None,
    queries: Texts | None = None,
    documents: Texts | None = None,
    depth: int | None = None,
    limit: int | None = None,
    by_query: bool = True,
    malformed: str = "error",
    encoding: str = "utf-8",
) -> Pairs:
    """Queries with candidate documents and labels, a group a query, from rows in any form that MS MARCO has on the hub:

    - `query`, `passages` with `passage_text` and `is_selected` (microsoft/ms_marco): labels 1 and 0. Queries without a
      selected passage are left out;
    - `query`, `positive`, one or more `negative`s: labels 1 and 0; with one `score`, the margin of the positive over
      the negative, labels (score, 0);
    - `query`, `passage`, and `score` or `label`;
    - `query`, a list of documents, and `labels` or `scores`;
    - ids in the place of texts (sentence-transformers/msmarco): `queries` and `documents` give their texts, as
      `{id: text}` or as rows of id and text (a data set, `iter_documents(path)`), of which only those needed are kept.
      Ids are in columns named so (`query_id`, `negative_id_1`); in a table without such, in columns of whole numbers
      (`query`, `positive`, `negative_1` of the subsets `-ids`) or with ids of the texts given.

    `source`: a data set or a dictionary of them, rows, a file (JSON Lines, TSV or CSV with a header, parquet), the name
    "org/name" of a hub data set, with its `config`. `columns` names the inputs where there are others: the query's
    first. `depth`: only the first candidates of a list, `limit`: only the first rows. Columns of ids and urls beside
    texts become tags.

    `by_query` joins rows that have one query into a group that has each text once, at its highest label (not where
    labels are margins). The notes count what was left out and joined, blank documents, and `label` or `labels`
    below 0. Raises `DataError` naming file, line (or row) and column of what cannot be used, also for a blank query;
    `malformed="count"` leaves such lines out. An id that has two texts, and `queries` or `documents` that no column
    has ids of, are errors always.
    """
    for name, value in (("depth", depth), ("limit", limit)):
        if value is not None:
            check_depth(value, name)
    if source is None:
        raise ValueError("read_candidates needs a source: a data set, rows, a file, or a name on the hub")
    origin, rows, bad = find_rows(source, split, config, limit, malformed, encoding)
    left_out: list[str] = []
    if any("passages" in row for _, row in rows):
        rows, left_out = selected(rows, bad)
        columns = ("query", "documents")
    first, inputs = first_with_inputs(rows, columns, origin)
    others = [name for name in first if name not in (*inputs, *TARGET_COLUMNS)]
    row_of = dict(rows)
    rows = with_texts(rows, inputs, others if columns is None else (), queries, documents, bad)
    margins = any(_is_margin(row, inputs) for _, row in rows)
    groups = [(number, _group(row, inputs, depth, margins)) for number, row in rows]
    pairs, kept = _usable_groups(groups, inputs[0], bad)
    notes = [f"from {origin}", *bad.notes(), *left_out, *(["scores are margins: labels are (score, 0)"] * margins)]
    notes += _oddities(pairs, any(name in first for name in ("label", "labels")) and not margins)
    tags = {name: [row_of[number].get(name) for number in kept] for name in others}
    pairs = replace(pairs, tags=tags, notes=tuple(notes))
    return join_queries(pairs) if by_query and not margins else pairs


def _usable_groups(groups: Groups, query: str, bad: MalformedLines) -> tuple[Pairs, list[int]]:
    """The groups as one table, and the numbers of their rows; a row that cannot be used is malformed."""
    labelled = any("labels" in group for _, group in groups)
    widths: list[int] = []

    def alone(group: dict[str, Any]) -> dict[str, Any]:
        if labelled and "labels" not in group:
            raise DataError("there is no label, and other rows have one")
        try:
            labels = _as_groups([group], query).labels
        except DataError as error:
            raise DataError(str(error).removeprefix("row 0").lstrip(",: ")) from None
        widths.append(0 if labels is None else labels[0].size)
        if widths[-1] != widths[0]:
            raise DataError(f"{widths[-1]} labels a pair, in the rows before {widths[0]}")
        return group

    kept = groups
    try:
        pairs = _as_groups([group for _, group in groups], query)
    except DataError:  # which rows is it: one by one takes longer
        kept = list(usable(groups, alone, bad))
        pairs = _as_groups([group for _, group in kept], query)
    if not kept:
        raise DataError("; ".join([f"{bad.path}: no {bad.unit} can be used", *bad.notes()]))
    return pairs, [number for number, _ in kept]


def _as_groups(groups: list[dict[str, Any]], query: str) -> Pairs:
    pairs = as_pairs(groups)
    blank = next((row for row, start in enumerate(pairs.offsets[:-1]) if not pairs.left[start].strip()), None)
    if blank is not None:
        raise DataError(f"row {blank}, column {query!r}: the query is blank; leave the row out, or fill it in")
    return pairs


def triples_as_pairs(
    triples: Iterable[tuple[str, str, str]], limit: int | None = None, *, by_query: bool = True
) -> Pairs:
    """Groups of (query, positive, negative) texts, labels 1 and 0, from the first `limit` triples of `iter_triples`.

    `by_query` joins the triples of a query into one group that has each text once. A warning counts the triples whose
    negative is their positive.
    """
    if limit is not None:
        check_depth(limit, "limit")
    rows = list(itertools.islice(triples, limit))
    if not rows:
        raise DataError("there are no triples")
    odd = next((row for row, triple in enumerate(rows) if len(triple) != 3), None)
    if odd is not None:
        raise DataError(f"row {odd}: expected (query, positive, negative), got {len(rows[odd])} texts")
    same = [row for row, (_, good, bad) in enumerate(rows) if good == bad]
    if same:
        warnings.warn(
            f"triples whose negative is their positive: {len(same):,} of {len(rows):,} (the first is row {same[0]}); "
            "they teach nothing, leave them out",
            stacklevel=2,
        )
    pairs = as_pairs([{"query": query, "positive": good, "negative": bad} for query, good, bad in rows])
    pairs = replace(pairs, notes=(f"triples: {len(rows):,}",))
    return join_queries(pairs) if by_query else pairs


def join_queries(pairs: Pairs) -> Pairs:
    """Groups of the same query as one, in the order of the first; each text once, at the highest of its labels.

    Tags keep the value that all groups of a query share; columns in which they differ are left out, as the notes say.
    """
    if pairs.labels is not None and pairs.labels.ndim > 1:
        raise DataError(f"joining needs one label a pair, got {pairs.labels.shape[1]}; use by_query=False")
    members: dict[str, list[int]] = {}
    for group in range(len(pairs)):
        members.setdefault(pairs.left[pairs.offsets[group]], []).append(group)
    kept: list[list[int]] = []  # rows of each query
    clashes = 0
    for groups in members.values():
        best: dict[str, int] = {}
        differ = set()
        for row in itertools.chain.from_iterable(range(pairs.offsets[g], pairs.offsets[g + 1]) for g in groups):
            old = best.setdefault(pairs.right[row], row)
            if pairs.labels is not None and pairs.labels[old] != pairs.labels[row]:
                differ.add(pairs.right[row])
                best[pairs.right[row]] = max(old, row, key=lambda r: pairs.labels[r])  # type: ignore[index]
        kept.append(list(best.values()))
        clashes += len(differ)
    return _joined(pairs, list(members.values()), kept, clashes)


def _joined(pairs: Pairs, members: list[list[int]], kept: list[list[int]], clashes: int) -> Pairs:
    rows = [row for own in kept for row in own]
    repeated = pairs.num_pairs - len(rows)
    shared = {
        name: [column[groups[0]] for groups in members]
        for name, column in pairs.tags.items()
        if all(column[group] == column[groups[0]] for groups in members for group in groups)
    }
    notes = list(pairs.notes)
    if len(members) < len(pairs):
        notes.append(f"{len(pairs):,} rows joined to {len(members):,} queries")
    if repeated:
        notes.append(f"documents that a query had more than once left out: {repeated:,}")
    if clashes:
        notes.append(f"documents that had several labels for a query, the highest kept: {clashes:,}")
    if len(shared) < len(pairs.tags):
        notes.append(f"tags that differ within a query left out: {', '.join(n for n in pairs.tags if n not in shared)}")
    return Pairs(
        [pairs.left[row] for row in rows],
        [pairs.right[row] for row in rows],
        None if pairs.labels is None else pairs.labels[rows],
        np.concatenate([[0], np.cumsum([len(own) for own in kept])]).astype(np.int64),
        shared,
        tuple(notes),
    )


def _oddities(pairs: Pairs, graded: bool) -> list[str]:
    """What of the groups is odd, in words."""
    blank = [row for row, text in enumerate(pairs.right) if not text.strip()]
    notes = [f"blank documents: {len(blank):,} (the first of query {pairs.left[blank[0]][:40]!r})"] if blank else []
    below = int((pairs.labels < 0).sum()) if graded and pairs.labels is not None else 0
    return [*notes, f"labels below 0: {below:,}"] if below else notes


def _label(row: Mapping[str, Any]) -> Any:
    """The target of a row, None where it has none; a number that is a text (in a TSV file) as a number."""
    value = next((row[name] for name in TARGET_COLUMNS if name in row), None)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value  # as_pairs says what is wrong with it


def _is_margin(row: Mapping[str, Any], inputs: list[str]) -> bool:
    """Whether a row is a query, two documents, and one number: how much better the first is than the second."""
    return len(inputs) == 3 and all(isinstance(row.get(name), str) for name in inputs) and _one_number(_label(row))


def _one_number(label: Any) -> bool:
    return label is not None and not isinstance(label, str) and np.ndim(label) == 0


def _group(row: Mapping[str, Any], inputs: list[str], depth: int | None, margin: bool) -> dict[str, Any]:
    """A row as `as_pairs` takes it: the inputs, lists cut at the depth, and the labels."""
    group = {name: _cut(row.get(name), depth) for name in inputs}
    label = [_label(row), 0.0] if margin else _cut(_label(row), depth)
    return group if label is None else {**group, "labels": label}


def _cut(value: Any, depth: int | None) -> Any:
    return value[:depth] if isinstance(value, (list, tuple)) else value


class Found(NamedTuple):
    """Rows, where they are from in words, and those among them that cannot be used."""

    origin: str
    rows: Numbered
    bad: MalformedLines


def find_rows(
    source: Any, split: str, config: str | None, limit: int | None, malformed: str, encoding: str = "utf-8"
) -> Found:
    """The first rows of what `read_candidates` reads; raises `DataError` where there are none."""
    layout = Layout("candidate", (), FILES, {str(source): config} if config else {})
    origin, found = find_source(source, layout, SPLITS.get(split, (split,)))
    if isinstance(found, Path):
        bad = MalformedLines(found, malformed, unit="row" if is_parquet(found) else "line")
        _, rows = rows_of_file(found, partial(read_table, encoding=encoding, wrong=bad.add))
    else:
        bad, rows = MalformedLines(origin, malformed, unit="row"), enumerate(found)
    kept = list(usable(itertools.islice(rows, limit), _with_names, bad))
    if not kept:
        raise DataError("; ".join([f"{origin}: no rows for split {split!r}", *bad.notes()]))
    return Found(origin, kept, bad)


def _with_names(row: Any) -> Row:
    if not isinstance(row, Mapping):
        raise DataError(f"expected named columns, got {type(row).__name__} {str(row)[:40]}")
    return row


def selected(rows: Numbered, bad: MalformedLines) -> tuple[Numbered, list[str]]:
    """Rows of microsoft/ms_marco as lists with labels, but those without a selected passage; what was left out."""
    listed = list(usable(rows, _listed_passages, bad))
    kept = [(number, row) for number, row in listed if any(row["labels"])]
    without = [str(row.get("query_id", f"{bad.unit} {number}")) for number, row in listed if not any(row["labels"])]
    if not kept:
        raise DataError("; ".join([f"none of the {len(rows):,} queries has a selected passage", *bad.notes()]))
    first = f" ({', '.join(without[:3])}{', ...' if without[3:] else ''})"
    return kept, [f"queries without a selected passage left out: {len(without):,}{first}"] if without else []


def _listed_passages(row: Row) -> Row:
    passages = row.get("passages")
    if isinstance(passages, (list, tuple)) and all(isinstance(passage, Mapping) for passage in passages):
        passages = {key: [passage.get(key) for passage in passages] for key in ("passage_text", "is_selected")}
    if not isinstance(passages, Mapping):
        raise DataError(f"column 'passages': expected passage_text and is_selected, got {str(passages)[:40]}")
    texts, labels = (list(() if (own := passages.get(key)) is None else own) for key in ("passage_text", "is_selected"))
    if len(texts) != len(labels):
        raise DataError(f"column 'passages': {len(texts)} passage_text, {len(labels)} is_selected")
    ids = {key: row[key] for key in ("query_id", "query_type") if key in row}
    return {**ids, "query": row.get("query"), "documents": texts, "labels": labels}


def first_with_inputs(rows: Numbered, columns: Sequence[str] | None, origin: str) -> tuple[Row, list[str]]:
    """The first row that has a query and documents, and the columns that they are in; `DataError` where none has."""
    for _, row in rows:
        try:
            return row, _inputs(row, columns, origin)
        except DataError:
            continue
    return rows[0][1], _inputs(rows[0][1], columns, origin)  # raises, saying what is wrong with the first


def _inputs(row: Mapping[str, Any], columns: Sequence[str] | None, origin: str) -> list[str]:
    """The columns of the query and of its documents: those given, else texts, else ids in their place."""
    if columns is not None:
        missing = [name for name in columns if name not in row]
        if isinstance(columns, str) or len(columns) < 2 or missing:
            raise DataError(f"{origin}: columns is {columns!r}; expected two or more of {', '.join(row)}")
        return list(columns)
    others = [name for name in row if name not in TARGET_COLUMNS]
    texts = [name for name in others if not ID_COLUMN.fullmatch(name)]
    if len(texts) < 2:  # ids stand for texts
        texts = [name for name in others if name in texts or not (texts and QUERY_ID.fullmatch(name))]
    if len(texts) < 2:
        raise DataError(f"{origin}: no query with documents in the columns {', '.join(row)}; name them with columns=")
    return texts


def with_texts(
    rows: Numbered,
    inputs: list[str],
    beside: Sequence[str],
    queries: Texts | None,
    documents: Texts | None,
    bad: MalformedLines,
) -> Numbered:
    """The rows with texts in the place of ids, in the inputs that are named as ids.

    Where none of the inputs and of the columns `beside` them is named so, also in inputs of whole numbers, or with
    ids of the texts given. Raises `DataError` for ids without texts, and for texts given that no input has ids of.
    """
    lookups: dict[str, dict[str, str]] = {}
    named = any(ID_COLUMN.fullmatch(name) for name in (*inputs, *beside))
    for kind, texts, names in (("queries", queries, inputs[:1]), ("documents", documents, inputs[1:])):
        whole = [] if named else [name for name in names if _whole_numbers(name, rows)]
        ids = names if whole == names else [name for name in names if ID_COLUMN.fullmatch(name)]
        if texts is not None:
            # a number among texts is no id of theirs (a rank, say), and is left for an error
            perhaps = [] if ids or named else [name for name in names if name not in whole]
            lookups |= _looked_up(rows, ids, perhaps, texts, kind, bad)
            if not lookups.keys() & set(names):
                raise DataError(_unused(bad.path, kind, names, next(_cells(names[0], rows), None)))
        elif ids:
            raise DataError(_without_texts(ids, kind, not named))
    if not lookups:
        return rows

    def replaced(row: Row) -> Row:
        return {**row, **{name: _replaced(row.get(name), texts, name) for name, texts in lookups.items()}}

    return list(usable(rows, replaced, bad))


def _looked_up(
    rows: Numbered, ids: list[str], perhaps: list[str], texts: Texts, kind: str, bad: MalformedLines
) -> dict[str, dict[str, str]]:
    """The texts by id of each column of ids, or of the columns that `perhaps` hold some; empty where none is found."""
    names = ids or perhaps
    wanted = dict.fromkeys(str(key) for name in names for key in _cells(name, rows))
    found = _texts(texts, wanted, kind)
    if not ids and not found:
        return {}
    absent = [key for key in wanted if key not in found]
    if absent and bad.mode == "error":
        first = f"{', '.join(map(repr, absent[:3]))}{', ...' if absent[3:] else ''}"
        raise DataError(f"{len(absent):,} of {len(wanted):,} ids are not among the {kind} given: {first}")
    return dict.fromkeys(names, found)


def _cells(name: str, rows: Numbered) -> Iterator[Any]:
    """The cells of a column, and what is in those that are lists; without those that are missing."""
    return (cell for _, row in rows for cell in _listed(row.get(name)) if cell is not None)


def _whole_numbers(name: str, rows: Numbered) -> bool:
    """Whether a column holds whole numbers and nothing else."""
    cells = _cells(name, rows)
    return isinstance(next(cells, None), Integral) and all(isinstance(cell, Integral) for cell in cells)


def _without_texts(names: list[str], kind: str, numbers: bool) -> str:
    what, texts = ("whole numbers", "; if they are texts, use str() on them") if numbers else ("ids", "")
    return f"the columns {', '.join(names)} hold {what}; give the texts as {kind}={{id: text}}{texts}"


def _unused(origin: Any, kind: str, names: list[str], first: Any) -> str:
    return (
        f"{origin}: {kind}= is given, but nothing in the columns {', '.join(names)} is taken for an id of it "
        f"(the first is {str(first)[:40]!r}); if they hold the texts, leave {kind}= out; if ids, give their texts, "
        "and where other columns are named as ids, name them so too (query_id, positive_id, negative_id_1, ...)"
    )


def _texts(texts: Any, wanted: Mapping[str, Any], kind: str) -> dict[str, str]:
    """The wanted texts that are there, by id (7 is "7"), from a mapping or rows of id and text."""
    if isinstance(texts, Mapping):
        rows: Iterable[Any] = ((key, texts[key]) for key in texts if str(key) in wanted)
    else:
        rows = (tuple(row.values() if isinstance(row, Mapping) else row)[:2] for row in texts)
    found: dict[str, str] = {}
    for key, text in rows:
        if str(key) in wanted and found.setdefault(str(key), text) != text:
            raise DataError(f"the id {str(key)!r} is there a second time, with another text, among the {kind} given")
    return found


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _replaced(value: Any, texts: Mapping[str, str], name: str) -> Any:
    for key in _listed(value):
        if key is None or str(key) not in texts:
            raise DataError(f"column {name!r}: " + ("the id is missing" if key is None else f"no text of id {key!r}"))
    return [texts[str(key)] for key in value] if isinstance(value, (list, tuple)) else texts[str(value)]


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
