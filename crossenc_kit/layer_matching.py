"""Layer matching: a student learns what its teacher's layers compute, before it learns the teacher's scores.

    student = make_student(teacher, layers=3)
    match_layers(student, teacher, pairs, config=TrainingConfig(epochs=1, learning_rate=1e-4))
    train(student, with_teacher_scores(pairs, scores), "mse")

Hidden states by squared error, as in Jiao et al., "TinyBERT", 2020; attention by squared error, as there, or by
divergence, as in Wang et al., "MiniLM: Deep Self-Attention Distillation", 2020. No labels and no scores take part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from crossenc_kit.batches import Tokens, plan_epoch
from crossenc_kit.history import History
from crossenc_kit.layer_losses import ATTENTION_LOSSES, hidden_mse
from crossenc_kit.layer_maps import BothTokens, Matching, check_settings, checked_matching, same_tokens
from crossenc_kit.model import CrossEncoder
from crossenc_kit.optimization import adamw, check_warmup, find_schedule, parameter_groups, set_rate
from crossenc_kit.packed import pad_batch, padding_of
from crossenc_kit.pairs import as_pairs
from crossenc_kit.products import FastProducts
from crossenc_kit.training_config import TrainingConfig, precision_of


def match_layers(
    student: CrossEncoder,
    teacher: CrossEncoder,
    pairs: Any,
    layer_map: Mapping[int, int] | Sequence[int] | None = None,
    config: TrainingConfig | None = None,
    *,
    hidden_weight: float = 1.0,
    attention_weight: float = 1.0,
    attention: str = "kl",
    on_row: Callable[[dict[str, Any]], Any] | None = None,
) -> History:
    """Train the student's embeddings and layers, in place, to compute what layers of the teacher compute.

    `pairs`: anything `as_pairs` takes; labels are not looked at. `layer_map`: the teacher's layer for each of the
    student's, numbered from 0, as a list or, for some of them, a dict; None spreads them evenly, as `make_student`
    does; MiniLM's choice is the last layers alone. The loss is the mean over pairs and mapped layers of
    `hidden_weight` times `hidden_mse` of the layers' outputs plus `attention_weight` times `attention_kl` or, with
    `attention="mse"`, `attention_mse`. Where the models differ in width a linear map of the student's states is
    trained with it and then dropped. The head is not trained, and dropout is off: attention is seen after it.

    `config`: of the settings those in `USED` count, others must be left alone; data order is that of `train`. Both
    models run padded, with plain attention, and are put back as they were; the teacher does not change. Returns a row
    a step. Raises `ValueError` for layers out of range, tokenizers that differ, other numbers of attention heads, and
    settings without a meaning; `RuntimeError` at the first loss that is not finite.
    """
    config = config or TrainingConfig()
    check_settings(config)
    matching = checked_matching(student, teacher, layer_map, (hidden_weight, attention_weight), attention)
    tokens = same_tokens(student, teacher, as_pairs(pairs))
    projection = _projection(student, teacher, config.seed)
    steps = _plan(tokens.student.lengths, config)
    schedule = _schedule(len(steps), config)
    history, started = History(), time.perf_counter()
    optimizer, parameters = _optimizer(student, projection, config)
    with _comparable(student, teacher, matching.attention_weight > 0):
        for number, step in enumerate(steps):
            rate = set_rate(optimizer, schedule(number))
            errors = np.zeros(2)  # of hidden states, of attention
            for rows in step.micro_batches:
                with _autocast(student, config):
                    hidden, attended = layer_errors(student, teacher, projection, tokens, rows, matching)
                share = len(rows) / step.pairs
                (share * (hidden_weight * hidden + attention_weight * attended)).backward()
                errors += share * np.array([float(hidden.detach()), float(attended.detach())])
            loss = float(errors @ [hidden_weight, attention_weight])
            norm = float(clip_grad_norm_(parameters, config.max_grad_norm or math.inf))
            _check_finite(loss, norm, number, step.micro_batches)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            place = {"step": number + 1, "epoch": step.epoch, "pairs": step.pairs, "tokens": step.tokens}
            found = {"loss": loss, "hidden": errors[0], "attention": errors[1], "grad_norm": norm}
            seconds = time.perf_counter() - started
            row = history.append(**place, **found, learning_rate=rate, seconds=seconds)
            if on_row is not None:
                on_row(row)
    return history


def layer_errors(
    student: CrossEncoder, teacher: CrossEncoder, projection: Any, tokens: BothTokens, rows: np.ndarray, what: Matching
) -> tuple[Tensor, Tensor]:
    """How far the student's layers are from the teacher's on some pairs: of hidden states, and of attention."""
    mask, hidden, attention = _states(student, tokens.student, rows, what.attention_weight > 0)
    with torch.no_grad():
        _, taught_hidden, taught_attention = _states(teacher, tokens.teacher, rows, what.attention_weight > 0)
    errors: list[list[Tensor]] = [[], []]
    for own, other in what.layers:
        if what.hidden_weight > 0:
            state = hidden[own + 1] if projection is None else projection(hidden[own + 1])  # before 0 the embeddings
            errors[0].append(hidden_mse(state, taught_hidden[other + 1].to(state.device), mask))
        if what.attention_weight > 0:
            taught = taught_attention[other].to(attention[own].device)
            errors[1].append(ATTENTION_LOSSES[what.attention](attention[own], taught, mask))
    zero = mask.new_zeros((), dtype=torch.float32)
    return tuple(torch.stack(found).mean() if found else zero for found in errors)  # type: ignore[return-value]


def _states(model: CrossEncoder, tokens: Tokens, rows: np.ndarray, attention: bool) -> tuple[Tensor, Any, Any]:
    """The mask `(B, T)`, and each layer's hidden states `(B, T, H)` and attention `(B, heads, T, T)`."""
    batch = pad_batch(tokens, rows, padding_of(model.model, model.tokenizer), model.device)
    found = model.model(**batch, output_hidden_states=True, output_attentions=attention)
    return batch["attention_mask"].bool(), found.hidden_states, found.attentions


class Step(NamedTuple):
    """An optimizer step: the epochs done after it, its micro-batches of row numbers, and what they hold."""

    epoch: float
    micro_batches: list[np.ndarray]
    pairs: int
    tokens: int


def _plan(lengths: np.ndarray, config: TrainingConfig) -> list[Step]:
    steps: list[Step] = []
    sizes: dict[str, Any] = {"batch_size": config.batch_size, "accumulation": config.accumulation}
    for epoch in range(config.epochs):
        offsets = np.arange(len(lengths) + 1)
        plan = plan_epoch(lengths, offsets, **sizes, seed=config.seed, epoch=epoch, token_budget=config.token_budget)
        for at, micro_batches in enumerate(plan):
            rows = np.concatenate(micro_batches)
            steps.append(Step(epoch + (at + 1) / len(plan), micro_batches, len(rows), int(lengths[rows].sum())))
    return steps[: config.max_steps]


def _schedule(total: int, config: TrainingConfig) -> Callable[[int], float]:
    warmup = total // 10 if config.warmup_steps is None else config.warmup_steps
    if not callable(config.scheduler):
        check_warmup(config.scheduler, warmup, total, config.learning_rate)
    return find_schedule(config.scheduler, total, warmup)


def _optimizer(student: CrossEncoder, projection: Any, config: TrainingConfig) -> tuple[Any, list[Any]]:
    """AdamW over the student and the map between the widths, and all that it trains."""
    named = [*student.model.named_parameters(), *(projection.named_parameters() if projection is not None else ())]
    rates = (config.learning_rate, config.weight_decay, config.layer_decay, config.head_factor)
    return adamw(parameter_groups(named, *rates)), [parameter for _, parameter in named if parameter.requires_grad]


@contextmanager
def _comparable(student: CrossEncoder, teacher: CrossEncoder, attention: bool) -> Iterator[None]:
    """Both models without dropout, products made the faster way, attention that is looked at the plain way."""
    models = [student.model, teacher.model]
    before = [(model.training, model.config._attn_implementation) for model in models]
    try:
        for model in models:
            model.eval()
            if attention:
                model.set_attn_implementation("eager")
        with FastProducts():
            yield
    finally:
        for model, (training, implementation) in zip(models, before, strict=True):
            model.train(training)
            if attention:
                model.set_attn_implementation(implementation)


def _autocast(student: CrossEncoder, config: TrainingConfig) -> Any:
    half = precision_of(config) == "bf16"
    return torch.autocast(student.device.type, dtype=torch.bfloat16, enabled=half)


def _projection(student: CrossEncoder, teacher: CrossEncoder, seed: int) -> Any:
    """A linear map from the student's width to the teacher's, None where they are the same."""
    sizes = student.config.hidden_size, teacher.config.hidden_size
    if sizes[0] == sizes[1]:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(*sizes, bias=False).to(student.device)


def _check_finite(loss: float, norm: float, step: int, micro_batches: list[np.ndarray]) -> None:
    """Raise `RuntimeError` naming the rows where the loss or the gradient of a step is not finite."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    rows = sorted(np.concatenate(micro_batches).tolist())
    shown = ", ".join(map(str, rows[:16])) + (", ..." if len(rows) > 16 else "")
    raise RuntimeError(
        f"step {step}: the loss is {loss} and the gradient's norm {norm} (rows {shown}); the weights are those before "
        "this step, try a lower learning_rate"
    )
