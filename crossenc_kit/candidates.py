"""Rows of queries and candidate documents become groups, one a query: MS MARCO and its kin as they are on the hub."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.pairs import TARGET_COLUMNS, DataError, Pairs, as_pairs, check_text
from crossenc_kit.searches import check_depth
from crossenc_kit.sources import SPLITS, Layout, find_source
from crossenc_kit.tables import read_table

ID_COLUMN = re.compile(r"(.*[_-])?(ids?|idx|index|urls?)|[qp]id", re.IGNORECASE)
QUERY_ID = re.compile(r"(query|anchor|question|q)[_-]?ids?", re.IGNORECASE)
Texts = Mapping[str, str] | Iterable[Any]


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

    `source`: a data set or a dictionary of them, rows, a file with a header or JSON Lines, the name "org/name" of a hub
    data set, with its `config`. `columns` names the inputs where there are others: the query's first. `depth`: only the
    first candidates of a list, `limit`: only the first rows. Columns of ids and urls beside texts become tags.

    `by_query` joins rows that have one query into a group that has each text once, at its highest label (not where
    labels are margins). The notes count what was left out and joined, blank documents, and `label` or `labels`
    below 0. Raises `DataError` naming row and column, also for a blank query, and for an id that has two texts.
    """
    for name, value in (("depth", depth), ("limit", limit)):
        if value is not None:
            check_depth(value, name)
    if source is None:
        raise ValueError("read_candidates needs a source: a data set, rows, a file, or a name on the hub")
    origin, rows = _rows(source, split, config, limit)
    if not rows:
        raise DataError(f"{origin}: no rows for split {split!r}")
    left_out: list[str] = []
    if "passages" in rows[0]:
        rows, left_out = _selected(rows)
        columns = ("query", "documents")
    inputs = _inputs(rows[0], columns, origin)
    tags = {name: [row.get(name) for row in rows] for name in rows[0] if name not in (*inputs, *TARGET_COLUMNS)}
    rows = _with_texts(rows, inputs, queries, documents)
    margins = all(_is_margin(row, inputs) for row in rows)
    pairs = as_pairs([_group(row, inputs, depth, margins) for row in rows])
    notes = [f"from {origin}", *left_out, *(["scores are margins: labels are (score, 0)"] if margins else [])]
    notes += _oddities(pairs, inputs[0], any(name in rows[0] for name in ("label", "labels")) and not margins)
    pairs = replace(pairs, tags=tags, notes=tuple(notes))
    return join_queries(pairs) if by_query and not margins else pairs


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


def _oddities(pairs: Pairs, query: str, graded: bool) -> list[str]:
    """What of the groups is odd, in words; raises `DataError` for a blank query."""
    for group, start in enumerate(pairs.offsets[:-1]):
        if not pairs.left[start].strip():
            raise DataError(f"row {group}, column {query!r}: the query is blank; leave the row out, or fill it in")
    blank = [row for row, text in enumerate(pairs.right) if not text.strip()]
    notes = [f"blank documents: {len(blank):,} (the first of query {pairs.left[blank[0]][:40]!r})"] if blank else []
    below = int((pairs.labels < 0).sum()) if graded and pairs.labels is not None else 0
    return [*notes, f"labels below 0: {below:,}"] if below else notes


def _rows(source: Any, split: str, config: str | None, limit: int | None) -> tuple[str, list[dict[str, Any]]]:
    """Where the rows are from, in words, and the first of them."""
    layout = Layout("candidate", (), ("{}.jsonl", "{}.tsv"), {str(source): config} if config else {})
    origin, found = find_source(source, layout, SPLITS.get(split, (split,)))
    rows = list(itertools.islice((row for _, row in read_table(found)) if isinstance(found, Path) else found, limit))
    odd = next((number for number, row in enumerate(rows) if not isinstance(row, Mapping)), None)
    if odd is not None:
        raise DataError(f"row {odd}: expected named columns, got {type(rows[odd]).__name__} {str(rows[odd])[:40]}")
    return origin, rows


def _selected(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of microsoft/ms_marco as lists with labels, but those without a selected passage; what was left out."""
    kept, without = [], []
    for number, row in enumerate(rows):
        passages = row["passages"]
        if not isinstance(passages, Mapping):  # a list of dicts in some versions of datasets
            passages = {key: [passage[key] for passage in passages] for key in ("passage_text", "is_selected")}
        texts, labels = (list(passages.get(key, ())) for key in ("passage_text", "is_selected"))
        if len(texts) != len(labels):
            raise DataError(f"row {number}, column 'passages': {len(texts)} passage_text, {len(labels)} is_selected")
        if any(labels):
            query = check_text(row.get("query"), f"row {number}, column 'query'")
            ids = {key: row[key] for key in ("query_id", "query_type") if key in row}
            kept.append({**ids, "query": query, "documents": texts, "labels": labels})
        else:
            without.append(str(row.get("query_id", f"row {number}")))
    if not kept:
        raise DataError(f"none of the {len(rows):,} queries has a selected passage")
    first = f" ({', '.join(without[:3])}{', ...' if without[3:] else ''})"
    return kept, [f"queries without a selected passage left out: {len(without):,}{first}"] if without else []


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


def _with_texts(
    rows: Sequence[Mapping[str, Any]], inputs: list[str], queries: Texts | None, documents: Texts | None
) -> list[dict[str, Any]]:
    """The rows with texts in the place of ids, in columns that are named as ids."""
    lookups: dict[str, dict[str, str]] = {}
    for kind, texts, names in (("queries", queries, inputs[:1]), ("documents", documents, inputs[1:])):
        names = [name for name in names if ID_COLUMN.fullmatch(name)]
        if names and texts is None:
            raise DataError(f"the columns {', '.join(names)} hold ids; give the texts as {kind}={{id: text}}")
        if names:
            wanted = dict.fromkeys(str(key) for row in rows for name in names for key in _listed(row.get(name)))
            lookups |= dict.fromkeys(names, _texts(texts, wanted, kind))
    if not lookups:
        return [dict(row) for row in rows]
    return [{**row, **{name: _replaced(row.get(name), texts) for name, texts in lookups.items()}} for row in rows]


def _texts(texts: Any, wanted: Mapping[str, Any], kind: str) -> dict[str, str]:
    """The wanted texts by id (7 is "7"), from a mapping or rows of id and text; `DataError` where some are absent."""
    if isinstance(texts, Mapping):
        rows: Iterable[Any] = ((key, texts[key]) for key in texts if str(key) in wanted)
    else:
        rows = (tuple(row.values() if isinstance(row, Mapping) else row)[:2] for row in texts)
    found: dict[str, str] = {}
    for key, text in rows:
        if str(key) in wanted and found.setdefault(str(key), text) != text:
            raise DataError(f"the id {str(key)!r} is there a second time, with another text, among the {kind} given")
    absent = [key for key in wanted if key not in found]
    if absent:
        first = f"{', '.join(map(repr, absent[:3]))}{', ...' if absent[3:] else ''}"
        raise DataError(f"{len(absent):,} of {len(wanted):,} ids are not among the {kind} given: {first}")
    return found


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _replaced(value: Any, texts: Mapping[str, str]) -> Any:
    return [texts[str(key)] for key in value] if isinstance(value, (list, tuple)) else texts[str(value)]


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
