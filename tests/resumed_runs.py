"""Small runs that are interrupted and go on, and what they are compared with the uninterrupted one by."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
import safetensors.torch
from small_runs import digest, run, up_and_down, without_seconds

from crossenc_kit import TrainingConfig
from crossenc_kit.history import History
from crossenc_kit.jobs import read_status

# 5 steps an epoch, the last of them short; several micro-batches a step; dropout on.
CONFIG = TrainingConfig(batch_size=5, epochs=3, learning_rate=1e-3, token_budget=70, save_steps=3)
CONFIG = replace(CONFIG, evaluation_steps=2, metric="wave", patience=8)  # 8 evaluations: never out of patience


def go(folder, *, resume=False, on_row=None, evaluator=up_and_down, **changes):
    return run(CONFIG, evaluator=evaluator, on_row=on_row, output_dir=folder, resume=resume, **changes)


def at_step(step, what):
    """An `on_row` that does something after that optimizer step."""

    def on_row(row):
        if row["step"] == step and "loss" in row:
            what()

    return on_row


def ask_to_stop():
    signal.raise_signal(signal.SIGTERM)


def break_off():
    raise ZeroDivisionError("broken off")


def interrupted(folder, step, what=break_off, **changes):
    """Begin a run in the folder and end it after `step`."""
    if what is ask_to_stop:
        assert go(folder, on_row=at_step(step, what), **changes).result.status == "stopped"
        return
    with pytest.raises(ZeroDivisionError):
        go(folder, on_row=at_step(step, what), **changes)


def folder_digests(folder):
    return {name: digest(safetensors.torch.load_file(folder / name / "model.safetensors")) for name in ("best", "last")}


def whole_run(folder):
    """The run that nothing interrupts, and its folder."""
    outcome = go(folder)
    assert (outcome.result.status, outcome.result.steps) == ("finished", 15)
    assert 0 < outcome.result.best_step < 15
    return outcome, folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_as_whole(outcome, folder, whole):
    assert outcome.digests() == whole[0].digests()
    assert folder_digests(folder) == folder_digests(whole[1])
    rows = without_seconds(History.load(folder / "history.jsonl"))
    assert rows == without_seconds(History.load(whole[1] / "history.jsonl"))
    assert read_status(folder)["status"] == "finished"
