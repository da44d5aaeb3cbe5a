"""The measuring itself, and the comparison with sentence-transformers on a model of two layers."""

import gzip
import json
import os
import re
import sys
from types import SimpleNamespace

import against_sentence_transformers
import numpy as np
import pytest
from measure import Goal, check_equal, check_precise, in_own_process, memory_of, table
from workloads import load_work, real_passages

from crossenc_kit.inference import timing
from crossenc_kit.inference.timing import interleave, peak_memory
from crossenc_kit.training.batches import plan_epoch

SECONDS = Goal("a", "s", [1.0, 2.0, 4.0], [3.0, 8.0, 4.0])
RATE = Goal("b", "pairs/s", [30.0, 10.0, 20.0], [10.0, 10.0, 5.0], True, least=1.5, aim=3)


class TestGoal:
    def test_gains_by_hand(self):
        assert SECONDS.gains == [3, 4, 1]
        assert SECONDS.gain == 4 / 2
        assert RATE.gains == [3, 1, 4]
        assert RATE.gain == 20 / 10

    def test_verdicts(self):
        assert SECONDS.verdict() == ""
        assert RATE.verdict() == "at least 1.5x: met, aim 3x"
        assert Goal("c", "s", [1.0], [1.0], least=1.5).verdict() == "at least 1.5x: MISSED"
        assert Goal("c", "s", [0.05], [], most=0.1).verdict() == "below 0.1: met"
        assert Goal("c", "s", [0.2], [], most=0.1).verdict() == "below 0.1: MISSED"

    def test_a_record_is_json(self):
        record = json.loads(json.dumps(RATE.to_dict()))
        assert record["ours"] == [30, 10, 20]
        assert (record["median_ours"], record["median_theirs"], record["gain"]) == (20, 10, 2)
        assert record["gain_spread"] == [1, 4]
        assert "gain" not in Goal("c", "s", [0.05], []).to_dict()

    def test_a_table(self):
        lines = table([SECONDS, RATE, Goal("c", "CPU s", [0.05], [])]).splitlines()
        assert re.split(" {2,}", lines[2]) == [
            *["a", "s", "2.000 (1.000 to 4.000)", "4.000 (3.000 to 8.000)", "2.00x (1.00 to 4.00)"]
        ]
        assert lines[3].endswith("2.00x (1.00 to 4.00)  at least 1.5x: met, aim 3x")
        assert lines[4].split() == ["c", "CPU", "s", "0.050", "(0.050", "to", "0.050)", "-"]


def test_runs_are_taken_in_turns_and_the_first_of_each_is_not_counted(monkeypatch):
    clock, calls = [0.0], []

    def side(name, seconds):
        def run():
            calls.append(name)
            clock[0] += seconds if calls.count(name) > 1 else 100

        return run

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    seconds = interleave({"A": side("A", 1), "B": side("B", 2)}, 3, lambda: calls.append("|"))
    assert "".join(calls) == "AB" + "|A||B|" * 3
    assert seconds == {"A": [1, 1, 1], "B": [2, 2, 2]}


def test_peak_memory_is_the_processes_own():
    block = np.ones(100 * timing.MEBIBYTE, dtype=np.uint8)
    peak = peak_memory()
    assert peak > 100
    del block
    assert peak_memory() > peak - 1  # the most there ever was
    assert in_own_process(peak_memory) < peak - 50  # not the parent's


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_of_goes_down_again_and_is_told_of_other_processes():
    before = memory_of()
    block = np.ones(100 * timing.MEBIBYTE, dtype=np.uint8)
    assert memory_of(os.getpid()) == pytest.approx(before + 100, abs=5)
    del block
    assert memory_of() == pytest.approx(before, abs=5)
    assert memory_of(2**31) is None


class TestWork:
    def test_without_a_data_folder_the_sample_data_are_used(self):
        work = load_work(None, pairs=50, queries=3, candidates=7, steps=2)
        assert (len(work.pairs), len(work.queries), [len(texts) for texts in work.documents]) == (50, 3, [7] * 3)
        assert all(55 <= len(text.split()) < 120 for texts in work.documents for text in texts)
        assert len({row[:2] for row in work.train}) == len(work.train) == 64
        assert all(0 <= label <= 1 for *_, label in work.train)
        assert "no data folder" in work.describe()

    def test_batches_are_those_of_training(self):
        """`train` knows the lengths, which order the rows of a step and do not choose them."""
        work = load_work(None, pairs=1, queries=1, candidates=1, steps=3)
        lengths = np.random.default_rng(0).integers(5, 90, size=len(work.train))
        plan = plan_epoch(lengths, np.arange(len(lengths) + 1), seed=0, epoch=0, batch_size=32)
        assert [set(rows) for rows in work.batches()] == [set(rows) for (rows,) in plan]
        assert sorted(np.concatenate(work.batches())) == list(range(96))

    def test_candidates_of_the_run_come_first_and_the_corpus_fills_up(self, tmp_path):
        (tmp_path / "runs").mkdir()
        rows = {"queries": [("q1", "one"), ("q2", "two"), ("q3", "three")]}
        rows["corpus"] = [(f"d{i}", f"text {i}") for i in range(9)]
        for name, entries in rows.items():
            lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in entries]
            (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
        run = ["query-id\tcorpus-id\trank\tscore", "q2\td5\t1\t2", "q2\td3\t2\t1", "q1\td0\t1\t1", "q3\td0\t1\t1"]
        (tmp_path / "runs" / "bm25_top20_dev.tsv").write_text("\n".join(run) + "\n")
        queries, documents = real_passages(tmp_path, queries=2, candidates=6, seed=0)
        assert queries == ["two", "one"]
        assert documents[0][:2] == ["text 5", "text 3"]
        assert documents[1][0] == "text 0"
        assert [len(set(texts)) for texts in documents] == [6, 6]
        assert real_passages(tmp_path, 2, 6, seed=0) == (queries, documents)


def test_answers_that_differ_end_the_benchmark(capsys):
    check_equal("x", np.array([0.5, 0.1]), np.array([0.50001, 0.1]), 1e-4)
    assert "largest difference of 2 values 1.0e-05 (they span 0.40)" in capsys.readouterr().out
    for ours in ([0.5, 0.2], [0.5, np.nan]):
        with pytest.raises(SystemExit, match=r"x: ours and theirs differ by \S+, more than 1e-04"):
            check_equal("x", np.array(ours), np.array([0.5, 0.1]), 1e-4)


def test_answers_much_less_precise_than_theirs_end_the_benchmark(capsys):
    exact = np.zeros(2)
    check_precise("x", np.array([0.03, 0.04]), np.array([-0.03, 0.04]), exact)
    assert "2 values 3.5e-02, theirs 3.5e-02" in capsys.readouterr().out  # sqrt((9 + 16) / 2) = 3.5
    with pytest.raises(SystemExit, match=r"x: our error 3.5e-02 is more than one and a half times theirs, 1.0e-02"):
        check_precise("x", np.array([0.03, 0.04]), np.array([0.01, 0.01]), exact)


@pytest.mark.parametrize(
    ("tasks", "precision"), [(["predict", "rank", "rank_many", "train"], "fp32"), (["rank"], "bf16")]
)
def test_both_sides_agree_and_are_measured(tmp_path, monkeypatch, capsys, tasks, precision):
    """The whole script at its smallest: its figures mean nothing, its comparison of scores and losses does."""
    pytest.importorskip("sentence_transformers")
    output = tmp_path / "result.json"
    small = f"x --model tiny --pairs 24 --queries 2 --candidates 3 --steps 2 --repeats 2 --precision {precision}"
    monkeypatch.setattr(sys, "argv", [*small.split(), "--only", *tasks, "--json", str(output)])
    monkeypatch.delenv("CROSSENC_KIT_DATA", raising=False)
    against_sentence_transformers.main()
    printed = capsys.readouterr().out
    compared = {"fp32": "largest difference of", "bf16": "root mean square error of"}[precision]
    assert printed.count(compared) == len(tasks)
    lines = printed[printed.index("-----") :].splitlines()[1:]
    record = json.loads(output.read_text())
    for task, line, comparison in zip(tasks, lines, record["comparisons"], strict=False):
        assert line.startswith(f"{task}, {precision} ")
        assert comparison["name"] == f"{task}, {precision}"
        assert len(comparison["ours"]) == len(comparison["theirs"]) == 2
    assert len(record["comparisons"]) == len(tasks)
    assert record["versions"]["sentence_transformers"]
    assert str(tmp_path) not in output.read_text()
