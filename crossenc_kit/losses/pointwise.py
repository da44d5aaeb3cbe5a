"""Losses of pairs: scores `(B,)` or `(B, C)` and labels in, the mean over pairs out.

Scores are raw, before any activation, and of half precision are computed in float32. On a list of
candidates these losses see each candidate as a pair of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def bce_with_logits(scores: Tensor, labels: Tensor, positive_weight: float | None = None) -> Tensor:
    """Compute the binary cross-entropy of sigmoid(score) against labels in 0..1, any shape.

    -w y log p - (1 - y) log(1 - p) with p = 1 / (1 + exp(-s)), computed from s so that it never overflows;
    w is `positive_weight`, by default 1. For labels between 0 and 1 (and w = 1) the minimum lies at p = y,
    above zero.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits

    weight = None if positive_weight is None else scores.new_tensor(positive_weight).float()
    return binary_cross_entropy_with_logits(scores.float(), labels.to(scores.device).float(), pos_weight=weight)


def cross_entropy(
    scores: Tensor, labels: Tensor, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Compute the cross-entropy of softmax(scores) `(B, C)` against classes `(B,)` or distributions `(B, C)`.

    -log p[y] with p = softmax(s). Smoothing e moves the target to 1 - e for y plus e / C for every class
    (Szegedy et al., "Rethinking the Inception Architecture", 2016). With weights w `(C,)` the mean is
    sum of w[y] l / sum of w[y], as in `torch.nn.CrossEntropyLoss`.
    """
    from torch.nn import functional

    weight = None if class_weights is None else scores.new_tensor(class_weights).float()
    labels = labels.to(scores.device)
    labels = labels.float() if labels.dim() == scores.dim() else labels.long()
    return functional.cross_entropy(scores.float(), labels, weight=weight, label_smoothing=label_smoothing)


def mse(scores: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean squared error of the raw scores, (s - y)^2, any shape.

    The model then predicts on the scale of the labels: give it `activation_fn="identity"`.

    Raises `ValueError` for different shapes, since torch would compare every score with every label.
    """
    from torch.nn.functional import mse_loss

    if scores.shape != labels.shape:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, labels {tuple(labels.shape)}; expected one shape")
    return mse_loss(scores.float(), labels.to(scores.device).float())


def sigmoid_mse(scores: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean squared error of p = sigmoid(score) against labels in 0..1, (p - y)^2.

    Brier, "Verification of forecasts expressed in terms of probability", 1950. The gradient carries the
    factor p (1 - p), so it learns slowly where the model is sure.
    """
    return mse(scores.float().sigmoid(), labels)


def class_kl_divergence(scores: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute the divergence of softmax(scores) `(B, C)` from a teacher's, whose raw scores `(B, C)` are the labels.

    T^2 sum p (log p - log q) with p = softmax(y / T), q = softmax(s / T). T^2 keeps the gradient as large as
    that of a loss of gold labels; Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
    2015. 0 if s and y differ by a constant.

    Raises `ValueError` for other shapes, and for a `temperature` that is not above 0.
    """
    import torch

    from crossenc_kit.losses.listwise import kl_divergence  # each pair is a list of C classes

    if scores.dim() != 2 or scores.shape != labels.shape:
        shapes = f"scores have shape {tuple(scores.shape)}, labels {tuple(labels.shape)}"
        raise ValueError(f"{shapes}; expected (B, C) of both, the teacher's raw scores of the classes")
    return kl_divergence(scores, labels.to(scores.device), torch.ones_like(scores, dtype=torch.bool), temperature)
