"""Distillation: the loss of a teacher's scores, mixed with the loss of the gold labels that stand beside them.

    data = with_teacher_scores(pairs, scores, gold=True)
    train(student, data, distillation_loss("kl_divergence", gold="cross_entropy", alpha=0.5, temperature=2.0))

Any loss of the kit can be either part: of one score a pair, of classes, of lists. Hinton, Vinyals and Dean, "Distilling
the Knowledge in a Neural Network", 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.data.pairs import Pairs
from crossenc_kit.errors import DataError
from crossenc_kit.losses.checks import fit_weights
from crossenc_kit.losses.loss import Loss, find_loss, loss_with

if TYPE_CHECKING:
    from torch import Tensor

AnyLoss = str | Loss | Callable[..., Any]


def distillation_loss(
    loss: AnyLoss, *, gold: AnyLoss | None = None, alpha: float | None = None, **options: Any
) -> Loss:
    """alpha times a loss of the teacher's scores plus 1 - alpha times the loss `gold` of the gold labels.

    `loss`: what `train` takes, with its `options`; "kl_divergence" is over the candidates of a list or, where `gold` is
    a loss of classes, over the classes ("class_kl_divergence"). `gold`: the same, `loss_with("bce", ...)` for one with
    options. `alpha`: 0 to 1, 0.5 unless said otherwise. The labels are those of `with_teacher_scores(gold=True)`.
    Without `gold` it is the loss of the teacher's scores alone, and the labels are these.

    Where one of the two takes lists of candidates and the other pairs, the mean of the other over each list is taken,
    and then the mean over lists. Raises `ValueError` for an alpha outside of 0..1 or without `gold`, for options that
    the loss does not have, and for a gold loss whose items weigh differently (`class_weights`) or take negatives from
    the batch, which no teacher has scored.
    """
    if gold is None:
        if alpha is not None:
            raise ValueError(f"alpha={alpha!r} mixes with a gold loss: name one, gold='bce', or leave alpha out")
        return _with_options(loss, options)
    share = 0.5 if alpha is None else alpha
    if not isinstance(share, Real) or isinstance(share, bool) or not 0 <= share <= 1:
        raise ValueError(f"alpha must be a number from 0 (gold labels alone) to 1 (the teacher alone), got {alpha!r}")
    own = find_loss(gold)
    if loss == "kl_divergence" and own.classes:
        loss = "class_kl_divergence"
    parts = {"distillation": _with_options(loss, options), "gold": own}
    for name, part in parts.items():
        _check_part(name, part)
    kinds = {part.groups for part in parts.values()}
    groups = True if True in kinds else None if None in kinds else False
    return Loss(mixed, groups=groups, options={**parts, "alpha": float(share)})


def _with_options(loss: Any, options: dict[str, Any]) -> Loss:
    known = find_loss(loss)
    return loss_with(loss, in_batch=known.in_batch or None, **{**known.options, **options}) if options else known


def _check_part(name: str, part: Loss) -> None:
    if part.function is mixed:
        raise ValueError(f"the {name} loss is itself a mixed one; give its two parts")
    if part.in_batch:
        raise ValueError(f"the {name} loss {part.name} takes negatives from the batch, which no teacher has scored")
    if "class_weights" in part.options:
        raise ValueError(
            f"the {name} loss has class_weights, by which its mean over rows is weighed, and that of the other part is "
            "not: leave them out, or draw the rows so that the classes are balanced"
        )
    if part.options.get("mean_over") == "pairs":
        raise ValueError(f"the {name} loss is a mean over pairs, the other part is not: leave mean_over at 'lists'")


def mixed(
    scores: Tensor, labels: Tensor, mask: Tensor | None = None, *, distillation: Loss, gold: Loss, alpha: float
) -> Tensor:
    """alpha * distillation(scores, teacher) + (1 - alpha) * gold(scores, gold labels), mean over items.

    Scores `(B,)`, `(B, C)`, or `(Q, K)` with a mask; labels have an axis of columns at the end, the teacher's C scores
    and then the gold label or the C gold ones; see `teachers.teacher_and_gold`.
    """
    num_labels = 1 if labels.dim() > scores.dim() else scores.shape[-1]
    teacher, own = teacher_and_gold(labels, num_labels)
    if own.dim() < scores.dim():
        own = own.long()  # one column beside C scores: the index of a class
    return alpha * _part(distillation, scores, teacher, mask) + (1 - alpha) * _part(gold, scores, own, mask)


def _part(loss: Loss, scores: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
    """One of the two losses; of a loss of pairs on lists, the mean over lists of each list's mean."""
    import torch

    if mask is None:
        return loss.apply(scores, labels)
    if loss.groups is not False:
        return loss.apply(scores, labels, mask)
    return torch.stack([loss.apply(s[m], y[m]) for s, y, m in zip(scores, labels, mask, strict=True)]).mean()


def parts_of(loss: Loss, data: Pairs, num_labels: int) -> list[tuple[Loss, Pairs]]:
    """Each part of a mixed loss with the labels that it sees; any other loss with the data as they are.

    Raises `DataError` where the labels are not a teacher's `num_labels` scores with gold ones beside them.
    """
    if loss.function is not mixed or data.labels is None:
        return [(loss, data)]
    try:
        teacher, gold = teacher_and_gold(data.labels, num_labels)
    except ValueError:
        columns = data.labels.shape[1] if data.labels.ndim > 1 else 1
        wanted = "2 columns" if num_labels == 1 else f"{num_labels + 1} or {2 * num_labels} columns"
        raise DataError(
            f"the labels have {columns} column{'s' if columns > 1 else ''}, and {loss.name} takes {wanted}, the "
            f"teacher's {num_labels} and then the gold ones; with_teacher_scores(pairs, scores, gold=True) makes them"
        ) from None
    if gold.ndim == 1 and num_labels > 1 and np.isfinite(gold).all() and (gold % 1 == 0).all():
        gold = gold.astype(np.int64)
    labels = {"distillation": teacher, "gold": gold}
    return [(loss.options[name], replace(data, labels=labels[name])) for name in labels]


def fit_options(loss: Loss, data: Pairs, num_labels: int) -> Loss:
    """`losses.fit_weights` of a loss, or of each part of a mixed one."""
    fitted = [fit_weights(part, own, num_labels) for part, own in parts_of(loss, data, num_labels)]
    if len(fitted) == 1:
        return fitted[0]
    return loss._replace(options={**loss.options, "distillation": fitted[0], "gold": fitted[1]})


def teacher_and_gold(labels: Any, num_labels: int = 1) -> tuple[Any, Any]:
    """Labels `(..., C + G)` of `with_teacher_scores(gold=True)` as the teacher's and the gold ones; arrays or tensors.

    C is `num_labels`. One column comes back without its axis: `(Q, K, 2)` gives `(Q, K)` and `(Q, K)`. Raises
    `ValueError` where there are no columns after the first C, or neither one nor C.
    """
    width = labels.shape[-1] if len(labels.shape) > 1 else 0
    if width - num_labels not in (1, num_labels):
        raise ValueError(f"labels of shape {tuple(labels.shape)} are not a teacher's {num_labels} with gold ones")
    teacher, gold = labels[..., :num_labels], labels[..., num_labels:]
    return tuple(part[..., 0] if part.shape[-1] == 1 else part for part in (teacher, gold))  # type: ignore[return-value]
