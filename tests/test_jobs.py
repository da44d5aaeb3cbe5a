"""One job at a time, its status, signals that ask it to stop, and whether its plan is the same."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from crossenc_kit import jobs
from crossenc_kit.errors import CheckpointError
from crossenc_kit.jobs import check_fingerprint, lock, read_status, stop_signals, write_status

HOLDER = """
import sys
from crossenc_kit.jobs import lock
with lock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of the folder until its input ends."""
    root = str(Path(jobs.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    ) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_has_it(tmp_path, holder):
    with pytest.raises(CheckpointError, match=rf"is in use by another job \(process {holder.pid}\)"), lock(tmp_path):
        pytest.fail("locked twice")
    holder.communicate("")
    with lock(tmp_path):
        assert (tmp_path / ".pid").read_text() == str(os.getpid())


def test_a_dead_process_does_not_block(tmp_path, holder):
    holder.kill()
    holder.wait()
    with lock(tmp_path):
        pass


def test_once_in_a_process_too_and_again_afterwards(tmp_path):
    folder = tmp_path / "new" / "run"
    with lock(folder):
        with pytest.raises(CheckpointError, match=str(os.getpid())), lock(folder):
            pytest.fail("locked twice")
        with lock(tmp_path):  # another folder
            pass
    with pytest.raises(ZeroDivisionError), lock(folder):
        1 / 0  # noqa: B018
    with lock(folder):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_that_lives_on_does_not_keep_it(tmp_path):
    with lock(tmp_path):
        worker = os.fork()
        if worker == 0:
            signal.pause()
            os._exit(0)
    try:
        with lock(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"cannot use .*file.*choose another folder"), lock(tmp_path / "file"):
        pytest.fail("locked a file")


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    with pytest.warns(UserWarning, match=r"cannot be locked .*not appear to support flock"), lock(tmp_path):
        pass


def test_status(tmp_path):
    assert read_status(tmp_path) is None
    write_status(tmp_path / "run", "running", step=3)
    assert read_status(tmp_path / "run") == {"status": "running", "step": 3}
    path = write_status(tmp_path / "run", "stopped", signal="SIGTERM", loss=math.nan)
    assert json.loads(path.read_text()) == {"status": "stopped", "signal": "SIGTERM", "loss": None}
    assert [file.name for file in path.parent.iterdir()] == ["status.json"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_becomes_a_flag(name):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_signals() as stop:
        assert stop.requested is None
        signal.raise_signal(signal.Signals[name])
        assert stop.requested == name
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested == name
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("first", [["SIGINT"], ["SIGTERM", "SIGINT"], ["SIGINT", "SIGTERM"]])
def test_a_second_interrupt_is_obeyed_at_once(first):
    before = signal.getsignal(signal.SIGINT)
    with stop_signals() as stop:
        for name in first:
            signal.raise_signal(signal.Signals[name])
        assert stop.requested == first[0]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_handlers_come_back_after_an_error():
    def handler(number, frame):
        pytest.fail("not this one")

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(ZeroDivisionError), stop_signals():
            1 / 0  # noqa: B018
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_sets_no_handler():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    seen = []

    def run():
        with stop_signals() as stop:
            seen.extend([stop.requested, signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [None, *before]


# --- the same plan --------------------------------------------------------------------------------


def test_equal_fingerprints():
    plan = {"seed": 1, "data": "ab12", "betas": (0.9, 0.999), "scheduler": {"name": "linear"}, "none": None}
    check_fingerprint(json.loads(json.dumps(plan)), plan)
    check_fingerprint({}, {})
    check_fingerprint({"threshold": math.nan}, {"threshold": math.nan})


def test_every_changed_field_is_named():
    before = {"seed": 1, "lr": 1e-4, "scheduler": {"name": "linear", "warmup": 10}, "gone": None}
    now = {"seed": 2, "lr": 1e-4, "scheduler": {"name": "linear", "warmup": 20}, "new": "x"}
    with pytest.raises(CheckpointError) as caught:
        check_fingerprint(before, now)
    assert str(caught.value).splitlines() == [
        "cannot resume, 4 setting(s) changed:",
        "  seed: 1 in the checkpoint, 2 now",
        "  scheduler.warmup: 10 in the checkpoint, 20 now",
        "  gone: null in the checkpoint, (absent) now",
        '  new: (absent) in the checkpoint, "x" now',
        "Give these settings the checkpoint's values to go on with that job, or start a new one in another folder",
    ]
