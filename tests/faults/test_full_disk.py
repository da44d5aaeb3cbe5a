"""A run on a disk that fills fails with a reason, and goes on once there is room."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path

import pytest
from small_runs import assert_as_whole, at_step, go, names

from crossenc_kit import CrossEncoder
from crossenc_kit.errors import CheckpointError
from crossenc_kit.history import History
from crossenc_kit.jobs import read_status
from crossenc_kit.training import checkpoint
from crossenc_kit.training.checkpoint import newest


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
        patch.setattr("crossenc_kit.training.loop.write_status", refuse)

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
def small_disk(disk_of):
    """A real file system that has room for two checkpoints and little more, or three."""
    with disk_of("4m") as folder:
        yield folder


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
