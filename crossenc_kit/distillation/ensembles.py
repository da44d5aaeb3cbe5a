"""Several scorers as one: the mean of their scores, of their ranks, or of their scores on one scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.pairs import reordered
from crossenc_kit.evaluation.metrics import finite_numbers
from crossenc_kit.scorers import as_scorer, scorer_label_names

WAYS = ("mean", "rank_mean", "standardised_mean")


def ensemble(
    members: Sequence[Any],
    how: str = "mean",
    *,
    groups: ArrayLike | Literal["left"] | None = None,
    weights: Sequence[float] | None = None,
) -> Any:
    """Combine the scores of M members: M arrays give an array, M scorers a scorer.

    how: the weighted mean of
        "mean": the scores, `(N,)` or `(N, C)`
        "rank_mean": (r - 1) / (K - 1) of the rank r in each list, 1 the lowest; ties share their mean rank
        "standardised_mean": (s - mean) / standard deviation in each list, 0 if all are equal
    groups: `(G + 1,)` offsets of the lists; for scorers also "left", one list per left text; default: one
    weights: M numbers, none negative

    Fox and Shaw, "Combination of Multiple Searches", 1994; Renda and Straccia, "Web Metasearch: Rank vs.
    Score Based Rank Aggregation Methods", 2003. Raises `ValueError` for members that do not fit together.
    """
    if how not in WAYS:
        raise ValueError(f"how is {how!r}; expected one of {', '.join(WAYS)}")
    if isinstance(groups, str) and groups != "left":
        raise ValueError(f'groups is {groups!r}; expected offsets, "left" or None')
    members = list(members)
    scorers = [callable(member) or hasattr(member, "predict") for member in members]
    if not members or any(scorers) != all(scorers):
        raise ValueError(f"expected scorers or arrays of scores, got {len(members)}, {sum(scorers)} of them scorers")
    shares = _shares(weights, len(members))
    if not all(scorers):
        if isinstance(groups, str):
            raise ValueError("groups='left' needs the texts, which arrays do not have; give the lists' offsets")
        return _combine(members, how, _rows_by_offset(groups, len(members[0])), shares)

    names, orders = _class_orders(members)

    def score(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        texts = getattr(pairs, "texts", pairs)
        lists = _rows_by_left(texts) if isinstance(groups, str) else _rows_by_offset(groups, len(texts))
        arrays = [_in_order(as_scorer(member)(texts), order) for member, order in zip(members, orders, strict=True)]
        return _combine(arrays, how, lists, shares)

    score.depends_on_list = how != "mean"  # type: ignore[attr-defined]  # a cache by shards must refuse that
    score.label_names = names  # type: ignore[attr-defined]
    return score


def _class_orders(members: Sequence[Any]) -> tuple[tuple[str, ...], list[list[int] | None]]:
    """Return the first classes that a member names, and each member's column order for them (None: as is)."""
    known = [names if len(names) > 1 else () for names in map(scorer_label_names, members)]
    first = next((member for member, names in enumerate(known) if names), 0)
    for member, names in enumerate(known):
        if names and sorted(names) != sorted(known[first]):
            ours, others = ", ".join(known[first]), ", ".join(names)
            raise ValueError(f"member {member} has the classes {others}, member {first} {ours}: not the same")
    orders = [None if names in ((), known[first]) else [names.index(name) for name in known[first]] for names in known]
    return known[first], orders


def _in_order(scores: Any, order: list[int] | None) -> np.ndarray:
    scores = np.asarray(scores)
    return reordered(scores, order) if order and scores.ndim == 2 and scores.shape[1] == len(order) else scores


def _combine(members: Sequence[Any], how: str, lists: list[np.ndarray], shares: np.ndarray) -> np.ndarray:
    arrays = [finite_numbers(scores, f"score of member {i}").astype(float) for i, scores in enumerate(members)]
    odd = next((i for i, scores in enumerate(arrays) if scores.shape != arrays[0].shape), None)
    if odd is not None:
        raise ValueError(f"member {odd} has scores of shape {arrays[odd].shape}, member 0 of {arrays[0].shape}")
    if arrays[0].ndim != 1 and how != "mean":
        raise ValueError(f"{how} takes one score per pair, these have shape {arrays[0].shape}; for classes use 'mean'")
    if how != "mean":
        change = _ranks if how == "rank_mean" else _standardised
        arrays = [_within(lists, scores, change) for scores in arrays]
    return np.tensordot(shares, np.stack(arrays), axes=1)


def _within(lists: list[np.ndarray], scores: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    result = np.empty(len(scores))
    for rows in lists:
        if len(rows):
            result[rows] = change(scores[rows])
    return result


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Return ranks from 0 to 1, `(K,)`; equal scores share the mean of their ranks."""
    if len(scores) == 1:
        return np.array([0.5])
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    return (below + (counts - 1) / 2)[place] / (len(scores) - 1)


def _standardised(scores: np.ndarray) -> np.ndarray:
    spread = scores.std()
    return (scores - scores.mean()) / spread if np.ptp(scores) > 0 and spread > 0 else np.zeros(len(scores))


def _rows_by_offset(groups: Any, count: int) -> list[np.ndarray]:
    offsets = np.array([0, count]) if groups is None else np.asarray(groups)
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or not len(offsets):
        raise ValueError(f"groups are the offsets of the lists, whole numbers (G + 1,); got {groups!r}")
    if offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
        raise ValueError(f"groups must rise from 0 to {count}, the number of scores; got {offsets[0]} to {offsets[-1]}")
    return np.split(np.arange(count), offsets[1:-1])


def _rows_by_left(texts: Sequence[tuple[str, str]]) -> list[np.ndarray]:
    rows: dict[str, list[int]] = {}
    for row, (left, _) in enumerate(texts):
        rows.setdefault(left, []).append(row)
    return [np.array(found) for found in rows.values()]


def _shares(weights: Sequence[float] | None, count: int) -> np.ndarray:
    """Scale the weights to a sum of 1."""
    shares = np.ones(count) if weights is None else np.asarray(weights, dtype=float)
    if shares.shape != (count,) or not np.isfinite(shares).all() or (shares < 0).any() or not shares.sum() > 0:
        raise ValueError(f"weights are {count} numbers, one per member, none negative and not all 0; got {weights!r}")
    return shares / shares.sum()
