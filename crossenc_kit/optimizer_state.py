"""The state of a torch optimizer as flat tensors and JSON, without pickle and bit for bit.

`Optimizer.state_dict` numbers the parameters and mixes tensors with Python values; here every tensor is
`<parameter name>.<state key>`, ready for safetensors, and the rest is plain JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.checkpoint import CheckpointError
from crossenc_kit.history import plain

if TYPE_CHECKING:
    import torch

    Names = Mapping[torch.nn.Parameter, str] | Iterable[tuple[str, torch.nn.Parameter]]

HOW_NOT_WHAT = ("foreach", "fused", "capturable", "differentiable")  # which kernel runs, not what it computes
PLAIN = (bool, int, float, str, type(None), np.generic)


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
