"""What the two sides work on: real pairs and passages from a data folder, else the sample data."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BATCH_SIZE = 32  # pairs in a training step
PASSAGE_WORDS = 55  # about the length of an MS MARCO passage


@dataclass(frozen=True)
class Work:
    """Pairs to score, Q queries with K documents each to rank, labelled pairs to train on, and where from."""

    pairs: list[tuple[str, str]]
    queries: list[str]
    documents: list[list[str]]
    train: list[tuple[str, str, float]]
    source: str

    def batches(self) -> list[np.ndarray]:
        """The rows of each training step: the plan of the kit's `train` with seed 0, drawn beforehand."""
        from crossenc_kit.training.batches import plan_epoch

        count = len(self.train)
        lengths = np.ones(count, dtype=np.int64)  # lengths order the rows within a step, they do not choose them
        plan = plan_epoch(lengths, np.arange(count + 1), seed=0, epoch=0, batch_size=BATCH_SIZE)
        return [rows for (rows,) in plan]

    def describe(self) -> str:
        documents = sum(map(len, self.documents))
        return (
            f"data: {self.source}; score {len(self.pairs)} pairs, rank {len(self.queries)} queries with {documents} "
            f"passages, train on {len(self.train)} pairs in batches of {BATCH_SIZE}"
        )


def load_work(data_dir: str | None, pairs: int, queries: int, candidates: int, steps: int, seed: int = 0) -> Work:
    """The work from `data_dir` (folders stsb and rerank_msmarco), or from the sample data where there is none."""
    from crossenc_kit import read_sts

    if data_dir is None:
        rows, train = read_sts(split="dev"), read_sts(split="train")
        texts = rows.texts + train.texts
        asked, documents = sample_passages(texts, queries, candidates)
        source = "no data folder: the sample data, passages made of its sentences"
    else:
        rows, train = (read_sts(Path(data_dir) / "stsb", split) for split in ("dev", "train"))
        texts = rows.texts
        asked, documents = real_passages(Path(data_dir) / "rerank_msmarco", queries, candidates, seed)
        source = "STS-B and MS MARCO"
    if train.labels is None:
        raise SystemExit("the training data has no labels")
    chosen = np.random.default_rng(seed).permutation(len(train))[: steps * BATCH_SIZE]
    labelled = [(train.left[row], train.right[row], float(train.labels[row])) for row in chosen]
    return Work(texts[:pairs], asked, documents, labelled, source)


def real_passages(folder: Path, queries: int, candidates: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """The first queries of the BM25 run with their passages, filled up with others of the corpus."""
    from crossenc_kit.data.tables import read_jsonl, read_tsv

    texts = {row["_id"]: row["text"] for _, row in read_jsonl(folder / "queries.jsonl.gz")}
    corpus = {row["_id"]: row["text"] for _, row in read_jsonl(folder / "corpus.jsonl.gz")}
    run: dict[str, list[str]] = {}
    for _, row in read_tsv(folder / "runs" / "bm25_top20_dev.tsv"):
        run.setdefault(row["query-id"], []).append(row["corpus-id"])
    others = [list(corpus)[at] for at in np.random.default_rng(seed).permutation(len(corpus))]
    asked, documents = [], []
    for query, found in itertools.islice(run.items(), queries):
        more = (passage for passage in others if passage not in found)
        ids = list(itertools.islice(itertools.chain(found, more), candidates))
        asked.append(texts[query])
        documents.append([corpus[passage] for passage in ids])
    return asked, documents


def sample_passages(pairs: list[tuple[str, str]], queries: int, candidates: int) -> tuple[list[str], list[list[str]]]:
    """Sentences as queries, and passages of as many further sentences as make up `PASSAGE_WORDS`."""
    sentences = itertools.cycle(text for pair in pairs for text in pair)
    asked = list(itertools.islice(sentences, queries))

    def passage() -> str:
        words: list[str] = []
        while len(words) < PASSAGE_WORDS:
            words += next(sentences).split()
        return " ".join(words)

    return asked, [[passage() for _ in range(candidates)] for _ in asked]
