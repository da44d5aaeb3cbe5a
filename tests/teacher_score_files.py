"""Three pairs of two queries, and files that hold a teacher's scores of them."""

from __future__ import annotations

import json

import numpy as np

from crossenc_kit import Pairs

TEXTS = Pairs(["q one", "q one", "q two"], ["a", "b", "a"], np.array([1, 0, 1]), np.array([0, 2, 3]))
IDS = Pairs(TEXTS.left, TEXTS.right, TEXTS.labels, TEXTS.offsets, {"query_id": [1, 2], "document_ids": [[7, 8], [7]]})
BY_ID = [("1", "7", 0.5), ("1", "8", -2.25), ("2", "7", 3.0)]
OTHERS = [("2", "9", 1.0), ("3", "7", 1.0)]  # that nobody asks for


def json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def by_id(path, rows=(*OTHERS, *BY_ID[::-1])):
    return json_lines(path, [{"query_id": int(q), "document_id": d, "score": s} for q, d, s in rows])
