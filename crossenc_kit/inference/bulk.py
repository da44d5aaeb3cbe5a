"""Bulk scoring: a file of any size, with the memory of one shard.

    score_file("my-model", "pairs.jsonl.gz", "scores/", keep=["id"])
    torchrun --nproc_per_node 2 -m crossenc_kit score my-model pairs.jsonl.gz --output scores/

Rows are tokenised and scored block by block. A shard is always cut into the same blocks, so its
scores have the same bits whatever else the job scores, and a killed job continues with the missing
shards. Process r of W takes the shards k with k % W == r; the processes do not talk to each other.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.data.pair_files import Block, PairFile, check_pairs, read_blocks
from crossenc_kit.errors import TruncationWarning
from crossenc_kit.files import dumps, write_jsonl
from crossenc_kit.history import Report
from crossenc_kit.inference.score_store import Shards, is_written_there, score_column, shard_names
from crossenc_kit.jobs import lock
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.settings import find_activation
from crossenc_kit.models.tokens import one_or_more
from crossenc_kit.scorers import check_activation, check_finite, fingerprint, warn_at_call

SHARD_SIZE = 16384  # rows: a killed job loses at most this many scores
CPU_ROWS = 2048  # rows per block: dozens of batches
GPU_ROWS = 16384  # a few large batches
PAUSE = 2.0  # seconds between two updates of the progress bar: short enough to watch, and for a log
ADVICE = "; its weights hold a NaN or overflow in 16 bits: train it anew, or load it in float32"


@dataclass(frozen=True)
class ScoredFile(Report):
    """What one call of `score_file` did."""

    output: Path
    rows: int  # of the whole input
    scored: int  # by this call; the others were there already, or belong to other processes
    seconds: float
    shards: int = 0  # of the whole job; 0 for a file of lines

    @property
    def metrics(self) -> dict[str, float]:
        """Pairs per second first."""
        rate = self.scored / max(self.seconds, 1e-9)
        return {"pairs_per_second": rate, "scored": self.scored, "rows": self.rows}

    def __str__(self) -> str:
        speed = f"{self.metrics['pairs_per_second']:,.1f} pairs/s"
        shards = f"{self.shards} shards " if self.shards else ""
        return f"{self.scored:,} of {self.rows:,} pairs scored now, {speed}; {shards}in {self.output}"


def score_file(
    model: Any,
    path: str | os.PathLike,
    output: str | os.PathLike,
    *,
    columns: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    shards: bool = False,
    shard_size: int | None = None,
    encoding: str = "utf-8",
    progress: bool = True,
    **settings: Any,
) -> ScoredFile:
    """Score the pairs of a file (JSON Lines, TSV, CSV, gzipped or not; parquet).

    Writes `row` (from 0), `score`, `label` for several classes, and the columns `keep`. A killed
    job continues when it is run again; another input, model or setting is refused.

    output: a folder of parquet shards if it ends with / or exists, or if `shards` or `shard_size`
        (rows per shard, 16,384) is given; otherwise a file of JSON Lines
    columns: the two texts, by default found as in `read_pairs`
    settings: `batch_size`, `threads`, `activation_fn` (or "softmax"), `device` (for a model's name)

    Raises `DataError` naming a row that cannot be used or whose score is not finite,
    `CheckpointError` if the folder's job differs, `ValueError` if the input would be overwritten.
    """
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    began = time.monotonic()
    as_folder = shards or shard_size is not None or str(output).endswith(("/", os.sep))
    path, folder, size = Path(path), Path(output), one_or_more("shard_size", shard_size) or SHARD_SIZE
    if not as_folder and not folder.is_dir():
        _check_lines(path, folder, count)
        file, scorer = _prepare(model, path, columns, keep, encoding, settings)
        write_jsonl(output, score_rows(scorer, file, progress))
        return ScoredFile(folder, file.rows, file.rows, time.monotonic() - began)
    path.stat()  # no folder is made for a file that is not there
    if is_written_there(folder, path):
        raise ValueError(f"the input {path} lies where the shards of {folder} are written; choose another folder")
    with lock(folder if rank == 0 else folder / ".ranks" / str(rank)):
        file, scorer = _prepare(model, path, columns, keep, encoding, settings)
        names = shard_names(-(-file.rows // size))
        there = Shards(folder, {"input": file.plan(), **scorer.plan(), "shard_size": size})
        labels = list(scorer.model.label_names)
        there.begin(rows=file.rows, shard_size=size, shards=len(names), label_names=labels)
        own = {number: name for number, name in enumerate(names) if number % count == rank}
        scored = _score_shards(scorer, file, there, own, size, progress)
        _warn_of_cut(there.truncated(), file.rows, scorer)
        return ScoredFile(folder, file.rows, scored, time.monotonic() - began, len(names))


def _check_lines(path: Path, output: Path, processes: int) -> None:
    """Raise `ValueError` if the scores cannot be written to one file of JSON Lines."""
    if processes > 1:
        raise ValueError(f"{processes} processes write a shard each: name a folder as output, such as scores/")
    if {".csv", ".tsv", ".parquet"} & set(output.suffixes):
        raise ValueError(f"{output}: scores are written as JSON Lines or, in a folder/, as parquet")
    if output.exists() and path.samefile(output):
        raise ValueError(f"the scores would be written over the input {path}; name another output")


def _prepare(
    model: Any, path: Any, columns: Any, keep: Sequence[str], encoding: str, settings: dict[str, Any]
) -> tuple[PairFile, BlockScorer]:
    """Check the input, and only then load the model, which takes longer."""
    file = check_pairs(path, columns, keep, encoding)
    scorer = load_scorer(model, **settings)
    written = {"row", "score"} if scorer.model.num_labels == 1 else {"row", "score", "label"}
    if taken := written.intersection(keep):
        column = f"the column {min(taken)!r} of {path}"
        raise ValueError(f"cannot keep {column}: the scores use that name; rename it")
    return file, scorer


def score_rows(scorer: BlockScorer, file: PairFile, progress: bool) -> Iterator[dict[str, Any]]:
    """Yield for each pair its `row`, the kept columns, `score`, and `label` for several classes."""
    total = 0
    with _bar(file.rows, progress) as bar:
        for _, block in read_blocks(file, scorer.block_rows, range(-(-file.rows // scorer.block_rows))):
            scores, cut = scorer.score(block.texts, file.path, block.start)
            total += cut
            bar.update(len(scores))
            columns = _columns(scorer, block, scores)
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))
    _warn_of_cut(total, file.rows, scorer)


def _score_shards(
    scorer: BlockScorer, file: PairFile, there: Shards, names: dict[int, str], size: int, progress: bool
) -> int:
    """Score and write the missing shards `{number: name}`; return how many rows they have."""
    rows = {number: min(size, file.rows - number * size) for number in names}
    missing = [number for number, name in names.items() if not there.is_whole(name)]
    scored = sum(rows[number] for number in missing)
    with _bar(sum(rows.values()), progress, sum(rows.values()) - scored) as bar:
        for number, block in read_blocks(file, size, missing):
            parts, cut = [], 0
            for start in range(0, len(block.texts), scorer.block_rows):
                texts = block.texts[start : start + scorer.block_rows]
                found, cut_here = scorer.score(texts, file.path, block.start + start)
                parts.append(found)
                cut += cut_here
                bar.update(len(found))
            scores = np.concatenate(parts)  # (rows,) or (rows, C)
            columns = {name: (values, None) for name, values in _columns(scorer, block, scores).items()}
            columns |= {name: (values, file.column_type(name)) for name, values in block.kept.items()}
            columns["score"] = score_column(scores)
            there.write(names[number], columns, rows=len(scores), truncated=cut)
    return scored


def _columns(scorer: BlockScorer, block: Block, scores: np.ndarray) -> dict[str, Any]:
    """Lay out the rows of a block as columns of values, in the order in which they are written."""
    columns = {"row": np.arange(block.start, block.start + len(scores)), **block.kept, "score": scores}
    labels = scorer.labels(scores)
    return columns if labels is None else {**columns, "label": labels}


def _bar(total: int, shown: bool, done: int = 0) -> Any:
    from tqdm import tqdm

    options: dict[str, Any] = {"mininterval": PAUSE, "delay": PAUSE, "disable": not shown}
    return tqdm(total=total, initial=done, unit="pair", desc="scoring", **options)


def _warn_of_cut(cut: int, rows: int, scorer: BlockScorer) -> None:
    if cut:
        limit = f"max_length={scorer.model.max_length} tokens"
        warn_at_call(f"{cut:,} of {rows:,} pairs exceed {limit} and were cut", TruncationWarning)


def score_command(options: Namespace) -> int:
    """Run `crossenc-kit score`: print rows, or write them and report on standard error."""
    settings = {name: getattr(options, name) for name in ("batch_size", "threads", "device")}
    settings["activation_fn"] = options.activation
    given = {"columns": options.columns, "keep": options.keep or (), "encoding": options.encoding}
    if options.output is not None:
        given |= {"shards": options.shards, "shard_size": options.shard_size}
        done = score_file(options.model, options.file, options.output, **given, **settings)
        print(f"crossenc-kit: {done}", file=sys.stderr)
        return 0
    if options.shards or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("shards need a folder to be in: give --output FOLDER")
    file, scorer = _prepare(options.model, options.file, **given, settings=settings)
    for row in score_rows(scorer, file, progress=True):
        print(dumps(row))
    return 0


@dataclass(frozen=True)
class BlockScorer:
    """A model, and how it scores a block of pairs."""

    model: CrossEncoder
    batch_size: int | None
    threads: int | None
    activation: Callable

    @property
    def block_rows(self) -> int:
        return CPU_ROWS if self.model.device.type == "cpu" else GPU_ROWS

    def score(self, texts: Sequence[tuple[str, str]], path: str, start: int) -> tuple[np.ndarray, int]:
        """Score a block, `(B,)` or `(B, C)` float32, and count its pairs cut at `max_length`.

        Raises `DataError` for a score that is not finite; it names the row, counted from `start`.
        """
        with warnings.catch_warnings(), one_core_per_thread(self.threads) as threads:
            warnings.simplefilter("ignore", TruncationWarning)  # both warn once for all blocks
            warnings.filterwarnings("ignore", "the head of .* is new and untrained")
            options: dict[str, Any] = {"batch_size": self.batch_size, "threads": threads, "show_progress_bar": False}
            scores = self.model.predict(texts, activation_fn=self.activation, **options)

        def where(row: int) -> str:
            return f"row {start + row} (from 0) of {path}"

        check_finite(scores, where, f"the model {self.model.name!r}", ADVICE)
        return scores, self.model.truncated

    def labels(self, scores: np.ndarray) -> list | None:
        """Return the name (or index) of each pair's best class; None for one score per pair."""
        if scores.ndim == 1:
            return None
        names = self.model.label_names or range(self.model.num_labels)
        return [names[best] for best in scores.argmax(axis=1)]

    def plan(self) -> dict[str, Any]:
        """Describe what the scores depend on, to their last bit on one kind of machine."""
        check_activation(self.activation)
        return {
            "model": {"sha256": fingerprint(self.model), "max_length": self.model.max_length},
            "activation": repr(self.activation),
            "batch_size": self.batch_size,
            "block_rows": self.block_rows,
            "device": self.model.device.type,
        }


def load_scorer(
    model: Any,
    *,
    batch_size: int | None = None,
    threads: int | None = None,
    activation_fn: Callable | str | None = None,
    device: Any = None,
) -> BlockScorer:
    """Load the model to score with; under torchrun each process takes its own GPU.

    A new head is drawn from seed 0, so that every process and every start has the same one.
    """
    from torch import nn

    if isinstance(model, CrossEncoder) and device is not None:
        raise ValueError("device is for a model given by its name; move this one with model.to(device)")
    one_or_more("batch_size", batch_size), one_or_more("threads", threads)
    softmax = activation_fn == "softmax"
    activation = nn.Softmax(dim=1) if softmax else find_activation(activation_fn)
    if not isinstance(model, CrossEncoder):
        model = CrossEncoder(model, device=device or _own_gpu(), seed=0)
    if softmax and model.num_labels == 1:
        raise ValueError("softmax needs several classes, and this model gives one score per pair; use sigmoid")
    model.warn_of_new_head()
    return BlockScorer(model, batch_size, threads, activation or model.activation_fn)


def _own_gpu() -> str | None:
    import torch

    local = int(os.environ.get("LOCAL_RANK", "0"))
    return f"cuda:{local % torch.cuda.device_count()}" if torch.cuda.is_available() else None


@contextmanager
def one_core_per_thread(threads: int | None) -> Iterator[int]:
    """Give each of the worker threads one core: sums depend on how many cores share a product."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)
