"""The CPU seconds until a first score, each statement in a fresh interpreter: imports of two libraries compared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from measure import Goal

ROOT = Path(__file__).resolve().parents[2]
IMPORT_SECONDS = 0.1  # of `import crossenc_kit`, at most

FIRST_SCORE = "CrossEncoder({folder!r}, device='cpu').predict([('a cat', 'a dog')])"
IMPORTS = {  # what is run in a fresh process; the first has no counterpart
    "import crossenc_kit": ("import crossenc_kit", None),
    "import of CrossEncoder": ("from {package} import CrossEncoder",) * 2,
    "import, load, one score": ("from {package} import CrossEncoder; " + FIRST_SCORE,) * 2,
}


def compare_imports(packages: Mapping[str, str], folder: str, repeats: int) -> Iterator[Goal]:
    """CPU seconds, of all threads, from a bare interpreter on; `packages` names ours and theirs, in this order."""
    for name, statements in IMPORTS.items():
        seconds: dict[str, list[float]] = {side: [] for side in packages}
        for number in range(repeats + 1):
            for side, statement in zip(packages, statements, strict=True):
                if statement is None:
                    continue
                taken = cpu_seconds(statement.format(package=packages[side], folder=folder))
                if number:  # the first round reads the files from the disk
                    seconds[side].append(taken)
        least = 1.0 if seconds["theirs"] else None
        most = None if seconds["theirs"] else IMPORT_SECONDS
        yield Goal(name, "CPU s", seconds["ours"], seconds["theirs"], least=least, most=most)


def cpu_seconds(statement: str) -> float:
    code = f"import time; start = time.process_time(); {statement}; print(time.process_time() - start)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return float(answer.split()[-1])
