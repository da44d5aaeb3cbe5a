"""`train`: the loop that fine-tunes a cross-encoder, on one process or many, and picks up where it stopped.

Data order, dropout and learning rate are pure functions of (seed, epoch, step, micro-batch). That is why
a resumed run, and a run on two processes, end with the same bits as an uninterrupted one on one.

Gradients of a micro-batch of any size in the memory of a few pairs: its scores are cached.

A list-wise loss needs the scores of a whole list before it has a gradient, and the activations of a whole list are
what does not fit. Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.errors import TrainingError
from crossenc_kit.history import History
from crossenc_kit.jobs import StopRequest, lock, stop_signals, write_status
from crossenc_kit.losses.loss import Loss
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.scorers import Evaluator
from crossenc_kit.training.batches import MicroBatch, mean_loss, seed_generators
from crossenc_kit.training.config import TrainingConfig
from crossenc_kit.training.optimization import adamw, set_rate
from crossenc_kit.training.output import claim_folder, describe_run, keep_best, load_state, save_models, save_state
from crossenc_kit.training.processes import add_gradients, take_gradients
from crossenc_kit.training.setup import Run, prepare

if TYPE_CHECKING:
    from torch import Tensor


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
    loss: str | Loss | Callable[..., Any] = "bce",
    config: TrainingConfig | None = None,
    evaluator: Evaluator | None = None,
    *,
    on_row: Callable[[dict[str, Any]], Any] | None = None,
    optimizer: Callable[[list[dict[str, Any]]], Any] = adamw,
    batches: Callable[[int], list[np.ndarray]] | None = None,
) -> TrainingResult:
    """Fine-tune `model` in place on `train_data` and return what happened.

    `train_data`: anything `as_pairs` takes, with labels; or a function of the epoch, 0, 1, ..., to it, such as one that
    draws other negatives each time: each epoch has as many rows, and a checkpoint answers for those of epoch 0.
    `loss`: a name of `losses.LOSSES` or `RANKING_LOSSES`, `loss_with`, or a function of (scores, labels), for groups of
    candidates of (scores, labels, mask), returning the mean over its items. A loss of pairs takes each candidate of
    a group as a pair; `batch_size` then counts groups. `evaluator`: a function of the model to metrics. `on_row` sees
    every history row. `optimizer` makes the optimizer from parameter groups. `batches`, a function of the epoch to the
    rows of each step, takes the place of the shuffled plan. With `config.output_dir`: `best/` and `last/` (plain
    Hugging Face folders), `history.jsonl`, `status.json`, `checkpoints/`. SIGINT and SIGTERM end the run
    after the current step, with a usable model. Raises `DataError` for labels the loss cannot take,
    `TrainingError` at the first loss that is not finite, `CheckpointError` for a run that cannot resume.
    """
    config = config or TrainingConfig()
    if evaluator is None and (config.patience or config.metric or config.evaluate_first):
        raise ValueError(
            "patience, metric and evaluate_first are about an evaluation: pass an evaluator, or leave them out"
        )
    run = prepare(model, train_data, loss, config, optimizer, batches)
    describe_run(run)
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
    if evaluator is not None and config.evaluate_first and state.step == 0:
        _evaluate(run, evaluator, on_row)
    while state.step < run.total_steps and not state.stopped:
        micro_batches = run.micro_batches(state.step)
        rate = set_rate(optimizer, run.schedule(state.step))
        run.model.model.train()
        losses, gradients = [], []
        for lane in run.processes.lanes(micro_batches):
            for k, batch in lane:
                if config.cached_pairs:
                    loss = backward_in_chunks(run, batch, k)
                else:
                    seed_generators(config.seed, state.step, k)
                    with run.autocast():
                        loss = mean_loss(run.loss, run.scores(batch.rows), batch) * batch.share
                    scaler.scale(loss).backward()
                losses.append((batch.groups, loss.detach()))
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
        if evaluator is not None and run.is_evaluation_due():
            _evaluate(run, evaluator, on_row)
        asked = run.processes.sum([float(stop.requested is not None)])[0]
        if asked and not state.stopped and state.step < run.total_steps:
            state.stopped = "stopped"
        if run.is_save_due():
            save_state(run)


@contextmanager
def _opened(run: Run) -> Iterator[StopRequest]:
    """The run's folder locked and its status kept, signals turned into a flag, the last model saved."""

    def note(status: str, **more: Any) -> None:
        if run.folder is not None and run.processes.is_main:
            write_status(run.folder, status, step=run.state.step, total_steps=run.total_steps, **more)

    with ExitStack() as stack:
        if run.folder is not None and run.processes.is_main:
            stack.enter_context(lock(run.folder))
            claim_folder(run)
        load_state(run)
        stop = stack.enter_context(stop_signals())
        try:
            note("running")
            yield stop
            run.processes.wait()
            save_models(run)
        except BaseException as error:
            try:
                note("failed", error=f"{type(error).__name__}: {error}")
            except OSError as second:  # a disk so full that not even the status fits; `error` is what matters
                warnings.warn(f"status.json could not be written ({second})", stacklevel=2)
            raise
        reason = run.state.stopped or "finished"
        note("stopped" if reason == "stopped" else "finished", reason=reason)


def _checked_loss(run: Run, losses: list[tuple[np.ndarray, Any]]) -> float:
    """The step's mean loss; raises `TrainingError` naming the rows where it is not finite."""
    values = [float(loss) for _, loss in losses]
    total = run.processes.sum([sum(values)])[0]
    if math.isfinite(total):
        return total
    rows = [
        int(group)
        for (groups, _), value in zip(losses, values, strict=True)
        if not math.isfinite(value)
        for group in groups
    ]
    shown = ", ".join(map(str, sorted(rows)[:16])) + (", ..." if len(rows) > 16 else "")
    where = f"rows {shown}" if rows else "on another process"
    raise TrainingError(
        f"step {run.state.step}: the loss is {total} ({where}); the weights are those before this step. "
        "Look at these rows, try a lower learning_rate, or precision='bf16' in place of 'fp16'"
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


def _log(run: Run, on_row: Callable | None, micro_batches: list[MicroBatch], **values: float) -> None:
    row = run.state.history.append(
        step=run.state.step,
        epoch=run.state.step / run.steps_per_epoch,
        **values,
        pairs=sum(len(batch.rows) for batch in micro_batches),
        tokens=sum(batch.num_tokens for batch in micro_batches),
        seconds=run.seconds(),
    )
    if on_row is not None and run.processes.is_main:
        on_row(row)


def _evaluate(run: Run, evaluator: Evaluator, on_row: Callable | None) -> None:
    """Evaluate on the main process, tell the others, remember the best, count the others for patience."""
    config, state = run.config, run.state
    score = 0.0
    if run.processes.is_main:
        run.model.model.eval()
        answer = evaluator(run.model)
        metrics = dict(answer) if isinstance(answer, Mapping) else {"score": float(answer)}
        name = config.metric or next(iter(metrics), "")
        if name not in metrics:
            given = ", ".join(metrics) or "nothing"
            raise ValueError(f"the evaluator gives {given}; metric={name!r} is not among them")
        score = float(metrics[name])
        measured = {f"eval_{key}": value for key, value in metrics.items()}
        row = state.history.append(
            step=state.step, epoch=state.step / run.steps_per_epoch, **measured, seconds=run.seconds()
        )
        if on_row is not None:
            on_row(row)
    score = run.processes.from_main([score])[0]
    if not math.isnan(score) and (state.best_score is None or score > state.best_score):
        state.best_score, state.best_step, state.without_better = score, state.step, 0
        keep_best(run)
        return
    state.without_better += 1
    if config.patience is not None and state.without_better >= config.patience:
        state.stopped = "early"


def backward_in_chunks(run: Run, batch: MicroBatch, micro_batch: int) -> Tensor:
    """Add the gradients of one micro-batch's loss, times its share of the step, to the parameters; return it.

    First all scores, `cached_pairs` pairs at a time, without a graph; then the gradient of the loss with respect to
    the scores; then each chunk again, with its graph and under the same dropout, to carry that gradient on to the
    weights. The result is that of one pass, for one more forward pass, in the memory of one chunk's graph. With
    dropout the masks are others than without chunks: chunk c of micro-batch k draws from (seed, step, k, c).
    """
    import torch

    chunks = _chunks(run.lengths(batch.rows), run.config.cached_pairs or len(batch.rows))

    def score(number: int) -> Tensor:
        seed_generators(run.config.seed, run.state.step, micro_batch, number)
        with run.autocast():
            return run.scores(batch.rows[chunks[number]]).float()

    with torch.no_grad():
        every = torch.cat([score(number) for number in range(len(chunks))])
    back = torch.as_tensor(np.argsort(np.concatenate(chunks)), device=every.device)
    scores = every[back].requires_grad_()
    with run.autocast():
        loss = mean_loss(run.loss, scores, batch) * batch.share
    (gradient,) = torch.autograd.grad(run.scaler.scale(loss), scores)
    for number, chunk in enumerate(chunks):
        score(number).backward(gradient[torch.as_tensor(chunk, device=gradient.device)])
    return loss


def _chunks(lengths: np.ndarray, most: int) -> list[np.ndarray]:
    """The numbers of pairs of the given lengths, longest first, cut into chunks of at most `most`."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + most] for start in range(0, len(order), most)]
