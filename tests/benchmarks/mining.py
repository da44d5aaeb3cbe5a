"""How long hard negatives take: 2,000 queries over 14,000 passages, by BM25 and by dense vectors, on 1 and 2 threads.

    python tests/benchmarks/mining.py --data-dir DATA --json mining.json
    python tests/benchmarks/mining.py --passages 300 --queries 50 --model tiny   # to see that it works

DATA holds rerank_msmarco/; without it, passages and queries are made of drawn words. Dense mining encodes every passage
first; the column `index` is that alone (of BM25: reading the corpus), `mine` the search and all that follows.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crossenc_kit import Collection, bm25_index, dense_index, mine_hard_negatives, negatives_by_epoch, read_ranking
from crossenc_kit.history import provenance
from crossenc_kit.retrieval.dense import encoder

PASSAGE_WORDS, QUERY_WORDS = 55, 6  # about those of MS MARCO
Data = tuple[dict[str, str], dict[str, str], dict[str, dict[str, Any]], str]


def main() -> None:
    settings = parse_arguments()
    load = os.getloadavg()[0]
    queries, documents, qrels, source = load_data(settings)
    print(f"{source}: {len(queries):,} queries, {len(documents):,} passages, {settings.num_negatives} negatives each")
    encode = encoder(settings.model, int8=settings.int8)
    encode(["a text"])  # what loads at the first call is not measured
    indexes: dict[str, Callable[[], Any]] = {"bm25": partial(bm25_index, documents)}
    indexes["dense"] = partial(dense_index, documents, encode)
    rows = []
    for threads in settings.threads:
        torch.set_num_threads(threads)
        for name in settings.first_stages:
            row = {"first stage": name, "threads": threads}
            row |= measure(indexes[name], queries, documents, qrels, settings.num_negatives)
            rows.append(row)
            shown = {key: f"{value:.2f}" if isinstance(value, float) else value for key, value in row.items()}
            print(", ".join(f"{key} {value}" for key, value in shown.items()), flush=True)
    if load > 0.5:
        print(f"NOTE: the load average was {load:.1f}: something else is running here, do not quote these figures")
    if settings.json:
        record = provenance("cpu", load_average=load, work=source, settings=vars(settings))
        Path(settings.json).write_text(json.dumps({**record, "runs": rows}, indent=1, default=str), encoding="utf-8")


def measure(index: Callable[[], Any], queries: Any, documents: Any, qrels: Any, num_negatives: int) -> dict[str, Any]:
    """Seconds on the clock of each part, and processor seconds of all."""
    clock, processor = [time.perf_counter()], time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # queries that found nothing
        search = index()
        clock.append(time.perf_counter())
        mined = mine_hard_negatives(
            Collection(queries, documents, qrels), first_stage=search, num_negatives=num_negatives
        )
        clock.append(time.perf_counter())
    negatives_by_epoch(mined)(1)
    clock.append(time.perf_counter())
    seconds = dict(zip(("index", "mine", "draw an epoch"), np.diff(clock).tolist(), strict=True))
    whole = {"both": seconds["index"] + seconds["mine"], "processor": time.process_time() - processor}
    return {**seconds, **whole, "queries mined": len(mined.negatives)}


def load_data(settings: argparse.Namespace) -> Data:
    """Queries with their judgements, passages, and where from."""
    if settings.data_dir is None:
        return made_up(settings.queries, settings.passages)
    data = read_ranking(Path(settings.data_dir) / "rerank_msmarco", "train")
    queries = dict(islice(data.queries.items(), settings.queries))
    needed = {document for query in queries for document in data.qrels[query]}
    documents = {d: text for d, text in data.documents.items() if d in needed or settings.passages is None}
    others = (item for item in data.documents.items() if item[0] not in documents)
    documents |= dict(islice(others, max(0, (settings.passages or 0) - len(documents))))
    return queries, documents, {query: dict(data.qrels[query]) for query in queries}, "MS MARCO"


def made_up(num_queries: int, num_passages: int | None, seed: int = 0) -> Data:
    """Passages of words drawn as often as in a language, and queries of words of one of them."""
    rng = np.random.default_rng(seed)
    odds = 1 / np.arange(1, 20_001)

    def passages() -> Iterator[list[str]]:
        for _ in range(num_passages or 13_898):
            yield [f"word{number}" for number in rng.choice(20_000, PASSAGE_WORDS, p=odds / odds.sum())]

    words = list(passages())
    answers = rng.integers(len(words), size=num_queries)
    queries = {f"q{i}": " ".join(rng.choice(words[row], QUERY_WORDS)) for i, row in enumerate(answers)}
    documents = {f"d{i}": " ".join(passage) for i, passage in enumerate(words)}
    return queries, documents, {f"q{i}": {f"d{row}": 1} for i, row in enumerate(answers)}, "made-up words"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", default=os.environ.get("CROSSENC_KIT_DATA"), help="folder with rerank_msmarco/")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--passages", type=int, default=None, help="fewer than there are")
    parser.add_argument("--num-negatives", type=int, default=4)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--first-stages", nargs="+", choices=["bm25", "dense"], default=["bm25", "dense"])
    parser.add_argument("--model", default="minilm", help="of the dense vectors")
    parser.add_argument("--int8", action="store_true", help="dense vectors by layers in int8")
    parser.add_argument("--json", default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
