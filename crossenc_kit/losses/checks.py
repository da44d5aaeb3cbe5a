"""Check that the labels fit the loss and the model, before the first step."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np

from crossenc_kit.data.pairs import Pairs
from crossenc_kit.errors import DataError
from crossenc_kit.losses.loss import Loss
from crossenc_kit.scorers import warn_at_call


def check_labels(loss: Loss, data: Pairs, num_labels: int) -> None:
    """Raise `DataError` naming the first label that the loss or the model's outputs cannot take.

    Warns if a class of the model never occurs in the data.
    """
    if data.labels is None:
        raise DataError("training needs labels: add a column named label, labels, score or scores")
    name = loss.short_name
    _check_kind(loss, data, name, num_labels)
    own = loss.groups is None and data.labels.dtype.kind in "biu"  # a custom loss may take classes
    if data.labels.ndim == 1 and num_labels > 1 and (loss.classes or own):
        _check_classes(data, name, num_labels)
        return
    _check_values(loss, data, name, num_labels)
    if name == "multiple_negatives":
        _check_positives(data, name)


def _check_kind(loss: Loss, data: Pairs, name: str, num_labels: int) -> None:
    """Check pairs against lists, and one score against several."""
    if num_labels == 1 and (loss.classes or name == "class_kl_divergence"):
        raise DataError(
            f"{name} needs one score per class: build the model with num_labels=2 or more, or use "
            "'bce', 'mse' or, on lists of candidates, 'kl_divergence'"
        )
    if loss.groups and data.is_pointwise and not loss.in_batch:
        raise DataError(
            f"{name} ranks the candidates of a query, and every row is a single pair: give rows with a "
            "list of documents and a list of labels, or use 'bce' or 'class_kl_divergence'"
        )
    if loss.takes_lists(data) and num_labels != 1:
        raise DataError(f"groups of candidates need one score per pair, this model has num_labels={num_labels}")


def _check_classes(data: Pairs, name: str, num_labels: int) -> None:
    """Check that labels `(N,)` are class indices, whole numbers from 0 to C - 1."""
    values = np.asarray(data.labels, dtype=float)
    wrong = ~np.isin(values, np.arange(num_labels))
    _refuse(data, wrong, f"{name} takes classes, whole numbers from 0 to {num_labels - 1}")
    if missing := sorted(set(range(num_labels)) - set(values.astype(int).tolist())):
        which = f"class{'es' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
        warn_at_call(f"no row of the training data has {which} of {num_labels}; it will not be learnt")


def _check_values(loss: Loss, data: Pairs, name: str, num_labels: int) -> None:
    """Check numbers or, for a loss of classes, distributions: one column per output of the model."""
    values = np.asarray(data.labels, dtype=float).reshape(data.num_pairs, -1)  # (N, C)
    if values.shape[1] != num_labels:
        raise DataError(
            f"the model has num_labels={num_labels}, but row 0 has {values.shape[1]} label(s); build the "
            f"model with num_labels={values.shape[1]} or change the labels. For classes use "
            "'cross_entropy', for a teacher's labels beside gold ones distillation_loss(..., gold=...)"
        )
    wrong = ~np.isfinite(values).all(axis=1)
    allowed = "finite labels"
    if loss.low is not None and loss.high is not None:
        wrong |= ((values < loss.low) | (values > loss.high)).any(axis=1)
        top = f"to {loss.high:g}" if math.isfinite(loss.high) else "up"
        allowed = f"labels from {loss.low:g} {top}"
    if loss.classes:
        wrong |= (values < 0).any(axis=1)
        wrong |= np.abs(values.sum(axis=1) - 1) > 1e-3  # 1e-3: distributions are rounded in files
        allowed = "classes, or a distribution over the classes that sums to 1"
    _refuse(data, wrong, f"{name} takes {allowed}")


def _refuse(data: Pairs, wrong: np.ndarray, reason: str) -> None:
    """Raise `DataError` with the first wrong label and its row, in a list also its document."""
    if not wrong.any():
        return
    pair = int(np.flatnonzero(wrong)[0])
    row = int(np.searchsorted(data.offsets, pair, side="right")) - 1
    document = "" if data.is_pointwise else f", document {pair - int(data.offsets[row])}"
    label = np.squeeze(np.asarray(data.labels)[pair]).astype(np.float32)  # 0.3, not 0.30000001
    raise DataError(
        f"row {row}{document}: the label is {label.tolist() if label.ndim else str(label)}, and {reason} "
        f"({wrong.sum()} of {len(wrong)} labels do not fit); change them, or choose another loss"
    )


def _check_positives(data: Pairs, name: str) -> None:
    """Check that each list has one positive."""
    starts = data.offsets[:-1]
    positives = np.add.reduceat(np.asarray(data.labels) > 0, starts, dtype=np.int64)  # (Q,)
    wrong = np.flatnonzero(positives != 1)
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"row {row}: {positives[row]} of its {np.diff(data.offsets)[row]} documents have a label above 0, "
            f"and {name} takes one positive per list ({len(wrong)} of {len(data)} rows have another "
            "number); give each positive its own row, or use 'group_cross_entropy'"
        )


def warn_of_silent_lists(parts: list[tuple[Loss, Pairs]]) -> None:
    """Warn of lists from which a ranking loss learns nothing; raise `DataError` if all lists are such.

    These are lists of one document, and lists of equal labels for the losses that learn from differences.

    parts: what `Loss.parts` gives; a list is silent if it is so for every part
    """
    silent = reduce(np.intersect1d, [_silent_lists(loss, data) for loss, data in parts])
    if not len(silent):
        return
    data, names = parts[0][1], " and ".join(loss.short_name for loss, _ in parts)
    alone = int((np.diff(data.offsets)[silent] == 1).sum())
    message = (
        f"{len(silent)} of {len(data)} lists have equal labels throughout ({alone} of them a single "
        f"document) and teach {names} nothing; "
    )
    if len(silent) == len(data):
        raise DataError(f"{message}give each query documents of several labels, or use another loss")
    warn_at_call(f"{message}drop them, or add documents of another label")


def _silent_lists(loss: Loss, data: Pairs) -> np.ndarray:
    """Return the numbers of the lists from which the loss learns nothing."""
    if not loss.groups or not len(data):
        return np.zeros(0, dtype=np.int64)
    labels, starts, single = np.asarray(data.labels, dtype=float), data.offsets[:-1], np.diff(data.offsets) == 1
    lowest = np.minimum.reduceat(labels, starts)
    equal = np.flatnonzero(lowest == np.maximum.reduceat(labels, starts))
    return equal[_without_gradient(loss, lowest[equal], single[equal])]


def _without_gradient(loss: Loss, labels: np.ndarray, single: np.ndarray) -> np.ndarray:
    """Try it: does a list of two documents of one label, or of one document, have a gradient?

    labels: `(Q,)`, the one label of each list
    single: `(Q,)`, True for a list of one document
    """
    import torch

    if not len(labels):
        return np.zeros(0, dtype=bool)
    y = torch.as_tensor(labels, dtype=torch.float64)[:, None]  # (Q, 1)
    if loss.in_batch:  # each list is joined by another query's document, of grade 0
        y, single = torch.cat([y, torch.zeros_like(y)], 1), np.zeros_like(single)
    else:
        y = y.expand(-1, 2)  # (Q, 2)
    mask = torch.ones(y.shape, dtype=torch.bool)
    mask[:, 1] = torch.as_tensor(~single)
    scores = torch.tensor([[0.0, 1.0]], dtype=torch.float64).repeat(len(y), 1).requires_grad_()
    (gradient,) = torch.autograd.grad(loss.apply(scores, y, mask), scores)
    return (gradient == 0).all(1).numpy()
