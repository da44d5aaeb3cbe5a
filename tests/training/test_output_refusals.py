"""What cannot be resumed is refused, and what is damaged falls back to the checkpoint before."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from small_runs import assert_as_whole, at_step, go, interrupted, names, sentences, tiny

from crossenc_kit.errors import CheckpointError
from crossenc_kit.jobs import read_status


@pytest.fixture(scope="module")
def robbed(tmp_path_factory):
    """A run broken off after step 11, with checkpoints of the steps 6 and 9; to be copied."""
    folder = tmp_path_factory.mktemp("robbed")
    interrupted(folder, 11)
    assert names(folder / "checkpoints") == ["step-00000006", "step-00000009"]
    return folder


# --- finished, refused ----------------------------------------------------------------------------


def test_a_finished_run_resumed_does_nothing(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path / "run")
    outcome = go(tmp_path / "run", resume=True, on_row=pytest.fail, evaluator=pytest.fail)
    assert_as_whole(outcome, tmp_path / "run", whole)
    assert outcome.result.status == "finished"


def test_resuming_what_never_began_begins(tmp_path, whole):
    assert_as_whole(go(tmp_path / "new", resume=True), tmp_path / "new", whole)


def test_another_runs_folder_is_refused(robbed, tmp_path):
    shutil.copytree(robbed, tmp_path / "run")
    before = read_status(tmp_path / "run"), names(tmp_path / "run" / "checkpoints")
    with pytest.raises(CheckpointError, match="holds the checkpoints of another training; pass resume=True to go on"):
        go(tmp_path / "run")
    assert (read_status(tmp_path / "run"), names(tmp_path / "run" / "checkpoints")) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 2e-3}, r"config\.learning_rate: 0\.001 in the checkpoint, 0\.002 now"),
        ({"seed": 1}, r"config\.seed: 0 in the checkpoint, 1 now"),
        ({"max_steps": 99}, r"config\.max_steps: null in the checkpoint, 99 now"),
        ({"precision": "bf16"}, r'config\.precision: "fp32" in the checkpoint, "bf16" now'),
        ({"loss": "mse"}, r'loss: "bce_with_logits" in the checkpoint, "mse" now'),
        ({"data": sentences(21)}, r'data: "[0-9a-f]{64}" in'),
        ({"optimizer": torch.optim.SGD}, r'optimizer: "AdamW" in the checkpoint, "SGD" now'),
        ({"model": {"dropout": False}}, r"(?s)2 setting.*model\.hidden_dropout_prob: 0\.1 in the checkpoint, 0\.0 now"),
        ({"model": {"max_length": 64}}, r"model\.max_length: 256 in the checkpoint, 64 now"),
    ],
)
@pytest.mark.filterwarnings("ignore::crossenc_kit.errors.TruncationWarning")
def test_a_changed_setting_is_named(robbed, tmp_path, changes, message):
    shutil.copytree(robbed, tmp_path / "run")
    model = tiny(**changes.get("model", {}))
    with pytest.raises(CheckpointError, match=message):
        go(tmp_path / "run", resume=True, **{**changes, "model": model})
    assert read_status(tmp_path / "run")["status"] == "failed"  # as the run that was broken off left it
    assert read_status(tmp_path / "run")["error"] == "ZeroDivisionError: broken off"


def test_settings_that_change_no_weights_may_change(robbed, tmp_path, whole):
    shutil.copytree(robbed, tmp_path / "moved")
    outcome = go(tmp_path / "moved", resume=True, save_steps=4, keep_checkpoints=5)
    assert outcome.digests() == whole[0].digests()
    assert names(tmp_path / "moved" / "checkpoints") == [f"step-{step:08d}" for step in (6, 9, 12, 15)]


def test_two_runs_in_one_folder(tmp_path):
    refused = []

    def second():
        with pytest.raises(CheckpointError, match=rf"is in use by another job \(process {os.getpid()}\)"):
            go(tmp_path, resume=True)
        refused.append(read_status(tmp_path)["status"])

    outcome = go(tmp_path, on_row=at_step(4, second))
    assert outcome.result.status == "finished"
    assert refused == ["running"]


# --- damage ---------------------------------------------------------------------------------------


def truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(robbed, tmp_path, whole):
    shutil.copytree(robbed, tmp_path / "run")
    truncate(tmp_path / "run" / "checkpoints" / "step-00000009")
    seen = []
    with pytest.warns(UserWarning, match="step-00000009 is damaged"):
        outcome = go(tmp_path / "run", resume=True, on_row=seen.append)
    assert seen[0]["step"] == 7
    assert_as_whole(outcome, tmp_path / "run", whole)


def test_no_whole_checkpoint_begins_anew_and_says_so(robbed, tmp_path, whole):
    shutil.copytree(robbed, tmp_path / "run")
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        truncate(folder)
    with pytest.warns(UserWarning, match=r"is damaged"), pytest.warns(UserWarning, match="training starts anew"):
        outcome = go(tmp_path / "run", resume=True)
    assert_as_whole(outcome, tmp_path / "run", whole)
