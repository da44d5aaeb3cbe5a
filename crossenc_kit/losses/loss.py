"""What a loss is, and how to find one by name.

A loss is a pure function of tensors that returns one scalar, the mean over items. On pairs it takes
scores `(B,)` or `(B, C)` and labels of the same shape, or class indices `(B,)`. On lists it takes scores
and labels `(Q, K)` and a mask. Scores are the model's raw outputs, before any activation; a loss never
sees text, tokenizer or model.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.data.pairs import Pairs
from crossenc_kit.losses.pointwise import bce_with_logits, class_kl_divergence, cross_entropy, mse, sigmoid_mse

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = ("class_weights", "positive_weight")  # options that may be "balanced"
FAR, NEAR = 1e4, 100.0  # raw scores far from 0; closer together than this, an activation bounds them


@dataclass(frozen=True, repr=False)
class Loss:
    """A loss function with its options and the labels it accepts."""

    function: Callable[..., Tensor]
    low: float | None = None  # lowest and highest label
    high: float | None = None
    classes: bool = False  # labels are class indices, or distributions over the classes
    groups: bool | None = None  # takes lists; None (custom loss): lists if the data has groups, else pairs
    options: dict[str, Any] = field(default_factory=dict)
    in_batch: int | str = 0  # negatives each list gets from the step's other lists, or "all"

    @property
    def short_name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def name(self) -> str:
        """The function's name with the options, as records show it."""
        given = {**self.options, **({"in_batch": self.in_batch} if self.in_batch else {})}
        options = ", ".join(f"{key}={value}" for key, value in sorted(given.items()))
        return f"{self.short_name}({options})" if options else self.short_name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Loss({self.name})"

    def apply(self, scores: Tensor, labels: Tensor, *mask: Tensor) -> Tensor:
        """Compute the loss of scores and labels, on lists with their mask."""
        return self.function(scores, labels, *mask, **self.options)

    def takes_lists(self, data: Pairs) -> bool:
        """Tell whether this loss sees a query's candidates together, as a list, or pair by pair."""
        return not data.is_pointwise if self.groups is None else self.groups

    def parts(self, data: Pairs, num_labels: int) -> list[tuple[Loss, Pairs]]:
        """List the losses that make up this one, each with the data whose labels it sees."""
        return [(self, data)]

    def fitted(self, data: Pairs, num_labels: int) -> Loss:
        """Return this loss with "balanced" weights counted from the labels, and all weights checked."""
        options, labels = dict(self.options), np.asarray(data.labels)
        if options.get("class_weights") == "balanced":  # N / (C n_c)
            counts = labels.sum(0) if labels.ndim > 1 else np.bincount(labels.astype(int), minlength=num_labels)
            options["class_weights"] = (len(labels) / (num_labels * np.maximum(counts, 1))).tolist()
        if options.get("positive_weight") == "balanced":  # zeros / ones
            options["positive_weight"] = float((labels < 0.5).sum() / max(1, (labels >= 0.5).sum()))
        for name in WEIGHTS:
            _check_weights(name, options.get(name, 1.0))
        if len(options.get("class_weights", range(num_labels))) != num_labels:
            raise ValueError(f"{len(options['class_weights'])} class_weights for a model with num_labels={num_labels}")
        return replace(self, options=options)

    def item_weights(self, labels: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
        """Return what each item counts in the mean over items.

        A pair weighs 1, or w[y] if classes have weights: `(N,)`. A list weighs 1, or with
        `mean_over="pairs"` as many as it has pairs of unequal labels: `(Q,)`.

        sizes: documents per list, `(Q,)`; None if the items are pairs
        """
        if sizes is not None and self.options.get("mean_over") == "pairs":
            lists = np.split(labels, np.cumsum(sizes)[:-1])
            return np.array([_unequal_pairs(own) for own in lists], dtype=float)
        weights = self.options.get("class_weights")
        if sizes is not None or weights is None or labels.ndim > 1:  # the sum over a distribution is weighted
            return np.ones(len(labels if sizes is None else sizes))
        return np.asarray(weights, dtype=float)[labels.astype(int)]

    def option_names(self) -> list[str]:
        """List the function's arguments beyond scores, labels and mask, and `in_batch` if labels are grades."""
        names = list(inspect.signature(self.function).parameters)[3 if self.groups else 2 :]
        return [*names, *(["in_batch"] if self.takes_in_batch() else [])]

    def takes_in_batch(self) -> bool:
        """Tell whether labels are grades, so that another query's document simply has the grade 0."""
        return bool(self.groups) and self.low == 0


LOSSES = {
    "bce": Loss(bce_with_logits, 0.0, 1.0, groups=False),
    "cross_entropy": Loss(cross_entropy, classes=True, groups=False),
    "mse": Loss(mse, groups=False),
    "sigmoid_mse": Loss(sigmoid_mse, 0.0, 1.0, groups=False),
    "class_kl_divergence": Loss(class_kl_divergence, groups=False),
}
# The losses of lists whose labels are grades, 0 or more, rather than scores.
GRADED = {"group_cross_entropy", "approx_ndcg", "lambda_loss", "multiple_negatives"}


def _ranking_losses() -> dict[str, Loss]:
    from crossenc_kit.losses.listwise import RANKING_LOSSES  # imports torch; finding "bce" should not

    found = {}
    for name, function in RANKING_LOSSES.items():
        low, high = (0.0, math.inf) if name in GRADED else (None, None)
        found[name] = Loss(function, low, high, groups=True)
    return found


def find_loss(loss: str | Loss | Callable[..., Any]) -> Loss:
    """Find a loss by name or by its function; any other callable becomes a custom loss.

    A custom loss takes `(scores, labels)`, or `(scores, labels, mask)` if the data has groups, and returns
    the mean over its items.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]
    known = {**LOSSES, **_ranking_losses()}
    if callable(loss):
        return next((found for found in known.values() if found.function is loss), Loss(loss))
    if loss not in known:
        raise ValueError(
            f"unknown loss {loss!r}; choose from {', '.join(known)} or pass a function of (scores, labels)"
        )
    return known[loss]


def loss_with(name: str | Callable[..., Any], *, in_batch: int | str | None = None, **options: Any) -> Loss:
    """Give a loss options, the arguments of its function: `loss_with("lambda_loss", k=10, sigma=2.0)`.

    An option that is None keeps its default. `class_weights` of "cross_entropy" and `positive_weight` of "bce"
    may be "balanced": then they are counted from the training data, N / (C n_c) for class c, and
    (number of zeros) / (number of ones) for the positives.

    in_batch: for losses of grades, how many documents of the step's other lists each list gets as
        negatives of grade 0, or "all" of them

    Raises `ValueError` for an option that the loss does not have and for a value that it cannot take.
    """
    known = find_loss(name)
    options = {option: value for option, value in options.items() if value is not None}
    if wrong := sorted(options.keys() - set(known.option_names())):
        has = ", ".join(known.option_names()) or "no options"
        given = name if isinstance(name, str) else known.short_name
        raise ValueError(f"the loss {given!r} has no {wrong[0]}; it has {has}")
    negatives = in_batch if in_batch == "all" else int(in_batch or 0)
    if negatives and not known.takes_in_batch():
        raise ValueError(
            f"the loss {known.short_name!r} has no in_batch: its labels are not grades, and only a "
            "grade can be 0 for another query's document"
        )
    found = replace(known, options=options, in_batch=negatives)
    _check_options(found)
    return found


def check_activation(loss: Loss, activation: Callable[..., Any]) -> None:
    """Raise `ValueError` for an activation before a ranking loss that bounds the scores, such as a sigmoid."""
    import torch

    if not loss.groups:
        return
    low, high = (float(activation(torch.full((1, 1), far))) for far in (-FAR, FAR))
    if abs(high - low) < NEAR:
        name = getattr(activation, "__name__", type(activation).__name__)
        raise ValueError(
            f"{name} before {loss.short_name} bounds the scores to {low:g}..{high:g}, so that the loss "
            "cannot come near its minimum; a ranking loss takes raw scores"
        )


def _check_options(loss: Loss) -> None:
    """Raise `ValueError` for an option value without a meaning; "balanced" weights are counted later."""
    import torch

    smoothing = loss.options.get("label_smoothing", 0.0)
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing must be 0 or more and less than 1, got {smoothing!r}")
    for name in WEIGHTS:
        if loss.options.get(name, "balanced") != "balanced":
            _check_weights(name, loss.options[name])
    # The other functions check their own options: call them once, on one list of two documents.
    if loss.function is class_kl_divergence:
        loss.apply(torch.zeros(1, 2), torch.zeros(1, 2))
    if loss.groups:
        mask = torch.ones(1, 2, dtype=torch.bool)
        loss.apply(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), mask)


def _check_weights(name: str, given: Any) -> None:
    values = np.atleast_1d(given)
    if values.dtype.kind not in "iuf" or not (values > 0).all():
        raise ValueError(f"{name} must be positive numbers or 'balanced', got {given!r}")


def _unequal_pairs(labels: np.ndarray) -> int:
    """Count the pairs of a list's documents whose labels differ."""
    equal = np.unique(labels, return_counts=True)[1]
    return (len(labels) ** 2 - int((equal**2).sum())) // 2
