"""Small training runs: data, a model, an evaluator, interruptions, and what two runs are compared by."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from crossenc_kit import CrossEncoder, Pairs, TrainingConfig, loss_with, read_sts, train
from crossenc_kit.history import History
from crossenc_kit.jobs import read_status
from crossenc_kit.training import TrainingResult
from crossenc_kit.training.checkpoint import newest, optimizer_state, save
from crossenc_kit.training.optimization import adamw

WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@cache
def sample() -> Pairs:
    return read_sts(split="train")


def sentences(count: int = 22) -> Pairs:
    """Labelled pairs of the sample data, cut to 1 to 5 words a text so that lengths are ragged."""
    pairs = sample().select(range(count))
    return Pairs(_cut(pairs.left), _cut(pairs.right), pairs.labels)


def _cut(texts: list[str]) -> list[str]:
    return [" ".join(text.split()[: 1 + row % 5]) for row, text in enumerate(texts)]


def candidate_lists(count: int = 9) -> Pairs:
    """Groups of 2, 3, 4, 2, ... candidates, the first of each group being the right one."""
    pairs = sample()
    sizes = [2 + group % 3 for group in range(count)]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    labels = np.zeros(offsets[-1], dtype=np.float32)
    labels[offsets[:-1]] = 1.0
    left = [text for group, size in enumerate(sizes) for text in [pairs.left[group]] * size]
    return Pairs(_cut(left), _cut(pairs.right[: len(left)]), labels, offsets)


def drawn(epoch: int) -> Pairs:
    """Lists whose first candidates stay, and whose others are other ones in each epoch."""
    lists = candidate_lists()
    order = np.random.default_rng(epoch).permutation(lists.num_pairs)
    right = [lists.right[row if lists.labels[row] else order[row]] for row in range(lists.num_pairs)]
    return replace(lists, right=right)


def softmax_loss(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between a list's labels and the softmax of its scores, mean over lists."""
    log_p = scores.masked_fill(~mask, -math.inf).log_softmax(dim=1).masked_fill(~mask, 0.0)
    return -(labels * log_p).sum(dim=1).mean()


def tiny(dropout: bool = True, num_labels: int = 1, seed: int = 0, **options: Any) -> CrossEncoder:
    """The model of two layers, always with the same head."""
    changes = {} if dropout else WITHOUT_DROPOUT
    return CrossEncoder("tiny", num_labels=num_labels, seed=seed, device="cpu", config_kwargs=changes, **options)


def up_and_down(model: CrossEncoder) -> dict[str, float]:
    """A metric that jumps about with the weights: a best one in between, and a change of one bit is seen."""
    score = float(np.mean(model.predict(sentences(3).texts, threads=1)))
    return {"wave": math.sin(1e4 * score), "mean": score}


@dataclass
class Outcome:
    """A run's result, model and optimizer."""

    result: TrainingResult
    model: CrossEncoder
    optimizer: torch.optim.Optimizer

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.model.state_dict().items()}

    def digests(self) -> dict[str, str]:
        """The bits of weights and optimizer, and the history but for the seconds."""
        tensors, settings = optimizer_state(self.model.model, self.optimizer)
        rows = without_seconds(self.result.history)
        best = (self.result.best_step, self.result.best_score)
        return {
            "weights": digest(self.weights()),
            "optimizer": digest(tensors) + hashlib.sha256(json.dumps(settings).encode()).hexdigest(),
            "history": hashlib.sha256(json.dumps([rows, best]).encode()).hexdigest(),
        }


def without_seconds(history: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 of names and bits: unlike `==`, it tells 0.0 from -0.0."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def run(
    config: TrainingConfig | None = None,
    data: Any = None,
    loss: Any = "bce",
    evaluator: Any = None,
    *,
    model: CrossEncoder | None = None,
    optimizer: Callable[..., Any] = adamw,
    on_row: Any = None,
    **changes: Any,
) -> Outcome:
    """Train a fresh tiny model on the sentences, with `changes` to the settings."""
    made: list[Any] = []

    def remembered(groups: list[dict[str, Any]]) -> Any:
        made.append(optimizer(groups))
        return made[0]

    model = model or tiny()
    config = replace(config or TrainingConfig(batch_size=5, learning_rate=1e-3), **changes)
    data = sentences() if data is None else data
    result = train(model, data, loss, config, evaluator, on_row=on_row, optimizer=remembered)
    return Outcome(result, model, made[0])


# Settings that one process and two must agree on, with dropout: several micro-batches a step and a short
# last step; a single micro-batch a step, so that one process has none; groups of candidates; groups with
# negatives from the batch, their scores cached, and other data in each epoch.
SCENES: dict[str, dict[str, Any]] = {
    "ragged": {"config": TrainingConfig(batch_size=8, epochs=2, token_budget=60, learning_rate=1e-3)},
    "accumulated": {"config": TrainingConfig(batch_size=3, accumulation=3, epochs=2, learning_rate=1e-3)},
    "one micro-batch": {"config": TrainingConfig(batch_size=6, epochs=2, learning_rate=1e-3)},
    "groups": {
        "config": TrainingConfig(batch_size=4, epochs=2, token_budget=100, learning_rate=1e-3),
        "data": candidate_lists(),
        "loss": softmax_loss,
    },
    "in batch": {
        "config": TrainingConfig(batch_size=4, epochs=2, token_budget=200, cached_pairs=5, learning_rate=1e-3),
        "data": drawn,
        "loss": loss_with("multiple_negatives", in_batch=2),
    },
}
LONG = TrainingConfig(batch_size=8, epochs=15, token_budget=60, learning_rate=1e-3)  # 45 steps

# --- runs that are interrupted and go on ------------------------------------------------------------

# 5 steps an epoch, the last of them short; several micro-batches a step; dropout on.
CONFIG = TrainingConfig(batch_size=5, epochs=3, learning_rate=1e-3, token_budget=70, save_steps=3)
CONFIG = replace(CONFIG, evaluation_steps=2, metric="wave", patience=8)  # 8 evaluations: never out of patience


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


def whole_run(folder):
    """The run that nothing interrupts, and its folder."""
    outcome = go(folder)
    assert (outcome.result.status, outcome.result.steps) == ("finished", 15)
    assert 0 < outcome.result.best_step < 15
    return outcome, folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_as_whole(outcome, folder, whole):
    assert outcome.digests() == whole[0].digests()
    assert folder_digests(folder) == folder_digests(whole[1])
    rows = without_seconds(History.load(folder / "history.jsonl"))
    assert rows == without_seconds(History.load(whole[1] / "history.jsonl"))
    assert read_status(folder)["status"] == "finished"


# --- checkpoints that say which version they are ------------------------------------------------------


def saved(folder: Path, step: int, version: float, **options: Any) -> Path:
    """A small checkpoint whose every part says which version it is."""
    model = {"weight": torch.full((3, 2), version), "bias": torch.full((2,), version)}
    optimizer = {"weight.step": torch.tensor(version)}
    return save(folder, step, {"model": model, "optimizer": optimizer}, {"version": version}, **options)


def whole_version(folder: Path) -> float | None:
    """The version of the newest checkpoint, all of whose parts must agree; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = newest(folder)
    if found is None:
        return None
    version = found.state["version"]
    assert torch.equal(found.tensors("model")["weight"], torch.full((3, 2), version))
    assert torch.equal(found.tensors("model")["bias"], torch.full((2,), version))
    assert torch.equal(found.tensors("optimizer")["weight.step"], torch.tensor(version))
    return version
