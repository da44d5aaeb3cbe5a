"""Losses as pure functions: `(scores, labels)` tensors in, one scalar out, the mean over items.

A pointwise loss sees scores `(B,)` or `(B, C)` and labels of the same shape. The scores are the
model's raw outputs, before any activation. The loss never sees text, tokenizer or model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossenc_kit.pairs import DataError, Pairs

if TYPE_CHECKING:
    from torch import Tensor


def bce_with_logits(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of sigmoid(score) against labels in 0..1, any shape, mean over items.

    -y log p - (1 - y) log(1 - p) with p = 1 / (1 + exp(-s)), computed from s so that it never
    overflows. Labels between 0 and 1 are allowed: the minimum is then at p = y, above zero.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(scores.float(), labels.to(scores.device).float())


def mse(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the raw scores, (s - y)^2, any shape, mean over items.

    The model then predicts on the scale of the labels: give it `activation_fn="identity"`. Raises
    `ValueError` where the shapes differ: torch would compare every score with every label.
    """
    from torch.nn.functional import mse_loss

    if scores.shape != labels.shape:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, labels {tuple(labels.shape)}; expected one shape")
    return mse_loss(scores.float(), labels.to(scores.device).float())


def sigmoid_mse(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of sigmoid(score) against labels in 0..1, (p - y)^2, mean over items.

    The score of Brier, "Verification of forecasts expressed in terms of probability", 1950.
    Its gradient carries the factor p (1 - p), which is why it is slow where the model is sure.
    """
    return mse(scores.float().sigmoid(), labels)


class Loss(NamedTuple):
    """A loss by name: its function and the labels it has a meaning for."""

    function: Callable[..., Tensor]
    low: float | None = None
    high: float | None = None


LOSSES = {
    "bce": Loss(bce_with_logits, 0.0, 1.0),
    "mse": Loss(mse),
    "sigmoid_mse": Loss(sigmoid_mse, 0.0, 1.0),
}


def find_loss(loss: str | Callable[..., Any]) -> Loss:
    """A loss by name, by one of the kit's functions, or any callable `(scores, labels) -> scalar`.

    A callable of the caller's own must return the mean over the items it is given.
    """
    if callable(loss):
        return next((known for known in LOSSES.values() if known.function is loss), Loss(loss))
    if loss not in LOSSES:
        raise ValueError(
            f"unknown loss {loss!r}; choose from {', '.join(LOSSES)} or pass a function of (scores, labels)"
        )
    return LOSSES[loss]


def check_labels(data: Pairs, loss: Loss, num_labels: int) -> None:
    """Raise `DataError` naming the first label that `loss` or the model's outputs cannot take."""
    if data.labels is None:
        raise DataError("training needs labels: add a column named label, labels, score or scores")
    name = getattr(loss.function, "__name__", type(loss.function).__name__)
    if not data.is_pointwise and any(known.function is loss.function for known in LOSSES.values()):
        raise DataError(
            f"the rows are groups of candidates, and {name} takes pairs one by one: give each candidate a row of "
            "its own, or pass a function of (scores, labels, mask)"
        )
    if not data.is_pointwise and num_labels != 1:
        raise DataError(f"groups of candidates need one score a pair, this model has num_labels={num_labels}")
    width = data.labels.shape[1] if data.labels.ndim == 2 else 1
    if width != num_labels:
        raise DataError(
            f"the model has num_labels={num_labels}, but row 0 has {width} label{'s' if width > 1 else ''}; "
            f"build the model with num_labels={width} or change the labels"
        )
    values = np.asarray(data.labels, dtype=float).reshape(len(data.labels), -1)
    bad = ~np.isfinite(values)
    if loss.low is not None and loss.high is not None:
        bad |= (values < loss.low) | (values > loss.high)
    rows = np.flatnonzero(bad.any(axis=1))
    if len(rows):
        row = int(rows[0])
        allowed = f"labels from {loss.low:g} to {loss.high:g}" if loss.low is not None else "finite labels"
        raise DataError(
            f"row {row}: the label is {np.squeeze(values[row]).tolist()}, and {name} takes {allowed} "
            f"({len(rows)} of {len(values)} rows are outside); scale them, or choose another loss"
        )
