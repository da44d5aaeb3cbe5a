"""Which layers of a student and its teacher are compared, and whether they can be: looked at before the first step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.batches import Tokens, tokenize
from crossenc_kit.layer_losses import ATTENTION_LOSSES
from crossenc_kit.model import CrossEncoder, TruncationWarning
from crossenc_kit.pairs import DataError, Pairs
from crossenc_kit.students import spread
from crossenc_kit.training_config import TrainingConfig, check_config, precision_of

USED = {"epochs", "batch_size", "accumulation", "token_budget", "max_steps", "learning_rate", "warmup_steps"}
USED |= {"scheduler", "weight_decay", "layer_decay", "head_factor", "max_grad_norm", "precision", "seed"}


class Matching(NamedTuple):
    """What is compared: (student's layer, teacher's layer) numbers from 0, and what each kind of error weighs."""

    layers: list[tuple[int, int]]
    hidden_weight: float
    attention_weight: float
    attention: str


class BothTokens(NamedTuple):
    """The same token ids as each of the two models takes them: with segment ids, or without."""

    student: Tokens
    teacher: Tokens


def check_settings(config: TrainingConfig) -> None:
    """Raise `ValueError` for a setting without a meaning, or one that `match_layers` would not look at."""
    check_config(config)
    others = [f.name for f in fields(config) if f.name not in USED and getattr(config, f.name) != f.default]
    if others:
        raise ValueError(f"match_layers does not use {', '.join(others)}; leave it at its default, or set it for train")
    if precision_of(config) == "fp16":
        raise ValueError("match_layers trains in fp32 or bf16, not in fp16")


def checked_matching(
    student: CrossEncoder, teacher: CrossEncoder, layer_map: Any, weights: tuple[float, float], attention: str
) -> Matching:
    """What is asked for, checked against the two models; `ValueError` where they cannot be compared so."""
    for name, model in (("student", student), ("teacher", teacher)):
        if not isinstance(model, CrossEncoder):
            raise TypeError(f"the {name} is no CrossEncoder, but {model!r:.60}: load it with CrossEncoder(...) first")
        if model.backend != "torch":
            raise ValueError(
                f"the {name} is an export ({model.backend}), whose layers cannot be seen: take the float32 model "
                "(backend='torch'), and export the student afterwards"
            )
    if student.model is teacher.model:
        raise ValueError("student and teacher are one model; make_student cuts a student that is its own")
    for name, weight in zip(("hidden_weight", "attention_weight"), weights, strict=True):
        if not isinstance(weight, Real) or isinstance(weight, bool) or not 0 <= weight < math.inf:
            raise ValueError(f"{name} must be a number, 0 or more, got {weight!r}")
    if not any(weights):
        raise ValueError("hidden_weight and attention_weight are both 0: there is nothing to match")
    if attention not in ATTENTION_LOSSES:
        raise ValueError(f"unknown attention={attention!r}; choose from {', '.join(ATTENTION_LOSSES)}")
    heads = student.config.num_attention_heads, teacher.config.num_attention_heads
    if weights[1] and heads[0] != heads[1]:
        raise ValueError(
            f"the student has {heads[0]} attention heads and the teacher {heads[1]}: set attention_weight=0"
        )
    return Matching(_checked_map(layer_map, student, teacher), float(weights[0]), float(weights[1]), attention)


def _checked_map(layer_map: Any, student: CrossEncoder, teacher: CrossEncoder) -> list[tuple[int, int]]:
    own, others = student.config.num_hidden_layers, teacher.config.num_hidden_layers
    if layer_map is None:
        if own > others:
            raise ValueError(f"the student has {own} layers and its teacher {others}: give a layer_map")
        layer_map = spread(own, others)
    if not isinstance(layer_map, Mapping):
        if len(layer_map) != own:
            raise ValueError(
                f"layer_map has {len(layer_map)} layers for a student of {own}; use a dict for some of them"
            )
        layer_map = dict(enumerate(layer_map))
    if not layer_map:
        raise ValueError("layer_map names no layer")
    for name, numbers, count in ("student", layer_map, own), ("teacher", layer_map.values(), others):
        for number in numbers:
            if not isinstance(number, Integral) or isinstance(number, bool) or not 0 <= int(number) < count:
                raise ValueError(f"layer_map names layer {number!r} of the {name}, whose layers are 0 to {count - 1}")
    return sorted((int(i), int(j)) for i, j in layer_map.items())


def same_tokens(student: CrossEncoder, teacher: CrossEncoder, pairs: Pairs) -> BothTokens:
    """The pairs as each model takes them; `ValueError` where these are not the same tokens."""
    if not len(pairs):
        raise DataError("there is nothing to match layers on: no pairs")
    first, second = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if first != second:
        common = len(first.items() & second.items())
        raise ValueError(
            f"student and teacher read with different tokenizers (vocabularies of {len(first)} and {len(second)} "
            f"tokens, {common} in common): layers are compared token by token. Cut the student from its teacher with "
            "make_student, or distil the scores alone"
        )
    longest = min(student.max_length, teacher.max_length)
    both = BothTokens(*(tokenize(m.tokenizer, pairs, longest, student.truncation) for m in (student, teacher)))
    if not _equal(both.student, both.teacher):
        raise ValueError(
            "student and teacher have the same vocabulary, but make other tokens of these pairs (lower case, or other "
            "special tokens): layers are compared token by token"
        )
    if cut := both.student.num_truncated:
        warnings.warn(
            f"{cut} of {pairs.num_pairs} pairs exceed {longest} tokens and were cut", TruncationWarning, stacklevel=3
        )
    return both


def _equal(first: Tokens, second: Tokens) -> bool:
    pieces = [(tokens.template.before, tokens.template.between, tokens.template.after) for tokens in (first, second)]
    same = all(np.array_equal(a, b) for a, b in zip(*pieces, strict=True))
    return same and np.array_equal(first.ids, second.ids) and np.array_equal(first.kept, second.kept)
