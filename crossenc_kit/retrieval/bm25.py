"""retrieval.bm25"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from crossenc_kit.data.documents import document_texts, ids_of
from crossenc_kit.errors import DataError, need
from crossenc_kit.retrieval.baselines import WORD
from crossenc_kit.retrieval.search import Include, Run, Search, search_with

METHODS = ("lucene", "robertson", "atire", "bm25l", "bm25+")


def terms(text: str) -> list[str]:
    r"""The lower-cased words (`\w+`) of a text in order, repeated ones too; no stemming, one letter is a word."""
    return WORD.findall(text.lower())


def bm25_run(
    documents: Mapping[str, Any],
    queries: Mapping[str, str],
    k: int = 100,
    *,
    include: Include | None = None,
    k1: float = 1.5,
    b: float = 0.75,
    method: str = "lucene",
    stop_words: str | Collection[str] | None = None,
    tokenize: Callable[[str], list[str]] = terms,
) -> Run:
    """The `k` best documents of each query by BM25; fewer where fewer share a word with it. See `bm25_index`."""
    search = bm25_index(documents, k1=k1, b=b, method=method, stop_words=stop_words, tokenize=tokenize)
    return search(queries, k, include)


def bm25_index(
    documents: Mapping[str, Any],
    *,
    k1: float = 1.5,
    b: float = 0.75,
    method: str = "lucene",
    stop_words: str | Collection[str] | None = None,
    tokenize: Callable[[str], list[str]] = terms,
) -> Search:
    """`search(queries, k=100, include=None)` over the documents by BM25, in the package bm25s.

    `method` "lucene" is the formula of `bm25_scorer`; the others are those of Kamphuis, de Vries, Boytsov and Lin,
    "Which BM25 Do You Mean?", 2020. Words are those of `tokenize` without `stop_words` (a collection, or "english":
    the 33 of Lucene). A word that a query has twice counts twice. Queries of which no document has a word are empty
    in the run; a warning counts them. Raises `DataError` where no document has a word.
    """
    package = need("bm25s", "BM25")
    _check_bm25(k1, b, method)
    documents = document_texts(documents)
    ids = ids_of(documents, "document")
    split = _splitter(tokenize, stop_words)
    vocabulary: dict[str, int] = {}
    rows = [[vocabulary.setdefault(word, len(vocabulary)) for word in split(text)] for text in documents.values()]
    if not vocabulary:
        raise DataError(f"none of the {len(ids):,} documents has a word to search for")
    index = package.BM25(k1=k1, b=b, method=method)
    index.index((rows, dict(vocabulary)), show_progress=False)  # a copy: it may add a word of its own

    def scores_of(texts: Sequence[str]) -> Iterator[tuple[np.ndarray, float]]:
        for text in texts:
            known = [vocabulary[word] for word in split(text) if word in vocabulary]
            absent = index.nonoccurrence_array  # what bm25l and bm25+ give a document for a word that it has not
            floor = 0.0 if absent is None or not known else absent[known].sum()
            yield index.get_scores_from_ids(known), float(floor)

    return search_with(scores_of, ids)


def bm25_scorer(
    documents: Mapping[str, Any],
    *,
    k1: float = 1.5,
    b: float = 0.75,
    stop_words: str | Collection[str] | None = None,
    tokenize: Callable[[str], list[str]] = terms,
) -> Callable[[Sequence[tuple[str, str]]], np.ndarray]:
    """A scorer of (query, document) pairs `(N,)` by BM25; how rare a word is, and how long a text, is of `documents`.

    The sum over the query's words w of  idf(w) tf / (tf + k1 (1 - b + b length / mean length)),  tf how often the
    document of the pair has w, and  idf(w) = log(1 + (D - D_w + 1/2) / (D_w + 1/2)),  D_w of the D documents having w.
    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, in Lucene's form. The
    document of a pair may be another than the D; a word that none of these has counts nothing.
    """
    _check_bm25(k1, b, "lucene")
    documents = document_texts(documents)
    ids_of(documents, "document")
    split = _splitter(tokenize, stop_words)
    having: Counter[str] = Counter()
    total = 0
    for text in documents.values():
        found = split(text)
        having.update(set(found))
        total += len(found)
    if not total:
        raise DataError(f"none of the {len(documents):,} documents has a word to search for")
    mean = total / len(documents)
    idf = {word: math.log(1 + (len(documents) - count + 0.5) / (count + 0.5)) for word, count in having.items()}

    def score(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        counted = {text: Counter(split(text)) for text in {document for _, document in pairs}}
        asked = {text: [word for word in split(text) if word in idf] for text in {query for query, _ in pairs}}
        scores = np.zeros(len(pairs))
        for row, (query, document) in enumerate(pairs):
            tf = counted[document]
            length = k1 * (1 - b + b * tf.total() / mean)
            scores[row] = sum(idf[word] * tf[word] / (tf[word] + length) for word in asked[query] if tf[word])
        return scores

    return score


def _check_bm25(k1: float, b: float, method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    if not 0 <= k1 < math.inf or not 0 <= b <= 1:
        raise ValueError(f"k1 is {k1} and b is {b}; expected k1 of at least 0 and b in 0..1")
    if k1 == 0 and method == "bm25+":
        raise ValueError(
            'k1 is 0, which method="bm25+" divides by; with k1=0 the methods differ in idf only, take another'
        )


def _splitter(
    tokenize: Callable[[str], list[str]], stop_words: str | Collection[str] | None
) -> Callable[[str], list[str]]:
    if isinstance(stop_words, str):
        if stop_words != "english":
            raise ValueError(f'stop_words is {stop_words!r}; expected "english" or a collection of words')
        stop_words = need("bm25s", "BM25").stopwords.STOPWORDS_EN
    stopped = frozenset(stop_words or ())
    return lambda text: [word for word in tokenize(text) if word not in stopped]
