"""Matrix products on a CPU: on AMD processors oneDNN multiplies float32, elsewhere MKL does, as torch has it.

torch multiplies float32 with MKL, which keeps to 256-bit instructions on a processor that is not Intel's. oneDNN,
which torch brings too, uses the 512-bit ones: on a Zen 5 core 260 against 115 GFLOP/s, forward and backward
(`python tests/benchmarks/products.py`). Both round in float32; their sums differ by the order of the terms.

oneDNN makes a program for each shape that it meets, in some milliseconds, and keeps it. So the number of rows is
rounded up to a multiple of `ROWS`, with rows of zeros: few shapes, and memory that does not grow with every batch.
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

ROWS = 64


class FastProducts(TorchFunctionMode):
    """A context in which every float32 `linear` on the CPU goes the faster way, whichever module calls it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is linear and _is_ours(*args, **kwargs):
            return _multiply(*args, **kwargs)
        return function(*args, **kwargs)


def _is_ours(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    tensors = (input, weight) if bias is None else (input, weight, bias)
    plain = all(t.device.type == "cpu" and t.dtype == torch.float32 and t.layout == torch.strided for t in tensors)
    large = input.dim() > 1 and input.numel() >= ROWS * input.shape[-1] > 0  # fewer rows are no work to speak of
    wanted = plain and large and weight.dim() == 2 and weight.numel() > 0
    allowed = bool(torch.backends.mkldnn.enabled) and not torch.is_autocast_enabled("cpu")
    return wanted and allowed and has_faster_product()


@cache
def has_faster_product() -> bool:
    """Whether the processor is AMD's, with 512-bit instructions, and this torch has oneDNN's product."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return there and torch.backends.cpu.get_cpu_capability() == "AVX512" and "AuthenticAMD" in _processor()


def _processor() -> str:
    """Who made the processor, as the system says it."""
    import platform

    listed = Path("/proc/cpuinfo")
    return listed.read_text(encoding="utf-8", errors="replace")[:4096] if listed.is_file() else platform.processor()


def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rows = input.reshape(-1, input.shape[-1])  # (..., in) -> (N, in): a view made within _Linear may not be changed
    tracked = any(t is not None and t.requires_grad for t in (input, weight, bias))
    product = _Linear.apply if tracked and torch.is_grad_enabled() else _product
    found = product(_round_up(rows), weight, bias)
    return found[: len(rows)].view(*input.shape[:-1], len(weight))


def missing_rows(rows: int) -> int:
    """How many rows a matrix lacks to a multiple of `ROWS`, where the faster product wants one; else none."""
    return -rows % ROWS if has_faster_product() else 0


def _round_up(rows: Tensor) -> Tensor:
    """`rows` `(N, in)` with rows of zeros up to a multiple of `ROWS`."""
    lacks = -len(rows) % ROWS
    return torch.cat([rows, rows.new_zeros(lacks, rows.shape[1])]) if lacks else rows


def _product(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`input @ weight.T + bias` for input `(N, in)`, weight `(out, in)`, by oneDNN."""
    return _operation()(input, weight, bias, "none", [], None)


@cache
def _operation() -> Callable[..., Tensor]:
    return torch.ops.mkldnn._linear_pointwise.default


class _Linear(torch.autograd.Function):
    """`linear` on `(N, in)` with the gradients dX = dY W, dW = dY^T X, db = sum of dY, each by the same product."""

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
