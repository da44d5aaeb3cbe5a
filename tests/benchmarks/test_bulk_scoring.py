"""The check of bulk scoring at its smallest, and that it sees what it looks for."""

import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("pyarrow")
with mock.patch.dict(os.environ):  # it sets its process to one thread
    import bulk_scoring

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and reads /proc")
def test_a_job_that_is_killed_ends_with_the_same_scores():
    command = [sys.executable, bulk_scoring.__file__, "--pairs", "600", "--kills", "4", "--shard-size", "50"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    kills, different, total = re.search(r"killed (\d) times .*: (\d+) of (\d+) scores differ", done.stdout).groups()
    assert int(kills) >= 1
    assert (different, total) == ("0", "600")
    assert re.search(r"600 pairs in [\d.]+ s, ", done.stdout)
    assert re.search(r"memory grew by \d+ MiB at most \(limit 300\)", done.stdout)


def test_one_bit_is_a_difference_and_other_rows_are_an_error():
    whole = {"id": ["a", "b"], "row": np.arange(2), "score": np.array([0.5, 0.0], dtype=np.float32)}
    assert bulk_scoring.compare(whole, {**whole, "score": whole["score"].copy()}) == 0
    assert bulk_scoring.compare(whole, {**whole, "score": np.array([0.5, -0.0], dtype=np.float32)}) == 1
    with pytest.raises(SystemExit, match="has other rows"):
        bulk_scoring.compare(whole, {**whole, "id": ["b", "a"]})


def test_growth_is_the_most_of_each_tenth_above_the_first_look():
    memory = [(second, 100.0 + 10 * (second >= 50)) for second in range(101)]
    found = bulk_scoring.growth(memory)
    assert [mib for _, mib in found] == [0] * 5 + [10] * 5
    assert [at for at, _ in found] == pytest.approx(range(10, 101, 10))


def test_texts_are_drawn_from_the_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        bulk_scoring.write_pairs(tmp_path / name, 5, seed)
    a, b, c = ((tmp_path / name).read_text() for name in "abc")
    assert a == b != c
    assert len(a.splitlines()) == 5
