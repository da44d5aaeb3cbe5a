"""Documents longer than a model reads: scored window by window, or cut, and what was cut counted.

A model reads `max_length` tokens of a pair. `CrossEncoder(truncation="only_second")` takes what is too much from the
document alone, never from the query; `chunked` reads all of the document in overlapping windows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossenc_kit.data.documents import check_not_blank
from crossenc_kit.data.pairs import Pairs, as_text_pairs
from crossenc_kit.errors import DataError
from crossenc_kit.models.tokens import RULES, tokenize, without_room
from crossenc_kit.scorers import Scorer, raw_scorer, score_pairs

AGGREGATES = ("max", "first", "mean_top_k")
WINDOW_WORDS = 150
WORD = re.compile(r"\S+")


def chunked(scorer: Scorer, **options: Any) -> Callable[[Any], np.ndarray]:
    """A scorer of long documents: `scorer` on their windows; `options` are those of `score_chunks`."""
    score_chunks(scorer, [], **options)  # options that cannot be used are told of now
    return lambda pairs: score_chunks(scorer, pairs, **options)


def score_chunks(
    scorer: Scorer,
    pairs: Any,
    *,
    size: int | None = None,
    stride: int | None = None,
    unit: str = "words",
    aggregate: str = "max",
    k: int = 3,
    tokenizer: Any = None,
) -> np.ndarray:
    """Scores `(N,)` of pairs whose second text is scored window by window against the first; of a model raw scores.

    A window is `size` words, the next begins `stride` words after it (default: half of `size`), up to the end of the
    text; `size` is 150 by default. `unit="tokens"` counts tokens of `tokenizer` (default: the scorer's) and cuts
    between words, within a word only where it alone exceeds `size`; the default `size` is what the scorer's
    `max_length` leaves beside the query, so that no window is cut.
    `aggregate`: the score of a document is its windows' "max" (MaxP), that of the "first" (FirstP, which scores no
    other), or the "mean_top_k", the mean of its `k` best; Dai and Callan, "Deeper Text Understanding for IR with
    Contextual Neural Language Modeling", 2019, with 150 words and a stride of 75. Raises `DataError` for empty texts
    and scores that are not finite or not one a pair.
    """
    _check_options(size, stride, unit, aggregate, k)
    texts = _texts(pairs)
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
    scores = score_pairs(raw_scorer(scorer), rows) if rows else np.zeros(0)
    if scores.ndim != 1:
        raise DataError(f"windows need one score each, the scorer gave scores of shape {scores.shape}")
    return _aggregate(scores, np.asarray(counts, dtype=np.int64), aggregate, k)


def windows(text: str, spans: np.ndarray, size: int, stride: int | None = None) -> list[str]:
    """Overlapping parts of a text, one at least, which together have all of it.

    `spans`: `(W, 3)` start and end of its words, and what each counts (1, or its tokens). A window takes words while
    they count at most `size`, one at least; the next begins `stride` after it, or at the word before that point
    (default: half of `size`), so that two windows have no less in common than asked for.
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
    """`(W, 3)`: start and end of each word (what stands between white space), and 1."""
    return np.array([(*match.span(), 1) for match in WORD.finditer(text)], dtype=np.int64).reshape(-1, 3)


def token_spans(text: str, tokenizer: Any, size: int) -> np.ndarray:
    """`(W, 3)`: start, end and tokens of each word; a word of more than `size` tokens is one row a token.

    A word starts with the white space before it, which some tokenizers make part of its first token.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    starts = np.array([start for start, _ in encoded["offset_mapping"]], dtype=np.int64)
    ends = word_spans(text)[:, 1]
    if not len(ends):
        return np.zeros((0, 3), dtype=np.int64)
    starts = starts[starts < ends[-1]]  # of white space at the end there may be tokens too
    word_of = np.searchsorted(ends, starts, side="right")
    first = np.searchsorted(word_of, np.arange(len(ends) + 1))  # tokens are in the order of the text
    rows: list[tuple[int, int, int]] = []
    begin = 0
    for word, end in enumerate(ends.tolist()):
        inside = starts[first[word] : first[word + 1]]
        if len(inside) <= size:
            rows.append((begin, end, len(inside)))
        else:
            cuts, counts = np.unique(inside, return_counts=True)  # tokens of one character, as bytes are, stay together
            edges = [begin, *cuts[1:].tolist(), end]
            rows += [(*edges[at : at + 2], int(count)) for at, count in enumerate(counts)]  # type: ignore[misc]
        begin = end
    return np.array(rows, dtype=np.int64)


def _texts(pairs: Any) -> list[tuple[str, str]]:
    given, _ = as_text_pairs(pairs)
    return given.texts if isinstance(given, Pairs) else given


def _check_options(size: int | None, stride: int | None, unit: str, aggregate: str, k: int) -> None:
    if unit not in ("words", "tokens"):
        raise ValueError(f"no unit {unit!r}; there is words and tokens")
    if aggregate not in AGGREGATES:
        raise ValueError(f"no aggregate {aggregate!r}; there is {', '.join(AGGREGATES)}")
    for name, value in (("size", size), ("stride", stride), ("k", k)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    most = WINDOW_WORDS if size is None and unit == "words" else size
    if most is not None and stride is not None and stride > most:
        raise ValueError(f"stride={stride} is more than size={most}: the {unit} between two windows would be lost")


def _measures(
    scorer: Any, texts: Sequence[tuple[str, str]], size: int | None, unit: str, tokenizer: Any
) -> tuple[dict[str, int], Callable[[str, int], np.ndarray]]:
    """The size of a window for each query, and the spans of a document for a size."""
    queries = dict.fromkeys(query for query, _ in texts)
    if unit == "words":
        return dict.fromkeys(queries, size or WINDOW_WORDS), lambda text, _: word_spans(text)
    tokenizer = tokenizer or getattr(scorer, "tokenizer", None)
    if tokenizer is None or not tokenizer.is_fast:
        raise ValueError("windows of tokens need a fast tokenizer (one that tells where tokens stand); give tokenizer=")
    if size is not None:
        return dict.fromkeys(queries, size), lambda text, most: token_spans(text, tokenizer, most)
    if not hasattr(scorer, "max_length"):
        raise ValueError("the scorer has no max_length that windows could fill; give size=, in tokens")
    tokens = tokenize(tokenizer, [(query, "") for query in queries], 10**9)
    room = scorer.max_length - tokens.lengths
    for query, left in zip(queries, room.tolist(), strict=True):
        if left < 1:
            raise DataError(
                f"max_length={scorer.max_length} leaves no room beside the query {query[:40]!r}; "
                "give size=, or shorten the query"
            )
    return dict(zip(queries, room.tolist(), strict=True)), lambda text, most: token_spans(text, tokenizer, most)


def _aggregate(scores: np.ndarray, counts: np.ndarray, aggregate: str, k: int) -> np.ndarray:
    """The scores `(N,)` of documents with `counts` windows each, from the scores of all windows end to end."""
    if not len(counts):
        return np.zeros(0)
    starts = np.cumsum(counts) - counts
    if aggregate == "mean_top_k":
        return np.array([np.sort(part)[::-1][:k].mean() for part in np.split(scores, starts[1:])])
    return np.maximum.reduceat(scores, starts)  # of one score each where only the first windows were scored


@dataclass(frozen=True, eq=False)
class TruncationReport:
    """What of N pairs a model does not read.

    `ids`: of each pair. `sizes`: `(N, 2)` tokens of both texts, without special tokens; `lost`: `(N, 2)` tokens of
    them that are cut off. `refused`: `(N,)` whether a pair's first text leaves no room where only the second may be
    cut, so that `predict` raises an error.
    """

    max_length: int
    truncation: str
    ids: Sequence[Hashable]
    sizes: np.ndarray
    lost: np.ndarray
    refused: np.ndarray

    @property
    def num_cut(self) -> int:
        """How many pairs lose at least one token."""
        return int(np.count_nonzero(self.lost.any(axis=1)))

    @property
    def tokens_lost(self) -> int:
        return int(self.lost.sum())

    @property
    def cut_ids(self) -> list[Hashable]:
        """The ids of the pairs that lose tokens, those that lose most first."""
        return [self.ids[row] for row in self._most_first()]

    def _most_first(self) -> np.ndarray:
        return np.argsort(-self.lost.sum(axis=1), kind="stable")[: self.num_cut]

    def __str__(self) -> str:
        count, tokens = len(self.ids), int(self.sizes.sum())
        lines = [f"{count:,} pairs, max_length={self.max_length}, truncation={self.truncation}"]
        if not self.num_cut:
            return f"{lines[0]}: none is cut"
        lines[0] += f": {self.num_cut:,} are cut ({self.num_cut / count:.1%})"
        lines.append(f"  {self.tokens_lost:,} of {tokens:,} tokens are lost ({self.tokens_lost / tokens:.1%})")
        for side, name in enumerate(("first", "second")):
            lost = self.lost[:, side]
            cut = np.count_nonzero(lost)
            lines.append(f"  {name} texts: {cut:,} cut, {lost.sum():,} tokens lost, of one at most {lost.max():,}")
        named = [f"{self.ids[row]!r} ({self.lost[row].sum():,})" for row in self._most_first()[:5]]
        lines.append(f"  most: {', '.join(named)}{', ...' if self.num_cut > 5 else ''}")
        if self.refused.any():
            lines.append(f"  {np.count_nonzero(self.refused):,} pairs are refused: the first text leaves no room")
        return "\n".join(lines)


def truncation_report(model: Any, pairs: Any, ids: Sequence[Hashable] | None = None) -> TruncationReport:
    """How many of N pairs a `CrossEncoder` cuts, where, by how much, and which; nothing is scored.

    `ids`: one of each pair, for example (query id, document id); default: row numbers. Raises `DataError` where there
    are not as many ids as pairs.
    """
    texts = _texts(pairs)
    if ids is not None and len(ids) != len(texts):
        raise DataError(f"{len(ids)} ids for {len(texts)} pairs; give one a pair")
    tokens = tokenize(model.tokenizer, texts, 10**9)
    sizes, room = tokens.kept, model.max_length - tokens.template.size
    kept = RULES[model.truncation](sizes, room)
    refused = without_room(sizes, room) & (model.truncation == "only_second")
    names = list(range(len(sizes))) if ids is None else list(ids)
    return TruncationReport(model.max_length, model.truncation, names, sizes, sizes - kept, refused)
