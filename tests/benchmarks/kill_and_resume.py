"""Kill a training run at random moments, resume it, and compare its end with an uninterrupted run, bit for bit.

`python tests/benchmarks/kill_and_resume.py --kills 30 --seed 0`. Compared are weights, optimizer, history
(but the seconds), the folders best/ and last/ and the newest checkpoint. Exits with 1 on any difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import safetensors.torch
import torch
import transformers.models.bert.modeling_bert  # noqa: F401 (so that the processes forked below need not)
from small_runs import digest, run, sentences, up_and_down, without_seconds

from crossenc_kit import TrainingConfig
from crossenc_kit.history import History
from crossenc_kit.jobs import read_status
from crossenc_kit.training.checkpoint import newest

# 30 steps of one to three micro-batches, with dropout, evaluation, best weights, patience, and much saving.
CONFIG = TrainingConfig(batch_size=5, epochs=6, learning_rate=1e-3, token_budget=70, save_steps=1, resume=True)
CONFIG = replace(CONFIG, evaluation_steps=2, metric="wave", patience=9)
PAUSE = 0.03  # seconds after each step, so that a run takes a few seconds


def train_and_tell(folder: Path, started: int) -> None:
    """What a forked process does: begin or resume the run, and write down what it came to."""
    torch.set_num_threads(1)
    os.write(started, b"s")
    outcome = run(CONFIG, evaluator=up_and_down, on_row=lambda row: time.sleep(PAUSE), output_dir=folder)
    found = {"status": outcome.result.status, "steps": outcome.result.steps, **outcome.digests()}
    for name in ("best", "last"):
        found[name] = digest(safetensors.torch.load_file(folder / name / "model.safetensors"))
    saved = newest(folder / "checkpoints")
    assert saved is not None
    found |= {f"saved {name}": digest(saved.tensors(name)) for name in ("model", "optimizer")}
    found["saved step"] = saved.step
    found["saved history"] = without_seconds(saved.state["history"]) == without_seconds(outcome.result.history)
    found["written history"] = without_seconds(History.load(folder / "history.jsonl"))
    found["told"] = (read_status(folder) or {})["status"]
    found["files"] = sorted(path.name for path in [*folder.iterdir(), *(folder / "checkpoints").iterdir()])
    (folder.parent / f"{folder.name}.json").write_text(json.dumps(found))


def start(folder: Path) -> int:
    """Fork a process that trains, and wait until it does; returns its id."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            train_and_tell(folder, writing)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)  # whatever happened: only the parent goes on from here
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return process


def wait(process: int, seconds: float | None) -> bool:
    """Whether the process ended by itself within the time (None: however long); SystemExit if it failed."""
    deadline = time.monotonic() + (seconds if seconds is not None else 600)
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            if status:
                sys.exit(f"a run failed by itself, with status {os.waitstatus_to_exitcode(status)}")
            return True
        time.sleep(0.001)
    return False


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def half_written(folder: Path) -> bool:
    """Whether the run was killed while it wrote a checkpoint, a model or a record."""
    names = [path.name for part in (folder, folder / "checkpoints") if part.is_dir() for path in part.iterdir()]
    return any(name.endswith(".partial") or (name.startswith(".") and name not in (".lock", ".pid")) for name in names)


def killed_run(folder: Path, most: int, length: float, moments: random.Random) -> tuple[list[int], int]:
    """A run killed up to `most` times: the steps it could go on from, and how many kills came while it wrote."""
    steps: list[int] = []
    torn = 0
    while True:
        process = start(folder)
        if len(steps) == most:
            wait(process, None)
            return steps, torn
        if wait(process, moments.uniform(0, 0.6 * length)):
            return steps, torn
        kill(process)
        torn += half_written(folder)
        found = newest(folder / "checkpoints")
        steps.append(found.step if found else 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="SIGKILLs in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    options = parser.parse_args()
    sentences()  # read the data before anything is forked
    moments, began = random.Random(options.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as parent:
        whole = Path(parent) / "whole"
        process, since = start(whole), time.monotonic()
        wait(process, None)
        length = time.monotonic() - since
        expected = json.loads(whole.with_suffix(".json").read_text())
        print(f"uninterrupted: {expected['steps']} steps, {length:.1f} s, {expected['status']}", flush=True)
        kills = runs = torn = different = 0
        while kills < options.kills:
            runs += 1
            folder = Path(parent) / f"run-{runs}"
            steps, torn_here = killed_run(folder, options.kills - kills, length, moments)
            found = json.loads(folder.with_suffix(".json").read_text())
            wrong = [name for name in expected if found[name] != expected[name]]
            kills, torn, different = kills + len(steps), torn + torn_here, different + bool(wrong)
            outcome = f"DIFFERENT: {', '.join(wrong)}" if wrong else "the same bits"
            print(f"run {runs:>3}: killed {len(steps)}x, resumed from {steps or 'nothing'}: {outcome}", flush=True)
    print(
        f"{kills} kills ({torn} of them while files were written) in {runs} runs of {expected['steps']} steps, "
        f"seed {options.seed}, {time.monotonic() - began:.0f} s: {different} runs differ from the uninterrupted one"
    )
    return int(bool(different))


if __name__ == "__main__":
    if not hasattr(os, "fork"):
        sys.exit("this check forks processes, which this system cannot")
    sys.exit(main())
