"""A search collection: queries, documents, and grades of how well documents answer queries.

Qrels are `{query id: {document id: grade}}`, a run is `{query id: {document id: score}}`. A grade
above 0 is relevant; what was not judged counts as 0. All checks of a run or of qrels are here, and
what a `Collection` has checked is trusted.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from crossenc_kit.data.documents import check_depth, document_texts, ids_of
from crossenc_kit.data.pairs import SHOWN_ROWS, Pairs, offsets_of, shortened
from crossenc_kit.errors import DataError, some
from crossenc_kit.files import text_hash
from crossenc_kit.history import html_table

Run = Mapping[str, Mapping[str, float]]  # {query id: {document id: score}}
Qrels = Mapping[str, Mapping[str, float]]  # {query id: {document id: grade}}
UNKNOWN = ("error", "count")
UNANSWERED = "queries without a relevant document"


@dataclass(frozen=True)
class Collection:
    """Hold Q queries and D documents by id, and their judgements.

    queries: `{query id: text}`; the queries of one split
    documents: `{document id: text}`; a dict with a `title` and a `text` becomes "title text"
    qrels: `{query id: {document id: grade}}`, empty if nothing is judged
    notes: what a reader did, in words, and which queries have no relevant document
    name: where the collection comes from
    tags: what else is known about queries, `{column: {query id: value}}`; no model input

    Raises `DataError` for ids that are not strings, blank texts, judgements of unknown queries or
    documents, and grades that are negative or not finite.
    """

    queries: dict[str, str]
    documents: dict[str, str]
    qrels: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=(), compare=False)
    name: str = field(default="", compare=False)
    tags: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", document_texts(self.documents))
        ids_of(self.queries, "query", least=0)
        ids_of(self.documents, "document", least=0)
        _check_judgements(self)
        notes = [note for note in self.notes if not note.startswith(UNANSWERED)]
        unanswered = [query for query in self.queries if not self.relevant(query)] if self.qrels else []
        object.__setattr__(self, "notes", (*notes, *_counted(UNANSWERED, unanswered)))

    def __repr__(self) -> str:
        judged = sum(map(len, self.qrels.values()))
        good = sum(len(self.relevant(query)) for query in self.qrels)
        counts = f"{len(self.queries):,} queries, {len(self.documents):,} documents, {judged:,} judgements"
        return "; ".join([f"Collection {self.name}".strip() + f": {counts} ({good:,} relevant)", *self.notes])

    def _repr_html_(self) -> str:
        rows = []
        for query in list(self.queries)[:SHOWN_ROWS]:
            best = [shortened(self.documents[document]) for document in self.relevant(query)[:1]]
            judged = len(self.qrels.get(query, ()))
            rows.append([query, shortened(self.queries[query]), judged, *(best or [""])])
        return html_table(("id", "query", "judged", "first relevant document"), rows, repr(self))

    def relevant(self, query: str) -> list[str]:
        """List the documents of a query with a grade above 0, in the order of the qrels."""
        return [document for document, grade in self.qrels.get(query, {}).items() if grade > 0]

    def select_queries(self, ids: Iterable[str]) -> Collection:
        """Keep only these queries, in this order, and all documents."""
        if isinstance(ids, str):
            raise DataError(f"expected query ids, got one string {ids[:40]!r}; put it in a list")
        chosen = list(dict.fromkeys(ids))
        unknown = [query for query in chosen if query not in self.queries]
        if unknown:
            raise DataError(f"{len(unknown):,} of {len(chosen):,} query ids are not in the collection: {some(unknown)}")
        return replace(
            self,
            queries={query: self.queries[query] for query in chosen},
            qrels={query: self.qrels[query] for query in chosen if query in self.qrels},
            tags={name: {q: own[q] for q in chosen if q in own} for name, own in self.tags.items()},
        )

    def check(self, run: Any, *, unknown: str = "error", name: str = "the run") -> tuple[str, ...]:
        """Check that a run fits the collection; return notes, such as queries without candidates.

        unknown: "count" only counts and names unknown ids (of a larger corpus, or more queries)
        name: what messages call the run

        Raises `DataError` if the run is not `{query id: {document id: score}}` with finite scores,
        if it has queries or documents that the collection lacks, or none of its queries.
        """
        if unknown not in UNKNOWN:
            raise ValueError(f"unknown must be one of {', '.join(UNKNOWN)}; got {unknown!r}")
        check_form(run, name)
        if not run:
            raise DataError(f"{name} has no queries: there are no candidates; did the first stage get the queries?")
        queries = [query for query in run if query not in self.queries]
        if len(queries) == len(run):
            ours = f"the collection's begin with {some(self.queries)}"
            raise DataError(f"none of the {len(run):,} queries of {name} is in the collection: {some(queries)}; {ours}")
        known = [own for query, own in run.items() if query in self.queries]
        documents = list(dict.fromkeys(d for own in known for d in own if d not in self.documents))
        for kind, ids in (("queries", queries), ("documents", documents)):
            if ids and unknown == "error":
                raise DataError(
                    f"{name} has {len(ids):,} {kind} that the collection lacks: {some(ids)}; "
                    'is it of this split and corpus? unknown="count" leaves them out'
                )
        empty = [query for query, own in self.known(run).items() if not own]
        return (
            *_counted("queries of the run that the collection lacks, left out", queries),
            *_counted("documents of the run that the collection lacks, left out", documents),
            *_counted("queries without candidates", empty),
        )

    def known(self, run: Run) -> dict[str, dict[str, float]]:
        """Return the run on every query of the collection, without documents that it lacks."""
        documents = self.documents
        return {q: {d: s for d, s in run.get(q, {}).items() if d in documents} for q in self.queries}

    def as_pairs(
        self, run: Run, depth: int | None = None, *, with_relevant: bool = False, unknown: str = "error"
    ) -> Pairs:
        """Pair each query with its first `depth` candidates of a run, best first.

        Labels are grades `(N,)`. There is one group per query, in the order of the queries, with
        the tags "query_id", "document_ids" (a list) and those of the collection. Equal scores keep
        their order in the run. Queries without candidates are left out and named in the notes. What
        was not judged has label 0; a collection without judgements gives pairs without labels.

        with_relevant: add relevant documents that the run missed, for training (they flatter metrics)
        unknown: see `check`, whose errors are raised
        """
        if depth is not None:
            check_depth(depth, "depth")
        notes = self.check(run, unknown=unknown)
        groups = {query: sorted(own, key=lambda d: -own[d])[:depth] for query, own in self.known(run).items()}
        if with_relevant:
            missed = {q: [d for d in self.relevant(q) if d not in own] for q, own in groups.items() if own}
            groups |= {query: groups[query] + more for query, more in missed.items()}
            added = sum(map(len, missed.values()))
            notes += (f"relevant documents that the run missed, added: {added:,}",) if added else ()
        relevant = {query: set(self.relevant(query)) for query, own in groups.items() if own}
        missed_all = [q for q, good in relevant.items() if good and not good & set(groups[q])]
        return self._pairs(groups, (*notes, *_counted("queries without a relevant candidate", missed_all)))

    def judged_pairs(self) -> Pairs:
        """Pair each query with its judged documents, in their order; else like `as_pairs`."""
        groups = {query: list(self.qrels.get(query, ())) for query in self.queries}
        if not any(groups.values()):
            raise DataError(f"no query of {self.name or 'the collection'} has judgements; give a run: as_pairs(run)")
        empty = [query for query, own in groups.items() if not own]
        return self._pairs(groups, _counted("queries without judgements left out", empty))

    def fingerprint(self) -> str:
        """Hash documents, queries and qrels in sorted order: 64 hex digits."""
        digest = hashlib.sha256()
        for texts in (self.documents, self.queries):
            digest.update(b"%d;" % len(texts))
            text_hash((part for key in sorted(texts) for part in (key, texts[key])), digest)
        for query, judged in sorted(self.qrels.items()):
            for document, grade in sorted(judged.items()):
                text_hash((query, document), digest)
                digest.update(struct.pack("<d", grade))
        return digest.hexdigest()

    def _pairs(self, groups: Mapping[str, list[str]], notes: tuple[str, ...]) -> Pairs:
        groups = {query: own for query, own in groups.items() if own}
        if not groups:
            raise DataError("no query has a candidate: there are no pairs")
        pairs = [(query, document) for query, own in groups.items() for document in own]
        labels = None
        if self.qrels:
            grades = [self.qrels.get(query, {}).get(document, 0) for query, document in pairs]
            whole = all(grade == int(grade) for grade in grades)
            labels = np.asarray(grades, dtype=np.int64 if whole else np.float32)
        tags = {name: [own.get(query) for query in groups] for name, own in self.tags.items()}
        return Pairs(
            [self.queries[query] for query, _ in pairs],
            [self.documents[document] for _, document in pairs],
            labels,
            offsets_of([len(own) for own in groups.values()]),
            {**tags, "query_id": list(groups), "document_ids": list(groups.values())},
            (*self.notes, *notes),
        )


def check_form(run: Any, name: str = "the run") -> None:
    """Raise `DataError` unless a run is `{query id: {document id: score}}` with finite scores."""
    _check(run, name, "score", "run")


def check_qrels(qrels: Any, name: str = "the qrels") -> None:
    """Raise `DataError` unless qrels are `{query id: {document id: grade}}`, and not empty."""
    _check(qrels, name, "grade", "qrels")
    if not qrels:
        raise DataError(f"{name} have no query: there is nothing to measure")


def check_judged(run: Run, qrels: Qrels, name: str = "the run") -> None:
    """Raise `DataError` if no query of a run has judgements."""
    if not run.keys() & qrels.keys():
        ours, theirs = some(run) or "none", some(qrels)
        raise DataError(f"{name}: no query has judgements. Its queries: {ours}; those of the qrels: {theirs}")


def _check(table: Any, name: str, what: str, form: str) -> None:
    """Raise `DataError` unless a table is `{query id: {document id: finite number}}`."""
    if not isinstance(table, Mapping):
        expected = f"{{query id: {{document id: {what}}}}}"
        raise DataError(f"{name}: expected a {form} as {expected}, got {type(table).__name__}")
    for query, row in table.items():
        if not isinstance(query, str):
            kind = type(query).__name__
            raise DataError(f"{name}: the query id {query!r} is {kind}; ids are strings, use str() on it")
        if not isinstance(row, Mapping):
            raise DataError(f"{name}, query {query!r}: expected {{document id: {what}}}, got {type(row).__name__}")
        values = np.asarray(list(row.values())) if row else np.zeros(0)
        usable = values.ndim == 1 and values.dtype.kind in "biuf" and np.isfinite(values).all()
        if usable and all(isinstance(document, str) for document in row):
            continue
        where = f"{name}, query {query!r}"
        for document, value in row.items():  # which one is it?
            if not isinstance(document, str):
                kind = type(document).__name__
                raise DataError(f"{where}: the document id {document!r} is {kind}; ids are strings, use str() on it")
            number = np.asarray(value)
            if number.ndim or number.dtype.kind not in "biuf" or not np.isfinite(number):
                raise DataError(f"{where}, document {document!r}: the {what} is {value!r}; expected a finite number")


def _check_judgements(collection: Collection) -> None:
    """Raise `DataError` for qrels of another form, with unknown ids, or with a negative grade."""
    qrels = collection.qrels
    _check(qrels, "the qrels", "grade", "qrels")
    documents = dict.fromkeys(document for judged in qrels.values() for document in judged)
    for kind, ids, known in (("query", qrels, collection.queries), ("document", documents, collection.documents)):
        if unknown := [name for name in ids if name not in known]:
            raise DataError(
                f"the qrels have {len(unknown):,} {kind} ids that are not among the {len(known):,} {kind} ids given: "
                f'{some(unknown)}; add their texts, or take them out (read_ranking: unknown="count")'
            )
    below = [(query, document) for query, judged in qrels.items() for document, g in judged.items() if g < 0]
    if below:
        query, document = below[0]
        raise DataError(
            f"query {query!r}, document {document!r}: the grade is {qrels[query][document]}, below 0 "
            f'({len(below):,} in all); count them as 0 (read_qrels: negative_grades="zero")'
        )


def _counted(what: str, ids: list[str]) -> tuple[str, ...]:
    return (f"{what}: {len(ids):,} ({some(ids)})",) if ids else ()
