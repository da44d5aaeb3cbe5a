"""Which text of a pair loses tokens where both do not fit: two rules of Hugging Face's tokenizers.

Rules are functions of sizes: tokens `(N, 2)` of both texts without special tokens, and the room for them, in;
tokens kept `(N, 2)` out.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = "sentence_bert_config.json"  # where sentence-transformers keeps a model's rule


def longest_first(sizes: np.ndarray, room: int) -> np.ndarray:
    """How many tokens of each side `(N, 2)` are kept so that a pair has at most `room`.

    The longer side is cut first; where both exceed half of the room each gets half of it (the right
    or longer side the odd one): the rule `longest_first` of Hugging Face's tokenizers.
    """
    short, long = sizes.min(axis=1), sizes.max(axis=1)
    fits = short + long <= room
    new_long = np.maximum(short, room - short)
    halves = short + new_long > room
    new_short = np.where(halves, room // 2, short)
    new_long = np.where(halves, room - room // 2, new_long)
    new_short, new_long = np.where(fits, short, new_short), np.where(fits, long, new_long)
    left_is_long = sizes[:, 0] > sizes[:, 1]
    return np.stack([np.where(left_is_long, new_long, new_short), np.where(left_is_long, new_short, new_long)], axis=1)


def only_second(sizes: np.ndarray, room: int) -> np.ndarray:
    """How many tokens of each side `(N, 2)` are kept if only the second text is cut, never the first.

    Meant for queries, which are the first text, and documents. A pair `without_room` still exceeds `room`.
    """
    left, right = sizes.T
    return np.stack([left, np.clip(room - left, 0, right)], axis=1)


def without_room(sizes: np.ndarray, room: int) -> np.ndarray:
    """Whether a pair `(N,)` is too long and its first text leaves no token to the second, as Hugging Face counts."""
    return (sizes.sum(axis=1) > room) & (sizes[:, 0] >= room)


RULES = {"longest_first": longest_first, "only_second": only_second}


def find_rule(asked: str | None, saved: dict[str, Any] | None) -> str:
    """The rule `asked` for, else that of a model's saved `SETTINGS`, else `longest_first`.

    Raises `ValueError` for a rule that there is not; a saved one is replaced by `longest_first` with a warning.
    """
    if asked is not None:
        if asked not in RULES:
            raise ValueError(f"no truncation {asked!r}; there is {' and '.join(RULES)}")
        return asked
    settings = (saved or {}).get("processing_kwargs") or {}
    rule = {**(settings.get("common") or {}), **(settings.get("text") or {})}.get("truncation", True)
    if rule in RULES or rule is True:
        return "longest_first" if rule is True else rule
    names = ", ".join(RULES)
    warnings.warn(f"the model's saved truncation {rule!r} is not one of {names}; longest_first is used", stacklevel=3)
    return "longest_first"


def save_rule(folder: Path, rule: str) -> None:
    """Write a rule that is not the usual one into a model's folder, in the form of sentence-transformers.

    It reads that file only in folders that it wrote itself; elsewhere its `predict` takes the argument
    `processing_kwargs={"text": {"truncation": "only_second"}}`.
    """
    if rule != "longest_first":
        settings = {"processing_kwargs": {"text": {"truncation": rule}}}
        (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
