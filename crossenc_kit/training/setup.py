"""What one call of `train` works with: `Setup`, and the `State` in it that a checkpoint keeps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import Pairs, as_pairs
from crossenc_kit.errors import DataError
from crossenc_kit.history import History, provenance
from crossenc_kit.losses.checks import check_labels, warn_of_silent_lists
from crossenc_kit.losses.loss import Loss, find_loss
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.tokens import RULES, Tokens, tokenize
from crossenc_kit.training.batches import (
    Lists,
    MicroBatch,
    Positives,
    cut_step,
    group_sizes,
    known_positives,
    micro_batches_of,
    plan_epoch,
    steps_per_epoch,
    widen,
)
from crossenc_kit.training.config import TrainingConfig, check_config, precision_of
from crossenc_kit.training.optimization import parameter_groups, schedule_of
from crossenc_kit.training.processes import Processes, join


@dataclass(eq=False)
class State:
    """What changes during training and, besides weights and optimizer, is kept in a checkpoint."""

    step: int = 0  # optimizer steps done
    seconds: float = 0.0  # of training, before the last resume
    best_score: float | None = None
    best_step: int | None = None
    without_better: int = 0  # evaluations since the best one
    stopped: str = ""  # "", "stopped" by a signal, or "early" by patience
    history: History = field(default_factory=History)
    best_weights: dict[str, Any] | None = None  # on the CPU; on the disk it is the folder best/


@dataclass(eq=False)
class Setup:
    """Everything that one call of `train` works with."""

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
    schedule: Callable[[int], float]  # step -> factor of the peak learning rate
    folder: Path | None
    fingerprint: dict[str, Any]
    batches: Callable[[int], list[np.ndarray]] | None  # the caller's own steps of an epoch, as group numbers
    data_of: Callable[[int], Any] | None  # the data of each epoch, if they differ
    state: State = field(default_factory=State)
    started: float = field(default_factory=time.perf_counter)
    data_epoch: int = 0  # the epoch that `data` and `tokens` belong to
    planned: tuple[int, list[list[np.ndarray]]] = (-1, [])  # an epoch and its steps, each cut into micro-batches
    positives: Positives | None = None  # of this epoch, if the loss takes negatives from the batch
    step_tokens: Any = None  # `Tokens` of this step's pairs: `tokens`, or other pairs of the same texts

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """Return the micro-batches of one optimizer step, the same in every process."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self.planned[0] != epoch:
            self._begin(epoch)
        cuts, groups = self.planned[1][index], None
        lists = Lists(self.tokens, np.asarray(self.data.labels), self.data.offsets)
        if self.loss.in_batch:
            groups = np.concatenate(cuts)
            lists = self._widened(lists, groups, epoch, index)
            most = len(groups) if self.batches is not None else self.config.batch_size
            sizes = group_sizes(lists.tokens.lengths, lists.offsets)
            cuts = cut_step(np.arange(len(groups)), sizes, most, self.config.token_budget)
        self.step_tokens = lists.tokens
        return micro_batches_of(lists, cuts, self.loss, self.loss.takes_lists(self.data), groups)

    def _widened(self, lists: Lists, groups: np.ndarray, epoch: int, index: int) -> Lists:
        """Give a step's lists negatives from each other, drawn from (seed, epoch, step)."""
        generator = np.random.default_rng([self.config.seed, epoch, index + 1])  # [seed, epoch] shuffles the plan
        rule, room = RULES[self.model.truncation], self.model.max_length - self.tokens.template.size
        assert self.positives is not None
        return widen(lists, groups, self.loss.in_batch, self.positives, generator, lambda sizes: rule(sizes, room))

    def scores(self, rows: np.ndarray) -> Any:
        """Compute the raw scores `(B, C)` of some of this step's pairs; gradients flow."""
        return self.model.scores(self.step_tokens, rows)

    def _begin(self, epoch: int) -> None:
        """Get data, tokens and plan of an epoch; the data of another epoch are released first."""
        if self.data_of is not None and epoch != self.data_epoch:
            count = len(self.data)
            self.data = self.tokens = self.step_tokens = self.positives = None  # type: ignore[assignment]
            self.data, self.data_epoch = epoch_data(self.data_of, epoch, self.loss, self.model, count), epoch
            self.processes.check_same(self.data.fingerprint(), f"the data of epoch {epoch}")
            model = self.model  # its own `tokenize` would warn of truncation again
            self.tokens = tokenize(model.tokenizer, self.data, model.max_length, model.truncation)
        if self.loss.in_batch and self.positives is None:
            self.positives = known_positives(self.tokens, np.asarray(self.data.labels))
        self.planned = (epoch, self._plan(epoch))

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

    def autocast(self) -> Any:
        """Return the context in which the forward pass runs in the chosen precision."""
        import torch

        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision_of(self.config)]
        return torch.autocast(self.model.device.type, dtype=dtype, enabled=dtype is not None)

    def is_due(self, every: int) -> bool:
        """Tell whether something that happens every so many steps, and at the end, happens now."""
        return self.state.step % every == 0 or self.state.step == self.total_steps

    def is_evaluation_due(self) -> bool:
        """Tell whether to evaluate: at the end of each epoch, or as `evaluation_steps` says."""
        config, within = self.config, self.state.step % self.steps_per_epoch
        if config.evaluate_epochs and config.evaluation_steps:
            return within == 0 or within % config.evaluation_steps == 0 or self.state.step == self.total_steps
        return self.is_due(config.evaluation_steps or self.steps_per_epoch)

    def is_save_due(self) -> bool:
        """Tell whether to write a checkpoint: every `save_steps`, and before stopping."""
        if self.folder is None:
            return False
        every = self.config.save_steps
        return self.state.stopped == "stopped" or bool(every and (self.state.stopped or self.is_due(every)))

    def seconds(self) -> float:
        """Return the seconds of training so far, those before a resume included."""
        return self.state.seconds + time.perf_counter() - self.started

    def remember_best(self) -> None:
        """Keep a copy of the weights as the best so far, if asked for."""
        if self.config.restore_best:
            self.state.best_weights = trained_weights(self.model.model)

    def restore_best(self) -> None:
        """Leave the model with the best weights, if asked for, and ready to predict."""
        best = self.state.best_weights
        if best is not None and self.state.best_step != self.state.step:
            self.model.model.load_state_dict(best, strict=False)  # a saved folder holds tied weights once
        self.model.model.eval()

    def describe(self) -> None:
        """Put data and settings into the model card."""
        facts: dict[str, Any] = {"training pairs": f"{self.data.num_pairs:,}"}
        parts = self.loss.parts(self.data, self.model.num_labels)
        names = ["labels"] if len(parts) == 1 else ["teacher's scores", "gold labels"]
        for name, (_, data) in zip(names, parts, strict=True):
            labels = np.asarray(data.labels)
            facts[name] = f"{labels.min():g} to {labels.max():g}, mean {labels.mean():.3g}"
        facts["sha256"] = self.fingerprint["data"][:16]
        facts["truncated pairs"] = self.tokens.num_truncated
        if self.data.notes:
            facts["notes"] = "; ".join(self.data.notes)
        self.model.card |= {
            "data": facts,
            "settings": {"loss": self.fingerprint["loss"], **self.config.plan()},
            "provenance": provenance(self.model.device),
        }

    def describe_result(self) -> None:
        """Put the metrics of the best evaluation into the model card, else those of the last one."""
        evaluations = self.state.history.evaluations()
        if evaluations:
            best = next((row for row in evaluations if row["step"] == self.state.best_step), evaluations[-1])
            values = {name.removeprefix("eval_"): value for name, value in best.items() if name.startswith("eval_")}
            self.model.card["metrics"] = {"step": best["step"], **values}


def trained_weights(model: Any) -> dict[str, Any]:
    """Copy all weights that training can change to the CPU."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: w.detach().cpu().clone() for name, w in model.state_dict().items() if name not in frozen}


def prepare(
    model: CrossEncoder,
    train_data: Any,
    loss: Any,
    config: TrainingConfig,
    optimizer: Callable,
    batches: Callable[[int], list[np.ndarray]] | None = None,
) -> Setup:
    """Check everything that can be checked before the first step, and put the setup together."""
    import torch

    check_config(config)
    if model.backend != "torch":
        raise ValueError(
            f"a model with backend={model.backend!r} cannot be trained: its weights are fixed; "
            "train the float32 model (backend='torch') and export it again"
        )
    known = find_loss(loss)
    data_of = train_data if callable(train_data) else None
    data = epoch_data(data_of or (lambda epoch: train_data), 0, known, model)
    warn_of_silent_lists(known.parts(data, model.num_labels))
    known = known.fitted(data, model.num_labels)
    processes = join()
    if processes.device is not None:
        model.to(processes.device)
    processes.share(model.model.state_dict().values())
    per_epoch = len(batches(0)) if batches else steps_per_epoch(len(data), config.batch_size, config.accumulation)
    total = min(per_epoch * config.epochs, config.max_steps or sys.maxsize)
    _set_up_layers(model, config)
    named = list(model.model.named_parameters())
    made = optimizer(
        parameter_groups(named, config.learning_rate, config.weight_decay, config.layer_decay, config.head_factor)
    )
    plan = fingerprint(model, data, known, config, made)
    processes.check_same(plan, "the training (data, loss, model, settings)")
    return Setup(
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
        schedule=schedule_of(config, total),
        folder=Path(config.output_dir) if config.output_dir else None,
        fingerprint=plan,
        batches=batches,
        data_of=data_of,
    )


def epoch_data(
    data_of: Callable[[int], Any], epoch: int, loss: Loss, model: CrossEncoder, count: int | None = None
) -> Pairs:
    """Read an epoch's data and check its labels.

    Pairs without labels are positives if the loss takes its negatives from the batch.

    count: the rows of epoch 0, so many that every other epoch must have
    """
    data = as_pairs(data_of(epoch))
    if not len(data):
        raise DataError("there is nothing to train on: the training data is empty")
    if count is not None and len(data) != count:
        raise DataError(
            f"epoch {epoch}: train_data gives {len(data)} rows, and gave {count} for epoch 0; give every epoch as "
            "many, so that steps and learning rates are known beforehand"
        )
    if data.labels is None and loss.in_batch and data.is_pointwise:
        data = replace(data, labels=np.ones(len(data), dtype=np.float32))
    for part, own in loss.parts(data, model.num_labels):
        check_labels(part, own, model.num_labels)
    model.name_labels(data.label_names)
    return data


def _set_up_layers(model: CrossEncoder, config: TrainingConfig) -> None:
    """Set dropout and activation checkpointing as the settings say."""
    import torch

    for module in model.model.modules():
        if config.dropout is not None and isinstance(module, torch.nn.Dropout):
            module.p = config.dropout
    if config.gradient_checkpointing:
        newer = getattr(model.model, "activation_checkpointing_enable", None)  # the name since transformers 5
        (newer or model.model.gradient_checkpointing_enable)({"use_reentrant": False})


def fingerprint(model: CrossEncoder, data: Pairs, loss: Loss, config: TrainingConfig, optimizer: Any) -> dict[str, Any]:
    """Describe what the trained weights depend on; a checkpoint is resumed only with the same.

    If the data are a function of the epoch, those of epoch 0 count.
    """
    settings = model.config.to_dict()
    sizes = {name: settings[name] for name in sorted(settings) if name.endswith("_size") or "drop" in name}
    kind = {"class": type(model.model).__name__, "num_labels": model.num_labels, "max_length": model.max_length}
    if model.truncation != "longest_first":
        kind["truncation"] = model.truncation
    return {
        "data": data.fingerprint(),
        "loss": loss.name,
        "model": kind | sizes,
        "optimizer": type(optimizer).__name__,
        "config": config.plan(),
    }
