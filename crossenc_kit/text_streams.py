"""Texts with ids, triples and candidates from files of any size: one row at a time, in memory that stays flat.

Nothing is quoted in the tab-separated files: a `"` is a character of the text. Files may be gzipped. A line that
cannot be used, or is not in the encoding, is an error naming file and line; `malformed="count"` leaves it out, and a
warning at the end of the file counts such lines and names the first. A file without lines is a `DataError`.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Collection as Ids
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from crossenc_kit.malformed import MalformedLines, usable
from crossenc_kit.pairs import DataError, check_text
from crossenc_kit.tables import first_usable_line, lines_of

ID_NAMES = ("_id", "id", "docid", "doc_id", "pid", "passage_id", "qid", "query_id")
TEXT_NAMES = ("text", "contents", "passage", "query")
Row = TypeVar("Row")


class TextRow(NamedTuple):
    """A document or a query: its id, its text (a title in front), and its other columns."""

    id: str
    text: str
    others: dict[str, Any]


class Candidate(NamedTuple):
    """A line of MS MARCO's top1000 files: a query and a passage that the first stage found for it, in no order."""

    query_id: str
    document_id: str
    query: str
    document: str


def iter_documents(
    path: str | os.PathLike, *, malformed: str = "error", encoding: str = "utf-8"
) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of a corpus or of queries.

    The file is `id <tab> text` (MS MARCO's collection.tsv, queries.*.tsv) or JSON Lines (BEIR's corpus.jsonl): an `_id`
    (or id, docid, pid, qid, ...), a `text` (or contents, passage, query), and perhaps a `title`, which is put in front
    with a space. Malformed: a line without both, an empty id or text. Ids that are there twice are not seen: that would
    take memory; `read_texts` sees them.
    """
    bad = MalformedLines(path, malformed)
    return _warning((row[:2] for _, row in text_rows(path, bad, encoding)), bad)


def iter_triples(
    path: str | os.PathLike,
    queries: Mapping[str, str] | None = None,
    documents: Mapping[str, str] | None = None,
    *,
    malformed: str = "error",
    encoding: str = "utf-8",
) -> Iterator[tuple[str, str, str]]:
    """Yield (query, positive, negative) of a tab-separated file, MS MARCO's triples.train.small.tsv or qidpidtriples.*.

    The three are as they stand: texts, or ids. `queries` and `documents`, id to text, put texts in the place of ids;
    an id that they have not is malformed, as is a line that has not three cells or an empty one.
    """
    bad = MalformedLines(path, malformed)

    def parse(line: str) -> tuple[str, str, str]:
        query, positive, negative = _cells(line, ("query", "positive", "negative"))
        if queries is not None:
            query = _lookup(queries, query, "query")
        if documents is not None:
            positive, negative = (_lookup(documents, name, "document") for name in (positive, negative))
        return query, positive, negative

    return _warning((row for _, row in usable(_some_lines(path, bad, encoding), parse, bad)), bad)


def iter_top1000(path: str | os.PathLike, *, malformed: str = "error", encoding: str = "utf-8") -> Iterator[Candidate]:
    """Yield the `Candidate`s of a tab-separated file `query id, passage id, query, passage`, MS MARCO's top1000.*.

    The lines of a query need not stand together. Malformed: a line that has not four cells, or an empty one.
    """
    bad = MalformedLines(path, malformed)

    def parse(line: str) -> Candidate:
        return Candidate(*_cells(line, ("query id", "passage id", "query", "passage")))

    return _warning((row for _, row in usable(_some_lines(path, bad, encoding), parse, bad)), bad)


def read_texts(
    path: str | os.PathLike,
    ids: Ids[str] | None = None,
    *,
    malformed: str = "error",
    encoding: str = "utf-8",
) -> dict[str, str]:
    """Texts by id of a file as `iter_documents` reads it; with `ids` only those, and only those are held in memory.

    An id that is there a second time is malformed. Ids that the file has not are not in the answer.
    """
    bad = MalformedLines(path, malformed)
    texts = {name: row.text for name, row in rows_by_id(path, bad, ids, encoding).items()}
    bad.warn(stacklevel=2)
    return texts


def rows_by_id(
    path: str | os.PathLike, bad: MalformedLines, ids: Ids[str] | None = None, encoding: str = "utf-8"
) -> dict[str, TextRow]:
    """The rows of `text_rows` by id, of the wanted ids if given; an id that is there a second time is malformed."""
    wanted = ids if ids is None else frozenset(ids)
    found: dict[str, TextRow] = {}
    for number, row in text_rows(path, bad, encoding):
        if wanted is not None and row.id not in wanted:
            continue
        if row.id in found:
            bad.add(number, f"the id {row.id!r} is there a second time")
        else:
            found[row.id] = row
    return found


def text_rows(path: str | os.PathLike, bad: MalformedLines, encoding: str = "utf-8") -> Iterator[tuple[int, TextRow]]:
    """Yield (line number, row) of a corpus or of queries."""
    first = first_usable_line(path, encoding)
    lines = _some_lines(path, bad, encoding)
    if first.lstrip().startswith("{"):
        return usable(lines, _json_row, bad)
    names = [name.lower() for name in first.split("\t")]
    has_header = len(names) == 2 and names[0] in ID_NAMES and names[1] in TEXT_NAMES
    return usable((line for line in lines if not (has_header and line[1] == first)), _tsv_row, bad)


def _some_lines(path: str | os.PathLike, bad: MalformedLines, encoding: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that has some."""
    lines = lines_of(path, encoding, bad.add)
    first = next((row for row in lines if row[1]), None)
    if first is None and not bad.count:
        raise DataError(f"{path}: the file has no lines")
    return itertools.chain([first] if first else [], lines)


def _tsv_row(line: str) -> TextRow:
    name, text = _cells(line, ("id", "text"))
    return TextRow(name, text, {})


def _json_row(line: str) -> TextRow:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON ({error}): {line[:60]!r}") from None
    if not isinstance(row, dict):
        raise DataError(f"expected a JSON object, got {line[:60]!r}")
    key, column = (next((n for n in names if n in row), None) for names in (ID_NAMES, TEXT_NAMES))
    if key is None or column is None:
        wanted = f"an id ({', '.join(ID_NAMES)}) and a text ({', '.join(TEXT_NAMES)})"
        raise DataError(f"expected {wanted}, got the columns {', '.join(row)[:100]}")
    name = str(row[key]) if type(row[key]) is int else row[key]
    if not isinstance(name, str) or not name:
        raise DataError(f"the id is {name!r}; expected a string")
    title = check_text(row.get("title") or "", f"id {name!r}, title").strip()
    text = (
        f"{title} {check_text(row[column], f'id {name!r}, text')}" if title else check_text(row[column], f"id {name!r}")
    )
    if not text.strip():
        raise DataError(f"the text of id {name!r} is empty")
    return TextRow(name, text, {n: v for n, v in row.items() if n not in (key, column, "title")})


def _cells(line: str, names: tuple[str, ...]) -> list[str]:
    cells = line.split("\t")
    if len(cells) != len(names):
        raise DataError(f"{len(cells)} columns, expected {len(names)} ({', '.join(names)}): {line[:60]!r}")
    for name, cell in zip(names, cells, strict=True):
        if not cell or cell.isspace():
            raise DataError(f"the {name} is empty: {line[:60]!r}")
    return cells


def _lookup(texts: Mapping[str, str], name: str, kind: str) -> str:
    if name not in texts:
        raise DataError(f"no {kind} {name[:60]!r} among the {len(texts):,} texts given")
    return texts[name]


def _warning(rows: Iterator[Row], bad: MalformedLines) -> Iterator[Row]:
    """The rows, and at their end a warning of what was left out."""
    try:
        yield from rows
    finally:
        bad.warn(stacklevel=2)
