"""Dense retrieval: a bi-encoder's vectors, the cosine of two texts, and exact search by vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from crossenc_kit.data.documents import document_texts, ids_of
from crossenc_kit.errors import DataError
from crossenc_kit.models.backbones import explain_missing, find_backbone, quiet_transformers
from crossenc_kit.models.devices import side_by_side
from crossenc_kit.retrieval.search import Search, search_with

Encode = Callable[[Sequence[str]], np.ndarray]  # U texts to vectors (U, H)
BATCH_TOKENS = 1024  # of the encoder: fills the matrix products of a CPU, fits its caches
TEXTS_AT_ONCE = 8192  # tokenised before they are encoded: bounds memory
SCORES_AT_ONCE = 1 << 23  # query-document scores held at a time: 32 MiB


def dense_cosine(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Score pairs by the cosine of their `"minilm"` vectors, `(N,)`: an untrained bi-encoder."""
    return cosine(pairs, encoder("minilm"))


def cosine(pairs: Sequence[tuple[str, str]], encode: Encode) -> np.ndarray:
    """Score pairs by the cosine `(N,)` of the unit vectors that `encode` gives their texts."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    if not texts:
        return np.zeros(0)
    rows = {text: row for row, text in enumerate(texts)}
    vectors = encode(texts)  # (U, H)
    left, right = ([rows[pair[side]] for pair in pairs] for side in (0, 1))
    products = np.einsum("nh,nh->n", vectors[left], vectors[right])
    return np.clip(products, -1.0, 1.0)  # rounding goes past 1


@lru_cache(maxsize=2)
def encoder(name: str = "minilm", max_length: int = 256, *, int8: bool = False) -> Callable[..., np.ndarray]:
    """Load a bi-encoder's `encode(texts)`: the mean last hidden state over tokens, of length 1.

    Reimers and Gurevych, "Sentence-BERT", 2019. For `"minilm"` these are the vectors of
    sentence-transformers' all-MiniLM-L6-v2.

    int8: multiply whole numbers, for a large corpus on a CPU; cosines move by .005 on average

    Raises `BackboneError` if the weights cannot be had.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = find_backbone(name).folder
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModel.from_pretrained(folder).eval()
    except OSError as error:
        raise explain_missing(folder, error) from error
    if int8:
        from crossenc_kit.models.int8 import quantize

        model = quantize(model)
    pad_id = tokenizer.pad_token_id or 0

    def encode(texts: Sequence[str], batch_size: int = 64, threads: int | None = None) -> np.ndarray:
        vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)  # (U, H)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = list(texts[start : start + TEXTS_AT_ONCE])
            options = {"truncation": True, "max_length": max_length, "verbose": False}
            ids = tokenizer(some, **options)["input_ids"]
            rows = slice(start, start + len(some))
            vectors[rows] = _encode_ids(model, ids, pad_id, batch_size, threads)
        return vectors

    return encode


def _encode_ids(model: Any, ids: list[list[int]], pad_id: int, batch_size: int, threads: int | None) -> np.ndarray:
    """Encode tokenised texts as `(U, H)`, in batches of similar length, several side by side."""
    import torch

    lengths = np.array([len(row) for row in ids])
    vectors = np.zeros((len(ids), model.config.hidden_size), dtype=np.float32)

    def work(rows: np.ndarray) -> None:
        vectors[rows] = _encode_batch(model, [ids[row] for row in rows], pad_id)

    side_by_side(work, _cut(lengths, batch_size), threads or torch.get_num_threads())
    return vectors


def _cut(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut rows, longest first, into batches of at most `BATCH_TOKENS` and `batch_size` rows."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        fit = BATCH_TOKENS // max(1, int(lengths[order[start]]))  # with padding
        size = max(1, min(batch_size, fit))
        batches.append(order[start : start + size])
        start += size
    return batches


def _encode_batch(model: Any, ids: list[list[int]], pad_id: int) -> np.ndarray:
    import torch

    from crossenc_kit.models.products import FastProducts

    longest = max(1, *map(len, ids))
    padded = torch.tensor([row + [pad_id] * (longest - len(row)) for row in ids])  # (B, T)
    mask = torch.arange(longest) < torch.tensor([len(row) for row in ids])[:, None]
    with torch.inference_mode(), FastProducts():
        hidden = model(input_ids=padded, attention_mask=mask.long()).last_hidden_state  # (B, T, H)
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)  # (B, H)
        return torch.nn.functional.normalize(mean, dim=1).numpy()


def dense_index(
    documents: Mapping[str, Any],
    encode: Encode | None = None,
    *,
    document_vectors: np.ndarray | None = None,
) -> Search:
    """Make a `search(queries, k=100, include=None)` over D documents by inner product of vectors.

    Every document is compared, in blocks of queries.

    encode: maps U texts to vectors `(U, H)`; by default the `"minilm"` encoder's unit vectors
    document_vectors: `(D, H)` in the order of the documents, if they are encoded already

    Raises `DataError` for vectors that have another shape or are not finite.
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
        asked = _check_vectors(encode(texts), len(texts), "queries")  # (Q, H)
        for start in range(0, len(texts), block):
            for scores in asked[start : start + block] @ vectors.T:  # (block, D)
                yield scores, -math.inf

    return search_with(scores_of, ids)


def _check_vectors(vectors: Any, count: int, of: str) -> np.ndarray:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) != count:
        raise DataError(f"the vectors of {count} {of} have shape {vectors.shape}; expected ({count}, H)")
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if wrong.size:
        raise DataError(f"the vector of row {wrong[0]} of the {of} is not finite")
    return vectors
