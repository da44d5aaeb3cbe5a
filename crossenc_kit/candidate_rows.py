"""Rows of queries and candidate documents: found, read, and with texts in the place of ids."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

from crossenc_kit.malformed import MalformedLines, usable
from crossenc_kit.pairs import TARGET_COLUMNS, DataError
from crossenc_kit.parquet import is_parquet, rows_of_file
from crossenc_kit.sources import SPLITS, Layout, find_source
from crossenc_kit.tables import read_table

ID_COLUMN = re.compile(r"(.*[_-])?(ids?|idx|index|urls?)([_-]\d+)?|[qp]id", re.IGNORECASE)  # also negative_id_1
QUERY_ID = re.compile(r"(query|anchor|question|q)[_-]?ids?", re.IGNORECASE)
FILES = ("{}.jsonl", "{}.tsv", "{}.parquet")
Texts = Mapping[str, str] | Iterable[Any]
Row = Mapping[str, Any]
Numbered = list[tuple[int, Row]]  # the line of a file, else the row from 0, and the row


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
