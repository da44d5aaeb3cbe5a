"""Optimizer state: a run that stops and goes on is, bit for bit, the run that did not stop."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from crossenc_kit.errors import CheckpointError
from crossenc_kit.training import checkpoint
from crossenc_kit.training.checkpoint import load_optimizer, optimizer_tensors

ADAMW = {
    "single": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "amsgrad": {"amsgrad": True, "betas": (0.8, 0.9)},
}
OTHERS = {
    "SGD": {"lr": 0.1},
    "SGD momentum": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    **{name: {"lr": 0.01} for name in ("Adagrad", "Adam", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop")},
    "Adadelta": {},
}


def tiny_model(device: str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Module:
    """A layer, a normalisation, a frozen layer and a tied head."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 5), nn.Linear(5, 5))
    model[2].requires_grad_(False)
    model[3].weight = model[0].weight
    return model.to(device, dtype)


def groups(model: nn.Module) -> list[dict]:
    """Weights with decay, biases and norms without; the frozen ones are there but get no state."""
    decay = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    return [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        parameter = next(model.parameters())
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"] * 0.9
        model(inputs.to(parameter.device, parameter.dtype)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def check_goes_on(folder, build, device="cpu", dtype=torch.float32, onto=None) -> None:
    """Six steps, against three steps, a checkpoint, a new process's worth of new objects, and three steps."""
    whole = tiny_model(device, dtype)
    optimizer = build(groups(whole))
    train(whole, optimizer, range(3))
    tensors, meta = optimizer_tensors(optimizer, whole.named_parameters())
    checkpoint.save(folder, 3, {"model": whole.state_dict(), "optimizer": tensors}, {"optimizer": meta})
    train(whole, optimizer, range(3, 6))

    found = checkpoint.newest(folder)
    assert found is not None
    resumed = tiny_model(onto or device, dtype)
    resumed.load_state_dict(found.tensors("model"))
    again = build(groups(resumed))
    load_optimizer(again, resumed.named_parameters(), found.tensors("optimizer"), found.state["optimizer"])
    train(resumed, again, range(3, 6))
    if onto:
        return
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    check_same_state(optimizer, again)


def check_same_state(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    for ours, theirs in zip(one.param_groups, other.param_groups, strict=True):
        assert {**ours, "params": 0} == {**theirs, "params": 0}
        assert [type(value) for value in ours.values()] == [type(theirs[key]) for key in ours]
        for left, right in zip(ours["params"], theirs["params"], strict=True):
            before, after = one.state.get(left, {}), other.state.get(right, {})
            assert before.keys() == after.keys()
            for key, value in before.items():
                assert type(value) is type(after[key])
                if isinstance(value, torch.Tensor):
                    assert (value.dtype, value.device) == (after[key].dtype, after[key].device)
                    assert torch.equal(value, after[key]), key
                else:
                    assert value == after[key]


def test_names_and_numbers_of_a_single_step():
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.AdamW([weight], lr=0.5, betas=(0.75, 0.5))
    weight.grad = torch.tensor([4.0, -4.0])
    optimizer.step()
    tensors, meta = optimizer_tensors(optimizer, {weight: "layer.weight"})
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "layer.weight.step": 1.0,
        "layer.weight.exp_avg": [1.0, -1.0],
        "layer.weight.exp_avg_sq": [8.0, 8.0],
    }
    (group,) = json.loads(json.dumps(meta))["groups"]
    assert (group["params"], group["lr"], group["betas"]) == (["layer.weight"], 0.5, [0.75, 0.5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", ADAMW.values(), ids=ADAMW)
def test_adamw_goes_on_bit_for_bit(tmp_path, options, dtype):
    check_goes_on(tmp_path, lambda params: torch.optim.AdamW(params, lr=0.01, **options), dtype=dtype)


@pytest.mark.parametrize(("name", "options"), OTHERS.items(), ids=OTHERS)
def test_other_optimizers_go_on_bit_for_bit(tmp_path, name, options):
    check_goes_on(tmp_path, lambda params: getattr(torch.optim, name.split()[0])(params, **options))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", [*ADAMW.values(), {"capturable": True}], ids=[*ADAMW, "capturable"])
def test_on_a_gpu_and_from_cpu_to_gpu(tmp_path, options):
    def build(params):
        return torch.optim.AdamW(params, lr=0.01, **options)

    check_goes_on(tmp_path / "gpu", build, device="cuda")
    if "capturable" not in options:
        check_goes_on(tmp_path / "moved", build, device="cpu", onto="cuda")
        check_goes_on(tmp_path / "back", build, device="cuda", onto="cpu")


def test_before_the_first_step(tmp_path):
    model = tiny_model()
    optimizer = torch.optim.AdamW(groups(model), lr=0.01)
    tensors, meta = optimizer_tensors(optimizer, model.named_parameters())
    assert tensors == {}
    train(model, optimizer, range(1))
    load_optimizer(optimizer, model.named_parameters(), tensors, meta)
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_dtypes_are_kept_and_nothing_is_shared():
    """`Optimizer.load_state_dict` would cast a float32 average of a bfloat16 weight to bfloat16."""
    weight = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([weight])
    average = torch.tensor([0.1, 0.2])
    optimizer.state[weight] = {"step": torch.tensor(3.0), "exp_avg": average, "count": 4, "mode": "slow"}
    tensors, meta = optimizer_tensors(optimizer, {weight: "w"})
    assert tensors["w.exp_avg"].data_ptr() == average.data_ptr()
    load_optimizer(optimizer, {weight: "w"}, tensors, json.loads(json.dumps(meta)))
    state = optimizer.state[weight]
    assert (state["count"], state["mode"]) == (4, "slow")
    assert torch.equal(state["exp_avg"], average)
    assert state["exp_avg"].dtype == torch.float32
    assert state["exp_avg"].data_ptr() != average.data_ptr()


def test_a_learning_rate_that_is_a_tensor():
    weight = nn.Parameter(torch.ones(2))
    rate = torch.tensor(0.1)
    optimizer = torch.optim.AdamW([weight], lr=rate, foreach=False)
    tensors, meta = optimizer_tensors(optimizer, {weight: "w"})
    rate.fill_(0.5)
    load_optimizer(optimizer, {weight: "w"}, tensors, json.loads(json.dumps(meta)))
    assert optimizer.param_groups[0]["lr"] is rate
    assert torch.equal(rate, torch.tensor(0.1))


def test_how_steps_are_computed_stays_as_built():
    weight = nn.Parameter(torch.ones(2))
    tensors, meta = optimizer_tensors(torch.optim.AdamW([weight], fused=True, lr=0.25), {weight: "w"})
    optimizer = torch.optim.AdamW([weight], foreach=True)
    load_optimizer(optimizer, {weight: "w"}, tensors, meta)
    (group,) = optimizer.param_groups
    assert (group["fused"], group["foreach"], group["lr"]) == (None, True, 0.25)


def test_settings_a_scheduler_added_come_back():
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], lr=0.25)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    tensors, meta = optimizer_tensors(optimizer, {weight: "w"})
    fresh = torch.optim.AdamW([weight], lr=1.0)
    load_optimizer(fresh, {weight: "w"}, tensors, meta)
    assert (fresh.param_groups[0]["lr"], fresh.param_groups[0]["initial_lr"]) == (0.125, 0.25)


def test_other_groups_are_refused_and_nothing_is_changed():
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    tensors, meta = optimizer_tensors(torch.optim.AdamW([one, two], lr=0.5), {one: "one", two: "two"})
    other = torch.optim.AdamW([{"params": [one]}, {"params": [two]}], lr=0.1)
    with pytest.raises(CheckpointError, match=r"sizes \[2\], this one has \[1, 1\]"):
        load_optimizer(other, {one: "one", two: "two"}, tensors, meta)
    with pytest.raises(CheckpointError, match=r"only in the checkpoint: \['two'\], only here: \['three'\]"):
        load_optimizer(torch.optim.AdamW([one, two]), {one: "one", two: "three"}, tensors, meta)
    assert other.param_groups[0]["lr"] == 0.1


def test_missing_tensors_are_refused_and_nothing_is_changed():
    model = tiny_model()
    optimizer = torch.optim.AdamW(groups(model))
    train(model, optimizer, range(1))
    tensors, meta = optimizer_tensors(optimizer, model.named_parameters())
    del tensors["0.weight.exp_avg"]
    with pytest.raises(CheckpointError, match=r"1 optimizer tensors are absent, such as '0.weight.exp_avg'"):
        load_optimizer(optimizer, model.named_parameters(), tensors, meta)
    assert "exp_avg" in optimizer.state[model[0].weight]


def test_names_must_be_complete_and_unique():
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([one, two])
    with pytest.raises(CheckpointError, match=r"1 parameters of the optimizer have no name, of shapes \[\(3,\)\]"):
        optimizer_tensors(optimizer, {one: "one"})
    with pytest.raises(CheckpointError, match="both named 'same'"):
        optimizer_tensors(optimizer, {one: "same", two: "same"})


def test_state_that_cannot_be_saved_is_named():
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.LBFGS([weight])
    optimizer.state[weight] = {"old_dirs": [torch.ones(2), torch.ones(2)]}
    with pytest.raises(CheckpointError, match=r"old_dirs of w holds Tensor; only tensors and plain values"):
        optimizer_tensors(optimizer, {weight: "w"})
