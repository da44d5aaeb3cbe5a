"""Bulk scoring: files of any size with bounded memory, in shards that survive a kill, in one process or many.

    score_file("my-model", "pairs.jsonl.gz", "scores/", keep=["id"])
    torchrun --nproc_per_node 2 -m crossenc_kit score my-model pairs.jsonl.gz --output scores/

Rows are tokenised and scored block by block. A shard is always cut into the same blocks, so that its scores have the
same bits whatever else the run scores. Process r of W takes the shards k with k % W == r; they do not speak to each
other.

Pairs scored block by block: memory for one block, and scores that do not depend on what else is scored.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from crossenc_kit.data.pair_files import Block, PairFile, check_pairs, read_blocks
from crossenc_kit.data.pairs import check_text
from crossenc_kit.errors import DataError, TruncationWarning, need
from crossenc_kit.files import dumps, write_jsonl
from crossenc_kit.inference.score_store import ScoreFolder, alone, is_written_there
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.settings import find_activation
from crossenc_kit.models.tokens import one_or_more
from crossenc_kit.scorers import check_finite, fingerprint

SHARD_ROWS = 16384  # what a kill costs at most
OURS = ("row", "score", "label")  # columns that are written
NOT_FINITE = "; its weights hold a NaN or overflow in 16 bits: train it anew, or load it in float32"
CPU_ROWS, GPU_ROWS = 2048, 16384  # rows of a block: dozens of batches on a CPU, a few large ones on a GPU


def score_file(
    model: Any,
    path: str | os.PathLike,
    output: str | os.PathLike,
    *,
    columns: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    shards: bool | None = None,
    shard_rows: int | None = None,
    encoding: str = "utf-8",
    progress: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Score the pairs of a file (JSON Lines, TSV, CSV, gzipped or not; parquet), and return what was done.

    `model`: a `CrossEncoder`, a folder or a hub name. `output` is a folder of parquet shards if it ends with / or is
    a folder (or `shards` says so: a `Path` drops the /), of `shard_rows` rows each (16,384), see `score_folder`; else
    a file of JSON Lines. Written are `row` (from 0), `score`, of several classes `label`, and the input's columns
    `keep`. `columns` names the two texts, else they are found as `read_pairs` finds them. `settings`: `batch_size` and
    `threads` of `CrossEncoder.predict`; `activation_fn`, also "softmax"; `device`, of a model that is given by name.

    A folder job that was killed goes on when it is run again: only missing shards are scored. With another input,
    model or setting it refuses, and `CheckpointError` names what differs. Every row is checked before the first is
    scored: `DataError` names file and line. It names the row of a score that is not finite, too: then only the shards
    before it are written. Raises `OSError` where the output cannot be written, `ValueError` where the scores would be
    written over the input.
    """
    if shard_rows is not None and shard_rows < 1:
        raise ValueError(f"a shard has at least one row, got shard_rows={shard_rows}")
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not _is_folder(output, shards, shard_rows):
        if count > 1:
            raise ValueError(f"{count} processes write a shard each: name a folder as output, such as scores/")
        _check_apart(path, Path(output))
        file, scorer = _prepare(model, path, columns, keep, encoding, settings)
        return _to_lines(scorer, file, Path(output), progress)
    need("pyarrow.parquet", "a folder of scores (parquet)")
    os.stat(path)  # no folder is made for a file that is not there
    if is_written_there(Path(output), Path(path)):
        raise ValueError(f"the input {path} lies where the shards of {output} are written; choose another folder")
    with alone(Path(output), rank, count):
        file, scorer = _prepare(model, path, columns, keep, encoding, settings)
        rows = shard_rows or SHARD_ROWS
        plan = {"input": file.plan(), **scorer.plan(), "shard_rows": rows}
        folder = ScoreFolder(Path(output), file.rows, rows, plan, str(rank), scorer.model.label_names)
        folder.begin()
        return _to_shards(scorer, file, folder, rank, count, progress)


def _is_folder(output: str | os.PathLike, shards: bool | None, shard_rows: int | None) -> bool:
    """Whether the output is a folder of shards; raises for a file that cannot be written."""
    if shards or (shards is None and (str(output).endswith(("/", os.sep)) or os.path.isdir(output))):
        return True
    if shard_rows is not None:
        raise ValueError(f"shard_rows is of a folder, and {output} is a file: end its name with / or give shards=True")
    if {".csv", ".tsv"} & set(Path(output).suffixes):
        raise ValueError(f"{output}: scores are written as lines of JSON (.jsonl) or, in a folder, as parquet")
    if Path(output).suffix == ".parquet":
        raise ValueError(f"{output}: parquet is written in shards; name a folder, such as {Path(output).stem}/")
    if not Path(output).absolute().parent.is_dir():
        raise ValueError(f"cannot write {output}: its folder does not exist; make it first")
    return False


def _check_apart(path: str | os.PathLike, output: Path) -> None:
    """Raise `ValueError` where the lines, or the half of them while they are written, would replace the input."""
    for target in (output, output.with_name(output.name + ".partial")):
        if target.exists() and os.path.samefile(path, target):
            raise ValueError(f"the scores would be written over the input {path}; name another output than {output}")


def _prepare(
    model: Any, path: Any, columns: Any, keep: Sequence[str], encoding: str, settings: dict[str, Any]
) -> tuple[PairFile, BlockScorer]:
    """The input, checked, and then the model, which takes longer to load."""
    if isinstance(keep, str) or len(set(keep)) < len(keep):
        raise ValueError(f"keep is {keep!r}; expected a list of different columns")
    file = check_pairs(path, columns, keep, encoding)
    scorer = load_scorer(model, **settings)
    for name in keep:
        if name in OURS[: 3 if scorer.model.num_labels > 1 else 2]:
            raise ValueError(f"cannot keep the column {name!r}: the scores have one of that name; rename it in {path}")
    return file, scorer


def _to_lines(scorer: BlockScorer, file: PairFile, output: Path, progress: bool) -> dict[str, Any]:
    """JSON Lines, one a pair, into a file that appears when it is whole."""
    began = time.monotonic()
    write_jsonl(output, score_rows(scorer, file, progress))
    return {"output": str(output), "rows": file.rows, "scored": file.rows, "seconds": time.monotonic() - began}


def score_rows(scorer: BlockScorer, file: PairFile, progress: bool) -> Iterator[dict[str, Any]]:
    """A row of JSON for each pair: `row`, kept columns, `score`, of several classes `label`."""
    blocks = read_blocks(file, scorer.block_rows, range(-(-file.rows // scorer.block_rows)))
    total = 0
    with tqdm(total=file.rows, unit="pair", disable=not progress) as bar:
        for _, block in blocks:
            scores, cut = scorer.score(block.texts, partial(_row_of, file.path), block.start)
            total += cut
            bar.update(len(scores))
            columns = {"row": range(block.start, block.start + len(scores)), **block.kept, "score": scores.tolist()}
            if (labels := scorer.labels(scores)) is not None:
                columns["label"] = labels
            for values in zip(*columns.values(), strict=True):
                yield {name: _for_json(value) for name, value in zip(columns, values, strict=True)}
    _warn_of_cut(total, file.rows, scorer)


def _row_of(path: str, number: int) -> str:
    """Where a pair stands: by the number that its row has in the scores."""
    return f"row {number} (from 0) of {path}"


def _for_json(value: Any) -> Any:
    """A value of a parquet file, such as a date, as text where JSON has no form for it."""
    return value if isinstance(value, (str, int, float, list, dict, type(None))) else str(value)


def _to_shards(
    scorer: BlockScorer, file: PairFile, folder: ScoreFolder, rank: int, count: int, progress: bool
) -> dict[str, Any]:
    """Score and write those shards of process `rank` of `count` that are not there."""
    began, scored = time.monotonic(), 0
    mine = range(rank, folder.shards, count)
    wanted = folder.missing(mine)
    sizes = {number: stop - start for number in mine for start, stop in [folder.rows_of(number)]}
    there = sum(size for number, size in sizes.items() if number not in set(wanted))
    name = f"process {rank}" if count > 1 else None
    with tqdm(desc=name, total=sum(sizes.values()), initial=there, unit="pair", disable=not progress) as bar:
        for number, block in read_blocks(file, folder.shard_rows, wanted):
            if folder.damage(number) == "":  # made by another job meanwhile
                bar.update(sizes[number])
                continue
            scores, cut = [], 0
            for start in range(0, len(block.texts), scorer.block_rows):
                texts = block.texts[start : start + scorer.block_rows]
                found, cut_here = scorer.score(texts, partial(_row_of, file.path), block.start + start)
                scores.append(found)
                cut += cut_here
                bar.update(len(found))
            folder.write(number, _columns(scorer, file, block, np.concatenate(scores)), truncated=cut)
            scored += sizes[number]
    _warn_of_cut(folder.truncated(), file.rows, scorer)
    done = {"output": str(folder.path), "rows": file.rows, "scored": scored, "shards": folder.shards}
    return {**done, "seconds": time.monotonic() - began}


def _columns(scorer: BlockScorer, file: PairFile, block: Block, scores: np.ndarray) -> dict[str, tuple[Any, Any]]:
    """What a shard holds, as columns `name: (values, type)`."""
    columns: dict[str, tuple[Any, Any]] = {"row": (np.arange(block.start, block.start + len(scores)), None)}
    columns |= {name: (values, file.column_type(name)) for name, values in block.kept.items()}
    columns["score"] = (scores if scores.ndim == 1 else list(scores), None)
    if (labels := scorer.labels(scores)) is not None:
        columns["label"] = (labels, None)
    return columns


def _warn_of_cut(cut: int, rows: int, scorer: BlockScorer) -> None:
    if cut:
        what = f"{cut:,} of {rows:,} pairs exceed max_length={scorer.model.max_length} tokens and were cut"
        warnings.warn(what, TruncationWarning, stacklevel=4)


def score_command(options: Namespace) -> int:
    """`crossenc-kit score`: rows on standard output, or into a file or folder with a last line on standard error."""
    settings: dict[str, Any] = {"batch_size": options.batch_size, "threads": options.threads, "device": options.device}
    settings["activation_fn"] = options.activation
    keep = options.keep or ()
    if options.output is None:
        if options.shards or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("shards need a folder to be in: give --output FOLDER")
        file, scorer = _prepare(options.model, options.file, options.columns, keep, options.encoding, settings)
        for row in score_rows(scorer, file, progress=True):
            print(dumps(row))
        return 0
    more: dict[str, Any] = {"columns": options.columns, "keep": keep, "encoding": options.encoding}
    shards: dict[str, Any] = {"shards": options.shards or None, "shard_rows": options.shard_rows}
    done = score_file(options.model, options.file, options.output, **shards, **more, **settings)
    if "shards" in done:
        rate = f"{done['scored'] / max(done['seconds'], 1e-9):,.1f} pairs/s"
        told = f"{done['scored']:,} of {done['rows']:,} pairs scored now, {rate}; {done['shards']} shards"
        print(f"crossenc-kit: {told} in {done['output']}", file=sys.stderr)
    return 0


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
        model = {"sha256": fingerprint(self.model), "max_length": self.model.max_length}
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
