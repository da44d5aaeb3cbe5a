"""What scores pairs: a function of text pairs, or a model with a method `predict`, whichever library it is of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
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


def owner_of(scorer: Any) -> Any:
    """What a scorer is, or the model that it is the method `predict` of."""
    return getattr(scorer, "__self__", scorer) if getattr(scorer, "__name__", "predict") == "predict" else scorer


def scorer_label_names(scorer: Any) -> tuple[str, ...]:
    """The names of a scorer's classes, in the order of its columns; empty where it says none.

    Those of a model, of its method `predict`, of a pool or an ensemble; of another library's model its configuration's.
    """
    owner = owner_of(scorer)
    names = getattr(owner, "label_names", None)
    if names is None and getattr(getattr(owner, "config", None), "id2label", None):
        names = config_label_names(owner.config)
    return tuple(map(str, names or ()))


def config_label_names(config: Any) -> tuple[str, ...]:
    """The classes' names that a model's configuration holds, in index order; empty where it holds none."""
    names = tuple(str(name) for _, name in sorted((config.id2label or {}).items()))
    return () if names == tuple(f"LABEL_{index}" for index in range(len(names))) else names


def without_unknown(scorer: Any, options: Mapping[str, Any], speed: Collection[str]) -> dict[str, Any]:
    """The options for a call, without those of `speed` that the scorer has no parameter for: no score needs them."""
    if not options:
        return {}
    try:
        known = inspect.signature(as_scorer(scorer)).parameters
    except ValueError:  # some functions of C tell nothing
        return dict(options)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return dict(options)
    return {name: value for name, value in options.items() if name in known or name not in speed}


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
