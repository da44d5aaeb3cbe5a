"""Three pairs of two queries, and files that hold a teacher's scores of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crossenc_kit import Pairs

TEXTS = Pairs(["q one", "q one", "q two"], ["a", "b", "a"], np.array([1, 0, 1]), np.array([0, 2, 3]))
BY_ID = [("1", "7", 0.5), ("1", "8", -2.25), ("2", "7", 3.0)]
OTHERS = [("2", "9", 1.0), ("3", "7", 1.0)]  # that nobody asks for


@pytest.fixture
def texts():
    """Pairs without ids."""
    return TEXTS


@pytest.fixture
def ids():
    """The same pairs with ids of queries and documents."""
    tags = {"query_id": [1, 2], "document_ids": [[7, 8], [7]]}
    return Pairs(TEXTS.left, TEXTS.right, TEXTS.labels, TEXTS.offsets, tags)


@pytest.fixture
def scores():
    """(query id, document id, score) of the three pairs: 0.5, -2.25 and 3."""
    return BY_ID


@pytest.fixture
def json_lines(tmp_path):
    """Write rows as JSON Lines into a file of this name."""

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def by_id(json_lines):
    """Write scores by ids, in another order than the pairs, into a file of this name."""

    def write(name, rows=(*OTHERS, *BY_ID[::-1])):
        return json_lines(name, [{"query_id": int(q), "document_id": d, "score": s} for q, d, s in rows])

    return write


@pytest.fixture
def table(tmp_path):
    """Write lines into a file of this name."""

    def write(name, *lines):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write
