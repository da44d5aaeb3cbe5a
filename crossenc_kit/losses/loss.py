"""Losses as pure functions: `(scores, labels)` tensors in, one scalar out, the mean over items.

A pointwise loss sees scores `(B,)` or `(B, C)` and labels of the same shape, or class indices `(B,)` for
scores `(B, C)`; of a list of candidates it sees each one as a pair. A loss of lists sees scores and labels `(Q, K)`
with a mask, see `ranking_losses`. The scores are the model's raw outputs, before any activation. The loss never sees
text, tokenizer or model.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossenc_kit.data.pairs import Pairs
from crossenc_kit.losses.pointwise import bce_with_logits, class_kl_divergence, cross_entropy, mse, sigmoid_mse

if TYPE_CHECKING:
    from torch import Tensor

RAW_SCORES = (
    "A ranking loss takes raw scores: after a sigmoid any two are less than 1 apart, so that it cannot come near its "
    "minimum and its gradient dies out where the model is sure (only multiple_negatives has a sigmoid, with a scale)"
)


class Loss(NamedTuple):
    """A loss by name: its function, the labels it has a meaning for, and its options.

    `classes`: labels are class indices (or distributions over the classes), with one score a class. `groups`: True
    for one that takes lists of candidates, scores and labels `(Q, K)` with a mask; False for one that takes pairs;
    None, a caller's own, takes lists where the data have any. `in_batch`: how many documents of the other lists of a
    step each list gets as negatives, or "all"; see `in_batch`.
    """

    function: Callable[..., Tensor]
    low: float | None = None
    high: float | None = None
    classes: bool = False
    groups: bool | None = None
    options: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    in_batch: int | str = 0

    @property
    def short_name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def name(self) -> str:
        """The function's name, with its options: what a record of a run says of the loss."""
        given = {**self.options, **({"in_batch": self.in_batch} if self.in_batch else {})}
        options = ", ".join(f"{key}={value}" for key, value in sorted(given.items()))
        return f"{self.short_name}({options})" if options else self.short_name

    def __str__(self) -> str:
        return self.name

    def apply(self, scores: Tensor, labels: Tensor, *mask: Tensor) -> Tensor:
        """The loss of scores and labels, for lists with their mask, under the options."""
        return self.function(scores, labels, *mask, **self.options)

    def takes_lists(self, data: Pairs) -> bool:
        """Whether it takes the candidates of a query together, with a mask, and not pair by pair."""
        return not data.is_pointwise if self.groups is None else self.groups

    def item_weights(self, labels: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
        """What each item weighs in the mean over items: a pair `(N,)` w[y] where classes have weights, else 1.

        With `sizes` `(Q,)` the items are lists: each weighs its pairs of unlike labels where the mean is over those.
        """
        if sizes is not None and self.options.get("mean_over") == "pairs":
            return np.array([_unlike_pairs(own) for own in np.split(labels, np.cumsum(sizes)[:-1])], dtype=float)
        weights = self.options.get("class_weights")
        if sizes is not None or weights is None or labels.ndim > 1:  # with distributions the sum has the weights
            return np.ones(len(labels if sizes is None else sizes))
        return np.asarray(weights, dtype=float)[labels.astype(int)]


def _unlike_pairs(labels: np.ndarray) -> int:
    """How many pairs of a list's documents have labels that differ."""
    alike = np.unique(labels, return_counts=True)[1]
    return (len(labels) ** 2 - int((alike**2).sum())) // 2


def find_loss(loss: str | Loss | Callable[..., Any]) -> Loss:
    """A loss by name, by one of the kit's functions, from `loss_with`, or any callable `(scores, labels) -> scalar`.

    A callable of the caller's own must return the mean over the items it is given.
    """
    if isinstance(loss, Loss):
        return loss
    known = {**LOSSES, **_ranking_losses()}
    if callable(loss):
        return next((found for found in known.values() if found.function is loss), Loss(loss))
    if loss not in known:
        raise ValueError(
            f"unknown loss {loss!r}; choose from {', '.join(known)} or pass a function of (scores, labels)"
        )
    return known[loss]


def _ranking_losses() -> dict[str, Loss]:
    from crossenc_kit.losses.listwise import RANKING_LOSSES  # imports torch, which reading a name should not

    graded = {"group_cross_entropy", "approx_ndcg", "lambda_loss", "multiple_negatives"}  # of grades, not scores
    return {
        name: Loss(function, 0.0 if name in graded else None, math.inf if name in graded else None, groups=True)
        for name, function in RANKING_LOSSES.items()
    }


def loss_with(name: str | Callable[..., Any], *, in_batch: int | str | None = None, **options: Any) -> Loss:
    """A loss with options, which are the arguments of its function: `loss_with("lambda_loss", k=10, sigma=2.0)`.

    None leaves an option at its default. The weights of classes, `class_weights` of "cross_entropy" and
    `positive_weight` of "bce", may be "balanced": each class then weighs what the training data (of epoch 0, where each
    epoch has its own) make up for, N / (C n_c) for class c, and (number of zeros) / (number of ones) for the positives.

    `in_batch`, of the losses of grades: so many documents of the other lists of the step are drawn for each list as
    its negatives, of grade 0, or "all" of them; `loss_with("multiple_negatives", in_batch=4)`, see `in_batch`.
    Raises `ValueError` for an option that the loss does not have, and for a value that it cannot take.
    """
    known = find_loss(name)
    options = {option: value for option, value in options.items() if value is not None}
    if wrong := sorted(options.keys() - set(_option_names(known))):
        has = ", ".join(_option_names(known)) or "no options"
        reason = f". {RAW_SCORES}" if known.groups and "activation" in wrong[0] else ""
        name = name if isinstance(name, str) else known.short_name
        raise ValueError(f"the loss {name!r} has no {wrong[0]}; it has {has}{reason}")
    found = known._replace(options=options, in_batch=_checked_in_batch(known, in_batch))
    _check_options(found)
    return found


def check_activation(loss: Loss, activation: Callable[..., Any]) -> None:
    """Raise `ValueError` for an activation that bounds the scores before a ranking loss, as a sigmoid does."""
    import torch

    if not loss.groups:
        return
    low, high = (float(activation(torch.full((1, 1), far))) for far in (-1e4, 1e4))
    if abs(high - low) < 100:
        name = getattr(activation, "__name__", type(activation).__name__)
        raise ValueError(f"{name} before {loss.short_name} bounds the scores to {low:g}..{high:g}. {RAW_SCORES}")


def _option_names(loss: Loss) -> list[str]:
    """The arguments of a loss beyond scores, labels and mask; `in_batch` where the loss is one of grades."""
    names = list(inspect.signature(loss.function).parameters)[3 if loss.groups else 2 :]
    return [*names, *(["in_batch"] if _takes_in_batch(loss) else [])]


def _takes_in_batch(loss: Loss) -> bool:
    """Whether the labels are grades, of which 0 is that of a document of another query."""
    return bool(loss.groups) and loss.low == 0


def _checked_in_batch(loss: Loss, in_batch: Any) -> int | str:
    if in_batch is None or in_batch == "all":
        pass
    elif not isinstance(in_batch, Integral) or isinstance(in_batch, bool) or int(in_batch) < 0:
        raise ValueError(f"in_batch must be a whole number, 0 or more, or 'all', got {in_batch!r}")
    if in_batch and not _takes_in_batch(loss):
        raise ValueError(
            f"the loss {loss.short_name!r} has no in_batch: its labels are not grades, of which a document of another "
            f"query would have 0; it has {', '.join(_option_names(loss)) or 'no options'}"
        )
    return in_batch if in_batch == "all" else int(in_batch or 0)


def _check_options(loss: Loss) -> None:
    """Raise `ValueError` for an option's value without a meaning; "balanced" weights are counted later."""
    import torch

    smoothing = loss.options.get("label_smoothing", 0.0)
    if not (isinstance(smoothing, Real) and 0 <= float(smoothing) < 1):
        raise ValueError(f"label_smoothing must be 0 or more and less than 1, got {smoothing!r}")
    for name in ("class_weights", "positive_weight"):
        if loss.options.get(name, "balanced") != "balanced":
            _check_weights(name, loss.options[name])
    if loss.function is class_kl_divergence:  # checks its options itself
        loss.apply(torch.zeros(1, 2), torch.zeros(1, 2))
    if loss.groups:  # the functions check their options themselves: on a list of two documents
        loss.apply(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool))


def _check_weights(name: str, given: Any) -> None:
    values = np.atleast_1d(given)
    if values.dtype.kind not in "iuf" or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"{name} must be positive numbers or 'balanced', got {given!r}")


LOSSES = {
    "bce": Loss(bce_with_logits, 0.0, 1.0, groups=False),
    "cross_entropy": Loss(cross_entropy, classes=True, groups=False),
    "mse": Loss(mse, groups=False),
    "sigmoid_mse": Loss(sigmoid_mse, 0.0, 1.0, groups=False),
    "class_kl_divergence": Loss(class_kl_divergence, groups=False),
}
