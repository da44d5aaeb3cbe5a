"""Checkpoints that survive a kill: at any moment the newest one, or the one before it, is whole.

A checkpoint is a folder `step-00000123/` of safetensors files, `state.json`, and `manifest.json` with the size
and sha256 of the others, which is written last. Everything is written under a hidden name, forced to the disk,
and renamed in one move; older checkpoints go only after that. Tensors and JSON, no pickle.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossenc_kit.errors import CheckpointError
from crossenc_kit.files import file_sha256, flush, plain, write_text
from crossenc_kit.scorers import warn_at_call

if TYPE_CHECKING:
    import torch

CHECKPOINT = re.compile(r"(\.replaced-)?step-(\d{8,})")
LEFTOVER = re.compile(r"\.(?:partial|retired)-.+-(\d+)")  # ends with the id of the process that made it
HOW_NOT_WHAT = {"foreach", "fused", "capturable", "differentiable"}  # which kernel runs, not what it computes


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint; its tensors are read when asked for."""

    path: Path
    step: int
    state: dict[str, Any]

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Read the tensors saved under `name` to the CPU."""
        from safetensors.torch import load_file

        # Copies, since safetensors maps the file and this checkpoint may be deleted meanwhile.
        found = load_file(self.path / f"{name}.safetensors")
        return {key: tensor.clone() for key, tensor in found.items()}


def save(
    folder: str | os.PathLike,
    step: int,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
) -> Path:
    """Write `<folder>/step-<step>/` with a file `<name>.safetensors` per entry of `tensors`, and `state.json`.

    Floats in `state` come back exactly, NaN and infinities included; tuples become lists, keys strings. Tied
    tensors are written in full. A checkpoint of the same step is replaced.

    keep: how many of the newest checkpoints up to `step` stay; later ones stay too, damaged ones go

    Raises `CheckpointError` if the disk refuses (older checkpoints stay), `TypeError` if `state` is not JSON.
    """
    folder = Path(folder)
    target = folder / f"step-{step:08d}"
    partial = folder / f".partial-{target.name}-{os.getpid()}"
    text = json.dumps(plain(state), indent=1)
    try:
        _prepare(folder)
        _write_all(partial, step, tensors, text)
        _move_in(partial, target)
    except OSError as error:
        size = sum(tensor.nbytes for named in tensors.values() for tensor in named.values())
        raise CheckpointError(
            f"could not save step {step} in {folder}: {error}. The checkpoints already there are untouched. "
            f"Free some space (this one takes about {size / 1e6:.1f} MB) or make the folder writable, then resume"
        ) from error
    finally:  # undo what a failure, a Ctrl-C or an earlier death cut short; nothing to do otherwise
        if partial.is_dir():
            _remove(partial)
        _put_back(folder)
    _retire_old(folder, step, keep)
    return target


def newest(folder: str | os.PathLike) -> Checkpoint | None:
    """Find the newest checkpoint whose files all match its manifest, or None.

    Warns of each damaged one that it skips, and why. Nothing is changed on the disk.
    """
    for step, path in _checkpoints(Path(folder)):
        damage = _damage(path, step)
        if not damage:
            return Checkpoint(path, step, json.loads((path / "state.json").read_text(encoding="utf-8")))
        warn_at_call(f"{path} is damaged ({damage}); looking for the checkpoint before it")
    return None


def _prepare(folder: Path) -> None:
    """Make the folder, and clear what dead processes left in it."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        flush(folder.parent)
    for path in list(folder.iterdir()):
        left = LEFTOVER.fullmatch(path.name)
        if left and not _is_another_live_process(int(left[1])):
            _remove(path)


def _is_another_live_process(pid: int) -> bool:
    if pid == os.getpid() or sys.platform == "win32":  # there, os.kill(pid, 0) would end the process
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's, so alive
        return True
    return True


def _write_all(partial: Path, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], state: str) -> None:
    """Write every file of a checkpoint to the disk, the manifest last."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    os.mkdir(partial)
    for name, named in tensors.items():
        try:
            save_file(_separate(named), partial / f"{name}.safetensors")
        except SafetensorError as error:  # how it reports a full disk
            raise OSError(str(error)) from error
        flush(partial / f"{name}.safetensors")
    write_text(partial / "state.json", state)
    names = [*(f"{name}.safetensors" for name in tensors), "state.json"]
    files = {name: {"bytes": (partial / name).stat().st_size, "sha256": file_sha256(partial / name)} for name in names}
    write_text(partial / "manifest.json", json.dumps({"step": step, "files": files}, indent=1))
    flush(partial)


def _move_in(partial: Path, target: Path) -> None:
    """Name a written checkpoint; one of the same step is first set aside, where `newest` still sees it."""
    aside = target.with_name(f".replaced-{target.name}")
    if target.exists():
        if aside.exists():  # left by an earlier replacement, which arrived
            _remove(aside)
        os.rename(target, aside)
    os.rename(partial, target)
    flush(target.parent)


def _put_back(folder: Path) -> None:
    """Return a checkpoint that was set aside to its name if its replacement never arrived."""
    for aside in list(folder.glob(".replaced-step-*")):
        target = folder / aside.name.removeprefix(".replaced-")
        try:
            if not target.exists():
                os.rename(aside, target)
        except OSError as error:  # `newest` finds it under either name
            warn_at_call(f"{aside} could not be renamed to {target.name} ({error})")


def _retire_old(folder: Path, step: int, keep: int) -> None:
    kept = 0
    for number, path in _checkpoints(folder):
        # Sizes only: hashing every older checkpoint at every save would take too long.
        if path.name.startswith(".replaced-") or _damage(path, number, read=False):
            _remove(path)
        elif number <= step:
            kept += 1
            if kept > keep:
                _remove(path)


def _remove(path: Path) -> None:
    """Delete a checkpoint, renamed first so that half of one never counts; warn if it cannot be deleted."""
    try:
        if not LEFTOVER.fullmatch(path.name):
            doomed = path.with_name(f".retired-{path.name.removeprefix('.replaced-')}-{os.getpid()}")
            os.rename(path, doomed)
            path = doomed
        shutil.rmtree(path)
    except OSError as error:
        warn_at_call(f"{path} is no longer needed but could not be deleted ({error}); delete it")


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """List the folders named like checkpoints, newest first; one set aside comes after its replacement."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := CHECKPOINT.fullmatch(path.name):
            found.append((int(match[2]), match[1] is None, path))
    return [(step, path) for step, _, path in sorted(found, reverse=True)]


def _damage(path: Path, step: int, read: bool = True) -> str:
    """Say what is wrong with a checkpoint, "" if it is whole (`read=False`: sizes only)."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if manifest["step"] != step or "state.json" not in manifest["files"]:
            return "manifest.json is of another checkpoint"
        for name, entry in manifest["files"].items():
            size = (path / name).stat().st_size
            if size != entry["bytes"]:
                return f"{name} has {size} bytes, not {entry['bytes']}"
            if read and file_sha256(path / name) != entry["sha256"]:
                return f"the sha256 of {name} is not the one in manifest.json"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return str(error)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return f"manifest.json cannot be read: {error}"
    return ""


def _separate(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Make tensors contiguous on the CPU, no two sharing memory; safetensors refuses anything else."""
    storages: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if address in storages else tensor
        storages.add(address)
    return result


def optimizer_state(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Split an optimizer's state into flat tensors, named `<parameter>.exp_avg`, and plain settings.

    Not by `torch.distributed.checkpoint`: it cannot load a parameter that never had a gradient.
    """
    saved, names = optimizer.state_dict(), _numbered_names(model, optimizer)
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, Any] = {}
    for number, state in saved["state"].items():
        for key, value in state.items():
            (tensors if hasattr(value, "dtype") else values)[f"{names[number]}.{key}"] = value
    groups = [{**group, "params": [names[number] for number in group["params"]]} for group in saved["param_groups"]]
    return tensors, {"groups": groups, "values": values}


def load_optimizer_state(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
) -> None:
    """Put back what `optimizer_state` took, so that the next step is the one that would have come.

    How a step is computed (`fused`, `foreach`, ...) stays as this optimizer was built, so that training may
    move to another device.
    """
    numbers = {name: number for number, name in enumerate(_numbered_names(model, optimizer))}
    state: dict[int, dict[str, Any]] = {}
    for flat, value in {**tensors, **settings["values"]}.items():
        name, _, key = flat.rpartition(".")
        state.setdefault(numbers[name], {})[key] = value
    groups = []
    for saved, built in zip(settings["groups"], optimizer.param_groups, strict=True):
        # JSON made lists of tuples such as AdamW's betas.
        group = {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}
        group |= {key: built[key] for key in HOW_NOT_WHAT & built.keys()}
        groups.append({**group, "params": [numbers[name] for name in saved["params"]]})
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _numbered_names(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """List the parameters' names in the order in which `Optimizer.state_dict` numbers them."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
