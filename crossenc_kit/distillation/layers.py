"""Layer matching: a student learns what its teacher's layers compute, before it learns the teacher's scores.

    student = make_student(teacher, layers=3)
    match_layers(student, teacher, pairs, config=TrainingConfig(epochs=1, learning_rate=1e-4))
    train(student, with_teacher_scores(pairs, scores), "mse")

Hidden states are compared by squared error, as in Jiao et al., "TinyBERT", 2020; attention by squared
error, as there, or by divergence, as in Wang et al., "MiniLM: Deep Self-Attention Distillation", 2020.
Labels and scores take no part.

In the losses, `mask` `(B, T)` is True at tokens; what stands elsewhere changes nothing. Each is a mean
over the B pairs of a mean over the pair's own tokens, so a long pair weighs no more than a short one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from crossenc_kit.data.pairs import Pairs, as_pairs
from crossenc_kit.distillation.students import spread
from crossenc_kit.errors import DataError, TrainingError, TruncationWarning, some
from crossenc_kit.history import History
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.packed import pad_batch, padding_of
from crossenc_kit.models.products import FastProducts
from crossenc_kit.models.tokens import Tokens, tokenize
from crossenc_kit.scorers import warn_at_call
from crossenc_kit.training.batches import plan_epoch
from crossenc_kit.training.config import TrainingConfig, check_config, precision_of
from crossenc_kit.training.optimization import adamw, parameter_groups, schedule_of, set_rate

USED = {"epochs", "batch_size", "accumulation", "token_budget", "max_steps", "learning_rate", "warmup_steps"}
USED |= {"scheduler", "weight_decay", "layer_decay", "head_factor", "max_grad_norm", "precision", "seed"}
LEAST = 1e-12  # lower bound of a probability before its logarithm: softmax underflows to 0


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
    """Train the student's embeddings and layers, in place, to compute what the teacher's layers compute.

    The loss is the mean over pairs and mapped layers of `hidden_weight` times `hidden_mse` plus
    `attention_weight` times `attention_kl` (or `attention_mse`). Models of different width are compared
    through a linear map, trained with the student and then dropped. The head is not trained.

    layer_map: the teacher's layer for each of the student's, from 0; a dict for some of them; default:
        spread evenly, as `make_student` does
    attention: "kl" or "mse"; config: only the settings in `USED` count; dropout is off

    Returns one row per step. Raises `ValueError` for models that cannot be compared, `TrainingError` at
    the first loss that is not finite.
    """
    config = config or TrainingConfig()
    check_settings(config)
    matching = checked_matching(student, teacher, layer_map, (hidden_weight, attention_weight), attention)
    tokens = same_tokens(student, teacher, as_pairs(pairs))
    projection = _projection(student, teacher, config.seed)
    steps = _plan(tokens.student.lengths, config)
    schedule = schedule_of(config, len(steps))
    history, started = History(), time.perf_counter()
    optimizer, parameters = _optimizer(student, projection, config)
    with _comparable(student, teacher, matching.attention_weight > 0):
        for number, step in enumerate(steps):
            rate = set_rate(optimizer, schedule(number))
            errors = np.zeros(2)  # of hidden states, of attention
            for rows in step.micro_batches:
                with _autocast(student, config):
                    hidden, attended = layer_errors(student, teacher, projection, tokens, rows, matching)
                share = len(rows) / step.pairs  # errors are means over pairs, so shares add up to 1
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
    """Compare the layers on some pairs; return the errors of hidden states and of attention."""
    mask, hidden, attention = _states(student, tokens.student, rows, what.attention_weight > 0)
    with torch.no_grad():
        _, taught_hidden, taught_attention = _states(teacher, tokens.teacher, rows, what.attention_weight > 0)
    errors: list[list[Tensor]] = [[], []]
    for own, other in what.layers:
        if what.hidden_weight > 0:
            state = hidden[own + 1]  # +1: the embeddings come first
            state = state if projection is None else projection(state)  # (B, T, H of the teacher)
            errors[0].append(hidden_mse(state, taught_hidden[other + 1].to(state.device), mask))
        if what.attention_weight > 0:
            taught = taught_attention[other].to(attention[own].device)
            errors[1].append(ATTENTION_LOSSES[what.attention](attention[own], taught, mask))
    zero = mask.new_zeros((), dtype=torch.float32)
    return tuple(torch.stack(found).mean() if found else zero for found in errors)  # type: ignore[return-value]


def _states(model: CrossEncoder, tokens: Tokens, rows: np.ndarray, attention: bool) -> tuple[Tensor, Any, Any]:
    """Run a model: mask `(B, T)`, and per layer hidden states `(B, T, H)` and attention `(B, heads, T, T)`."""
    batch = pad_batch(tokens, rows, padding_of(model.model, model.tokenizer), model.device)
    found = model.model(**batch, output_hidden_states=True, output_attentions=attention)
    return batch["attention_mask"].bool(), found.hidden_states, found.attentions


class Step(NamedTuple):
    """An optimizer step: the epochs done after it, and its micro-batches of row numbers."""

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


def _optimizer(student: CrossEncoder, projection: Any, config: TrainingConfig) -> tuple[Any, list[Any]]:
    """Make AdamW over the student and the map between the widths; return it with all it trains."""
    named = [*student.model.named_parameters(), *(projection.named_parameters() if projection is not None else ())]
    rates = (config.learning_rate, config.weight_decay, config.layer_decay, config.head_factor)
    return adamw(parameter_groups(named, *rates)), [parameter for _, parameter in named if parameter.requires_grad]


@contextmanager
def _comparable(student: CrossEncoder, teacher: CrossEncoder, attention: bool) -> Iterator[None]:
    """Turn dropout off; to compare attention, switch to the plain attention, which reports it."""
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
    """Make a linear map from the student's width to the teacher's; None if they are the same."""
    sizes = student.config.hidden_size, teacher.config.hidden_size
    if sizes[0] == sizes[1]:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(*sizes, bias=False).to(student.device)


def _check_finite(loss: float, norm: float, step: int, micro_batches: list[np.ndarray]) -> None:
    """Raise `TrainingError` naming the rows of a step whose loss or gradient is not finite."""
    if not math.isfinite(loss + norm):
        rows = some(sorted(np.concatenate(micro_batches).tolist()), 16)
        raise TrainingError(
            f"step {step}: the loss is {loss} and the gradient's norm {norm} (rows {rows}); the weights are "
            "those before this step, try a lower learning_rate"
        )


class Matching(NamedTuple):
    """What is compared: (student's layer, teacher's layer) from 0, and the weight of each error."""

    layers: list[tuple[int, int]]
    hidden_weight: float
    attention_weight: float
    attention: str


class BothTokens(NamedTuple):
    """The same token ids as each model takes them: with segment ids, or without."""

    student: Tokens
    teacher: Tokens


def check_settings(config: TrainingConfig) -> None:
    """Raise `ValueError` for a setting that `match_layers` would ignore."""
    check_config(config)
    others = [f.name for f in fields(config) if f.name not in USED and getattr(config, f.name) != f.default]
    if others:
        raise ValueError(f"match_layers does not use {', '.join(others)}; leave it at its default")
    if precision_of(config) == "fp16":
        raise ValueError("match_layers trains in fp32 or bf16, not in fp16")


def checked_matching(
    student: CrossEncoder, teacher: CrossEncoder, layer_map: Any, weights: tuple[float, float], attention: str
) -> Matching:
    """Check that the two models can be compared as asked, and return what is compared."""
    for name, model in (("student", student), ("teacher", teacher)):
        if model.backend != "torch":
            found = f"the {name} is an export ({model.backend}), whose layers cannot be seen"
            raise ValueError(f"{found}: take the float32 model (backend='torch'), export the student later")
    if student.model is teacher.model:
        raise ValueError("student and teacher are the same model; make_student cuts one with its own weights")
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(f"hidden_weight and attention_weight are 0 or more, not both 0; got {weights}")
    if attention not in ATTENTION_LOSSES:
        raise ValueError(f"unknown attention={attention!r}; choose from {', '.join(ATTENTION_LOSSES)}")
    heads = student.config.num_attention_heads, teacher.config.num_attention_heads
    if weights[1] and heads[0] != heads[1]:
        found = f"the student has {heads[0]} attention heads and the teacher {heads[1]}"
        raise ValueError(f"{found}: set attention_weight=0")
    return Matching(_checked_map(layer_map, student, teacher), float(weights[0]), float(weights[1]), attention)


def _checked_map(layer_map: Any, student: CrossEncoder, teacher: CrossEncoder) -> list[tuple[int, int]]:
    own, others = student.config.num_hidden_layers, teacher.config.num_hidden_layers
    if layer_map is None:
        if own > others:
            raise ValueError(f"the student has {own} layers and its teacher {others}: give a layer_map")
        layer_map = spread(own, others)
    if not isinstance(layer_map, Mapping):
        if len(layer_map) != own:
            found = f"layer_map has {len(layer_map)} layers for a student of {own}"
            raise ValueError(f"{found}; use a dict for some of them")
        layer_map = dict(enumerate(layer_map))
    pairs = sorted(layer_map.items())
    if not pairs or not all(0 <= i < own and 0 <= j < others for i, j in pairs):
        ranges = f"the student's layers 0 to {own - 1} to the teacher's 0 to {others - 1}"
        raise ValueError(f"layer_map must map {ranges}; got {layer_map}")
    return pairs


def same_tokens(student: CrossEncoder, teacher: CrossEncoder, pairs: Pairs) -> BothTokens:
    """Tokenise the pairs for both models; raise `ValueError` if they read different tokens."""
    if not len(pairs):
        raise DataError("there is nothing to match layers on: no pairs")
    models = student, teacher
    longest = min(student.max_length, teacher.max_length)
    both = BothTokens(*(tokenize(m.tokenizer, pairs, longest, student.truncation) for m in models))
    if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab() or not _equal(*both):
        raise ValueError(
            "student and teacher make different tokens of these pairs, and layers are compared token by "
            "token: cut the student from its teacher with make_student, or distil the scores alone"
        )
    if cut := both.student.num_truncated:
        warn_at_call(f"{cut} of {pairs.num_pairs} pairs exceed {longest} tokens and were cut", TruncationWarning)
    return both


def _equal(first: Tokens, second: Tokens) -> bool:
    pieces = [(tokens.template.before, tokens.template.between, tokens.template.after) for tokens in (first, second)]
    same = all(np.array_equal(a, b) for a, b in zip(*pieces, strict=True))
    return same and np.array_equal(first.ids, second.ids) and np.array_equal(first.kept, second.kept)


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error of hidden states `(B, T, H)`; Jiao et al., "TinyBERT", 2020."""
    errors = (student.float() - teacher.float()).square().mean(2)  # (B, T, H) -> (B, T)
    return _mean_over_tokens(errors, mask)


def attention_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error of attention `(B, heads, T, T)`, over heads and a pair's own entries.

    It compares probabilities, which models report; TinyBERT compares the scores before the softmax.
    """
    errors = (student.float() - teacher.float()).square().mean(1)  # (B, heads, T, T) -> (B, T, T)
    own = mask.sum(1, keepdim=True)  # (B, 1): tokens of each pair
    return _mean_over_tokens((errors * mask[:, None, :]).sum(2) / own, mask)


def attention_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the divergence of attention `(B, heads, T, T)`: sum over keys of p (log p - log q), in nats.

    p is the teacher's distribution and q the student's; the mean is over heads and queries.
    Wang et al., "MiniLM", 2020.
    """
    p, q = teacher.float(), student.float()
    terms = p * (p.clamp(min=LEAST).log() - q.clamp(min=LEAST).log())  # (B, heads, T, T), keys last
    return _mean_over_tokens((terms * mask[:, None, None, :]).sum(3).mean(1), mask)


def _mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Average values `(B, T)` over each pair's tokens, then over pairs."""
    return (torch.where(mask, values, 0).sum(1) / mask.sum(1)).mean()


ATTENTION_LOSSES = {"kl": attention_kl, "mse": attention_mse}
