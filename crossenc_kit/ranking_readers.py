"""Folders with a search collection: BEIR's layout, and that of MS MARCO's passages."""

from __future__ import annotations

import os
from collections.abc import Collection as Ids
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from crossenc_kit.collection import UNKNOWN, Collection
from crossenc_kit.malformed import MalformedLines
from crossenc_kit.pairs import DataError
from crossenc_kit.run_metrics import some
from crossenc_kit.sources import SPLITS, find_data
from crossenc_kit.text_streams import TextRow, rows_by_id
from crossenc_kit.trec import qrels_and_notes

FOLDERS = ("ranking", "rerank_msmarco", "msmarco")  # of a data folder


class Layout(NamedTuple):
    """The files of a collection, with {} for the split; each may also end in .gz."""

    documents: str
    queries: str
    qrels: str


LAYOUTS = (  # BEIR, MS MARCO
    Layout("corpus.jsonl", "queries.jsonl", "qrels/{}.tsv"),
    Layout("collection.tsv", "queries.{}.tsv", "qrels.{}.tsv"),
)


def read_ranking(
    source: str | os.PathLike | None = None,
    split: str = "train",
    *,
    all_queries: bool = False,
    only_judged: bool = False,
    document_ids: Iterable[str] | None = None,
    unknown: str = "error",
    negative_grades: str = "error",
    malformed: str = "error",
    encoding: str = "utf-8",
) -> Collection:
    """Documents, queries and judgements of a split; the queries are those that the split judges.

    `source`: None (see `find_data`), a folder in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/<split>.tsv) or
    MS MARCO's (collection.tsv, queries.<split>.tsv, qrels.<split>.tsv), a folder that holds such a one named ranking,
    rerank_msmarco or msmarco, or the name of a folder of the data folder. `dev` and `validation` are one split.

    `all_queries` keeps the queries without judgements too. `only_judged` loads only the documents that the split
    judges, and `document_ids` those and the given ones (the candidates of a run): the corpus is read as a stream, and
    only they are in memory. Columns of queries.jsonl other than the text become tags.

    Raises `DataError` naming file and line for what cannot be used; `malformed="count"` leaves such lines out.
    Judgements of queries or documents without a text are an error, or with `unknown="count"` left out. Grades below 0
    are an error, or with `negative_grades="zero"` 0. The notes count and name all that was left out or changed.
    """
    if unknown not in UNKNOWN:
        raise ValueError(f"unknown must be one of {', '.join(UNKNOWN)}; got {unknown!r}")
    if isinstance(document_ids, str):
        raise DataError(f"document_ids is one string {document_ids[:40]!r}; put it in a list")
    folder = find_ranking(source)
    files = _files(folder, split)
    bad = {part: MalformedLines(path, malformed) for part, path in files._asdict().items()}
    qrels, changed = qrels_and_notes(files.qrels, bad["qrels"], negative_grades, encoding)
    judged = {document for grades in qrels.values() for document in grades}
    given = None if document_ids is None else set(document_ids)
    wanted = judged | (given or set()) if only_judged or given is not None else None
    queries = rows_by_id(files.queries, bad["queries"], None if all_queries else qrels, encoding)
    documents = {
        name: row.text for name, row in rows_by_id(files.documents, bad["documents"], wanted, encoding).items()
    }
    notes = [f"from {folder.name}/, {files.qrels.relative_to(folder)}"]
    if wanted is not None:
        notes.append(f"documents loaded: {len(documents):,}, those that are judged{' or asked for' if given else ''}")
    qrels, left_out = _known(qrels, queries, documents, unknown)
    notes += [*changed, *bad["queries"].notes(), *bad["documents"].notes(), *left_out]
    notes += _absent(given or (), documents, unknown)
    texts = {name: row.text for name, row in queries.items()}
    return Collection(documents, texts, qrels, tuple(notes), f"{folder.name}/{split}", _tags(queries))


def find_ranking(source: str | os.PathLike | None = None) -> Path:
    """The folder that `read_ranking` reads: runs of a collection are in its folder runs/.

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


class Files(NamedTuple):
    documents: Path
    queries: Path
    qrels: Path


def _files(folder: Path, split: str) -> Files:
    """The files of a split; raises `DataError` naming those that are there where one is not."""
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


def _layout(folder: Path) -> Layout | None:
    return next((layout for layout in LAYOUTS if _there(folder, layout.documents)), None)


def _there(folder: Path, name: str) -> Path | None:
    return next((folder / (name + end) for end in ("", ".gz") if (folder / (name + end)).is_file()), None)


def _looked() -> str:
    return " or ".join(layout.documents for layout in LAYOUTS)


def _known(
    qrels: dict[str, dict[str, Any]], queries: Ids[str], documents: Ids[str], unknown: str
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The judgements of known queries and documents, and what was left out; as they are where unknown is an error."""
    if unknown == "error":
        return qrels, []  # the Collection raises
    strange = [query for query in qrels if query not in queries]
    without = dict.fromkeys(d for judged in qrels.values() for d in judged if d not in documents)
    known = {q: {d: g for d, g in own.items() if d in documents} for q, own in qrels.items() if q in queries}
    kinds = {"queries": strange, "documents": list(without)}
    return known, [
        f"judgements of {kind} without a text left out: {len(ids):,} {kind} ({some(ids)})"
        for kind, ids in kinds.items()
        if ids
    ]


def _absent(given: Ids[str], documents: Ids[str], unknown: str) -> list[str]:
    """What there is to say of ids that were asked for and are not in the corpus."""
    absent = sorted(name for name in given if name not in documents)
    if absent and unknown == "error":
        raise DataError(
            f"{len(absent):,} of {len(given):,} document_ids are not in the corpus: {some(absent)}; "
            'correct them, or leave them out with unknown="count"'
        )
    return [f"document_ids that the corpus has not: {len(absent):,} ({some(absent)})"] if absent else []


def _tags(queries: dict[str, TextRow]) -> dict[str, dict[str, Any]]:
    """The other columns of the queries, but for those that are empty throughout (BEIR's metadata)."""
    names = dict.fromkeys(name for row in queries.values() for name, value in row.others.items() if value)
    return {name: {q: row.others[name] for q, row in queries.items() if name in row.others} for name in names}
