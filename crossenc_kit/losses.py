"""Losses as pure functions: `(scores, labels)` tensors in, one scalar out, the mean over items.

A pointwise loss sees scores `(B,)` or `(B, C)` and labels of the same shape, or class indices `(B,)` for
scores `(B, C)`. The scores are the model's raw outputs, before any activation. The loss never sees text,
tokenizer or model.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossenc_kit.pairs import DataError, Pairs

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


class Loss(NamedTuple):
    """A loss by name: its function, the labels it has a meaning for, and its options.

    `classes`: labels are class indices (or distributions over the classes), with one score a class. `groups`: it
    takes lists of candidates, scores and labels `(Q, K)` with a mask; see `ranking_losses`.
    """

    function: Callable[..., Tensor]
    low: float | None = None
    high: float | None = None
    classes: bool = False
    groups: bool = False
    options: dict[str, Any] = {}  # noqa: RUF012  (never changed)

    @property
    def name(self) -> str:
        """The function's name, with its options: what a record of a run says of the loss."""
        name = getattr(self.function, "__name__", type(self.function).__name__)
        options = ", ".join(f"{key}={value}" for key, value in sorted(self.options.items()))
        return f"{name}({options})" if options else name

    def apply(self, scores: Tensor, labels: Tensor, *mask: Tensor) -> Tensor:
        """The loss of scores and labels, for lists with their mask, under the options."""
        return self.function(scores, labels, *mask, **self.options)

    def item_weights(self, labels: np.ndarray) -> np.ndarray:
        """What each item `(N,)` weighs in the mean over items: w[y] where classes have weights, else 1."""
        weights = self.options.get("class_weights")
        return np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=float)[labels]


LOSSES = {
    "bce": Loss(bce_with_logits, 0.0, 1.0),
    "cross_entropy": Loss(cross_entropy, classes=True),
    "mse": Loss(mse),
    "sigmoid_mse": Loss(sigmoid_mse, 0.0, 1.0),
}


def find_loss(loss: str | Loss | Callable[..., Any]) -> Loss:
    """A loss by name, by one of the kit's functions, from `loss_with`, or any callable `(scores, labels) -> scalar`.

    A callable of the caller's own must return the mean over the items it is given.
    """
    if isinstance(loss, Loss):
        return loss
    if callable(loss):
        every = [*LOSSES.values(), *_ranking_losses().values()]
        return next((known for known in every if known.function is loss), Loss(loss))
    known = {**LOSSES, **_ranking_losses()}
    if loss not in known:
        raise ValueError(
            f"unknown loss {loss!r}; choose from {', '.join(known)} or pass a function of (scores, labels)"
        )
    return known[loss]


def _ranking_losses() -> dict[str, Loss]:
    from crossenc_kit.ranking_losses import RANKING_LOSSES  # imports torch, which reading a name should not

    graded = {"group_cross_entropy", "approx_ndcg", "lambda_loss", "multiple_negatives"}  # of grades, not scores
    return {
        name: Loss(function, 0.0 if name in graded else None, math.inf if name in graded else None, groups=True)
        for name, function in RANKING_LOSSES.items()
    }


def loss_with(
    name: str,
    *,
    class_weights: str | Sequence[float] | None = None,
    label_smoothing: float | None = None,
    positive_weight: str | float | None = None,
) -> Loss:
    """A loss with options: `cross_entropy` takes `class_weights` and `label_smoothing`, `bce` `positive_weight`.

    "balanced" weighs each class by what the training data make up for: N / (C n_c) for class c, and (number of
    zeros) / (number of ones) for the positives. Raises `ValueError` for an option that the loss does not have.
    """
    given = {"class_weights": class_weights, "label_smoothing": label_smoothing, "positive_weight": positive_weight}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    known = {"cross_entropy": {"class_weights", "label_smoothing"}, "bce": {"positive_weight"}}.get(name, set())
    if wrong := sorted(options.keys() - known):
        raise ValueError(f"the loss {name!r} has no {wrong[0]}; it has {', '.join(sorted(known)) or 'no options'}")
    if not 0 <= options.get("label_smoothing", 0.0) < 1:
        raise ValueError(f"label_smoothing must be 0 or more and less than 1, got {label_smoothing!r}")
    return find_loss(name)._replace(options=options)


def fit_weights(loss: Loss, data: Pairs, num_labels: int) -> Loss:
    """The loss with "balanced" weights counted from the labels of `data`, and all weights checked."""
    options, labels = dict(loss.options), np.asarray(data.labels)
    if options.get("class_weights") == "balanced":
        counts = np.bincount(labels.reshape(-1), minlength=num_labels)
        options["class_weights"] = (len(labels) / (num_labels * np.maximum(counts, 1))).tolist()
    if options.get("positive_weight") == "balanced":
        options["positive_weight"] = float((labels < 0.5).sum() / max(1, (labels >= 0.5).sum()))
    for name in ("class_weights", "positive_weight"):
        values = np.atleast_1d(options.get(name, 1.0))
        if values.dtype.kind not in "iuf" or not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"{name} must be positive numbers or 'balanced', got {loss.options[name]!r}")
    if len(options.get("class_weights", range(num_labels))) != num_labels:
        raise ValueError(f"{len(options['class_weights'])} class_weights for a model with num_labels={num_labels}")
    return loss._replace(options=options)


def check_labels(data: Pairs, loss: Loss, num_labels: int) -> None:
    """Raise `DataError` naming the first label that `loss` or the model's outputs cannot take.

    Warns of a class of the model that no row of the training data has.
    """
    if data.labels is None:
        raise DataError("training needs labels: add a column named label, labels, score or scores")
    name = getattr(loss.function, "__name__", type(loss.function).__name__)
    pointwise = any(known.function is loss.function for known in LOSSES.values())
    if pointwise and not data.is_pointwise:
        raise DataError(
            f"the rows are groups of candidates, and {name} takes pairs one by one: give each candidate a row of "
            "its own, or pass a function of (scores, labels, mask)"
        )
    if not data.is_pointwise and num_labels != 1:
        raise DataError(f"groups of candidates need one score a pair, this model has num_labels={num_labels}")
    if loss.groups and data.is_pointwise:
        raise DataError(
            f"{name} ranks the candidates of a query, and every row is a single pair: give rows with a list of "
            "documents and a list of labels, or use 'bce'"
        )
    if (
        data.labels.ndim == 1
        and num_labels > 1
        and (loss.classes or (not pointwise and data.labels.dtype.kind in "biu"))
    ):
        _check_classes(data.labels, name, num_labels)
        return
    if loss.classes and num_labels == 1:
        raise DataError(f"{name} needs one score a class: build the model with num_labels=2 or more, or use 'bce'")
    _check_values(data.labels, loss, name, num_labels)


def _check_classes(labels: np.ndarray, name: str, num_labels: int) -> None:
    values = np.asarray(labels, dtype=float)
    rows = np.flatnonzero(~(np.isfinite(values) & (values == np.floor(values)) & (values >= 0) & (values < num_labels)))
    if len(rows):
        row = int(rows[0])
        grades = "; for graded labels build the model with num_labels=1 and use 'bce' or 'mse'"
        raise DataError(
            f"row {row}: the label is {values[row]:g}, and {name} takes classes, whole numbers from 0 to "
            f"{num_labels - 1} ({len(rows)} of {len(values)} rows are none)" + (grades if values[row] % 1 else "")
        )
    missing = sorted(set(range(num_labels)) - set(values.astype(int).tolist()))
    if missing:
        which = f"class{'es' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
        warnings.warn(f"no row of the training data has {which} of {num_labels}; it will not be learnt", stacklevel=4)


def _check_values(labels: np.ndarray, loss: Loss, name: str, num_labels: int) -> None:
    """Numbers or, for a loss over classes, distributions: as many a row as the model has outputs."""
    width = labels.shape[1] if labels.ndim == 2 else 1
    if width != num_labels:
        classes = "; for labels that are classes use 'cross_entropy'" if width == 1 else ""
        raise DataError(
            f"the model has num_labels={num_labels}, but row 0 has {width} label{'s' if width > 1 else ''}; "
            f"build the model with num_labels={width} or change the labels{classes}"
        )
    values = np.asarray(labels, dtype=float).reshape(len(labels), -1)
    bad = ~np.isfinite(values).all(axis=1)
    allowed = "finite labels"
    if loss.low is not None and loss.high is not None:
        bad |= ((values < loss.low) | (values > loss.high)).any(axis=1)
        allowed = f"labels from {loss.low:g} to {loss.high:g}" if math.isfinite(loss.high) else "labels of 0 or more"
    if loss.classes:
        bad |= (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > 1e-3)
        allowed = "classes, or a distribution over the classes that sums to 1"
    rows = np.flatnonzero(bad)
    if len(rows):
        row = int(rows[0])
        raise DataError(
            f"row {row}: the label is {np.squeeze(values[row]).tolist()}, and {name} takes {allowed} "
            f"({len(rows)} of {len(values)} rows are outside); scale them, or choose another loss"
        )
