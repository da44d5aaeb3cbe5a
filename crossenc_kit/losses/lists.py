"""What the losses of lists share: checked tensors, and sums over documents and pairs that heed the mask.

Values and mask are `(Q, K)`: K documents for each of Q queries, the mask True where there is a document.
Index i runs over the second axis of a `(Q, K, K)` tensor, j over the third.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def masked_log_softmax(values: Tensor, mask: Tensor) -> Tensor:
    """Compute the log softmax over each list's documents `(Q, K)`, 0 in the padding."""
    return values.masked_fill(~mask, -math.inf).log_softmax(1).masked_fill(~mask, 0)


def differences(values: Tensor) -> Tensor:
    """Compute v_i - v_j: `(Q, K)` becomes `(Q, K, K)`."""
    return values[:, :, None] - values[:, None, :]


def both(mask: Tensor) -> Tensor:
    """Mark the pairs of which i and j are documents: `(Q, K)` becomes `(Q, K, K)`."""
    return mask[:, :, None] & mask[:, None, :]


def mean_over_pairs(pairs: Tensor, values: Tensor, over: str = "lists") -> Tensor:
    """Average values `(Q, K, K)` over the marked pairs, 0 if there are none.

    over: "lists" averages within each list, then over lists; "pairs" over all lists at once
    """
    if over not in ("lists", "pairs"):
        raise ValueError(f"mean_over must be 'lists' or 'pairs', got {over!r}")
    sums, counts = torch.where(pairs, values, 0).sum((1, 2)), pairs.sum((1, 2))  # (Q,), (Q,)
    return sums.sum() / counts.sum().clamp(min=1) if over == "pairs" else (sums / counts.clamp(min=1)).mean()


def places(values: Tensor, worst_first: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Count the documents before each one, and those tied with it (itself included): `(Q, K)`, `(Q, K)`.

    The order is from the highest value down; equal values from the lowest of `worst_first` up.
    """
    above, second = differences(values), differences(worst_first)  # (Q, K, K)
    before = ((above < 0) | ((above == 0) & (second > 0))) & mask[:, None, :]
    alike = (above == 0) & (second == 0) & mask[:, None, :]
    return before.sum(2).to(values.dtype), alike.sum(2).to(values.dtype)


def gains(y: Tensor, k: int | None) -> Tensor:
    """Compute (2^y - 1) / (best possible DCG@k) `(Q, K)`, 0 in a list without a grade above 0."""
    over_highest = torch.exp2(y - y.amax(1, keepdim=True))  # divided by 2^max, so that it cannot overflow
    gain = over_highest * -torch.expm1(-y * math.log(2))
    discounts = torch.log2(torch.arange(2, y.shape[1] + 2, device=y.device, dtype=y.dtype))  # (K,)
    best = (gain.sort(1, descending=True).values / discounts)[:, :k].sum(1, keepdim=True)  # (Q, 1)
    return gain / best.clamp(min=torch.finfo(y.dtype).tiny)


def checked_lists(scores: Tensor, labels: Tensor, mask: Tensor, grades: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores and labels `(Q, K)` in one floating type, 0 in the padding, and the mask, on one device.

    Raises `ValueError` for different shapes, a mask that is not bool, a list without documents, and labels
    that are not finite or, if they are `grades`, below 0.
    """
    if scores.dim() != 2 or not scores.numel() or not scores.shape == labels.shape == mask.shape:
        shapes = f"scores have shape {tuple(scores.shape)}, labels {tuple(labels.shape)}, the mask {tuple(mask.shape)}"
        raise ValueError(f"{shapes}; expected one shape (Q, K) for all, with Q and K at least 1")
    if mask.dtype != torch.bool:
        raise ValueError(f"the mask has dtype {mask.dtype}; expected torch.bool, True where there is a document")
    mask = mask.to(scores.device)
    if not (full := mask.any(1)).all():
        raise ValueError(f"list {int((~full).nonzero()[0])} has no documents: the mask is False in its whole row")
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)).masked_fill(~mask, 0)
    labels = labels.to(scores).masked_fill(~mask, 0)  # on the device and in the dtype of the scores
    wrong = ~labels.isfinite() | (labels < 0) if grades else ~labels.isfinite()
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        allowed = "grades are finite and not below 0" if grades else "labels are finite"
        raise ValueError(f"list {row}, document {column}: the label is {labels[row, column]:g}; {allowed}")
    return scores, labels, mask


def check_above_0(**options: float) -> None:
    """Raise `ValueError` unless every option is a finite number above 0."""
    for name, value in options.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
