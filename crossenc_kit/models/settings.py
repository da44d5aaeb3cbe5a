"""What a raw score goes through, by name: "sigmoid", "identity", or the path of a module of `torch.nn`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.errors import DataError
from crossenc_kit.models.backbones import read_json
from crossenc_kit.models.tokens import RULES
from crossenc_kit.scorers import config_label_names

SETTINGS = "sentence_bert_config.json"  # where sentence-transformers keeps a model's rule
OLD_SPELLINGS = {
    "model_name": "model_name_or_path",
    "automodel_args": "model_kwargs",
    "tokenizer_args": "tokenizer_kwargs",
    "processor_kwargs": "tokenizer_kwargs",
    "config_args": "config_kwargs",
    "cache_dir": "cache_folder",
    "default_activation_function": "activation_fn",
}
ST_CONFIG = "config_sentence_transformers.json"
# Families whose positions count from the padding token's id, so that their table holds fewer than it says.
COUNTS_PADDING = {"camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta"}
COUNTS_PADDING |= {"roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}


def find_activation(choice: Callable | str | None) -> Callable | None:
    """An activation by name ("sigmoid", "identity", "torch.nn...Sigmoid") or as it is; None for None.

    Raises `ValueError` for names outside `torch.nn`: a model's configuration is not trusted to import.
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
    try:
        return kind()
    except TypeError as error:
        raise ValueError(f"the activation {choice!r} needs arguments; pass it ready made: {error}") from error


def with_module(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `predict` with a module in the place of an activation's name: other libraries take no names."""
    named = isinstance(options.get("activation_fn"), str)
    return {**options, "activation_fn": find_activation(options["activation_fn"])} if named else dict(options)


def activated(choice: Callable | str) -> Callable[[np.ndarray], np.ndarray]:
    """A function of the N raw scores `(N,)` of a model with one label to what an activation makes of them."""
    activation = find_activation(choice)

    def apply(raw: np.ndarray) -> np.ndarray:
        import torch

        return activation(torch.from_numpy(raw)[:, None])[:, 0].numpy()  # type: ignore[misc]

    return apply


def activation_path(activation: Callable) -> str:
    """The name by which a saved model asks for its activation; warns where a name does not say it all."""
    kind = type(activation)
    path = f"{kind.__module__}.{kind.__qualname__}"
    try:
        again = find_activation(path)
    except ValueError:
        path = "torch.nn.modules.linear.Identity"
        again = find_activation(path)
    if repr(again) != repr(activation):
        warnings.warn(
            f"the activation {activation!r} is saved as {again!r}; pass activation_fn when you load the model",
            stacklevel=4,
        )
    return path


def find_rule(asked: str | None, saved: dict[str, Any] | None) -> str:
    """The rule `asked` for, else that of a model's saved `SETTINGS`, else `longest_first`.

    Raises `ValueError` for a rule that there is not; a saved one is replaced by `longest_first` with a warning.
    """
    if asked is not None:
        if asked not in RULES:
            raise ValueError(f"no truncation {asked!r}; there is {' and '.join(RULES)}")
        return asked
    settings = (saved or {}).get("processing_kwargs") or {}
    rule = {**(settings.get("common") or {}), **(settings.get("text") or {})}.get("truncation", True)
    if rule in RULES or rule is True:
        return "longest_first" if rule is True else rule
    names = ", ".join(RULES)
    warnings.warn(f"the model's saved truncation {rule!r} is not one of {names}; longest_first is used", stacklevel=3)
    return "longest_first"


def save_rule(folder: Path, rule: str) -> None:
    """Write a rule that is not the usual one into a model's folder, in the form of sentence-transformers.

    It reads that file only in folders that it wrote itself; elsewhere its `predict` takes the argument
    `processing_kwargs={"text": {"truncation": "only_second"}}`.
    """
    if rule != "longest_first":
        settings = {"processing_kwargs": {"text": {"truncation": rule}}}
        (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def merge_spellings(given: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Fold the older argument names into the later ones; warns once where both are given."""
    merged = dict(given)
    for name, value in old.items():
        new = OLD_SPELLINGS.get(name)
        if new is None:
            raise TypeError(f"CrossEncoder() got an unexpected argument {name!r}")
        if value is None:
            continue
        if given.get(new) is not None:
            warnings.warn(f"both {new} and its older spelling {name} were given; {new} is used", stacklevel=3)
            continue
        merged[new] = value
    return merged


def longest_input(model: Any, tokenizer: Any, asked: int | None = None) -> int:
    """The most tokens a pair may have: `asked`, else the tokenizer's limit or the model's, the smaller.

    Raises `ValueError` where `asked` is more than the model has positions for.
    """
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or 0
    limit = positions - (config.pad_token_id + 1 if config.model_type in COUNTS_PADDING else 0)
    if asked is not None:
        tables = {name.rpartition(".")[2] for name, _ in model.named_modules()} & {"position_embeddings", "wpe"}
        if tables and 0 < limit < asked:
            raise ValueError(f"max_length={asked}, but the model has positions for {limit} tokens only")
        return asked
    limits = [limit if positions > 0 else 512]
    if tokenizer.model_max_length and tokenizer.model_max_length < 1e9:  # 1e30 stands for "unknown"
        limits.append(int(tokenizer.model_max_length))
    return min(limits)


def name_labels(config: Any, names: Sequence[str], *, anew: bool) -> None:
    """Put the classes' names into the configuration; raises `DataError` where it has others, or another order.

    `anew`: the head is new, so that whatever names came with the encoder belonged to another head.
    """
    names, known = tuple(names), config_label_names(config)
    if len(names) != config.num_labels:
        raise DataError(
            f"the labels have {len(names)} names ({', '.join(names)}), but the model has num_labels={config.num_labels}"
        )
    if known and known != names and not anew:
        fix = f"with_label_names({list(known)}) puts the data in the model's order"
        raise DataError(
            f"the model's classes are {', '.join(known)}, the data's {', '.join(names)}: "
            + (fix if sorted(known) == sorted(names) else "they are other classes; choose another model or data")
        )
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}


def saved_activation(config: Any, folder: str, where: dict[str, Any]) -> Callable:
    """The activation a saved model asks for, else sentence-transformers' rule.

    Looked for in the file that sentence-transformers 6 writes, which leaves an older answer in the configuration,
    and then there (keys of 4 and 5, and of 3). The rule: sigmoid for one label, identity for several.
    """
    from torch import nn

    path = (read_json(folder, ST_CONFIG, where) or {}).get("activation_fn")
    path = path or (getattr(config, "sentence_transformers", None) or {}).get("activation_fn")
    path = path or getattr(config, "sbert_ce_default_activation_function", None)
    rule = nn.Sigmoid() if config.num_labels == 1 else nn.Identity()
    if path is None:
        return rule
    try:
        return find_activation(path) or rule
    except ValueError as error:
        warnings.warn(f"{error}; {type(rule).__name__} is used", stacklevel=3)
        return rule


def remember_settings(model: Any, tokenizer: Any, activation: Callable, max_length: int) -> None:
    """Put the activation and the length into the configurations that are saved, for us and sentence-transformers."""
    path = activation_path(activation)
    model.config.sentence_transformers = {"activation_fn": path}
    model.config.sbert_ce_default_activation_function = path
    tokenizer.model_max_length = max_length
