"""Scorers that do not learn: word overlap, and the cosine of two separately encoded texts.

Each is a scorer: a list of N pairs in, an array `(N,)` out. They are the baselines a cross-encoder
has to beat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from crossenc_kit.data.documents import check_depth, document_texts, draws, ids_of
from crossenc_kit.retrieval.search import Include, Run, search_with

WORD = re.compile(r"\w+")


def words(text: str) -> set[str]:
    """The distinct lower-cased words of a text."""
    return set(WORD.findall(text.lower()))


def word_overlap(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Shared words as a part of all distinct words of each pair, `(N,)` in 0..1; 0 for two empty texts.

    |A & B| / |A | B|, the coefficient of Jaccard, "The distribution of the flora in the alpine zone", 1912.
    """
    scores = np.zeros(len(pairs))
    for row, (left, right) in enumerate(pairs):
        a, b = words(left), words(right)
        scores[row] = len(a & b) / len(a | b) if a | b else 0.0
    return scores


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
