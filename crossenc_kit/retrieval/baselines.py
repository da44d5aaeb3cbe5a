"""Baselines that do not learn: word overlap as a scorer, random documents as a search.

A cross-encoder has to beat them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossenc_kit.data.documents import check_depth, document_texts, draws, ids_of
from crossenc_kit.retrieval.search import Search

WORD = re.compile(r"\w+")


def words(text: str) -> set[str]:
    """Return the distinct lower-cased words of a text."""
    return set(WORD.findall(text.lower()))


def word_overlap(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Score N pairs by their shared words over all distinct words, |A & B| / |A | B|, `(N,)`.

    Jaccard, "The distribution of the flora in the alpine zone", 1912. Two empty texts score 0.
    """
    scores = np.zeros(len(pairs))
    for row, (left, right) in enumerate(pairs):
        a, b = words(left), words(right)
        scores[row] = len(a & b) / len(a | b) if a | b else 0.0
    return scores


def random_index(documents: Mapping[str, Any], *, seed: int = 0) -> Search:
    """Make a `search(queries, k=100)` that draws documents at random, scored 1, 1/2, 1/3, ...

    A draw depends on the seed, the query's id and the documents, not on the other queries.
    """
    ids = ids_of(document_texts(documents), "document")

    def search(queries: Mapping[str, str], k: int = 100) -> dict[str, dict[str, float]]:
        check_depth(k)
        run = {}
        for query in ids_of(queries, "query", least=0):
            rows = draws(seed, query).choice(len(ids), min(k, len(ids)), replace=False)
            run[query] = {ids[row]: 1.0 / rank for rank, row in enumerate(rows, 1)}
        return run

    return search
