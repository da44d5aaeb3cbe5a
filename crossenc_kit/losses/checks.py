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
    if loss.classes and num_labels == 1:
        raise DataError(f"{name} needs one score a class: build the model with num_labels=2 or more, or use 'bce'")
    _check_values(loss, data, name, num_labels)
    if name == "multiple_negatives":
        _check_positives(data, name)


def _check_kind(loss: Loss, data: Pairs, name: str, num_labels: int) -> None:
    """Pairs or lists, one score or several: what the loss takes must be what data and model have."""
    if name == "class_kl_divergence" and num_labels == 1:
        raise DataError(
            f"{name} compares distributions over classes, and this model has one score a pair: use 'mse' for a "
            "teacher's raw scores, 'bce' for its probabilities, or 'kl_divergence' for lists of candidates"
        )
    if name == "kl_divergence" and data.is_pointwise and num_labels > 1:
        raise DataError(
            f"{name} is over the candidates of a list, and every row is a single pair: over a teacher's classes it is "
            "'class_kl_divergence'"
        )
    if loss.takes_lists(data) and num_labels != 1:
        raise DataError(f"groups of candidates need one score a pair, this model has num_labels={num_labels}")
    if loss.groups and data.is_pointwise and not loss.in_batch:
        raise DataError(
            f"{name} ranks the candidates of a query, and every row is a single pair: give rows with a list of "
            "documents and a list of labels, or use 'bce'"
        )


def _check_classes(data: Pairs, name: str, num_labels: int) -> None:
    """Class indices `(N,)`: whole numbers from 0 to C - 1."""
    values = np.asarray(data.labels, dtype=float)
    wrong = ~(np.isfinite(values) & (values == np.floor(values)) & (values >= 0) & (values < num_labels))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        grades = "; for graded labels build the model with num_labels=1 and use 'bce' or 'mse'"
        raise DataError(
            f"{_place(data, row)}: the label is {values[row]:g}, and {name} takes classes, whole numbers from 0 to "
            f"{num_labels - 1} ({_count(data, wrong)} are none)" + (grades if values[row] % 1 else "")
        )
    if missing := sorted(set(range(num_labels)) - set(values.astype(int).tolist())):
        which = f"class{'es' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
        warn_at_call(f"no row of the training data has {which} of {num_labels}; it will not be learnt")


def _check_values(loss: Loss, data: Pairs, name: str, num_labels: int) -> None:
    """Numbers or, for a loss of classes, distributions: one column per output of the model."""
    values = np.asarray(data.labels, dtype=float).reshape(len(data.labels), -1)  # type: ignore[arg-type]
    _check_width(data, values.shape[1], name, num_labels)
    wrong = ~np.isfinite(values).all(axis=1)
    allowed = "finite labels"
    if loss.low is not None and loss.high is not None:
        wrong |= ((values < loss.low) | (values > loss.high)).any(axis=1)
        allowed = f"labels from {loss.low:g} to {loss.high:g}" if math.isfinite(loss.high) else "labels of 0 or more"
    if loss.classes:
        wrong |= (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > 1e-3)  # 1e-3: rounded in a file
        allowed = "classes, or a distribution over the classes that sums to 1"
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{_place(data, row)}: the label is {np.squeeze(values[row]).tolist()}, and {name} takes {allowed} "
            f"({_count(data, wrong)} are outside); scale them, or choose another loss"
        )


def _check_width(data: Pairs, width: int, name: str, num_labels: int) -> None:
    if width > num_labels and any("gold labels after them" in note for note in data.notes):  # with_teacher_scores
        raise DataError(
            f"the model has num_labels={num_labels}, but row 0 has {width} labels, a teacher's and gold ones after "
            f"them: the loss that takes both is distillation_loss(..., gold=...), not {name} alone"
        )
    if width != num_labels:
        classes = "; for labels that are classes use 'cross_entropy'" if width == 1 else ""
        raise DataError(
            f"the model has num_labels={num_labels}, but row 0 has {width} label{'s' if width > 1 else ''}; "
            f"build the model with num_labels={width} or change the labels{classes}"
        )


def _check_positives(data: Pairs, name: str) -> None:
    """One positive per list."""
    positives = np.add.reduceat(np.asarray(data.labels) > 0, data.offsets[:-1], dtype=np.int64)
    wrong = np.flatnonzero(positives != 1)
    if len(wrong):
        row = int(wrong[0])
        size = int(data.offsets[row + 1] - data.offsets[row])
        raise DataError(
            f"row {row}: {positives[row]} of its {size} documents have a label above 0, and {name} takes one positive "
            f"a list ({len(wrong)} of {len(data)} rows have another number); give each positive a row of its own, or "
            "use 'group_cross_entropy', which takes any number"
        )


def _place(data: Pairs, pair: int) -> str:
    """Name a pair by its row, in a list also by its document."""
    row = int(np.searchsorted(data.offsets, pair, side="right")) - 1
    return f"row {row}" if data.is_pointwise else f"row {row}, document {pair - int(data.offsets[row])}"


def _count(data: Pairs, wrong: np.ndarray) -> str:
    return f"{np.count_nonzero(wrong)} of {len(wrong)} {'rows' if data.is_pointwise else 'documents'}"


def warn_of_silent_lists(parts: list[tuple[Loss, Pairs]]) -> None:
    """Warn of lists from which a ranking loss learns nothing; raise `DataError` if all lists are such.

    These are lists of one document, and lists of equal labels for the losses that learn from differences.

    parts: what `Loss.parts` gives; a list is silent if it is so for every part
    """
    silent = reduce(np.intersect1d, [_silent_lists(loss, data) for loss, data in parts])
    if count := len(silent):
        data, names = parts[0][1], " and ".join(loss.short_name for loss, _ in parts)
        alone = int((np.diff(data.offsets)[silent] == 1).sum())
        ones = f" ({'they have' if alone == count else f'{alone} of them have'} a single document)" if alone else ""
        said = f"{count} of {len(data)} lists have equal labels throughout{ones} and teach {names} nothing; "
        if count == len(data):
            raise DataError(f"{said}give each query documents of several labels, or use another loss, such as 'bce'")
        warn_at_call(f"{said}drop them, or add documents of another label")


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
