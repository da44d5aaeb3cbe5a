"""What scores pairs: any function of text pairs, or a model with a method `predict`.

Every room that scores goes through this file: it finds the function to call, asks for raw scores
where an order is wanted, checks what comes back, and tells one scorer from another by a fingerprint.
"""

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

# A bounded activation maps raw scores of -1e4 and 1e4 to values less than 100 apart.
FAR, BOUND = 1e4, 100.0
Scorer = Callable[[Sequence[tuple[str, str]]], ArrayLike]
Evaluator = Callable[[Any], Mapping[str, float] | float]  # of a model, for `train`
# Entries of a configuration that say where a model has been, not what it computes. The activation is
# fingerprinted separately.
NOT_THE_MODEL = {"_name_or_path", "transformers_version", "architectures", "sentence_transformers"}
NOT_THE_MODEL |= {"sbert_ce_default_activation_function", "torch_dtype", "dtype"}
NOT_THE_MODEL |= {"problem_type", "use_cache"}
# Decorators and context managers put frames of these modules between the caller and the package.
WRAPPERS = {"contextlib", "torch.utils._contextlib"}


def as_scorer(scorer: Any) -> Callable[..., Any]:
    """Return the function to call: a model's `predict`, or the function itself.

    Models of other libraries are callable too, but they take token ids.
    Raises `TypeError` if `scorer` is neither.
    """
    call = getattr(scorer, "predict", scorer)
    if not callable(call):
        raise TypeError(f"a scorer is a function of text pairs or a model with a method predict, got {scorer!r:.80}")
    return call


def owner_of(scorer: Any) -> Any:
    """Return the model if `scorer` is its method `predict`, else `scorer` itself."""
    is_predict = getattr(scorer, "__name__", "predict") == "predict"
    return getattr(scorer, "__self__", scorer) if is_predict else scorer


def cross_encoder_of(scorer: Any) -> Any:
    """Return the `CrossEncoder` (of any library) behind a scorer, or None."""
    owner = owner_of(scorer)
    return owner if any(kind.__name__ == "CrossEncoder" for kind in type(owner).__mro__) else None


def scorer_label_names(scorer: Any) -> tuple[str, ...]:
    """Return the class names of a scorer's columns, or an empty tuple if it has none.

    Another library's model has them in its configuration.
    """
    owner = owner_of(scorer)
    names = getattr(owner, "label_names", None)
    if names is None and getattr(getattr(owner, "config", None), "id2label", None):
        names = config_label_names(owner.config)
    return tuple(map(str, names or ()))


def config_label_names(config: Any) -> tuple[str, ...]:
    """Read the class names from a configuration; empty if they are only LABEL_0, LABEL_1, ..."""
    names = tuple(str(name) for _, name in sorted((config.id2label or {}).items()))
    return () if names == tuple(f"LABEL_{index}" for index in range(len(names))) else names


def without_unknown(scorer: Any, options: Mapping[str, Any], speed: Collection[str]) -> dict[str, Any]:
    """Drop the `speed` options that the scorer does not accept; they never change a score."""
    known = inspect.signature(as_scorer(scorer)).parameters if options else {}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    return {name: v for name, v in options.items() if takes_all or name in known or name not in speed}


def raw_scorer(scorer: Any) -> Callable[..., Any]:
    """Return a scorer of raw scores, for anything that orders documents.

    The sigmoid of a model with one label keeps the order, but in float32 it is exactly 1 for every raw
    score above about 17, and different documents become equal. A bound method is used unchanged.
    """
    call, raw = as_scorer(scorer), raw_options(scorer)
    return (lambda pairs, **options: call(pairs, **{**options, **raw})) if raw else call


def raw_options(scorer: Any) -> dict[str, Any]:
    """Return the options of `predict` that give raw scores, if the model has one bounded label."""
    one_label = getattr(scorer, "num_labels", 0) == 1
    if not one_label or not saturates(getattr(scorer, "activation_fn", None)):
        return {}
    from torch import nn

    return {"activation_fn": nn.Identity()}


def saturates(activation: Any) -> bool:
    """Tell whether an activation rises with the raw score and is bounded, as a sigmoid is."""
    if not callable(activation):
        return False
    import torch

    low, high = (float(activation(torch.full((1, 1), far))) for far in (-FAR, FAR))
    return 0 < high - low < BOUND


def score_pairs(scorer: Scorer, texts: Sequence[tuple[str, str]]) -> np.ndarray:
    """Score N pairs and check the result: `(N,)` or `(N, C)`, float64, every number finite.

    Raises `DataError` for another shape, and names the first row that is not finite.
    """
    scores = np.asarray(as_scorer(scorer)(texts), dtype=float)
    if scores.ndim == 0 or len(scores) != len(texts):
        raise DataError(f"the scorer gave scores of shape {scores.shape} for {len(texts)} pairs")
    check_finite(scores, "row {}".format)
    return scores


def check_finite(
    scores: np.ndarray,
    where: Callable[[int], str],
    scorer: str = "the scorer",
    advice: str = "",
) -> None:
    """Raise `DataError` if a score of `(N,)` or `(N, C)` is not finite.

    where: turns the row number into the name of its pair
    advice: what can be done, the end of the message
    """
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=tuple(range(1, scores.ndim))))
    if len(bad):
        count = f"{len(bad):,} of {len(scores):,} scores are not finite"
        found = f"{scorer} gave {scores[bad[0]]} for {where(int(bad[0]))}"
        raise DataError(f"{found} ({count}){advice}")


def fingerprint(scorer: Any) -> str:
    """Return the sha256 of everything a `CrossEncoder`'s scores depend on.

    These are weights (bytes, types, shapes, adapters), configuration, tokenizer, `max_length`, truncation
    and activation. A model has the same fingerprint after saving and loading. Scorers with an attribute
    `fingerprint`, such as a `ScoringPool`, return it.

    Raises `ValueError` for any other scorer, and for an activation that is not built from torch modules.
    """
    known = getattr(owner_of(scorer), "fingerprint", None)
    if isinstance(known, str) and known:
        return known
    model = cross_encoder_of(scorer)
    if model is None:
        name = getattr(scorer, "__name__", type(scorer).__name__)
        raise ValueError(
            f'{name} has no version to go by: give teacher="name-and-version", and change it whenever '
            "the scores would change (a CrossEncoder is recognised by its weights)"
        )
    check_activation(model.activation_fn)
    digest = hashlib.sha256(json.dumps(_description(model), sort_keys=True, default=_listed).encode())
    weights = {f"activation {k}": weight for k, weight in model.activation_fn.state_dict().items()}
    import torch

    for name, weight in {**model.model.state_dict(), **weights}.items():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        flat = weight.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_activation(activation: Any) -> None:
    """Raise `ValueError` for an activation that is not torch's: nobody can tell it from another."""
    parts = list(activation.modules()) if hasattr(activation, "modules") else [None]
    if not all(type(part).__module__.startswith("torch.") for part in parts):
        raise ValueError(
            f"the activation {activation!r} is your own, and scores kept on the disk cannot say which "
            "one made them: use one of torch.nn, or raw scores (identity); a cache of your own also "
            'takes teacher="name-and-version"'
        )


def _description(model: Any) -> dict[str, Any]:
    """Describe everything about a model except its weights, ready for JSON."""
    inner = model.model
    config = {name: v for name, v in inner.config.to_dict().items() if name not in NOT_THE_MODEL}
    return {
        "class": type(inner).__name__,
        "activation": repr(model.activation_fn),
        "truncation": getattr(model, "truncation", "longest_first"),
        # sentence-transformers calls it max_seq_length
        "max_length": getattr(model, "max_seq_length", None) or model.max_length,
        "config": config,
        "tokenizer": _tokenizer(model.tokenizer),
        "adapters": {n: c.to_dict() for n, c in getattr(inner, "peft_config", {}).items()},
        "adapter": str(getattr(inner, "active_adapter", "")),
    }


def _tokenizer(tokenizer: Any) -> Any:
    """Describe what a tokenizer does to texts, without the padding and truncation of its last call."""
    said: Any = sorted(tokenizer.get_vocab().items())
    if getattr(tokenizer, "is_fast", False):
        said = json.loads(tokenizer.backend_tokenizer.to_str())
        said.update(padding=None, truncation=None)
    names = tokenizer.model_input_names
    return [said, tokenizer.special_tokens_map, tokenizer.truncation_side, names]


def _listed(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)


def warn_at_call(message: str, kind: type[Warning] = UserWarning) -> None:
    """Warn at the line that called the package, however deep inside it this is called."""
    level, frame = 1, inspect.currentframe()
    while frame and _is_inside(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=level)


def _is_inside(module: str) -> bool:
    return module.startswith("crossenc_kit.") or module in WRAPPERS
