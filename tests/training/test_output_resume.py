"""A run that was stopped or broken off goes on to the bits of an uninterrupted one; its status says where it is."""

from __future__ import annotations

import json

import pytest
import torch
from small_runs import (
    ask_to_stop,
    assert_as_whole,
    at_step,
    break_off,
    candidate_lists,
    go,
    interrupted,
    softmax_loss,
    tiny,
)

from crossenc_kit.jobs import read_status
from crossenc_kit.training.checkpoint import newest


@pytest.mark.parametrize("what", [ask_to_stop, break_off])
@pytest.mark.parametrize("step", [1, 4, 5, 10, 14])  # before the first checkpoint, mid-epoch, at epochs' ends, late
def test_the_same_bits_after_an_interruption(tmp_path, whole, step, what):
    interrupted(tmp_path, step, what)
    assert read_status(tmp_path)["status"] == ("stopped" if what is ask_to_stop else "failed")
    assert read_status(tmp_path)["step"] == step
    seen = []
    outcome = go(tmp_path, resume=True, on_row=seen.append)
    assert_as_whole(outcome, tmp_path, whole)
    assert seen[0]["step"] == 1 + (step if what is ask_to_stop else (step - 1) // 3 * 3)


def test_the_same_bits_after_many_interruptions(tmp_path, whole):
    interrupted(tmp_path, 1, ask_to_stop)
    for step in (2, 5, 6):
        go(tmp_path, resume=True, on_row=at_step(step, ask_to_stop))
    for step in (8, 9, 13):
        with pytest.raises(ZeroDivisionError):
            go(tmp_path, resume=True, on_row=at_step(step, break_off))
    assert_as_whole(go(tmp_path, resume=True), tmp_path, whole)


def test_seconds_go_on(tmp_path):
    interrupted(tmp_path, 5, ask_to_stop)
    before = newest(tmp_path / "checkpoints").state["state"]["seconds"]
    outcome = go(tmp_path, resume=True)
    seconds = [row["seconds"] for row in outcome.result.history]
    assert seconds == sorted(seconds)
    at_stop = [row["seconds"] for row in outcome.result.history if row["step"] == 5][-1]
    assert at_stop <= before <= seconds[-1] <= outcome.result.minutes * 60


def test_whatever_model_is_brought_the_checkpoint_counts(tmp_path, whole):
    interrupted(tmp_path, 7, ask_to_stop)
    assert_as_whole(go(tmp_path, resume=True, model=tiny(seed=8)), tmp_path, whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": candidate_lists(), "loss": softmax_loss, "batch_size": 2},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"optimizer": lambda groups: torch.optim.SGD(groups, momentum=0.9)},
        {"scheduler": lambda step: 0.9**step, "layer_decay": 0.5, "head_factor": 3.0},
    ],
    ids=["groups", "bf16", "fp16", "another optimizer", "rates of its own"],
)
def test_other_runs_go_on_as_exactly(tmp_path, changes):
    expected = go(tmp_path / "whole", epochs=2, **changes).digests()
    interrupted(tmp_path / "run", 4, epochs=2, **changes)
    assert go(tmp_path / "run", resume=True, epochs=2, **changes).digests() == expected


def test_a_run_cut_by_max_steps_goes_on_as_exactly(tmp_path):
    expected = go(tmp_path / "whole", max_steps=8).digests()
    interrupted(tmp_path / "run", 7, ask_to_stop, max_steps=8)
    outcome = go(tmp_path / "run", resume=True, max_steps=8)
    assert outcome.digests() == expected
    assert outcome.result.steps == 8


def test_the_status_says_where_a_run_is(tmp_path):
    seen = []
    go(tmp_path, on_row=at_step(2, lambda: seen.append(json.loads((tmp_path / "status.json").read_text()))))
    assert seen == [{"status": "running", "step": 0, "total_steps": 15}]
    assert read_status(tmp_path) == {"status": "finished", "step": 15, "total_steps": 15, "reason": "finished"}
