"""Cached scores when things go wrong: damage, full disks, processes killed or side by side."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from small import Lengths

from crossenc_kit import DataError, cached_scores, files
from crossenc_kit.inference import score_store

PAIRS = [(f"query {row // 3}", f"document {row}") for row in range(10)]


def shards_in(folder: Path) -> list[Path]:
    """The shards that count: those with a manifest."""
    return sorted(folder.glob("teacher-*/_manifests/*.json"))


def cached(scorer, folder, pairs=PAIRS):
    return cached_scores(scorer, pairs, folder, teacher="lengths-1", shard_size=4)


def shard_of(folder: Path, pairs: list) -> Path:
    (place,) = folder.glob("teacher-*")
    return place / f"scores-{score_store.block_key(pairs)}.parquet"


class TestDamage:
    def test_a_damaged_shard_is_named_and_scored_again(self, tmp_path):
        before = cached(Lengths(), tmp_path)
        path = shard_of(tmp_path, PAIRS[4:8])
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        scorer = Lengths()
        with pytest.warns(UserWarning, match=rf"{path.name} is damaged \(its sha256 is not") as caught:
            assert cached(scorer, tmp_path).tolist() == before.tolist()
        assert caught[0].filename == __file__
        assert scorer.asked == PAIRS[4:8]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert cached(None, tmp_path).tolist() == before.tolist()

    @pytest.mark.parametrize("kind", ["scores-*.parquet", "_manifests/*.json"])
    def test_no_changed_or_missing_byte_gives_other_scores(self, tmp_path, kind):
        cached(Lengths(), tmp_path, PAIRS[:4])
        (path,) = tmp_path.glob(f"teacher-*/{kind}")
        plan = {"teacher": {"name": "lengths-1", "fingerprint": None}, "settings": {}}
        shards, key = score_store.Shards(next(tmp_path.glob("teacher-*")), plan), score_store.block_key(PAIRS[:4])
        assert shards.damage(key) == ""
        data = path.read_bytes()
        seen = 0
        for at in range(len(data)):
            for broken in (data[:at], data[:at] + bytes([data[at] ^ 32]) + data[at + 1 :]):
                path.write_bytes(broken)
                seen += shards.damage(key) != ""
        assert seen > 1.8 * len(data)  # a manifest may lose spaces, rows and what was cut; no score depends on them
        if path.suffix == ".parquet":
            assert seen == 2 * len(data)

    def test_shards_that_belong_elsewhere(self, tmp_path):
        cached(Lengths(), tmp_path, PAIRS[:8])
        one, two = shards_in(tmp_path)
        two.write_bytes(one.read_bytes())
        with pytest.warns(UserWarning, match="it belongs to another job or place"):
            assert cached(Lengths(), tmp_path, PAIRS[:8]).tolist() == Lengths()(PAIRS[:8]).tolist()

    def test_a_shard_that_cannot_be_read(self, tmp_path):
        cached(Lengths(), tmp_path, PAIRS[:4])
        path = shard_of(tmp_path, PAIRS[:4])
        path.unlink()
        path.mkdir()
        with (
            pytest.warns(UserWarning, match="is damaged .it cannot be read: "),
            pytest.raises(OSError, match=f"cannot write .*{path.name}; the shards already there are whole"),
        ):
            cached(Lengths(), tmp_path, PAIRS[:4])

    def test_scores_that_are_not_finite_are_not_kept(self, tmp_path):
        def scorer(pairs):
            return [float("nan") if right == "document 6" else 1.0 for _, right in pairs]

        with pytest.raises(DataError, match=r"the teacher gave nan for pair 6, 'query 2' and 'document 6' \(1 of"):
            cached(scorer, tmp_path)
        assert len(shards_in(tmp_path)) == 1  # the four pairs before
        again = Lengths()
        assert cached(again, tmp_path)[:4].tolist() == [1.0] * 4
        assert again.asked == PAIRS[4:]

    @pytest.mark.parametrize("give", [lambda n: np.zeros(n + 1), lambda n: np.zeros((n, 1, 1)), lambda n: 0.0])
    def test_scores_of_another_shape(self, tmp_path, give):
        with pytest.raises(DataError, match=r"scores of shape .* for 4 pairs \(from pair 0\)"):
            cached(lambda pairs: give(len(pairs)), tmp_path)


class TestDisk:
    def test_a_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(
            OSError, match=r"cannot keep scores in '.*file/.*make the folder writable or choose another"
        ):
            cached(Lengths(), tmp_path / "file")

    def test_a_disk_that_is_full(self, tmp_path, monkeypatch):
        flush, calls = os.fsync, []

        def full(descriptor):
            calls.append(descriptor)
            if len(calls) > 6:  # _job.json, the first shard and its manifest, each and its folder
                raise OSError(errno.ENOSPC, "No space left on device")
            flush(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(
                OSError, match=r"the shards already there are whole \(No space left.*free some space"
            ) as e:
                cached(Lengths(), tmp_path)
        assert e.value.errno == errno.ENOSPC
        assert len(shards_in(tmp_path)) == 1
        assert list(tmp_path.rglob("*.partial")) == []  # nothing half
        scorer = Lengths()
        assert cached(scorer, tmp_path).tolist() == Lengths()(PAIRS).tolist()
        assert scorer.asked == PAIRS[4:]

    def test_what_dead_processes_left_goes_and_what_is_being_written_stays(self, tmp_path):
        cached(Lengths(), tmp_path)
        (place,) = tmp_path.glob("teacher-*")
        for name, age in (("old", 7200), ("new", 60)):
            (place / f".{name}.partial").write_bytes(b"half")
            time = (place / "_job.json").stat().st_mtime - age
            os.utime(place / f".{name}.partial", (time, time))
        cached(Lengths(), tmp_path)
        assert [path.name for path in place.glob(".*.partial")] == [".new.partial"]


class Death(BaseException):
    """No `except` of the package catches it."""


@pytest.mark.parametrize("fail", [Death, OSError(errno.ENOSPC, "No space left on device")], ids=["dies", "full"])
@pytest.mark.parametrize("again", [False, True])
def test_a_failure_at_any_file_operation_loses_nothing_that_was_there(tmp_path, monkeypatch, fail, again):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    before = Lengths()(PAIRS)
    for at in range(1, 100):
        folder = tmp_path / str(at)
        if again:
            cached(Lengths(), folder, PAIRS[:4])
        with monkeypatch.context() as patch:
            count = inject(patch, at, fail)
            with contextlib.suppress(Death, OSError):
                cached(Lengths(), folder)
        if len(count) < at:
            break
        there = {path.stem for path in shards_in(folder)}
        scorer = Lengths()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # no shard is damaged
            assert cached(scorer, folder).tolist() == before.tolist()
        blocks = [PAIRS[start : start + 4] for start in (0, 4, 8)]
        assert scorer.asked == [p for block in blocks if score_store.block_key(block) not in there for p in block]
    assert at > (10 if again else 15)  # there were that many operations


def inject(patch, at, fail):
    """Make file operation number `at` fail, and every one after it if the process is to be dead."""
    count = []

    def wrap(function):
        def wrapped(*arguments, **options):
            count.append(function)
            if len(count) == at or (len(count) > at and fail is Death):
                raise fail
            return function(*arguments, **options)

        return wrapped

    for name in ("mkdir", "open", "fsync", "replace", "unlink"):
        patch.setattr(os, name, wrap(getattr(os, name)))
    patch.setattr(files, "open", wrap(open), raising=False)
    return count


SCORING = """
import hashlib, itertools, os, signal, sys, threading, time
from crossenc_kit.inference.score_store import cached_scores
folder, log, pause, kill_in, delay = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
calls = itertools.count(1)
def scorer(pairs):
    os.write(descriptor, (pairs[0][1] + "\\n").encode())
    if next(calls) == kill_in:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    time.sleep(pause)
    return [int(hashlib.sha256(right.encode()).hexdigest()[:8], 16) for _, right in pairs]
pairs = [("query", f"document {row}") for row in range(480)]
scores = cached_scores(scorer, pairs, folder, teacher="sha256", shard_size=8)
print(int(scores @ range(1, len(scores) + 1)))
"""


def score_in_a_process(folder, log, pause=0.0, kill_in=0, delay=0.0):
    """480 pairs in 60 shards; killed `delay` seconds after the start of call number `kill_in`."""
    root = str(Path(score_store.__file__).parents[2])
    numbers = map(str, (pause, kill_in, delay))
    command = [sys.executable, "-W", "error", "-c", SCORING, str(folder), str(log), *numbers]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}, **pipes)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    return int(out)


def lines(path):
    return path.read_text().splitlines() if path.is_file() else []


def test_killed_again_and_again_it_scores_nothing_twice_that_was_done(tmp_path):
    draw, log, kills, interrupted = random.Random(0), tmp_path / "log", 0, 0
    expected = finish(score_in_a_process(tmp_path / "undisturbed", tmp_path / "first log"))
    assert len(lines(tmp_path / "first log")) == 60
    while True:
        done, start = len(shards_in(tmp_path / "cache")), len(lines(log))
        process = score_in_a_process(tmp_path / "cache", log, 0.002, draw.randint(3, 16), draw.random() * 0.006)
        process.communicate(timeout=300)
        scored = lines(log)[start:]
        new = len(shards_in(tmp_path / "cache")) - done
        assert new <= len(scored) <= new + 1  # at most the one that it was killed in was for nothing
        assert len(set(scored)) == len(scored)
        interrupted += len(scored) - new
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert kills > 2
    assert finish(score_in_a_process(tmp_path / "cache", log)) == expected
    assert len(lines(log)) == 60 + interrupted


def test_two_processes_on_one_cache(tmp_path):
    processes = [score_in_a_process(tmp_path / "cache", tmp_path / f"log {n}", pause=0.002) for n in range(2)]
    sums = {finish(process) for process in processes}
    assert len(sums) == 1
    assert set(lines(tmp_path / "log 0") + lines(tmp_path / "log 1")) == {f"document {row}" for row in range(0, 480, 8)}
    assert {finish(score_in_a_process(tmp_path / "cache", tmp_path / "log 2"))} == sums
    assert lines(tmp_path / "log 2") == []


def test_what_another_process_finished_meanwhile_is_taken(tmp_path):
    class First(Lengths):
        def __call__(self, pairs):
            if not self.asked:
                cached(Lengths(), tmp_path)  # the other one is faster, and all of its shards are there
            return super().__call__(pairs) + 1e-9

    first = First()
    scores = cached(first, tmp_path)
    assert first.asked == PAIRS[:4]
    assert scores.tolist() == Lengths()(PAIRS).tolist()  # the first writer's
    assert cached(None, tmp_path).tolist() == scores.tolist()
