"""Folders with a search collection (BEIR's layout and MS MARCO's), and their files as streams.

Nothing is quoted in tab-separated files: a `"` is a character. Files may be gzipped. A line that
cannot be used is an error naming file and line; `malformed="count"` leaves it out, and a warning at
the end of the file counts such lines and names the first.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection as Ids
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from crossenc_kit.data.collection import UNKNOWN, Collection
from crossenc_kit.data.pairs import check_text
from crossenc_kit.data.sources import SPLITS, find_data
from crossenc_kit.data.tables import MalformedLines, first_line, json_object, lines_of, usable
from crossenc_kit.data.trec import qrels_and_notes
from crossenc_kit.errors import DataError, some

FOLDERS = ("ranking", "rerank_msmarco", "msmarco")  # of a data folder
ID_NAMES = ("_id", "id", "docid", "doc_id", "pid", "passage_id", "qid", "query_id")
TEXT_NAMES = ("text", "contents", "passage", "query")
Row = TypeVar("Row")


class Files(NamedTuple):
    """The files of a collection: names with {} for the split (each may also end in .gz), or paths."""

    documents: Any
    queries: Any
    qrels: Any


def read_ranking(
    source: str | os.PathLike | None = None,
    split: str = "train",
    *,
    document_ids: Iterable[str] | None = None,
    unknown: str = "error",
    negative_grades: str = "error",
    malformed: str = "error",
    encoding: str = "utf-8",
) -> Collection:
    """Read documents, queries and judgements of a split; the queries are those that it judges.

    Other columns of queries.jsonl become tags; the notes say what was left out.

    source: None, a folder in BEIR's or MS MARCO's layout, or one that holds it (see `find_ranking`)
    document_ids: hold only these (the candidates of a run) and the judged ones in memory
    unknown: "count" leaves out judgements of queries or documents without a text
    negative_grades: "zero" counts grades below 0 as 0

    Raises `DataError` naming file and line; `malformed="count"` leaves such lines out.
    """
    if unknown not in UNKNOWN:
        raise ValueError(f"unknown must be one of {', '.join(UNKNOWN)}; got {unknown!r}")
    folder = find_ranking(source)
    files = _files(folder, split)
    bad = {part: MalformedLines(path, malformed) for part, path in files._asdict().items()}
    qrels, changed = qrels_and_notes(files.qrels, bad["qrels"], negative_grades, encoding)
    judged = {document for grades in qrels.values() for document in grades}
    given = set(document_ids or ())
    wanted = None if document_ids is None else judged | given
    queries = rows_by_id(files.queries, bad["queries"], qrels, encoding)
    found = rows_by_id(files.documents, bad["documents"], wanted, encoding)
    documents = {name: row.text for name, row in found.items()}
    notes = [f"from {folder.name}/, {files.qrels.relative_to(folder)}"]
    if wanted is not None:
        notes.append(f"documents loaded: {len(documents):,}, those that are judged or asked for")
    absent = sorted(given - documents.keys())
    if absent and unknown == "error":
        raise DataError(
            f"{len(absent):,} of {len(given):,} document_ids are not in the corpus: {some(absent)}; "
            'correct them, or leave them out with unknown="count"'
        )
    notes += [*changed, *bad["queries"].notes(), *bad["documents"].notes()]
    if unknown == "count":
        qrels, left_out = _known(qrels, queries, documents)
        notes += left_out
    if absent:
        notes.append(f"document_ids that the corpus lacks: {len(absent):,} ({some(absent)})")
    texts = {name: row.text for name, row in queries.items()}
    return Collection(texts, documents, qrels, tuple(notes), f"{folder.name}/{split}", _tags(queries))


def find_ranking(source: str | os.PathLike | None = None) -> Path:
    """Find the folder that `read_ranking` reads; a collection's runs are in its folder runs/.

    BEIR's layout is corpus.jsonl, queries.jsonl, qrels/<split>.tsv, that of MS MARCO collection.tsv,
    queries.<split>.tsv, qrels.<split>.tsv.

    source: such a folder, one that holds it, its name in the data folder, or None (`find_data`)

    Raises `DataError` naming the places looked in.
    """
    folder = Path(source).expanduser() if source else find_data()
    if not folder.is_dir():
        within = folder if folder.is_absolute() else find_data() / folder
        if not within.is_dir():
            raise DataError(f"no folder {folder}; give a folder with {_looked()}, or one that holds such a folder")
        folder = within
    found = next((place for place in (folder, *(folder / name for name in FOLDERS)) if _layout(place)), None)
    if found is None:
        others = sorted(place.name for place in folder.iterdir() if _layout(place))
        hint = f"; there is {', '.join(others)}: give one of them" if others else ""
        raise DataError(
            f"no search collection in {folder}: looked for {_looked()} "
            f"in it and in its folders {', '.join(FOLDERS)}{hint}"
        )
    return found


def _files(folder: Path, split: str) -> Files:
    """Find the files of a split; `DataError` names those that are there if one is missing."""
    layout = _layout(folder)
    assert layout is not None  # find_ranking
    documents = _there(folder, layout.documents)
    for name in SPLITS.get(split, (split,)):
        qrels, queries = _there(folder, layout.qrels.format(name)), _there(folder, layout.queries.format(name))
        if qrels and queries and documents:
            return Files(documents, queries, qrels)
        if qrels:
            raise DataError(f"{folder}: no {layout.queries.format(name)}, which goes with {qrels.name}")
    there = sorted(str(path.relative_to(folder)) for path in folder.glob(layout.qrels.format("*") + "*"))
    looked = layout.qrels.format(split)
    raise DataError(f"{folder} has no split {split!r}: looked for {looked}; there is {', '.join(there) or 'none'}")


def _layout(folder: Path) -> Files | None:
    return next((layout for layout in LAYOUTS if _there(folder, layout.documents)), None)


def _there(folder: Path, name: str) -> Path | None:
    return next((folder / (name + end) for end in ("", ".gz") if (folder / (name + end)).is_file()), None)


def _looked() -> str:
    return " or ".join(layout.documents for layout in LAYOUTS)


def _known(
    qrels: dict[str, dict[str, Any]], queries: Ids[str], documents: Ids[str]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Keep the judgements of known queries and documents, and say what was left out."""
    strange = [query for query in qrels if query not in queries]
    without = dict.fromkeys(d for judged in qrels.values() for d in judged if d not in documents)
    known = {q: {d: g for d, g in own.items() if d in documents} for q, own in qrels.items() if q in queries}
    kinds = {"queries": strange, "documents": list(without)}
    return known, [
        f"judgements of {kind} without a text left out: {len(ids):,} {kind} ({some(ids)})"
        for kind, ids in kinds.items()
        if ids
    ]


def _tags(queries: dict[str, TextRow]) -> dict[str, dict[str, Any]]:
    """Collect the queries' other columns, without empty ones (BEIR's metadata)."""
    names = dict.fromkeys(name for row in queries.values() for name, value in row.others.items() if value)
    return {name: {q: row.others[name] for q, row in queries.items() if name in row.others} for name in names}


class TextRow(NamedTuple):
    """A document or a query: its id, its text (a title in front), and its other columns."""

    id: str
    text: str
    others: dict[str, Any]


class Candidate(NamedTuple):
    """A line of MS MARCO's top1000 files: a query and a passage that a first stage found for it."""

    query_id: str
    document_id: str
    query: str
    document: str


def iter_documents(
    path: str | os.PathLike, *, malformed: str = "error", encoding: str = "utf-8"
) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of a corpus or of queries, in flat memory.

    The file is `id <tab> text` (MS MARCO) or JSON Lines (BEIR): an `_id` (or id, docid, pid, ...),
    a `text` (or contents, passage, query), and perhaps a `title`, which is put in front.
    Ids that come twice are only seen by `read_texts`.
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
    """Yield (query, positive, negative) of MS MARCO's triples.train.small.tsv or qidpidtriples.*.

    queries, documents: `{id: text}`, if the file holds ids; an unknown id is malformed
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
    """Yield the `Candidate`s of MS MARCO's top1000.*; a query's lines may stand apart."""
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
    """Read texts by id of a file like `iter_documents`; an id that comes twice is malformed.

    ids: hold only these in memory; those that the file lacks are not in the answer
    """
    bad = MalformedLines(path, malformed)
    texts = {name: row.text for name, row in rows_by_id(path, bad, ids, encoding).items()}
    bad.warn()
    return texts


def rows_by_id(
    path: str | os.PathLike, bad: MalformedLines, ids: Ids[str] | None = None, encoding: str = "utf-8"
) -> dict[str, TextRow]:
    """Read the rows of `text_rows` by id, only those of `ids` if given."""
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
    first = first_line(path, encoding)
    lines = _some_lines(path, bad, encoding)
    if first.lstrip().startswith("{"):
        return usable(lines, _json_row, bad)
    names = [name.lower() for name in first.split("\t")]
    has_header = len(names) == 2 and names[0] in ID_NAMES and names[1] in TEXT_NAMES
    return usable((line for line in lines if not (has_header and line[1] == first)), _tsv_row, bad)


def _some_lines(path: str | os.PathLike, bad: MalformedLines, encoding: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file, which must have some."""
    lines = lines_of(path, encoding, bad)
    first = next((row for row in lines if row[1]), None)
    if first is None and not bad.count:
        raise DataError(f"{path}: the file has no lines")
    return itertools.chain([first] if first else [], lines)


def _tsv_row(line: str) -> TextRow:
    name, text = _cells(line, ("id", "text"))
    return TextRow(name, text, {})


def _json_row(line: str) -> TextRow:
    row = json_object(line)
    key, column = (next((n for n in names if n in row), None) for names in (ID_NAMES, TEXT_NAMES))
    if key is None or column is None:
        wanted = f"an id ({', '.join(ID_NAMES)}) and a text ({', '.join(TEXT_NAMES)})"
        raise DataError(f"expected {wanted}, got the columns {', '.join(row)[:100]}")
    name = str(row[key]) if type(row[key]) is int else row[key]
    if not isinstance(name, str) or not name:
        raise DataError(f"the id is {name!r}; expected a string")
    title = check_text(row.get("title") or "", f"id {name!r}, title").strip()
    text = check_text(row[column], f"id {name!r}, {column}")
    text = f"{title} {text}" if title else text
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
    """Yield the rows, and warn at their end of the lines that were left out."""
    try:
        yield from rows
    finally:
        bad.warn()


LAYOUTS = (  # BEIR, MS MARCO
    Files("corpus.jsonl", "queries.jsonl", "qrels/{}.tsv"),
    Files("collection.tsv", "queries.{}.tsv", "qrels.{}.tsv"),
)
