"""What `test_processes.py` starts in two processes: `two_processes.py <folder> [resume]`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from small_runs import LONG, SCENES, drawn, run, sentences, tiny, up_and_down

from crossenc_kit import CrossEncoder, TrainingError
from crossenc_kit.history import History
from crossenc_kit.training import checkpoint

RANK = int(os.environ["RANK"])


def note(folder: Path, name: str, **values: Any) -> None:
    (folder / f"{name}-{RANK}.json").write_text(json.dumps(values))


def other_head() -> CrossEncoder:
    """A model that is another one in each process, as where a script fixes no seed."""
    return tiny(seed=7 * RANK)


def poisoned(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Not finite where a label is exactly 1."""
    return (scores - labels).square().mean() + torch.where(labels == 1, torch.nan, 0.0).sum()


def message_of(error: type[Exception], **options: Any) -> str:
    """What a run that must fail says."""
    try:
        run(**options)
    except error as caught:
        return str(caught)
    return "no error"


def count_calls(owner: Any, name: str, calls: dict[str, int]) -> None:
    original, key = getattr(owner, name), f"{owner.__name__.rpartition('.')[2]}.{name}"
    calls[key] = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[key] += 1
        return original(*arguments, **options)

    setattr(owner, name, counted)


def saving_run(folder: Path) -> None:
    """A run with everything on the disk: how often each process evaluates and writes."""
    calls = {"evaluator": 0, "on_row": 0}

    def evaluator(model: CrossEncoder) -> dict[str, float]:
        calls["evaluator"] += 1
        return up_and_down(model)

    def on_row(row: dict[str, Any]) -> None:
        calls["on_row"] += 1

    for owner, name in ((checkpoint, "save"), (CrossEncoder, "save_pretrained"), (History, "save")):
        count_calls(owner, name, calls)
    options = {"output_dir": folder / "saving", "save_steps": 2, "evaluation_steps": 2, "patience": 9}
    outcome = run(SCENES["ragged"]["config"], evaluator=evaluator, on_row=on_row, **options)
    rows = len(outcome.result.history)
    note(folder, "saving", calls=calls, rows=rows, best_step=outcome.result.best_step, **outcome.digests())


def long_run(folder: Path, resume: bool) -> None:
    """A run slow enough to be stopped, or the rest of it."""

    def slowly(row: dict[str, Any]) -> None:
        if not resume and row["step"] >= 3:
            (folder / "stop me").touch()
            time.sleep(0.2)

    outcome = run(LONG, on_row=slowly, output_dir=folder / "long", resume=resume)
    result = outcome.result
    note(folder, "resumed" if resume else "stopped", steps=result.steps, status=result.status, **outcome.digests())


def main(folder: Path, resume: bool) -> None:
    if not resume:
        for name, scene in SCENES.items():
            note(folder, name, **run(**scene).digests())
        note(folder, "other head", **run(SCENES["ragged"]["config"], model=other_head()).digests())
        note(folder, "other data", message=message_of(RuntimeError, data=sentences(20 + RANK)))
        other_epoch = message_of(RuntimeError, data=lambda epoch: drawn(epoch * (1 + RANK)), loss="listnet", epochs=2)
        note(folder, "other epoch", message=other_epoch)
        note(folder, "poisoned", message=message_of(TrainingError, loss=poisoned, batch_size=8, token_budget=60))
        saving_run(folder)
    long_run(folder, resume)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "resume" in sys.argv)
