"""NanoBEIR's evaluator under its name of sentence-transformers: several collections and their mean.

A collection is a folder in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/<split>.tsv) with the
candidates of a first stage in runs/, or one of those on the hub.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.data.collection import UNANSWERED
from crossenc_kit.data.ranking import read_ranking
from crossenc_kit.data.trec import read_run
from crossenc_kit.errors import DataError, need
from crossenc_kit.evaluation.ranking_metrics import ranked
from crossenc_kit.retrieval.bm25 import bm25_index
from crossenc_kit.sentence_transformers.evaluators import CsvEvaluator
from crossenc_kit.sentence_transformers.reranking import CrossEncoderRerankingEvaluator

logger = logging.getLogger(__name__)
NAMES = "ClimateFEVER DBPedia FEVER FiQA2018 HotpotQA MSMARCO NFCorpus NQ QuoraRetrieval SCIDOCS"
NANO_BEIR = {name.lower(): name for name in f"{NAMES} ArguAna SciFact Touche2020".split()}
NOT_BY_DEFAULT = ("arguana", "touche2020")  # to find counter-arguments is another task


class CrossEncoderNanoBEIREvaluator(CsvEvaluator):
    """Measure reranking on several collections, and the mean of their metrics.

    Select by the mean nDCG@k. Keys are `NanoMSMARCO_R100_ndcg@10` for a collection and
    `NanoBEIR_R100_mean_ndcg@10` for the mean; `base_` is the first stage. Documents with a grade
    above 0 are relevant, and a query of which nothing relevant was found counts 0.

    dataset_names: by default all but ArguAna and Touche2020, as in sentence-transformers
    rerank_k: candidates per query that are reranked
    always_rerank_positives: see `CrossEncoderRerankingEvaluator`
    aggregate_fn, aggregate_key: how values become a mean, and what that is called
    folder: holds one folder per collection, named as on the hub ("NanoMSMARCO"), in short
        ("msmarco") or otherwise; its run is runs/bm25.tsv or runs/bm25_<split>.tsv, and without
        one BM25 searches the corpus. Without `folder`, `dataset_id` is loaded from the hub
    split: whose judgements, if there are several
    """

    def __init__(
        self,
        dataset_names: Sequence[str] | None = None,
        dataset_id: str = "sentence-transformers/NanoBEIR-en",
        rerank_k: int = 100,
        at_k: int = 10,
        always_rerank_positives: bool = False,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        write_csv: bool = True,
        aggregate_fn: Callable[[list[float]], Any] = np.mean,
        aggregate_key: str = "mean",
        *,
        folder: str | os.PathLike | None = None,
        split: str = "test",
    ):
        super().__init__(f"NanoBEIR_R{rerank_k}_{aggregate_key}", write_csv)
        if rerank_k < 1:
            raise ValueError(f"rerank_k must be at least 1, got {rerank_k}")
        self.csv_file = f"NanoBEIR_evaluation_{aggregate_key}_results.csv"
        self.at_k, self.rerank_k, self.always_rerank_positives = at_k, rerank_k, always_rerank_positives
        self.aggregate_fn, self.aggregate_key = aggregate_fn, aggregate_key
        options: dict[str, Any] = {"at_k": at_k, "always_rerank_positives": always_rerank_positives}
        options |= {"batch_size": batch_size, "show_progress_bar": show_progress_bar, "write_csv": write_csv}
        if folder:
            places = _in_folder(Path(folder).expanduser(), dataset_names)
            samples = {name: _from_folder(place, split, rerank_k) for name, place in places.items()}
        else:
            names = [f"Nano{NANO_BEIR[key]}" for key in _chosen(NANO_BEIR, dataset_names, "of NanoBEIR")]
            samples = {name: _from_hub(dataset_id, name, rerank_k) for name in names}
        self.dataset_names = list(samples)
        self.evaluators = [
            CrossEncoderRerankingEvaluator(own, name=f"{name}_R{rerank_k}", **options) for name, own in samples.items()
        ]
        self.answer({}, f"ndcg@{at_k}")

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        each: dict[str, dict[str, float]] = {}
        for evaluator in self.evaluators:
            found = evaluator(model, output_path, epoch, steps)
            prefix = f"{evaluator.name}_"
            each[prefix] = {key.removeprefix(prefix): value for key, value in found.items()}
        keys = next(iter(each.values()))
        means = {key: float(self.aggregate_fn([own[key] for own in each.values()])) for key in keys}
        names = ("MAP", f"MRR@{self.at_k}", f"NDCG@{self.at_k}")
        self.write(output_path, epoch, steps, {name: means[name.lower()] for name in names})
        base = ", ".join(f"{name} {means[f'base_{name.lower()}']:.4f}" for name in names)
        over = (self.aggregate_key, len(each), base)
        logger.info("%s of the first stage, over %s collections: %s", *over)
        primary = f"ndcg@{self.at_k}"
        answer = self.answer({primary: means[primary], **means}, primary)  # the first selects
        return answer | {prefix + key: v for prefix, own in each.items() for key, v in own.items()}


def _in_folder(folder: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """Find the collections of a folder, by the name that their figures get."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; it holds a folder a collection, each with corpus.jsonl")
    there = [place for place in sorted(folder.iterdir()) if any(place.glob("corpus.jsonl*"))]
    known = {_short(place.name): place for place in there}
    if not there:
        raise DataError(f"no collections in {folder}: none of its folders has a corpus.jsonl")
    if len(known) < len(there):
        twice = ", ".join(place.name for place in there)
        raise DataError(f"{folder} has a collection under two names: {twice}")
    chosen = _chosen(known, names, f"in {folder}")
    return {f"Nano{NANO_BEIR[key]}" if key in NANO_BEIR else known[key].name: known[key] for key in chosen}


def _chosen(known: Iterable[str], names: Sequence[str] | None, where: str) -> list[str]:
    """List the short names of the collections that are asked for; all but two by default."""
    known = list(known)
    if names is None:
        left = [key for key in known if key in NOT_BY_DEFAULT]
        if left:
            why = "left out, as in sentence-transformers: %s; name them to have them"
            logger.warning(why, ", ".join(left))
        return [key for key in known if key not in left] or known
    if isinstance(names, str) or not len(names):
        raise ValueError(f"dataset_names is {names!r}; expected a list of names, or None for all")
    unknown = [name for name in names if _short(name) not in known]
    if unknown:
        raise DataError(f"no collection {unknown[0]!r} {where}; there is {', '.join(known)}")
    return list(dict.fromkeys(map(_short, names)))


def _short(name: str) -> str:
    """Shorten a name of NanoBEIR ("NanoMSMARCO" to "msmarco"); other names stay."""
    short = name.lower().removeprefix("nano")
    return short if short in NANO_BEIR else name


def _from_folder(folder: Path, split: str, rerank_k: int) -> list[dict[str, Any]]:
    """Read the samples of a collection on the disk: one per judged query."""
    files = folder.glob("qrels/*.tsv*")
    splits = {path.name.removesuffix(".gz").removesuffix(".tsv") for path in files}
    split = splits.pop() if len(splits) == 1 else split
    path = _run_of(folder, split)
    if path is None:
        collection = read_ranking(folder, split)
        run = bm25_index(collection.documents)(collection.queries, rerank_k)
        counted = f"{len(collection.documents):,}"
        logger.info("%s has no run: BM25 searched its %s documents", folder.name, counted)
    else:
        best = {q: (own, ranked(own)[:rerank_k]) for q, own in read_run(path).items()}
        run = {q: {d: own[d] for d in first} for q, (own, first) in best.items()}
        collection = read_ranking(folder, split, document_ids={d for own in run.values() for d in own})
        try:
            notes = collection.check(run, unknown="count")
        except DataError as error:
            raise DataError(f"{folder.name}: {error}; is the run of this split?") from error
        for note in notes:
            logger.warning("%s: %s", folder.name, note)
    for note in collection.notes:
        if note.startswith(UNANSWERED):
            logger.warning("%s: %s; each counts 0", folder.name, note)
    documents = collection.documents
    return [
        {
            "query": text,
            "positive": [documents[name] for name in collection.relevant(query)],
            "documents": [documents[name] for name in ranked(run.get(query, {}))[:rerank_k]],
        }
        for query, text in collection.queries.items()
        if query in collection.qrels
    ]


def _run_of(folder: Path, split: str) -> Path | None:
    """Find the run in a collection's folder; `DataError` if it is not clear which it is."""
    ends = (".tsv", ".tsv.gz")
    found = [path for end in ends for path in (folder / "runs").glob(f"bm25{end}")]
    found = found or [p for end in ends for p in sorted((folder / "runs").glob(f"bm25*_{split}{end}"))]
    if len(found) > 1:
        raise DataError(f"{folder} has several runs: {', '.join(p.name for p in found)}; leave one")
    return found[0] if found else None


def _from_hub(dataset_id: str, split: str, rerank_k: int) -> list[dict[str, Any]]:
    """Read the samples of a collection on the hub: subsets corpus, queries, qrels and bm25."""
    corpus, queries = (
        {row["_id"]: row["text"] for row in _subset(dataset_id, part, split, ("_id", "text"))}
        for part in ("corpus", "queries")
    )
    positive: dict[str, dict[str, None]] = {}
    for row in _subset(dataset_id, "qrels", split, ("query-id", "corpus-id")):
        ids = row["corpus-id"] if isinstance(row["corpus-id"], list) else [row["corpus-id"]]
        positive.setdefault(row["query-id"], {}).update(dict.fromkeys(ids))
    samples = []
    for row in _subset(dataset_id, "bm25", split, ("query-id", "corpus-ids")):
        query, found = row["query-id"], row["corpus-ids"][:rerank_k]
        missing = [name for name in (*found, *positive.get(query, ())) if name not in corpus]
        if query not in queries or query not in positive or missing:
            what = f"document {missing[0]!r} has no text" if missing else "it has no text or no judgements"
            raise DataError(f"{dataset_id}, {split}, query {query!r}: {what}")
        good, texts = [corpus[name] for name in positive[query]], [corpus[name] for name in found]
        samples.append({"query": queries[query], "positive": good, "documents": texts})
    return samples


def _subset(dataset_id: str, part: str, split: str, columns: Sequence[str]) -> Any:
    """Load a part of a hub data set; `DataError` if it cannot be had or lacks a column."""
    datasets = need("datasets", "the hub")
    try:
        rows = datasets.load_dataset(dataset_id, part, split=split)
    except Exception as error:
        what = f"the hub gave no subset {part!r}, split {split!r} of {dataset_id!r}"
        hint = "correct the names, go online, or give folder="
        raise DataError(f"{what} ({type(error).__name__}: {error}); {hint}") from error
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        has = ", ".join(rows.column_names)
        raise DataError(f"{dataset_id}, subset {part!r}: no column {missing[0]!r} among {has}")
    return rows
