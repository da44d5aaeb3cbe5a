"""How training goes to the disk and comes back: its folder, checkpoints, best and last model."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from crossenc_kit.errors import CheckpointError
from crossenc_kit.files import mend_folder, plain
from crossenc_kit.history import History
from crossenc_kit.jobs import check_fingerprint
from crossenc_kit.models.adapters import is_wrapped, put_back
from crossenc_kit.scorers import warn_at_call
from crossenc_kit.training.setup import Setup, trained_weights


def claim_folder(setup: Setup) -> None:
    """Check that a folder, already locked, may be used, and clean up after a killed training."""
    folder = setup.folder
    assert folder is not None
    if not setup.config.resume and any((folder / "checkpoints").glob("step-*")):
        raise CheckpointError(
            f"{str(folder)!r} holds the checkpoints of another training; pass resume=True to go on with it, "
            "or choose another output_dir"
        )
    for left in folder.glob(".*.partial"):  # files that a killed process was writing
        left.unlink()
    for name in ("best", "last"):
        mend_folder(folder / name)


def save_state(setup: Setup) -> None:
    """Write a checkpoint: weights, optimizer, state, history, and the plan they belong to."""
    from crossenc_kit.training.checkpoint import optimizer_state, save

    if setup.processes.is_main:
        assert setup.folder is not None
        optimizer, settings = optimizer_state(setup.model.model, setup.optimizer)
        kept = {"history", "best_weights"}
        values = {f.name: getattr(setup.state, f.name) for f in fields(setup.state) if f.name not in kept}
        stopped = "early" if setup.state.stopped == "early" else ""
        state = {
            "fingerprint": plain(setup.fingerprint),
            "optimizer": settings,
            "scaler": setup.scaler.state_dict(),
            "state": {**values, "seconds": setup.seconds(), "stopped": stopped},
            "history": setup.state.history.rows,
        }
        tensors = {"model": setup.model.model.state_dict(), "optimizer": optimizer}
        save(setup.folder / "checkpoints", setup.state.step, tensors, state, keep=setup.config.keep_checkpoints)
        setup.state.history.save(setup.folder / "history.jsonl")
    setup.processes.wait()


def load_state(setup: Setup) -> None:
    """Go back to the newest whole checkpoint; without one, begin at the beginning."""
    if not setup.config.resume:
        return
    from crossenc_kit.training.checkpoint import load_optimizer_state, newest

    assert setup.folder is not None
    setup.processes.wait()
    found = newest(setup.folder / "checkpoints")
    if found is None:
        if any((setup.folder / "checkpoints").glob("step-*")):
            warn_at_call(f"no checkpoint in {setup.folder} is whole; training starts anew")
        return
    check_fingerprint(found.state["fingerprint"], setup.fingerprint)
    weights, best_step = found.tensors("model"), found.state["state"]["best_step"]
    _check_weights(setup.model.model, weights, found.path)
    best = best_step is not None and setup.config.restore_best
    best_weights = _load_best(setup.folder / "best", setup, best_step) if best else None
    load_optimizer_state(setup.model.model, setup.optimizer, found.tensors("optimizer"), found.state["optimizer"])
    setup.model.model.load_state_dict(weights)
    if found.state["scaler"]:
        setup.scaler.load_state_dict(found.state["scaler"])
    for name, value in found.state["state"].items():
        setattr(setup.state, name, value)
    setup.state.history = History(found.state["history"])
    setup.state.best_weights = best_weights


def _check_weights(model: Any, weights: dict[str, Any], path: Path) -> None:
    here, there = ({n: tuple(w.shape) for n, w in one.items()} for one in (model.state_dict(), weights))
    if different := sorted(name for name in {*here, *there} if here.get(name) != there.get(name)):
        name = different[0]
        raise CheckpointError(
            f"{path} is of another model, or of one with another adapter: the shape of {name} is "
            f"{there.get(name, '(absent)')} in the checkpoint, {here.get(name, '(absent)')} here; give the same model"
        )


def _load_best(folder: Path, setup: Setup, step: int) -> dict[str, Any] | None:
    """Read the weights of the folder best/; those of an adapter pass through the model."""
    from safetensors.torch import load_file

    model = setup.model.model
    wrapped = is_wrapped(model)
    path = folder / ("adapter_model.safetensors" if wrapped else "model.safetensors")
    if not path.is_file():
        warn_at_call(f"{path} is missing: the best weights so far, of step {step}, are lost")
        return None
    if wrapped:
        put_back(model, folder)
        return trained_weights(model)
    weights = load_file(path)
    if unknown := sorted(weights.keys() - model.state_dict().keys()):
        raise CheckpointError(f"{path} holds {unknown[0]!r}, which this model lacks; pass restore_best=False")
    return weights


def save_best(setup: Setup) -> None:
    """Write the model, the best so far, into the folder `best/`."""
    if setup.folder is not None and setup.processes.is_main:
        setup.describe_result()
        _save_model(setup, setup.folder / "best")


def save_last(setup: Setup) -> None:
    """Write the model into the folder `last/`, and the history beside it."""
    if setup.folder is not None and setup.processes.is_main:
        _save_model(setup, setup.folder / "last")
        setup.state.history.save(setup.folder / "history.jsonl")


def _save_model(setup: Setup, folder: Path) -> None:
    from safetensors import SafetensorError

    try:
        setup.model.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not save the model in {folder}: {error}. What was there, and the checkpoints, are untouched. "
            "Free some space or make the folder writable, then resume"
        ) from error
