"""First stages: which documents of a corpus might answer a query, by BM25, by dense vectors, by shared words.

Documents and queries are mappings from id to text (documents also dicts, see `ranking.read_document`); ids that are no
strings, and blank texts, raise `DataError`. A search gives a *run*, `{query id: {document id: score}}`, best first;
equal scores are in the order of the documents. Each `*_index` reads the corpus once and gives a
`search(queries, k, include)`; each `*_run` is both in one call. `include`, `{query id: document ids}`, names documents
that are in the run whatever their rank, at the score they have: known answers, whose score is wanted too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from crossenc_kit.pairs import DataError
from crossenc_kit.ranking import document_texts
from crossenc_kit.retrieval import WORD, encoder, words
from crossenc_kit.run_metrics import check_run
from crossenc_kit.searches import Include, Run, Search, check_depth, draws, ids_of, search_with

METHODS = ("lucene", "robertson", "atire", "bm25l", "bm25+")
SCORES_AT_ONCE = 1 << 23  # query-document scores held at a time: 32 MiB


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
    package = _bm25s()
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


def dense_run(
    documents: Mapping[str, Any],
    queries: Mapping[str, str],
    k: int = 100,
    encode: Callable[[Sequence[str]], np.ndarray] | None = None,
    *,
    document_vectors: np.ndarray | None = None,
    include: Include | None = None,
) -> Run:
    """The `k` best documents of each query by dense vectors, searched exactly. See `dense_index`."""
    return dense_index(documents, encode, document_vectors=document_vectors)(queries, k, include)


def dense_index(
    documents: Mapping[str, Any],
    encode: Callable[[Sequence[str]], np.ndarray] | None = None,
    *,
    document_vectors: np.ndarray | None = None,
) -> Search:
    """`search(queries, k=100, include=None)` over the documents by the inner product of vectors.

    `encode` maps U texts to vectors `(U, H)`; of unit vectors the inner product is the cosine. Default: the kit's
    `"minilm"` encoder. `document_vectors`: `(D, H)` in the order of the documents, where they are encoded already.
    Every document is compared, in blocks of queries. Raises `DataError` for vectors of another shape or not finite.
    """
    documents = document_texts(documents)
    ids = ids_of(documents, "document")
    encode = encode or encoder("minilm")
    vectors = encode(list(documents.values())) if document_vectors is None else document_vectors
    vectors = _check_vectors(vectors, len(ids), "documents")

    def scores_of(texts: Sequence[str]) -> Iterator[tuple[np.ndarray, float]]:
        if not texts:
            return
        block = max(1, SCORES_AT_ONCE // len(ids))
        asked = _check_vectors(encode(texts), len(texts), "queries")
        if asked.shape[1] != vectors.shape[1]:
            raise DataError(f"the queries' vectors have {asked.shape[1]} values, the documents' {vectors.shape[1]}")
        for start in range(0, len(texts), block):
            for scores in asked[start : start + block] @ vectors.T:  # (block, D)
                yield scores, -math.inf

    return search_with(scores_of, ids)


def overlap_run(
    documents: Mapping[str, Any], queries: Mapping[str, str], k: int = 100, *, include: Include | None = None
) -> Run:
    """The `k` best documents of each query by shared words as a part of all distinct words: see `word_overlap`."""
    documents = document_texts(documents)
    ids = ids_of(documents, "document")
    rows_of: dict[str, list[int]] = {}
    sizes = np.zeros(len(ids))
    for row, text in enumerate(documents.values()):
        found = words(text)
        sizes[row] = len(found)
        for word in found:
            rows_of.setdefault(word, []).append(row)
    having = {word: np.asarray(rows) for word, rows in rows_of.items()}

    def scores_of(texts: Sequence[str]) -> Iterator[tuple[np.ndarray, float]]:
        for text in texts:
            asked = words(text)
            hits = [having[word] for word in asked if word in having]
            shared = np.bincount(np.concatenate(hits), minlength=len(ids)) if hits else np.zeros(len(ids))
            yield shared / np.maximum(sizes + len(asked) - shared, 1), 0.0

    return search_with(scores_of, ids)(queries, k, include)


def random_run(documents: Mapping[str, Any], queries: Mapping[str, str], k: int = 100, *, seed: int = 0) -> Run:
    """`k` documents of each query drawn at random, scored 1, 1/2, 1/3, ... in the order drawn.

    A draw depends on the seed, the query's id and the documents, not on the other queries.
    """
    documents = document_texts(documents)
    ids = ids_of(documents, "document")
    check_depth(k)
    size = min(k, len(ids))
    return {
        query: {ids[row]: 1.0 / rank for rank, row in enumerate(draws(seed, query).choice(len(ids), size, False), 1)}
        for query in ids_of(queries, "query", least=0)
    }


def reciprocal_rank_fusion(
    runs: Sequence[Mapping[str, Mapping[str, float]]],
    k: float = 60,
    weights: Sequence[float] | None = None,
    depth: int | None = None,
) -> Run:
    """Several runs as one: a document's score is the sum over runs of  weight / (k + rank),  rank from 1.

    Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods", 2009. A run ranks by score, equal scores by their order in it. A document (or a query) that a run lacks,
    or has below its first `depth`, gets nothing from it. Equal sums are in the order of the first run that has the
    document. Raises `ValueError` for weights that do not fit, `DataError` for a run with scores that are not finite.
    """
    if not runs or isinstance(runs, Mapping):
        raise ValueError("fusion needs a list of runs, each {query id: {document id: score}}")
    if not isinstance(k, Real) or not k > -1:
        raise ValueError(f"k is {k!r}; it must be above -1, 60 is usual")
    if depth is not None:
        check_depth(depth, "depth")
    shares = [1.0] * len(runs) if weights is None else [float(weight) for weight in weights]
    if len(shares) != len(runs) or not all(0 <= share < math.inf for share in shares):
        raise ValueError(f"weights is {weights}; expected {len(runs)} numbers that are not negative, one a run")
    fused: dict[str, dict[str, float]] = {}
    for number, run in enumerate(runs):
        check_run(run, f"run {number}")
    for run, share in zip(runs, shares, strict=True):
        for query, scored in run.items():
            sums = fused.setdefault(query, {})
            best = sorted(scored, key=lambda document: -scored[document])[:depth]
            for rank, document in enumerate(best, 1):
                sums[document] = sums.get(document, 0.0) + share / (k + rank)
    return {query: dict(sorted(sums.items(), key=lambda item: -item[1])) for query, sums in fused.items()}


def _check_bm25(k1: float, b: float, method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    if not 0 <= k1 < math.inf or not 0 <= b <= 1:
        raise ValueError(f"k1 is {k1} and b is {b}; expected k1 of at least 0 and b in 0..1")
    if k1 == 0 and method == "bm25+":
        raise ValueError(
            'k1 is 0, which method="bm25+" divides by; with k1=0 the methods differ in idf only, take another'
        )


def _check_vectors(vectors: Any, count: int, of: str) -> np.ndarray:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) != count:
        raise DataError(f"the vectors of {count} {of} have shape {vectors.shape}; expected ({count}, H)")
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if wrong.size:
        raise DataError(f"the vector of row {wrong[0]} of the {of} is not finite ({wrong.size} such rows)")
    return vectors


def _splitter(
    tokenize: Callable[[str], list[str]], stop_words: str | Collection[str] | None
) -> Callable[[str], list[str]]:
    if isinstance(stop_words, str):
        if stop_words != "english":
            raise ValueError(f'stop_words is {stop_words!r}; expected "english" or a collection of words')
        stop_words = _bm25s().stopwords.STOPWORDS_EN
    stopped = frozenset(stop_words or ())
    return lambda text: [word for word in tokenize(text) if word not in stopped]


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise ImportError('BM25 needs bm25s, which is not installed: pip install "crossenc_kit[search]"') from error
    return bm25s
