"""Students: a smaller cross-encoder that starts with some of a larger one's layers.

    student = make_student(teacher, layers=3)
    train(student, with_teacher_scores(pairs, scores), "mse")

Cutting layers alone costs quality; training on the teacher's scores wins part of it back. Sanh et al.,
"DistilBERT", 2019, start from every second layer; Sajjad et al., "On the Effect of Dropping Layers of
Pre-trained Transformer Models", 2020, compare which ones to keep.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from crossenc_kit.models.adapters import is_wrapped
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.tokens import one_or_more

RULES = ("even", "first", "last")
LAYERS = 3  # of a student, by default


def make_student(
    model: CrossEncoder,
    layers: int | None = None,
    keep: str | Iterable[int] = "even",
    *,
    num_labels: int | None = None,
    seed: int = 0,
) -> CrossEncoder:
    """Cut a new `CrossEncoder` with some of the encoder layers of `model`; everything else is copied.

    keep: which of n layers, from 0: "even" takes ceil((i + 1) n / k) - 1 for i < k, as Jiao et al.,
        "TinyBERT", 2020 (3 of 12 are 3, 7, 11; always 0 if the lowest is unlike the others, as in
        ModernBERT); "first"; "last"; or their numbers, from the lowest up
    num_labels: another number gives a new last matrix of the head, drawn from `seed`

    Raises `ValueError` for layers that `model` does not have, and for a model that cannot be cut: with an
    adapter, exported, or with shared weights (ALBERT).
    """
    from torch import nn

    place, kept = choose_layers(model, layers, keep)
    new_head = num_labels is not None and num_labels != model.num_labels
    config = _smaller_config(model.config, kept)
    if new_head:
        _ask_for_head(config, num_labels)
    student = copy.copy(model)
    student.model, new = _cut(model.model, config, place, kept, seed)
    student.new_head = new if new_head else {name: weight.clone() for name, weight in model.new_head.items()}
    student.tokenizer = copy.deepcopy(model.tokenizer)
    rule = nn.Sigmoid() if config.num_labels == 1 else nn.Identity()
    student.activation_fn = rule if new_head else copy.deepcopy(model.activation_fn)
    student.name = f"layers {_listed(kept)} of {model.name}"
    student.card = {"base_model": model.card.get("base_model", model.name), "layers": kept}
    if not new_head and "label_names" in model.card:
        student.card["label_names"] = list(model.card["label_names"])
    student.truncated = 0
    return student


def choose_layers(model: CrossEncoder, layers: int | None, keep: str | Iterable[int]) -> tuple[str, list[int]]:
    """Return where the encoder's layers are among the modules, and the numbers of those to keep."""
    place, count = find_layers(model)
    if not isinstance(keep, str):
        return place, _checked_numbers(keep, layers, count)
    wanted = LAYERS if layers is None else layers
    if not 0 < wanted <= count:
        raise ValueError(f"a student of {wanted} layers cannot be cut from {model.name!r}, which has {count}")
    if keep not in RULES:
        raise ValueError(f"unknown keep={keep!r}; choose from {', '.join(RULES)}, or give the layers' numbers")
    if keep == "even" and _first_is_unlike(model.model.get_submodule(place)):
        return place, [0, *(number + 1 for number in spread(wanted - 1, count - 1))]
    return place, spread(wanted, count, keep)


def _first_is_unlike(layers: Any) -> bool:
    """Tell whether the lowest layer has other weights than the rest; ModernBERT's lacks a norm."""
    return len({frozenset(layer.state_dict()) for layer in (layers[0], layers[-1])}) > 1


def spread(wanted: int, count: int, keep: str = "even") -> list[int]:
    """Choose `wanted` of `count` layers, 0 the lowest, by one of the `RULES`."""
    if keep == "even":
        return [-(-(place + 1) * count // wanted) - 1 for place in range(wanted)]
    return list(range(wanted)) if keep == "first" else list(range(count - wanted, count))


def _checked_numbers(keep: Iterable[int], layers: int | None, count: int) -> list[int]:
    kept = list(keep)
    if not kept or not set(kept) <= set(range(count)) or sorted(set(kept)) != kept:
        rule = f"some of the layers 0 to {count - 1}, each once, from the lowest up"
        raise ValueError(f"keep must name {rule}; got {kept}")
    if layers is not None and layers != len(kept):
        raise ValueError(f"keep names {len(kept)} layers and layers={layers}; leave one of them out")
    return kept


def find_layers(model: CrossEncoder) -> tuple[str, int]:
    """Find the encoder's list of layers among the modules, and return its name and length."""
    from torch import nn

    whole, config = model.model, model.config
    if model.backend != "torch":
        found = f"{model.name!r} is an export ({model.backend}), whose layers cannot be cut"
        raise ValueError(f"{found}: cut the float32 model (backend='torch') and export the student")
    if is_wrapped(whole):
        raise ValueError(f"{model.name!r} has an adapter: make a plain model of it first, with merge_adapters(model)")
    count, kind = config.num_hidden_layers, type(whole).__name__
    if hasattr(config, "num_hidden_groups"):
        raise ValueError(f"{kind} runs one set of weights {count} times: there are no layers to choose from")
    lists = [(n, m) for n, m in whole.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise ValueError(f"{kind} has no list of its {count} layers (nn.ModuleList) that a student could be cut from")
    return lists[0][0], count  # the outermost


def _smaller_config(config: Any, kept: list[int]) -> Any:
    """Copy a configuration for fewer layers; lists with one entry per layer (`layer_types`) are cut too."""
    count, smaller = config.num_hidden_layers, copy.deepcopy(config)
    for name, value in config.to_dict().items():
        if "layer" in name and isinstance(value, (list, tuple)) and len(value) == count:
            setattr(smaller, name, [value[number] for number in kept])
    smaller.num_hidden_layers = len(kept)
    return smaller


def _ask_for_head(config: Any, num_labels: int | None) -> None:
    """Change a configuration for a new head, without the old names, activation or temperature."""
    one_or_more("num_labels", num_labels)
    config.num_labels = num_labels  # names the classes LABEL_0, LABEL_1, ...
    for name in ("sentence_transformers", "sbert_ce_default_activation_function", "crossenc_kit", "problem_type"):
        if hasattr(config, name):
            setattr(config, name, None)


def _cut(whole: Any, config: Any, place: str, kept: list[int], seed: int) -> tuple[Any, dict[str, Any]]:
    """Make a model of the same class from some of the layers; return it with its new weights by name."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = type(whole)(config)
    student = student.to(device=whole.device, dtype=whole.dtype).eval()
    own = student.state_dict()
    numbers = {str(number): str(at) for at, number in enumerate(kept)}
    weights = {}
    for name, weight in whole.state_dict().items():
        if name.startswith(f"{place}."):
            number, _, rest = name.removeprefix(f"{place}.").partition(".")
            if number not in numbers:
                continue
            name = f"{place}.{numbers[number]}.{rest}"
        weights[name] = weight
    resized = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if odd := sorted(own.keys() ^ weights.keys()):
        what = f"layers {_listed(kept)} cannot stand in the places 0 to {len(kept) - 1}"
        raise ValueError(f"{what}: {odd[0]} is in only one of the two; keep the first layer too")
    student.load_state_dict({name: weight for name, weight in weights.items() if name not in resized}, strict=False)
    return student, {name: own[name].cpu().clone() for name in resized}


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
