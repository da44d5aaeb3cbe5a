"""`train`: the loop that fine-tunes a cross-encoder, on one process or many, and resumes where it stopped.

Data order, dropout and learning rate are pure functions of (seed, epoch, step, micro-batch). So a resumed
training, and one on two processes, end with the same bits as an uninterrupted one on a single process.

Letters: B pairs in a micro-batch, C labels, Q lists, K candidates per list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.errors import TrainingError
from crossenc_kit.history import History, html_table
from crossenc_kit.jobs import StopRequest, lock, stop_signals, write_status
from crossenc_kit.losses.loss import Loss
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.scorers import Evaluator, warn_at_call
from crossenc_kit.training.batches import MicroBatch, mean_loss, seed_generators
from crossenc_kit.training.config import TrainingConfig
from crossenc_kit.training.optimization import adamw, set_rate
from crossenc_kit.training.output import claim_folder, load_state, save_best, save_last, save_state
from crossenc_kit.training.processes import add_gradients, take_gradients
from crossenc_kit.training.setup import Setup, prepare

if TYPE_CHECKING:
    from torch import Tensor

SHOWN_ROWS = 16  # rows that an error names


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended."""

    status: str  # "finished", "stopped" (by a signal) or "early" (patience ran out)
    steps: int  # optimizer steps
    minutes: float  # of training, those before a resume included
    history: History
    best_step: int | None
    best_score: float | None

    def __str__(self) -> str:
        best = "" if self.best_score is None else f"; best score {self.best_score:.4g} at step {self.best_step}"
        return f"{self.status} after {self.steps} steps, {self.minutes:.1f} minutes{best}"

    def _repr_html_(self) -> str:
        facts = {"status": self.status, "steps": self.steps, "minutes": f"{self.minutes:.1f}"}
        if self.best_score is not None:
            facts |= {"best step": self.best_step, "best score": f"{self.best_score:.4g}"}
        return html_table(facts, [facts.values()])


def train(
    model: CrossEncoder,
    train_data: Any,
    loss: str | Loss | Callable[..., Any] = "bce",
    config: TrainingConfig | None = None,
    evaluator: Evaluator | None = None,
    *,
    on_row: Callable[[dict[str, Any]], Any] | None = None,
    optimizer: Callable[[list[dict[str, Any]]], Any] = adamw,
    batches: Callable[[int], list[np.ndarray]] | None = None,
) -> TrainingResult:
    """Fine-tune `model` in place on `train_data`.

    train_data: anything `as_pairs` takes, with labels; or a function of the epoch (0, 1, ...) to it, with
        as many rows in every epoch
    loss: a name, `loss_with(...)`, or a function of (scores, labels[, mask]) that returns the mean
    evaluator: a function of the model to metrics, a dict whose first entry selects the best model
    on_row: called with every history row; optimizer: makes an optimizer from parameter groups
    batches: a function of the epoch to each step's rows, in place of the shuffled plan

    SIGINT and SIGTERM end training after the current step. Raises `DataError` for labels the loss cannot
    take, `TrainingError` at the first loss that is not finite, `CheckpointError` if it cannot resume.
    """
    config = config or TrainingConfig()
    if evaluator is None and (config.patience or config.metric or config.evaluate_first):
        raise ValueError(
            "patience, metric and evaluate_first are about an evaluation: pass an evaluator, or leave them out"
        )
    setup = prepare(model, train_data, loss, config, optimizer, batches)
    setup.describe()
    with _opened(setup) as stop:
        _loop(setup, evaluator, on_row, stop)
    state, minutes = setup.state, setup.seconds() / 60
    status = state.stopped or "finished"
    return TrainingResult(status, state.step, minutes, state.history, state.best_step, state.best_score)


def _loop(setup: Setup, evaluator: Evaluator | None, on_row: Callable | None, stop: StopRequest) -> None:
    """Forward, backward, clip, step, log, evaluate, save; until the last step, or until asked to stop."""
    config, state, optimizer, scaler = setup.config, setup.state, setup.optimizer, setup.scaler
    if evaluator is not None and config.evaluate_first and state.step == 0:
        _evaluate(setup, evaluator, on_row)
    while state.step < setup.total_steps and not state.stopped:
        micro_batches = setup.micro_batches(state.step)
        rate = set_rate(optimizer, setup.schedule(state.step))
        setup.model.model.train()
        losses, gradients = [], []
        for lane in setup.processes.lanes(micro_batches):  # sums of floats depend on their order: see `lanes`
            for k, batch in lane:
                if config.cached_pairs:
                    loss = backward_in_chunks(setup, batch, k)
                else:
                    seed_generators(config.seed, state.step, k)
                    with setup.autocast():
                        scores = setup.scores(batch.rows)  # (B, C)
                        loss = mean_loss(setup.loss, scores, batch) * batch.share  # a scalar
                    scaler.scale(loss).backward()
                losses.append((batch.groups, loss.detach()))
            gradients.append(take_gradients(setup.parameters))
        for lane_gradients in gradients:
            add_gradients(setup.parameters, lane_gradients)
        setup.processes.sum_gradients(setup.parameters)
        loss_value = _checked_loss(setup, losses)
        norm = _clipped_norm(setup)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        state.step += 1
        _log(setup, on_row, micro_batches, loss=loss_value, learning_rate=rate, grad_norm=norm)
        if evaluator is not None and setup.is_evaluation_due():
            _evaluate(setup, evaluator, on_row)
        asked = setup.processes.sum([float(stop.requested is not None)])[0]
        if asked and not state.stopped and state.step < setup.total_steps:
            state.stopped = "stopped"
        if setup.is_save_due():
            save_state(setup)


def backward_in_chunks(setup: Setup, batch: MicroBatch, micro_batch: int) -> Tensor:
    """Add a micro-batch's gradients to the parameters in the memory of `cached_pairs` pairs; return its loss.

    A loss of lists needs the scores of a whole list before it has a gradient. So first all scores are computed
    without a graph, then the gradient of the loss with respect to the scores, and then each chunk again, with
    its graph and the same dropout, to carry that gradient on to the weights. It costs one more forward pass.
    Chunk c of micro-batch k draws its dropout from (seed, step, k, c).

    GradCache: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021.
    """
    import torch

    order = np.argsort(-setup.step_tokens.lengths[batch.rows], kind="stable")  # longest pairs first
    most = setup.config.cached_pairs
    assert most is not None
    chunks = [order[start : start + most] for start in range(0, len(order), most)]

    def score(number: int) -> Tensor:
        seed_generators(setup.config.seed, setup.state.step, micro_batch, number)
        with setup.autocast():
            return setup.scores(batch.rows[chunks[number]]).float()

    with torch.no_grad():
        every = torch.cat([score(number) for number in range(len(chunks))])  # (B, C) in `order`
    back = torch.as_tensor(np.argsort(order), device=every.device)
    scores = every[back].requires_grad_()  # (B, C) in the order of the batch
    with setup.autocast():
        loss = mean_loss(setup.loss, scores, batch) * batch.share
    (gradient,) = torch.autograd.grad(setup.scaler.scale(loss), scores)  # (B, C)
    for number, chunk in enumerate(chunks):
        score(number).backward(gradient[torch.as_tensor(chunk, device=gradient.device)])
    return loss


@contextmanager
def _opened(setup: Setup) -> Iterator[StopRequest]:
    """Lock the folder, keep its status, turn signals into a flag, and save the last model at the end."""

    def note(status: str, **more: Any) -> None:
        if setup.folder is not None and setup.processes.is_main:
            write_status(setup.folder, status, step=setup.state.step, total_steps=setup.total_steps, **more)

    with ExitStack() as stack:
        if setup.folder is not None and setup.processes.is_main:
            stack.enter_context(lock(setup.folder))
            claim_folder(setup)
        if setup.folder is not None:
            load_state(setup)
        stop = stack.enter_context(stop_signals())
        try:
            note("running")
            yield stop
            setup.processes.wait()
            setup.describe_result()
            if setup.folder is not None:
                save_last(setup)
            setup.restore_best()
        except BaseException as error:
            try:
                note("failed", error=f"{type(error).__name__}: {error}")
            except OSError as second:  # the disk is so full that not even the status fits; `error` matters more
                warn_at_call(f"status.json could not be written ({second})")
            raise
        reason = setup.state.stopped or "finished"
        note("stopped" if reason == "stopped" else "finished", reason=reason)


def _checked_loss(setup: Setup, losses: list[tuple[np.ndarray, Any]]) -> float:
    """Return the step's mean loss; `TrainingError` names the rows where it is not finite."""
    total = setup.processes.sum([sum(float(loss) for _, loss in losses)])[0]
    if math.isfinite(total):
        return total
    rows = sorted(int(row) for groups, loss in losses if not loss.isfinite() for row in groups)
    shown = ", ".join(map(str, rows[:SHOWN_ROWS])) + (", ..." if len(rows) > SHOWN_ROWS else "")
    where = f"rows {shown}" if rows else "on another process"
    raise TrainingError(
        f"step {setup.state.step}: the loss is {total} ({where}); the weights are those before this step. "
        "Look at these rows, try a lower learning_rate, or precision='bf16' in place of 'fp16'"
    )


def _clipped_norm(setup: Setup) -> float:
    """Clip the gradients to `max_grad_norm` and return the norm they had."""
    import torch

    setup.scaler.unscale_(setup.optimizer)
    most = setup.config.max_grad_norm or math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(setup.parameters, most))
    if not math.isfinite(norm) and not setup.scaler.is_enabled():  # fp16's scaler skips such a step itself
        raise TrainingError(f"step {setup.state.step}: the gradient's norm is {norm}; try a lower learning_rate")
    return norm


def _log(setup: Setup, on_row: Callable | None, micro_batches: list[MicroBatch], **values: float) -> None:
    row = setup.state.history.append(
        step=setup.state.step,
        epoch=setup.state.step / setup.steps_per_epoch,
        **values,
        pairs=sum(len(batch.rows) for batch in micro_batches),
        tokens=sum(batch.num_tokens for batch in micro_batches),
        seconds=setup.seconds(),
    )
    if on_row is not None and setup.processes.is_main:
        on_row(row)


def _evaluate(setup: Setup, evaluator: Evaluator, on_row: Callable | None) -> None:
    """Evaluate on the main process, tell the others, keep the best model, count towards `patience`."""
    config, state = setup.config, setup.state
    score = 0.0
    if setup.processes.is_main:
        setup.model.model.eval()
        score, metrics = _measured(evaluator(setup.model), config.metric)
        row = state.history.append(
            step=state.step,
            epoch=state.step / setup.steps_per_epoch,
            **{f"eval_{name}": value for name, value in metrics.items()},
            seconds=setup.seconds(),
        )
        if on_row is not None:
            on_row(row)
    score = setup.processes.from_main([score])[0]
    if not math.isnan(score) and (state.best_score is None or score > state.best_score):
        state.best_score, state.best_step, state.without_better = score, state.step, 0
        setup.remember_best()
        if setup.folder is not None:
            save_best(setup)
        return
    state.without_better += 1
    if config.patience is not None and state.without_better >= config.patience:
        state.stopped = "early"


def _measured(answer: Mapping[str, float] | float, metric: str | None) -> tuple[float, dict[str, float]]:
    """Return the score that selects the best model, and all metrics by name."""
    metrics = dict(answer) if isinstance(answer, Mapping) else {"score": float(answer)}
    name = metric or next(iter(metrics), "")
    if name not in metrics:
        given = ", ".join(metrics) or "nothing"
        raise ValueError(f"the evaluator gives {given}; metric={name!r} is not among them")
    return float(metrics[name]), metrics
