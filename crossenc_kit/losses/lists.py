"""What a loss of lists is given: tensors that fit together, and options that mean something."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

# --- parts ----------------------------------------------------------------------------------------


def _log_softmax(values: Tensor, mask: Tensor) -> Tensor:
    """log softmax over the documents of each list `(Q, K)`, 0 in the padding."""
    return values.masked_fill(~mask, -math.inf).log_softmax(1).masked_fill(~mask, 0)


def _differences(values: Tensor) -> Tensor:
    """v_i - v_j `(Q, K, K)` of values `(Q, K)`."""
    return values[:, :, None] - values[:, None, :]


def _pairs(mask: Tensor) -> Tensor:
    """`(Q, K, K)`, True where i and j are both documents."""
    return mask[:, :, None] & mask[:, None, :]


def _mean(pairs: Tensor, values: Tensor, over: str = "lists") -> Tensor:
    """The mean of values `(Q, K, K)` over the pairs of all lists, or over lists of each one's mean; of no pairs 0."""
    sums, counts = torch.where(pairs, values, 0).sum((1, 2)), pairs.sum((1, 2))
    return sums.sum() / counts.sum().clamp(min=1) if over == "pairs" else (sums / counts.clamp(min=1)).mean()


def _places(values: Tensor, worst_first: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """How many documents stand before each, and how many (itself too) are alike in both `(Q, K)` columns.

    The order is from the highest value down, equal values from the lowest of `worst_first` up.
    """
    above, second = _differences(values), _differences(worst_first)
    before = ((above < 0) | ((above == 0) & (second > 0))) & mask[:, None, :]
    alike = (above == 0) & (second == 0) & mask[:, None, :]
    return before.sum(2).to(values.dtype), alike.sum(2).to(values.dtype)


def _gains(y: Tensor, k: int | None) -> Tensor:
    """(2^y - 1) / (DCG of the first k in the best order), `(Q, K)`; 0 for a list without a grade above 0."""
    gains = torch.exp2(y - y.amax(1, keepdim=True)) * -torch.expm1(-y * math.log(2))  # over 2^max: no overflow
    discounts = torch.log2(torch.arange(2, y.shape[1] + 2, device=y.device, dtype=y.dtype))
    best = (gains.sort(1, descending=True).values / discounts)[:, :k].sum(1, keepdim=True)
    return gains / best.clamp(min=torch.finfo(y.dtype).tiny)


def _weights(weighting: str, gains: Tensor, rank: Tensor, mu: float) -> Tensor:
    """w_ij of `lambda_loss`, `(Q, K, K)` or `(Q, K, 1)`; what they are for i = j has no meaning, but in loss 1."""
    if weighting == "ndcg_loss1":
        return (gains / torch.log2(1 + rank))[:, :, None]
    between = _differences(rank).abs().clamp(min=1)
    loss2 = (1 / torch.log2(1 + between) - 1 / torch.log2(2 + between)) * _differences(gains).abs()
    lambda_rank = _differences(1 / torch.log2(1 + rank)).abs() * _differences(gains).abs()
    return {"ndcg_loss2": loss2, "lambda_rank": lambda_rank, "ndcg_loss2pp": mu * loss2 + lambda_rank}[weighting]


def checked_lists(scores: Tensor, labels: Tensor, mask: Tensor, grades: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and labels `(Q, K)` in one floating type, 0 in the padding, and the mask, all on one device.

    Raises `ValueError` for shapes that differ, a mask that is not bool, a list without documents, and labels that
    are not finite or, where they are `grades`, below 0.
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
    labels = labels.to(scores).masked_fill(~mask, 0)  # device and dtype of the scores
    wrong = ~labels.isfinite() | (labels < 0) if grades else ~labels.isfinite()
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        allowed = "grades are finite and not below 0" if grades else "labels are finite"
        raise ValueError(f"list {row}, document {column}: the label is {labels[row, column]:g}; {allowed}")
    return scores, labels, mask


def check_above_0(**options: Any) -> None:
    """Raise `ValueError` for an option that is not a finite number above 0."""
    for name, value in options.items():
        if not _is_number(value) or not 0 < value < math.inf:
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def check_not_below_0(**options: Any) -> None:
    """Raise `ValueError` for an option that is not a finite number, 0 or more."""
    for name, value in options.items():
        if not _is_number(value) or not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number, 0 or more, got {value!r}")


def check_flags(**options: Any) -> None:
    """Raise `ValueError` for an option that is neither True nor False."""
    for name, value in options.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")


def check_mean_over(mean_over: Any, only_lists: bool = False) -> None:
    """Raise `ValueError` for a `mean_over` that is neither "lists" nor "pairs", and for "pairs" with `only_lists`."""
    if mean_over not in ("lists", "pairs"):
        raise ValueError(f"mean_over must be 'lists' or 'pairs', got {mean_over!r}")
    if only_lists and mean_over == "pairs":
        raise ValueError(
            "mean_over='pairs' is over the pairs of unlike labels: it goes with neither k nor 'ndcg_loss1'"
        )


def check_k(k: Any) -> None:
    """Raise `ValueError` for a `k` that is neither None nor a whole number, 1 or more."""
    if k is not None and (not isinstance(k, Integral) or isinstance(k, bool) or int(k) < 1):
        raise ValueError(f"k must be a whole number, at least 1, or None, got {k!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
