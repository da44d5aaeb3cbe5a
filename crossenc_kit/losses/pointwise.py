"""losses.pointwise"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def bce_with_logits(scores: Tensor, labels: Tensor, positive_weight: float | None = None) -> Tensor:
    """Binary cross-entropy of sigmoid(score) against labels in 0..1, any shape, mean over items.

    -w y log p - (1 - y) log(1 - p) with p = 1 / (1 + exp(-s)), computed from s so that it never
    overflows; w is `positive_weight`, 1 if left out. Labels between 0 and 1 are allowed: with w = 1 the
    minimum is then at p = y, above zero.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits

    weight = None if positive_weight is None else scores.new_tensor(positive_weight).float()
    return binary_cross_entropy_with_logits(scores.float(), labels.to(scores.device).float(), pos_weight=weight)


def cross_entropy(
    scores: Tensor, labels: Tensor, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of softmax(scores) `(B, C)` against classes `(B,)` or distributions `(B, C)`, mean over items.

    -log p[y] with p = softmax(s). With `label_smoothing` e the target is (1 - e) for y plus e / C for every
    class (Szegedy et al., "Rethinking the Inception Architecture", 2016). With `class_weights` `(C,)` the mean
    is weighted, sum of w[y] l / sum of w[y], as in `torch.nn.CrossEntropyLoss`.
    """
    from torch.nn import functional

    weight = None if class_weights is None else scores.new_tensor(class_weights).float()
    labels = labels.to(scores.device)
    labels = labels.float() if labels.dim() == scores.dim() else labels.long()
    return functional.cross_entropy(scores.float(), labels, weight=weight, label_smoothing=label_smoothing)


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


def class_kl_divergence(scores: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Divergence from a teacher's classes, T^2 sum p (log p - log q), p = softmax(y / T), q = softmax(s / T), mean.

    Scores `(B, C)` against the teacher's raw scores `(B, C)`. T^2 keeps the size of the gradient beside that of a loss
    of gold labels; Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015. 0 where s and y
    differ by a constant. Raises `ValueError` for other shapes, and for a `temperature` that is not above 0.
    """
    import torch

    from crossenc_kit.losses.listwise import kl_divergence  # of lists: here each pair is a list of C classes

    if scores.dim() != 2 or scores.shape != labels.shape:
        shapes = f"scores have shape {tuple(scores.shape)}, labels {tuple(labels.shape)}"
        raise ValueError(f"{shapes}; expected (B, C) of both, the teacher's raw scores of the classes")
    return kl_divergence(scores, labels.to(scores.device), torch.ones_like(scores, dtype=torch.bool), temperature)
