"""BM25: the search that a cross-encoder reranks, in the package bm25s."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from crossenc_kit.data.documents import document_texts, ids_of
from crossenc_kit.errors import DataError, need
from crossenc_kit.retrieval.baselines import WORD
from crossenc_kit.retrieval.search import Search, search_with


def terms(text: str) -> list[str]:
    r"""Return the lower-cased words (`\w+`) of a text in order, with repeats and without stemming."""
    return WORD.findall(text.lower())


def bm25_index(
    documents: Mapping[str, Any],
    *,
    k1: float = 1.5,
    b: float = 0.75,
    method: str = "lucene",
    stop_words: str | Collection[str] | None = None,
    tokenize: Callable[[str], list[str]] = terms,
) -> Search:
    """Make a `search(queries, k=100, include=None)` over documents `{id: text}` by BM25.

    A document's score is the sum over the query's words w of
    idf(w) tf / (tf + k1 (1 - b + b length / mean length)),  with tf the times the document has w and
    idf(w) = log(1 + (D - D_w + 1/2) / (D_w + 1/2)),  D_w of the D documents having w.
    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.

    method: "lucene" as above, or a form of Kamphuis et al., "Which BM25 Do You Mean?", 2020
    stop_words: a collection of words, or "english": the 33 of Lucene
    """
    package = need("bm25s", "BM25")
    if k1 < 0 or not 0 <= b <= 1 or (k1 == 0 and method == "bm25+"):  # bm25+ divides by k1
        raise ValueError(f"k1 is {k1} and b is {b}; {method} needs k1 above 0 and b in 0..1")
    documents = document_texts(documents)
    ids = ids_of(documents, "document")
    split = _splitter(tokenize, stop_words)
    vocabulary: dict[str, int] = {}
    rows = []
    for text in documents.values():
        rows.append([vocabulary.setdefault(word, len(vocabulary)) for word in split(text)])
    if not vocabulary:
        raise DataError(f"none of the {len(ids):,} documents has a word to search for")
    index = package.BM25(k1=k1, b=b, method=method)
    index.index((rows, dict(vocabulary)), show_progress=False)  # a copy: it may add a word

    def scores_of(texts: Sequence[str]) -> Iterator[tuple[np.ndarray, float]]:
        for text in texts:
            known = [vocabulary[word] for word in split(text) if word in vocabulary]
            absent = index.nonoccurrence_array  # bm25l and bm25+ score words a document lacks
            floor = 0.0 if absent is None or not known else absent[known].sum()
            yield index.get_scores_from_ids(known), float(floor)

    return search_with(scores_of, ids)


def _splitter(
    tokenize: Callable[[str], list[str]], stop_words: str | Collection[str] | None
) -> Callable[[str], list[str]]:
    if isinstance(stop_words, str):
        if stop_words != "english":
            raise ValueError(f'stop_words is {stop_words!r}; expected "english" or words')
        stop_words = need("bm25s", "BM25").stopwords.STOPWORDS_EN
    stopped = frozenset(stop_words or ())
    return lambda text: [word for word in tokenize(text) if word not in stopped]
