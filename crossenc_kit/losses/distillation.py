"""Mix the loss of a teacher's scores with the loss of the gold labels.

    data = with_teacher_scores(pairs, scores, gold=True)
    train(student, data, distillation_loss("kl_divergence", gold="cross_entropy", alpha=0.5, temperature=2.0))

Either part may be any loss of the kit: on scores, on classes, on lists. Hinton, Vinyals and Dean,
"Distilling the Knowledge in a Neural Network", 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.data.pairs import Pairs
from crossenc_kit.errors import DataError
from crossenc_kit.losses.loss import Loss, find_loss, loss_with

if TYPE_CHECKING:
    from torch import Tensor

AnyLoss = str | Loss | Callable[..., Any]


class MixedLoss(Loss):
    """alpha times a teacher's loss plus 1 - alpha times the loss of the gold labels; the options hold both."""

    def parts(self, data: Pairs, num_labels: int) -> list[tuple[Loss, Pairs]]:
        """Give each part its own columns of the labels; `DataError` if the columns do not fit the model."""
        if data.labels is None:
            return [(self, data)]
        try:
            teacher, gold = teacher_and_gold(data.labels, num_labels)
        except ValueError:
            columns = data.labels.shape[1] if data.labels.ndim > 1 else 1
            wanted = "2 columns" if num_labels == 1 else f"{num_labels + 1} or {2 * num_labels} columns"
            raise DataError(
                f"the labels have {columns} column{'s' if columns > 1 else ''}, and {self.name} takes {wanted}, the "
                f"teacher's {num_labels} and then the gold ones; with_teacher_scores(pairs, scores, gold=True) "
                "makes them"
            ) from None
        if gold.ndim == 1 and num_labels > 1 and np.isfinite(gold).all() and (gold % 1 == 0).all():
            gold = gold.astype(np.int64)  # class indices
        return [
            (self.options["distillation"], replace(data, labels=teacher)),
            (self.options["gold"], replace(data, labels=gold)),
        ]

    def fitted(self, data: Pairs, num_labels: int) -> Loss:
        """Fit the weights of both parts."""
        fitted = [part.fitted(own, num_labels) for part, own in self.parts(data, num_labels)]
        return self.with_parts(*fitted)

    def with_parts(self, distillation: Loss, gold: Loss) -> MixedLoss:
        """Return this loss with other parts."""
        return replace(self, options={**self.options, "distillation": distillation, "gold": gold})


def distillation_loss(
    loss: AnyLoss, *, gold: AnyLoss | None = None, alpha: float | None = None, **options: Any
) -> Loss:
    """Mix alpha times the loss of a teacher's scores with 1 - alpha times the loss of the gold labels.

    A pointwise part on lists is averaged within each list, then over lists.

    loss: what `train` takes, with its `options`; "kl_divergence" is over the candidates of a list, or
        over the classes ("class_kl_divergence") if `gold` is a loss of classes
    gold: a loss of the gold labels of `with_teacher_scores(gold=True)`; None: the teacher's scores alone
    alpha: 0 to 1, by default 0.5

    Raises `ValueError` for an alpha outside 0..1 or without `gold`, for unknown options, and for parts that
    weigh items differently or take negatives from the batch, which no teacher has scored.
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
    return MixedLoss(mixed, groups=groups, options={**parts, "alpha": float(share)})


def _with_options(loss: Any, options: dict[str, Any]) -> Loss:
    known = find_loss(loss)
    return loss_with(loss, in_batch=known.in_batch or None, **{**known.options, **options}) if options else known


def _check_part(name: str, part: Loss) -> None:
    if isinstance(part, MixedLoss):
        raise ValueError(f"the {name} loss is itself a mixed one; give its two parts")
    if part.in_batch:
        raise ValueError(f"the {name} loss {part.name} takes negatives from the batch, which no teacher has scored")
    if "class_weights" in part.options:
        raise ValueError(
            f"the {name} loss has class_weights, which weigh its mean over rows, and the other part is not weighted: "
            "leave them out, or draw the rows so that the classes are balanced"
        )
    if part.options.get("mean_over") == "pairs":
        raise ValueError(f"the {name} loss is a mean over pairs, the other part is not: leave mean_over at 'lists'")


def mixed(
    scores: Tensor, labels: Tensor, mask: Tensor | None = None, *, distillation: Loss, gold: Loss, alpha: float
) -> Tensor:
    """Compute alpha * distillation(scores, teacher) + (1 - alpha) * gold(scores, gold labels), mean over items.

    Scores are `(B,)`, `(B, C)`, or `(Q, K)` with a mask. Labels have one more axis, of columns: the teacher's
    C scores, then the gold label or the C gold ones; see `teacher_and_gold`.
    """
    num_labels = 1 if labels.dim() > scores.dim() else scores.shape[-1]
    teacher, own = teacher_and_gold(labels, num_labels)
    if own.dim() < scores.dim():
        own = own.long()  # one column beside C scores: the index of a class
    return alpha * _part(distillation, scores, teacher, mask) + (1 - alpha) * _part(gold, scores, own, mask)


def _part(loss: Loss, scores: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
    """Compute one part; a pointwise part on lists is averaged within each list, then over lists."""
    import torch

    if mask is None:
        return loss.apply(scores, labels)
    if loss.groups is not False:
        return loss.apply(scores, labels, mask)
    return torch.stack([loss.apply(s[m], y[m]) for s, y, m in zip(scores, labels, mask, strict=True)]).mean()


def teacher_and_gold(labels: Any, num_labels: int = 1) -> tuple[Any, Any]:
    """Split labels `(..., C + G)` into the teacher's and the gold ones; arrays or tensors.

    C is `num_labels`. A single column loses its axis: `(Q, K, 2)` becomes `(Q, K)` and `(Q, K)`.

    Raises `ValueError` unless 1 or C columns follow the first C.
    """
    width = labels.shape[-1] if len(labels.shape) > 1 else 0
    if width - num_labels not in (1, num_labels):
        raise ValueError(f"labels of shape {tuple(labels.shape)} are not a teacher's {num_labels} with gold ones")
    teacher, gold = labels[..., :num_labels], labels[..., num_labels:]
    return tuple(part[..., 0] if part.shape[-1] == 1 else part for part in (teacher, gold))  # type: ignore[return-value]
