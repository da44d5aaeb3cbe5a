"""Export a trained model for fast scoring on a CPU, with the drift of its scores measured on the way.

    report = export_model(model, "fast", "int8", pairs=some_pairs)
    print(report)
    fast = CrossEncoder("fast")  # predict, rank: as before

| backend | what it is | runs on | architectures |
|---|---|---|---|
| "int8" | whole numbers on the pass without padding | torch | those that packed.py takes |
| "onnx" | float32 | onnxruntime | what torch can export |
| "onnx-int8" | the same whole numbers | onnxruntime | what torch can export, with linear layers |

One folder may hold several of them, and the float32 weights beside them. The ONNX files have the names and places that
sentence-transformers looks in, `CrossEncoder(folder, backend="onnx")`.
"""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit import adapters, loading
from crossenc_kit.backbones import EXPORTS
from crossenc_kit.backends import backend_of, to_int8
from crossenc_kit.batches import one_or_more
from crossenc_kit.drift import Drift, check_drift, measure_drift
from crossenc_kit.export_reports import check_beside, keep_others, weights_digest, write_report
from crossenc_kit.folders import replace_folder
from crossenc_kit.history import provenance
from crossenc_kit.measuring import Comparison, interleave
from crossenc_kit.model import CrossEncoder, TruncationWarning
from crossenc_kit.pairs import Pairs, as_text_pairs
from crossenc_kit.scorers import raw_options

MEGABYTE = 1e6
SAMPLE = 256  # pairs whose scoring is timed, and that tell the ranges of the layers' inputs


class Bounds(NamedTuple):
    """The drift that is allowed: Spearman with the float32 scores, largest difference in their standard deviations."""

    min_spearman: float
    max_drift: float


BOUNDS = {"int8": Bounds(0.99, 0.25), "onnx": Bounds(0.9999, 1e-3), "onnx-int8": Bounds(0.99, 0.25)}


@dataclass(frozen=True)
class ExportReport:
    """What an export came to: drift and speed beside float32 in torch, on the same pairs; sizes in MB (10^6 bytes).

    `speed`: pairs a second of the export (`ours`) and of the float32 model (`theirs`), measured in turns.
    """

    backend: str
    folder: Path
    drift: Drift
    speed: Comparison
    size: float
    float_size: float

    def __str__(self) -> str:
        sizes = f"{self.size:.1f} MB of weights (float32: {self.float_size:.1f})"
        speed = f"{self.speed.gain_text()} the speed of float32"
        return (
            f"{self.backend} in {self.folder.name}: {speed}, {sizes}; drift on {self.drift.pairs} pairs: {self.drift}"
        )

    def record(self) -> dict[str, Any]:
        """Everything measured, for JSON."""
        sizes = {"megabytes": self.size, "float32_megabytes": self.float_size}
        return {"backend": self.backend, "drift": self.drift.record(), "speed": self.speed.record(), **sizes}


def export_model(
    model: CrossEncoder,
    folder: str | os.PathLike,
    backend: str = "int8",
    *,
    pairs: Any,
    min_spearman: float | None = None,
    max_drift: float | None = None,
    allow_drift: bool = False,
    smooth: bool = True,
    repeats: int = 3,
) -> ExportReport:
    """Write a float32 model as "int8", "onnx" or "onnx-int8" into a folder, from which `CrossEncoder` loads it.

    `pairs`: N pairs like those that will be scored, some hundreds; the scores of the folder, loaded again, are held
    against the model's on them. The export is refused, and nothing written, where Spearman is below `min_spearman`
    (0.99, ONNX in float32 0.9999) or the largest difference above `max_drift` standard deviations of the scores (0.25,
    0.001), but with `allow_drift`; scores that are equal but for rounding pass. Of one label with a sigmoid both its
    scores and the raw ones, which rankings use, must pass. `smooth`: bring the channels of int8 layers closer by their
    ranges on the pairs (see quantization.py). `repeats`: runs that are timed.

    The folder also holds configuration, tokenizer and `export.json` with the report. It appears whole or not at all;
    float32 weights and other exports of the same weights in it stay. Raises `DriftError` for the drift; `ValueError`
    for a model that is untrained, has an adapter or is exported already, an architecture that cannot be exported, or a
    folder with another model; `ImportError` without onnx, onnxruntime or onnxscript; `OSError` for a folder that cannot
    be written.
    """
    if backend not in EXPORTS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(EXPORTS)}")
    if not isinstance(model, CrossEncoder):
        raise TypeError(f"an export is made of a CrossEncoder, got {model!r:.60}: load it with CrossEncoder(...) first")
    one_or_more("repeats", repeats)
    source, texts = _float32(model), _texts(pairs)
    digest = weights_digest(source.model.state_dict())
    others = check_beside(Path(folder), backend, digest)
    exact = source.predict(texts, show_progress_bar=False)
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory() as scratch,
        replace_folder(folder, () if others else loading.MODEL_FILES) as place,
    ):
        warnings.simplefilter("ignore", TruncationWarning)  # `exact` has told
        _convert(source, backend, texts[:SAMPLE], smooth, Path(scratch)).save_pretrained(place)
        loaded = CrossEncoder(place, backend=backend, device="cpu", activation_fn=source.activation_fn)
        drift = measure_drift(exact, loaded.predict(texts, show_progress_bar=False))
        if not allow_drift:
            bounds = BOUNDS[backend]
            least = bounds.min_spearman if min_spearman is None else min_spearman
            most = bounds.max_drift if max_drift is None else max_drift
            check_drift(backend, drift, least, most)
            if raw := raw_options(source):
                check_drift(f"{backend}, before the activation,", _raw_drift(source, loaded, texts, raw), least, most)
        speed = _compare_speed(loaded, source, texts[:SAMPLE], repeats)
        sizes = (place / EXPORTS[backend]).stat().st_size, sum(w.nbytes for w in source.model.state_dict().values())
        report = ExportReport(backend, Path(folder), drift, speed, *(size / MEGABYTE for size in sizes))
        keep_others(Path(folder), place, others)
        write_report(place, backend, {**report.record(), "weights": digest, **_provenance(backend)})
    return report


def _raw_drift(source: CrossEncoder, loaded: CrossEncoder, texts: list, raw: dict[str, Any]) -> Drift:
    """The drift before an activation that bounds the scores: it hides what rankings see, where it saturates."""
    exact, other = (model.predict(texts, show_progress_bar=False, **raw) for model in (source, loaded))
    return measure_drift(exact, other)


def _texts(pairs: Any) -> list[tuple[str, str]]:
    data, single = as_text_pairs(pairs)
    if single or len(data) < 2:
        raise ValueError("the drift is measured on two pairs at least, better on hundreds; give a list as pairs")
    return data.texts if isinstance(data, Pairs) else data


def _float32(model: CrossEncoder) -> CrossEncoder:
    """A copy of the model in float32 on the CPU; raises `ValueError` for what cannot be exported."""
    if backend_of(model.model) != "torch":
        raise ValueError(f"the model is exported already, as {backend_of(model.model)}; export the float32 model")
    if adapters.is_wrapped(model.model):
        raise ValueError("a model with an adapter is not exported; make a plain one first: merge_adapters(model)")
    if model.untrained_head:
        raise ValueError(f"the head of {model.name!r} is new and untrained: drift means nothing there; train it first")
    source = copy.copy(model)
    source.model = copy.deepcopy(model.model).float().to("cpu").eval()
    return source


def _convert(source: CrossEncoder, backend: str, texts: list, smooth: bool, scratch: Path) -> CrossEncoder:
    """The model as the backend runs it, made from the float32 one; an ONNX file goes into `scratch`."""
    from crossenc_kit.packed import pad_batch, padding_of
    from crossenc_kit.quantization import input_ranges, quantize

    exported, model = copy.copy(source), source.model
    exported.card = {**source.card, "backend": backend}
    if backend != "onnx":
        ranges = None
        if smooth:
            ranges = input_ranges(model, lambda: source.predict(texts, threads=1, show_progress_bar=False))
        turn = quantize if backend == "onnx-int8" else to_int8
        model = turn(copy.deepcopy(model), ranges)
    if backend != "int8":
        from crossenc_kit.onnx_graph import write_onnx
        from crossenc_kit.onnx_session import OnnxClassifier

        sample = pad_batch(source.tokenize(texts[:2]), np.arange(2), padding_of(model, source.tokenizer), "cpu")
        file = write_onnx(model, scratch / Path(EXPORTS[backend]).name, sample)
        model = OnnxClassifier(file, model.config)
    exported.model = model
    return exported


def _compare_speed(fast: CrossEncoder, exact: CrossEncoder, texts: list, repeats: int) -> Comparison:
    """Pairs a second of both, in turns."""
    sides = {"fast": fast, "exact": exact}
    runs = {name: partial(side.predict, texts, show_progress_bar=False) for name, side in sides.items()}
    seconds = interleave(runs, repeats)
    ours, theirs = ([len(texts) / value for value in seconds[name]] for name in sides)
    return Comparison("predict", "pairs/s", ours, theirs, higher_is_better=True)


def _provenance(backend: str) -> dict[str, Any]:
    record = provenance("cpu")
    if backend.startswith("onnx"):
        record["versions"] |= {name: metadata.version(name) for name in ("onnx", "onnxruntime", "onnxscript")}
    return record
