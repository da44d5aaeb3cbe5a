"""int8 on a CPU: linear layers that multiply whole numbers, with a scale for every row and column.

Each column of a weight `(in, out)` becomes whole numbers -127..127 and one scale, once. Each row of
the input, that is each token, is quantised when it arrives. With whole numbers q and w,

    y[t, o] = row[t] * column[o] * sum_i q[t, i] w[i, o] + bias[o],  row[t] = max_i |x[t, i]| / 127

The sum is exact and rows are independent, so a pair's score does not depend on its batch. The usual
"dynamic" quantisation takes one scale for a whole batch: there it does, and the drift is about four
times as large.

An outlier feature, a channel far larger than the others, makes all of them coarse. If the inputs'
ranges are known, the channels are brought closer together and the weights take the opposite factor:
x[t, i] / s[i] and w[i, o] * s[i], with s[i] = sqrt(max_t |x[t, i]| / max_o |w[i, o]|).
Xiao et al., "SmoothQuant", 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossenc_kit.models.adapters import is_wrapped, unwrap
from crossenc_kit.models.packed import can_pack
from crossenc_kit.models.products import ROWS, round_up

LARGEST = 127
TINY = 1e-20  # replaces the largest number of a row of zeros


class Int8Linear(nn.Module):
    """A linear layer in int8."""

    weight: Tensor  # (in, out) int8
    scale: Tensor  # (out,)
    bias: Tensor | None  # (out,)
    factor: Tensor | None  # (in,) the input is multiplied by it, the weight was divided by it

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
    """An embedding table in int8, `weight` `(V, H)` and `scale` `(V, 1)`; gives float32 rows."""

    def __init__(self, weight: Tensor, scale: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self.weight).float() * functional.embedding(ids, self.scale)


def int8_linear(input: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, factor: Tensor | None) -> Tensor:
    """Multiply in int8: `(..., in)` to `(..., out)`, both float32; the module has the formula."""
    whole, row = _quantize_rows(input.reshape(-1, input.shape[-1]), factor)  # (N, in), (N, 1)
    product = _product(whole, weight)  # (N, out)
    output = product.view(torch.float32)
    if product.dtype == torch.int32:  # in place: another large matrix costs more than the product
        output.copy_(product)
    output.mul_(scale).mul_(row)
    if bias is not None:
        output.add_(bias)
    return output.view(*input.shape[:-1], -1)


def _quantize_rows(rows: Tensor, factor: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Turn float32 rows `(N, in)` into whole numbers -127..127 and scales `(N, 1)`."""
    smooth = rows if factor is None else rows * factor
    scale = torch.maximum(smooth.amax(1, keepdim=True), smooth.amin(1, keepdim=True).neg_()).clamp_(min=TINY)
    scale.div_(LARGEST)
    whole = smooth * scale.reciprocal() if factor is None else smooth.mul_(scale.reciprocal())
    return whole.round_().to(torch.int8), scale


def _product(whole: Tensor, weight: Tensor) -> Tensor:
    """Multiply int8 `(N, in)` by `(in, out)`: int32, or float32 without an exact int8 product."""
    if not has_exact_product():
        return whole.float() @ weight.float()
    return torch._int_mm(round_up(whole), weight)[: len(whole)]


@cache
def has_exact_product() -> bool:
    """Tell whether oneDNN multiplies int8 here, and exactly: sums saturate without VNNI."""
    if not torch.backends.mkldnn.is_available():
        return False
    ones = torch.ones(ROWS, ROWS, dtype=torch.int8)
    left, right = ones * LARGEST, torch.cat([ones, -ones], dim=1) * LARGEST
    return bool((torch._int_mm(left, right).abs() == ROWS * LARGEST * LARGEST).all())


def quantize(model: Any, ranges: dict[str, Tensor] | None = None) -> Any:
    """Quantise an encoder's linear layers and word embeddings in place, and return the model.

    model: an encoder or a classifier, whose pooler and head stay in float32: they see only one row
        per pair, and may still be calibrated
    ranges: the channels' largest inputs, from `input_ranges`
    """
    if is_wrapped(model):
        raise ValueError("a model with an adapter has no int8 form; call merge_adapters(model) first")
    model.float().requires_grad_(False)
    layers = linear_layers(model)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no linear layers in its encoder to turn into int8")
    for name, layer in layers.items():
        _replace(model, name, quantized(layer, (ranges or {}).get(name)))
    words = model.get_input_embeddings()
    if type(words) is nn.Embedding:
        name = next(name for name, module in model.named_modules() if module is words)
        whole, scale = _quantize_rows(words.weight.detach())
        _replace(model, name, Int8Embedding(whole, scale))
    return model


def to_int8(model: Any, ranges: dict[str, Tensor] | None = None) -> Any:
    """Quantise a float32 classifier in place; `ValueError` if it has no packed forward pass."""
    if not can_pack(unwrap(model)):
        raise ValueError(
            f"backend='int8' runs without padding, which {type(model).__name__} cannot: "
            "export it as 'onnx-int8', which takes every architecture that torch can export"
        )
    return quantize(model, ranges)


def linear_layers(model: Any) -> dict[str, nn.Linear]:
    """Name the linear layers of an encoder, or of a classifier's encoder, without its pooler."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    named = ((name, m) for name, m in model.named_modules() if name.startswith(prefix) and isinstance(m, nn.Linear))
    return {name: module for name, module in named if "pooler" not in name.split(".")}


def quantized(layer: nn.Linear, largest: Tensor | None = None) -> Int8Linear:
    """Quantise one layer; `largest` `(in,)`, each channel's largest |input|, smooths outliers."""
    weight, factor = layer.weight.detach(), None
    if largest is not None:
        ratio = largest.clamp(min=TINY) / weight.abs().amax(0).clamp(min=TINY)
        spread = ratio.sqrt().clamp(1e-4, 1e4)
        weight, factor = weight * spread, spread.reciprocal()
    whole, scale = _quantize_rows(weight)
    bias = None if layer.bias is None else layer.bias.detach().clone()
    return Int8Linear(whole.t().contiguous(), scale[:, 0].clone(), bias, factor)


def input_ranges(model: Any, score: Callable[[], Any]) -> dict[str, Tensor]:
    """Find each channel's largest |input| `(in,)` by layer, while `score()` runs on one thread."""
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


def put_weights(model: Any, weights: dict[str, Tensor]) -> Any:
    """Quantise a model in place and load int8 weights; `RuntimeError` if they do not fit."""
    quantize(model)
    for name, module in model.named_modules():
        if isinstance(module, Int8Linear) and f"{name}.factor" in weights:
            module.factor = nn.Parameter(torch.ones(module.weight.shape[0]), requires_grad=False)
    model.load_state_dict(weights)
    return model


def _replace(model: Any, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
