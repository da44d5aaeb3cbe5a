"""Speed, memory and scores on this machine: the kit beside sentence-transformers and plain Hugging Face.

All sides load one saved folder and score the same pairs, each in a process of its own, in turns. Their scores are
compared before any activation.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit import __version__
from crossenc_kit.data.pair_files import read_pairs
from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.data.similarity import read_sts
from crossenc_kit.files import dumps
from crossenc_kit.history import provenance
from crossenc_kit.inference.timing import MEBIBYTE, Speed, interleave, own_process, peak_memory, spread_text
from crossenc_kit.lab.records import align
from crossenc_kit.models.backbones import quiet_transformers
from crossenc_kit.models.cross_encoder import CrossEncoder

OURS = "crossenc_kit"
PAIRS = 256  # scored in a run, unless told otherwise
USUAL_BATCH = 32  # of the others; ours counts tokens
TOLERANCE = 1e-3  # raw scores that differ by more are worth a note
Pair = tuple[str, str]
Scorer = Callable[[list[Pair]], np.ndarray]


def compare_speed(
    model: Any = "minilm",
    pairs: Any = None,
    *,
    device: Any = None,
    repeats: int = 5,
    limit: int | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Score the same pairs with each side in turns, and return everything measured, for `speed_table` and JSON.

    `model`: a `CrossEncoder`, a folder or a hub name; a new head is drawn once and given to all sides. `pairs`: what
    `as_pairs` takes (default: STS dev pairs of the data folder), of which the first `limit` are scored. `batch_size`
    is for all sides; left out, each has its usual one. Each of `sides` has `seconds` (one a run), `pairs_per_second`
    (the median), `memory` (the most MiB its process ever had; on a GPU, the most allocated there), and of the others
    `gain` (how many times faster the kit is, the ratio of medians), `gain_spread` and `difference` (the largest of
    any raw score). A side that is not installed or fails is in `left_out` with the reason. Raises `ValueError` for a
    model that was exported: no other side loads it.
    """
    if repeats < 1 or (limit is not None and limit < 1):
        raise ValueError(f"a comparison needs a run and a pair, got repeats={repeats}, limit={limit}")
    data = read_sts(split="dev") if pairs is None else as_pairs(pairs)
    texts = data.texts[: limit or PAIRS]
    left_out = {name: reason for name, side in SIDES.items() if (reason := _why_left_out(side.package))}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as parent, ExitStack() as processes:
        folder = os.path.join(parent, "model")
        model = model if isinstance(model, CrossEncoder) else CrossEncoder(model, device=device, seed=0)
        if model.backend != "torch":
            raise ValueError(
                f"{model.name!r} is an export ({model.backend}), which the other sides do not load: give the folder of "
                "the float32 model (how much faster the export is stands in its export.json)"
            )
        device = str(device or model.device)
        model.save_pretrained(folder)
        sides = {name: processes.enter_context(own_process()) for name in SIDES if name not in left_out}
        calls = {name: (score_with, name, folder, device, batch_size, texts) for name in sides}
        scores = _first_runs(sides, calls, left_out)
        runs = {name: partial(_wait_for, sides[name], calls[name]) for name in scores}
        seconds = interleave(runs, repeats)
        memory = {name: sides[name].submit(memory_of, device).result() for name in scores}
    record = provenance(device, model=model.name, pairs=len(texts), repeats=repeats, batch_size=batch_size)
    record |= {
        "device_type": device.split(":")[0],
        "data": data.notes[0] if data.notes else "the pairs given",
        "left_out": left_out,
    }
    record["load_average"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {**record, "sides": [_side(name, seconds, memory, scores) for name in scores]}


def _first_runs(
    sides: dict[str, ProcessPoolExecutor], calls: dict[str, tuple], left_out: dict[str, str]
) -> dict[str, np.ndarray]:
    """Load every side, all at once, and return its scores; one that fails is noted in `left_out`, but for ours."""
    started = {name: process.submit(*calls[name]) for name, process in sides.items()}
    scores = {}
    for name, future in started.items():
        try:
            scores[name] = future.result()
        except Exception as error:
            if name == OURS:
                raise
            left_out[name] = f"it failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return scores


def _wait_for(process: ProcessPoolExecutor, call: tuple) -> None:
    process.submit(*call).result()


def _side(
    name: str, seconds: dict[str, list[float]], memory: dict[str, float], scores: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The record of one side."""
    side: dict[str, Any] = {"name": name, "version": _version(SIDES[name].package), "seconds": seconds[name]}
    side |= {"pairs_per_second": len(scores[name]) / statistics.median(seconds[name]), "memory": memory[name]}
    if name != OURS:
        speed = Speed(name, "s", seconds[OURS], seconds[name])
        gains = speed.gains
        side |= {"gain": speed.gain, "gain_spread": [min(gains), max(gains)]}
        side["difference"] = float(np.abs(scores[name] - scores[OURS]).max())
    return side


def _version(package: str) -> str:
    return __version__ if package == "crossenc_kit" else metadata.version(package)


def score_with(side: str, folder: str, device: str, batch_size: int | None, pairs: list[Pair]) -> np.ndarray:
    """Raw scores `(N,)` or `(N, C)` of one side, which loads the model when it is first called in a process."""
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore", UserWarning)  # of a new head and of cut pairs: not what is measured
        return _scorer(side, folder, device, batch_size)(pairs)


@cache
def _scorer(side: str, folder: str, device: str, batch_size: int | None) -> Scorer:
    return SIDES[side].load(folder, device, batch_size)


def memory_of(device: str) -> float:
    """The most memory that this process took, in MiB: of the GPU if it computes there."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / MEBIBYTE
    return peak_memory()


# --- the sides ------------------------------------------------------------------------------------


def _kit(folder: str, device: str, batch_size: int | None) -> Scorer:
    model = CrossEncoder(folder, device=device)
    return partial(model.predict, batch_size=batch_size, activation_fn="identity", show_progress_bar=False)


def _sentence_transformers(folder: str, device: str, batch_size: int | None) -> Scorer:
    import torch
    from sentence_transformers import CrossEncoder as Peer

    options = {"activation_fn": torch.nn.Identity(), "show_progress_bar": False}
    return partial(Peer(folder, device=device).predict, batch_size=batch_size or USUAL_BATCH, **options)


def _padded(folder: str, device: str, batch_size: int | None) -> Scorer:
    """What a plain loop does: batches in the given order, each padded to its longest pair."""
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
            batch = tokenizer(left, right, padding=True, truncation=True, return_tensors="pt").to(device)
            scores.append(model(**batch).logits.float().cpu().numpy())
        every = np.concatenate(scores)
        return every[:, 0] if every.shape[1] == 1 else every

    return score


def _pipeline(folder: str, device: str, batch_size: int | None) -> Scorer:
    from transformers import pipeline

    classify = pipeline("text-classification", model=folder, device=device)
    columns = classify.model.config.label2id
    options = {"batch_size": batch_size or USUAL_BATCH, "padding": True, "truncation": True}

    def score(pairs: list[Pair]) -> np.ndarray:
        rows = [{"text": left, "text_pair": right} for left, right in pairs]
        answers = classify(rows, top_k=None, function_to_apply="none", **options)
        ordered = [sorted(row, key=lambda one: columns[one["label"]]) for row in answers]
        every = np.array([[one["score"] for one in row] for row in ordered])
        return every[:, 0] if every.shape[1] == 1 else every

    return score


class Side(NamedTuple):
    """One way to score pairs: how it loads a folder, and the package whose version is told."""

    load: Callable[[str, str, int | None], Scorer]
    package: str


def _why_left_out(package: str) -> str | None:
    """Why a side cannot take part: the command that installs its package; None where it is there."""
    there = importlib.util.find_spec(package.replace("-", "_")) is not None
    return None if there else f"{package} is not installed: pip install {package}"


# --- for people -----------------------------------------------------------------------------------


def speed_table(record: dict[str, Any]) -> str:
    """A record of `compare_speed` as a table, with what it was measured on."""
    memory = "GPU memory" if str(record["device_type"]) == "cuda" else "peak memory"
    rows = [["", "pairs/s (least to most)", "crossenc_kit is", memory, "largest difference"]]
    for side in record["sides"]:
        rates = spread_text([record["pairs"] / seconds for seconds in side["seconds"]])
        low, high = side.get("gain_spread", (0, 0))
        gain = f"{side['gain']:.2f}x ({low:.2f} to {high:.2f})" if "gain" in side else ""
        difference = f"{side['difference']:.1e}" if "difference" in side else ""
        rows.append([f"{side['name']} {side['version']}", rates, gain, f"{side['memory']:,.0f} MiB", difference])
    about = f"{record['model']}, {record['pairs']} pairs ({record['data']}), {record['repeats']} runs each, in turns"
    lines = [about, record["device"], "", *align(rows), "", *_remarks(record)]
    return "\n".join(lines)


def _remarks(record: dict[str, Any]) -> list[str]:
    """What a reader of the table must know."""
    told = ["Medians; gain: the ratio of medians (least to most of neighbouring runs). Scores are compared raw."]
    told += [f"{name} is left out: {reason}" for name, reason in record["left_out"].items()]
    far = [side["name"] for side in record["sides"] if side.get("difference", 0) > TOLERANCE]
    if far:
        told.append(f"NOTE: scores of {', '.join(far)} differ by more than {TOLERANCE:g}: this was not the same work")
    if (record["load_average"] or 0) > 0.5 * (os.cpu_count() or 1):
        told.append(f"NOTE: the load average is {record['load_average']:.1f}: something else runs here")
    return told


def bench_command(options: argparse.Namespace) -> int:
    """`crossenc-kit bench`: the table, or the record as JSON."""
    pairs = read_pairs(options.pairs, columns=options.columns) if options.pairs else None
    print("loading the model on all sides, then scoring in turns ...", file=sys.stderr)
    settings = {"device": options.device, "repeats": options.repeats, "limit": options.limit}
    record = compare_speed(options.model, pairs, batch_size=options.batch_size, **settings)
    print(dumps(record, indent=2) if options.json else speed_table(record))
    return 0


SIDES = {
    OURS: Side(_kit, "crossenc_kit"),
    "sentence-transformers": Side(_sentence_transformers, "sentence-transformers"),
    "transformers, a loop": Side(_padded, "transformers"),
    "transformers, pipeline": Side(_pipeline, "transformers"),
}
