"""Matrix products on a CPU: oneDNN multiplies float32 on AMD processors, MKL elsewhere, as usual.

torch multiplies float32 with MKL, which keeps to 256-bit instructions on processors of other makers
than Intel. oneDNN, which torch also brings, uses the 512-bit ones: on a Zen 5 core 260 instead of
115 GFLOP/s, forward and backward (`python tests/benchmarks/products.py`). Both round in float32;
their sums differ only by the order of the terms.

oneDNN compiles a kernel for each new shape, which takes milliseconds, and keeps it. So the number of
rows is rounded up to a multiple of `ROWS`: few shapes, and memory does not grow with every batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

ROWS = 64  # few shapes, and at most 63 rows wasted beside about 1,000 tokens


class FastProducts(TorchFunctionMode):
    """A context that takes every float32 `linear` on the CPU the faster way, whoever calls it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is linear and _is_ours(*args, **kwargs):
            return _multiply(*args, **kwargs)
        return function(*args, **kwargs)


def _is_ours(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    tensors = (input, weight) if bias is None else (input, weight, bias)
    plain = all(t.device.type == "cpu" and t.dtype == torch.float32 and t.layout == torch.strided for t in tensors)
    large = input.dim() > 1 and input.numel() >= ROWS * input.shape[-1] > 0  # else not worth it
    wanted = plain and large and weight.dim() == 2 and weight.numel() > 0
    allowed = bool(torch.backends.mkldnn.enabled) and not torch.is_autocast_enabled("cpu")
    return wanted and allowed and has_faster_product()


@cache
def has_faster_product() -> bool:
    """Tell whether this is an AMD processor with 512-bit instructions, and torch has oneDNN."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return there and wide and "AuthenticAMD" in _processor()


def _processor() -> str:
    """Return what the system says of the processor, its maker included."""
    import platform

    listed = Path("/proc/cpuinfo")
    if not listed.is_file():
        return platform.processor()
    return listed.read_text(encoding="utf-8", errors="replace")[:4096]  # the first core will do


def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    # Reshaped here, since autograd forbids changing a view that was made inside `_Linear`.
    rows = input.reshape(-1, input.shape[-1])  # (..., in) -> (N, in)
    tracked = any(t is not None and t.requires_grad for t in (input, weight, bias))
    product = _Linear.apply if tracked and torch.is_grad_enabled() else _product
    found = product(round_up(rows), weight, bias)
    return found[: len(rows)].view(*input.shape[:-1], len(weight))


def missing_rows(rows: int) -> int:
    """Count the rows a matrix lacks to a multiple of `ROWS`; 0 without the faster product."""
    return -rows % ROWS if has_faster_product() else 0


def round_up(rows: Tensor) -> Tensor:
    """Add rows of zeros to `(N, in)`, up to a multiple of `ROWS`."""
    lacks = -len(rows) % ROWS
    return torch.cat([rows, rows.new_zeros(lacks, rows.shape[1])]) if lacks else rows


def _product(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `input @ weight.T + bias` by oneDNN, for input `(N, in)` and weight `(out, in)`."""
    return _operation()(input, weight, bias, "none", [], None)


@cache
def _operation() -> Callable[..., Tensor]:
    return torch.ops.mkldnn._linear_pointwise.default


class _Linear(torch.autograd.Function):
    """`linear` on `(N, in)`; its gradients dX = dY W and dW = dY^T X use the same product."""

    @staticmethod
    def forward(context: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        context.save_for_backward(input, weight)
        return _product(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        input, weight = context.saved_tensors
        of_input, of_weight, of_bias = context.needs_input_grad
        return (
            _product(gradient, weight.t()) if of_input else None,
            _product(gradient.t(), input.t()) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )
