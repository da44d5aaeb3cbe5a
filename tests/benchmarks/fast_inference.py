"""What exporting a model brings on a CPU: speed in float32 and int8, by torch and onnxruntime, and what it costs.

Every side scores the same pairs with the same weights, in turns; the ratio is to sentence-transformers' `predict`.
With `--student`, the folder of a trained one, its scores and their int8 form are measured as well; its drift from the
teacher's scores is what it has not learnt. Without, half of the layers are cut out, which says its speed alone.
Drift is from the kit's float32 scores, and "alone" is how far a score moves when the pair is scored without company.
Give trained weights: random ones say nothing about drift. Run it on a machine that does nothing else:

    python tests/benchmarks/fast_inference.py --model FOLDER --data-dir DATA --json result.json
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from against_sentence_transformers import describe_machine, make_weights
from workloads import Work, load_work

from crossenc_kit.inference.export import measure_drift
from crossenc_kit.inference.timing import Speed, interleave, spread_text

PEER = "sentence-transformers"
EXACT = "torch, float32"
SIDES = {EXACT: "torch", "torch, int8": "int8", "ONNX, float32": "onnx", "ONNX, int8": "onnx-int8"}
STUDENT, SMALL = "student", "student, int8"
CUT = "half of the layers, not taught"
ONE_SCALE = "ONNX, int8, one scale a batch"  # onnxruntime's own dynamic quantisation
ALONE = 50  # pairs that are scored one by one, too
CALIBRATION = 256  # pairs of the training data


def main() -> None:
    settings = parse_arguments()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import torch

    torch.set_num_threads(settings.threads or torch.get_num_threads())
    work = load_work(settings.data_dir, settings.pairs, settings.queries, settings.candidates, steps=8)
    pairs = pairs_of(work, settings.workload)
    record = describe_machine(settings, work)
    with tempfile.TemporaryDirectory() as scratch:
        folder = prepare(settings.model, Path(scratch), pairs)
        sample = [(left, right) for left, right, _ in work.train[:CALIBRATION]]
        models = load_sides(folder, Path(scratch), sample)
        models |= load_student(settings.student, models[EXACT], Path(scratch), sample)
        runs = {name: partial(model.predict, pairs, show_progress_bar=False) for name, model in models.items()}
        seconds = interleave(runs, settings.repeats)
        rows = [measure(name, seconds, runs, models, pairs) for name in runs]
    print(table(rows))
    print(f"pairs/s: median (least to most) of {settings.repeats} runs; ratio: of the medians (of neighbouring runs).")
    if settings.json:
        from crossenc_kit.files import write_json

        print(f"written to {write_json(settings.json, {**record, 'threads': torch.get_num_threads(), 'sides': rows})}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="minilm", help="a folder with trained weights (default: minilm, untrained)")
    parser.add_argument("--student", help="a folder with a trained student of the model")
    parser.add_argument("--data-dir", default=os.environ.get("CROSSENC_KIT_DATA"), help="with stsb, rerank_msmarco")
    parser.add_argument("--workload", choices=("pairs", "passages"), default="pairs", help="short pairs, or reranking")
    parser.add_argument("--pairs", type=int, default=1500, help="pairs to score")
    parser.add_argument("--queries", type=int, default=4, help="queries of the workload passages")
    parser.add_argument("--candidates", type=int, default=100, help="passages of each query")
    parser.add_argument("--threads", type=int, help="cores of every side (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each side")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    settings = parser.parse_args()
    settings.device = "cpu"
    return settings


def pairs_of(work: Work, workload: str) -> list[tuple[str, str]]:
    if workload == "pairs":
        return work.pairs
    asked = zip(work.queries, work.documents, strict=True)
    return [(query, document) for query, documents in asked for document in documents]


def prepare(name: str, scratch: Path, pairs: list[tuple[str, str]]) -> Path:
    """A folder with the model's float32 weights, which all sides read."""
    from crossenc_kit import CrossEncoder

    folder = scratch / "float32"
    if CrossEncoder(name, num_labels=None, device="cpu").untrained_head:
        print(f"NOTE: {name} has no trained head: it gets a random one, and the drift below says nothing")
        make_weights(name, str(folder), pairs)
    else:
        CrossEncoder(name, device="cpu").save_pretrained(folder)
    return folder


def load_sides(folder: Path, scratch: Path, sample: list[tuple[str, str]]) -> dict[str, Any]:
    """The model as every side runs it, exported where that is needed."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from sentence_transformers import CrossEncoder as Peer

    from crossenc_kit import CrossEncoder, export_model

    exact = CrossEncoder(folder, device="cpu")
    fast = scratch / "fast"
    for kind in ("int8", "onnx", "onnx-int8"):
        print(f"exporting {kind} ...", file=sys.stderr)
        export_model(exact, fast, kind, pairs=sample, allow_drift=True, repeats=1)
    quantize_dynamic(fast / "onnx/model.onnx", fast / "onnx/one.onnx", per_channel=True, weight_type=QuantType.QInt8)
    models = {
        name: CrossEncoder(folder if kind == "torch" else fast, backend=kind, device="cpu")
        for name, kind in SIDES.items()
    }
    models[ONE_SCALE] = CrossEncoder(fast, backend="onnx", model_kwargs={"file_name": "one.onnx"})
    return {**models, PEER: Peer(str(folder), device="cpu")}


def load_student(name: str | None, teacher: Any, scratch: Path, sample: list[tuple[str, str]]) -> dict[str, Any]:
    """A trained student in float32 and int8; without one, half of the teacher's layers."""
    from crossenc_kit import CrossEncoder, export_model, make_student

    if name is None:
        return {CUT: make_student(teacher, teacher.config.num_hidden_layers // 2)}
    student = CrossEncoder(name, device="cpu")
    export_model(student, scratch / "student", "int8", pairs=sample, allow_drift=True, repeats=1)
    layers = student.config.num_hidden_layers
    found = {STUDENT: student, SMALL: CrossEncoder(scratch / "student", backend="int8", device="cpu")}
    return {f"{side}, {layers} layers": model for side, model in found.items()}


def measure(
    name: str,
    seconds: dict[str, list[float]],
    runs: dict[str, Callable[[], np.ndarray]],
    models: dict[str, Any],
    pairs: list[tuple[str, str]],
) -> dict[str, Any]:
    """Everything about one side: speed beside the peer's, drift from the float32 scores, dependence on company."""
    ours, theirs = ([len(pairs) / value for value in seconds[side]] for side in (name, PEER))
    scores = runs[name]()
    few = pairs[:ALONE]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cut pairs, once for each of them
        alone = np.array([models[name].predict([pair], show_progress_bar=False)[0] for pair in few])
    drift = measure_drift(runs[EXACT](), scores)
    speed = Speed(name, "pairs/s", ours, theirs, higher_is_better=True)
    return {**speed.to_dict(), "drift": drift.to_dict(), "alone": float(np.abs(alone - scores[: len(few)]).max())}


def table(rows: list[dict[str, Any]]) -> str:
    """Aligned columns, one row a side."""
    lines = [["", "pairs/s", "ratio", "largest drift", "mean", "Spearman", "alone"]]
    for row in rows:
        low, high = row["gain_spread"]
        drift = row["drift"]
        cells = [f"{drift['largest']:.1e}", f"{drift['mean']:.1e}", f"{drift['spearman']:.5f}", f"{row['alone']:.1e}"]
        lines.append([row["name"], spread_text(row["ours"]), f"{row['gain']:.2f}x ({low:.2f} to {high:.2f})", *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


if __name__ == "__main__":
    main()
