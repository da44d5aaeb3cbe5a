"""Measure speed, memory and scores on this machine, beside sentence-transformers and transformers.

All sides load one saved folder and score the same pairs in turns, each in a process of its own.
Their scores are compared before any activation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from typing import Any

import numpy as np

from crossenc_kit import __version__
from crossenc_kit.data.pair_files import read_pairs
from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.data.similarity import read_sts
from crossenc_kit.errors import need
from crossenc_kit.files import dumps
from crossenc_kit.history import Report, html_table, provenance
from crossenc_kit.inference.timing import (
    MEBIBYTE,
    Speed,
    interleave,
    own_process,
    peak_memory,
    spread_text,
)
from crossenc_kit.lab.records import align
from crossenc_kit.models.backbones import quiet_transformers
from crossenc_kit.models.cross_encoder import CrossEncoder

OURS = "crossenc_kit"
PAIRS = 256  # scored in each timed turn, unless told otherwise
USUAL_BATCH = 32  # pairs in a batch of the others; ours counts tokens
TOLERANCE = 1e-3  # raw scores that differ by more are worth a note
BUSY = 0.5  # load average per core above which something else seems to be running
Pair = tuple[str, str]
PairScorer = Callable[[list[Pair]], np.ndarray]


@dataclass(frozen=True)
class SpeedReport(Report):
    """What `compare_speed` measured; ours is the first side."""

    model: str
    data: str  # where the pairs come from
    pairs: int  # scored in each turn
    repeats: int  # counted turns of each side
    batch_size: int | None  # None: each side's usual one
    sides: list[dict[str, Any]]  # name, version, seconds per turn, pairs_per_second, memory (MiB), ...
    left_out: dict[str, str]  # side -> why it is missing
    load_average: float | None  # of this machine, after the measurement
    provenance: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """Our pairs per second, then how many times faster we are than each other side."""
        ours, *others = self.sides
        gains = {f"gain over {side['name']}": side["gain"] for side in others}
        return {"pairs_per_second": ours["pairs_per_second"], **gains}

    def table(self) -> list[list[str]]:
        """Return the sides as rows of text below a heading."""
        heading = ["", "pairs/s (least to most)", "crossenc_kit is", "peak memory", "largest difference"]
        rows = []
        for side in self.sides:
            rates = spread_text([self.pairs / seconds for seconds in side["seconds"]])
            row = [f"{side['name']} {side['version']}", rates, "", f"{side['memory']:,.0f} MiB", ""]
            if "gain" in side:
                low, high = side["gain_spread"]
                row[2] = f"{side['gain']:.2f}x ({low:.2f} to {high:.2f})"
                row[4] = f"{side['difference']:.1e}"
            rows.append(row)
        return [heading, *rows]

    def notes(self) -> list[str]:
        """Say what a reader of the table must know."""
        notes = ["Medians; gain: the ratio of medians (least to most of neighbouring turns). Raw scores."]
        notes += [f"{name} is left out: {reason}" for name, reason in self.left_out.items()]
        far = [side["name"] for side in self.sides if side.get("difference", 0) > TOLERANCE]
        if far:
            what = f"scores of {', '.join(far)} differ by more than {TOLERANCE:g}"
            notes.append(f"NOTE: {what}: this was not the same work")
        if (self.load_average or 0) > BUSY * (os.cpu_count() or 1):
            busy = f"the load average is {self.load_average:.1f}"
            notes.append(f"NOTE: {busy}: something else runs here")
        return notes

    def __str__(self) -> str:
        about = f"{self.model}, {self.pairs} pairs ({self.data}), {self.repeats} turns each"
        return "\n".join([about, self.provenance["device"], "", *align(self.table()), "", *self.notes()])

    def _repr_html_(self) -> str:
        heading, *rows = self.table()
        return html_table(heading, rows, f"{self.model}, {self.pairs} pairs. {' '.join(self.notes())}")


def compare_speed(
    model: Any = "minilm",
    pairs: Any = None,
    *,
    device: Any = None,
    repeats: int = 5,
    limit: int | None = None,
    batch_size: int | None = None,
) -> SpeedReport:
    """Score the same pairs with each side in turns, and report seconds, memory and differences.

    A side that is not installed or fails is left out. Memory is the most that a process ever had;
    on a GPU, the most allocated there.

    model: a `CrossEncoder`, a folder or a hub name; a new head is drawn once and given to all sides
    pairs: whatever `as_pairs` takes, by default STS dev pairs; the first `limit` (256) are scored
    batch_size: pairs in a batch of all sides; by default each has its usual one

    Raises `ValueError` for an exported model, which no other side loads.
    """
    data = read_sts(split="dev") if pairs is None else as_pairs(pairs)
    if repeats < 1 or (limit is not None and limit < 1):
        raise ValueError(f"compare at least one pair once, got repeats={repeats}, limit={limit}")
    texts = data.texts[: limit or PAIRS]
    if not isinstance(model, CrossEncoder):
        model = CrossEncoder(model, device=device, seed=0)
    if model.backend != "torch":
        what = f"{model.name!r} is an export ({model.backend}), which the other sides do not load"
        hint = "the export's own speed-up stands in its export.json"
        raise ValueError(f"{what}: give the folder of the float32 model ({hint})")
    device = str(device or model.device)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as parent, ExitStack() as stack:
        folder = os.path.join(parent, "model")
        model.save_pretrained(folder)
        sides = {name: stack.enter_context(own_process()) for name in SIDES}
        calls: dict[str, Callable[[], Future]] = {
            name: partial(process.submit, score_with, name, folder, device, batch_size, texts)
            for name, process in sides.items()
        }
        scores, left_out = _first_turns(calls)
        turns = {name: lambda call=calls[name]: call().result() for name in scores}
        seconds = interleave(turns, repeats)
        memory = {name: sides[name].submit(memory_of, device).result() for name in scores}
    return SpeedReport(
        model=str(model.name),
        data=data.notes[0] if data.notes else "the pairs given",
        pairs=len(texts),
        repeats=repeats,
        batch_size=batch_size,
        sides=[_side(name, seconds, memory[name], scores) for name in scores],
        left_out=left_out,
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        provenance=provenance(device),
    )


def _first_turns(
    calls: dict[str, Callable[[], Future]],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Load all sides at once; return their scores, and why a side that failed is left out."""
    started = {name: call() for name, call in calls.items()}
    scores, left_out = {}, {}
    for name, future in started.items():
        try:
            scores[name] = future.result()
        except Exception as error:
            if name == OURS:
                raise
            left_out[name] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return scores, left_out


def _side(name: str, seconds: dict[str, list[float]], memory: float, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    side: dict[str, Any] = {
        "name": name,
        "version": __version__ if name == OURS else metadata.version(name.partition(",")[0]),
        "seconds": seconds[name],
        "memory": memory,
        "pairs_per_second": len(scores[name]) / statistics.median(seconds[name]),
    }
    if name != OURS:
        speed = Speed(name, "s", seconds[OURS], seconds[name])
        side |= {"gain": speed.gain, "gain_spread": [min(speed.gains), max(speed.gains)]}
        side["difference"] = float(np.abs(scores[name] - scores[OURS]).max())
    return side


def score_with(side: str, folder: str, device: str, batch_size: int | None, pairs: list[Pair]) -> np.ndarray:
    """Score with one side, raw, `(N,)` or `(N, C)`; its first call in a process loads the model."""
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore", UserWarning)  # of a new head and of cut pairs
        return _scorer(side, folder, device, batch_size)(pairs)


@cache
def _scorer(side: str, folder: str, device: str, batch_size: int | None) -> PairScorer:
    return SIDES[side](folder, device, batch_size)


def memory_of(device: str) -> float:
    """Return the most memory that this process took, in MiB: of the GPU if it computes there."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / MEBIBYTE
    return peak_memory()


def bench_command(options: argparse.Namespace) -> int:
    """Run `crossenc-kit bench`: print the table, or the report as JSON."""
    pairs = read_pairs(options.pairs, columns=options.columns) if options.pairs else None
    print("loading the model on all sides, then scoring in turns ...", file=sys.stderr)
    report = compare_speed(
        options.model,
        pairs,
        device=options.device,
        repeats=options.repeats,
        limit=options.limit,
        batch_size=options.batch_size,
    )
    print(dumps(report.to_dict(), indent=2) if options.json else report)
    return 0


# --- the sides: each loads a folder ---------------------------------------------------------------


def _kit(folder: str, device: str, batch_size: int | None) -> PairScorer:
    options: dict[str, Any] = {"activation_fn": "identity", "show_progress_bar": False}
    return partial(CrossEncoder(folder, device=device).predict, batch_size=batch_size, **options)


def _sentence_transformers(folder: str, device: str, batch_size: int | None) -> PairScorer:
    import torch

    peer = need("sentence_transformers", "this side").CrossEncoder(folder, device=device)
    options = {"activation_fn": torch.nn.Identity(), "show_progress_bar": False}
    return partial(peer.predict, batch_size=batch_size or USUAL_BATCH, **options)


def _padded(folder: str, device: str, batch_size: int | None) -> PairScorer:
    """Do what a plain loop does: batches in the given order, each padded to its longest pair."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).to(device).eval()
    size = batch_size or USUAL_BATCH

    @torch.inference_mode()
    def score(pairs: list[Pair]) -> np.ndarray:
        scores = []
        for start in range(0, len(pairs), size):
            left, right = (list(side) for side in zip(*pairs[start : start + size], strict=True))
            batch = tokenizer(left, right, padding=True, truncation=True, return_tensors="pt")
            scores.append(model(**batch.to(device)).logits.float().cpu().numpy())
        every = np.concatenate(scores)  # (N, C)
        return every[:, 0] if every.shape[1] == 1 else every

    return score


SIDES: dict[str, Callable[[str, str, int | None], PairScorer]] = {  # from the package's name on
    OURS: _kit,
    "sentence-transformers": _sentence_transformers,
    "transformers, a loop": _padded,
}
