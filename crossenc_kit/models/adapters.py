"""Adapters (PEFT): train a few small matrices beside the weights of a model that stays as it is.

`model.model = peft.get_peft_model(model.model, peft.LoraConfig(task_type="SEQ_CLS", ...))` wraps the
classifier of a `CrossEncoder`. From then on `train` changes only the adapter and the head, and
`save_pretrained` writes these two and the name of the base model, which is fetched again when the
folder is loaded. `merge_adapters` makes a plain model of both. Hu et al., "LoRA", 2022.

PEFT also trains modules whose name ends with `classifier` or `score`. If a new head has more parts
(DeBERTa's `pooler.dense`, ModernBERT's `head.dense` and `head.norm`), name them in
`modules_to_save`; otherwise they keep their random start.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossenc_kit.errors import need

if TYPE_CHECKING:
    from torch import Tensor

    from crossenc_kit.models.backbones import Backbone

# Ours, beside PEFT's file: the classifier's configuration, with its labels and activation.
CLASSIFIER_CONFIG = "adapter_classifier.json"
INSIDE = ("LORA", "ADALORA", "IA3")  # kinds that are layers of the model and need no wrapper


def is_wrapped(model: Any) -> bool:
    """Tell whether a PEFT wrapper holds the classifier."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def unwrap(model: Any) -> Any:
    """Return the classifier inside an adapter's wrapper if its own forward pass runs the adapter.

    Prompt tuning and its like add tokens, and aLoRA looks at the input first: they keep the wrapper.
    """
    if not is_wrapped(model):
        return model
    settings = model.active_peft_config
    inside = settings.peft_type in INSIDE and not getattr(settings, "alora_invocation_tokens", None)
    return model.get_base_model() if inside else model


def plain_weights(model: Any) -> dict[str, Tensor]:
    """Name a model's weights as if it had no adapter; of a replaced head, the one in use."""
    weights = model.state_dict()
    if not is_wrapped(model):
        return weights
    plain = {}
    for name, weight in weights.items():
        if ".original_module." not in name:
            name = name.removeprefix(_prefix(model))
            name = name.replace(f".modules_to_save.{model.active_adapter}", "")
            plain[name.replace(".base_layer", "")] = weight
    return plain


def saved_names(model: Any) -> set[str]:
    """Name the weights that an adapter's file holds, without the wrapper's prefix."""
    peft = need("peft", "an adapter")
    saved = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name.removeprefix(_prefix(model)) for name in saved}


def _prefix(model: Any) -> str:
    return "base_model." if model.active_peft_config.is_prompt_learning else "base_model.model."


def save_adapter(model: Any, folder: Path, base: str, new: Iterable[str], **options: Any) -> None:
    """Write the adapter as PEFT does, and the classifier's configuration beside it.

    base: the base model's name, as the folder will ask for it
    new: weights that the base model lacks

    Raises `ValueError` if the folder could not give the model back: the adapter does not hold all
    `new` weights, or there are several adapters.
    """
    if list(model.peft_config) != ["default"]:
        names = ", ".join(model.peft_config)
        raise ValueError(f"a folder holds one adapter, named 'default'; this model has: {names}")
    if lost := sorted(set(new) - saved_names(model)):
        modules = sorted({name.rpartition(".")[0] for name in lost})
        raise ValueError(
            f"the weights of {', '.join(modules)} are new, and the adapter does not hold them: give "
            f"modules_to_save={modules} to its configuration, or call merge_adapters(model) first"
        )
    model.active_peft_config.base_model_name_or_path = base
    # Without `save_embedding_layers` PEFT asks the hub whether they differ from the base model's.
    model.save_pretrained(folder, **{"save_embedding_layers": False, **options})
    config = copy.deepcopy(model.config)
    config.architectures = [type(model.get_base_model()).__name__]
    config.to_json_file(folder / CLASSIFIER_CONFIG)


def load_adapter(model: Any, backbone: Backbone) -> Any:
    """Put the adapter of a folder or hub name around its classifier, ready for more training."""
    wrapper = need("peft", f"the adapter {backbone.folder!r}").PeftModel
    options = {"is_trainable": True, "torch_device": "cpu", **backbone.download}
    return wrapper.from_pretrained(model, backbone.folder, **options)


def put_back(model: Any, folder: Path) -> None:
    """Give a wrapped model the adapter weights of a folder."""
    peft = need("peft", f"the adapter {str(folder)!r}")
    peft.set_peft_model_state_dict(model, peft.utils.load_peft_weights(str(folder), device="cpu"))


def merge_adapters(model: Any) -> Any:
    """Add the adapter of a `CrossEncoder` to its weights, in place, and return the model.

    The result is a plain model: its scores are the same up to rounding, all of its weights can be
    trained, and its saved folder needs no PEFT. Raises `ValueError` if there is no adapter, or one
    that cannot be merged (prompt tuning and its like).
    """
    wrapped = model.model
    if not is_wrapped(wrapped):
        raise ValueError(f"there is no adapter to merge: the model is a plain {type(wrapped).__name__}")
    if not hasattr(wrapped.base_model, "merge_and_unload"):
        kind = wrapped.active_peft_config.peft_type.value
        raise ValueError(f"an adapter of the kind {kind} adds nothing to the weights and cannot be merged")
    model.model = wrapped.merge_and_unload(safe_merge=True).requires_grad_(True)
    return model
