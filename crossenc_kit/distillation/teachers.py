"""Teacher scores for distillation: computed once, kept on the disk, made into labels.

    scores = cached_scores(teacher, pairs, "cache", settings={"activation_fn": "identity"})
    student_data = with_teacher_scores(pairs, scores)

A teacher is any scorer, also an `ensemble`. Hinton, Vinyals and Dean, "Distilling the Knowledge in a
Neural Network", 2015; Hofstatter, Althammer, Schroder, Sertkan and Hanbury, "Improving Efficient Neural
Ranking Models with Cross-Architecture Knowledge Distillation", 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.pairs import Pairs, as_pairs, reordered
from crossenc_kit.errors import DataError
from crossenc_kit.scorers import check_finite, warn_at_call


def with_teacher_scores(pairs: Any, scores: ArrayLike, *, gold: bool = False, label_names: Sequence[str] = ()) -> Pairs:
    """Label the same pairs with a teacher's scores, float32 `(N,)` or `(N, C)`.

    gold: keep the pairs' labels in further columns, for losses that mix both: `(N, 2)` is [teacher, gold],
        `(N, C + 1)` has the gold class's index last, and gold labels `(N, C)` give `(N, 2 C)`
    label_names: the teacher's classes; its columns take the order of the data's own

    Raises `DataError` for scores that do not fit or are not finite, and for other classes. Warns about
    lists in which all documents have one score, as after a saturated sigmoid.
    """
    pairs = as_pairs(pairs)
    with np.errstate(over="ignore"):  # what overflows float32 is not finite below
        taught = np.asarray(scores).astype(np.float32)
    taught = taught[:, 0] if taught.ndim == 2 and taught.shape[1] == 1 else taught
    if taught.ndim not in (1, 2) or len(taught) != pairs.num_pairs:
        raise DataError(f"the teacher's scores have shape {taught.shape} for {pairs.num_pairs} pairs")
    check_finite(taught, lambda row: f"pair {row} ({np.asarray(scores)[row]} before float32)", "the teacher")
    taught, names = _by_class(pairs, taught, tuple(label_names))
    if level := _level_lists(pairs, taught):
        warn_at_call(
            f"in {level:,} of {len(pairs):,} lists all documents have the same teacher score, which says nothing "
            'about their order; raw scores differ: settings={"activation_fn": "identity"} of cached_scores'
        )
    note = f"labels are a teacher's scores, {taught.min():g} to {taught.max():g}" if taught.size else "no pairs"
    if gold:
        taught, note = np.column_stack([taught, _gold(pairs, taught)]), f"{note}, and gold labels after them"
    if pairs.label_names and not names:
        note += f"; the gold classes are {', '.join(pairs.label_names)}"
    return replace(pairs, labels=taught.astype(np.float32), notes=(*pairs.notes, note), label_names=names)


def _by_class(pairs: Pairs, taught: np.ndarray, theirs: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Put the columns in the order of the data's classes; return the names too, if each has a column."""
    width, ours = taught.shape[1] if taught.ndim == 2 else 1, pairs.label_names
    if theirs and width != len(theirs):
        raise DataError(f"label_names has {len(theirs)} names ({', '.join(theirs)}), the scores have {width} per pair")
    if theirs and ours and sorted(theirs) != sorted(ours):
        raise DataError(f"the teacher's classes are {', '.join(theirs)}, the data's {', '.join(ours)}: not the same")
    if theirs and ours:
        taught = reordered(taught, [theirs.index(name) for name in ours])
    names = ours or theirs
    return taught, names if taught.ndim == 2 and width == len(names) else ()


def _level_lists(pairs: Pairs, taught: np.ndarray) -> int:
    """Count the groups of two or more candidates that all have the same score."""
    if taught.ndim > 1:
        return 0
    bounds = zip(pairs.offsets[:-1], pairs.offsets[1:], strict=True)
    return sum(bool(np.ptp(taught[start:end]) == 0) for start, end in bounds if end - start > 1)


def _gold(pairs: Pairs, taught: np.ndarray) -> np.ndarray:
    if pairs.labels is None:
        raise DataError("gold=True keeps the pairs' own labels, and these pairs have none")
    if pairs.labels.ndim == 2 and pairs.labels.shape[1] not in {1, *taught.shape[1:]}:
        raise DataError(f"the gold labels have shape {pairs.labels.shape}, the teacher's scores {taught.shape}")
    return pairs.labels
