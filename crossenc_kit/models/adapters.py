"""Adapters (PEFT): train a few small matrices beside the weights of a model that stays as it is.

`model.model = peft.get_peft_model(model.model, peft.LoraConfig(task_type="SEQ_CLS", target_modules=[...]))` wraps the
classifier of a `CrossEncoder`. From then on `train` changes the adapter and the head only, and `save_pretrained` writes
these two and the name of the base model, whose weights are fetched from there when the folder is loaded.
`merge_adapters` makes a plain model of both. Hu and others, "LoRA", 2022.

PEFT trains modules whose name ends with `classifier` or `score`. Where a new head has more (DeBERTa `pooler.dense`,
ModernBERT `head.dense`, `head.norm`), name these in `modules_to_save`: they start at random, and would stay so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossenc_kit.errors import need

if TYPE_CHECKING:
    from torch import Tensor

SETTINGS = "adapter_config.json"  # PEFT's
CLASSIFIER = "adapter_classifier.json"  # ours: the configuration of the classifier, labels and activation with it
INSIDE = ("LORA", "ADALORA", "IA3")  # kinds that are layers of the model and need nothing from the wrapper


def is_wrapped(model: Any) -> bool:
    """Whether a classifier is inside a wrapper of PEFT."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def unwrap(model: Any) -> Any:
    """The classifier inside of adapters that are layers of it: its forward pass is theirs. Else the model as it is.

    Prompt tuning and its like add tokens, and some adapters look at the input first: there the wrapper has to run.
    """
    if not is_wrapped(model):
        return model
    settings = model.active_peft_config
    inside = settings.peft_type in INSIDE and not getattr(settings, "alora_invocation_tokens", None)
    return model.get_base_model() if inside else model


def plain_weights(model: Any) -> dict[str, Tensor]:
    """A model's weights by the names they have without adapters; of a replaced head, the one in use."""
    weights = model.state_dict()
    if not is_wrapped(model):
        return weights
    plain = {}
    for name, weight in weights.items():
        if ".original_module." not in name:
            name = name.removeprefix(_prefix(model)).replace(f".modules_to_save.{model.active_adapter}", "")
            plain[name.replace(".base_layer", "")] = weight
    return plain


def saved_names(model: Any) -> set[str]:
    """The names, without the wrapper's, of the weights that an adapter's file holds."""
    saved = need("peft", "an adapter").get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name.removeprefix(_prefix(model)) for name in saved}


def _prefix(model: Any) -> str:
    return "base_model." if model.active_peft_config.is_prompt_learning else "base_model.model."


def save_adapter(model: Any, folder: Path, base: str, new: Iterable[str], **options: Any) -> None:
    """Write what PEFT writes, with `base` as the name of the base model, and the classifier's configuration.

    `new`: the weights that the base model lacks. Raises `ValueError` where the adapter does not hold them all, or
    is not alone: such a folder would not give the model back.
    """
    if list(model.peft_config) != ["default"]:
        names = ", ".join(model.peft_config)
        raise ValueError(f"a folder holds one adapter, with the name 'default'; this model has: {names}")
    if lost := sorted(set(new) - saved_names(model)):
        modules = sorted({name.rpartition(".")[0] for name in lost})
        raise ValueError(
            f"the weights of {', '.join(modules)} are new, and the adapter does not hold them: give "
            f"modules_to_save={modules} to its configuration, or make a plain model of it with merge_adapters(model)"
        )
    model.active_peft_config.base_model_name_or_path = base
    model.save_pretrained(folder, **{"save_embedding_layers": False, **options})  # PEFT else asks the hub about them
    config = copy.deepcopy(model.config)
    config.architectures = [type(model.get_base_model()).__name__]
    config.to_json_file(folder / CLASSIFIER)


def load_adapter(model: Any, folder: str, where: dict[str, Any]) -> Any:
    """The classifier `model` with the adapter of a folder, or of the hub, around it; the adapter can be trained on."""
    hub = {name: value for name, value in where.items() if name != "trust_remote_code"}
    wrapper = need("peft", f"the adapter {folder!r}").PeftModel
    return wrapper.from_pretrained(model, folder, is_trainable=True, torch_device="cpu", **hub)


def put_back(model: Any, folder: Path) -> None:
    """Give a wrapped model the adapter's weights that a folder holds."""
    peft = need("peft", f"the adapter {str(folder)!r}")
    peft.set_peft_model_state_dict(model, peft.utils.load_peft_weights(str(folder), device="cpu"))


def merge_adapters(model: Any) -> Any:
    """Add the adapter of a `CrossEncoder` to the weights it stands beside, in place, and return the model.

    The model is a plain one again: scores stay (to rounding), all of its weights can be trained, and
    `save_pretrained` writes a folder that needs no PEFT. Raises `ValueError` where there is no adapter, or one that
    cannot be merged (prompt tuning and its like).
    """
    wrapped = model.model
    if not is_wrapped(wrapped):
        raise ValueError(f"there is no adapter to merge: the model is a plain {type(wrapped).__name__}")
    if not hasattr(wrapped.base_model, "merge_and_unload"):
        kind = wrapped.active_peft_config.peft_type.value
        raise ValueError(f"an adapter of the kind {kind} adds no matrices to the weights and cannot be merged")
    model.model = wrapped.merge_and_unload(safe_merge=True).requires_grad_(True)
    return model
