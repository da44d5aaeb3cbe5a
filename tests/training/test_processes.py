"""One process and two end with the same bits; a stop asked of the launcher stops both at one step."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import LONG, SCENES, run, up_and_down

import crossenc_kit
from crossenc_kit.jobs import read_status
from crossenc_kit.training import checkpoint
from crossenc_kit.training.processes import Processes, add_gradients, buckets, join, take_gradients

HERE = Path(__file__).parent
SCRIPT = str(HERE / "two_processes.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


# --- one process ----------------------------------------------------------------------------------


def test_an_ordinary_run_is_alone():
    assert join() == Processes(0, 1, None)
    assert Processes().is_main
    assert Processes().sum([1.5, 2.0]) == [1.5, 2.0]
    assert Processes().from_main([3.0]) == [3.0]
    Processes().check_same({"any": "thing"}, "the run")
    Processes().wait()


def test_lanes():
    assert Processes().lanes("abcde") == [[(0, "a"), (2, "c"), (4, "e")], [(1, "b"), (3, "d")]]
    assert Processes().lanes("a") == [[(0, "a")]]
    assert Processes(0, 2).lanes("abcde") == [[(0, "a"), (2, "c"), (4, "e")]]
    assert Processes(1, 2).lanes("abcde") == [[(1, "b"), (3, "d")]]
    assert Processes(1, 2).lanes("a") == [[]]
    shared = [batch for rank in range(3) for lane in Processes(rank, 3).lanes("abcdefg") for batch in lane]
    assert sorted(shared) == list(enumerate("abcdefg"))


def test_gradients_are_taken_and_added():
    a, b, c = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    a.grad, b.grad = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    first = take_gradients([a, b, c])
    assert [p.grad for p in (a, b, c)] == [None] * 3
    b.grad = torch.tensor([10.0, 20.0])
    add_gradients([a, b, c], first)
    assert a.grad.tolist() == [1.0, 2.0]
    assert b.grad.tolist() == [13.0, 24.0]
    assert c.grad is None


def testbuckets_hold_one_type_and_not_too_much(monkeypatch):
    monkeypatch.setattr("crossenc_kit.training.processes.BUCKET", 5)
    small, large, half = torch.zeros(2), torch.zeros(9), torch.zeros(2, dtype=torch.bfloat16)
    assert [len(bucket) for bucket in buckets([small, small, small, large, half, half])] == [2, 1, 1, 2]
    assert buckets([]) == []


def test_processes_that_do_not_find_each_other(monkeypatch):
    class Alone:
        num_processes, process_index, device, distributed_type = 1, 0, "cpu", "NO"

        def __init__(self, **options):
            pass

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.PartialState", Alone)
    with pytest.raises(RuntimeError, match=r"2 processes were started, but this one sees 1 \(NO\); .*torchrun"):
        join()


# --- two processes --------------------------------------------------------------------------------


def start(launcher, folder, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    roots = [Path(crossenc_kit.__file__).parents[1], HERE.parent]  # the package and the tests' builders
    environment["PYTHONPATH"] = os.pathsep.join(map(str, roots))
    with open(folder / "output.txt", "a") as output:
        command = [*launcher, SCRIPT, str(folder), *arguments]
        return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)


def noted(folder, name):
    """What the two processes wrote down."""
    try:
        return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]
    except FileNotFoundError:
        pytest.fail((folder / "output.txt").read_text()[-3000:])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of two processes that ran all scenes, and whose launcher was stopped in the last, long one."""
    folder = tmp_path_factory.mktemp("two")
    launcher = start(TORCHRUN, folder)
    deadline = time.monotonic() + 300
    while not (folder / "stop me").exists() and launcher.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    launcher.send_signal(signal.SIGTERM)
    launcher.wait(120)
    return folder


@pytest.mark.parametrize("name", SCENES)
def test_the_same_bits(two, name):
    alone = run(**SCENES[name]).digests()
    assert noted(two, name) == [alone, alone]


def test_the_main_process_gives_all_its_weights(two):
    alone = run(SCENES["ragged"]["config"]).digests()
    assert noted(two, "other head") == [alone, alone]


def test_processes_with_different_data_say_so(two):
    for found in noted(two, "other data"):
        assert found["message"].startswith(
            "the training (data, loss, model, settings) is not the same in all 2 processes"
        )


def test_processes_whose_data_differ_in_a_later_epoch_say_so(two):
    for found in noted(two, "other epoch"):
        assert found["message"].startswith("the data of epoch 1 is not the same in all 2 processes, so that each would")


def test_a_loss_that_is_not_finite_stops_both(two):
    messages = [found["message"] for found in noted(two, "poisoned")]
    for message in messages:
        assert message.startswith("step 0: the loss is nan (")
    assert any("(rows " in message for message in messages)


def test_only_the_main_process_writes(two):
    main, other = noted(two, "saving")
    steps = 6
    evaluations, checkpoints = 3, 3
    assert other["calls"] == dict.fromkeys(main["calls"], 0)
    assert main["calls"]["evaluator"] == evaluations
    assert main["calls"]["on_row"] == main["rows"] == steps + evaluations
    assert main["calls"]["checkpoint.save"] == checkpoints
    assert main["calls"]["CrossEncoder.save_pretrained"] in (2, 3, 4)  # last/, and best/ up to three times
    options = {"evaluation_steps": 2, "patience": 9}
    alone = run(SCENES["ragged"]["config"], evaluator=up_and_down, **options)
    assert {name: main[name] for name in alone.digests()} == alone.digests()
    assert other["weights"] == main["weights"]  # the best ones, in both
    assert other["best_step"] == main["best_step"] == alone.result.best_step
    names = {path.name for path in (two / "saving").iterdir()}
    assert names == {".lock", "best", "last", "checkpoints", "history.jsonl", "status.json"}
    assert read_status(two / "saving") == {"status": "finished", "step": 6, "total_steps": 6, "reason": "finished"}


def test_a_stop_asked_of_the_launcher_stops_both_and_resumes_to_the_same_bits(two, tmp_path):
    stopped = noted(two, "stopped")
    assert stopped[0] == stopped[1]
    assert stopped[0]["status"] == "stopped"
    assert 3 <= stopped[0]["steps"] < 45
    assert read_status(two / "long")["status"] == "stopped"
    assert checkpoint.newest(two / "long" / "checkpoints").step == stopped[0]["steps"]

    whole = run(LONG).digests()
    shutil.copytree(two / "long", tmp_path / "long")
    assert run(LONG, output_dir=tmp_path / "long", resume=True).digests() == whole  # by one process

    start(ACCELERATE, two, "resume").wait(300)  # by two
    for found in noted(two, "resumed"):
        assert found == {"steps": 45, "status": "finished", **whole}
    assert read_status(two / "long")["status"] == "finished"
