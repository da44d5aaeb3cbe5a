"""A run that was stopped or broken off goes on to the same bits as an uninterrupted one, or says why it cannot."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from small_runs import candidate_lists, digest, run, sentences, softmax_loss, tiny, up_and_down, without_seconds

from crossenc_kit import CrossEncoder, TrainingConfig, checkpoint
from crossenc_kit.checkpoint import CheckpointError, newest
from crossenc_kit.folders import mend_folder
from crossenc_kit.history import History
from crossenc_kit.run_guard import read_status

# 5 steps an epoch, the last of them short; several micro-batches a step; dropout on.
CONFIG = TrainingConfig(batch_size=5, epochs=3, learning_rate=1e-3, token_budget=70, save_steps=3)
CONFIG = replace(CONFIG, evaluation_steps=2, metric="wave", patience=8)  # 8 evaluations: never out of patience


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Quicker for so small a model, and the same bits on every machine of a kind."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    outcome = go(folder)
    assert (outcome.result.status, outcome.result.steps) == ("finished", 15)
    assert 0 < outcome.result.best_step < 15
    return outcome, folder


@pytest.fixture(scope="module")
def robbed(tmp_path_factory):
    """A run broken off after step 11, with checkpoints of the steps 6 and 9; to be copied."""
    folder = tmp_path_factory.mktemp("robbed")
    interrupted(folder, 11)
    assert names(folder / "checkpoints") == ["step-00000006", "step-00000009"]
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_as_whole(outcome, folder, whole):
    assert outcome.digests() == whole[0].digests()
    assert folder_digests(folder) == folder_digests(whole[1])
    rows = without_seconds(History.load(folder / "history.jsonl"))
    assert rows == without_seconds(History.load(whole[1] / "history.jsonl"))
    assert read_status(folder)["status"] == "finished"


# --- going on exactly -----------------------------------------------------------------------------


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
    before = newest(tmp_path / "checkpoints").state["run"]["seconds"]
    outcome = go(tmp_path, resume=True)
    seconds = [row["seconds"] for row in outcome.result.history]
    assert seconds == sorted(seconds)
    assert outcome.result.history.until(5)[-1]["seconds"] <= before <= seconds[-1] <= outcome.result.minutes * 60


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


# --- early stopping and the best ------------------------------------------------------------------


@cache
def first_embeddings():
    return tiny().model.state_dict()["bert.embeddings.word_embeddings.weight"].clone()


def steadily_worse(model):
    """Falls as the word embeddings move away from where they began: the first evaluation is the best."""
    moved = model.model.state_dict()["bert.embeddings.word_embeddings.weight"] - first_embeddings()
    return {"wave": -float(moved.abs().sum())}


IMPATIENT = {"evaluator": steadily_worse, "patience": 3}


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    """A run that patience ends after evaluations at the steps 2 (the best), 4, 6 and 8, and its folder."""
    folder = tmp_path_factory.mktemp("early")
    outcome = go(folder, **IMPATIENT)
    assert (outcome.result.status, outcome.result.steps, outcome.result.best_step) == ("early", 8, 2)
    return outcome, folder


@pytest.mark.parametrize("step", [2, 4, 5])
def test_patience_goes_on_counting(tmp_path, early, step):
    interrupted(tmp_path, step, ask_to_stop, **IMPATIENT)
    outcome = go(tmp_path, resume=True, **IMPATIENT)
    assert_as_whole(outcome, tmp_path, early)
    assert outcome.result.status == "early"


def test_a_run_that_ended_early_has_ended(tmp_path, early):
    shutil.copytree(early[1], tmp_path / "run")
    assert read_status(tmp_path / "run") == {"status": "finished", "step": 8, "total_steps": 15, "reason": "early"}
    outcome = go(tmp_path / "run", resume=True, on_row=pytest.fail, evaluator=pytest.fail, patience=3)
    assert_as_whole(outcome, tmp_path / "run", early)
    assert (outcome.result.status, outcome.result.steps) == ("early", 8)


def test_asked_to_stop_when_patience_ran_out_it_has_ended_early(tmp_path):
    outcome = go(tmp_path, **IMPATIENT, on_row=at_step(8, ask_to_stop))
    assert outcome.result.status == "early"


def test_the_best_of_before_comes_back(tmp_path):
    """The best evaluation lies before the interruption, in the folder best/ and not in the checkpoint."""
    changes = {"evaluator": steadily_worse, "patience": None}
    interrupted(tmp_path, 9, ask_to_stop, **changes)
    best = CrossEncoder(str(tmp_path / "best"), device="cpu").model.state_dict()
    outcome = go(tmp_path, resume=True, **changes)
    assert outcome.result.best_step == 2
    assert digest(outcome.weights()) == digest(best)
    assert digest(CrossEncoder(str(tmp_path / "last"), device="cpu").model.state_dict()) != digest(best)


def test_best_weights_that_are_gone_are_warned_of(tmp_path):
    changes = {"evaluator": steadily_worse, "patience": None}
    interrupted(tmp_path, 9, ask_to_stop, **changes)
    shutil.rmtree(tmp_path / "best")
    with pytest.warns(UserWarning, match=r"best.model.safetensors is missing: the best .* of step 2, are lost"):
        go(tmp_path, resume=True, **changes)


def test_what_a_killed_run_left_of_the_best_folder_is_mended(tmp_path):
    """Killed while best/ was being replaced: half a new folder, and the old one set aside."""
    changes = {"evaluator": steadily_worse, "patience": None}
    interrupted(tmp_path, 9, ask_to_stop, **changes)
    expected = folder_digests(tmp_path)["best"]
    (tmp_path / ".best-half").mkdir()
    (tmp_path / ".best-half" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".best-aside").mkdir()
    (tmp_path / "best").rename(tmp_path / ".best-aside" / "best")
    go(tmp_path, resume=True, **changes)
    assert folder_digests(tmp_path)["best"] == expected
    assert names(tmp_path) == [".lock", "best", "checkpoints", "history.jsonl", "last", "status.json"]


def test_a_new_folder_that_arrived_is_not_undone(tmp_path):
    for name, content in (("best", "new"), (".best-aside/best", "old")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text(content)
    mend_folder(tmp_path / "best")
    assert names(tmp_path) == ["best"]
    assert (tmp_path / "best" / "file").read_text() == "new"


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
    with pytest.raises(CheckpointError, match="holds the checkpoints of another run; pass resume=True to go on"):
        go(tmp_path / "run")
    assert (read_status(tmp_path / "run"), names(tmp_path / "run" / "checkpoints")) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 2e-3}, r"config\.learning_rate: 0\.001 in the checkpoint, 0\.002 in this run"),
        ({"seed": 1}, r"config\.seed: 0 in the checkpoint, 1 in this run"),
        ({"batch_size": 4}, r"config\.batch_size: 5 in"),
        ({"max_steps": 99}, r"config\.max_steps: null in the checkpoint, 99 in this run"),
        ({"epochs": 4}, r"config\.epochs: 3 in"),
        ({"precision": "bf16"}, r'config\.precision: "fp32" in the checkpoint, "bf16" in this run'),
        ({"patience": 4}, r"config\.patience: 8 in"),
        ({"loss": "mse"}, r'loss: "bce_with_logits" in the checkpoint, "mse" in this run'),
        ({"data": sentences(21)}, r'data: "[0-9a-f]{64}" in'),
        ({"optimizer": torch.optim.SGD}, r'optimizer: "AdamW" in the checkpoint, "SGD" in this run'),
        ({"model": {"dropout": False}}, r"(?s)2 setting.*model\.hidden_dropout_prob: 0\.1 in the checkpoint, 0\.0 in"),
        ({"model": {"max_length": 64}}, r"model\.max_length: 256 in the checkpoint, 64 in this run"),
        ({"model": {"classifier_dropout": 0.3}}, r"model\.classifier_dropout: null in the checkpoint, 0\.3 in"),
    ],
)
@pytest.mark.filterwarnings("ignore::crossenc_kit.TruncationWarning")
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
        with pytest.raises(CheckpointError, match=rf"is in use by another run \(process {os.getpid()}\)"):
            go(tmp_path, resume=True)
        refused.append(read_status(tmp_path)["status"])

    outcome = go(tmp_path, on_row=at_step(4, second))
    assert outcome.result.status == "finished"
    assert refused == ["running"]


# --- damage ---------------------------------------------------------------------------------------


def truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(folder):
    content = bytearray((folder / "optimizer.safetensors").read_bytes())
    content[-99] ^= 16
    (folder / "optimizer.safetensors").write_bytes(content)


def take_the_manifest(folder):
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, take_the_manifest])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(robbed, tmp_path, whole, damage):
    shutil.copytree(robbed, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "step-00000009")
    seen = []
    with pytest.warns(UserWarning, match="step-00000009 is damaged"):
        outcome = go(tmp_path / "run", resume=True, on_row=seen.append)
    assert seen[0]["step"] == 7
    assert_as_whole(outcome, tmp_path / "run", whole)


def test_no_whole_checkpoint_begins_anew_and_says_so(robbed, tmp_path, whole):
    shutil.copytree(robbed, tmp_path / "run")
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        truncate(folder)
    with pytest.warns(UserWarning, match=r"is damaged"), pytest.warns(UserWarning, match="the run starts anew"):
        outcome = go(tmp_path / "run", resume=True)
    assert_as_whole(outcome, tmp_path / "run", whole)


# --- a disk that fills ----------------------------------------------------------------------------


def refuse(*_, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_checkpoint_that_does_not_fit(tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match=r"could not save step 6 .*No space left"):
        go(tmp_path, on_row=at_step(5, lambda: patch.setattr(checkpoint, "_write_all", refuse)))
    assert newest(tmp_path / "checkpoints").step == 3
    assert names(tmp_path / "checkpoints") == ["step-00000003"]
    status = read_status(tmp_path)
    assert (status["status"], status["step"]) == ("failed", 6)
    assert "could not save step 6" in status["error"]
    assert_as_whole(go(tmp_path, resume=True), tmp_path, whole)


@pytest.mark.parametrize("step", [7, 15])
def test_a_model_or_history_that_does_not_fit(tmp_path, whole, monkeypatch, step):
    """Neither best/, nor last/, nor the history can be written from then on, nor even the status."""

    def fill():
        patch.setattr(CrossEncoder, "save_pretrained", refuse)
        patch.setattr(History, "save", refuse)
        patch.setattr("crossenc_kit.training.write_status", refuse)

    with (
        monkeypatch.context() as patch,
        pytest.warns(UserWarning, match=r"status.json could not be written .*No space"),
        pytest.raises((OSError, CheckpointError), match="No space left"),
    ):
        go(tmp_path, on_row=at_step(step, fill))
    assert read_status(tmp_path)["status"] == "running"
    assert newest(tmp_path / "checkpoints").step in (6, 9, 15)
    assert_as_whole(go(tmp_path, resume=True), tmp_path, whole)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system that has room for two checkpoints and little more, or three."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if not done or done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.decode().strip() if done else 'no mount command'}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize("left", [0, 5_000, 300_000, 1_000_000])  # bytes
def test_a_really_full_disk(small_disk, whole, left):
    """Others fill the disk after step 4: the first checkpoint stays, and the run goes on once there is room."""
    run_folder, ballast = small_disk / "run", small_disk / "ballast"

    def fill():
        with open(ballast, "wb", buffering=0) as file:
            size = free_bytes(small_disk) - left
            while size > 0:
                size -= file.write(bytes(min(size, 1 << 16)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((OSError, CheckpointError), match="No space left"):
            go(run_folder, on_row=at_step(4, fill))
    assert newest(run_folder / "checkpoints").step >= 3
    assert read_status(run_folder)["status"] == ("failed" if left else "running")
    ballast.unlink()
    assert_as_whole(go(run_folder, resume=True, keep_checkpoints=1), run_folder, whole)


def test_the_status_says_where_a_run_is(tmp_path):
    seen = []
    go(tmp_path, on_row=at_step(2, lambda: seen.append(json.loads((tmp_path / "status.json").read_text()))))
    assert seen == [{"status": "running", "step": 0, "total_steps": 15}]
    assert read_status(tmp_path) == {"status": "finished", "step": 15, "total_steps": 15, "reason": "finished"}
