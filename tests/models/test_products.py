"""The faster matrix product gives what torch's gives, forward and backward, and stays away where it has no business."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import linear

from crossenc_kit.models import products
from crossenc_kit.models.products import FastProducts

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="this torch comes without oneDNN's product")


@pytest.fixture
def calls(monkeypatch):
    """Every faster product of a test, on whatever processor."""
    made = []
    operation = products._operation() if HAS_ONEDNN else None

    def counted(*arguments):
        made.append(tuple(arguments[0].shape))
        return operation(*arguments)

    monkeypatch.setattr(products, "has_faster_product", lambda: HAS_ONEDNN)
    monkeypatch.setattr(products, "_operation", lambda: counted)
    return made


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@needs_onednn
def test_a_product_by_hand(calls):
    with FastProducts():
        rows = torch.tensor([[1.0, 2.0]]).expand(65, 2)
        found = linear(rows, torch.tensor([[3.0, 4.0], [5.0, 6.0]]), torch.tensor([0.5, -0.5]))
    assert found.tolist() == [[11.5, 16.5]] * 65
    assert calls == [(128, 2)]  # a multiple of 64 rows


@needs_onednn
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_it_is_torchs_product_to_rounding(rows, inside, outside, with_bias):
    x, weight = numbers(rows, inside), numbers(outside, inside, seed=1)
    bias = numbers(outside, seed=2) if with_bias else None
    torch.testing.assert_close(products._product(x, weight, bias), linear(x, weight, bias), rtol=1e-5, atol=1e-5)


@needs_onednn
@pytest.mark.parametrize("shape", [(70, 5), (64, 5), (7, 13, 5)], ids=str)
@pytest.mark.parametrize("frozen", ["nothing", "input", "weight", "bias", "no bias"])
def test_gradients_are_torchs(calls, shape, frozen):
    def gradients(fast):
        tensors = [numbers(*shape), numbers(4, 5, seed=1), numbers(4, seed=2)]
        for tensor, name in zip(tensors, ("input", "weight", "bias"), strict=True):
            tensor.requires_grad_(name != frozen)
        x, weight, bias = tensors
        used = None if frozen == "no bias" else bias
        with FastProducts() if fast else torch.enable_grad():
            linear(x, weight, used).pow(2).sum().backward()
        return [tensor.grad for tensor in tensors]

    for found, expected in zip(gradients(True), gradients(False), strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert calls


@needs_onednn
@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (numbers(70, 4).double(), numbers(2, 4).double()),
        (numbers(70, 4).bfloat16(), numbers(2, 4).bfloat16()),
        (numbers(0, 4), numbers(2, 4)),
        (numbers(63, 4), numbers(2, 4)),
        (numbers(4), numbers(2, 4)),
        (numbers(70, 4).to("meta"), numbers(2, 4).to("meta")),
    ],
    ids=["float64", "bfloat16", "no rows", "few rows", "one vector", "another device"],
)
def test_what_is_left_to_torch(calls, x, weight):
    with FastProducts():
        found = linear(x, weight)
    assert found.shape == (*x.shape[:-1], 2)
    assert calls == []


@needs_onednn
def test_a_part_of_the_result_may_be_changed_in_place(calls):
    weight = numbers(4, 5).requires_grad_()
    with FastProducts():
        found = linear(numbers(7, 13, 5), weight).view(7, 13, 2, 2).permute(0, 2, 1, 3)
    found += 1
    found.sum().backward()
    assert calls
    assert weight.grad is not None


@needs_onednn
def test_autocast_and_a_switched_off_onednn_are_left_to_torch(calls):
    with FastProducts(), torch.autocast("cpu", torch.bfloat16):
        assert linear(numbers(70, 4), numbers(2, 4)).dtype == torch.bfloat16
    with FastProducts(), torch.backends.mkldnn.flags(enabled=False):
        linear(numbers(70, 4), numbers(2, 4))
    assert calls == []


@needs_onednn
def test_every_linear_layer_of_a_module_goes_that_way_and_none_outside(calls):
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
    module(numbers(64, 4))
    assert calls == []
    with FastProducts():
        module(numbers(64, 4))
    assert calls == [(64, 4), (64, 8)]


@pytest.mark.parametrize(
    ("said", "capability", "expected"),
    [
        ("vendor_id : AuthenticAMD", "AVX512", True),
        ("vendor_id : AuthenticAMD", "AVX2", False),
        ("vendor_id : GenuineIntel", "AVX512", False),
        ("", "AVX512", False),
    ],
)
@needs_onednn
def test_which_processors_it_is_for(monkeypatch, said, capability, expected):
    monkeypatch.setattr(products, "_processor", lambda: said)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert products.has_faster_product.__wrapped__() is expected


@needs_onednn
def test_rows_that_fill_up_a_packed_batch_change_no_score_and_no_gradient(calls, monkeypatch):
    from small_models import PACKED, classifier, padding, tokens_of

    from crossenc_kit.models.packed import forward

    pairs = [("one two", "three"), ("four five", "six seven eight nine ten"), ("a", "b c d e f g h")]
    for family in PACKED:
        model, tokens = classifier(family), tokens_of(family, pairs)
        found = []
        for fast in (True, False):
            monkeypatch.setattr(products, "has_faster_product", lambda fast=fast: fast)
            model.zero_grad()
            scores = forward(model, tokens, np.arange(3), padding(model, family))
            scores.sum().backward()
            gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
            found.append((scores.detach(), {name: g.clone() for name, g in gradients.items()}))
        torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert calls[0] == (64, 32)  # the tokens of the three pairs, filled up, and H
