"""Negatives from the batch: each list of an optimizer step gets documents of the step's other lists, of grade 0.

The pairs cost no tokenising: a pair is two text numbers of `Tokens`, whose token ids are there already. They are cut
to `max_length` as all pairs are; the warning of truncation counts those of the data only. What a list may draw is told
by its text; sentence-transformers' `MultipleNegativesRankingLoss`, equal where all texts differ, goes by its place and
counts a text as often as it is there.
Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply", 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from crossenc_kit.batches import Tokens


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
