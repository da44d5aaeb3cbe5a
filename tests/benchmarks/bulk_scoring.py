"""Bulk scoring under fire: flat memory, and after any number of kills the bits of a run left alone.

`python tests/benchmarks/bulk_scoring.py --pairs 1000000 --kills 10`. A file of short pairs is made on the spot and
scored with the model of two layers into a folder of shards; the same again, killed (SIGKILL) at random moments and run
again until it is done. Exits with 1 if a score differs or memory grew by more than `--most` MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import numpy as np
import pyarrow.parquet  # noqa: F401 (here, so that the processes forked below need not)
import torch
from measure import memory_of

from crossenc_kit import CrossEncoder
from crossenc_kit.data.tables import read_jsonl
from crossenc_kit.inference.bulk import SHARD_SIZE, score_file
from crossenc_kit.inference.score_store import read_scores
from crossenc_kit.models.backbones import TINY_WORDS

LOOKS = 10  # how often the memory is printed
SAMPLE = 500  # pairs that are scored again in other company


def write_pairs(path: Path, count: int, seed: int) -> None:
    """JSON Lines of `count` pairs of 3 to 12 words a side, with an id."""
    drawn, words = random.Random(seed), TINY_WORDS.split()
    with open(path, "w", encoding="utf-8") as file:
        for row in range(count):
            left, right = (" ".join(drawn.choices(words, k=drawn.randint(3, 12))) for _ in range(2))
            file.write(json.dumps({"id": f"pair-{row}", "left": left, "right": right}) + "\n")


def start(model: CrossEncoder, pairs: Path, output: Path, shard_size: int) -> int:
    """Fork a process that scores the file, from its beginning or where the last one was killed; returns its id."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            score_file(model, pairs, output, shards=True, keep=["id"], shard_size=shard_size, progress=False)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)  # whatever happened: only the parent goes on from here
    return process


def wait(process: int, seconds: float = 1e9) -> tuple[bool, list[tuple[float, float]]]:
    """Whether a process ended by itself within the time, and its memory as (seconds, MiB); SystemExit if it failed."""
    began, memory = time.monotonic(), []
    while (now := time.monotonic() - began) < seconds:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit(f"a job failed by itself, with status {os.waitstatus_to_exitcode(status)}")
            return True, memory
        if (resident := memory_of(process)) is not None:
            memory.append((now, resident))
        time.sleep(0.02)
    return False, memory


def killed_job(model: CrossEncoder, pairs: Path, output: Path, shard_size: int, moments: list[float]) -> list[int]:
    """A job killed after each of the given seconds and run to its end: the shards that each kill found there."""
    found = []
    for seconds in moments:
        process = start(model, pairs, output, shard_size)
        if wait(process, seconds)[0]:
            return found
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        found.append(len(list(output.glob("*.parquet"))))
    wait(start(model, pairs, output, shard_size))
    return found


def growth(memory: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """(seconds, most MiB above the first look) of each tenth of the time: in a flat run the last ones are alike.

    The first look is just after the fork, before libraries and weights are touched: what they take counts as growth.
    """
    first, length = memory[0][1], memory[-1][0]
    tenths: list[list[float]] = [[] for _ in range(LOOKS)]
    for seconds, resident in memory:
        tenths[min(LOOKS - 1, int(LOOKS * seconds / max(length, 1e-9)))].append(resident - first)
    return [(length * (at + 1) / LOOKS, max(values)) for at, values in enumerate(tenths) if values]


def compare(whole: dict[str, Any], killed: dict[str, Any]) -> int:
    """How many of the scores differ in any bit; rows and ids must be the same."""
    if whole["id"] != killed["id"] or not np.array_equal(whole["row"], killed["row"]):
        raise SystemExit("the killed job has other rows than the one left alone")
    return int(np.count_nonzero(whole["score"].view(np.uint32) != killed["score"].view(np.uint32)))


def in_other_company(model: CrossEncoder, pairs: Path, scores: np.ndarray, seed: int) -> float:
    """The largest difference of some scores to those of the same pairs scored by themselves."""
    chosen = set(random.Random(seed).sample(range(len(scores)), min(SAMPLE, len(scores))))
    rows = [(at, row) for at, (_, row) in enumerate(read_jsonl(pairs)) if at in chosen]
    again = model.predict([(row["left"], row["right"]) for _, row in rows], show_progress_bar=False)
    return float(np.abs(again - scores[[at for at, _ in rows]]).max())


def run(folder: Path, settings: argparse.Namespace) -> int:
    """The whole comparison in a folder; 1 if something is wrong."""
    model = CrossEncoder("tiny", num_labels=1, seed=0, device="cpu")
    pairs = folder / "pairs.jsonl"
    write_pairs(pairs, settings.pairs, settings.seed)
    _, memory = wait(start(model, pairs, folder / "whole", settings.shard_size))
    seconds, series = memory[-1][0], growth(memory)
    print(f"left alone: {settings.pairs:,} pairs in {seconds:.1f} s, {settings.pairs / seconds:,.0f} pairs/s")
    print("memory above the loaded model:", ", ".join(f"{mib:.0f} MiB by {at:.0f} s" for at, mib in series))
    drawn = random.Random(settings.seed)
    moments = [drawn.uniform(0, 1.5 * seconds / (settings.kills + 1)) for _ in range(settings.kills)]
    found = killed_job(model, pairs, folder / "killed", settings.shard_size, moments)
    whole, killed = read_scores(folder / "whole"), read_scores(folder / "killed")
    different = compare(whole, killed)
    print(f"killed {len(found)} times (shards there: {found}): {different} of {len(whole['score']):,} scores differ")
    alone = in_other_company(model, pairs, whole["score"], settings.seed)
    print(f"{min(SAMPLE, len(whole['score']))} pairs in other company: largest difference {alone:.1e}")
    most = max(mib for _, mib in series)
    print(f"memory grew by {most:.0f} MiB at most (limit {settings.most:.0f})")
    return int(different > 0 or alone > 1e-5 or most > settings.most)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000, help="pairs to score (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=10, help="SIGKILLs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of texts and moments (default: %(default)s)")
    parser.add_argument("--shard-size", type=int, help="rows of a shard (default: 16384, a sixtieth of few pairs)")
    parser.add_argument("--most", type=float, default=300, help="MiB that memory may grow by (default: %(default)s)")
    settings = parser.parse_args()
    settings.shard_size = settings.shard_size or min(SHARD_SIZE, max(1, settings.pairs // 60))
    return settings


def main() -> int:
    warnings.filterwarnings("ignore", "the head of 'tiny' is new")
    settings = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), settings)


if __name__ == "__main__":
    if not hasattr(os, "fork"):
        sys.exit("this check forks processes, which this system cannot")
    sys.exit(main())
