"""The micro-batches of an optimizer step: pairs that are scored together, and the loss of their scores."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossenc_kit.batches import rows_of
from crossenc_kit.in_batch import Lists
from crossenc_kit.losses import Loss

if TYPE_CHECKING:
    from torch import Tensor


class MicroBatch(NamedTuple):
    """Pairs that are scored together: some rows of the step's tokenised pairs, and the lists that they make up.

    `groups`: `(Q,)` rows of the training data. `rows`: `(B,)` rows of the step's tokens. `labels`: `(B,)`, `(B, C)`, or
    with gold labels beside a teacher's scores, see `distillation`. `sizes`: `(Q,)` documents of each list, or None
    where the loss takes pairs one by one. `num_tokens`: of all its pairs. `share`: what part of the step's items, lists
    or pairs, these are; weighted where the loss is.
    """

    groups: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray | None
    num_tokens: int
    share: float


def micro_batches_of(
    lists: Lists, cuts: list[np.ndarray], loss: Loss, as_lists: bool, groups: np.ndarray | None = None
) -> list[MicroBatch]:
    """The micro-batches of one step, cut as `cuts` says, each some list numbers.

    `groups`: `(Q,)`, which row of the training data each list is; None where that is its number.
    """
    rows = [rows_of(cut, lists.offsets) for cut in cuts]
    sizes = [lists.offsets[cut + 1] - lists.offsets[cut] if as_lists else None for cut in cuts]
    weights = [
        float(loss.item_weights(lists.labels[own], documents).sum()) for own, documents in zip(rows, sizes, strict=True)
    ]
    total = sum(weights) or 1.0  # lists of equal labels have no pairs to take a mean over
    return [
        MicroBatch(
            cut if groups is None else groups[cut],
            own,
            lists.labels[own],
            documents,
            int(lists.tokens.lengths[own].sum()),
            weight / total,
        )
        for cut, own, documents, weight in zip(cuts, rows, sizes, weights, strict=True)
    ]


def mean_loss(loss: Loss, scores: Tensor, batch: MicroBatch) -> Any:
    """The loss of a micro-batch's raw scores `(B, C)`: the mean over its items."""
    import torch

    scores = scores.float()
    labels = torch.as_tensor(batch.labels, device=scores.device)
    if scores.shape[1] == 1:
        scores, labels = scores.squeeze(1), labels.reshape(len(batch.rows), -1).squeeze(1)
    if batch.sizes is None:
        return loss.apply(scores, labels)
    columns = np.arange(batch.sizes.max())
    mask = torch.as_tensor(columns < batch.sizes[:, None], device=scores.device)  # (Q, K)
    return loss.apply(_spread(scores, mask), _spread(labels, mask), mask)


def _spread(values: Tensor, mask: Tensor) -> Tensor:
    """Values `(B,)` or `(B, n)` of all documents as `(Q, K)` or `(Q, K, n)`, 0 where the mask is False."""
    every, own = values.new_zeros(*mask.shape, *values.shape[1:]).float(), values.float()
    return every.masked_scatter(mask if values.dim() == 1 else mask[..., None], own)


def seed_generators(*place: int) -> None:
    """Seed torch's default generators from (seed, step, micro-batch): dropout depends on nothing before it."""
    import torch

    text = "/".join(map(str, place)).encode()
    value = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed(value)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(value)
