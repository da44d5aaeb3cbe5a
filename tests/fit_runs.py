"""Pairs and fresh models for `fit`, and what two models are compared by."""

from __future__ import annotations

import torch

from crossenc_kit import CrossEncoder

PAIRS = [("a cat", "a dog", 0.3), ("the sun", "a star", 0.9), ("one two", "three", 0.0), ("red", "green blue", 0.6)]


def fresh(num_labels=1, dropout=True):
    changes = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return CrossEncoder("tiny", num_labels=num_labels, seed=0, device="cpu", config_args=changes)


QUIET = {"warmup_steps": 0, "show_progress_bar": False}


def weights(model):
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)
