"""Texts become token ids: each distinct text once, pairs truncated by a rule, batches by length.

A truncation rule is a function of sizes. It takes the tokens `(N, 2)` of both texts without special
tokens and the room for them, and returns how many are kept `(N, 2)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import Pairs, check_text
from crossenc_kit.errors import DataError

TOKENIZE_AT_ONCE = 2048  # texts per call of the tokenizer: bounds memory, keeps its threads busy


def longest_first(sizes: np.ndarray, room: int) -> np.ndarray:
    """Cut the longer side of each pair first, as Hugging Face's `longest_first` does.

    If both sides exceed half of the room, each gets half of it; the longer one, or the right of two
    equal ones, gets the odd token.
    """
    short, long = sizes.min(axis=1), sizes.max(axis=1)
    fits = short + long <= room
    new_long = np.maximum(short, room - short)
    halves = short + new_long > room
    new_short = np.where(halves, room // 2, short)
    new_long = np.where(halves, room - room // 2, new_long)
    new_short, new_long = np.where(fits, short, new_short), np.where(fits, long, new_long)
    left_is_long = sizes[:, 0] > sizes[:, 1]
    left = np.where(left_is_long, new_long, new_short)
    right = np.where(left_is_long, new_short, new_long)
    return np.stack([left, right], axis=1)  # (N, 2)


def only_second(sizes: np.ndarray, room: int) -> np.ndarray:
    """Cut only the second text, so that a query keeps all of its tokens.

    A pair `without_room` still exceeds `room`.
    """
    left, right = sizes.T
    return np.stack([left, np.clip(room - left, 0, right)], axis=1)


def without_room(sizes: np.ndarray, room: int) -> np.ndarray:
    """Mark `(N,)` the pairs that are too long and whose first text leaves the second no token."""
    return (sizes.sum(axis=1) > room) & (sizes[:, 0] >= room)


RULES = {"longest_first": longest_first, "only_second": only_second}


@dataclass(frozen=True)
class Template:
    """What a tokenizer puts around the texts of a pair, as token ids.

    `[CLS] left [SEP] right [SEP]` is `before=[CLS]`, `between=[SEP]`, `after=[SEP]`.
    """

    before: np.ndarray
    between: np.ndarray
    after: np.ndarray
    # segment ids of before, left, between, right, after; None if the model takes none
    segments: tuple[np.ndarray, int, np.ndarray, int, np.ndarray] | None

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


@dataclass(frozen=True)
class Tokens:
    """The token ids of N pairs, tokenised once per distinct text."""

    template: Template
    ids: np.ndarray  # all texts end to end: text u is ids[starts[u]:starts[u + 1]]
    starts: np.ndarray  # (U + 1,) for U distinct texts
    left: np.ndarray  # (N,) which text is on the left
    right: np.ndarray  # (N,) which text is on the right
    kept: np.ndarray  # (N, 2) tokens of each side after truncation
    lengths: np.ndarray  # (N,) tokens of each pair, special tokens included
    dropped: np.ndarray  # (N,) tokens of each pair that truncation cut
    cut_start: bool = False  # cut a text at its start, not at its end

    def __len__(self) -> int:
        return len(self.left)

    @property
    def num_truncated(self) -> int:
        """Count the pairs that lost at least one token."""
        return int(np.count_nonzero(self.dropped))

    def pair(self, row: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the token ids `(T,)` and segment ids `(T,)` (or None) of one pair."""
        left_size, right_size = self.kept[row]
        left = self._text(self.left[row], left_size)
        right = self._text(self.right[row], right_size)
        template = self.template
        ids = np.concatenate([template.before, left, template.between, right, template.after])
        if template.segments is None:
            return ids, None
        before, of_left, between, of_right, after = template.segments
        left_segments, right_segments = np.full(left_size, of_left), np.full(right_size, of_right)
        return ids, np.concatenate([before, left_segments, between, right_segments, after])

    def _text(self, text: int, size: int) -> np.ndarray:
        """Return the `size` tokens of a text that truncation left."""
        start = self.starts[text + 1] - size if self.cut_start else self.starts[text]
        return self.ids[start : start + size]


def tokenize(
    tokenizer: Any,
    pairs: Pairs | Sequence[tuple[str, str]],
    max_length: int,
    truncation: str = "longest_first",
) -> Tokens:
    """Tokenise N pairs, each distinct text once.

    Raises `DataError` naming the row if a text is not a string, or if the first text alone is too
    long and only the second may be cut. Raises `ValueError` if `max_length` has no room for a
    token of each text.
    """
    if isinstance(pairs, Pairs):
        left, right = pairs.left, pairs.right
    else:
        left, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    template = pair_template(tokenizer)
    room = max_length - template.size
    if room < 2:
        raise ValueError(
            f"max_length={max_length} leaves no room for {template.size} special tokens and a token of each text"
        )
    numbers: dict[str, int] = {}
    left_of, right_of = _number(left, "left", numbers), _number(right, "right", numbers)
    ids, starts = _token_ids(tokenizer, list(numbers))
    sizes = np.diff(starts)  # (U,)
    full = np.stack([sizes[left_of], sizes[right_of]], axis=1)  # (N, 2)
    refused = np.flatnonzero(without_room(full, room) & (truncation == "only_second"))
    if len(refused):
        raise DataError(
            f"row {refused[0]}: the first text has {full[refused[0], 0]} tokens, but max_length={max_length} "
            f"has room for {room} in a pair, so cutting only the second text is not enough "
            f"({len(refused)} of {len(full)} pairs); raise max_length, shorten the text, "
            'or use truncation="longest_first"'
        )
    kept = RULES[truncation](full, room)
    lengths = kept.sum(axis=1) + template.size
    dropped = full.sum(axis=1) - kept.sum(axis=1)
    cut_start = getattr(tokenizer, "truncation_side", "right") == "left"
    return Tokens(template, ids, starts, left_of, right_of, kept, lengths, dropped, cut_start)


def _number(texts: Sequence[str], side: str, numbers: dict[str, int]) -> np.ndarray:
    """Number the texts `(N,)`: equal texts get the same number, a new one the next."""
    found = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        if type(text) is not str:
            check_text(text, f"row {row}, {side} text")
        found[row] = numbers.setdefault(text, len(numbers))
    return found


def _token_ids(tokenizer: Any, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return all texts' token ids end to end, and where each starts `(U + 1,)`."""
    rows: list[np.ndarray] = []
    for start in range(0, len(texts), TOKENIZE_AT_ONCE):
        encoded = tokenizer(
            texts[start : start + TOKENIZE_AT_ONCE],
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        rows += [np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"]]
    starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return (np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)), starts


def pair_template(tokenizer: Any) -> Template:
    """Find out what a tokenizer puts around a pair by tokenising one; works for any tokenizer."""
    takes_segments = "token_type_ids" in tokenizer.model_input_names
    encoded = tokenizer("a", "b", return_token_type_ids=takes_segments, return_attention_mask=False)
    ids = list(encoded["input_ids"])
    a, b = (list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in "ab")
    at_a = _find(ids, a, 0)
    at_b = _find(ids, b, at_a + len(a))
    cuts = [slice(0, at_a), slice(at_a + len(a), at_b), slice(at_b + len(b), None)]
    before, between, after = (np.asarray(ids[cut], dtype=np.int32) for cut in cuts)
    segments = None
    if takes_segments:
        kinds = np.asarray(encoded["token_type_ids"], dtype=np.int64)
        segments = (kinds[cuts[0]], int(kinds[at_a]), kinds[cuts[1]], int(kinds[at_b]), kinds[cuts[2]])
    return Template(before, between, after, segments)


def _find(ids: list[int], piece: list[int], start: int) -> int:
    for at in range(start, len(ids) - len(piece) + 1):
        if ids[at : at + len(piece)] == piece:
            return at
    raise ValueError(f"the tokenizer cannot be used for pairs: its pair {ids} does not contain its own tokens {piece}")


def one_or_more(name: str, value: int | None) -> int | None:
    """Return None or a count as it is; raises `ValueError` for anything else."""
    if value is None or (isinstance(value, Integral) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}; leave it out for the usual one")


def length_batches(lengths: np.ndarray, token_budget: int, max_rows: int | None = None) -> Iterator[np.ndarray]:
    """Cut rows, sorted from long to short, into batches of rows x longest row <= `token_budget`.

    A row longer than the budget is a batch of its own. Sorting puts rows of equal length together,
    which suits both the packed and the padded forward pass.
    """
    one_or_more("token_budget", token_budget)
    one_or_more("batch_size", max_rows)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, token_budget // int(lengths[order[start]]))
        stop = start + (rows if max_rows is None else min(rows, max_rows))
        yield order[start:stop]
        start = stop
