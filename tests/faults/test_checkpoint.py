"""Whatever breaks at whatever moment of a save: the newest whole checkpoint is the old one or the new one."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from small_runs import names, saved, whole_version

from crossenc_kit import files
from crossenc_kit.errors import CheckpointError
from crossenc_kit.training import checkpoint
from crossenc_kit.training.checkpoint import newest, save

FILE_OPERATIONS = ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir")
EXIT = 42


@pytest.fixture
def no_flush(monkeypatch):
    """Flushing still counts as an operation, but hundreds of saves need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Death(BaseException):
    """No `except` of the package catches it, and no file operation works after it: what a `finally` tries is void."""


def inject(patch: pytest.MonkeyPatch, at: int, fail, then_all=()) -> itertools.count:
    """Replace file operation number `at`, from 1, by `fail(name, arguments)`; later ones too if in `then_all`."""
    counter = itertools.count(1)

    def wrap(name, function):
        def wrapped(*arguments, **options):
            number = next(counter)
            if number == at or (number > at and name in then_all):
                fail(name, arguments)
            return function(*arguments, **options)

        return wrapped

    for name in FILE_OPERATIONS:
        patch.setattr(os, name, wrap(name, getattr(os, name)))
    for module in (checkpoint, files):
        patch.setattr(module, "open", wrap("write or read", open), raising=False)
    patch.setattr(safetensors.torch, "save_file", wrap("save_file", safetensors.torch.save_file))
    return counter


def tear(name: str, arguments: tuple) -> None:
    """What is left of a file when its writing is cut off."""
    if name == "save_file":
        arguments[1].write_bytes(b"half")
    if name == "write or read" and arguments[1:] == ("xb",):
        arguments[0].write_text('{"half":')


def exit_at_once(name: str, arguments: tuple) -> None:
    tear(name, arguments)
    os._exit(EXIT)


def refuse(name: str, arguments: tuple) -> None:
    tear(name, arguments)
    raise OSError(errno.ENOSPC, "No space left on device")


def save_and_die(folder: Path, at: int) -> bool:
    """Save version 2, dying at file operation `at`; False if there are not that many."""
    died = False

    def die(name: str, arguments: tuple) -> None:
        nonlocal died
        if not died:
            tear(name, arguments)
        died = True
        raise Death

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Death):
        inject(patch, at, die, then_all=(*FILE_OPERATIONS, "write or read", "save_file"))
        saved(folder, 2, 2.0, keep=1)
    return died


def nothing_before(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


def one_before(folder: Path) -> None:
    saved(folder, 1, 1.0)


def same_step_before(folder: Path) -> None:
    saved(folder, 2, 1.0)


def same_step_and_one_before(folder: Path) -> None:
    saved(folder, 1, 0.5)
    saved(folder, 2, 1.0)


SCENES = [nothing_before, one_before, same_step_before, same_step_and_one_before]


@pytest.mark.parametrize("scene", SCENES)
def test_death_at_every_file_operation(tmp_path, no_flush, scene):
    outcomes = []
    died = True
    while died:
        folder = tmp_path / str(len(outcomes))
        scene(folder)
        before = whole_version(folder)
        died = save_and_die(folder, len(outcomes) + 1)
        outcomes.append(whole_version(folder))
        saved(folder, 3, 3.0, keep=1)  # the next save clears up, whatever was left
        assert names(folder) == ["step-00000003"]
    moment = outcomes.index(2.0)
    assert moment > 10
    assert outcomes == [before] * moment + [2.0] * (len(outcomes) - moment)


def test_a_replacement_cut_short_is_undone(tmp_path):
    """Dead between the two renames: the checkpoint set aside is still found, and counts again afterwards."""
    same_step_before(tmp_path)
    os.rename(tmp_path / "step-00000002", tmp_path / ".replaced-step-00000002")
    assert whole_version(tmp_path) == 1.0
    saved(tmp_path, 3, 3.0, keep=2)
    assert names(tmp_path) == ["step-00000002", "step-00000003"]


def test_death_twice_in_a_replacement(tmp_path, no_flush):
    """A replacement cut short at any moment, then the save that repairs it cut short at any moment."""
    deaths = 0
    first, second, first_died = 1, 2, True
    while first_died:
        folder = tmp_path / f"{first}-{second}"
        same_step_before(folder)
        first_died = save_and_die(folder, first)
        second_died = save_and_die(folder, second)
        assert whole_version(folder) in (1.0, 2.0)
        deaths += second_died
        # Every third moment, another third for each first death, so that neighbours cover them all.
        first, second = (first, second + 3) if second_died else (first + 1, 1 + (first + 1) % 3)
    assert deaths > 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_death_of_a_real_process(tmp_path):
    same_step_before(tmp_path)
    statuses = []
    for at in (8, 12, 16, 20):
        child = os.fork()
        if child == 0:
            try:
                inject(pytest.MonkeyPatch(), at, exit_at_once)
                saved(tmp_path, 2, 2.0, keep=1)
            finally:  # no exception may bring a second test session to life
                os._exit(0)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert whole_version(tmp_path) in (1.0, 2.0)
    assert statuses == [EXIT] * 4
    saved(tmp_path, 2, 3.0)
    assert names(tmp_path) == ["step-00000002"]
    assert whole_version(tmp_path) == 3.0


@pytest.mark.parametrize(
    "then_all", [(), ("mkdir", "fsync", "rename", "write or read", "save_file")], ids=["once", "on"]
)
@pytest.mark.parametrize("scene", SCENES)
def test_full_disk_at_every_file_operation(tmp_path, no_flush, scene, then_all):
    """Refused once, or from then on: an error that says where and what to do, or a save that worked."""
    messages = []
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        scene(folder)
        before = whole_version(folder)
        expected = [2.0]
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what could not be deleted or renamed
            counter = inject(patch, at, refuse, then_all)
            try:
                saved(folder, 2, 2.0, keep=1)
            except CheckpointError as error:
                messages.append(str(error))
                expected = [before, 2.0]  # the new one if only the last flush failed
            refused = next(counter) > at
        assert whole_version(folder) in expected
        # Set aside alone only where even the rename back was refused.
        assert then_all or not (folder / ".replaced-step-00000002").exists() or (folder / "step-00000002").exists()
        assert not list(folder.glob(".partial-*"))
        saved(folder, 3, 3.0, keep=1)
        assert names(folder) == ["step-00000003"]
        if not refused:
            break
    assert len(messages) > 10
    for message in messages:
        assert message.startswith(f"could not save step 2 in {tmp_path}")
        assert "No space left on device" in message
        assert "Free some space (this one takes about 0.0 MB)" in message


def test_an_old_one_that_cannot_be_deleted_is_a_warning(tmp_path, monkeypatch):
    saved(tmp_path, 1, 1.0)
    monkeypatch.setattr(shutil, "rmtree", lambda path: (_ for _ in ()).throw(PermissionError(13, "denied")))
    with pytest.warns(UserWarning, match=r"step-00000001-\d+ is no longer needed but could not be deleted.*denied"):
        saved(tmp_path, 2, 2.0, keep=1)
    assert whole_version(tmp_path) == 2.0


def test_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    saved(tmp_path, 1, 1.0)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.torch, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, 2, 2.0)
    assert names(tmp_path) == ["step-00000001"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"could not save step 1 in .*file.checkpoints.*make the folder writable"):
        saved(tmp_path / "file" / "checkpoints", 1, 1.0)


@pytest.fixture
def small_disk(disk_of):
    """A real file system of one megabyte."""
    with disk_of("1m") as folder:
        yield folder


def test_a_really_full_disk(small_disk):
    """Three steps of 400 kB on 1 MB: the third must fail, keep both before it, and work once there is room."""
    weights = {step: torch.full((100_000,), float(step)) for step in (1, 2, 3)}
    for step in (1, 2):
        save(small_disk, step, {"model": {"weight": weights[step]}}, {"step": step})
    with pytest.raises(CheckpointError, match=r"No space left on device.*takes about 0\.4 MB"):
        save(small_disk, 3, {"model": {"weight": weights[3]}}, {"step": 3})
    assert names(small_disk) == ["step-00000001", "step-00000002"]
    assert torch.equal(newest(small_disk).tensors("model")["weight"], weights[2])
    shutil.rmtree(small_disk / "step-00000001")
    save(small_disk, 3, {"model": {"weight": weights[3]}}, {"step": 3}, keep=1)
    assert torch.equal(newest(small_disk).tensors("model")["weight"], weights[3])
    assert names(small_disk) == ["step-00000003"]
