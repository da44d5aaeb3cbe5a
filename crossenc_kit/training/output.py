"""How a training run goes to the disk and comes back: its folder, checkpoints, best and last model, card."""

from __future__ import annotations

import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.errors import CheckpointError
from crossenc_kit.files import mend_folder, plain
from crossenc_kit.history import History, provenance
from crossenc_kit.jobs import check_fingerprint
from crossenc_kit.models.adapters import is_wrapped, put_back
from crossenc_kit.training.checkpoint import load_optimizer, newest, optimizer_tensors, save
from crossenc_kit.training.setup import Run


def claim_folder(run: Run) -> None:
    """Look whether this run may use its folder, which it has locked, and clear up after a killed one."""
    folder = run.folder
    assert folder is not None
    if not run.config.resume and any((folder / "checkpoints").glob("step-*")):
        raise CheckpointError(
            f"{str(folder)!r} holds the checkpoints of another run; pass resume=True to go on with it, "
            "or choose another output_dir"
        )
    for name in ("best", "last"):
        mend_folder(folder / name)


def save_state(run: Run) -> None:
    """Write a checkpoint: weights, optimizer, state, history, and the plan that they belong to."""
    if run.processes.is_main:
        assert run.folder is not None
        optimizer, meta = optimizer_tensors(run.optimizer, run.model.model.named_parameters())
        kept = {"history", "best_weights"}
        values = {f.name: getattr(run.state, f.name) for f in fields(run.state) if f.name not in kept}
        state = {
            "fingerprint": plain(run.fingerprint),
            "optimizer": meta,
            "scaler": run.scaler.state_dict(),
            "run": {**values, "seconds": run.seconds(), "stopped": "early" if run.state.stopped == "early" else ""},
            "history": run.state.history.rows,
        }
        tensors = {"model": run.model.model.state_dict(), "optimizer": optimizer}
        save(run.folder / "checkpoints", run.state.step, tensors, state, keep=run.config.keep_checkpoints)
        run.state.history.save(run.folder / "history.jsonl")
    run.processes.wait()


def load_state(run: Run) -> None:
    """Bring a run to where its newest whole checkpoint left off; without one, to its beginning."""
    if not run.config.resume or run.folder is None:
        return
    run.processes.wait()
    found = newest(run.folder / "checkpoints")
    if found is None:
        if any((run.folder / "checkpoints").glob("step-*")):
            warnings.warn(f"no checkpoint in {run.folder} is whole; the run starts anew", stacklevel=3)
        return
    check_fingerprint(found.state["fingerprint"], run.fingerprint)
    weights, best_step = found.tensors("model"), found.state["run"]["best_step"]
    _check_weights(run.model.model, weights, found.path)
    best = best_step is not None and run.config.restore_best
    best_weights = _load_best(run.folder / "best", run, best_step) if best else None
    run.model.model.load_state_dict(weights)
    names = run.model.model.named_parameters()
    load_optimizer(run.optimizer, names, found.tensors("optimizer"), found.state["optimizer"])
    if found.state["scaler"]:
        run.scaler.load_state_dict(found.state["scaler"])
    for name, value in found.state["run"].items():
        setattr(run.state, name, value)
    run.state.history = History(found.state["history"])
    run.state.best_weights = best_weights


def _check_weights(model: Any, weights: dict[str, Any], path: Path) -> None:
    here, there = ({n: tuple(w.shape) for n, w in one.items()} for one in (model.state_dict(), weights))
    if different := sorted(name for name in {*here, *there} if here.get(name) != there.get(name)):
        name = different[0]
        raise CheckpointError(
            f"{path} is of another model, or of one with another adapter: the shape of {name} is "
            f"{there.get(name, '(absent)')} in the checkpoint, {here.get(name, '(absent)')} here; give the same model"
        )


def _load_best(folder: Path, run: Run, step: int) -> dict[str, Any] | None:
    """The weights that the folder best/ holds; those of an adapter pass through the model on their way."""
    from safetensors.torch import load_file

    wrapped = is_wrapped(run.model.model)
    path = folder / ("adapter_model.safetensors" if wrapped else "model.safetensors")
    if not path.is_file():
        warnings.warn(f"{path} is missing: the best weights so far, of step {step}, are lost", stacklevel=4)
        return None
    if wrapped:
        put_back(run.model.model, folder)
        return _weights(run.model.model)
    weights = load_file(path)
    if unknown := sorted(weights.keys() - run.model.model.state_dict().keys()):
        raise CheckpointError(f"{path} holds {unknown[0]!r}, which this model lacks; pass restore_best=False")
    return weights


def keep_best(run: Run) -> None:
    """Remember the weights as the best so far: in memory, and in the folder `best/` where there is one."""
    if run.config.restore_best:
        run.state.best_weights = _weights(run.model.model)
    if run.folder is not None and run.processes.is_main:
        _describe_result(run)
        _save_model(run, run.folder / "best")


def _weights(model: Any) -> dict[str, Any]:
    """Copies on the CPU of all weights that training can change."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: w.detach().cpu().clone() for name, w in model.state_dict().items() if name not in frozen}


def save_models(run: Run) -> None:
    """At the end: save the last model, and leave the best weights in the model where asked for."""
    _describe_result(run)
    if run.folder is not None and run.processes.is_main:
        _save_model(run, run.folder / "last")
        run.state.history.save(run.folder / "history.jsonl")
    best = run.state.best_weights
    if best is not None and run.state.best_step != run.state.step:
        run.model.model.load_state_dict(best, strict=False)  # a saved folder holds tied weights once
    run.model.model.eval()


def _save_model(run: Run, folder: Path) -> None:
    from safetensors import SafetensorError

    try:
        run.model.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not save the model in {folder}: {error}. What was there, and the checkpoints, are untouched. "
            "Free some space or make the folder writable, then resume"
        ) from error


def describe_run(run: Run) -> None:
    """Put data and settings into the model card."""
    parts = run.loss.parts(run.data, run.model.num_labels)
    names = ["labels"] if len(parts) == 1 else ["teacher's scores", "gold labels"]
    columns = [(name, np.asarray(data.labels)) for name, (_, data) in zip(names, parts, strict=True)]
    run.model.card |= {
        "data": {
            "training pairs": f"{run.data.num_pairs:,}",
            **{name: f"{y.min():g} to {y.max():g}, mean {y.mean():.3g}" for name, y in columns},
            "sha256": run.fingerprint["data"][:16],
            "truncated pairs": run.tokens.num_truncated,
            **({"notes": "; ".join(run.data.notes)} if run.data.notes else {}),
        },
        "settings": {"loss": run.fingerprint["loss"], **run.config.plan()},
        "provenance": provenance(run.model.device),
    }


def _describe_result(run: Run) -> None:
    evaluations = [row for row in run.state.history if any(name.startswith("eval_") for name in row)]
    if evaluations:
        best = next((row for row in evaluations if row["step"] == run.state.best_step), evaluations[-1])
        values = {name.removeprefix("eval_"): value for name, value in best.items() if name.startswith("eval_")}
        run.model.card["metrics"] = {"step": best["step"], **values}
