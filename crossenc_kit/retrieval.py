"""Scorers that do not learn: word overlap, and the cosine of two separately encoded texts.

Each is a scorer: a list of N pairs in, an array `(N,)` out. They are the baselines a cross-encoder
has to beat.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from crossenc_kit.backbones import explain_missing, find_backbone, quiet_transformers
from crossenc_kit.workers import side_by_side

WORD = re.compile(r"\w+")
BATCH_TOKENS = 1024  # of the encoder: fills the matrix products of a CPU, fits its caches
TEXTS_AT_ONCE = 8192  # tokenised before they are encoded: bounds memory


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

    folder = find_backbone(name)
    try:
        with quiet_transformers():
            tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    except OSError as error:
        raise explain_missing(folder, error) from error
    if int8:
        from crossenc_kit.quantization import quantize

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

    from crossenc_kit.products import FastProducts

    longest = max(1, *map(len, ids))
    padded = torch.tensor([row + [pad_id] * (longest - len(row)) for row in ids])  # (B, T)
    mask = torch.arange(longest) < torch.tensor([len(row) for row in ids])[:, None]
    with torch.inference_mode(), FastProducts():
        hidden = model(input_ids=padded, attention_mask=mask.long()).last_hidden_state  # (B, T, H)
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)  # (B, H)
        return torch.nn.functional.normalize(mean, dim=1).numpy()
