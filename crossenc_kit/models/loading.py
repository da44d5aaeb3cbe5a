"""A backbone becomes a sequence classifier and its tokenizer, run by one of four backends.

"torch" loads float32 weights, with or without an adapter, as transformers does. "int8", "onnx" and
"onnx-int8" read the one file that `export_model` wrote, and are for scoring on a CPU. Saving writes
the same files again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from crossenc_kit.errors import BackboneError, need
from crossenc_kit.models.adapters import (
    CLASSIFIER_CONFIG,
    is_wrapped,
    load_adapter,
    plain_weights,
    save_adapter,
    saved_names,
)
from crossenc_kit.models.backbones import (
    ADAPTER_CONFIG,
    CONFIG,
    EXPORTS,
    MINILM_HUB,
    MINILM_PACKAGE,
    WEIGHTS,
    Backbone,
    explain_missing,
    find_backbone,
    quiet_transformers,
)
from crossenc_kit.models.settings import ST_CONFIG
from crossenc_kit.scorers import config_label_names

BACKENDS = ("torch", *EXPORTS)
# The modules that a bare encoder lacks, and that a new classifier starts with at random.
HEAD_NAMES = {"classifier", "pre_classifier", "pooler", "score", "head", "logits_proj"}
HEAD_NAMES |= {"sequence_summary"}
# The files of a saved model. A save over an older model leaves none of these behind.
MODEL_FILES = [CONFIG, "model*.safetensors*", "pytorch_model*", "adapter_*", ST_CONFIG]
MODEL_FILES += ["modules.json", "sentence_bert_config.json", "tokenizer*", "special_tokens_map.json"]
MODEL_FILES += ["added_tokens.json", "vocab.*", "merges.txt", "spiece.model", "spm.model"]
MODEL_FILES += ["sentencepiece.bpe.model", "onnx", "export.json"]


def load_classifier(
    backbone: Backbone,
    changes: dict[str, Any],
    model_kwargs: dict[str, Any],
    seed: int | None,
    backend: str | None,
) -> tuple[Any, dict[str, Any], str]:
    """Load a classifier; return it, the random weights that its folder lacked, and its backend.

    backend: by default what the folder holds, float32 weights first
    changes: settings that replace those of the configuration
    model_kwargs: for transformers; or `file_name` (in the folder onnx/) and `provider` for ONNX
    seed: of a new head's weights

    "int8" without an exported file quantises the float32 weights after loading them. Raises
    `BackboneError` if the model's files are missing or do not load.
    """
    if backend not in (None, *BACKENDS):
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}")
    exports = _exports_alone(backbone)
    if exports and (backend == "torch" or (backend is None and len(exports) > 1)):
        raise BackboneError(
            f"the folder {backbone.folder!r} holds {' and '.join(exports)}, and no float32 weights; choose "
            f"a backend that it has, for example CrossEncoder({backbone.folder!r}, backend={exports[0]!r})"
        )
    backend = backend or (exports or ["torch"])[0]
    if backend == "torch":
        return (*_load_torch(backbone, changes, model_kwargs, seed), backend)
    file_name = model_kwargs.get("file_name") if backend.startswith("onnx") else None
    name = f"onnx/{file_name}" if file_name else EXPORTS[backend]
    path = backbone.file(name)
    if path is not None:
        return _load_export(backbone, path, backend, changes, model_kwargs), {}, backend
    if backend == "int8":
        from crossenc_kit.models.int8 import to_int8

        model, new_head = _load_torch(backbone, changes, model_kwargs, seed)
        return to_int8(model), new_head, backend
    raise BackboneError(
        f"{backbone.folder!r} has no {name}; make it from a float32 model: "
        f'export_model(CrossEncoder("the model"), "a folder", "{backend}", pairs=some_pairs)'
    )


def _exports_alone(backbone: Backbone) -> list[str]:
    """List the backends whose exports a folder holds instead of float32 weights."""
    path = Path(backbone.folder)
    plain = (*WEIGHTS, ADAPTER_CONFIG)
    if not backbone.is_folder or any((path / name).is_file() for name in plain):
        return []
    return [backend for backend, name in EXPORTS.items() if (path / name).is_file()]


# --- float32 --------------------------------------------------------------------------------------


def find_origin(backbone: Backbone) -> tuple[Backbone, str]:
    """Return whose weights to load (an adapter's base model's), and where the configuration is."""
    folder = backbone.folder
    parts = backbone.json("modules.json") or []
    if len(parts) > 1 and (backbone.json(ST_CONFIG) or {}).get("model_type") == "CrossEncoder":
        kinds = ", ".join(part["type"].rpartition(".")[2] for part in parts)
        raise BackboneError(f"{folder!r} is a pipeline ({kinds}) of sentence-transformers, not one classifier")
    settings = backbone.json(ADAPTER_CONFIG)
    if settings is None:
        return backbone, folder
    need("peft", f"the adapter {folder!r}")
    base = settings.get("base_model_name_or_path") or ""
    try:
        base = find_backbone("minilm" if base == MINILM_HUB else base).folder
    except BackboneError as error:
        place = f"base_model_name_or_path in its {ADAPTER_CONFIG}"
        raise BackboneError(f"the base model of the adapter {folder!r}, {place}: {error}") from error
    hub = {**backbone.hub, "revision": settings.get("revision")}
    return Backbone(base, hub), backbone.file(CLASSIFIER_CONFIG) or base


def _load_torch(
    backbone: Backbone, changes: dict[str, Any], model_kwargs: dict[str, Any], seed: int | None
) -> tuple[Any, dict[str, Any]]:
    """Load a Hugging Face sequence classifier; returns it and its new weights by name."""
    from safetensors import SafetensorError

    if changes.get("num_labels", 1) < 1:
        raise ValueError(f"num_labels must be at least 1, got {changes['num_labels']}")
    try:
        model, report, adapted = _from_pretrained(backbone, changes, model_kwargs, seed)
    except BackboneError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        explain = _explain_folder if backbone.is_folder else explain_missing
        raise explain(backbone.folder, error) from error
    missing = [name for name in report["missing_keys"] if HEAD_NAMES.isdisjoint(name.split("."))]
    if missing:
        raise BackboneError(
            f"{backbone.folder!r} lacks {len(missing)} of the model's weights "
            f"({', '.join(sorted(missing)[:3])}, ...); the save may have been cut off, "
            "or its config.json belongs to another model"
        )
    for tensor in (*model.parameters(), *model.buffers()):
        # Weights mapped from a file start at odd addresses, where matrix products may round
        # otherwise. A copy starts at a round one: a run and its resumed twin agree to the last bit.
        tensor.data = tensor.data.clone()
    weights = plain_weights(model) if adapted else model.state_dict()
    held = saved_names(model) if adapted else set()
    resized = [name if isinstance(name, str) else name[0] for name in report["mismatched_keys"]]
    new = [name for name in (*report["missing_keys"], *resized) if name in weights and name not in held]
    return model, {name: weights[name].cpu().clone() for name in new}


def _from_pretrained(
    backbone: Backbone, changes: dict[str, Any], model_kwargs: dict[str, Any], seed: int | None
) -> tuple[Any, dict[str, Any], bool]:
    """Return the model, transformers' report on its weights, and whether it has an adapter."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    with quiet_transformers(), torch.random.fork_rng(devices=[], enabled=seed is not None):
        origin, place = find_origin(backbone)
        config = AutoConfig.from_pretrained(place, **origin.hub, **changes)
        if "num_labels" not in changes and not _has_head(config):
            config.num_labels = 1
        if seed is not None:
            torch.manual_seed(seed)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            origin.folder, config=config, output_loading_info=True, **origin.hub, **model_kwargs
        )
        adapted = origin.folder != backbone.folder
        return (load_adapter(model, backbone) if adapted else model), report, adapted


def _has_head(config: Any) -> bool:
    if config.architectures is None:  # old models; transformers also says 2 of a bare encoder
        return config.num_labels != 2 or bool(config_label_names(config))
    return any("ForSequenceClassification" in name for name in config.architectures)


def _explain_folder(folder: str, error: Exception) -> BackboneError:
    reason = str(error)
    if type(error).__name__ == "SafetensorError":
        reason += "; the save may have been cut off: save the model again, or take an earlier checkpoint"
    elif "mismatched" in reason:  # transformers only says that there is a report
        reason = (
            "its weights have other sizes than its configuration, or num_labels, asks for; "
            'to begin with a new head: model_kwargs={"ignore_mismatched_sizes": True}'
        )
    return BackboneError(f"the folder {folder!r} could not be loaded as a classifier: {reason}")


# --- exports --------------------------------------------------------------------------------------


def _load_export(
    backbone: Backbone, path: str, backend: str, changes: dict[str, Any], model_kwargs: dict[str, Any]
) -> Any:
    """Load the file of an exported model."""
    from transformers import AutoConfig

    allowed = {"file_name", "provider"} if backend.startswith("onnx") else set()
    if other := sorted(model_kwargs.keys() - allowed):
        raise ValueError(f"model_kwargs {', '.join(other)} cannot change the exported model {path}")
    config = AutoConfig.from_pretrained(backbone.folder, **backbone.hub)
    asked = changes.get("num_labels", config.num_labels)
    if asked != config.num_labels:
        raise ValueError(
            f"num_labels={asked}, but the exported model {backbone.folder!r} gives a pair "
            f"{config.num_labels} scores; change the float32 model and export it again"
        )
    if backend == "int8":
        return _load_int8(path, config)
    from crossenc_kit.models.onnx import OnnxClassifier

    return OnnxClassifier(path, config, model_kwargs.get("provider", "CPUExecutionProvider"))


def _load_int8(path: str, config: Any) -> Any:
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
        raise BackboneError(f"cannot load the int8 weights {path!r}: {reason}; export the model again") from error


# --- tokenizer, saving ----------------------------------------------------------------------------


def load_tokenizer(backbone: Backbone, tokenizer_kwargs: dict[str, Any], config: Any) -> Any:
    """Load the tokenizer; raises `ValueError` if it has no padding token that the model knows."""
    from transformers import AutoTokenizer

    folder, options = backbone.folder, {"config": config, **tokenizer_kwargs}
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, **backbone.hub, **options)
    except (OSError, ValueError) as error:
        if backbone.is_folder:
            raise BackboneError(f"the folder {folder!r} has no tokenizer that loads: {error}") from error
        raise explain_missing(folder, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes of no files
        raise BackboneError(f"the tokenizer of {folder!r} has no vocabulary: tokenizer.json or vocab.txt is missing")
    known = getattr(config, "vocab_size", None) or len(tokenizer)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= known:
        choice = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
        raise ValueError(
            f"the tokenizer of {folder!r} has no padding token that its model knows; choose one, "
            f'for example tokenizer_kwargs={{"pad_token": {choice!r}}}'
        )
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def save_weights(model: Any, backend: str, folder: Path, new: dict[str, Any], **options: Any) -> None:
    """Write a model's weights and configuration, in the form that its backend reads.

    new: weights that the base model lacks; raises `ValueError` if an adapter does not hold them
    """
    if is_wrapped(model):
        base = model.active_peft_config.base_model_name_or_path or ""
        if Path(base).parent.name == MINILM_PACKAGE:  # a name that means the same on other machines
            base = MINILM_HUB
        save_adapter(model, folder, os.path.abspath(base) if os.path.isdir(base) else base, new, **options)
        return
    if backend == "torch":
        model.save_pretrained(folder, **options)
        return
    model.config.save_pretrained(folder)
    path = folder / EXPORTS[backend]
    path.parent.mkdir(exist_ok=True)
    if backend == "int8":
        from safetensors.torch import save_file

        save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, path)
    else:
        shutil.copyfile(model.path, path)
