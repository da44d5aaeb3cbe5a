"""A training run put together: model, data, plan, optimizer, schedule, and the state that a checkpoint keeps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.batches import Tokens, cut_step, group_sizes, plan_epoch, steps_per_epoch
from crossenc_kit.history import History
from crossenc_kit.losses import Loss, check_labels, find_loss, fit_weights
from crossenc_kit.model import CrossEncoder
from crossenc_kit.optimization import check_warmup, find_schedule, parameter_groups
from crossenc_kit.pairs import DataError, Pairs, as_pairs
from crossenc_kit.processes import Processes, join
from crossenc_kit.training_config import TrainingConfig, check_config, precision_of


@dataclass(eq=False)
class RunState:
    """The part of a run that a checkpoint keeps, besides weights and optimizer."""

    step: int = 0  # optimizer steps done
    seconds: float = 0.0  # of training, before the last resume
    best_score: float | None = None
    best_step: int | None = None
    without_better: int = 0  # evaluations since the best one
    stopped: str = ""  # "", "stopped" by a signal, or "early" by patience
    history: History = field(default_factory=History)
    best_weights: dict[str, Any] | None = None  # on the CPU; saved as the folder best/, not here


@dataclass(eq=False)
class Run:
    """What one call of `train` works with; `state` is the part that a checkpoint keeps."""

    model: CrossEncoder
    data: Pairs
    tokens: Tokens
    loss: Loss
    config: TrainingConfig
    parameters: list[Any]
    optimizer: Any
    scaler: Any
    processes: Processes
    steps_per_epoch: int
    total_steps: int
    schedule: Callable[[int], float]
    folder: Path | None
    state: RunState
    fingerprint: dict[str, Any]
    started: float
    batches: Callable[[int], list[np.ndarray]] | None  # the caller's own steps of an epoch, as group numbers
    item_weights: np.ndarray  # (G,) what each group weighs in the mean of a step
    planned: tuple[int, list[list[np.ndarray]]] = (-1, [])

    def micro_batches(self, step: int) -> list[np.ndarray]:
        """The plan of one optimizer step, the same in every process."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self.planned[0] != epoch:
            self.planned = (epoch, self._plan(epoch))
        return self.planned[1][index]

    def _plan(self, epoch: int) -> list[list[np.ndarray]]:
        config = self.config
        if self.batches is not None:
            sizes = group_sizes(self.tokens.lengths, self.data.offsets)
            return [cut_step(np.asarray(g), sizes, len(g), config.token_budget) for g in self.batches(epoch)]
        return plan_epoch(
            self.tokens.lengths,
            self.data.offsets,
            seed=config.seed,
            epoch=epoch,
            batch_size=config.batch_size,
            accumulation=config.accumulation,
            token_budget=config.token_budget,
        )

    def shares(self, micro_batches: list[np.ndarray]) -> list[float]:
        """What part of a step's items each micro-batch holds; weighted where the loss weighs its items."""
        weights = [float(self.item_weights[groups].sum()) for groups in micro_batches]
        total = sum(weights)
        return [weight / total for weight in weights]

    def autocast(self) -> Any:
        import torch

        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision_of(self.config)]
        return torch.autocast(self.model.device.type, dtype=dtype, enabled=dtype is not None)

    def is_due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now."""
        return self.state.step % every == 0 or self.state.step == self.total_steps

    def is_evaluation_due(self) -> bool:
        """Whether the evaluator is to be called: at the end of each epoch, or as `evaluation_steps` says."""
        config, within = self.config, self.state.step % self.steps_per_epoch
        if config.evaluate_epochs and config.evaluation_steps:
            return within == 0 or within % config.evaluation_steps == 0 or self.state.step == self.total_steps
        return self.is_due(config.evaluation_steps or self.steps_per_epoch)

    def is_save_due(self) -> bool:
        """Whether a checkpoint is to be written: every `save_steps`, and before leaving."""
        if self.folder is None:
            return False
        every = self.config.save_steps
        return self.state.stopped == "stopped" or bool(every and (self.state.stopped or self.is_due(every)))

    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self.state.seconds + time.perf_counter() - self.started


def prepare(
    model: CrossEncoder,
    train_data: Any,
    loss: Any,
    config: TrainingConfig,
    optimizer: Callable,
    batches: Callable[[int], list[np.ndarray]] | None = None,
) -> Run:
    """Check everything that can be checked before the first step, and put a run together."""
    import torch

    check_config(config)
    data, known = as_pairs(train_data), find_loss(loss)
    if not len(data):
        raise DataError("there is nothing to train on: the training data is empty")
    check_labels(data, known, model.num_labels)
    known = fit_weights(known, data, model.num_labels)
    model.name_labels(data.label_names)
    processes = join()
    if processes.device is not None:
        model.to(processes.device)
    processes.share(model.model.state_dict().values())
    per_epoch = len(batches(0)) if batches else steps_per_epoch(len(data), config.batch_size, config.accumulation)
    total = min(per_epoch * config.epochs, config.max_steps or sys.maxsize)
    warmup = config.warmup_steps if config.warmup_steps is not None else total // 10
    if not callable(config.scheduler):
        check_warmup(config.scheduler, warmup, total, config.learning_rate)
    for module in model.model.modules():
        if config.dropout is not None and isinstance(module, torch.nn.Dropout):
            module.p = config.dropout
    if config.gradient_checkpointing:
        newer = getattr(model.model, "activation_checkpointing_enable", None)  # its later name
        (newer or model.model.gradient_checkpointing_enable)({"use_reentrant": False})
    named = list(model.model.named_parameters())
    made = optimizer(
        parameter_groups(named, config.learning_rate, config.weight_decay, config.layer_decay, config.head_factor)
    )
    plan = fingerprint(model, data, known, config, made)
    processes.check_same(plan, "the run (data, loss, model, settings)")
    return Run(
        model=model,
        data=data,
        tokens=model.tokenize(data),
        loss=known,
        config=config,
        parameters=[parameter for _, parameter in named if parameter.requires_grad],
        optimizer=made,
        scaler=torch.amp.GradScaler(model.device.type, enabled=precision_of(config) == "fp16"),
        processes=processes,
        steps_per_epoch=per_epoch,
        total_steps=total,
        schedule=find_schedule(config.scheduler, total, warmup),
        folder=Path(config.output_dir) if config.output_dir else None,
        state=RunState(),
        fingerprint=plan,
        started=time.perf_counter(),
        batches=batches,
        item_weights=known.item_weights(np.asarray(data.labels)) if data.is_pointwise else np.ones(len(data)),
    )


def fingerprint(model: CrossEncoder, data: Pairs, loss: Loss, config: TrainingConfig, optimizer: Any) -> dict[str, Any]:
    """What a run's weights depend on; a checkpoint goes on only with the same."""
    settings = model.config.to_dict()
    sizes = {name: settings[name] for name in sorted(settings) if name.endswith("_size") or "drop" in name}
    kind = {"class": type(model.model).__name__, "num_labels": model.num_labels, "max_length": model.max_length}
    return {
        "data": data.fingerprint(),
        "loss": loss.name,
        "model": kind | sizes,
        "optimizer": type(optimizer).__name__,
        "config": config.plan(),
    }
