"""A query's documents: texts, texts by id, or dicts with metadata; and how a scorer ranks them."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.pairs import check_text, shortened
from crossenc_kit.errors import DataError
from crossenc_kit.history import html_table
from crossenc_kit.scorers import check_finite

ID_KEYS = ("id", "_id", "corpus_id")  # of a dict, the first that it has
Documents = Sequence[Any] | Mapping[str, Any]


class Document(NamedTuple):
    """A document to rank: the text to score, the text to show, and its id and other fields."""

    text: Any
    shown: Any
    fields: dict[str, Any]


class Hits(list[dict[str, Any]]):
    """The hits of one query, best first: a list of dicts that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        names = list(dict.fromkeys(name for hit in self for name in hit))
        return html_table(names, [[shortened(hit.get(name, "")) for name in names] for hit in self])


def read_documents(documents: Documents) -> list[Document]:
    """Read the documents of one query, in order."""
    if isinstance(documents, Mapping):
        return [read_document(document, key) for key, document in documents.items()]
    return [read_document(document, place=place) for place, document in enumerate(documents)]


def read_document(document: Any, key: str | None = None, place: int = 0) -> Document:
    """Read a text, or a dict with `text`, perhaps `title`, `id` (`_id`, `corpus_id`), metadata.

    The scored text is "title text", as in BEIR (Thakur et al., 2021). A dict's `score` comes from
    an earlier stage and becomes `first_score`.

    key: its id in a mapping; it goes before an id in the dict
    place: names a document without an id in messages
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


def document_texts(documents: Any) -> Any:
    """Replace dicts in `{id: document}` by the texts that are scored; see `read_document`."""
    if not isinstance(documents, Mapping) or not any(isinstance(own, Mapping) for own in documents.values()):
        return documents
    return {key: read_document(document, key).text for key, document in documents.items()}


def rank_candidates(
    scorer: Callable[[Sequence[tuple[str, str]]], Any],
    queries: Sequence[str],
    documents: Sequence[Documents],
    top_k: int | None = None,
    return_documents: bool = False,
    shown: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[Hits]:
    """Rank the documents of each of Q queries, all scored together; equal scores keep their order.

    A hit is `{"corpus_id": index, "score": float, "text": if asked}`, and of a document that is
    more than a text also `"id"` and its metadata.

    documents: for each query a list of texts or dicts, or a mapping by id (see `read_document`)
    shown: activation applied to the reported scores `(N,)`; ties after it (a sigmoid makes them
        above 17) are broken by the raw score

    Raises `DataError` for an id that a query has twice, and scores that are not finite.
    """
    _check_lists(queries, documents)
    if top_k is not None:
        check_depth(top_k, "top_k", least=0)
    candidates = [read_documents(own) for own in documents]
    for place, own in enumerate(candidates):
        names = Counter(document.fields["id"] for document in own if "id" in document.fields)
        if twice := [name for name, count in names.items() if count > 1]:
            raise DataError(f"query {place}: {len(twice)} ids have several documents, the first is {twice[0]!r}")
    pairs = [(query, document.text) for query, own in zip(queries, candidates, strict=True) for document in own]
    scores = np.asarray(scorer(pairs))
    if scores.shape != (len(pairs),):
        raise DataError(f"the scorer gave scores of shape {scores.shape} for {len(pairs)} pairs; expected one a pair")
    check_finite(scores, lambda row: "the query {!r} and the document {!r}".format(*(t[:40] for t in pairs[row])))
    seen = scores if shown is None else np.asarray(shown(scores))  # (N,)
    ranking: list[Hits] = []
    start = 0
    for own in candidates:
        raw, part = scores[start : start + len(own)], seen[start : start + len(own)]  # (K,)
        start += len(own)
        order = np.lexsort((-raw, -part))[:top_k]  # by `part` first
        hits = Hits({"corpus_id": int(i), "score": float(part[i]), **own[i].fields} for i in order)
        if return_documents:
            hits = Hits({**hit, "text": own[hit["corpus_id"]].shown} for hit in hits)
        ranking.append(hits)
    return ranking


def _check_lists(queries: Any, documents: Any) -> None:
    """Raise `DataError` unless there is one list of documents for each query."""
    if isinstance(queries, Mapping) or isinstance(documents, Mapping):
        raise DataError("expected a list of queries and a list of their documents, got a mapping")
    if isinstance(queries, str) or any(isinstance(own, str) for own in documents):
        raise DataError("queries and a query's documents are lists of texts, got one string; put it in a list")
    if len(queries) != len(documents):
        raise DataError(f"{len(queries)} queries, but {len(documents)} lists of documents")


def ids_of(texts: Mapping[str, str], kind: str, least: int = 1) -> list[str]:
    """List the ids of `{id: text}`; `DataError` for ids that are not strings, and blank texts."""
    if not isinstance(texts, Mapping):
        raise DataError(f"expected the texts as a mapping {{{kind} id: text}}, got {type(texts).__name__}")
    if len(texts) < least:
        raise DataError(f"there are no {'queries' if kind == 'query' else kind + 's'} to search")
    for name in texts:
        if not isinstance(name, str) or not name:
            raise DataError(f"the {kind} id {name!r} is {type(name).__name__}; ids are strings, use str() on it")
    check_not_blank(kind, texts)
    return list(texts)


def check_not_blank(kind: str, texts: Mapping[Any, Any]) -> None:
    """Raise `DataError` for a text that is missing or no string, and for blank ones."""
    blank = [name for name, text in texts.items() if not check_text(text, f"{kind} {name!r}").strip()]
    if blank:
        raise DataError(f"{kind} {blank[0]!r}: the text is blank ({len(blank):,} of {len(texts):,} such); leave it out")


def check_depth(k: int, name: str = "k", least: int = 1) -> None:
    """Raise `ValueError` unless a count is a whole number of at least `least`."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise ValueError(f"{name} is {k!r}; expected a whole number")
    if k < least:
        raise ValueError(f"{name} must be at least {least}, got {k}")


def draws(seed: int, *names: str | int) -> np.random.Generator:
    """Make a random generator for a seed and names: the same in every process and order."""
    numbers = [zlib.crc32(n.encode("utf-8", "surrogatepass")) if isinstance(n, str) else n for n in names]
    return np.random.default_rng([seed, *numbers])
