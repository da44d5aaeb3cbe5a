"""What scores pairs: a function of text pairs, or a model with a method `predict`, whichever library it is of."""

from __future__ import annotations

import hashlib
import inspect
import json
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.errors import DataError

FAR, BOUND = 1e4, 100.0  # raw scores so far from 0, and what an activation that bounds them leaves of the distance
Scorer = Callable[[Sequence[tuple[str, str]]], ArrayLike]
# What a configuration says of where it was, not of what the model computes; the activation is looked at by itself.
NOT_THE_MODEL = {"_name_or_path", "transformers_version", "architectures", "sentence_transformers"}
NOT_THE_MODEL |= {"sbert_ce_default_activation_function", "torch_dtype", "dtype", "problem_type", "use_cache"}


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


def score_pairs(scorer: Scorer, texts: Sequence[tuple[str, str]]) -> np.ndarray:
    """`scorer(texts)` as a float array, checked: one finite number (or row of numbers) a pair."""
    scores = np.asarray(as_scorer(scorer)(texts), dtype=float)
    if scores.ndim == 0 or len(scores) != len(texts):
        raise DataError(f"the scorer gave scores of shape {scores.shape} for {len(texts)} pairs")
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=tuple(range(1, scores.ndim))))
    if len(bad):
        raise DataError(
            f"the scorer gave {scores[bad[0]]} for row {bad[0]} ({len(bad)} of {len(texts)} rows are not finite)"
        )
    return scores


def check_finite(scores: np.ndarray, where: Callable[[int], str], scorer: str = "the scorer", advice: str = "") -> None:
    """Raise `DataError` for the first of N scores, `(N,)` or `(N, C)`, that is not finite; `where` names its pair.

    `advice` is the end of the error: what may be done.
    """
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=tuple(range(1, scores.ndim))))
    if len(bad):
        count = f"{len(bad):,} of {len(scores):,} scores are not finite"
        raise DataError(f"{scorer} gave {scores[bad[0]]} for {where(int(bad[0]))} ({count}){advice}")


def _identity(scorer: Any, name: str | None) -> dict[str, Any]:
    """What tells a teacher from others: the caller's name for it, a `CrossEncoder`'s fingerprint, or both."""
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise ValueError(f'teacher is {name!r}; expected a name with a version, such as "bm25-k1=1.2"')
    try:
        return {"name": name, "fingerprint": teacher_fingerprint(scorer)}
    except ValueError:
        if name is None:
            raise
    return {"name": name, "fingerprint": None}


def _cross_encoder(scorer: Any) -> Any:
    """The `CrossEncoder` that a scorer is, or is the method `predict` of; None for any other scorer."""
    owner = owner_of(scorer)
    return owner if any(kind.__name__ == "CrossEncoder" for kind in type(owner).__mro__) else None


def teacher_fingerprint(scorer: Any) -> str:
    """sha256 of all that a `CrossEncoder`'s scores depend on: equal for a model saved and loaded again.

    Weights (bytes, types, shapes, adapters), configuration, tokenizer, `max_length`, truncation and activation. Of a
    scorer that holds it as its `fingerprint`, as a `ScoringPool` does that of its model, this one. Raises `ValueError`
    for any other scorer, and for an activation that is not made of modules of torch.
    """
    known = getattr(owner_of(scorer), "fingerprint", None)
    if isinstance(known, str) and known:
        return known
    model = _cross_encoder(scorer)
    if model is None:
        name = getattr(scorer, "__name__", type(scorer).__name__)
        raise ValueError(
            f'{name} says nothing of its version: give teacher="name-and-version", and change it whenever the scores '
            "would be others (a CrossEncoder is known by its weights)"
        )
    import torch

    activation = model.activation_fn
    parts = list(activation.modules()) if isinstance(activation, torch.nn.Module) else [None]
    if not all(type(part).__module__.startswith("torch.") for part in parts):
        raise ValueError(
            f"the activation {activation!r} is the caller's own, and what it computes cannot be seen from outside: "
            'give teacher="name-and-version"'
        )
    digest = hashlib.sha256()
    said = {
        "class": type(model.model).__name__,
        "activation": repr(activation),
        "truncation": getattr(model, "truncation", "longest_first"),
    }
    said |= {"max_length": getattr(model, "max_seq_length", None) or model.max_length}  # sentence-transformers' name
    said |= {"config": _config(model.model.config), "tokenizer": _tokenizer(model.tokenizer)}
    said |= {"adapters": {name: c.to_dict() for name, c in getattr(model.model, "peft_config", {}).items()}}
    said |= {"adapter": str(getattr(model.model, "active_adapter", ""))}
    digest.update(json.dumps(said, sort_keys=True, default=_listed).encode())
    for name, weight in {**model.model.state_dict(), **_named(activation)}.items():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _named(activation: Any) -> dict[str, Any]:
    return {f"activation {name}": weight for name, weight in activation.state_dict().items()}


def _config(config: Any) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in NOT_THE_MODEL}


def _tokenizer(tokenizer: Any) -> Any:
    """All that a tokenizer does to texts; how a call padded and cut is left on it, and left out."""
    said: Any = sorted(tokenizer.get_vocab().items())
    if getattr(tokenizer, "is_fast", False):
        said = json.loads(tokenizer.backend_tokenizer.to_str())
        said.update(padding=None, truncation=None)
    return [said, tokenizer.special_tokens_map, tokenizer.truncation_side, tokenizer.model_input_names]


def _listed(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)


def warn_at_call(message: str, kind: type[Warning] = UserWarning) -> None:
    """Warn of the line that called the package, however deep the call is."""
    level, frame = 1, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").startswith("crossenc_kit."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=level)
