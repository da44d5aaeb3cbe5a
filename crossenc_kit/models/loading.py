"""A folder or a hub name becomes a sequence classifier, its tokenizer and its activation.

What runs a model: torch in float32 or int8, or onnxruntime in either; which files a folder holds of each.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from crossenc_kit.errors import BackboneError, need
from crossenc_kit.models.adapters import (
    CLASSIFIER,
    SETTINGS,
    is_wrapped,
    load_adapter,
    plain_weights,
    save_adapter,
    saved_names,
)
from crossenc_kit.models.backbones import (
    EXPORTS,
    MINILM_HUB,
    MINILM_PACKAGE,
    WEIGHTS,
    explain_missing,
    find_backbone,
    find_file,
    no_hub,
    quiet_transformers,
    read_json,
)
from crossenc_kit.models.devices import backend_of
from crossenc_kit.models.settings import ST_CONFIG
from crossenc_kit.scorers import config_label_names

# What a checkpoint of a bare encoder lacks, and a new classifier starts with at random.
HEAD_NAMES = ("classifier", "pre_classifier", "pooler", "score", "head", "logits_proj", "sequence_summary")
# What a saved model consists of: a save into an older model's folder leaves none of it behind to be mixed up.
MODEL_FILES = ["config.json", "model*.safetensors*", "pytorch_model*", "adapter_*", ST_CONFIG, "modules.json"]
MODEL_FILES += ["sentence_bert_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*"]
MODEL_FILES += ["merges.txt", "spiece.model", "spm.model", "sentencepiece.bpe.model", "onnx", "export.json"]
BACKENDS = ("torch", *EXPORTS)
CONFIG = "config.json"


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
    settings = read_json(folder, SETTINGS, where)
    if settings is None:
        return Origin(folder, folder, where)
    need("peft", f"the adapter {folder!r}")
    base = settings.get("base_model_name_or_path") or ""
    try:
        weights = find_backbone("minilm" if base == MINILM_HUB else base)
    except BackboneError as error:
        place = f"base_model_name_or_path in its {SETTINGS}"
        raise BackboneError(f"the base model of the adapter {folder!r}, {place}: {error}") from error
    config = find_file(folder, CLASSIFIER, where) or weights
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
            model = load_adapter(model, folder, where) if origin.weights != folder else model
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
    weights = plain_weights(model)
    resized = [name if isinstance(name, str) else name[0] for name in report["mismatched_keys"]]
    held = saved_names(model) if origin.weights != folder else set()
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

    now = plain_weights(model) if weights else {}
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


def save_torch_weights(model: Any, folder: Path, new: dict[str, Any], **options: Any) -> None:
    """Write weights and configuration as transformers does, or the adapter alone as PEFT does.

    `new`: the weights that the base model lacks. Raises `ValueError` for an adapter that does not hold them.
    """
    if not is_wrapped(model):
        model.save_pretrained(folder, **options)
        return
    base = model.active_peft_config.base_model_name_or_path or ""
    if Path(base).parent.name == MINILM_PACKAGE:  # a name that means the same elsewhere
        base = MINILM_HUB
    base = os.path.abspath(base) if os.path.isdir(base) else base
    save_adapter(model, folder, base, new, **options)


def load_classifier(
    folder: str,
    where: dict[str, Any],
    changes: dict[str, Any],
    model_kwargs: dict[str, Any],
    seed: int | None,
    backend: str | None,
) -> tuple[Any, dict[str, Any]]:
    """What `loading.load_model` gives, run by `backend`; None: by what the folder holds, its float32 weights first.

    "int8" without a file of it turns the float32 weights into int8 after loading them. `model_kwargs` of "onnx":
    `file_name` (in the folder onnx/) and `provider`, as sentence-transformers has them. Raises `BackboneError` where
    there is no such file, or none that loads.
    """
    kind = backend or _held(folder)
    if kind not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}")
    if kind == "torch":
        _check_weights(folder)
        return load_model(folder, where, changes, model_kwargs, seed)
    path = find_file(folder, _file(kind, model_kwargs), where)
    if path is None and kind == "int8":
        model, new = load_model(folder, where, changes, model_kwargs, seed)
        return to_int8(model), new
    if path is None:
        raise BackboneError(
            f"{folder!r} has no {_file(kind, model_kwargs)}; make it from a float32 model: "
            f'export_model(CrossEncoder("the model"), "a folder", "{kind}", pairs=some_pairs)'
        )
    allowed = {"file_name", "provider"} if kind.startswith("onnx") else set()
    if other := sorted(model_kwargs.keys() - allowed):
        raise ValueError(f"model_kwargs {', '.join(other)}: of no use with {path}, which holds the model as it is")
    config = _read_config(folder, where, changes)
    if kind == "int8":
        return _read_int8(path, config), {}
    from crossenc_kit.models.onnx import OnnxClassifier

    return OnnxClassifier(path, config, model_kwargs.get("provider", "CPUExecutionProvider")), {}


def _file(kind: str, model_kwargs: dict[str, Any]) -> str:
    own = model_kwargs.get("file_name") if kind.startswith("onnx") else None
    return f"onnx/{own}" if own else EXPORTS[kind]


def to_int8(model: Any, ranges: dict[str, Any] | None = None) -> Any:
    """Turn a float32 classifier into int8, in place (see quantization.py), and return it.

    Raises `ValueError` where the packed pass does not take its architecture.
    """
    from crossenc_kit.models.int8 import quantize
    from crossenc_kit.models.packed import can_pack

    if not can_pack(model):
        raise ValueError(
            f"backend='int8' runs without padding, which {type(model).__name__} does not: "
            "export it as 'onnx-int8', which takes every architecture that torch can export"
        )
    return quantize(model, ranges)


def _held(folder: str) -> str:
    """The backend of a folder: torch where it has plain weights or is a hub name, else that of its one export."""
    held = _exports_alone(folder)
    if len(held) > 1:
        raise BackboneError(
            f"the folder {folder!r} holds {' and '.join(held)}: choose one, for example "
            f"CrossEncoder({folder!r}, backend={held[0]!r})"
        )
    return held[0] if held else "torch"


def _exports_alone(folder: str) -> list[str]:
    """The backends of a folder's exports; none of a hub name or a folder that has plain weights too."""
    path = Path(folder)
    if not path.is_dir() or any((path / name).is_file() for name in (*WEIGHTS, "adapter_config.json")):
        return []
    return [kind for kind, name in EXPORTS.items() if (path / name).is_file()]


def _check_weights(folder: str) -> None:
    """Raise `BackboneError` for a folder that holds exports and no weights for torch."""
    if held := _exports_alone(folder):
        raise BackboneError(
            f"the folder {folder!r} has no float32 weights for backend='torch', it holds {' and '.join(held)}: "
            f"CrossEncoder({folder!r}, backend={held[0]!r}), or give the folder of the float32 model"
        )


def _read_config(folder: str, where: dict[str, Any], changes: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, **where)
    except (OSError, ValueError) as error:
        raise BackboneError(f"{folder!r} has no {CONFIG} that loads: {error}") from error
    asked = changes.get("num_labels", config.num_labels)
    if asked != config.num_labels:
        raise ValueError(
            f"num_labels={asked}, but the exported model {folder!r} gives {config.num_labels} scores a pair; "
            "change the float32 model and export it again"
        )
    return config


def _read_int8(path: str, config: Any) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    from crossenc_kit.models.int8 import put_weights

    try:
        with quiet_transformers():
            model = AutoModelForSequenceClassification.from_config(config)
        return put_weights(model, load_file(path)).eval()
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"the int8 weights {path!r} could not be loaded: {reason}; export the model again"
        ) from error


def save_weights(model: Any, folder: Path, new: dict[str, Any], **options: Any) -> None:
    """What `loading.save_weights` writes, or the file that the model's backend reads, with the configuration."""
    kind = backend_of(model)
    if kind == "torch":
        save_torch_weights(model, folder, new, **options)
        return
    model.config.save_pretrained(folder)
    path = folder / EXPORTS[kind]
    path.parent.mkdir(exist_ok=True)
    if kind == "int8":
        from safetensors.torch import save_file

        save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, path)
    else:
        shutil.copyfile(model.path, path)
