"""Pairs to score, and the sizes of the batches in which `predict` asks for scores."""

from __future__ import annotations

import torch
from families import pairs_of_all_lengths

PAIRS = pairs_of_all_lengths()[:8]  # none longer than 64 tokens


def batches(model, monkeypatch, most=None):
    """The sizes of all batches that `predict` asks scores for; more rows than `most` do not fit into memory."""
    sizes, scores = [], model.scores

    def counted(tokens, rows):
        sizes.append(len(rows))
        if most is not None and len(rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return scores(tokens, rows)

    monkeypatch.setattr(model, "scores", counted)
    return sizes
