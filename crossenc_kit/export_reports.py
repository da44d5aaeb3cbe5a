"""The reports of exports in a model's folder, and whose weights the folder holds: two models are not mixed in one."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from crossenc_kit.backbones import EXPORTS, WEIGHTS
from crossenc_kit.history import write_json

REPORTS = "export.json"  # {backend: report}
PLAIN = "model.safetensors"


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
