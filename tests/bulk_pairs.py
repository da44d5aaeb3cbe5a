"""What the tests of bulk scoring score: ten pairs with ids, and models whose head counts as trained."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crossenc_kit import CrossEncoder

WORDS = ["a", "cat", "sleeps", "on", "the", "mat", "and", "one", "dog", "runs"]
PAIRS = [(" ".join(WORDS[: 1 + row % 9]), " ".join(WORDS[row % 7 : row % 7 + 3])) for row in range(10)]
ROWS = [{"id": 100 + row, "left": left, "right": right} for row, (left, right) in enumerate(PAIRS)]


def write_lines(path: Path, rows: Iterable[dict[str, Any]] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def saved_model(folder: Path, **options: Any) -> CrossEncoder:
    """The model of two layers, saved and loaded again."""
    CrossEncoder("tiny", seed=0, device="cpu", **options).save_pretrained(folder)
    return CrossEncoder(folder, device="cpu")
