"""The training loop: it learns, it is the plain loop, and it repeats itself."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from small_runs import largest_difference, run, sentences, tiny
from torch.nn.functional import binary_cross_entropy_with_logits

from crossenc_kit import TrainingConfig, train
from crossenc_kit.losses import bce_with_logits
from crossenc_kit.training.batches import seed_generators

NOUNS = ["sun", "moon", "tree", "river", "stone", "cloud", "grass", "sand"]


# --- it learns, and as the plain loop does --------------------------------------------------------


def test_the_loss_falls_where_labels_can_be_told_apart():
    rows = [(f"the {NOUNS[i % 8]} is", f"{'good' if i % 2 else 'bad'} {NOUNS[i * 3 % 8]}", i % 2) for i in range(32)]
    outcome = run(TrainingConfig(batch_size=8, epochs=10, learning_rate=2e-3), rows)
    losses = outcome.result.history.column("loss")[1]
    assert losses[:4].mean() == pytest.approx(math.log(2), abs=0.05)
    assert losses[-4:].mean() < 0.3
    scores = outcome.model.predict([row[:2] for row in rows])
    assert ((scores > 0.5) == np.arange(32) % 2).all()


def plain_loop(data, config, warmup):
    """The textbook's loop: Hugging Face's padded forward, AdamW, transformers' schedule, clipping."""
    from transformers import get_scheduler

    encoder = tiny(dropout=False)
    model, tokenizer = encoder.model.train(), encoder.tokenizer
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, foreach=False)
    steps = math.ceil(len(data) / config.batch_size) * config.epochs
    scheduler = get_scheduler(config.scheduler, optimizer, warmup, steps)
    rates, norms = [], []
    for epoch in range(config.epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(len(data))
        for start in range(0, len(data), config.batch_size):
            rows = order[start : start + config.batch_size]
            left, right = ([texts[row] for row in rows] for texts in (data.left, data.right))
            logits = model(**tokenizer(left, right, padding=True, return_tensors="pt")).logits[:, 0]
            binary_cross_entropy_with_logits(logits, torch.tensor(data.labels[rows])).backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)))
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return model.state_dict(), rates, norms


@pytest.mark.parametrize("changes", [{}, {"token_budget": 60}])
def test_the_plain_loop_gives_the_same_weights(changes):
    data = sentences()
    settings = {"batch_size": 5, "epochs": 3, "learning_rate": 1e-3, "weight_decay": 0.1, "max_grad_norm": 0.4}
    config = TrainingConfig(scheduler="cosine", warmup_steps=3, seed=5, **settings)
    weights, rates, norms = plain_loop(data, config, 3)
    outcome = run(config, data, model=tiny(dropout=False), **changes)
    assert largest_difference(outcome.weights(), weights) < 1e-6
    assert largest_difference(outcome.weights(), tiny(dropout=False).model.state_dict()) > 1e-3
    history = outcome.result.history
    assert history.column("learning_rate")[1] == pytest.approx(rates)
    assert history.column("grad_norm")[1] == pytest.approx(norms, rel=1e-4)
    assert min(norms) < 0.4 < max(norms)  # clipping mattered, and not always


def test_rows_of_the_history():
    data = sentences()
    outcome = run(epochs=2)
    rows = outcome.result.history
    assert len(rows) == outcome.result.steps == 10
    assert rows.names() == ["step", "epoch", "loss", "learning_rate", "grad_norm", "pairs", "tokens", "seconds"]
    assert [row["pairs"] for row in rows] == [5, 5, 5, 5, 2] * 2
    assert sum(row["tokens"] for row in rows) == 2 * tiny().tokenize(data).lengths.sum()
    assert [row["epoch"] for row in rows] == pytest.approx([step / 5 for step in range(1, 11)])
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert outcome.result.minutes == pytest.approx(seconds[-1] / 60, abs=0.05)
    assert outcome.result.status == "finished"
    assert not outcome.model.model.training


# --- the same again -------------------------------------------------------------------------------


def test_the_callers_own_batches_take_the_place_of_the_plan():
    seen = []
    steps = [np.array([3, 1]), np.array([0, 2, 4])]
    config = TrainingConfig(epochs=2, batch_size=3)
    train(tiny(), sentences(5), "mse", config, on_row=seen.append, batches=lambda epoch: steps[:: 1 - 2 * epoch])
    assert [row["pairs"] for row in seen] == [2, 3, 3, 2]


def test_evaluations_within_and_at_the_end_of_each_epoch():
    seen = []
    config = TrainingConfig(epochs=2, batch_size=4, evaluation_steps=3, evaluate_epochs=True)  # 5 steps an epoch
    result = train(tiny(), sentences(20), "bce", config, lambda model: seen.append(1) or 0.0)
    assert [row["step"] for row in result.history if "eval_score" in row] == [3, 5, 8, 10]


def test_a_seed_gives_the_same_bits_whatever_ran_before():
    first = run(epochs=2).digests()
    torch.manual_seed(99)
    torch.rand(7)
    np.random.rand(3)
    assert run(epochs=2).digests() == first
    assert run(epochs=2, seed=1).digests()["weights"] != first["weights"]


def test_every_micro_batch_has_dropout_of_its_own():
    def drawn(*place):
        seed_generators(*place)
        return torch.rand(4).tolist()

    places = [(seed, step, k) for seed in range(2) for step in range(12) for k in range(12)]
    assert len({tuple(drawn(*place)) for place in places}) == len(places)
    assert drawn(1, 2, 3) == drawn(1, 2, 3)


def test_an_evaluator_does_not_change_the_weights():
    def random_evaluator(model):
        assert not model.model.training
        return float(torch.rand(1))

    plain, evaluated = run(), run(evaluator=random_evaluator, evaluation_steps=1, restore_best=False)
    assert plain.digests()["weights"] == evaluated.digests()["weights"]


def test_recomputing_activations_changes_no_weights():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, thrifty = run(epochs=2), run(epochs=2, gradient_checkpointing=True)
    assert any(getattr(module, "gradient_checkpointing", False) for module in thrifty.model.model.modules())
    assert largest_difference(plain.weights(), thrifty.weights()) < 1e-6


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_runs_and_comes_close(precision):
    exact, lower = run(), run(precision=precision)
    assert 0 < largest_difference(exact.weights(), lower.weights()) < 0.02
    losses = [outcome.result.history.column("loss")[1] for outcome in (exact, lower)]
    assert losses[0] == pytest.approx(losses[1], abs=5e-3)
    assert {tensor.dtype for tensor in lower.weights().values() if tensor.is_floating_point()} == {torch.float32}


def test_a_gradient_too_large_for_fp16_skips_its_step():
    before = tiny().model.state_dict()
    outcome = run(loss=lambda scores, labels: 1e9 * bce_with_logits(scores, labels), precision="fp16", max_steps=2)
    assert not np.isfinite(outcome.result.history.column("grad_norm")[1]).any()
    assert largest_difference(outcome.weights(), before) == 0


def test_precision_as_the_launcher_says(monkeypatch):
    asked = run(precision="bf16", max_steps=2).digests()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert run(max_steps=2).digests() == asked
    assert run(max_steps=2, precision="fp32").digests() != asked
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(ValueError, match="precision must be fp32, bf16 or fp16, got 'fp8'"):
        run()
