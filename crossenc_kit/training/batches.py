"""An epoch's plan: optimizer steps, cut into micro-batches that are scored together, and their loss.

Negatives from the batch: each list of a step can get documents of the step's other lists, of grade 0. They cost
no tokenising, since a pair is just two text numbers of `Tokens`. What a list may draw is decided by its texts;
sentence-transformers' `MultipleNegativesRankingLoss` goes by place and counts a repeated text each time.
Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply", 2017.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossenc_kit.losses.loss import Loss
from crossenc_kit.models.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


def steps_per_epoch(num_groups: int, batch_size: int, accumulation: int = 1) -> int:
    """Count the optimizer steps of an epoch; the last one may be smaller."""
    return -(-num_groups // (batch_size * accumulation))


def plan_epoch(
    lengths: np.ndarray,
    offsets: np.ndarray,
    *,
    seed: int,
    epoch: int,
    batch_size: int = 32,
    accumulation: int = 1,
    token_budget: int | None = None,
    shuffle: bool = True,
) -> list[list[np.ndarray]]:
    """Plan one epoch: its optimizer steps, each a list of micro-batches of group numbers.

    The groups are shuffled from (seed, epoch) and cut into steps of `batch_size * accumulation`. Each step is
    sorted by length and cut into micro-batches of at most `batch_size` groups and `token_budget` tokens. The
    plan does not depend on the number of processes.
    """
    count = len(offsets) - 1
    order = np.random.default_rng([seed, epoch]).permutation(count) if shuffle else np.arange(count)
    sizes = group_sizes(lengths, offsets)
    per_step = batch_size * accumulation
    return [
        cut_step(order[start : start + per_step], sizes, batch_size, token_budget)
        for start in range(0, count, per_step)
    ]


def group_sizes(lengths: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Count the tokens of each group `(G,)`."""
    return np.add.reduceat(lengths, offsets[:-1]) if len(offsets) > 1 else np.zeros(0, dtype=np.int64)


def cut_step(groups: np.ndarray, sizes: np.ndarray, most: int, token_budget: int | None) -> list[np.ndarray]:
    """Sort a step's groups by length and cut them into micro-batches of at most `most` groups and the budget."""
    ordered = groups[np.argsort(-sizes[groups], kind="stable")]
    batches, start, tokens = [], 0, 0
    for at, group in enumerate(ordered):
        size = int(sizes[group])
        full = at - start >= most or (token_budget is not None and at > start and tokens + size > token_budget)
        if full:
            batches.append(ordered[start:at])
            start, tokens = at, 0
        tokens += size
    batches.append(ordered[start:])
    return batches


def rows_of(groups: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """List the pair rows of the given groups, in order."""
    if int(offsets[-1]) == len(offsets) - 1:  # pointwise: row and group numbers agree
        return groups
    return np.concatenate([np.arange(offsets[g], offsets[g + 1]) for g in groups])


class MicroBatch(NamedTuple):
    """Pairs that are scored together, and the lists that they make up."""

    groups: np.ndarray  # (Q,) rows of the training data
    rows: np.ndarray  # (B,) rows of the step's tokens
    labels: np.ndarray  # (B,) or (B, C), or a teacher's scores and gold labels side by side
    sizes: np.ndarray | None  # (Q,) documents per list; None if the loss takes pairs
    num_tokens: int  # of all its pairs
    share: float  # of the whole step's items, weighted if the loss weighs them


def micro_batches_of(
    lists: Lists, cuts: list[np.ndarray], loss: Loss, as_lists: bool, groups: np.ndarray | None = None
) -> list[MicroBatch]:
    """Make the micro-batches of one step.

    cuts: the list numbers of each micro-batch
    groups: which row of the training data each list is, `(Q,)`; None if that is its number
    """
    rows = [rows_of(cut, lists.offsets) for cut in cuts]
    sizes = [lists.offsets[cut + 1] - lists.offsets[cut] if as_lists else None for cut in cuts]
    weights = [
        float(loss.item_weights(lists.labels[own], documents).sum()) for own, documents in zip(rows, sizes, strict=True)
    ]
    total = sum(weights) or 1.0  # 0 if no list has a pair of unequal labels
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
    """Compute the loss of a micro-batch's raw scores `(B, C)`, the mean over its items."""
    import torch

    scores = scores.float()
    labels = torch.as_tensor(batch.labels, device=scores.device)
    if scores.shape[1] == 1:
        scores, labels = scores.squeeze(1), labels.reshape(len(batch.rows), -1).squeeze(1)  # (B,), (B,)
    if batch.sizes is None:
        return loss.apply(scores, labels)
    columns = np.arange(batch.sizes.max())
    mask = torch.as_tensor(columns < batch.sizes[:, None], device=scores.device)  # (Q, K)
    return loss.apply(_spread(scores, mask), _spread(labels, mask), mask)


def _spread(values: Tensor, mask: Tensor) -> Tensor:
    """Spread values `(B,)` or `(B, n)` over `(Q, K)` or `(Q, K, n)`, 0 where the mask is False."""
    every, own = values.new_zeros(*mask.shape, *values.shape[1:]).float(), values.float()
    return every.masked_scatter(mask if values.dim() == 1 else mask[..., None], own)


def seed_generators(*place: int) -> None:
    """Seed torch from (seed, step, micro-batch), so that dropout depends on nothing that came before."""
    import torch

    text = "/".join(map(str, place)).encode()
    value = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed(value)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(value)


class Lists(NamedTuple):
    """Q lists of together N pairs, list after list."""

    tokens: Tokens  # of N pairs
    labels: np.ndarray  # (N,)
    offsets: np.ndarray  # (Q + 1,), where each list starts


class Positives(NamedTuple):
    """The pairs of text numbers whose label is above 0, sorted by the left one."""

    left: np.ndarray
    right: np.ndarray

    def of(self, left: int) -> np.ndarray:
        """List the right text numbers of a left one."""
        start, stop = np.searchsorted(self.left, [left, left + 1])
        return self.right[start:stop]


def known_positives(tokens: Tokens, labels: np.ndarray) -> Positives:
    """Collect what answers each query, whichever of its lists says so."""
    rows = np.flatnonzero(labels > 0)
    rows = rows[np.argsort(tokens.left[rows], kind="stable")]
    return Positives(tokens.left[rows], tokens.right[rows])


def widen(
    lists: Lists,
    groups: np.ndarray,
    in_batch: int | str,
    positives: Positives,
    generator: np.random.Generator,
    cut: Callable[[np.ndarray], np.ndarray],
) -> Lists:
    """Add `in_batch` documents of the other lists, or "all", to each list, with the label 0.

    A list draws without replacement from the distinct documents of the other lists, except its own, those known
    to answer its query, and the query itself. If there are fewer than `in_batch`, all of them come.

    groups: which lists, in the order in which they are returned
    cut: from the token counts of both sides `(N, 2)` to those that are kept
    """
    rows = [np.arange(lists.offsets[group], lists.offsets[group + 1]) for group in groups]
    tokens = lists.tokens
    pool = np.unique(tokens.right[np.concatenate(rows)])
    left, right, labels = [], [], []
    for own in rows:
        query, documents = tokens.left[own[0]], tokens.right[own]
        allowed = pool[~np.isin(pool, np.concatenate([documents, positives.of(query), [query]]))]
        drawn = allowed
        if in_batch != "all" and int(in_batch) < len(allowed):
            drawn = generator.choice(allowed, int(in_batch), replace=False)
        left.append(np.concatenate([tokens.left[own], np.repeat(query, len(drawn))]))
        right.append(np.concatenate([documents, drawn]))
        labels.append(np.concatenate([lists.labels[own], np.zeros(len(drawn), dtype=lists.labels.dtype)]))
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in labels])])
    return Lists(
        put_together(tokens, np.concatenate(left), np.concatenate(right), cut), np.concatenate(labels), offsets
    )


def put_together(
    tokens: Tokens, left: np.ndarray, right: np.ndarray, cut: Callable[[np.ndarray], np.ndarray]
) -> Tokens:
    """Make the tokens of other pairs of the same texts, given by their numbers `(N,)`."""
    sizes = np.diff(tokens.starts)
    full = np.stack([sizes[left], sizes[right]], axis=1)
    kept = cut(full)
    lengths = kept.sum(axis=1) + tokens.template.size
    return replace(tokens, left=left, right=right, kept=kept, lengths=lengths, dropped=(full - kept).sum(axis=1))
