"""`fit` with a loss, activation, optimizer, schedule and clipping of the caller's own."""

from __future__ import annotations

import pytest
import torch
from small_peer import QUIET, fresh, same, weights
from torch import nn
from torch.utils.data import DataLoader

pytestmark = pytest.mark.filterwarnings("ignore:the head of")  # untrained on purpose


def test_a_loss_and_an_activation_of_the_callers_own(loader):
    seen = []

    class Recorded(nn.Module):
        def forward(self, scores, labels):
            seen.append((scores.detach(), labels))
            return nn.functional.mse_loss(scores, labels)

    fresh().fit(loader, loss_fct=Recorded(), activation_fct=nn.Sigmoid(), **QUIET)
    assert len(seen) == 3
    assert all(scores.shape == labels.shape == (4,) for scores, labels in seen)
    assert all(((scores > 0) & (scores < 1)).all() for scores, _ in seen)


def test_the_activation_comes_before_the_usual_loss(loader):
    ends = []
    for activation in (None, nn.Identity(), nn.Tanh()):
        torch.manual_seed(0)
        model = fresh()
        model.fit(loader, activation_fct=activation, optimizer_params={"lr": 1e-3}, **QUIET)
        ends.append(weights(model))
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_an_optimizer_of_the_callers_own(loader):
    made = []

    class Recorded(torch.optim.SGD):
        def __init__(self, groups, **options):
            super().__init__(groups, **options)
            made.append(([(len(g["params"]), g["weight_decay"], g["momentum"]) for g in self.param_groups], options))

    fresh().fit(
        loader, optimizer_class=Recorded, optimizer_params={"lr": 0.1, "momentum": 0.5}, weight_decay=0.2, **QUIET
    )
    groups, options = made[0]
    assert options == {"lr": 0.1, "momentum": 0.5}
    assert sorted({(decay, momentum) for _, decay, momentum in groups}) == [(0.0, 0.5), (0.2, 0.5)]


def test_an_optimizer_without_a_rate(loader, model):
    class Rateless(torch.optim.Optimizer):
        def __init__(self, groups):
            super().__init__(groups, {})

    with pytest.raises(ValueError, match="Rateless has no usual learning rate"):
        model.fit(loader, optimizer_class=Rateless, optimizer_params={}, **QUIET)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constantlr", [1, 1, 1, 1]),
        ("WarmupConstant", [0, 0.5, 1, 1]),
        ("warmuplinear", [0, 0.5, 1, 0.5]),
        ("warmupcosine", [0, 0.5, 1, 0.5]),
        ("warmupcosinewithhardrestarts", [0, 0.5, 1, 0.5]),
    ],
)
def test_the_five_schedules(name, expected, samples):
    rates = []

    class Recorded(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    loader = DataLoader(samples, batch_size=3)  # 4 steps
    fresh().fit(
        loader,
        scheduler=name,
        warmup_steps=2,
        optimizer_class=Recorded,
        optimizer_params={"lr": 0.1},
        show_progress_bar=False,
    )
    assert rates == pytest.approx([0.1 * factor for factor in expected])


def test_a_scheduler_object(samples):
    rates = []

    class Recorded(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    dummy = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(dummy, 0.5)
    fresh().fit(
        DataLoader(samples, batch_size=4),
        scheduler=scheduler,
        optimizer_class=Recorded,
        optimizer_params={"lr": 0.1},
        **QUIET,
    )
    assert rates == pytest.approx([0.1, 0.05, 0.025])


def test_what_is_no_schedule(loader, model):
    with pytest.raises(ValueError, match="unknown scheduler 'steep'"):
        model.fit(loader, scheduler="steep", **QUIET)


def test_the_usual_warm_up_is_longer_than_a_short_run_and_says_so(loader, model):
    with pytest.warns(UserWarning, match=r"the warm-up of 10000 steps .* will reach 4\.00e-09, not 2\.00e-05"):
        model.fit(loader, show_progress_bar=False)


def test_clipping(loader):
    ends = []
    for most in (1.0, 1e-6):
        torch.manual_seed(0)
        model, before = fresh(), weights(fresh())
        plain = {"optimizer_class": torch.optim.SGD, "optimizer_params": {"lr": 0.1}, "weight_decay": 0.0}
        model.fit(loader, max_grad_norm=most, **plain, **QUIET)
        after = weights(model)
        ends.append(max(float((after[name] - before[name]).abs().max()) for name in after))
    assert ends[1] < 1e-4 * ends[0]


def test_mixed_precision_runs(loader):
    ends = []
    for use_amp in (False, True):
        torch.manual_seed(0)
        model = fresh()
        model.fit(loader, use_amp=use_amp, optimizer_params={"lr": 1e-3}, **QUIET)
        ends.append(weights(model))
    largest = max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0])
    assert 0 < largest < 0.01
