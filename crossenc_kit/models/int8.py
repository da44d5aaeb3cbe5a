"""int8 on a CPU: linear layers that multiply whole numbers, every row and column with a scale of its own.

Of a weight `(in, out)` each column becomes whole numbers -127..127 and one scale, once; of the input each row, that is
each token, when it comes. With q, w the whole numbers,

    y[t, o] = row[t] * column[o] * sum_i q[t, i] w[i, o] + bias[o],    row[t] = max_i |x[t, i]| / 127

The sum is exact, and no row knows of another one: a pair's score does not depend on its company. The usual "dynamic"
quantisation takes one scale for all rows of a batch, which does, and drifts about four times as far.

A channel that is far larger than the others makes all of them coarse. Where the inputs' ranges are known, channels are
brought closer to each other first, and the weights take the opposite: x[t, i] / s[i] and w[i, o] * s[i], with
s[i] = sqrt(max_t |x[t, i]| / max_o |w[i, o]|). Xiao and others, "SmoothQuant", 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossenc_kit.models.adapters import is_wrapped

LARGEST = 127
TINY = 1e-20  # stands for the largest number of a row of zeros
ROWS = 64  # oneDNN makes a program for each number of rows that it meets: few numbers, see products.py


class Int8Linear(nn.Module):
    """A linear layer in int8: `weight` `(in, out)`, `scale` `(out,)`, `bias` `(out,)` or None.

    `factor` `(in,)` or None: what the input's channels are multiplied by, and the weight was divided by.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    factor: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, factor: Tensor | None = None):
        super().__init__()
        self.operation: Callable[..., Tensor] = int8_linear
        for name, value in {"weight": weight, "scale": scale, "bias": bias, "factor": factor}.items():
            self.register_parameter(name, None if value is None else nn.Parameter(value, requires_grad=False))

    def forward(self, input: Tensor) -> Tensor:
        return self.operation(input, self.weight, self.scale, self.bias, self.factor)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}, smoothed={self.factor is not None}"


class Int8Embedding(nn.Module):
    """An embedding table in int8: `weight` `(V, H)`, `scale` `(V, 1)`; a row comes out as float32."""

    def __init__(self, weight: Tensor, scale: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self.weight).float() * functional.embedding(ids, self.scale)


def int8_linear(input: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, factor: Tensor | None) -> Tensor:
    """`(..., in)` to `(..., out)` in float32; see the top of this file."""
    whole, row = _quantize_rows(input.reshape(-1, input.shape[-1]), factor)
    product = _product(whole, weight)
    output = product.view(torch.float32)
    if product.dtype == torch.int32:  # in its own place: another matrix as large would cost more than the product
        output.copy_(product)
    output.mul_(scale).mul_(row)
    if bias is not None:
        output.add_(bias)
    return output.view(*input.shape[:-1], -1)


def _quantize_rows(rows: Tensor, factor: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Whole numbers -127..127 `(N, in)` of float32 rows, and their scales `(N, 1)`."""
    smooth = rows if factor is None else rows * factor
    scale = torch.maximum(smooth.amax(1, keepdim=True), smooth.amin(1, keepdim=True).neg_()).clamp_(min=TINY)
    scale.div_(LARGEST)
    whole = smooth * scale.reciprocal() if factor is None else smooth.mul_(scale.reciprocal())
    return whole.round_().to(torch.int8), scale


def _product(whole: Tensor, weight: Tensor) -> Tensor:
    """`(N, in)` int8 times `(in, out)` int8: int32, or the same in float32 where the processor has no exact product."""
    if not has_exact_product():
        return whole.float() @ weight.float()
    lacks = -len(whole) % ROWS
    if lacks:
        whole = torch.cat([whole, whole.new_zeros(lacks, whole.shape[1])])
    product = torch._int_mm(whole, weight)
    return product[: len(whole) - lacks]


@cache
def has_exact_product() -> bool:
    """Whether torch multiplies int8 by oneDNN here, and sums do not saturate, as they do without VNNI instructions."""
    if not torch.backends.mkldnn.is_available():
        return False
    ones = torch.ones(ROWS, ROWS, dtype=torch.int8)
    left, right = ones * LARGEST, torch.cat([ones, -ones], dim=1) * LARGEST
    return bool((torch._int_mm(left, right).abs() == ROWS * LARGEST * LARGEST).all())


def quantize(model: Any, ranges: dict[str, Tensor] | None = None) -> Any:
    """Turn the linear layers and word embeddings of an encoder, or a classifier's, into int8, in place; return it.

    The pooler and the head stay in float32: they see one row a pair, and may still be calibrated. `ranges`: what
    `input_ranges` gives. Raises `ValueError` for a model with an adapter, or whose encoder has no linear layers.
    """
    if is_wrapped(model):
        raise ValueError("a model with an adapter is not turned into int8; make a plain one: merge_adapters(model)")
    model.float().requires_grad_(False)
    layers = linear_layers(model)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no linear layers in its encoder that int8 could stand for")
    for name, layer in layers.items():
        _replace(model, name, quantized(layer, (ranges or {}).get(name)))
    words = model.get_input_embeddings()
    if type(words) is nn.Embedding:
        name = next(name for name, module in model.named_modules() if module is words)
        whole, scale = _quantize_rows(words.weight.detach())
        _replace(model, name, Int8Embedding(whole, scale))
    return model


def linear_layers(model: Any) -> dict[str, nn.Linear]:
    """The linear layers of an encoder, or of a classifier's, without its pooler, by name."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    named = ((name, m) for name, m in model.named_modules() if name.startswith(prefix) and isinstance(m, nn.Linear))
    return {name: module for name, module in named if "pooler" not in name.split(".")}


def quantized(layer: nn.Linear, largest: Tensor | None = None) -> Int8Linear:
    """One layer in int8. `largest` `(in,)`: the largest |input| of each channel, to bring the channels closer."""
    weight, factor = layer.weight.detach(), None
    if largest is not None:
        ratio = largest.clamp(min=TINY) / weight.abs().amax(0).clamp(min=TINY)
        spread = ratio.sqrt().clamp(1e-4, 1e4)
        weight, factor = weight * spread, spread.reciprocal()
    whole, scale = _quantize_rows(weight)
    bias = None if layer.bias is None else layer.bias.detach().clone()
    return Int8Linear(whole.t().contiguous(), scale[:, 0].clone(), bias, factor)


def input_ranges(model: Any, score: Callable[[], Any]) -> dict[str, Tensor]:
    """The largest |input| `(in,)` of every channel of the encoder's linear layers while `score()` runs, by name.

    `score` works on one thread.
    """
    ranges: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            largest = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).abs().amax(0)
            ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest

        return note

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in linear_layers(model).items()]
    try:
        score()
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def is_quantized(model: Any) -> bool:
    """Whether some layers of the model are int8."""
    return any(isinstance(module, Int8Linear) for module in model.modules())


def put_weights(model: Any, weights: dict[str, Tensor]) -> Any:
    """Give a float32 model the int8 weights of a file, in place; return it. Raises `RuntimeError` where they differ."""
    quantize(model)
    for name, module in model.named_modules():
        if isinstance(module, Int8Linear) and f"{name}.factor" in weights:
            module.factor = nn.Parameter(torch.ones(module.weight.shape[0]), requires_grad=False)
    model.load_state_dict(weights)
    return model


def _replace(model: Any, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
