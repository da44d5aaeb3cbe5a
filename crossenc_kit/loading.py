"""A folder or a hub name becomes a sequence classifier, its tokenizer and its activation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crossenc_kit import adapters, backbones
from crossenc_kit.activations import activation_path, find_activation
from crossenc_kit.backbones import BackboneError, explain_missing, find_file, no_hub, quiet_transformers, read_json
from crossenc_kit.pairs import DataError
from crossenc_kit.scorers import config_label_names

# What a checkpoint of a bare encoder lacks, and a new classifier starts with at random.
HEAD_NAMES = ("classifier", "pre_classifier", "pooler", "score", "head", "logits_proj", "sequence_summary")
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
# What a saved model consists of: a save into an older model's folder leaves none of it behind to be mixed up.
MODEL_FILES = ["config.json", "model*.safetensors*", "pytorch_model*", "adapter_*", ST_CONFIG, "modules.json"]
MODEL_FILES += ["sentence_bert_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*"]
MODEL_FILES += ["merges.txt", "spiece.model", "spm.model", "sentencepiece.bpe.model", "onnx", "export.json"]
# Families whose positions count from the padding token's id, so that their table holds fewer than it says.
COUNTS_PADDING = {"camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta"}
COUNTS_PADDING |= {"roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}


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


class Origin(NamedTuple):
    """Where a classifier comes from: for an adapter, its weights are those of the base model."""

    weights: str  # a folder or a hub name
    config: str  # the same, or the path of a configuration file
    where: dict[str, Any]


def find_origin(folder: str, where: dict[str, Any]) -> Origin:
    """Where the weights and the configuration of a folder or hub model are; raises `BackboneError`."""
    if not Path(folder).is_dir() and no_hub(folder, where):
        where = {**where, "local_files_only": True}  # each question more would wait half a minute for the hub
    parts = read_json(folder, "modules.json", where) or []
    if len(parts) > 1 and (read_json(folder, ST_CONFIG, where) or {}).get("model_type") == "CrossEncoder":
        kinds = ", ".join(part["type"].rpartition(".")[2] for part in parts)
        raise BackboneError(f"{folder!r} is a pipeline ({kinds}) of sentence-transformers, not one classifier")
    settings = read_json(folder, adapters.SETTINGS, where)
    if settings is None:
        return Origin(folder, folder, where)
    adapters.need_peft(f"the adapter {folder!r}")
    base = settings.get("base_model_name_or_path") or ""
    try:
        weights = backbones.find_backbone("minilm" if base == backbones.MINILM_HUB else base)
    except BackboneError as error:
        place = f"base_model_name_or_path in its {adapters.SETTINGS}"
        raise BackboneError(f"the base model of the adapter {folder!r}, {place}: {error}") from error
    config = find_file(folder, adapters.CLASSIFIER, where) or weights
    return Origin(weights, config, {**where, "revision": settings.get("revision")})


def load_model(
    folder: str, where: dict, changes: dict, model_kwargs: dict, seed: int | None
) -> tuple[Any, dict[str, Any]]:
    """A Hugging Face sequence classifier, `changes` applied to its configuration, and its new weights by name.

    Raises `BackboneError` where it cannot be had or where weights other than the head's are missing.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForSequenceClassification

    if changes.get("num_labels", 1) < 1:
        raise ValueError(f"num_labels must be at least 1, got {changes['num_labels']}")
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[], enabled=seed is not None):
            origin = find_origin(folder, where)
            config = AutoConfig.from_pretrained(origin.config, **origin.where, **changes)
            if "num_labels" not in changes and not _has_head(config):
                config.num_labels = 1
            if seed is not None:
                torch.manual_seed(seed)
            model, report = AutoModelForSequenceClassification.from_pretrained(
                origin.weights, config=config, output_loading_info=True, **origin.where, **model_kwargs
            )
            model = adapters.load_adapter(model, folder, where) if origin.weights != folder else model
    except BackboneError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if Path(folder).is_dir():
            raise _explain_folder(folder, error) from error
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
    weights = adapters.plain_weights(model)
    resized = [name if isinstance(name, str) else name[0] for name in report["mismatched_keys"]]
    held = adapters.saved_names(model) if origin.weights != folder else set()
    names = [name for name in [*report["missing_keys"], *resized] if name in weights and name not in held]
    new = {name: weights[name].cpu().clone() for name in names}
    return model, new


def _explain_folder(folder: str, error: Exception) -> BackboneError:
    reason = str(error)
    if type(error).__name__ == "SafetensorError":
        reason += "; the save may have been cut off: save the model again, or take an earlier checkpoint"
    elif "mismatched" in reason:  # says no more than that there is a report
        reason = (
            "its weights have other sizes than its configuration, or num_labels, asks for; "
            'to begin with a new head: model_kwargs={"ignore_mismatched_sizes": True}'
        )
    return BackboneError(f"the folder {folder!r} could not be loaded as a classifier: {reason}")


def is_unchanged(model: Any, weights: dict[str, Any]) -> bool:
    """Whether some weights were given, and all are still there, as given: a head may be put in by hand."""
    import torch

    now = adapters.plain_weights(model) if weights else {}
    if not weights or any(name not in now or now[name].shape != w.shape for name, w in weights.items()):
        return False
    return all(torch.equal(now[name], w.to(now[name])) for name, w in weights.items())


def _has_head(config: Any) -> bool:
    if config.architectures is None:  # old ones: classes tell; 2 is what transformers says of a bare encoder, too
        return config.num_labels != 2 or bool(config_label_names(config))
    return any("ForSequenceClassification" in name for name in config.architectures)


def _is_head(name: str) -> bool:
    return any(part in HEAD_NAMES for part in name.split("."))


def load_tokenizer(folder: str, where: dict, tokenizer_kwargs: dict, config: Any) -> Any:
    """The tokenizer; raises `ValueError` where it has no padding token that the model knows."""
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, **where, **{"config": config, **tokenizer_kwargs})
    except (OSError, ValueError) as error:
        if Path(folder).is_dir():
            raise BackboneError(f"the folder {folder!r} has no tokenizer that loads: {error}") from error
        raise explain_missing(folder, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes of a folder without its files
        raise BackboneError(f"the tokenizer of {folder!r} has no vocabulary: tokenizer.json or vocab.txt is missing")
    known = getattr(config, "vocab_size", None) or len(tokenizer)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= known:
        what = "no padding token" if tokenizer.pad_token_id is None else "a padding token that its model does not know"
        choice = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
        raise ValueError(
            f"the tokenizer of {folder!r} has {what}; choose one, "
            f'for example tokenizer_kwargs={{"pad_token": {choice!r}}}'
        )
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


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


def save_weights(model: Any, folder: Path, new: dict[str, Any], **options: Any) -> None:
    """Write weights and configuration as transformers does, or the adapter alone as PEFT does.

    `new`: the weights that the base model lacks. Raises `ValueError` for an adapter that does not hold them.
    """
    if not adapters.is_wrapped(model):
        model.save_pretrained(folder, **options)
        return
    base = model.active_peft_config.base_model_name_or_path or ""
    if Path(base).parent.name == backbones.MINILM_PACKAGE:  # a name that means the same elsewhere
        base = backbones.MINILM_HUB
    base = os.path.abspath(base) if os.path.isdir(base) else base
    adapters.save_adapter(model, folder, base, new, **options)


def best_device() -> str:
    """cuda, else mps, else cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
