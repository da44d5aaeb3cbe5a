"""Rows of a query and its candidate documents become groups: MS MARCO and its kin as on the hub.

A row is, in any of the forms of a file, a data set or a stream:

- `query`, `passages` with `passage_text` and `is_selected` (microsoft/ms_marco): labels 1 and 0;
  queries without a selected passage are left out
- `query`, `positive`, one or more `negative`s, or such a tuple (`iter_triples`): labels 1 and 0
- the same with margins, the positive's score minus each negative's: labels count from the first
  negative, which is 0, so that a single margin m gives (m, 0). With a score for each: these
- `query`, `passage`, and `score` or `label`
- `query`, a list of documents, and `labels` or `scores`
- any of these with ids in the place of texts (sentence-transformers/msmarco)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.documents import check_depth
from crossenc_kit.data.pairs import (
    TARGET_COLUMNS,
    Pairs,
    check_label,
    label_array,
    labels_of,
    offsets_of,
    texts_of_row,
)
from crossenc_kit.data.sources import SPLITS, Layout, find_source
from crossenc_kit.data.tables import MalformedLines, is_parquet, read_parquet, read_table, usable
from crossenc_kit.errors import DataError, some

# query_id, negative_id_1, url, ...
ID_COLUMN = re.compile(r"(.*[_-])?(ids?|idx|index|urls?)([_-]\d+)?|[qp]id", re.IGNORECASE)
FILES = ("{}.jsonl", "{}.tsv", "{}.parquet")
TRIPLE = ("query", "positive", "negative")
Texts = Mapping[str, str] | Iterable[Any]
Row = Mapping[str, Any]
Numbered = list[tuple[int, Row]]  # the line of a file, else the row from 0, and the row


class Group(NamedTuple):
    """A query, its documents, and their labels."""

    query: str
    documents: list[str]
    labels: list[Any]


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
    """Read queries with candidates and labels, one group per query; the module lists the forms.

    source: rows, a data set or a dictionary of them, a file, or "org/name" on the hub (`config`)
    columns: the inputs, the query's first (default: all but the target; ids beside texts are tags)
    queries, documents: `{id: text}`, or rows of id and text, if the inputs hold ids
    depth, limit: keep only the first candidates of a row, only the first rows
    by_query: join rows of a query, each text once, at its highest label (not if labels are margins)
    malformed: "count" leaves out what cannot be used, and a note counts it

    Raises `DataError` naming file, line (or row) and column of what cannot be used.
    """
    if depth is not None:
        check_depth(depth, "depth")
    origin, rows, bad = _find_rows(source, split, config, limit, malformed, encoding)
    notes = [f"from {origin}"]
    if any("passages" in row for _, row in rows):
        rows, left_out = _selected(rows, bad)
        columns = ("query", "documents")
        notes += left_out
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    inputs = _inputs(names, columns, origin)
    texts = _texts_by_column(rows, inputs, queries, documents)
    margins = any(_is_margin(row, inputs) for _, row in rows)
    groups = list(usable(rows, _parser(rows, inputs, texts, depth), bad))
    if not groups:
        raise bad.nothing_left()
    row_of = dict(rows)
    others = [name for name in names if name not in (*inputs, *TARGET_COLUMNS)]
    tags = {name: [row_of[number].get(name) for number, _ in groups] for name in others}
    notes[1:1] = bad.notes()
    notes += ["scores are margins: labels count from the first negative, which is 0"] * margins
    pairs = _pairs([group for _, group in groups], tags, notes, graded=not margins and {"label", "labels"} & {*names})
    return join_queries(pairs) if by_query and not margins else pairs


def _find_rows(
    source: Any, split: str, config: str | None, limit: int | None, malformed: str, encoding: str
) -> tuple[str, Numbered, MalformedLines]:
    """Find the first rows of a source: where they come from, the rows, and what cannot be used."""
    layout = Layout("candidate", (), FILES, {str(source): config} if config else {})
    origin, found = find_source(source, layout, SPLITS.get(split, (split,)))
    rows: Iterable[tuple[int, Any]]
    if isinstance(found, Path):
        stored = is_parquet(found)
        bad = MalformedLines(found, malformed, unit="row" if stored else "line")
        rows = read_parquet(found) if stored else read_table(found, encoding, bad)
    else:
        bad, rows = MalformedLines(origin, malformed, unit="row"), enumerate(found)
    kept = list(usable(itertools.islice(rows, limit), _named, bad))
    if not kept:
        raise DataError("; ".join([f"{origin}: no rows for split {split!r}", *bad.notes()]))
    return origin, kept, bad


def _named(row: Any) -> Row:
    """Return a row with named columns; a tuple of three is a triple."""
    if isinstance(row, tuple) and len(row) == 3:
        return dict(zip(TRIPLE, row, strict=True))
    if not isinstance(row, Mapping):
        raise DataError(f"expected named columns, got {type(row).__name__} {str(row)[:40]}")
    return row


def _selected(rows: Numbered, bad: MalformedLines) -> tuple[Numbered, list[str]]:
    """Read rows of microsoft/ms_marco; say which have no selected passage and are left out."""
    listed = list(usable(rows, _listed_passages, bad))
    kept = [(number, row) for number, row in listed if any(row["labels"])]
    without = [str(row.get("query_id", f"{bad.unit} {number}")) for number, row in listed if not any(row["labels"])]
    if not kept:
        raise DataError("; ".join([f"none of the {len(rows):,} queries has a selected passage", *bad.notes()]))
    return kept, [f"queries without a selected passage left out: {len(without):,} ({some(without)})"] * bool(without)


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


def _inputs(names: list[str], columns: Sequence[str] | None, origin: str) -> list[str]:
    """Name the columns of query and documents: those given, else texts, else ids."""
    if columns is not None:
        if isinstance(columns, str) or len(columns) < 2 or not set(columns) <= set(names):
            raise DataError(f"{origin}: columns is {columns!r}; expected two or more of {', '.join(names)}")
        return list(columns)
    inputs = [name for name in names if name not in TARGET_COLUMNS]
    texts = [name for name in inputs if not ID_COLUMN.fullmatch(name)]
    inputs = texts if len(texts) > 1 else inputs
    if len(inputs) < 2:
        raise DataError(f"{origin}: no query with documents in the columns {', '.join(names)}; name them with columns=")
    return inputs


def _texts_by_column(
    rows: Numbered, inputs: list[str], queries: Texts | None, documents: Texts | None
) -> dict[str, dict[str, str]]:
    """Collect `{id: text}` for each input that holds ids; `DataError` for ids without texts."""
    found: dict[str, dict[str, str]] = {}
    for kind, texts, names in (("queries", queries, inputs[:1]), ("documents", documents, inputs[1:])):
        if texts is not None:
            wanted = {str(key) for _, row in rows for name in names for key in _listed(row.get(name))}
            found |= dict.fromkeys(names, _wanted_texts(texts, wanted, kind))
        elif ids := [name for name in names if ID_COLUMN.fullmatch(name)]:
            raise DataError(f"the columns {', '.join(ids)} hold ids; give the texts as {kind}={{id: text}}")
    return found


def _wanted_texts(texts: Any, wanted: set[str], kind: str) -> dict[str, str]:
    """Keep the wanted texts by id (7 is "7"), from a mapping or rows of id and text."""
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
    """Put texts in the place of ids."""
    for key in _listed(value):
        if key is None or str(key) not in texts:
            raise DataError(f"column {name!r}: " + ("the id is missing" if key is None else f"no text of id {key!r}"))
    return [texts[str(key)] for key in value] if isinstance(value, (list, tuple)) else texts[str(value)]


def _target(row: Row) -> tuple[str, Any]:
    """Return name and value of a row's target; a number given as text (in a TSV) as a number."""
    name = next((name for name in TARGET_COLUMNS if name in row), "")
    value = row.get(name)
    try:
        return name, float(value) if isinstance(value, str) else value
    except ValueError:
        return name, value  # check_label says what is wrong with it


def _is_margin(row: Row, inputs: list[str]) -> bool:
    """Tell whether a row has a positive, negatives, and one score fewer than documents."""
    label = _target(row)[1]
    if len(inputs) < 3 or label is None or isinstance(label, str):
        return False
    return np.size(label) == sum(len(_listed(row.get(name))) for name in inputs[1:]) - 1


def _parser(
    rows: Numbered, inputs: list[str], texts: Mapping[str, dict[str, str]], depth: int | None
) -> Callable[[Row], Group]:
    """Make a function that turns a row into a group, or raises `DataError`."""
    labelled = any(_target(row)[1] is not None for _, row in rows)
    width = 0  # labels per pair, known from the first row

    def parse(row: Row) -> Group:
        nonlocal width
        target, label = _target(row)
        if labelled and label is None:
            raise DataError("there is no label, and other rows have one")
        cells = {name: row.get(name) for name in inputs}
        cells |= {name: _replaced(cells[name], own, name) for name, own in texts.items()}
        query, right = texts_of_row(cells)
        if not query.strip():
            raise DataError(f"column {inputs[0]!r}: the query is blank; leave the row out, or fill it in")
        labels: list[Any] = []
        if labelled:
            checked = check_label(label, f"column {target!r}")
            checked = _from_margins(checked) if _is_margin(row, inputs) else checked
            labels = labels_of(checked, len(right), f"column {target!r}")
            own = np.size(labels[0])
            if width and own != width:
                raise DataError(f"{own} labels a pair, in the rows before {width}")
            width = own
        elif len(inputs) > 2:
            labels = [1.0] + [0.0] * (len(right) - 1)
        return Group(query, right[:depth], labels[:depth])

    return parse


def _from_margins(margins: float | list[float]) -> list[float]:
    """Turn n margins over the negatives into n + 1 labels: the first negative has 0."""
    own = np.atleast_1d(np.asarray(margins, dtype=float))
    return [*own[:1].tolist(), *(own[0] - own).tolist()]


def _pairs(groups: list[Group], tags: dict[str, list], notes: list[str], graded: Any) -> Pairs:
    labels = label_array([label for group in groups for label in group.labels])
    blank = [group.query for group in groups for text in group.documents if not text.strip()]
    if blank:
        notes.append(f"blank documents: {len(blank):,} (the first of query {blank[0][:40]!r})")
    below = int((labels < 0).sum()) if graded and labels is not None else 0
    if below:
        notes.append(f"labels below 0: {below:,}")
    return Pairs(
        [group.query for group in groups for _ in group.documents],
        [text for group in groups for text in group.documents],
        labels,
        offsets_of([len(group.documents) for group in groups]),
        tags,
        tuple(notes),
    )


def join_queries(pairs: Pairs) -> Pairs:
    """Join the groups of each query; each text stays once, at its highest label.

    Queries keep the order of their first group. A tag stays if all groups of a query agree on it.
    """
    if pairs.labels is not None and pairs.labels.ndim > 1:
        raise DataError(f"joining needs one label a pair, got {pairs.labels.shape[1]}; use by_query=False")
    members: dict[str, list[int]] = {}  # groups of each query
    for group in range(len(pairs)):
        members.setdefault(pairs.left[pairs.offsets[group]], []).append(group)
    kept: list[list[int]] = []  # rows of each query
    differ = set()  # (query, text) with several labels
    for query, groups in members.items():
        best: dict[str, int] = {}
        for row in (r for g in groups for r in range(pairs.offsets[g], pairs.offsets[g + 1])):
            old = best.setdefault(pairs.right[row], row)
            if pairs.labels is not None and pairs.labels[old] != pairs.labels[row]:
                differ.add((query, pairs.right[row]))
                best[pairs.right[row]] = old if pairs.labels[old] > pairs.labels[row] else row
        kept.append(list(best.values()))
    shared = {
        name: [column[groups[0]] for groups in members.values()]
        for name, column in pairs.tags.items()
        if all(column[group] == column[groups[0]] for groups in members.values() for group in groups)
    }
    rows = [row for own in kept for row in own]
    notes = list(pairs.notes)
    if len(members) < len(pairs):
        notes.append(f"{len(pairs):,} rows joined to {len(members):,} queries")
    if repeated := pairs.num_pairs - len(rows):
        notes.append(f"documents that a query had more than once left out: {repeated:,}")
    if differ:
        notes.append(f"documents that had several labels for a query, the highest kept: {len(differ):,}")
    if lost := [name for name in pairs.tags if name not in shared]:
        notes.append(f"tags that differ within a query left out: {', '.join(lost)}")
    return Pairs(
        [pairs.left[row] for row in rows],
        [pairs.right[row] for row in rows],
        None if pairs.labels is None else pairs.labels[rows],
        offsets_of([len(own) for own in kept]),
        shared,
        tuple(notes),
    )
