"""Which text of a pair loses tokens where both do not fit: two rules of Hugging Face's tokenizers.

Rules are functions of sizes: tokens `(N, 2)` of both texts without special tokens, and the room for them, in;
tokens kept `(N, 2)` out.
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


@dataclass(frozen=True)
class Template:
    """What a tokenizer puts around the texts of a pair: ids and segment ids of the three pieces.

    `[CLS] left [SEP] right [SEP]` is `before=[CLS]`, `between=[SEP]`, `after=[SEP]`; `segments` are
    the segment ids of before, left, between, right, after, or None where the model takes none.
    """

    before: np.ndarray
    between: np.ndarray
    after: np.ndarray
    segments: tuple[np.ndarray, int, np.ndarray, int, np.ndarray] | None

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


@dataclass(frozen=True)
class Tokens:
    """The token ids of N pairs, tokenised once per distinct text.

    `ids`: all texts end to end, text u at `starts[u]:starts[u + 1]`. `left`, `right`: `(N,)` text
    numbers. `kept`: `(N, 2)` tokens of each side after truncation. `lengths`: `(N,)` tokens of each
    pair, special tokens included. `dropped`: `(N,)` tokens that truncation cut off, at the end of a
    text or, with `cut_start`, at its start.
    """

    template: Template
    ids: np.ndarray
    starts: np.ndarray
    left: np.ndarray
    right: np.ndarray
    kept: np.ndarray
    lengths: np.ndarray
    dropped: np.ndarray
    cut_start: bool = False

    def __len__(self) -> int:
        return len(self.left)

    @property
    def num_truncated(self) -> int:
        """How many pairs lost at least one token."""
        return int(np.count_nonzero(self.dropped))

    def pair(self, row: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The token ids `(T,)` and segment ids `(T,)` (or None) of one pair."""
        left_size, right_size = self.kept[row]
        left, right = self._text(self.left[row], left_size), self._text(self.right[row], right_size)
        template = self.template
        ids = np.concatenate([template.before, left, template.between, right, template.after])
        if template.segments is None:
            return ids, None
        before, of_left, between, of_right, after = template.segments
        left_segments, right_segments = np.full(left_size, of_left), np.full(right_size, of_right)
        return ids, np.concatenate([before, left_segments, between, right_segments, after])

    def _text(self, text: int, size: int) -> np.ndarray:
        """The `size` tokens of a text that truncation left."""
        start = self.starts[text + 1] - size if self.cut_start else self.starts[text]
        return self.ids[start : start + size]


def tokenize(
    tokenizer: Any, pairs: Pairs | Sequence[tuple[str, str]], max_length: int, truncation: str = "longest_first"
) -> Tokens:
    """Tokenise N pairs, each distinct text once, truncated as Hugging Face's `longest_first` or `only_second`.

    Raises `DataError` naming row and side of a text that is not a string, or the row of a first text that leaves
    no room where only the second may be cut; `ValueError` where `max_length` leaves no room for a token of each text.
    """
    if isinstance(pairs, Pairs):
        left, right = pairs.left, pairs.right
    else:
        left, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    template = pair_template(tokenizer)
    if max_length < template.size + 2:
        raise ValueError(
            f"max_length={max_length} leaves no room for {template.size} special tokens and a token of each text"
        )
    numbers: dict[str, int] = {}
    left_of, right_of = _number(left, "left", numbers), _number(right, "right", numbers)
    ids, starts = _token_ids(tokenizer, list(numbers))
    sizes = np.diff(starts)
    full = np.stack([sizes[left_of], sizes[right_of]], axis=1)
    room = max_length - template.size
    if truncation == "only_second":
        _check_room(full, room, max_length)
    kept = RULES[truncation](full, room)
    lengths = kept.sum(axis=1) + template.size
    dropped = full.sum(axis=1) - kept.sum(axis=1)
    cut_start = getattr(tokenizer, "truncation_side", "right") == "left"
    return Tokens(template, ids, starts, left_of, right_of, kept, lengths, dropped, cut_start)


def _check_room(sizes: np.ndarray, room: int, max_length: int) -> None:
    """Raise `DataError` for the first pair whose first text leaves no token to the second."""
    rows = np.flatnonzero(without_room(sizes, room))
    if len(rows):
        raise DataError(
            f"row {rows[0]}: the first text has {sizes[rows[0], 0]} tokens, and max_length={max_length} has room for "
            f"{room} of a pair, so that cutting only the second is not enough ({len(rows)} of {len(sizes)} pairs); "
            'take a longer max_length, shorten the text, or use truncation="longest_first"'
        )


def _number(texts: Sequence[str], side: str, numbers: dict[str, int]) -> np.ndarray:
    """The number of each text, new texts being given the next free one."""
    found = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        if type(text) is not str:
            check_text(text, f"row {row}, {side} text")
        found[row] = numbers.setdefault(text, len(numbers))
    return found


def _token_ids(tokenizer: Any, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """All texts' token ids end to end, and where each starts `(U + 1,)`."""
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
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
    return (np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)), starts


def pair_template(tokenizer: Any) -> Template:
    """Find out what a tokenizer puts around a pair, by tokenising one: works for any tokenizer."""
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
    raise ValueError(f"the tokenizer's pair {ids} does not contain its own tokens {piece}; it cannot be used for pairs")


def one_or_more(name: str, value: int | None) -> int | None:
    """The value, where it is None or a count; raises `ValueError` for any other."""
    if value is not None and (not isinstance(value, Integral) or isinstance(value, bool) or value < 1):
        raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}; leave it out for the usual one")
    return value


def length_batches(lengths: np.ndarray, token_budget: int, max_rows: int | None = None) -> Iterator[np.ndarray]:
    """Row numbers sorted from long to short, cut so that rows x longest row stays within the budget.

    A row longer than the budget is a batch of its own; no batch has more than `max_rows`. Sorting puts
    rows of equal length together, which is what both the packed and the padded forward pass want.
    """
    one_or_more("token_budget", token_budget)
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"a batch has at least one row, got {max_rows} as the most")
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, token_budget // int(lengths[order[start]]))
        stop = start + (rows if max_rows is None else min(rows, max_rows))
        yield order[start:stop]
        start = stop


RULES = {"longest_first": longest_first, "only_second": only_second}
