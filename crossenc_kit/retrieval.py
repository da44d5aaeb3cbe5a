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
def encoder(name: str = "minilm", max_length: int = 256) -> Callable[[Sequence[str]], np.ndarray]:
    """A bi-encoder's `encode`: mean of the last hidden states over tokens, scaled to length 1.

    Reimers and Gurevych, "Sentence-BERT", 2019. For `"minilm"` these are the vectors of
    sentence-transformers' all-MiniLM-L6-v2. Raises `BackboneError` where the weights cannot be had.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = find_backbone(name)
    try:
        with quiet_transformers():
            tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    except OSError as error:
        raise explain_missing(folder, error) from error

    def encode(texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        order = np.argsort([-len(text) for text in texts], kind="stable")
        vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            vectors[rows] = _encode_batch(tokenizer, model, [texts[row] for row in rows], max_length)
        return vectors

    return encode


def _encode_batch(tokenizer: Any, model: Any, texts: list[str], max_length: int) -> np.ndarray:
    import torch

    from crossenc_kit.products import FastProducts

    batch = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.inference_mode(), FastProducts():
        hidden = model(**batch).last_hidden_state  # (B, T, H)
        mask = batch["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)  # (B, H)
        return torch.nn.functional.normalize(mean, dim=1).numpy()
