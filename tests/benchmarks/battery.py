"""The questions of `same_as_before.py`, asked of one checkout: `battery.py CHECKOUT ANSWERS [ONLY]`.

Each item is a function that returns numbers. The items stand by theme in the files named in `THEMES`;
`battery_adapters.py` bridges the two versions of the package, and `battery_inputs.py` makes what the items work on.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path

import torch
from battery_adapters import ITEMS, bits, kit

THEMES = ("data", "training", "losses", "scores", "evaluation")


def main(checkout: str, answers: str, only: str = "") -> None:
    torch.set_num_threads(1)
    assert kit.package == Path(checkout) / "crossenc_kit", f"{kit.package} is not of {checkout}"
    for theme in THEMES:
        import_module(f"battery_{theme}")  # registers its items
    with open(answers, "w", encoding="utf-8") as file:
        for name, (function, near) in ITEMS.items():
            if only not in name:
                continue
            began = time.perf_counter()
            try:
                answer = bits(function(), near)
            except Exception as error:  # told as an answer: the other items are asked all the same
                answer = f"{type(error).__name__}: {error} (in {Path(checkout).name})"
            seconds = time.perf_counter() - began
            row = {"item": name, "near": near, "seconds": seconds, "answer": answer}
            file.write(json.dumps(row) + "\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
