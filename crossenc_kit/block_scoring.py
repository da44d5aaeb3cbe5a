"""Pairs scored block by block: memory for one block, and scores that do not depend on what else is scored."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossenc_kit.activations import find_activation
from crossenc_kit.batches import one_or_more
from crossenc_kit.model import CrossEncoder, TruncationWarning
from crossenc_kit.pairs import DataError, check_text
from crossenc_kit.ranking import check_finite
from crossenc_kit.teachers import teacher_fingerprint

NOT_FINITE = "; its weights hold a NaN or overflow in 16 bits: train it anew, or load it in float32"
CPU_ROWS, GPU_ROWS = 2048, 16384  # rows of a block: dozens of batches on a CPU, a few large ones on a GPU


def score_pairs(model: Any, pairs: Iterable[Any], **settings: Any) -> Iterator[Any]:
    """Yield the score of each pair, in order, while `pairs` (any iterable, a generator too) is read in blocks.

    `model`: a `CrossEncoder`, a folder or a hub name. A pair is two texts, or has them as `texts`. A score is a float,
    or an array `(C,)` of a model with several classes. `settings`: `batch_size`, `threads`, `activation_fn`, `device`
    of `bulk.score_file`. Raises `DataError` naming the pair that is none, or whose score is not finite.
    """
    scorer = load_scorer(model, **settings)

    def scores() -> Iterator[Any]:
        numbered = enumerate(pairs)
        while block := list(itertools.islice(numbered, scorer.block_rows)):
            found, _ = scorer.score([_texts(pair, number) for number, pair in block], "pair {}".format, block[0][0])
            yield from (found.tolist() if found.ndim == 1 else found)

    return scores()


def _texts(pair: Any, number: int) -> tuple[str, str]:
    texts = getattr(pair, "texts", pair)
    if not isinstance(texts, (tuple, list)) or len(texts) != 2:
        raise DataError(f"pair {number}: expected two texts, got {type(texts).__name__} {str(texts)[:40]!r}")
    left, right = (check_text(text, f"pair {number}, text {side}") for side, text in enumerate(texts))
    return left, right


@dataclass(frozen=True)
class BlockScorer:
    """A model, and how it scores the `block_rows` pairs of a block."""

    model: CrossEncoder
    batch_size: int | None
    threads: int | None
    activation: Callable
    softmax: bool
    block_rows: int

    def score(
        self, texts: Sequence[tuple[str, str]], where: Callable[[int], str], start: int
    ) -> tuple[np.ndarray, int]:
        """The scores `(B,)` or `(B, C)`, float32, and how many pairs were cut at `max_length`.

        Raises `DataError` for a score that is not finite: `where(start + k)` says where the pair k stands.
        """
        with warnings.catch_warnings(), one_core_a_thread(self.threads) as threads:
            warnings.simplefilter("ignore", TruncationWarning)  # both are told once, of all blocks
            warnings.filterwarnings("ignore", "the head of .* is new and untrained")
            scores = self.model.predict(
                texts,
                batch_size=self.batch_size,
                show_progress_bar=False,
                activation_fn=self.activation,
                apply_softmax=self.softmax,
                threads=threads,
            )
        check_finite(scores, lambda row: where(start + row), f"the model {self.model.name!r}", NOT_FINITE)
        return scores, self.model.truncated

    def labels(self, scores: np.ndarray) -> list | None:
        """The name (or index) of each pair's best class; None where there is one score a pair."""
        if scores.ndim == 1:
            return None
        names = self.model.label_names or range(self.model.num_labels)
        return [names[best] for best in scores.argmax(axis=1)]

    def plan(self) -> dict[str, Any]:
        """What the scores depend on, to their last bit on one kind of machine.

        Raises `ValueError` for an activation that is not torch's: it cannot be told from another one.
        """
        for activation in (self.activation, self.model.activation_fn):
            if not type(activation).__module__.startswith("torch."):
                raise ValueError(
                    f"the activation {activation!r} is your own, and a job that goes on could not tell it from another "
                    "one; use one of torch.nn, or write raw scores (identity) and apply it to those"
                )
        model = {"sha256": teacher_fingerprint(self.model), "max_length": self.model.max_length}
        name = "softmax" if self.softmax else repr(self.activation)
        settings = {"activation": name, "batch_size": self.batch_size, "block_rows": self.block_rows}
        return {"model": model, **settings, "device": self.model.device.type}


def load_scorer(
    model: Any,
    *,
    batch_size: int | None = None,
    threads: int | None = None,
    activation_fn: Callable | str | None = None,
    device: Any = None,
) -> BlockScorer:
    """A `BlockScorer` of a `CrossEncoder`, a folder or a hub name; under torchrun each process takes its own GPU.

    A new head is drawn from seed 0, the same one in each process and at each start.
    """
    if isinstance(model, CrossEncoder) and device is not None:
        raise ValueError("device is for a model given by its name; move this one with model.to(device)")
    one_or_more("batch_size", batch_size), one_or_more("threads", threads)
    softmax = activation_fn == "softmax"
    chosen = _activation("identity" if softmax else activation_fn)
    if not isinstance(model, CrossEncoder):
        model = CrossEncoder(model, device=device or _own_gpu(), seed=0)
    if softmax and model.num_labels == 1:
        raise ValueError("softmax is over several classes, and this model gives one score a pair; use sigmoid")
    if model.untrained_head:
        warnings.warn(f"the head of {model.name!r} is new and untrained: its scores mean nothing yet", stacklevel=4)
    rows = CPU_ROWS if model.device.type == "cpu" else GPU_ROWS
    return BlockScorer(model, batch_size, threads, chosen or model.activation_fn, softmax, rows)


def _activation(choice: Callable | str | None) -> Callable | None:
    try:
        return find_activation(choice)
    except ValueError as error:
        raise ValueError(f"{error}; over several classes also 'softmax'") from None


def _own_gpu() -> str | None:
    import torch

    local = int(os.environ.get("LOCAL_RANK", "0"))
    return f"cuda:{local % torch.cuda.device_count()}" if torch.cuda.is_available() else None


@contextmanager
def one_core_a_thread(threads: int | None) -> Iterator[int]:
    """How many worker threads to use, each on one core: sums depend on how many cores share a product."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)
