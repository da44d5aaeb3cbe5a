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
    above 0 are relevant, and a query for which nothing relevant was found counts 0.

    dataset_names: by default all but ArguAna and Touche2020, as in sentence-transformers
    rerank_k: candidates per query that are reranked
    always_rerank_positives: see `CrossEncoderRerankingEvaluator`
    aggregate_fn, aggregate_key: the mean over collections, and its name
    folder: contains one folder per collection, named as on the hub ("NanoMSMARCO"), in short
        ("msmarco") or as you like. BM25 searches the corpus if there is no runs/bm25.tsv or
        runs/bm25*_<split>.tsv. Without `folder`, `dataset_id` is loaded from the hub
    split: the split whose judgements are read from `folder`
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
        if rerank_k < 1 or isinstance(dataset_names, str):
            raise ValueError(
                f"give a list of names and at least one candidate to rerank, got "
                f"dataset_names={dataset_names!r}, rerank_k={rerank_k}"
            )
        super().__init__(f"NanoBEIR_R{rerank_k}_{aggregate_key}", write_csv)
        self.csv_file = f"NanoBEIR_evaluation_{aggregate_key}_results.csv"
        self.at_k = at_k
        self.aggregate_fn, self.aggregate_key = aggregate_fn, aggregate_key
        options: dict[str, Any] = {"at_k": at_k, "always_rerank_positives": always_rerank_positives}
        options |= {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
        if folder:
            places = _in_folder(Path(folder).expanduser(), dataset_names)
            samples = {name: _from_folder(place, split, rerank_k) for name, place in places.items()}
        else:
            names = [f"Nano{NANO_BEIR[key]}" for key in _chosen(NANO_BEIR, dataset_names, "of NanoBEIR")]
            samples = {name: _from_hub(dataset_id, name, rerank_k) for name in names}
        self.dataset_names = list(samples)
        self.evaluators = [
            CrossEncoderRerankingEvaluator(own, name=f"{name}_R{rerank_k}", write_csv=write_csv, **options)
            for name, own in samples.items()
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
        primary = f"ndcg@{self.at_k}"
        answer = self.answer({primary: means[primary], **means}, primary)  # the first selects
        return answer | {prefix + key: v for prefix, own in each.items() for key, v in own.items()}


def _in_folder(folder: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """Find the collections in a folder: the name used in keys -> the collection's folder."""
    known: dict[str, Path] = {}
    for path in sorted({path.parent for path in folder.glob("*/corpus.jsonl*")}):
        if (other := known.setdefault(_short(path.name), path)) != path:
            raise DataError(f"{other} and {path} are one collection; keep one of them")
    if not known:
        raise DataError(f"no collections in {folder}: it has no folder with a corpus.jsonl")
    chosen = _chosen(known, names, f"in {folder}")
    return {f"Nano{NANO_BEIR[key]}" if key in NANO_BEIR else key: known[key] for key in chosen}


def _chosen(known: Iterable[str], names: Sequence[str] | None, where: str) -> list[str]:
    """List the short names of the requested collections; by default all but two."""
    known = list(known)
    if names is None:
        return [key for key in known if key not in NOT_BY_DEFAULT] or known
    unknown = [name for name in names if _short(name) not in known]
    if unknown:
        raise DataError(f"no collection {unknown[0]!r} {where}; there is {', '.join(known)}")
    return list(dict.fromkeys(map(_short, names)))


def _short(name: str) -> str:
    """Shorten a name of NanoBEIR ("NanoMSMARCO" to "msmarco"); other names stay."""
    short = name.lower().removeprefix("nano")
    return short if short in NANO_BEIR else name


def _from_folder(folder: Path, split: str, rerank_k: int) -> list[dict[str, Any]]:
    """Read a collection from disk, as one sample per judged query."""
    runs = folder / "runs"
    found = [*runs.glob("bm25.tsv*")] or sorted(runs.glob(f"bm25*_{split}.tsv*"))
    if len(found) > 1:
        raise DataError(f"{folder} has several runs: {', '.join(p.name for p in found)}; leave one")
    if found:
        whole = read_run(found[0])
        run = {q: {d: own[d] for d in ranked(own)[:rerank_k]} for q, own in whole.items()}
        collection = read_ranking(folder, split, document_ids={d for own in run.values() for d in own})
        for note in collection.check(run, unknown="count", name=f"the run of {folder.name}"):
            logger.warning("%s: %s", folder.name, note)
    else:
        collection = read_ranking(folder, split)
        run = bm25_index(collection.documents)(collection.queries, rerank_k)
        logger.info("%s has no run: BM25 searched all its documents", folder.name)
    documents = collection.documents
    return [
        {
            "query": text,
            "positive": [documents[name] for name in collection.relevant(query)],
            "documents": [documents[name] for name in ranked(run.get(query, {}))],
        }
        for query, text in collection.queries.items()
        if query in collection.qrels
    ]


def _from_hub(dataset_id: str, split: str, rerank_k: int) -> list[dict[str, Any]]:
    """Load a collection from the hub (subsets corpus, queries, qrels, bm25), as samples."""
    datasets = need("datasets", "the hub")
    parts = ("corpus", "queries", "qrels", "bm25")
    corpus, queries, qrels, run = (datasets.load_dataset(dataset_id, part, split=split) for part in parts)
    texts, asked = ({row["_id"]: row["text"] for row in part} for part in (corpus, queries))
    positive: dict[str, list[str]] = {}
    for row in qrels:
        ids = row["corpus-id"] if isinstance(row["corpus-id"], list) else [row["corpus-id"]]
        positive.setdefault(row["query-id"], []).extend(ids)
    return [
        {
            "query": asked[row["query-id"]],
            "positive": [texts[name] for name in dict.fromkeys(positive[row["query-id"]])],
            "documents": [texts[name] for name in row["corpus-ids"][:rerank_k]],
        }
        for row in run
    ]
