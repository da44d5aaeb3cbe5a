"""Optimizer state: a run that stops and goes on is, bit for bit, the run that did not stop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crossenc_kit.training import checkpoint
from crossenc_kit.training.checkpoint import load_optimizer_state, optimizer_state

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
    """A layer, a normalisation, a frozen layer, a tied head, and a weight that no forward pass uses."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 5), nn.Linear(5, 5))
    model[2].requires_grad_(False)
    model[3].weight = model[0].weight
    model.unused = nn.Parameter(torch.ones(2))
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
    tensors, settings = optimizer_state(whole, optimizer)
    checkpoint.save(folder, 3, {"model": whole.state_dict(), "optimizer": tensors}, {"optimizer": settings})
    train(whole, optimizer, range(3, 6))

    found = checkpoint.newest(folder)
    assert found is not None
    resumed = tiny_model(onto or device, dtype)
    again = build(groups(resumed))
    load_optimizer_state(resumed, again, found.tensors("optimizer"), found.state["optimizer"])
    resumed.load_state_dict(found.tensors("model"))
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


def test_how_steps_are_computed_stays_as_built():
    model = nn.Linear(2, 1)
    fused = torch.optim.AdamW(model.parameters(), fused=True, lr=0.25)
    model(torch.ones(1, 2)).sum().backward()
    fused.step()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    load_optimizer_state(model, optimizer, *optimizer_state(model, fused))
    (group,) = optimizer.param_groups
    assert (group["fused"], group["foreach"], group["lr"]) == (None, True, 0.25)
