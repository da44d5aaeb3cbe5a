"""Compare the speed of this checkout with an older one: `predict`, `rank`, `train` and the imports.

`python tests/benchmarks/before_and_after.py OLD_CHECKOUT`. Every run is a fresh process on one thread, and the two
sides alternate (A B A B ...), so that a slow moment hits both. Quoted are CPU seconds: medians with the least and the
most, and the ratio now / before of the medians, with that of neighbouring runs. The first round is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
CLOCK = "import time; began = time.process_time(); "
READY = (
    "import warnings; warnings.simplefilter('ignore'); import torch, time; torch.set_num_threads(1); "
    "from crossenc_kit import CrossEncoder, TrainingConfig, read_sts, train; "
    "pairs = read_sts(split='train'); model = CrossEncoder('minilm', num_labels=1, seed=0, device='cpu'); "
    "settings = TrainingConfig(batch_size=16, max_steps=6); model.predict(pairs.texts[:32], threads=1); "
    "began = time.process_time(); "
)
TASKS = {
    "import crossenc_kit": CLOCK + "import crossenc_kit",
    "import CrossEncoder": CLOCK + "from crossenc_kit import CrossEncoder",
    "predict": READY + "model.predict(pairs.texts[:600], threads=1)",
    "rank": READY + "[model.rank(pairs.left[row], pairs.right[:100], threads=1) for row in range(4)]",
    "train": READY + "train(model, pairs, 'bce', settings)",
}


def cpu_seconds(checkout: Path, task: str) -> float:
    """Run one task in a fresh process that sees one checkout's package, and return its CPU seconds."""
    code = f"{TASKS[task]}; print(time.process_time() - began)"
    environment = os.environ | ALONE | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout)
    return float(answer.stdout.split()[-1])


def shown(values: list[float], unit: str = "") -> str:
    return f"{statistics.median(values):.3f}{unit} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="an older checkout of this repository")
    parser.add_argument("--repeats", type=int, default=7, help="counted runs of each side (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for task in options.only:
        before, after = [], []
        for number in range(options.repeats + 1):
            both = cpu_seconds(options.old.resolve(), task), cpu_seconds(HERE, task)
            if number:  # the first round reads the files from the disk
                before.append(both[0])
                after.append(both[1])
        ratios = [now / then for now, then in zip(after, before, strict=True)]
        ratio = statistics.median(after) / statistics.median(before)
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"{task:<20} before {shown(before, ' s')}, now {shown(after, ' s')}, ratio {ratio:.3f} ({spread})")


if __name__ == "__main__":
    main()
