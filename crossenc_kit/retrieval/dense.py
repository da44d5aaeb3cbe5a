"""retrieval.dense"""

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
from crossenc_kit.retrieval.search import Include, Run, Search, search_with

BATCH_TOKENS = 1024  # of the encoder: fills the matrix products of a CPU, fits its caches
TEXTS_AT_ONCE = 8192  # tokenised before they are encoded: bounds memory
SCORES_AT_ONCE = 1 << 23  # query-document scores held at a time: 32 MiB


def dense_cosine(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """The cosine of the two texts' `"minilm"` embeddings, `(N,)` in -1..1: a bi-encoder without training."""
    return cosine(pairs, encoder("minilm"))


def cosine(pairs: Sequence[tuple[str, str]], encode: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    """The cosine of each pair `(N,)` under `encode`, which maps U texts to unit vectors `(U, H)`."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    if not texts:
        return np.zeros(0)
    rows = {text: row for row, text in enumerate(texts)}
    vectors = encode(texts)
    left, right = ([rows[pair[side]] for pair in pairs] for side in (0, 1))
    return np.clip(np.einsum("nh,nh->n", vectors[left], vectors[right]), -1.0, 1.0)  # rounding goes past 1


@lru_cache(maxsize=2)
def encoder(
    name: str = "minilm", max_length: int = 256, *, int8: bool = False
) -> Callable[[Sequence[str]], np.ndarray]:
    """A bi-encoder's `encode`: mean of the last hidden states over tokens, scaled to length 1.

    Reimers and Gurevych, "Sentence-BERT", 2019. For `"minilm"` these are the vectors of
    sentence-transformers' all-MiniLM-L6-v2. Texts are encoded in batches of about 1024 tokens, `threads` of them side
    by side (default: as many as torch uses). `int8`: layers that multiply whole numbers (see quantization.py), for a
    corpus on a CPU; cosines move by .005 on average, a little also with the batch. Raises `BackboneError` where the
    weights cannot be had.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = find_backbone(name).folder
    try:
        with quiet_transformers():
            tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    except OSError as error:
        raise explain_missing(folder, error) from error
    if int8:
        from crossenc_kit.models.int8 import quantize

        model = quantize(model)
    pad_id = tokenizer.pad_token_id or 0

    def encode(texts: Sequence[str], batch_size: int = 64, threads: int | None = None) -> np.ndarray:
        vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = list(texts[start : start + TEXTS_AT_ONCE])
            ids = tokenizer(some, truncation=True, max_length=max_length, verbose=False)["input_ids"]
            vectors[start : start + len(some)] = _encode_ids(model, ids, pad_id, batch_size, threads)
        return vectors

    return encode


def _encode_ids(model: Any, ids: list[list[int]], pad_id: int, batch_size: int, threads: int | None) -> np.ndarray:
    """The vectors `(U, H)` of tokenised texts, in batches of similar length, several side by side."""
    import torch

    lengths = np.array([len(row) for row in ids])
    vectors = np.zeros((len(ids), model.config.hidden_size), dtype=np.float32)

    def work(rows: np.ndarray) -> None:
        vectors[rows] = _encode_batch(model, [ids[row] for row in rows], pad_id)

    side_by_side(work, _cut(lengths, batch_size), threads or torch.get_num_threads())
    return vectors


def _cut(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Rows from long to short in batches of at most `BATCH_TOKENS` tokens with padding, and `batch_size` rows."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, min(batch_size, BATCH_TOKENS // max(1, int(lengths[order[start]]))))
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


def _check_vectors(vectors: Any, count: int, of: str) -> np.ndarray:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) != count:
        raise DataError(f"the vectors of {count} {of} have shape {vectors.shape}; expected ({count}, H)")
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if wrong.size:
        raise DataError(f"the vector of row {wrong[0]} of the {of} is not finite ({wrong.size} such rows)")
    return vectors
