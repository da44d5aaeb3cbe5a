"""`train`: the loop that fine-tunes a cross-encoder, on one process or many, and picks up where it stopped.

Data order, dropout and learning rate are pure functions of (seed, epoch, step, micro-batch). That is why
a resumed run, and a run on two processes, end with the same bits as an uninterrupted one on one.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.batches import Tokens, plan_epoch, rows_of, steps_per_epoch
from crossenc_kit.history import History
from crossenc_kit.losses import Loss, check_labels, find_loss
from crossenc_kit.model import CrossEncoder
from crossenc_kit.optimization import adamw, check_warmup, find_schedule, parameter_groups, set_rate
from crossenc_kit.pairs import DataError, Pairs, as_pairs
from crossenc_kit.processes import Processes, add_gradients, join, take_gradients
from crossenc_kit.run_guard import StopRequest, lock, stop_signals, write_status
from crossenc_kit.run_state import RunState, describe_run, keep_best, load_state, open_folder, save_models, save_state

Evaluator = Callable[[CrossEncoder], Mapping[str, float] | float]
PRECISIONS = {"no": "fp32", "fp32": "fp32", "bf16": "bf16", "fp16": "fp16"}


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the step and the rows."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. A step is one update of the weights, from `batch_size * accumulation` examples."""

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup_steps: int | None = None  # None: a tenth of the run
    scheduler: str | Callable[[int], float] = "linear"
    weight_decay: float = 0.01
    layer_decay: float = 1.0  # rate of each layer relative to the one above
    head_factor: float = 1.0  # rate of the head relative to the top layer
    max_grad_norm: float = 1.0
    accumulation: int = 1
    token_budget: int | None = None  # most tokens in a micro-batch
    max_steps: int | None = None
    precision: str | None = None  # fp32, bf16 or fp16; None: as the launcher says, else fp32
    gradient_checkpointing: bool = False
    evaluation_steps: int = 0  # 0: at the end of each epoch
    metric: str | None = None  # what to select by; None: the evaluator's first
    patience: int | None = None  # evaluations without a better score before the run stops
    restore_best: bool = True  # leave the model with the weights of the best evaluation
    save_steps: int = 0  # 0: no checkpoints, but for a run that is asked to stop
    keep_checkpoints: int = 2
    output_dir: str | os.PathLike | None = None
    resume: bool = False
    seed: int = 0

    def plan(self) -> dict[str, Any]:
        """The settings that the weights depend on: a run may only be resumed with the same ones."""
        free = {"output_dir", "resume", "save_steps", "keep_checkpoints", "restore_best"}
        settings = {name: value for name, value in asdict(self).items() if name not in free}
        if callable(self.scheduler):
            settings["scheduler"] = getattr(self.scheduler, "__name__", "a function")
        return settings


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to: `status` is finished, stopped (a signal) or early (patience ran out)."""

    status: str
    steps: int
    minutes: float
    history: History
    best_step: int | None
    best_score: float | None


def train(
    model: CrossEncoder,
    train_data: Any,
    loss: str | Callable[..., Any] = "bce",
    config: TrainingConfig | None = None,
    evaluator: Evaluator | None = None,
    *,
    on_row: Callable[[dict[str, Any]], Any] | None = None,
    optimizer: Callable[[list[dict[str, Any]]], Any] = adamw,
) -> TrainingResult:
    """Fine-tune `model` in place on `train_data` and return what happened.

    `train_data`: anything `as_pairs` takes, with labels. `loss`: a name of `losses.LOSSES` or a function
    of (scores, labels), for groups of candidates of (scores, labels, mask), returning the mean over its
    items. `evaluator`: a function of the model to metrics. `on_row` sees every history row. `optimizer`
    makes the optimizer from parameter groups. With `config.output_dir`: `best/` and `last/` (plain
    Hugging Face folders), `history.jsonl`, `status.json`, `checkpoints/`. SIGINT and SIGTERM end the run
    after the current step, with a usable model. Raises `DataError` for labels the loss cannot take,
    `TrainingError` at the first loss that is not finite, `CheckpointError` for a run that cannot resume.
    """
    run = _prepare(model, train_data, loss, config or TrainingConfig(), optimizer)
    with _opened(run) as stop:
        _loop(run, evaluator, on_row, stop)
    return TrainingResult(
        run.state.stopped or "finished",
        run.state.step,
        run.seconds() / 60,
        run.state.history,
        run.state.best_step,
        run.state.best_score,
    )


def _loop(run: Run, evaluator: Evaluator | None, on_row: Callable | None, stop: StopRequest) -> None:
    """The training loop: forward, backward, clip, step, log, evaluate, save."""
    config, state, optimizer, scaler = run.config, run.state, run.optimizer, run.scaler
    while state.step < run.total_steps and not state.stopped:
        micro_batches = run.micro_batches(state.step)  # of group numbers
        items = sum(len(groups) for groups in micro_batches)
        rate = set_rate(optimizer, run.schedule(state.step))
        run.model.model.train()
        losses, gradients = [], []
        for lane in run.processes.lanes(micro_batches):
            for k, groups in lane:
                seed_generators(config.seed, state.step, k)
                with run.autocast():
                    loss = _mean_loss(run, groups) * (len(groups) / items)
                scaler.scale(loss).backward()
                losses.append((groups, loss.detach()))
            gradients.append(take_gradients(run.parameters))
        for lane_gradients in gradients:
            add_gradients(run.parameters, lane_gradients)
        run.processes.sum_gradients(run.parameters)
        loss_value = _checked_loss(run, losses)
        norm = _clipped_norm(run)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        state.step += 1
        _log(run, on_row, micro_batches, loss=loss_value, learning_rate=rate, grad_norm=norm)
        if evaluator is not None and run.is_due(config.evaluation_steps or run.steps_per_epoch):
            _evaluate(run, evaluator, on_row)
        if run.processes.sum([float(stop.requested is not None)])[0]:
            state.stopped = "stopped"
        if run.is_save_due():
            save_state(run)


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
    planned: tuple[int, list[list[np.ndarray]]] = (-1, [])

    def micro_batches(self, step: int) -> list[np.ndarray]:
        """The plan of one optimizer step, the same in every process."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self.planned[0] != epoch:
            config = self.config
            plan = plan_epoch(
                self.tokens.lengths,
                self.data.offsets,
                seed=config.seed,
                epoch=epoch,
                batch_size=config.batch_size,
                accumulation=config.accumulation,
                token_budget=config.token_budget,
            )
            self.planned = (epoch, plan)
        return self.planned[1][index]

    def autocast(self) -> Any:
        import torch

        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision_of(self.config)]
        return torch.autocast(self.model.device.type, dtype=dtype, enabled=dtype is not None)

    def is_due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now."""
        return self.state.step % every == 0 or self.state.step == self.total_steps

    def is_save_due(self) -> bool:
        """Whether a checkpoint is to be written: every `save_steps`, and before leaving."""
        if self.folder is None:
            return False
        every = self.config.save_steps
        return self.state.stopped == "stopped" or bool(every and (self.state.stopped or self.is_due(every)))

    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self.state.seconds + time.perf_counter() - self.started


def _prepare(model: CrossEncoder, train_data: Any, loss: Any, config: TrainingConfig, optimizer: Callable) -> Run:
    """Check everything that can be checked before the first step, and put a run together."""
    import torch

    data, known = as_pairs(train_data), find_loss(loss)
    if not len(data):
        raise DataError("there is nothing to train on: the training data is empty")
    check_labels(data, known, model.num_labels)
    check_config(config)
    processes = join()
    if processes.device is not None:
        model.to(processes.device)
    per_epoch = steps_per_epoch(len(data), config.batch_size, config.accumulation)
    total = min(per_epoch * config.epochs, config.max_steps or sys.maxsize)
    warmup = config.warmup_steps if config.warmup_steps is not None else total // 10
    if not callable(config.scheduler):
        check_warmup(config.scheduler, warmup, total, config.learning_rate)
    if config.gradient_checkpointing:
        model.model.gradient_checkpointing_enable({"use_reentrant": False})
    named = list(model.model.named_parameters())
    made = optimizer(
        parameter_groups(named, config.learning_rate, config.weight_decay, config.layer_decay, config.head_factor)
    )
    run = Run(
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
        fingerprint=_fingerprint(model, data, known, config),
        started=time.perf_counter(),
    )
    describe_run(run)
    return run


def check_config(config: TrainingConfig) -> None:
    """Raise `ValueError` for a setting without a meaning, before anything starts."""
    for name in ("epochs", "batch_size", "accumulation", "keep_checkpoints"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")
    if not config.learning_rate >= 0:
        raise ValueError(f"learning_rate must not be negative, got {config.learning_rate}")
    if config.save_steps and not config.output_dir:
        raise ValueError("save_steps needs an output_dir to save into")
    if config.resume and not config.output_dir:
        raise ValueError("resume needs the output_dir of the run to go on with")
    precision_of(config)


def precision_of(config: TrainingConfig) -> str:
    """fp32, bf16 or fp16: the setting, else what `accelerate launch --mixed_precision` asked for."""
    asked = config.precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "fp32")
    if asked not in PRECISIONS:
        raise ValueError(f"precision must be fp32, bf16 or fp16, got {asked!r}")
    return PRECISIONS[asked]


def _fingerprint(model: CrossEncoder, data: Pairs, loss: Loss, config: TrainingConfig) -> dict[str, Any]:
    return {
        "data": data.fingerprint(),
        "loss": getattr(loss.function, "__name__", type(loss.function).__name__),
        "model": {"class": type(model.model).__name__, "num_labels": model.num_labels, "max_length": model.max_length},
        "config": config.plan(),
    }


@contextmanager
def _opened(run: Run) -> Iterator[StopRequest]:
    """The run's folder locked and its status kept, signals turned into a flag, the last model saved."""
    with ExitStack() as stack:
        writes = run.folder is not None and run.processes.is_main
        if writes:
            stack.enter_context(lock(open_folder(run)))
        load_state(run)
        stop = stack.enter_context(stop_signals())
        try:
            if writes:
                write_status(run.folder, "running", step=run.state.step, total_steps=run.total_steps)
            yield stop
            run.processes.wait()
            save_models(run)
        except BaseException as error:
            if writes:
                write_status(run.folder, "failed", step=run.state.step, error=f"{type(error).__name__}: {error}")
            raise
        if writes:
            status = run.state.stopped or "finished"
            known = "stopped" if status == "stopped" else "finished"
            write_status(run.folder, known, step=run.state.step, total_steps=run.total_steps, reason=status)


def _mean_loss(run: Run, groups: np.ndarray) -> Any:
    """The loss of one micro-batch: the mean over its groups."""
    import torch

    rows = rows_of(groups, run.data.offsets)
    scores = run.model.scores(run.tokens, rows).float()
    labels = torch.as_tensor(run.data.labels[rows], device=scores.device)  # type: ignore[index]
    if run.model.num_labels == 1:
        scores, labels = scores.squeeze(1), labels.reshape(len(rows))
    if run.data.is_pointwise:
        return run.loss.function(scores, labels)
    sizes = np.diff(run.data.offsets)[groups]
    mask = torch.as_tensor(np.arange(sizes.max()) < sizes[:, None], device=scores.device)  # (Q, K)
    scores, labels = (torch.zeros(mask.shape, device=scores.device).masked_scatter(mask, x.float()) for x in (scores, labels))
    return run.loss.function(scores, labels, mask)


def seed_generators(seed: int, step: int, micro_batch: int) -> None:
    """Seed torch's default generators for one micro-batch: dropout depends on nothing before it."""
    import torch

    text = f"{seed}/{step}/{micro_batch}".encode()
    value = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed(value)


def _checked_loss(run: Run, losses: list[tuple[np.ndarray, Any]]) -> float:
    """The step's mean loss; raises `TrainingError` naming the rows where it is not finite."""
    values = [float(loss) for _, loss in losses]
    total = run.processes.sum([sum(values)])[0]
    if math.isfinite(total):
        return total
    rows = [int(group) for (groups, _), value in zip(losses, values, strict=True) if not math.isfinite(value) for group in groups]
    shown = ", ".join(map(str, sorted(rows)[:16])) + (", ..." if len(rows) > 16 else "")
    raise TrainingError(
        f"step {run.state.step}: the loss is {total} ({'rows ' + shown if rows else 'on another process'}); the weights "
        "are those before this step. Try a lower learning_rate, precision='bf16' in place of 'fp16', or look at these rows"
    )


def _clipped_norm(run: Run) -> float:
    """Clip the gradients to `max_grad_norm` and return the norm they had."""
    import torch

    run.scaler.unscale_(run.optimizer)
    most = run.config.max_grad_norm or math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(run.parameters, most))
    if not math.isfinite(norm) and not run.scaler.is_enabled():  # fp16's scaler skips such a step by itself
        raise TrainingError(f"step {run.state.step}: the gradient's norm is {norm}; try a lower learning_rate")
    return norm


def _log(run: Run, on_row: Callable | None, micro_batches: list[np.ndarray], **values: float) -> None:
    rows = np.concatenate([rows_of(groups, run.data.offsets) for groups in micro_batches])
    row = run.state.history.append(
        step=run.state.step,
        epoch=run.state.step / run.steps_per_epoch,
        **values,
        pairs=len(rows),
        tokens=int(run.tokens.lengths[rows].sum()),
        seconds=run.seconds(),
    )
    if on_row is not None and run.processes.is_main:
        on_row(row)


def _evaluate(run: Run, evaluator: Evaluator, on_row: Callable | None) -> None:
    """Evaluate on the main process, tell the others, remember the best, count the others for patience."""
    config, state = run.config, run.state
    score = 0.0
    if run.processes.is_main:
        answer = evaluator(run.model)
        metrics = dict(answer) if isinstance(answer, Mapping) else {"score": float(answer)}
        name = config.metric or next(iter(metrics))
        if name not in metrics:
            raise ValueError(f"the evaluator gives {', '.join(metrics)}; metric={name!r} is not among them")
        score = float(metrics[name])
        measured = {f"eval_{key}": value for key, value in metrics.items()}
        row = state.history.append(
            step=state.step, epoch=state.step / run.steps_per_epoch, **measured, seconds=run.seconds()
        )
        if on_row is not None:
            on_row(row)
    score = run.processes.from_main([score])[0]
    if state.best_score is None or score > state.best_score:
        state.best_score, state.best_step, state.without_better = score, state.step, 0
        keep_best(run)
        return
    state.without_better += 1
    if config.patience is not None and state.without_better >= config.patience:
        state.stopped = "early"
