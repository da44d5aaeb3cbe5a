"""Export a trained model for fast scoring on a CPU, and measure how far its scores move.

    report = export_model(model, "fast", "int8", pairs=some_pairs)
    print(report)
    fast = CrossEncoder("fast")  # predict, rank: as before

| backend | what it is | runs on | architectures |
|---|---|---|---|
| "int8" | whole numbers on the pass without padding | torch | those that packed.py takes |
| "onnx" | float32 | onnxruntime | what torch can export |
| "onnx-int8" | the same whole numbers | onnxruntime | what torch can export, with linear layers |

One folder may hold several exports of a model, and its float32 weights beside them, but never two
models. The ONNX files have the names and places where sentence-transformers looks for them,
`CrossEncoder(folder, backend="onnx")`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.errors import DriftError, TruncationWarning
from crossenc_kit.evaluation.metrics import spearman
from crossenc_kit.files import replace_folder, write_json
from crossenc_kit.history import Report, provenance
from crossenc_kit.inference.timing import Speed, interleave
from crossenc_kit.models.adapters import is_wrapped
from crossenc_kit.models.backbones import EXPORTS, WEIGHTS
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.loading import MODEL_FILES
from crossenc_kit.scorers import check_finite, raw_options

MEGABYTE = 1e6  # bytes
SAMPLE = 256  # pairs that are timed, and that tell the ranges of the layers' inputs
REPORTS = "export.json"  # {backend: report}
PLAIN = "model.safetensors"
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # relative: float32 sums in another order differ by this much


class Bounds(NamedTuple):
    """The drift that is allowed."""

    min_spearman: float  # with the float32 scores
    max_drift: float  # largest difference, in standard deviations of the float32 scores


BOUNDS = {"int8": Bounds(0.99, 0.25), "onnx": Bounds(0.9999, 1e-3), "onnx-int8": Bounds(0.99, 0.25)}


@dataclass(frozen=True)
class Drift(Report):
    """How far the scores of N pairs are from the exact ones."""

    pairs: int
    largest: float  # absolute difference, in the scores' own unit
    mean: float  # of the absolute differences
    spread: float  # standard deviation of the exact scores
    spearman: float  # lowest of all classes; 1 if the scores are equal but for rounding
    size: float  # largest absolute value of the exact scores
    agreement: float | None = None  # share of pairs with the same best class; None for one score per pair

    @property
    def relative(self) -> float:
        """The largest difference in standard deviations of the exact scores; rounding / 0 is 0."""
        if self.spread:
            return self.largest / self.spread
        return 0.0 if self.is_rounding else math.inf

    @property
    def is_rounding(self) -> bool:
        """Whether the scores differ by no more than float32 rounds."""
        return self.largest <= ROUNDING * self.size

    @property
    def metrics(self) -> dict[str, float]:
        """Spearman first."""
        agreement = {} if self.agreement is None else {"agreement": self.agreement}
        return {"spearman": self.spearman, "largest": self.largest, "relative": self.relative, **agreement}

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "relative": self.relative}

    def __str__(self) -> str:
        text = f"largest {self.largest:.2g} ({self.relative:.2g} standard deviations of the scores), "
        text += f"mean {self.mean:.2g}, Spearman {self.spearman:.5f}"
        return text if self.agreement is None else f"{text}, same class {self.agreement:.1%}"


@dataclass(frozen=True)
class ExportReport(Report):
    """The drift, speed and size of an export, beside float32 in torch on the same pairs."""

    backend: str
    folder: Path
    drift: Drift
    speed: Speed  # pairs per second of the export (ours) and of the float32 model (theirs)
    size: float  # of the weights, in MB (10^6 bytes)
    float_size: float

    @property
    def metrics(self) -> dict[str, float]:
        """Spearman with the float32 scores first."""
        sizes = {"megabytes": self.size, "float32_megabytes": self.float_size}
        return {**self.drift.metrics, "gain": self.speed.gain, **sizes}

    def to_dict(self) -> dict[str, Any]:
        """Return everything measured, ready for JSON."""
        sizes = {"megabytes": self.size, "float32_megabytes": self.float_size}
        return {"backend": self.backend, "drift": self.drift.to_dict(), "speed": self.speed.to_dict(), **sizes}

    def __str__(self) -> str:
        sizes = f"{self.size:.1f} MB of weights (float32: {self.float_size:.1f})"
        speed = f"{self.speed.gain_text()} the speed of float32"
        drift = f"drift on {self.drift.pairs} pairs: {self.drift}"
        return f"{self.backend} in {self.folder.name}: {speed}, {sizes}; {drift}"


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
    """Write a float32 model as "int8", "onnx" or "onnx-int8" into a folder, for `CrossEncoder(folder)`.

    The folder appears whole or not at all; float32 weights and other exports of the same model stay.

    pairs: some hundred pairs like those to be scored; the drift is measured on them
    min_spearman, max_drift: bounds, see `Drift`; default `BOUNDS`. They hold before a sigmoid, too
    smooth: even out the channels of int8 layers by their ranges on the pairs
    repeats: runs that are timed

    Raises `DriftError` if the scores move too far (unless `allow_drift`), `ValueError` for a model that
    cannot be exported or a folder with another model, `ImportError` without onnx and its runtime.
    """
    if backend not in EXPORTS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(EXPORTS)}")
    source, texts = _float32(model), as_pairs(pairs).texts
    digest = weights_digest(source.model.state_dict())
    others = check_beside(Path(folder), backend, digest)
    exact = source.predict(texts, show_progress_bar=False)
    usual = BOUNDS[backend]
    bounds = Bounds(
        usual.min_spearman if min_spearman is None else min_spearman,
        usual.max_drift if max_drift is None else max_drift,
    )
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory() as scratch,
        replace_folder(folder, () if others else MODEL_FILES) as place,
    ):
        warnings.simplefilter("ignore", TruncationWarning)  # scoring `exact` has warned
        _convert(source, backend, texts[:SAMPLE], smooth, Path(scratch)).save_pretrained(place)
        loaded = CrossEncoder(place, backend=backend, device="cpu", activation_fn=source.activation_fn)
        drift = measure_drift(exact, loaded.predict(texts, show_progress_bar=False))
        if not allow_drift:
            check_drift(backend, drift, bounds)
            if raw := raw_options(source):  # a bounded activation hides what rankings see
                both = (m.predict(texts, show_progress_bar=False, **raw) for m in (source, loaded))
                check_drift(f"{backend}, before the activation,", measure_drift(*both), bounds)
        speed = _compare_speed(loaded, source, texts[:SAMPLE], repeats)
        size = (place / EXPORTS[backend]).stat().st_size / MEGABYTE
        float_size = sum(w.nbytes for w in source.model.state_dict().values()) / MEGABYTE
        report = ExportReport(backend, Path(folder), drift, speed, size, float_size)
        keep_others(Path(folder), place, others)
        record = {**report.to_dict(), "weights": digest, **_provenance(backend)}
        write_json(place / REPORTS, {**read_reports(place), backend: record})
    return report


def _float32(model: CrossEncoder) -> CrossEncoder:
    """Copy the model in float32 to the CPU; raise for what cannot be exported."""
    if model.backend != "torch":
        raise ValueError(f"the model is exported already, as {model.backend}; export the float32 model")
    if is_wrapped(model.model):
        raise ValueError("a model with an adapter is not exported; make a plain one first: merge_adapters(model)")
    if model.untrained_head:
        raise ValueError(f"the head of {model.name!r} is new and untrained: drift means nothing there; train it first")
    source = copy.copy(model)
    source.model = copy.deepcopy(model.model).float().to("cpu").eval()
    return source


def _convert(source: CrossEncoder, backend: str, texts: list, smooth: bool, scratch: Path) -> CrossEncoder:
    """Make the model that the backend runs from the float32 one; an ONNX file goes into `scratch`."""
    from crossenc_kit.models.int8 import input_ranges, quantize, to_int8
    from crossenc_kit.models.packed import pad_batch, padding_of

    exported, model = copy.copy(source), source.model
    exported.card = {**source.card, "backend": backend}
    if backend != "onnx":
        ranges = None
        if smooth:
            ranges = input_ranges(model, lambda: source.predict(texts, threads=1, show_progress_bar=False))
        turn = quantize if backend == "onnx-int8" else to_int8
        model = turn(copy.deepcopy(model), ranges)
    if backend != "int8":
        from crossenc_kit.models.onnx import OnnxClassifier, write_onnx

        sample = pad_batch(source.tokenize(texts[:2]), np.arange(2), padding_of(model, source.tokenizer), "cpu")
        file = write_onnx(model, scratch / Path(EXPORTS[backend]).name, sample)
        model = OnnxClassifier(file, model.config)
    exported.model, exported.backend = model, backend
    return exported


def _compare_speed(fast: CrossEncoder, exact: CrossEncoder, texts: list, repeats: int) -> Speed:
    """Measure the pairs per second of both models, taking turns."""
    sides = {"fast": fast, "exact": exact}
    runs = {name: partial(side.predict, texts, show_progress_bar=False) for name, side in sides.items()}
    seconds = interleave(runs, repeats)
    ours, theirs = ([len(texts) / value for value in seconds[name]] for name in sides)
    return Speed("predict", "pairs/s", ours, theirs, higher_is_better=True)


def _provenance(backend: str) -> dict[str, Any]:
    record = provenance("cpu")
    if backend.startswith("onnx"):
        record["versions"] |= {name: metadata.version(name) for name in ("onnx", "onnxruntime", "onnxscript")}
    return record


# --- the folder: one model, and the reports of its exports ----------------------------------------


def weights_digest(weights: dict[str, Any]) -> str:
    """Return the sha256 of weights by name, in float32: the same for a model saved and loaded again."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_reports(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the report of each backend that was exported into a folder; empty if there is none."""
    path = folder / REPORTS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def check_beside(folder: Path, backend: str, digest: str) -> list[str]:
    """List the other weight files in the folder, which the export leaves there.

    Raises `ValueError` if one of them belongs to another model, or nobody knows to which.
    """
    reports = read_reports(folder)
    held = {name: reports.get(kind, {}).get("weights") for kind, name in EXPORTS.items() if kind != backend}
    held |= dict.fromkeys((*WEIGHTS, "adapter_config.json"))
    held = {name: whose for name, whose in held.items() if (folder / name).is_file()}
    if PLAIN in held:
        from safetensors.torch import load_file

        held[PLAIN] = weights_digest(load_file(folder / PLAIN))
    others = sorted(name for name, whose in held.items() if whose != digest)
    if others:
        raise ValueError(
            f"the folder {str(folder)!r} holds {', '.join(others)} of another or an unknown model; "
            "an export would mix two models: choose another folder"
        )
    return sorted(held)


def keep_others(folder: Path, place: Path, others: list[str]) -> None:
    """Copy what `place` would hide: other files in onnx/, the reports, the card of the training."""
    kept = [name for name in others if name.startswith("onnx/")] + [REPORTS] * bool(others)
    kept += ["README.md"] if PLAIN in others else []
    for name in kept:
        if (folder / name).is_file():
            (place / name).parent.mkdir(exist_ok=True)
            shutil.copy2(folder / name, place / name)


# --- the drift: arrays in, numbers out ------------------------------------------------------------


def measure_drift(exact: ArrayLike, other: ArrayLike) -> Drift:
    """Measure how far scores `(N,)` or `(N, C)` are from the exact ones.

    Raises `ValueError` for other shapes, scores that are not finite, and fewer than two pairs.
    """
    exact, other = np.asarray(exact, dtype=float), np.asarray(other, dtype=float)
    if exact.shape != other.shape or len(exact) < 2:
        shapes = f"scores of shapes {exact.shape} and {other.shape}"
        raise ValueError(f"{shapes}; drift needs the scores of at least two pairs, better hundreds, twice")
    check_finite(exact, "row {}".format, "the exact model")
    check_finite(other, "row {}".format, "the other model")
    difference, size = np.abs(exact - other), float(np.abs(exact).max())
    columns = zip(exact.reshape(len(exact), -1).T, other.reshape(len(other), -1).T, strict=True)
    return Drift(
        pairs=len(exact),
        largest=float(difference.max()),
        mean=float(difference.mean()),
        spread=float(np.where(np.ptp(exact, axis=0) > 0, np.std(exact, axis=0), 0.0).mean()),
        spearman=min(_order(ours, theirs, ROUNDING * size) for ours, theirs in columns),
        size=size,
        agreement=float(np.mean(exact.argmax(1) == other.argmax(1))) if exact.ndim == 2 else None,
    )


def _order(ours: np.ndarray, theirs: np.ndarray, rounding: float) -> float:
    """Return Spearman's correlation; 1 for equal scores, which may be constant."""
    return 1.0 if np.abs(ours - theirs).max() <= rounding else spearman(ours, theirs)


def check_drift(name: str, drift: Drift, bounds: Bounds) -> None:
    """Raise `DriftError` if the drift is outside its bounds; rounding always passes."""
    too_far = drift.spearman < bounds.min_spearman or drift.relative > bounds.max_drift
    if too_far and not drift.is_rounding:
        raise DriftError(
            f"{name} moves the scores too far from float32 on {drift.pairs} pairs: {drift}; allowed are a "
            f"Spearman of {bounds.min_spearman:g} or more and {bounds.max_drift:g} standard deviations or "
            "less. Give other bounds (min_spearman, max_drift), or write it anyway: allow_drift=True",
            drift,
        )
