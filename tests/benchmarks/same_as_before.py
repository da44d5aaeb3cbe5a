"""Prove that only names changed: compare every number of this checkout with those of an older one, bit for bit.

`python tests/benchmarks/same_as_before.py OLD_CHECKOUT` runs one battery (`battery.py`) in two fresh processes,
one for each checkout, on fixed seeds and one thread. Floats and arrays must agree to the last bit; the few metrics
that a library computes now (marked "near") must agree to 1e-12. Prints one line for each item and exits with 1 on
any difference. `--only train` runs the items whose names contain "train".
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-12  # relative, and absolute below 1
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
ALONE = {"HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


BATTERY = Path(__file__).with_name("battery.py")


def start(checkout: Path, answers: Path, data: Path, only: str) -> subprocess.Popen:
    """Start the battery on one checkout's package, in a process that sees no other."""
    settings = ONE_THREAD | ALONE | {"PYTHONPATH": str(checkout), "CROSSENC_KIT_DATA": str(data)}
    command = [sys.executable, "-W", "ignore", str(BATTERY), str(checkout), str(answers), only]
    return subprocess.Popen(command, env=os.environ | settings, cwd=answers.parent)


def answers_of(old: Path, only: str, keep: Path | None) -> Iterator[dict[str, Any]]:
    """Ask both checkouts at once and return what each answers, item by item."""
    battery = b"".join(path.read_bytes() for path in sorted(BATTERY.parent.glob("battery*.py")))
    asked = hashlib.sha256(battery + f"{old} {only}".encode()).hexdigest()[:20]
    kept = keep / f"{asked}.jsonl" if keep else None
    with tempfile.TemporaryDirectory() as scratch:
        places = [Path(scratch) / name / "answers.jsonl" for name in ("old", "new")]
        processes = []
        for place, checkout in zip(places, (old, HERE), strict=True):
            place.parent.mkdir()
            if checkout == old and kept and kept.exists():
                shutil.copyfile(kept, place)
            else:
                processes.append(start(checkout, place, old / "data", only))
        codes = [process.wait() for process in processes]
        if any(codes):
            sys.exit(f"a battery stopped with exit codes {codes}")
        if kept and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(places[0], kept)
        for place in places:
            rows = map(json.loads, place.read_text(encoding="utf-8").splitlines())
            yield {row["item"]: row for row in rows}


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield where two answers differ; what only the new one has is no difference."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key not in new:
                yield f"{path}.{key}: is missing now"
            else:
                yield from differences(value, new[key], f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{path}: {len(old)} values before, {len(new)} now"
        for place, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from differences(one, other, f"{path}[{place}]")
    elif not _equal(old, new):
        yield f"{path}: {old!s:.120} before, {new!s:.120} now"


def _equal(old: Any, new: Any) -> bool:
    """Whether two leaves agree; only the items marked "near" hold plain floats, all others are strings of bits."""
    numbers = (int, float)
    if isinstance(old, numbers) and isinstance(new, numbers) and not isinstance(old, bool):
        return math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (old != old and new != new)
    return type(old) is type(new) and old == new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="an older checkout of this repository")
    parser.add_argument("--only", default="", help="run the items whose names contain this text")
    parser.add_argument("--keep", type=Path, help="a folder for the older checkout's answers, which are asked once")
    options = parser.parse_args()
    began = time.monotonic()
    old, new = answers_of(options.old.resolve(), options.only, options.keep)
    different = 0
    for item, row in old.items():
        wrong = list(differences(row["answer"], new[item]["answer"]))
        different += bool(wrong)
        verdict = "DIFFERS" if wrong else "near" if row["near"] else "same"
        print(f"{verdict:<8}{item}  ({row['seconds']:.1f} s, {new[item]['seconds']:.1f} s)", flush=True)
        for line in wrong[:8]:
            print(f"          {line}")
    minutes = (time.monotonic() - began) / 60
    print(f"{len(old)} items, {different} differ, {minutes:.1f} minutes")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
