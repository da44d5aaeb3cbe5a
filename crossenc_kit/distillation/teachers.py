"""Teacher scores for distillation: computed once, kept on the disk, made into labels.

    scores = cached_scores(teacher, pairs, "cache", settings={"activation_fn": "identity"})
    student_data = with_teacher_scores(pairs, scores)

A teacher is any scorer, an `ensemble` of several too. Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural
Network", 2015; Hofstatter, Althammer, Schroder, Sertkan and Hanbury, "Improving Efficient Neural Ranking Models with
Cross-Architecture Knowledge Distillation", 2020.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.pairs import Pairs, as_pairs, reordered
from crossenc_kit.errors import DataError


def with_teacher_scores(pairs: Any, scores: ArrayLike, *, gold: bool = False, label_names: Sequence[str] = ()) -> Pairs:
    """The same pairs, groups and tags with the teacher's scores as labels, float32 `(N,)` or `(N, C)`.

    With `gold` the labels that the pairs have are kept in further columns, for losses that mix both: `(N, 2)` is
    [teacher, gold] for one score a pair, and `(N, C + 1)` the teacher's C scores and the gold class's index;
    gold labels `(N, C)` make it `(N, 2 C)`. `teacher_and_gold` takes the columns apart. `label_names`: the teacher's
    classes, `model.label_names`; the columns are put in the order of the data's own, which must be the same names. The
    result has the names where the teacher gave a score for each class. Raises `DataError` for scores that do not fit
    or are not finite, and for other classes; warns of lists whose passages all have one score, as those have that a
    sigmoid takes to 1.
    """
    pairs = as_pairs(pairs)
    with np.errstate(over="ignore"):  # an infinity is seen below
        taught = np.asarray(scores).astype(np.float32)
    taught = taught[:, 0] if taught.ndim == 2 and taught.shape[1] == 1 else taught
    if taught.ndim not in (1, 2) or len(taught) != pairs.num_pairs:
        raise DataError(f"the teacher's scores have shape {taught.shape} for {pairs.num_pairs} pairs")
    bad = np.flatnonzero(~np.isfinite(taught.reshape(len(taught), -1)).all(axis=1))
    if len(bad):
        what = f"pair {bad[0]}: the teacher's score is {np.asarray(scores)[bad[0]]}"
        raise DataError(f"{what}, in float32 {taught[bad[0]]} ({len(bad)} of {len(taught)} are not finite)")
    taught, names = _by_class(pairs, taught, tuple(label_names))
    if level := _level_lists(pairs, taught):
        warnings.warn(
            f"{level:,} of {len(pairs):,} lists have one and the same teacher score for all their passages, which says "
            'nothing of their order; raw scores stay apart: settings={"activation_fn": "identity"} of cached_scores',
            stacklevel=2,
        )
    note = f"labels are a teacher's scores, {taught.min():g} to {taught.max():g}" if taught.size else "no pairs"
    if gold:
        taught, note = np.column_stack([taught, _gold(pairs, taught)]), f"{note}, and gold labels after them"
    if pairs.label_names and not names:
        note += f"; the gold classes are {', '.join(pairs.label_names)}"
    return replace(pairs, labels=taught.astype(np.float32), notes=(*pairs.notes, note), label_names=names)


def _by_class(pairs: Pairs, taught: np.ndarray, theirs: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The scores with their columns in the order of the data's classes, and the names, where each has a column."""
    width, ours = taught.shape[1] if taught.ndim == 2 else 1, pairs.label_names
    if theirs and width != len(theirs):
        raise DataError(f"label_names has {len(theirs)} names ({', '.join(theirs)}), the scores {width} a pair")
    if theirs and ours and sorted(theirs) != sorted(ours):
        raise DataError(f"the teacher's classes are {', '.join(theirs)}, the data's {', '.join(ours)}: not the same")
    if theirs and ours:
        taught = reordered(taught, [theirs.index(name) for name in ours])
    names = ours or theirs
    return taught, names if taught.ndim == 2 and width == len(names) else ()


def _level_lists(pairs: Pairs, taught: np.ndarray) -> int:
    """How many groups of two candidates or more have no two different scores."""
    if taught.ndim > 1:
        return 0
    bounds = zip(pairs.offsets[:-1], pairs.offsets[1:], strict=True)
    return sum(bool(np.ptp(taught[start:end]) == 0) for start, end in bounds if end - start > 1)


def _gold(pairs: Pairs, taught: np.ndarray) -> np.ndarray:
    if pairs.labels is None:
        raise DataError("gold=True keeps the labels that the pairs have, and these have none")
    if pairs.labels.ndim == 2 and pairs.labels.shape[1] not in {1, *taught.shape[1:]}:
        raise DataError(f"the gold labels have shape {pairs.labels.shape}, the teacher's scores {taught.shape}")
    return pairs.labels
