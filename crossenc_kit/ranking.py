"""Candidates of queries, ordered by a scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crossenc_kit.pairs import DataError


def rank_candidates(
    scorer: Callable[[Sequence[tuple[str, str]]], Any],
    queries: Sequence[str],
    documents: Sequence[Sequence[str]],
    top_k: int | None = None,
    return_documents: bool = False,
) -> list[list[dict[str, Any]]]:
    """The documents of each of Q queries from best to worst, scored together; equal scores keep their order.

    A hit is `{"corpus_id": index, "score": float, "text": if asked}`. Raises `DataError` where queries and
    lists of documents do not fit together.
    """
    if len(queries) != len(documents):
        raise DataError(f"{len(queries)} queries, but {len(documents)} lists of documents")
    if isinstance(queries, str) or any(isinstance(texts, str) for texts in documents):
        raise DataError("the documents of a query are a list of texts, got one string; put it in a list")
    if top_k is not None and top_k < 0:
        raise ValueError(f"top_k must not be negative, got {top_k}")
    pairs = [(query, text) for query, texts in zip(queries, documents, strict=True) for text in texts]
    scores = np.asarray(scorer(pairs))
    ranking: list[list[dict[str, Any]]] = []
    start = 0
    for texts in documents:
        own = scores[start : start + len(texts)]
        start += len(texts)
        order = np.argsort(-own, kind="stable")[:top_k]
        hits: list[dict[str, Any]] = [{"corpus_id": int(i), "score": float(own[i])} for i in order]
        if return_documents:
            hits = [{**hit, "text": texts[hit["corpus_id"]]} for hit in hits]
        ranking.append(hits)
    return ranking
