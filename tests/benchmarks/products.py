"""Which library multiplies faster on this processor: MKL, which torch uses for float32, or oneDNN, on one core.

python tests/benchmarks/products.py
"""

from __future__ import annotations

import statistics
import time

import torch
from torch.nn.functional import linear

from crossenc_kit.models import products

SHAPES = [(1024, 384, 384), (1024, 384, 1536), (1024, 1536, 384)]  # (tokens, in, out): the layers of MiniLM


def main(repeats: int = 15) -> None:
    torch.set_num_threads(1)
    chosen = "oneDNN" if products.has_faster_product() else "torch's own product"
    print(f"the kit takes {chosen} here; GFLOP/s, median of {repeats} interleaved runs (least to most)")
    for tokens, inside, outside in SHAPES:
        x, weight, bias = torch.randn(tokens, inside), torch.randn(outside, inside), torch.randn(outside)
        speed: dict[str, list[float]] = {"torch": [], "oneDNN": []}
        with torch.inference_mode():
            for _ in range(repeats + 1):
                for name, product in (("torch", linear), ("oneDNN", products._product)):
                    start = time.perf_counter()
                    product(x, weight, bias)
                    speed[name].append(2 * tokens * inside * outside / (time.perf_counter() - start) / 1e9)
        shown = [f"{n} {statistics.median(s[1:]):.0f} ({min(s[1:]):.0f} to {max(s[1:]):.0f})" for n, s in speed.items()]
        print(f"({tokens}, {inside}) x ({inside}, {outside}): {', '.join(shown)}")


if __name__ == "__main__":
    main()
