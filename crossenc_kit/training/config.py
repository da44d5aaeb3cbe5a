"""`TrainingConfig`: how to train, checked before anything starts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

PRECISIONS = {"no": "fp32", "fp32": "fp32", "bf16": "bf16", "fp16": "fp16"}
# Whole numbers and the least that each may be; None is allowed if it is the default.
COUNTS = {"epochs": 1, "batch_size": 1, "accumulation": 1, "token_budget": 1, "cached_pairs": 1, "max_steps": 1}
COUNTS |= {"patience": 1, "keep_checkpoints": 1, "save_steps": 0, "evaluation_steps": 0, "warmup_steps": 0, "seed": 0}
FACTORS = ("learning_rate", "weight_decay", "layer_decay", "head_factor", "max_grad_norm")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. A step is one update of the weights, from `batch_size * accumulation` rows."""

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup_steps: int | None = None  # None: a tenth of all steps
    scheduler: str | Callable[[int], float] = "linear"
    weight_decay: float = 0.01
    layer_decay: float = 1.0  # rate of each layer relative to the layer above
    head_factor: float = 1.0  # rate of the head relative to the top layer
    max_grad_norm: float = 1.0  # 0: no clipping
    accumulation: int = 1
    token_budget: int | None = None  # most tokens in a micro-batch
    cached_pairs: int | None = None  # pairs whose activations are held at a time; costs a second forward pass
    max_steps: int | None = None
    precision: str | None = None  # "fp32", "bf16" or "fp16"; None: what the launcher says, else fp32
    dropout: float | None = None  # of every dropout layer while training; None: the model's own
    gradient_checkpointing: bool = False
    evaluate_first: bool = False  # also before the first step
    evaluation_steps: int = 0  # steps between evaluations; 0: at the end of each epoch
    evaluate_epochs: bool = False  # also at the end of each epoch; evaluation_steps then count within it
    metric: str | None = None  # selects the best model; None: the evaluator's first
    patience: int | None = None  # evaluations without a better score before training stops
    restore_best: bool = True  # leave the model with the weights of the best evaluation
    save_steps: int = 0  # steps between checkpoints; 0: only when asked to stop
    keep_checkpoints: int = 2
    output_dir: str | os.PathLike | None = None
    resume: bool = False
    seed: int = 0

    def plan(self) -> dict[str, Any]:
        """Return the settings that the weights depend on; only with the same ones can training resume."""
        free = {"output_dir", "resume", "save_steps", "keep_checkpoints", "restore_best"}
        settings = {name: value for name, value in asdict(self).items() if name not in free}
        if callable(self.scheduler):
            settings["scheduler"] = getattr(self.scheduler, "__name__", "a function")
        settings["precision"] = precision_of(self)
        return settings


def check_config(config: TrainingConfig) -> None:
    """Raise `ValueError` for a setting that means nothing."""
    for name, least in COUNTS.items():
        value, or_none = getattr(config, name), " or None" if getattr(TrainingConfig, name) is None else ""
        if not (isinstance(value, Integral) and int(value) >= least) and not (or_none and value is None):
            raise ValueError(f"{name} must be a whole number, {least} or more{or_none}, got {value!r}")
    for name in FACTORS:
        value = getattr(config, name)
        if not (isinstance(value, Real) and 0 <= float(value) < math.inf):  # NaN is neither
            raise ValueError(f"{name} must be a number, 0 or more, got {value!r}")
    if config.save_steps and not config.output_dir:
        raise ValueError("save_steps needs an output_dir to save into")
    if config.resume and not config.output_dir:
        raise ValueError("resume needs the output_dir of the training to go on with")
    if config.dropout is not None and not 0 <= config.dropout < 1:
        raise ValueError(f"dropout must be 0 or more and less than 1, or None, got {config.dropout!r}")
    precision_of(config)


def precision_of(config: TrainingConfig) -> str:
    """Return fp32, bf16 or fp16: the setting, or what `accelerate launch --mixed_precision` asked for."""
    asked = config.precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "fp32")
    if asked not in PRECISIONS:
        raise ValueError(f"precision must be fp32, bf16 or fp16, got {asked!r}")
    return PRECISIONS[asked]
