"""Does reading triples as a stream take the same memory whatever the size of the file?

A file of made-up triples of each size, of MS MARCO's lengths, is written to a temporary folder and read through
`iter_triples` in a fresh process; up to `--held-up-to` rows also into a list, to compare. Exits with 1 if the peak
of the largest file is more than `--tolerance` MiB above that of the smallest.

    python tests/benchmarks/streaming.py --json streaming.json
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import in_own_process

from crossenc_kit.data.ranking import iter_triples
from crossenc_kit.history import provenance
from crossenc_kit.inference.timing import MEBIBYTE, peak_memory

WORDS = 2000  # of the made-up language
QUERY_WORDS, PASSAGE_WORDS = 6, 56  # the means of MS MARCO's passage ranking set
PASSAGES = 500  # that rows draw from; a number in front makes every text one of its own


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--held-up-to", type=int, default=10**5, help="rows that are also read into a list")
    parser.add_argument("--tolerance", type=float, default=4.0, help="growth of the peak that is allowed, in MiB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in sorted(settings.rows):
            print(f"{rows:,} rows ...", file=sys.stderr, flush=True)
            results.append(measured(Path(folder) / "triples.tsv", rows, settings))
    print(table(results))
    growth = results[-1]["peak_mib"] - results[0]["peak_mib"]
    flat = growth <= settings.tolerance
    print(
        f"\nfrom the smallest file to the largest the peak grew by {growth:.1f} MiB: {'flat' if flat else 'NOT FLAT'}"
    )
    if settings.json:
        record = {
            "what": (__doc__ or "").splitlines()[0],
            "seed": settings.seed,
            "results": results,
            "growth_mib": growth,
        }
        settings.json.write_text(json.dumps({**record, "provenance": provenance()}, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if flat else 1)


def measured(path: Path, rows: int, settings: argparse.Namespace) -> dict[str, Any]:
    """One size: written, read in processes of their own, removed."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines("\t".join(triple) + "\n" for triple in made_up(rows, settings.seed))
    found = {"rows": rows, "file_mib": path.stat().st_size / MEBIBYTE, **in_own_process(read, path)}
    if found["read"] != rows:
        raise SystemExit(f"{found['read']} of {rows} rows were read")
    held = in_own_process(read, path, True) if rows <= settings.held_up_to else None
    path.unlink()
    return {**found, "held_peak_mib": held and held["peak_mib"]}


def made_up(rows: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Triples of made-up words, all texts different."""
    dice = random.Random(seed)
    words = ["".join(dice.choices("aeioubdklmnprst", k=dice.randint(2, 9))) for _ in range(WORDS)]
    queries = [" ".join(dice.choices(words, k=QUERY_WORDS)) for _ in range(PASSAGES)]
    passages = [" ".join(dice.choices(words, k=PASSAGE_WORDS)) for _ in range(PASSAGES)]
    for number in range(rows):
        positive, negative = dice.choice(passages), dice.choice(passages)
        yield f"{number} {dice.choice(queries)}", f"{number} {positive}", f"{number} not {negative}"


def read(path: Path, held: bool = False) -> dict[str, float]:
    """The peak of this process's memory, in MiB, and the seconds of reading a file of triples."""
    before = peak_memory()
    start = time.perf_counter()
    triples = iter_triples(path)
    count = len(list(triples)) if held else sum(1 for _ in triples)
    seconds = time.perf_counter() - start
    return {"read": count, "imports_mib": before, "peak_mib": peak_memory(), "seconds": seconds}


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        f"{'rows':>12}{'file, MiB':>12}{'peak, MiB':>12}{'imports':>10}{'held in a list':>17}{'rows a second':>16}"
    ]
    for row in results:
        held = f"{row['held_peak_mib']:.1f}" if row["held_peak_mib"] else "-"
        lines.append(
            f"{row['rows']:>12,}{row['file_mib']:>12.1f}{row['peak_mib']:>12.1f}{row['imports_mib']:>10.1f}"
            f"{held:>17}{row['rows'] / row['seconds']:>16,.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
