"""A table of pairs and groups, small enough to be written down."""

from __future__ import annotations

import numpy as np

from crossenc_kit.data.pairs import Pairs


def table():
    """Four examples: groups of 1, 3, 1 and 2 pairs, labelled 0 to 6 in order."""
    left = ["a", "q", "q", "q", "b", "r", "r"]
    right = [f"d{i}" for i in range(7)]
    return Pairs(
        left, right, np.arange(7.0, dtype=np.float32), np.array([0, 1, 4, 5, 7]), {"id": list("wxyz")}, ("note",)
    )


def labelled(labels):
    """Pairs with the given labels."""
    texts = [f"text {row}" for row in range(len(labels))]
    return Pairs(texts, texts, np.asarray(labels))
