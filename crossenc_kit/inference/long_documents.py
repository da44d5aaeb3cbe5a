"""Documents longer than a model reads: scored window by window, and what truncation cuts, counted.

A model reads `max_length` tokens of a pair. `CrossEncoder(truncation="only_second")` cuts the document
alone, never the query; `chunked` reads the whole document in overlapping windows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossenc_kit.data.documents import check_not_blank
from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.errors import DataError, some
from crossenc_kit.history import Report
from crossenc_kit.models.tokens import RULES, one_or_more, tokenize, without_room
from crossenc_kit.scorers import Scorer, raw_scorer, score_pairs

AGGREGATES = ("max", "first", "mean_top_k")
WINDOW_WORDS = 150  # as in Dai and Callan, 2019
WORD = re.compile(r"\S+")
UNLIMITED = 10**9  # tokens: cuts nothing


def chunked(
    scorer: Scorer,
    *,
    size: int | None = None,
    stride: int | None = None,
    unit: str = "words",
    aggregate: str = "max",
    k: int = 3,
    tokenizer: Any = None,
) -> Callable[[Any], np.ndarray]:
    """Make a scorer of long documents, `(N,)`: each window of the second text is scored with the first.

    size: of a window; default 150 words, or with unit="tokens" what `max_length` leaves beside the query
    stride: from one window to the next; default half of `size`
    unit: "tokens" counts those of `tokenizer` (default: the scorer's), and cuts between words
    aggregate: "max" (MaxP), "first" (FirstP, which scores no other window) or "mean_top_k", the mean of
        the `k` best; Dai and Callan, "Deeper Text Understanding for IR with Contextual Neural Language
        Modeling", 2019

    A model gives raw scores. Raises `DataError` for blank texts and scores that are not finite.
    """
    _check_options(size, stride, unit, aggregate, k)
    _measures(scorer, [], size, unit, tokenizer)  # a tokenizer that cannot be used is reported now

    def score(pairs: Any) -> np.ndarray:
        texts = as_pairs(pairs).texts
        for side, kind in enumerate(("query", "document")):
            check_not_blank(f"{kind} of pair", {row: pair[side] for row, pair in enumerate(texts)})
        size_for, spans_of = _measures(scorer, texts, size, unit, tokenizer)
        known: dict[tuple[str, int], list[str]] = {}
        rows: list[tuple[str, str]] = []
        counts = []
        for query, document in texts:
            key = document, size_for[query]
            if key not in known:
                known[key] = windows(document, spans_of(*key), key[1], stride)
            chosen = known[key][:1] if aggregate == "first" else known[key]
            rows += [(query, window) for window in chosen]
            counts.append(len(chosen))
        scores = score_pairs(raw_scorer(scorer), rows) if rows else np.zeros(0)  # (windows of all pairs,)
        if scores.ndim != 1:
            raise DataError(f"windows need one score each, the scorer gave scores of shape {scores.shape}")
        return _aggregate(scores, np.asarray(counts, dtype=np.int64), aggregate, k)

    return score


def windows(text: str, spans: np.ndarray, size: int, stride: int | None = None) -> list[str]:
    """Cut a text into overlapping windows, at least one, that together cover all of it.

    `spans` `(W, 3)`: start and end of each word, and its size (1, or its tokens). A window takes words up
    to `size`, at least one. The next begins `stride` later, or at the word before that point, so that
    two windows overlap by no less than asked for.
    """
    if not len(spans):
        return [text]
    stride = max(1, size // 2) if stride is None else stride
    sums = np.concatenate([[0], np.cumsum(spans[:, 2])])
    found: list[str] = []
    start = stop = 0
    while stop < len(spans):
        if found:
            following = int(np.searchsorted(sums, sums[start] + stride, side="right")) - 1
            start = min(max(following, start + 1), stop)
        stop = max(int(np.searchsorted(sums, sums[start] + size, side="right")) - 1, start + 1)
        found.append(text[spans[start, 0] : spans[stop - 1, 1]])
    return found


def word_spans(text: str) -> np.ndarray:
    """Return `(W, 3)`: start and end of each word (between white space), and 1."""
    return np.array([(*match.span(), 1) for match in WORD.finditer(text)], dtype=np.int64).reshape(-1, 3)


def token_spans(text: str, tokenizer: Any, size: int) -> np.ndarray:
    """Return `(W, 3)`: start, end and tokens of each word.

    A word starts with the white space before it, which some tokenizers make part of its first token.
    A word of more than `size` tokens gives a row per token.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    starts = np.array([start for start, _ in encoded["offset_mapping"]], dtype=np.int64)
    ends = word_spans(text)[:, 1]
    if not len(ends):
        return np.zeros((0, 3), dtype=np.int64)
    starts = starts[starts < ends[-1]]  # white space at the end may be tokens too
    word_of = np.searchsorted(ends, starts, side="right")
    first = np.searchsorted(word_of, np.arange(len(ends) + 1))  # tokens are in the order of the text
    rows: list[tuple[int, int, int]] = []
    begin = 0
    for word, end in enumerate(ends.tolist()):
        inside = starts[first[word] : first[word + 1]]
        if len(inside) <= size:
            rows.append((begin, end, len(inside)))
        else:
            cuts, counts = np.unique(inside, return_counts=True)  # the tokens (bytes) of one character stay together
            edges = [begin, *cuts[1:].tolist(), end]
            rows += [(*edges[at : at + 2], int(count)) for at, count in enumerate(counts)]  # type: ignore[misc]
        begin = end
    return np.array(rows, dtype=np.int64)


def _check_options(size: int | None, stride: int | None, unit: str, aggregate: str, k: int) -> None:
    if unit not in ("words", "tokens"):
        raise ValueError(f"unit is {unit!r}; expected words or tokens")
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate is {aggregate!r}; expected one of {', '.join(AGGREGATES)}")
    for name, value in {"size": size, "stride": stride, "k": k}.items():
        one_or_more(name, value)
    most = WINDOW_WORDS if size is None and unit == "words" else size
    if most is not None and stride is not None and stride > most:
        lost = f"the {unit} between two windows would be lost"
        raise ValueError(f"stride={stride} is more than size={most}: {lost}")


def _measures(
    scorer: Any, texts: Sequence[tuple[str, str]], size: int | None, unit: str, tokenizer: Any
) -> tuple[dict[str, int], Callable[[str, int], np.ndarray]]:
    """Return the window size for each query, and a function to the spans of a document for a size."""
    queries = dict.fromkeys(query for query, _ in texts)
    if unit == "words":
        return dict.fromkeys(queries, size or WINDOW_WORDS), lambda text, _: word_spans(text)
    tokenizer = tokenizer or getattr(scorer, "tokenizer", None)
    if tokenizer is None or not tokenizer.is_fast:
        raise ValueError("windows of tokens need a fast tokenizer (one that tells where tokens stand); give tokenizer=")
    if size is not None:
        return dict.fromkeys(queries, size), lambda text, most: token_spans(text, tokenizer, most)
    tokens = tokenize(tokenizer, [(query, "") for query in queries], UNLIMITED)
    room = scorer.max_length - tokens.lengths
    sizes = dict(zip(queries, room.tolist(), strict=True))
    if full := [query for query, left in sizes.items() if left < 1]:
        found = f"max_length={scorer.max_length} leaves no room beside the query {full[0][:40]!r}"
        raise DataError(f"{found}; give size=, or shorten the query")
    return sizes, lambda text, most: token_spans(text, tokenizer, most)


def _aggregate(scores: np.ndarray, counts: np.ndarray, aggregate: str, k: int) -> np.ndarray:
    """Join the scores of all windows, end to end, into `(N,)`; document n has `counts[n]` of them."""
    if not len(counts):
        return np.zeros(0)
    starts = np.cumsum(counts) - counts
    if aggregate == "mean_top_k":
        return np.array([np.sort(part)[::-1][:k].mean() for part in np.split(scores, starts[1:])])
    return np.maximum.reduceat(scores, starts)  # "first" scored one window each


@dataclass(frozen=True, eq=False)
class TruncationReport(Report):
    """The tokens of N pairs that a model does not read."""

    max_length: int
    truncation: str
    ids: Sequence[Hashable]  # one per pair
    sizes: np.ndarray  # (N, 2) tokens of both texts, without special tokens
    lost: np.ndarray  # (N, 2) tokens of them that are cut off
    refused: np.ndarray  # (N,) whether the query leaves the document no room, an error in `predict`

    @property
    def num_cut(self) -> int:
        """How many pairs lose at least one token."""
        return int(np.count_nonzero(self.lost.any(axis=1)))

    @property
    def tokens_lost(self) -> int:
        """How many tokens all pairs lose together."""
        return int(self.lost.sum())

    @property
    def cut_ids(self) -> list[Hashable]:
        """The ids of the pairs that lose tokens, those that lose most first."""
        order = np.argsort(-self.lost.sum(axis=1), kind="stable")[: self.num_cut]
        return [self.ids[row] for row in order]

    @property
    def metrics(self) -> dict[str, float]:
        """The share of pairs that are cut first."""
        count, tokens = max(1, len(self.ids)), max(1, int(self.sizes.sum()))
        shares = {"share_cut": self.num_cut / count, "share_of_tokens_lost": self.tokens_lost / tokens}
        return {**shares, "num_cut": self.num_cut, "tokens_lost": self.tokens_lost}

    def __str__(self) -> str:
        lines = [f"{len(self.ids):,} pairs, max_length={self.max_length}, truncation={self.truncation}"]
        if not self.num_cut:
            return f"{lines[0]}: none is cut"
        shares = self.metrics
        lines[0] += f": {self.num_cut:,} are cut ({shares['share_cut']:.1%})"
        tokens, share = int(self.sizes.sum()), shares["share_of_tokens_lost"]
        lines.append(f"  {self.tokens_lost:,} of {tokens:,} tokens are lost ({share:.1%})")
        for lost, name in zip(self.lost.T, ("first", "second"), strict=True):
            cut = np.count_nonzero(lost)
            lines.append(f"  {name} texts: {cut:,} cut, {lost.sum():,} tokens lost, {lost.max():,} at most")
        lines.append(f"  most: {some(self.cut_ids)}")
        if self.refused.any():
            refused = np.count_nonzero(self.refused)
            lines.append(f"  {refused:,} pairs are refused: the first text leaves no room")
        return "\n".join(lines)


def truncation_report(model: Any, pairs: Any, ids: Sequence[Hashable] | None = None) -> TruncationReport:
    """Count which of N pairs a `CrossEncoder` cuts, where and by how much; nothing is scored.

    ids: one per pair, for example (query id, document id); default: row numbers
    """
    texts = as_pairs(pairs).texts
    if ids is not None and len(ids) != len(texts):
        raise DataError(f"{len(ids)} ids for {len(texts)} pairs; give one per pair")
    tokens = tokenize(model.tokenizer, texts, UNLIMITED)
    sizes, room = tokens.kept, model.max_length - tokens.template.size
    kept = RULES[model.truncation](sizes, room)
    refused = without_room(sizes, room) & (model.truncation == "only_second")
    names = list(range(len(sizes))) if ids is None else list(ids)
    return TruncationReport(model.max_length, model.truncation, names, sizes, sizes - kept, refused)
