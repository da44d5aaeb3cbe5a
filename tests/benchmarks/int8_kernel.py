"""Where the time of an int8 layer goes, and whether compiled steps around its product would pay.

A layer of `quantization.py` finds the scale of every token and rounds (torch), multiplies (oneDNN), and puts the scales
back (torch). Here each part is timed alone, and the whole with the first and last part compiled to C++ by
`torch.compile`, which fuses them into one pass each. "one scale" rounds with a single scale for all tokens, what
per-token scales cost beside it. Sizes are those of all-MiniLM-L6-v2; run it on a machine that does nothing else:

    python tests/benchmarks/int8_kernel.py --tokens 1024 --repeats 9
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from crossenc_kit.inference.timing import interleave
from crossenc_kit.models import int8

SIZES = {"attention": (384, 384), "up": (384, 1536), "down": (1536, 384)}
CALLS = 40  # of a layer in one measurement


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024, help="rows of a batch")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    for name, (wide, out) in SIZES.items():
        torch.manual_seed(0)
        ways = the_ways(nn.Linear(wide, out), torch.randn(settings.tokens, wide))
        seconds = interleave({way: repeated(call) for way, call in ways.items()}, settings.repeats)
        base = statistics.median(seconds["int8, as it is"])
        print(f"\n{name}: {settings.tokens} tokens, {wide} to {out}")
        for way, own in seconds.items():
            each = [1e6 * value / CALLS for value in own]
            spread = f"{statistics.median(each):8.0f} us ({min(each):.0f} to {max(each):.0f})"
            print(f"  {way:<34}{spread:<30}{statistics.median(own) / base:6.2f} of the int8 layer")


def the_ways(layer: nn.Linear, rows: Tensor) -> dict[str, Callable[[], Any]]:
    """The layer in float32 and int8, its parts, and the forms with compiled parts; checked to be equal first."""
    own = int8.quantized(layer)
    whole, scale = int8._quantize_rows(rows)
    product = int8._product(whole, own.weight)
    rounding = torch.compile(int8._quantize_rows, dynamic=True)
    scaling = torch.compile(scaled, dynamic=True)

    def compiled() -> Tensor:
        numbers, row = rounding(rows)
        return scaling(int8._product(numbers, own.weight), row, own.scale, own.bias)

    expected = own(rows)
    assert torch.allclose(compiled(), expected, atol=1e-4)
    assert torch.allclose(scaled(product, scale, own.scale, own.bias), expected, atol=1e-5)
    return {
        "float32": lambda: layer(rows),
        "int8, as it is": lambda: own(rows),
        "int8, compiled around the product": compiled,
        "the product alone": lambda: int8._product(whole, own.weight),
        "scales and rounding alone": lambda: int8._quantize_rows(rows),
        "the same, compiled": lambda: rounding(rows),
        "one scale and rounding alone": lambda: one_scale(rows),
    }


def scaled(product: Tensor, row: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """What the product's whole numbers stand for."""
    output = product.float() * scale * row
    return output if bias is None else output + bias


def one_scale(rows: Tensor) -> Tensor:
    """Whole numbers with one scale for all rows."""
    scale = rows.abs().amax() / int8.LARGEST
    return (rows * scale.reciprocal()).round_().to(torch.int8)


def repeated(call: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            for _ in range(CALLS):
                call()

    return run


if __name__ == "__main__":
    main()
