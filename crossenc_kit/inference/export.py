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

The reports of exports in a model's folder, and whose weights the folder holds: two models are not mixed in one.

How far a faster form of a model moves its scores: arrays in, numbers out, no torch.
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
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.pairs import Pairs, as_text_pairs
from crossenc_kit.errors import DriftError, TruncationWarning
from crossenc_kit.evaluation.metrics import spearman
from crossenc_kit.files import replace_folder, write_json
from crossenc_kit.history import provenance
from crossenc_kit.inference.timing import Comparison, interleave
from crossenc_kit.models.adapters import is_wrapped
from crossenc_kit.models.backbones import EXPORTS, WEIGHTS
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.loading import MODEL_FILES
from crossenc_kit.models.tokens import one_or_more
from crossenc_kit.scorers import raw_options

MEGABYTE = 1e6
SAMPLE = 256  # pairs whose scoring is timed, and that tell the ranges of the layers' inputs
REPORTS = "export.json"  # {backend: report}
PLAIN = "model.safetensors"
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of a score's size: what float32 sums in another order may differ by
HARDLY = 1e-3  # of the largest score: a spread below it is a model's that tells no pairs apart


class Bounds(NamedTuple):
    """The drift that is allowed: Spearman with the float32 scores, largest difference in their standard deviations."""

    min_spearman: float
    max_drift: float


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
        replace_folder(folder, () if others else MODEL_FILES) as place,
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
    """The model as the backend runs it, made from the float32 one; an ONNX file goes into `scratch`."""
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


def weights_digest(weights: dict[str, Any]) -> str:
    """sha256 of weights by name, in float32: equal for a model saved and loaded again."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_reports(folder: Path) -> dict[str, dict[str, Any]]:
    """The report of each backend that was exported into a folder; empty where there is none."""
    path = folder / REPORTS
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON ({error}); remove it, or export into another folder") from error
    return found if isinstance(found, dict) else {}


def check_beside(folder: Path, backend: str, digest: str) -> list[str]:
    """The files of other weights that an export into the folder leaves there, all of the model with this digest.

    Raises `ValueError` where one is of another model, or it is not known of which.
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
            f"the folder {str(folder)!r} holds {', '.join(others)} of another model, or of one not known; "
            "an export would mix two models: choose another folder"
        )
    return sorted(held)


def keep_others(folder: Path, place: Path, others: list[str]) -> None:
    """Copy what an export leaves in the folder and `place` would hide: files beside it in onnx/, reports, the card."""
    kept = [name for name in others if name.startswith("onnx/")] + [REPORTS] * bool(others)
    kept += ["README.md"] if PLAIN in others else []  # which tells of the training
    for name in kept:
        if (folder / name).is_file():
            (place / name).parent.mkdir(exist_ok=True)
            shutil.copy2(folder / name, place / name)


def write_report(folder: Path, backend: str, report: dict[str, Any]) -> None:
    """Add a report to those of the folder."""
    write_json(folder / REPORTS, {**read_reports(folder), backend: report})


@dataclass(frozen=True)
class Drift:
    """Scores of N pairs beside the exact ones.

    `largest`, `mean`: of the absolute differences, in the scores' own unit; `spread`: the standard deviation of the
    exact scores, `size` the largest of them without its sign; `spearman`: rank correlation with them, of several
    classes the lowest, 1 where all are equal within the rounding of float32; `agreement`: the share of pairs whose
    highest class is the same, None for one score a pair.
    """

    pairs: int
    largest: float
    mean: float
    spread: float
    spearman: float
    size: float
    agreement: float | None = None

    @property
    def relative(self) -> float:
        """The largest difference in standard deviations of the exact scores; rounding / 0 is 0."""
        if self.spread:
            return self.largest / self.spread
        return 0.0 if self.is_rounding else math.inf

    @property
    def is_rounding(self) -> bool:
        """Whether the scores are equal but for the rounding of float32: no drift, however little they differ."""
        return self.largest <= ROUNDING * self.size

    def __str__(self) -> str:
        text = f"largest {self.largest:.2g} ({self.relative:.2g} standard deviations of the scores), "
        text += f"mean {self.mean:.2g}, Spearman {self.spearman:.5f}"
        return text if self.agreement is None else f"{text}, same class {self.agreement:.1%}"

    def record(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {**asdict(self), "relative": self.relative}


def measure_drift(exact: ArrayLike, other: ArrayLike) -> Drift:
    """The drift of scores `(N,)` or `(N, C)` from the exact ones.

    Raises `ValueError` where the shapes differ, a score is not finite, or there are fewer than two pairs.
    """
    exact, other = np.asarray(exact, dtype=float), np.asarray(other, dtype=float)
    if exact.shape != other.shape or exact.ndim not in (1, 2):
        raise ValueError(f"scores of shapes {exact.shape} and {other.shape}; expected two of (N,) or two of (N, C)")
    if len(exact) < 2:
        raise ValueError(f"drift is measured on two pairs at least, better on hundreds; got {len(exact)}")
    for name, scores in (("exact", exact), ("other", other)):
        wrong = np.flatnonzero(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1))
        if len(wrong):
            raise ValueError(f"row {wrong[0]} of the {name} scores is not finite ({len(wrong)} of {len(scores)})")
    difference, size = np.abs(exact - other), float(np.abs(exact).max())
    columns = list(zip(exact.reshape(len(exact), -1).T, other.reshape(len(other), -1).T, strict=True))
    agreement = float(np.mean(exact.argmax(1) == other.argmax(1))) if exact.ndim == 2 else None
    return Drift(
        pairs=len(exact),
        largest=float(difference.max()),
        mean=float(difference.mean()),
        spread=float(np.where(np.ptp(exact, axis=0) > 0, np.std(exact, axis=0), 0.0).mean()),
        spearman=min(_order(ours, theirs, ROUNDING * size) for ours, theirs in columns),
        size=size,
        agreement=agreement,
    )


def _order(ours: np.ndarray, theirs: np.ndarray, rounding: float) -> float:
    """Spearman's correlation; 1 for scores that are equal, of which each may be constant."""
    return 1.0 if np.abs(ours - theirs).max() <= rounding else spearman(ours, theirs)


def check_drift(name: str, drift: Drift, least_spearman: float, most: float) -> None:
    """Raise `DriftError` for a Spearman below `least_spearman`, or a largest difference above `most` deviations.

    Scores that are equal but for rounding pass.
    """
    if drift.is_rounding or (drift.spearman >= least_spearman and drift.relative <= most):
        return
    doubt = ""
    if drift.spread <= HARDLY * drift.size:
        doubt = f"The exact scores hardly differ (sd {drift.spread:.2g}): is the model trained, are the pairs varied? "
    raise DriftError(
        f"{name} moves the scores too far from float32 on {drift.pairs} pairs: {drift}; allowed are Spearman "
        f"{least_spearman:g} and more, {most:g} standard deviations and less. {doubt}Give other bounds (min_spearman, "
        "max_drift), or write it all the same with allow_drift=True",
        drift,
    )


BOUNDS = {"int8": Bounds(0.99, 0.25), "onnx": Bounds(0.9999, 1e-3), "onnx-int8": Bounds(0.99, 0.25)}
