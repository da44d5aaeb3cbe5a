"""data.documents"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.pairs import check_text
from crossenc_kit.errors import DataError
from crossenc_kit.scorers import check_finite

ID_KEYS = ("id", "_id", "corpus_id")  # of one document, the first of them that it has
Documents = Sequence[Any] | Mapping[str, Any]


class Document(NamedTuple):
    """A document to rank: the text that is scored, the text that is shown, and the rest, its id among it."""

    text: Any
    shown: Any
    fields: dict[str, Any]


def check_not_blank(kind: str, texts: Mapping[Any, Any], where: str = "") -> None:
    """Raise `DataError` naming the first text by its id that is missing, no string, or nothing but white space."""
    for name, text in texts.items():
        if not check_text(text, f"{kind} {name!r}{where}").strip():
            count = sum(isinstance(own, str) and not own.strip() for own in texts.values())
            raise DataError(
                f"{kind} {name!r}{where} is empty ({count} of {len(texts)} are); leave out texts without a word"
            )


def document_texts(documents: Any) -> Any:
    """`{id: text}` of documents by id, each the text that is scored; see `read_document`."""
    if not isinstance(documents, Mapping) or not any(isinstance(own, Mapping) for own in documents.values()):
        return documents
    return {key: read_document(document, key).text for key, document in documents.items()}


def read_documents(documents: Documents) -> list[Document]:
    """The documents of one query, in order."""
    if isinstance(documents, Mapping):
        return [read_document(document, key) for key, document in documents.items()]
    return [read_document(document, place=place) for place, document in enumerate(documents)]


def read_document(document: Any, key: str | None = None, place: int = 0) -> Document:
    """A text, or a dict with `text`, perhaps `title` and an id (`id`, `_id` or `corpus_id`), and any metadata.

    What is scored is the title and the text, as in BEIR (Thakur et al., 2021). `key`, the id in a mapping, goes before
    that in the dict; `place` names a document without one. The dict's `score` becomes `first_score`: it is of a stage
    before this one, and so is the `corpus_id` of a hit that has an id. Raises `DataError` for a dict without a text,
    with two ids, or with one that is a list.
    """
    if not isinstance(document, Mapping):
        return Document(document, document, {} if key is None else {"id": key})
    own = _own_id(document, f"document {place if key is None else repr(key)}")
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


def _own_id(document: Mapping[str, Any], where: str) -> Any:
    """The id of a dict, None where it has none."""
    ids = {name: document[name] for name in ID_KEYS if name in document}
    if len(ids) > 1 and "score" in document and isinstance(ids.get("corpus_id"), Integral):
        del ids["corpus_id"]  # of a hit: the place that it had in another list
    for name, own in ids.items():
        try:
            hash(own)
        except TypeError:
            kind = type(own).__name__
            raise DataError(f"{where}: {name!r} is a {kind}, {str(own)[:40]}; expected a string") from None
    (first, own), *others = ids.items() or [("", None)]
    for name, other in others:
        if other != own:
            raise DataError(
                f"{where}: {first!r} is {str(own)[:40]!r} and {name!r} is {str(other)[:40]!r}; keep one id, "
                "and give the other another name"
            )
    return own


def rank_candidates(
    scorer: Callable[[Sequence[tuple[str, str]]], Any],
    queries: Sequence[str],
    documents: Sequence[Documents],
    top_k: int | None = None,
    return_documents: bool = False,
    shown: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[list[dict[str, Any]]]:
    """The documents of each of Q queries from best to worst, scored together; equal scores keep their order.

    The documents of a query are a list of texts, a mapping `{id: text}`, or dicts (see `read_document`), in a list
    or by id. A hit is `{"corpus_id": index, "score": float, "text": if asked}`; of a document that is more than a text
    also `"id"`, and its metadata under their own names. Raises `DataError` where queries and lists of documents do
    not fit together, for an id that a query's documents have twice, and scores that are not finite or not one a pair.
    An empty text is scored as it is. `shown`: what a hit has as its score, of all scores `(N,)`; hits are ordered by
    it, and by the score itself where it makes two scores equal, as a sigmoid does with those above 17.
    """
    _check_asked(queries, documents, top_k)
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
    seen = scores if shown is None else np.asarray(shown(scores))
    ranking: list[list[dict[str, Any]]] = []
    start = 0
    for own in candidates:
        raw, part = scores[start : start + len(own)], seen[start : start + len(own)]
        start += len(own)
        order = np.lexsort((-raw, -part))[:top_k]
        hits: list[dict[str, Any]] = [{"corpus_id": int(i), "score": float(part[i]), **own[i].fields} for i in order]
        if return_documents:
            hits = [{**hit, "text": own[hit["corpus_id"]].shown} for hit in hits]
        ranking.append(hits)
    return ranking


def _check_asked(queries: Any, documents: Any, top_k: Any) -> None:
    """Raise `DataError` unless there is a list of documents for each query, `ValueError` for a `top_k` that is none."""
    if isinstance(queries, Mapping) or isinstance(documents, Mapping):
        raise DataError(
            "queries and their lists of documents are two lists in one order, got a mapping; give "
            "list(queries.values()) and [documents[query] for query in queries]"
        )
    if len(queries) != len(documents):
        raise DataError(f"{len(queries)} queries, but {len(documents)} lists of documents")
    if isinstance(queries, str) or any(isinstance(texts, str) for texts in documents):
        raise DataError("the documents of a query are a list of texts, got one string; put it in a list")
    if top_k is not None and not isinstance(top_k, Integral):
        raise ValueError(f"top_k is {top_k!r}; expected a whole number, or None for all")
    if top_k is not None and top_k < 0:
        raise ValueError(f"top_k must not be negative, got {top_k}")


def draws(seed: int, *names: str | int) -> np.random.Generator:
    """A random generator of its own for each seed and names: the same in every process and order."""
    numbers = [zlib.crc32(name.encode("utf-8", "surrogatepass")) if isinstance(name, str) else name for name in names]
    return np.random.default_rng([seed, *numbers])


def ids_of(texts: Mapping[str, str], kind: str, least: int = 1) -> list[str]:
    """The ids of a mapping from id to text; raises `DataError` for ids that are no strings, and for blank texts."""
    if not isinstance(texts, Mapping):
        raise DataError(f"expected the texts as a mapping {{{kind} id: text}}, got {type(texts).__name__}")
    if len(texts) < least:
        raise DataError(f"there are no {'queries' if kind == 'query' else kind + 's'} to search")
    blank = []
    for name, text in texts.items():
        if not isinstance(name, str):
            raise DataError(f"the {kind} id {name!r} is {type(name).__name__}; ids are strings, use str() on it")
        if isinstance(text, Mapping):
            raise DataError(f'{kind} {name!r}: expected a text, got a dict; give its text, such as {kind}["text"]')
        if not check_text(text, f"{kind} {name!r}").strip():
            blank.append(name)
    if blank:
        raise DataError(f"{kind} {blank[0]!r}: the text is blank ({len(blank):,} of {len(texts):,} such); leave it out")
    return list(texts)


def check_depth(k: int, name: str = "k", least: int = 1) -> None:
    """Raise `ValueError` unless a count is a whole number of at least `least`."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise ValueError(f"{name} is {k!r}; expected a whole number")
    if k < least:
        raise ValueError(f"{name} must be at least {least}, got {k}")
