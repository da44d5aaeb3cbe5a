"""Crash-safe checkpoints: at any moment, a killed run leaves its newest checkpoint or the one before, whole.

A checkpoint is a folder `step-00000123/` of safetensors files, `state.json` and `manifest.json` (size and
sha256 of the others, written last). It is written under a hidden name, forced to the disk, and appears under
its own name by one rename; older ones go only after that. No pickle anywhere: tensors and JSON.

The state of a torch optimizer as flat tensors and JSON, without pickle and bit for bit.

`Optimizer.state_dict` numbers the parameters and mixes tensors with Python values; here every tensor is
`<parameter name>.<state key>`, ready for safetensors, and the rest is plain JSON.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.errors import CheckpointError
from crossenc_kit.files import file_sha256, flush, plain, write_text

if TYPE_CHECKING:
    import torch

    Names = Mapping[torch.nn.Parameter, str] | Iterable[tuple[str, torch.nn.Parameter]]

CHECKPOINT = re.compile(r"(\.replaced-)?step-(\d{8,})")
LEFTOVER = re.compile(r"\.(?:partial|retired)-.+-(\d+)")  # ends with the id of the process that made it
HOW_NOT_WHAT = ("foreach", "fused", "capturable", "differentiable")  # which kernel runs, not what it computes
PLAIN = (bool, int, float, str, type(None), np.generic)


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its folder, its step, its JSON state; tensors are read when asked for."""

    path: Path
    step: int
    state: dict[str, Any]

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors saved under `name`, on the CPU; `CheckpointError` names what there is if not that."""
        from safetensors import safe_open

        path = self.path / f"{name}.safetensors"
        if not path.is_file():
            there = ", ".join(sorted(file.stem for file in self.path.glob("*.safetensors"))) or "none"
            raise CheckpointError(f"{self.path} has no tensors named {name!r}; it has: {there}")
        # Copies, since safetensors maps the file and this checkpoint may be deleted while they are in use.
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a dict)


def save(
    folder: str | os.PathLike,
    step: int,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
) -> Path:
    """Write `<folder>/step-<step>/` with a file `<name>.safetensors` per entry of `tensors`, and `state.json`.

    Tied and non-contiguous tensors are written in full. `state` comes back as JSON gives it: floats exactly,
    NaN and infinities included, tuples as lists, keys as strings. A checkpoint of the same step is replaced.
    Afterwards the newest `keep` up to `step` stay; whole ones of later steps are left alone, damaged ones go.
    Raises `CheckpointError` if the disk refuses (older checkpoints stay), TypeError if `state` is not JSON.
    """
    if step < 0 or keep < 1:
        raise ValueError(f"step must be at least 0 and keep at least 1, got step={step}, keep={keep}")
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
    """The newest checkpoint whose files all have the size and sha256 of its manifest, or None.

    Damaged ones are passed over with a warning that says which and why. Nothing is changed on the disk.
    """
    for step, path in _checkpoints(Path(folder)):
        damage = _damage(path, step)
        if not damage:
            return Checkpoint(path, step, json.loads((path / "state.json").read_text(encoding="utf-8")))
        warnings.warn(f"{path} is damaged ({damage}); looking for the checkpoint before it", stacklevel=2)
    return None


def _prepare(folder: Path) -> None:
    """Make the folder; clear what dead processes left in it."""
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
    except PermissionError:  # somebody else's, so alive
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
    """Give a written checkpoint its name; one of the same step is set aside first, where `newest` still sees it."""
    aside = target.with_name(f".replaced-{target.name}")
    if target.exists():
        if aside.exists():  # of an earlier replacement that arrived
            _remove(aside)
        os.rename(target, aside)
    os.rename(partial, target)
    flush(target.parent)


def _put_back(folder: Path) -> None:
    """Give a checkpoint that was set aside its name back if its replacement never arrived."""
    for aside in list(folder.glob(".replaced-step-*")):
        target = folder / aside.name.removeprefix(".replaced-")
        try:
            if not target.exists():
                os.rename(aside, target)
        except OSError as error:  # `newest` finds it under either name
            warnings.warn(f"{aside} could not be renamed to {target.name} ({error})", stacklevel=3)


def _retire_old(folder: Path, step: int, keep: int) -> None:
    kept = 0
    for number, path in _checkpoints(folder):
        # Sizes only: reading every older checkpoint at every save would cost more than it could tell.
        if path.name.startswith(".replaced-") or _damage(path, number, read=False):
            _remove(path)
        elif number <= step:
            kept += 1
            if kept > keep:
                _remove(path)


def _remove(path: Path) -> None:
    """Delete a checkpoint, renamed first so that half of one never counts; what cannot be deleted is warned of."""
    try:
        if not LEFTOVER.fullmatch(path.name):
            doomed = path.with_name(f".retired-{path.name.removeprefix('.replaced-')}-{os.getpid()}")
            os.rename(path, doomed)
            path = doomed
        shutil.rmtree(path)
    except OSError as error:
        warnings.warn(f"{path} is no longer needed but could not be deleted ({error}); delete it", stacklevel=4)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Folders named like checkpoints, newest step first; one set aside for a replacement comes after it."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := CHECKPOINT.fullmatch(path.name):
            found.append((int(match[2]), match[1] is None, path))
    return [(step, path) for step, _, path in sorted(found, reverse=True)]


def _damage(path: Path, step: int, read: bool = True) -> str:
    """What is wrong with a checkpoint, in words, or "" if it is whole (`read=False`: sizes only)."""
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
    """Contiguous CPU tensors, no two of which share memory (safetensors refuses both)."""
    storages: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if address in storages else tensor
        storages.add(address)
    return result


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Names) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """`(tensors, meta)`: the tensors `<parameter>.<state key>`, and groups and scalar state as JSON.

    `names` is `model.named_parameters()` or a dict from parameter to name. The tensors are the live ones,
    not copies. Raises `CheckpointError` for a parameter without a name and for state that is neither a
    tensor nor a plain value (of torch's optimizers only LBFGS, which keeps lists of tensors).
    """
    named = _named(names)
    tensors: dict[str, torch.Tensor] = {}
    state: dict[str, Any] = {}
    groups: list[dict[str, Any]] = []
    for members, group in zip(_members(optimizer, named), optimizer.param_groups, strict=True):
        settings = {key: _value(group[key], key) for key in group if key not in ("params", "param_names")}
        groups.append({"params": members, **settings})
        for name, parameter in zip(members, group["params"], strict=True):
            if entry := optimizer.state.get(parameter):
                live, state[name] = _split(name, parameter, entry)
                tensors.update(live)
    return tensors, {"groups": groups, "state": state}


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: Names, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]
) -> None:
    """Put back what `optimizer_tensors` took; the next step is the one that would have come.

    Unlike `Optimizer.load_state_dict` it casts nothing, finds parameters by name, and leaves `fused`,
    `foreach`, `capturable` and `differentiable` as this optimizer was built, so that a run may change device.
    Raises `CheckpointError` before anything is changed if parameter groups differ or tensors are absent.
    """
    members = _members(optimizer, _named(names))
    _check_groups([group["params"] for group in meta["groups"]], members)
    wanted = [f"{name}.{key}" for name, entry in meta["state"].items() for key in entry["tensors"]]
    absent = [key for key in wanted if key not in tensors]
    if absent:
        raise CheckpointError(
            f"{len(absent)} optimizer tensors are absent, such as {absent[0]!r}; use another checkpoint"
        )
    optimizer.state.clear()
    for group, saved, group_names in zip(optimizer.param_groups, meta["groups"], members, strict=True):
        for key in saved.keys() - {"params", *HOW_NOT_WHAT}:
            group[key] = _like(group.get(key), saved[key])
        for name, parameter in zip(group_names, group["params"], strict=True):
            if entry := meta["state"].get(name):
                optimizer.state[parameter] = _joined(name, parameter, entry, tensors, group)


def _split(name: str, parameter: torch.Tensor, entry: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict]:
    """The state of one parameter as (flat tensors, JSON)."""
    import torch

    live = {key: value for key, value in entry.items() if isinstance(value, torch.Tensor)}
    values = {key: _value(value, f"{key} of {name}") for key, value in entry.items() if key not in live}
    on_cpu = [key for key, tensor in live.items() if tensor.device != parameter.device]
    meta = {"tensors": list(live), "on_cpu": on_cpu, "values": values}
    return {f"{name}.{key}": tensor.detach() for key, tensor in live.items()}, meta


def _joined(
    name: str,
    parameter: torch.Tensor,
    entry: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    group: Mapping[str, Any],
) -> dict[str, Any]:
    """The inverse of `_split`: the state of one parameter, each tensor on the device where its kernel wants it."""
    state = dict(entry["values"])
    for key in entry["tensors"]:
        on_cpu = key in entry["on_cpu"]
        if key == "step":  # torch's own rule: on the device only for kernels that read it there
            on_cpu = not (group.get("fused") or group.get("capturable"))
        state[key] = tensors[f"{name}.{key}"].to("cpu" if on_cpu else parameter.device, copy=True)
    return state


def _named(names: Names) -> dict[torch.nn.Parameter, str]:
    if isinstance(names, Mapping):
        return dict(names)
    result: dict[torch.nn.Parameter, str] = {}
    for name, parameter in names:
        result.setdefault(parameter, name)  # a tied parameter goes by its first name
    return result


def _members(optimizer: torch.optim.Optimizer, named: Mapping[torch.nn.Parameter, str]) -> list[list[str]]:
    """The names of each group's parameters; every parameter must have one, and no two the same."""
    nameless = [p for group in optimizer.param_groups for p in group["params"] if p not in named]
    if nameless:
        shapes = [tuple(parameter.shape) for parameter in nameless[:3]]
        raise CheckpointError(f"{len(nameless)} parameters of the optimizer have no name, of shapes {shapes}; name all")
    members = [[named[parameter] for parameter in group["params"]] for group in optimizer.param_groups]
    flat = [name for group in members for name in group]
    twice = sorted({name for name in flat if flat.count(name) > 1}) if len(set(flat)) < len(flat) else []
    if twice:
        raise CheckpointError(f"two parameters of the optimizer are both named {twice[0]!r}; give each its own name")
    return members


def _check_groups(saved: Sequence[Sequence[str]], current: Sequence[Sequence[str]]) -> None:
    if [sorted(group) for group in saved] == [sorted(group) for group in current]:
        return
    before, now = ({name for group in groups for name in group} for groups in (saved, current))
    raise CheckpointError(
        f"the checkpoint's optimizer had parameter groups of sizes {[len(group) for group in saved]}, this one has "
        f"{[len(group) for group in current]}; only in the checkpoint: {sorted(before - now)[:3]}, "
        f"only here: {sorted(now - before)[:3]}. Build model and optimizer with the settings of the saved run"
    )


def _value(value: Any, what: str) -> Any:
    """A setting or state of an optimizer as JSON holds it exactly."""
    import torch

    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    items = value if isinstance(value, (list, tuple)) else [value]
    kinds = sorted({type(item).__name__ for item in items if not isinstance(item, PLAIN)})
    if kinds:
        raise CheckpointError(
            f"the optimizer's {what} holds {', '.join(kinds)}; only tensors and plain values are saved"
        )
    return plain(value)


def _like(current: Any, saved: Any) -> Any:
    """A setting read from JSON in the form this optimizer has it: a tuple for a list, a tensor filled in place."""
    if hasattr(current, "fill_"):
        return current.fill_(saved)
    return tuple(saved) if isinstance(current, tuple) else saved
