"""A folder or a hub name becomes a sequence classifier, its tokenizer and its activation."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crossenc_kit.backbones import BackboneError, explain_missing, quiet_transformers

# What a checkpoint of a bare encoder lacks, and a new classifier starts with at random.
HEAD_NAMES = ("classifier", "pre_classifier", "pooler", "score", "head", "logits_proj", "sequence_summary")
OLD_SPELLINGS = {
    "model_name": "model_name_or_path",
    "automodel_args": "model_kwargs",
    "tokenizer_args": "tokenizer_kwargs",
    "processor_kwargs": "tokenizer_kwargs",
    "default_activation_function": "activation_fn",
}
ST_CONFIG = "config_sentence_transformers.json"


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


def load_model(folder: str, where: dict, changes: dict, model_kwargs: dict, seed: int | None) -> Any:
    """A Hugging Face sequence classifier, `changes` applied to its configuration.

    Raises `BackboneError` where it cannot be had or where weights other than the head's are missing.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    try:
        config = AutoConfig.from_pretrained(folder, **where, **changes)
        if "num_labels" not in changes and not _has_head(config):
            config.num_labels = 1
        with quiet_transformers(), torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder, config=config, output_loading_info=True, **where, **model_kwargs
            )
    except (OSError, ValueError) as error:
        if Path(folder).is_dir():
            raise BackboneError(f"the folder {folder!r} could not be loaded as a classifier: {error}") from error
        raise explain_missing(folder, error) from error
    missing = [name for name in report["missing_keys"] if not _is_head(name)]
    if missing:
        raise BackboneError(
            f"{folder!r} lacks {len(missing)} of the model's weights ({', '.join(sorted(missing)[:3])}, ...); "
            "the save may have been cut off, or its config.json belongs to another model"
        )
    for tensor in (*model.parameters(), *model.buffers()):
        # Weights mapped from a file start at odd addresses, where matrix products round otherwise than
        # elsewhere: a copy starts at a round one, and a run and its resumed twin agree to the last bit.
        tensor.data = tensor.data.clone()
    return model


def _has_head(config: Any) -> bool:
    return any("ForSequenceClassification" in name for name in config.architectures or [])


def _is_head(name: str) -> bool:
    return any(part in HEAD_NAMES for part in name.split("."))


def load_tokenizer(folder: str, where: dict, tokenizer_kwargs: dict, config: Any) -> Any:
    """The tokenizer; raises `ValueError` where it has no padding token."""
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, **where, **tokenizer_kwargs)
    except (OSError, ValueError) as error:
        if Path(folder).is_dir():
            raise BackboneError(f"the folder {folder!r} has no tokenizer that loads: {error}") from error
        raise explain_missing(folder, error) from error
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"the tokenizer of {folder!r} has no padding token; choose one, "
            f'for example tokenizer_kwargs={{"pad_token": {tokenizer.eos_token or "<pad>"!r}}}'
        )
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def longest_input(config: Any, tokenizer: Any) -> int:
    """The most tokens a pair may have: the tokenizer's limit or the position table's, the smaller."""
    limits = [512]
    positions = getattr(config, "max_position_embeddings", None)
    if positions and positions > 0:
        counts_padding = config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet")
        limits = [positions - (config.pad_token_id + 1 if counts_padding else 0)]
    if tokenizer.model_max_length and tokenizer.model_max_length < 1e9:  # 1e30 stands for "unknown"
        limits.append(int(tokenizer.model_max_length))
    return min(limits)


def find_activation(choice: Callable | str | None) -> Callable | None:
    """An activation by name ("sigmoid", "identity", "torch.nn...Sigmoid") or as it is; None for None.

    Raises `ValueError` for names outside `torch.nn`: a model's configuration is not trusted to import.
    """
    if choice is None or callable(choice):
        return choice
    from torch import nn

    package, _, name = choice.rpartition(".")
    name = {"sigmoid": "Sigmoid", "identity": "Identity"}.get(name, name)
    if package and not package.startswith("torch.nn"):
        raise ValueError(f"the activation {choice!r} is not part of torch.nn; pass activation_fn=... yourself")
    kind = getattr(nn, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"unknown activation {choice!r}; use 'sigmoid', 'identity' or a module of torch.nn")
    return kind()


def saved_activation(config: Any, folder: str) -> Callable:
    """The activation a saved model asks for, else sentence-transformers' rule.

    Looked for in the configuration (keys of sentence-transformers 3.x and 4+) and in the file that
    sentence-transformers 6 writes. The rule: sigmoid for one label, identity for several.
    """
    from torch import nn

    path = (getattr(config, "sentence_transformers", None) or {}).get("activation_fn")
    path = path or getattr(config, "sbert_ce_default_activation_function", None)
    extra = Path(folder) / ST_CONFIG
    if path is None and extra.is_file():
        path = json.loads(extra.read_text(encoding="utf-8")).get("activation_fn")
    rule = nn.Sigmoid() if config.num_labels == 1 else nn.Identity()
    if path is None:
        return rule
    try:
        return find_activation(path) or rule
    except ValueError as error:
        warnings.warn(f"{error}; {type(rule).__name__} is used", stacklevel=3)
        return rule


def best_device() -> str:
    """cuda, else mps, else cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
