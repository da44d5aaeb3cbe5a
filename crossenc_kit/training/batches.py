"""The micro-batches of an optimizer step: pairs that are scored together, and the loss of their scores.

Negatives from the batch: each list of an optimizer step gets documents of the step's other lists, of grade 0.

The pairs cost no tokenising: a pair is two text numbers of `Tokens`, whose token ids are there already. They are cut
to `max_length` as all pairs are; the warning of truncation counts those of the data only. What a list may draw is told
by its text; sentence-transformers' `MultipleNegativesRankingLoss`, equal where all texts differ, goes by its place and
counts a text as often as it is there.
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
    """Optimizer steps in an epoch; the last one may be smaller."""
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
    """The optimizer steps of one epoch, each a list of micro-batches of group numbers.

    A pure function of its arguments, and independent of the number of processes: the groups are
    shuffled from (seed, epoch), cut into steps of `batch_size * accumulation`, and each step is sorted
    by length and cut into micro-batches of at most `batch_size` groups and `token_budget` tokens.
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
    """The tokens of each group `(G,)`."""
    return np.add.reduceat(lengths, offsets[:-1]) if len(offsets) > 1 else np.zeros(0, dtype=np.int64)


def cut_step(groups: np.ndarray, sizes: np.ndarray, most: int, token_budget: int | None) -> list[np.ndarray]:
    """The groups of one step, sorted by length, cut into micro-batches of at most `most` groups and the budget."""
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
    """The pair rows of the given groups, in order."""
    if int(offsets[-1]) == len(offsets) - 1:  # pointwise: row and group numbers agree
        return groups
    return np.concatenate([np.arange(offsets[g], offsets[g + 1]) for g in groups])


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


class Lists(NamedTuple):
    """Q lists: tokens and labels `(N,)` of their N pairs, list after list, and where each list starts `(Q + 1,)`."""

    tokens: Tokens
    labels: np.ndarray
    offsets: np.ndarray


class Positives(NamedTuple):
    """The pairs of text numbers with a label above 0, sorted by the left one."""

    left: np.ndarray
    right: np.ndarray

    def of(self, left: int) -> np.ndarray:
        """The right text numbers that go with a left one."""
        start, stop = np.searchsorted(self.left, [left, left + 1])
        return self.right[start:stop]


def known_positives(tokens: Tokens, labels: np.ndarray) -> Positives:
    """What the data know to answer each query, whichever of its lists says so."""
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
    """The given lists, each followed by `in_batch` documents of the others, or "all", with the label 0.

    A list draws without replacement from the distinct documents of the other lists, without its own, without those
    known to answer its query (`positives`), and without the query itself; where there are fewer than `in_batch`, all
    come. `cut`: tokens of each side `(N, 2)` to those that are kept. Lists come in the order of `groups`.
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
    """The tokens of other pairs `(N,)` of the same texts, which are given by their numbers."""
    sizes = np.diff(tokens.starts)
    full = np.stack([sizes[left], sizes[right]], axis=1)
    kept = cut(full)
    lengths = kept.sum(axis=1) + tokens.template.size
    return replace(tokens, left=left, right=right, kept=kept, lengths=lengths, dropped=(full - kept).sum(axis=1))
