"""Candidates of queries, ordered by a scorer; a candidate is a text, or a document with an id and metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.pairs import DataError, check_text

ID_KEYS = ("id", "_id", "corpus_id")  # of one document, the first of them that it has
Documents = Sequence[Any] | Mapping[str, Any]


class Document(NamedTuple):
    """A document to rank: the text that is scored, the text that is shown, and the rest, its id among it."""

    text: Any
    shown: Any
    fields: dict[str, Any]


def rank_candidates(
    scorer: Callable[[Sequence[tuple[str, str]]], Any],
    queries: Sequence[str],
    documents: Sequence[Documents],
    top_k: int | None = None,
    return_documents: bool = False,
) -> list[list[dict[str, Any]]]:
    """The documents of each of Q queries from best to worst, scored together; equal scores keep their order.

    The documents of a query are a list of texts, a mapping `{id: text}`, or dicts (see `read_document`), in a list
    or by id. A hit is `{"corpus_id": index, "score": float, "text": if asked}`; of a document that is more than a text
    also `"id"`, and its metadata under their own names. Raises `DataError` where queries and lists of documents do
    not fit together, for an id that a query's documents have twice, and scores that are not finite or not one a pair.
    An empty text is scored as it is.
    """
    if len(queries) != len(documents):
        raise DataError(f"{len(queries)} queries, but {len(documents)} lists of documents")
    if isinstance(queries, str) or any(isinstance(texts, str) for texts in documents):
        raise DataError("the documents of a query are a list of texts, got one string; put it in a list")
    if top_k is not None and top_k < 0:
        raise ValueError(f"top_k must not be negative, got {top_k}")
    candidates = [read_documents(own) for own in documents]
    for place, own in enumerate(candidates):
        names = [document.fields["id"] for document in own if "id" in document.fields]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise DataError(f"query {place}: {len(twice)} ids have several documents, the first is {twice[0]!r}")
    pairs = [(query, document.text) for query, own in zip(queries, candidates, strict=True) for document in own]
    scores = np.asarray(scorer(pairs))
    if scores.shape != (len(pairs),):
        raise DataError(f"the scorer gave scores of shape {scores.shape} for {len(pairs)} pairs; expected one a pair")
    check_finite(scores, lambda row: "the query {!r} and the document {!r}".format(*(text[:40] for text in pairs[row])))
    ranking: list[list[dict[str, Any]]] = []
    start = 0
    for own in candidates:
        part = scores[start : start + len(own)]
        start += len(own)
        order = np.argsort(-part, kind="stable")[:top_k]
        hits: list[dict[str, Any]] = [{"corpus_id": int(i), "score": float(part[i]), **own[i].fields} for i in order]
        if return_documents:
            hits = [{**hit, "text": own[hit["corpus_id"]].shown} for hit in hits]
        ranking.append(hits)
    return ranking


def check_finite(scores: np.ndarray, where: Callable[[int], str], scorer: str = "the scorer") -> None:
    """Raise `DataError` for the first of N scores `(N,)` that is not finite; `where` says of which pair it is."""
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        count = f"{len(bad):,} of {len(scores):,} scores are not finite"
        raise DataError(f"{scorer} gave {scores[bad[0]]} for {where(int(bad[0]))} ({count})")


def check_not_blank(kind: str, texts: Mapping[Any, Any], where: str = "") -> None:
    """Raise `DataError` naming the first text by its id that is missing, no string, or nothing but white space."""
    for name, text in texts.items():
        if not check_text(text, f"{kind} {name!r}{where}").strip():
            count = sum(isinstance(own, str) and not own.strip() for own in texts.values())
            raise DataError(
                f"{kind} {name!r}{where} is empty ({count} of {len(texts)} are); leave out texts without a word"
            )


def read_documents(documents: Documents) -> list[Document]:
    """The documents of one query, in order."""
    if isinstance(documents, Mapping):
        return [read_document(document, key) for key, document in documents.items()]
    return [read_document(document, place=place) for place, document in enumerate(documents)]


def read_document(document: Any, key: str | None = None, place: int = 0) -> Document:
    """A text, or a dict with `text`, perhaps `title` and an id (`id`, `_id` or `corpus_id`), and any metadata.

    What is scored is the title and the text, as in BEIR (Thakur et al., 2021). `key`, the id in a mapping, goes before
    that in the dict; `place` names a document without one. The dict's `score` becomes `first_score`: it is of a stage
    before this one. Raises `DataError` for a dict without a text.
    """
    if not isinstance(document, Mapping):
        return Document(document, document, {} if key is None else {"id": key})
    own = next((document[name] for name in ID_KEYS if name in document), None)
    name = own if key is None else key
    where = f"document {place}" if name is None else f"document {name!r}"
    if "text" not in document:
        raise DataError(f"{where}: no 'text' among {list(document)}")
    text = check_text(document["text"], f"{where}, text")
    title = check_text(document.get("title") or "", f"{where}, title")
    fields = {} if name is None else {"id": name}
    fields |= {key: value for key, value in document.items() if key not in (*ID_KEYS, "text", "score")}
    if "score" in document:
        fields["first_score"] = document["score"]
    return Document(f"{title} {text}" if title else text, text, fields)
