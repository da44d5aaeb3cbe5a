"""The optimizer and its learning rate: AdamW's parameter groups, and schedules as pure functions of the step."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from crossenc_kit.scorers import warn_at_call
from crossenc_kit.training.config import TrainingConfig

if TYPE_CHECKING:
    import torch

# The kit's names, and the names of sentence-transformers 3.x for the same five schedules.
SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts")
OLD_SCHEDULES = {
    "constantlr": "constant",
    "warmupconstant": "constant_with_warmup",
    "warmuplinear": "linear",
    "warmupcosine": "cosine",
    "warmupcosinewithhardrestarts": "cosine_with_restarts",
}
LAYER = re.compile(r"\blayers?\.(\d+)\.")


def rate_factor(name: str, step: int, total: int, warmup: int = 0) -> float:
    """Compute the learning rate at a step, as a fraction of the peak rate, 0..1.

    It rises as step / warmup; then "linear" falls to 0 at `total`, "cosine" and "cosine_with_restarts" follow half a
    cosine: transformers' `get_scheduler`, whose default is one cycle without a restart. Cosine after
    Loshchilov and Hutter, "SGDR", 2017.
    """
    name = schedule_name(name)
    if name == "constant":
        return 1.0
    if step < warmup:
        return step / max(1, warmup)
    if name == "constant_with_warmup":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)  # 0..1
    if done >= 1.0:
        return 0.0
    if name == "linear":
        return 1.0 - done
    return 0.5 * (1.0 + math.cos(math.pi * done))


def schedule_name(name: str) -> str:
    """Return the kit's name of a schedule in either spelling; `ValueError` lists the names."""
    known = OLD_SCHEDULES.get(name.lower(), name)
    if known not in SCHEDULES:
        raise ValueError(f"unknown scheduler {name!r}; choose from {', '.join(SCHEDULES)}")
    return known


def schedule_of(config: TrainingConfig, total: int) -> Callable[[int], float]:
    """Turn the settings into the rate's factor, a function of the step; a function stays as it is.

    Warns if the warm-up is longer than training, with the rate that will be reached.
    """
    if callable(config.scheduler):
        return config.scheduler
    name = schedule_name(config.scheduler)
    warmup = total // 10 if config.warmup_steps is None else config.warmup_steps
    if name != "constant" and warmup >= total:
        peak = config.learning_rate * rate_factor(name, total - 1, total, warmup)
        warn_at_call(
            f"the warm-up of {warmup} steps does not end within the {total} steps: the learning rate "
            f"will reach {peak:.2e}, not {config.learning_rate:.2e}; use fewer warmup_steps"
        )
    return lambda step: rate_factor(name, step, total, warmup)


def parameter_groups(
    named: Iterable[tuple[str, torch.nn.Parameter]],
    learning_rate: float,
    weight_decay: float = 0.01,
    layer_decay: float = 1.0,
    head_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Group the parameters: no weight decay on biases and norms (one-dimensional), a rate for each depth.

    With `layer_decay` d < 1, layer l of L trains at the rate times d^(L - 1 - l), the embeddings at d^L (Howard
    and Ruder, "ULMFiT", 2018). Each group keeps its peak rate in `peak`.

    head_factor: multiplies the rate of what lies above the layers
    """
    trainable = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    depths = [_depth(name) for name, _ in trainable]
    layers = max((depth for depth in depths if depth is not None), default=-1) + 1
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for (name, parameter), depth in zip(trainable, depths, strict=True):
        if depth is None:
            factor = layer_decay**layers if "embedding" in name else head_factor
        else:
            factor = layer_decay ** (layers - 1 - depth)
        decay = 0.0 if parameter.ndim <= 1 else weight_decay
        rate = learning_rate * factor
        group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "peak": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def _depth(name: str) -> int | None:
    found = LAYER.search(name)
    return int(found.group(1)) if found else None


def adamw(groups: list[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
    """Make AdamW (Loshchilov and Hutter, 2019), fused if the device can: one pass over the weights."""
    import torch

    kinds = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(groups, fused=kinds <= {"cpu", "cuda"}, **options)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's learning rate to `factor` times its peak, and return the highest rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return float(max(group["lr"] for group in optimizer.param_groups))
