"""What stops a training run, and what is said of data, settings, losses and gradients without a meaning."""

from __future__ import annotations

import math
import re
import signal
import warnings

import numpy as np
import pytest
import torch
from small_runs import (
    candidate_lists,
    largest_difference,
    run,
    sentences,
    softmax_loss,
    tiny,
    up_and_down,
    without_seconds,
)

from crossenc_kit import DataError, Pairs, TrainingError, train
from crossenc_kit.errors import CheckpointError, TruncationWarning

# --- stopping -------------------------------------------------------------------------------------


def test_an_interrupt_leaves_a_usable_model():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    outcome = run(on_row=lambda row: row["step"] == 3 and signal.raise_signal(signal.SIGINT))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert (outcome.result.status, outcome.result.steps, len(outcome.result.history)) == ("stopped", 3, 3)
    assert not outcome.model.model.training
    whole = run()
    first = [row for row in whole.result.history if row["step"] <= 3]
    assert without_seconds(outcome.result.history) == without_seconds(first)
    assert np.isfinite(outcome.model.predict(sentences(3).texts)).all()


def test_an_interrupt_in_the_last_step_comes_too_late():
    outcome = run(on_row=lambda row: row["step"] == 5 and signal.raise_signal(signal.SIGINT))
    assert (outcome.result.status, outcome.result.steps) == ("finished", 5)


def test_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError):
        run(on_row=lambda row: 1 / 0)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# --- guards ---------------------------------------------------------------------------------------


ROW = ("a text", "another", 0.5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "nothing to train on: the training data is empty"),
        ([("a", "b"), ("c", "d")], "training needs labels: add a column named label, labels, score or scores"),
        ([ROW, ("a", "b", math.nan)], "row 1, label: the label is nan"),
        ([ROW, ROW, ("a", "b", 4.2)], r"row 2: the label is 4\.2, and bce_with_logits takes .* 0 to 1 \(1 of 3"),
        ([("a", "b", [0.5, 1.0])], "num_labels=1, but row 0 has 2 label.* build the model with num_labels=2"),
        (Pairs(["a"], ["b"], np.array([math.nan])), "row 0: the label is nan, .*from 0 to 1"),
        (
            [("a", ["b", "c"], [0, 1]), ("d", ["e", "f"], [1, 2])],
            r"row 1, document 1: the label is 2.0, .*\(1 of 4 labels",
        ),
    ],
)
def test_data_that_cannot_be_used(data, message):
    with pytest.raises(DataError, match=message):
        train(tiny(), data)


def test_groups_need_one_score_a_pair():
    data = candidate_lists(2)
    wide = Pairs(data.left, data.right, np.stack([data.labels] * 2, axis=1), data.offsets)
    with pytest.raises(DataError, match="groups of candidates need one score per pair, this model has num_labels=2"):
        run(data=wide, loss=softmax_loss, model=tiny(num_labels=2))


def poisoned(scores, labels):
    """Not finite where a label is exactly 0.125."""
    return (scores - labels).square().mean() + torch.where(labels == 0.125, math.nan, 0.0).sum()


def test_a_loss_that_is_not_finite_names_the_rows_and_spoils_no_weights(tmp_path):
    data = sentences()
    data.labels[13] = 0.125
    model, seen = tiny(), [tiny().model.state_dict()]

    def on_row(row):
        seen.append({name: tensor.clone() for name, tensor in model.model.state_dict().items()})

    with pytest.raises(TrainingError) as caught:
        run(data=data, loss=poisoned, model=model, on_row=on_row, output_dir=tmp_path, batch_size=2)
    step, rows = re.match(r"step (\d+): the loss is nan \(rows (\d+, \d+)\); the weigh", str(caught.value)).groups()
    assert "13" in rows.split(", ")
    assert int(step) == len(seen) - 1
    assert largest_difference(model.model.state_dict(), seen[-1]) == 0
    assert all(torch.isfinite(tensor).all() for tensor in model.model.state_dict().values())
    assert '"status": "failed"' in (tmp_path / "status.json").read_text()


def test_a_gradient_that_is_not_finite_stops_the_run():
    class Explode(torch.autograd.Function):
        @staticmethod
        def forward(ctx, scores):
            return scores.sum()

        @staticmethod
        def backward(ctx, gradient):
            return torch.full((5,), math.inf)

    model = tiny()
    with pytest.raises(TrainingError, match=r"step 0: the gradient's norm is (inf|nan); try a lower learning_rate"):
        run(loss=lambda scores, labels: Explode.apply(scores), model=model)
    assert largest_difference(model.model.state_dict(), tiny().model.state_dict()) == 0


def test_a_long_warm_up_is_warned_of():
    with pytest.warns(UserWarning, match=r"warm-up of 50 steps does not end .* 5 steps.*reach 8\.00e-05"):
        run(warmup_steps=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(warmup_steps=4)


def test_truncation_is_counted():
    model = tiny(max_length=20)
    cut = int((tiny().tokenize(sentences()).lengths > 20).sum())
    with pytest.warns(TruncationWarning, match=rf"{cut} of 22 pairs exceed max_length=20 tokens and were cut \(by \d+"):
        run(model=model, max_steps=1)
    assert model.card["data"]["truncated pairs"] == cut > 0


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(CheckpointError, match=r"cannot use .*file.*choose another folder"):
            run(output_dir=folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: 0}, f"{name} must be a whole number, 1 or more, got 0") for name in ("epochs", "batch_size")),
        *(({name: -1}, f"{name} must be a whole number, 1 or more") for name in ("accumulation", "keep_checkpoints")),
        *(({name: 0}, f"{name} must be .* 1 or more or None") for name in ("max_steps", "token_budget", "patience")),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number, 0 or more or None, got -1"),
        ({"cached_pairs": 2.5}, "cached_pairs must be a whole number, 1 or more or None, got 2.5"),
        ({"learning_rate": -1e-5}, "learning_rate must be a number, 0 or more, got -1e-05"),
        ({"learning_rate": "1e-5"}, "learning_rate must be a number, 0 or more, got '1e-5'"),
        ({"weight_decay": math.nan}, "weight_decay must be"),
        ({"head_factor": math.inf}, "head_factor must be"),
        ({"scheduler": "sawtooth"}, "unknown scheduler 'sawtooth'; choose from constant, "),
        ({"loss": "hinge"}, "unknown loss 'hinge'; choose from bce, cross_entropy, mse"),
        ({"precision": "int8"}, "precision must be fp32, bf16 or fp16, got 'int8'"),
        ({"save_steps": 5}, "save_steps needs an output_dir"),
        ({"resume": True}, "resume needs the output_dir"),
    ],
)
def test_settings_without_a_meaning(changes, message):
    with pytest.raises(ValueError, match=message):
        run(evaluator=up_and_down, **changes)


def test_numbers_of_numpy_are_numbers():
    assert run(max_steps=np.int64(2), learning_rate=np.float32(1e-4)).result.steps == 2
