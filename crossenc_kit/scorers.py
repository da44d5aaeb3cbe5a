"""What scores pairs: a function of text pairs, or a model with a method `predict`, whichever library it is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FAR, BOUND = 1e4, 100.0  # raw scores so far from 0, and what an activation that bounds them leaves of the distance


def as_scorer(scorer: Any) -> Callable[..., Any]:
    """The method `predict` of a model, a function as it is.

    Models of other libraries are callable too, and take token ids there. Raises `TypeError` for neither.
    """
    call = getattr(scorer, "predict", scorer)
    if not callable(call):
        raise TypeError(f"a scorer is a function of text pairs or a model with a method predict, got {scorer!r:.80}")
    return call


def raw_scorer(scorer: Any) -> Callable[..., Any]:
    """A scorer whose scores stay apart: of a model with one label, its raw ones.

    The sigmoid (or tanh) that such a model applies by default rises with its raw score, so the order is the same,
    but in float32 it is exactly 1 for raw scores above about 17, and documents that differ become equal. A method
    such as `model.predict` is taken as it is.
    """
    call, raw = as_scorer(scorer), raw_options(scorer)
    return (lambda pairs, **options: call(pairs, **{**options, **raw})) if raw else call


def raw_options(scorer: Any) -> dict[str, Any]:
    """What `predict` of a model takes for raw scores, where its activation would bound those of its one label."""
    if getattr(scorer, "num_labels", 0) != 1 or not saturates(getattr(scorer, "activation_fn", None)):
        return {}
    from torch import nn

    return {"activation_fn": nn.Identity()}


def saturates(activation: Any) -> bool:
    """Whether an activation rises with a raw score and is bounded, as a sigmoid is."""
    if not callable(activation):
        return False
    import torch

    low, high = (float(activation(torch.full((1, 1), far))) for far in (-FAR, FAR))
    return 0 < high - low < BOUND
