"""The NanoBEIR evaluator under its name of sentence-transformers: reranking of several collections, and their mean.

A collection is a folder in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/<split>.tsv) with the candidates of a
first stage in runs/, or one of those that the hub has.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.data.collection import UNANSWERED, Collection
from crossenc_kit.data.ranking import read_ranking
from crossenc_kit.data.trec import read_run
from crossenc_kit.errors import DataError, need
from crossenc_kit.evaluation.ranking_metrics import ranked
from crossenc_kit.retrieval.bm25 import bm25_run
from crossenc_kit.sentence_transformers.evaluators import Evaluator
from crossenc_kit.sentence_transformers.reranking import CrossEncoderRerankingEvaluator

logger = logging.getLogger(__name__)
Sample = dict[str, Any]  # query, positive, documents
NANO_BEIR = {
    name.lower(): name
    for name in (
        *("ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus", "NQ"),
        *("QuoraRetrieval", "SCIDOCS", "ArguAna", "SciFact", "Touche2020"),
    )
}
NOT_BY_DEFAULT = ("arguana", "touche2020")  # to find counter-arguments is another task


class CrossEncoderNanoBEIREvaluator(Evaluator):
    """MAP, MRR@k and nDCG@k of reranking several collections, and their means; select by the mean nDCG@k.

    `folder`: holds a folder a collection, named as on the hub ("NanoMSMARCO"), in short ("msmarco") or otherwise, each
    in BEIR's layout with the run runs/bm25.tsv, or runs/bm25_<split>.tsv; where there is none, BM25 searches the
    corpus. Without a folder, `dataset_id` is loaded from the hub. `dataset_names`: which collections (default: all,
    but for ArguAna and Touche2020, as in sentence-transformers). `split`: whose judgements, where there are several.
    Documents with a grade above 0 are relevant; of each query the first `rerank_k` of the run are reranked.

    Keys are `NanoMSMARCO_R100_ndcg@10` for a collection, `NanoBEIR_R100_mean_ndcg@10` for the mean, which
    `aggregate_fn` takes of the list of values and `aggregate_key` names; `base_` is the first stage. A query of which
    BM25 finds no relevant document counts 0. `always_rerank_positives`, the default of sentence-transformers, ranks
    these as well: see `CrossEncoderRerankingEvaluator`. Raises `DataError` where a collection cannot be had.
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
            samples = {name: _from_hub(dataset_id, name, rerank_k) for name in _on_the_hub(dataset_names)}
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
            each[evaluator.name] = {key.removeprefix(f"{evaluator.name}_"): value for key, value in found.items()}
        metrics = next(iter(each.values()))
        means = {key: float(self.aggregate_fn([own[key] for own in each.values()])) for key in metrics}
        names = ("MAP", f"MRR@{self.at_k}", f"NDCG@{self.at_k}")
        self.write(output_path, epoch, steps, {name: means[name.lower()] for name in names})
        base = ", ".join(f"{name} {means[f'base_{name.lower()}']:.4f}" for name in names)
        logger.info("%s of the first stage, over %s collections: %s", self.aggregate_key, len(each), base)
        primary = f"ndcg@{self.at_k}"
        answer = self.answer({primary: means[primary], **means}, primary)  # training selects by the first
        return answer | {f"{name}_{key}": value for name, own in each.items() for key, value in own.items()}


def _in_folder(folder: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """The collections of a folder, by the name that their figures get."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; it holds a folder a collection, each with corpus.jsonl")
    there = [place for place in sorted(folder.iterdir()) if any(place.glob("corpus.jsonl*"))]
    known = {_short(place.name): place for place in there}
    if not there:
        raise DataError(f"no collections in {folder}: none of its folders has a corpus.jsonl (or corpus.jsonl.gz)")
    if len(known) < len(there):
        raise DataError(f"{folder} has a collection under two names: {', '.join(place.name for place in there)}")
    chosen = _chosen(known, names, f"in {folder}")
    return {f"Nano{NANO_BEIR[key]}" if key in NANO_BEIR else known[key].name: known[key] for key in chosen}


def _on_the_hub(names: Sequence[str] | None) -> list[str]:
    """The collections of NanoBEIR, which are splits of its data set."""
    return [f"Nano{NANO_BEIR[key]}" for key in _chosen(NANO_BEIR, names, "of NanoBEIR")]


def _chosen(known: Iterable[str], names: Sequence[str] | None, where: str) -> list[str]:
    """The short names of the collections that are asked for; all but two where none is named."""
    known = list(known)
    if names is None:
        left = [key for key in known if key in NOT_BY_DEFAULT]
        if left:
            logger.warning("left out, as in sentence-transformers: %s; name them to have them", ", ".join(left))
        return [key for key in known if key not in left] or known
    if isinstance(names, str) or not len(names):
        raise ValueError(f"dataset_names is {names!r}; expected a list of names, or None for all")
    keys = list(dict.fromkeys(map(_short, names)))
    unknown = [name for name in names if _short(name) not in known]
    if unknown:
        raise DataError(f"no collection {unknown[0]!r} {where}; there is {', '.join(known)}")
    return keys


def _short(name: str) -> str:
    """NanoBEIR's short name of a collection, "msmarco" for "NanoMSMARCO"; of another collection its name."""
    short = name.lower().removeprefix("nano")
    return short if short in NANO_BEIR else name


def _from_folder(folder: Path, split: str, rerank_k: int) -> list[Sample]:
    """The samples of a collection on the disk, a judged query each."""
    splits = sorted({path.name.removesuffix(".gz").removesuffix(".tsv") for path in folder.glob("qrels/*.tsv*")})
    split = splits[0] if len(splits) == 1 else split
    path = _run_of(folder, split)
    if path is None:
        collection = read_ranking(folder, split)
        run = bm25_run(collection.documents, collection.queries, rerank_k)
        logger.info("%s has no run: BM25 searched its %s documents", folder.name, f"{len(collection.documents):,}")
    else:
        run = read_run(path)
        best = {query: ranked(found)[:rerank_k] for query, found in run.items()}
        collection = read_ranking(folder, split, document_ids={name for own in best.values() for name in own})
        _check(
            folder.name, {query: {name: run[query][name] for name in own} for query, own in best.items()}, collection
        )
    for note in collection.notes:
        if note.startswith(UNANSWERED):
            logger.warning("%s: %s; each counts 0", folder.name, note)
    texts = collection.documents
    return [
        _sample(text, [texts[name] for name in collection.relevant(query)], run.get(query, {}), texts, rerank_k)
        for query, text in collection.queries.items()
        if query in collection.qrels
    ]


def _check(name: str, run: Mapping[str, Mapping[str, float]], collection: Collection) -> None:
    """Log what of a run does not fit the judgements; raise `DataError` where it is of other queries."""
    try:
        notes = collection.check(run, unknown="count")
    except DataError as error:
        raise DataError(f"{name}: {error}; is the run of this split?") from error
    for note in notes:
        logger.warning("%s: %s", name, note)


def _run_of(folder: Path, split: str) -> Path | None:
    """The run of a collection's folder; None where it has none, `DataError` where it is not clear which it is."""
    ends = (".tsv", ".tsv.gz")
    found = [path for end in ends for path in (folder / "runs").glob(f"bm25{end}")]
    found = found or [path for end in ends for path in sorted((folder / "runs").glob(f"bm25*_{split}{end}"))]
    if len(found) > 1:
        raise DataError(f"{folder} has several runs: {', '.join(path.name for path in found)}; leave one")
    return found[0] if found else None


def _sample(
    query: str, positive: list[str], found: Mapping[str, float], documents: Mapping[str, str], rerank_k: int
) -> Sample:
    return {"query": query, "positive": positive, "documents": [documents[name] for name in ranked(found)[:rerank_k]]}


def _from_hub(dataset_id: str, split: str, rerank_k: int) -> list[Sample]:
    """The samples of a collection on the hub, whose parts are the subsets corpus, queries, qrels and bm25."""
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
        run = {name: -float(rank) for rank, name in enumerate(row["corpus-ids"][:rerank_k])}
        query = row["query-id"]
        missing = [name for name in (*run, *positive.get(query, ())) if name not in corpus]
        if query not in queries or query not in positive or missing:
            what = f"document {missing[0]!r} has no text" if missing else "it has no text or no judgements"
            raise DataError(f"{dataset_id}, {split}, query {query!r}: {what}")
        samples.append(_sample(queries[query], [corpus[name] for name in positive[query]], run, corpus, rerank_k))
    return samples


def _subset(dataset_id: str, part: str, split: str, columns: Sequence[str]) -> Any:
    """The rows of a part of a hub data set; `DataError` where it cannot be had or lacks a column."""
    datasets = need("datasets", "the hub")
    try:
        rows = datasets.load_dataset(dataset_id, part, split=split)
    except Exception as error:
        raise DataError(
            f"the hub gave no subset {part!r}, split {split!r} of {dataset_id!r} ({type(error).__name__}: {error}); "
            "correct the names, go online, or give folder="
        ) from error
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        raise DataError(f"{dataset_id}, subset {part!r}: no column {missing[0]!r} among {', '.join(rows.column_names)}")
    return rows
