"""What a saved model says of itself: activation, longest input, truncation and label names.

Each setting comes from the caller, else from the model's folder, else from a rule. Saving writes
them where sentence-transformers looks for them too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.errors import DataError
from crossenc_kit.models.backbones import Backbone
from crossenc_kit.models.tokens import RULES
from crossenc_kit.scorers import config_label_names, warn_at_call

ST_CONFIG = "config_sentence_transformers.json"
SBERT_CONFIG = "sentence_bert_config.json"  # where sentence-transformers keeps the truncation rule
OLD_SPELLINGS = {
    "model_name": "model_name_or_path",
    "automodel_args": "model_kwargs",
    "tokenizer_args": "tokenizer_kwargs",
    "processor_kwargs": "tokenizer_kwargs",
    "config_args": "config_kwargs",
    "cache_dir": "cache_folder",
    "default_activation_function": "activation_fn",
}
# Families that count positions from the padding token's id: their table has room for fewer tokens.
COUNTS_PADDING = {"camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta"}
COUNTS_PADDING |= {"roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
UNKNOWN_LENGTH = 1e9  # transformers writes 1e30 for "no limit known"
USUAL_LENGTH = 512  # tokens, for a model that has no limit of its own


def find_activation(choice: Callable | str | None) -> Callable | None:
    """Return an activation, given itself or its name ("sigmoid", "identity", "torch.nn...Tanh").

    Raises `ValueError` for names outside `torch.nn`: a saved model must not choose what is imported.
    """
    if choice is None or callable(choice):
        return choice
    if not isinstance(choice, str):
        raise TypeError(f"an activation is a function or the name of one, got {choice!r}")
    from torch import nn

    package, _, name = choice.rpartition(".")
    name = {"sigmoid": "Sigmoid", "identity": "Identity"}.get(name, name)
    if package and not package.startswith("torch.nn"):
        raise ValueError(f"the activation {choice!r} is not part of torch.nn; pass activation_fn=... yourself")
    kind = getattr(nn, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"unknown activation {choice!r}; use 'sigmoid', 'identity' or a module of torch.nn")
    return kind()


def with_module(options: Mapping[str, Any]) -> dict[str, Any]:
    """Replace an activation's name in `predict` options by its module: other libraries need one."""
    named = isinstance(options.get("activation_fn"), str)
    return {**options, "activation_fn": find_activation(options["activation_fn"])} if named else dict(options)


def activated(choice: Callable | str) -> Callable[[np.ndarray], np.ndarray]:
    """Make an activation a function of numpy arrays: raw scores `(N,)` of one label to `(N,)`."""
    activation = find_activation(choice)

    def apply(raw: np.ndarray) -> np.ndarray:
        import torch

        return activation(torch.from_numpy(raw)[:, None])[:, 0].numpy()  # type: ignore[misc]

    return apply


def saved_activation(config: Any, backbone: Backbone) -> Callable:
    """Return the activation a saved model asks for, else sentence-transformers' rule.

    Looks into the file of sentence-transformers 6, then for the keys of 4 and 5, then of 3.
    The rule: sigmoid for one label, identity for several.
    """
    from torch import nn

    path = (backbone.json(ST_CONFIG) or {}).get("activation_fn")
    path = path or (getattr(config, "sentence_transformers", None) or {}).get("activation_fn")
    path = path or getattr(config, "sbert_ce_default_activation_function", None)
    rule = nn.Sigmoid() if config.num_labels == 1 else nn.Identity()
    try:
        return find_activation(path) or rule
    except (TypeError, ValueError) as error:  # TypeError: the module needs arguments
        warn_at_call(f"{error}; {type(rule).__name__} is used")
        return rule


def activation_path(activation: Callable) -> str:
    """Name an activation as a saved model does; warns if the name does not give it back."""
    kind = type(activation)
    path = f"{kind.__module__}.{kind.__qualname__}"
    try:
        again = find_activation(path)
    except ValueError:
        path = "torch.nn.modules.linear.Identity"
        again = find_activation(path)
    if repr(again) != repr(activation):
        warn_at_call(f"the activation {activation!r} is saved as {again!r}; pass activation_fn when you load the model")
    return path


def remember_settings(model: Any, tokenizer: Any, activation: Callable, max_length: int) -> None:
    """Put activation and length into the configurations, where sentence-transformers reads them."""
    path = activation_path(activation)
    model.config.sentence_transformers = {"activation_fn": path}
    model.config.sbert_ce_default_activation_function = path
    tokenizer.model_max_length = max_length


def find_rule(asked: str | None, saved: dict[str, Any] | None) -> str:
    """Choose the truncation rule: `asked`, else the saved one, else "longest_first".

    saved: content of `SBERT_CONFIG`; an unknown rule in it warns and counts as "longest_first"
    """
    if asked is not None and asked not in RULES:
        raise ValueError(f"unknown truncation {asked!r}; choose {' or '.join(RULES)}")
    settings = (saved or {}).get("processing_kwargs") or {}
    texts = {**(settings.get("common") or {}), **(settings.get("text") or {})}
    rule = asked or texts.get("truncation", True)
    if rule in RULES:
        return rule
    if rule is not True:
        warn_at_call(f"the model's saved truncation {rule!r} is not one of {', '.join(RULES)}; longest_first is used")
    return "longest_first"


def save_rule(folder: Path, rule: str) -> None:
    """Write a rule other than the usual one into a model's folder.

    sentence-transformers reads this file only in folders that it wrote itself. Elsewhere, pass its
    `predict` the argument `processing_kwargs={"text": {"truncation": "only_second"}}`.
    """
    if rule != "longest_first":
        settings = {"processing_kwargs": {"text": {"truncation": rule}}}
        (folder / SBERT_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def longest_input(model: Any, tokenizer: Any, asked: int | None = None) -> int:
    """Choose the most tokens per pair: `asked`, else the smaller limit of tokenizer and model.

    Raises `ValueError` if the model has positions for fewer tokens than `asked`.
    """
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or 0
    limit = positions - (config.pad_token_id + 1 if config.model_type in COUNTS_PADDING else 0)
    if asked is not None:
        modules = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        if modules & {"position_embeddings", "wpe"} and 0 < limit < asked:
            raise ValueError(f"max_length={asked}, but the model has positions for only {limit} tokens")
        return asked
    limits = [limit if positions > 0 else USUAL_LENGTH]
    if tokenizer.model_max_length and tokenizer.model_max_length < UNKNOWN_LENGTH:
        limits.append(int(tokenizer.model_max_length))
    return min(limits)


def name_labels(config: Any, names: Sequence[str], *, anew: bool) -> None:
    """Put class names into the configuration; `DataError` if it has others, or another order.

    anew: the head is new, so that any names in the configuration belonged to another head
    """
    names, known = tuple(names), config_label_names(config)
    if len(names) != config.num_labels:
        raise DataError(
            f"the labels have {len(names)} names ({', '.join(names)}), but the model has num_labels={config.num_labels}"
        )
    if known and known != names and not anew:
        raise DataError(
            f"the model's classes are {', '.join(known)}, the data's {', '.join(names)}: if they are the "
            f"same, with_label_names({list(known)}) puts the data in the model's order"
        )
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}


def merge_spellings(given: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Fold older argument names into the current ones; warns if both are given."""
    merged = dict(given)
    for name, value in old.items():
        if name not in OLD_SPELLINGS:
            raise TypeError(f"CrossEncoder() got an unexpected argument {name!r}")
        new = OLD_SPELLINGS[name]
        if None not in (value, given[new]):
            warn_at_call(f"both {new} and its older spelling {name} were given; {new} is used")
        elif value is not None:
            merged[new] = value
    return merged
