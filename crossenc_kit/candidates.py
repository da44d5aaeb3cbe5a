"""Rows of queries and candidate documents become groups, one a query: MS MARCO and its kin as they are on the hub."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crossenc_kit.candidate_rows import Texts, find_rows, first_with_inputs, selected, with_texts
from crossenc_kit.malformed import MalformedLines, usable
from crossenc_kit.pairs import TARGET_COLUMNS, DataError, Pairs, as_pairs
from crossenc_kit.searches import check_depth

Groups = list[tuple[int, dict[str, Any]]]  # a row's number, and its inputs and labels


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
