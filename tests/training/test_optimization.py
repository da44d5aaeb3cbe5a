"""Learning rates that are transformers' own, AdamW's groups, and the warning of a warm-up that never ends."""

from __future__ import annotations

import warnings

import pytest
import torch
from small_runs import tiny

from crossenc_kit import TrainingConfig
from crossenc_kit.training.optimization import (
    OLD_SCHEDULES,
    SCHEDULES,
    adamw,
    parameter_groups,
    rate_factor,
    schedule_name,
    schedule_of,
    set_rate,
)

# --- schedules ------------------------------------------------------------------------------------


def test_rates_by_hand():
    assert [rate_factor("constant", step, 4, 2) for step in range(4)] == [1, 1, 1, 1]
    assert [rate_factor("constant_with_warmup", step, 4, 2) for step in range(4)] == [0, 0.5, 1, 1]
    assert [rate_factor("linear", step, 6, 2) for step in range(6)] == [0, 0.5, 1, 0.75, 0.5, 0.25]
    assert [rate_factor("linear", step, 4) for step in range(4)] == [1, 0.75, 0.5, 0.25]
    assert [rate_factor("cosine", step, 2) for step in range(2)] == pytest.approx([1, 0.5])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore:the warm-up")
@pytest.mark.parametrize(("total", "warmup"), [(20, 0), (20, 5), (7, 1), (10, 10), (3, 8), (1, 0)])
def test_transformers_get_scheduler(name, total, warmup):
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    ours = schedule_of(TrainingConfig(scheduler=name, warmup_steps=warmup), total)
    for step in range(total):
        assert ours(step) * 0.5 == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_older_names():
    assert {schedule_name(name) for name in OLD_SCHEDULES} == set(SCHEDULES)
    assert schedule_name("WarmupLinear") == "linear"
    with pytest.raises(ValueError, match=r"unknown scheduler 'warmup'; choose from constant, .*cosine_with_restarts"):
        schedule_name("warmup")


def test_a_schedule_of_ones_own():
    assert schedule_of(TrainingConfig(scheduler=lambda step: 1 / (1 + step)), 10)(4) == 0.2


# --- warm-up --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("warmup", "peak"), [(10, "1.80e-04"), (100, "1.80e-05")])
def test_a_warm_up_that_does_not_end_says_which_rate_is_reached(warmup, peak):
    with pytest.warns(UserWarning, match=f"warm-up of {warmup} steps does not end .* 10 steps.* reach {peak}, not 2.0"):
        schedule_of(TrainingConfig(learning_rate=2e-4, warmup_steps=warmup), 10)


def test_a_warm_up_that_ends_is_no_matter():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule_of(TrainingConfig(warmup_steps=9), 10)
        schedule_of(TrainingConfig(scheduler="constant", warmup_steps=100), 10)  # has none


# --- parameter groups -----------------------------------------------------------------------------


def by_name(groups, model):
    """name -> (peak rate, weight decay)"""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: (group["peak"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_weight_decay_spares_biases_and_norms():
    model = tiny().model
    groups = parameter_groups(model.named_parameters(), 1e-3, weight_decay=0.1)
    found = by_name(groups, model)
    assert found.keys() == dict(model.named_parameters()).keys()
    assert len(groups) == 2
    spared = {name for name, (_, decay) in found.items() if decay == 0.0}
    assert spared == {name for name in found if name.endswith("bias") or "LayerNorm" in name}
    assert {rate for rate, _ in found.values()} == {1e-3}
    assert all(group["lr"] == group["peak"] for group in groups)


def test_each_depth_its_rate():
    model = tiny().model  # two layers
    found = by_name(parameter_groups(model.named_parameters(), 1.0, 0.0, layer_decay=0.5, head_factor=10), model)
    expected = {"embeddings": 0.25, "layer.0.": 0.5, "layer.1.": 1.0, "pooler": 10.0, "classifier": 10.0}
    for name, (rate, _) in found.items():
        assert rate == next(value for part, value in expected.items() if part in name)


def test_frozen_parameters_are_left_out():
    model = tiny().model
    model.bert.embeddings.requires_grad_(False)
    found = by_name(parameter_groups(model.named_parameters(), 1.0), model)
    assert found
    assert not [name for name in found if "embeddings" in name]


def test_rates_follow_the_peaks():
    groups = [{"params": [torch.nn.Parameter(torch.ones(2, 2))], "lr": rate, "peak": rate} for rate in (0.1, 0.4)]
    optimizer = adamw(groups, betas=(0.8, 0.9))
    assert set_rate(optimizer, 0.5) == 0.2
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.2]
    assert set_rate(optimizer, 1.0) == 0.4
    assert optimizer.param_groups[0]["fused"] is True
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
