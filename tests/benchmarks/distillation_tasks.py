"""The two tasks of `distillation.py`: what its students learn from, how they are measured and compared."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from reranking import LISTS, TESTS, Run, lists_of

from crossenc_kit import CrossEncoder, Pairs, TrainingConfig, read_ranking, read_sts, train
from crossenc_kit.data.trec import read_run, write_run
from crossenc_kit.distillation.augmentation import join_pairs, label_pairs, sample_pairs
from crossenc_kit.distillation.teachers import with_teacher_scores
from crossenc_kit.evaluation.comparison import randomisation_test
from crossenc_kit.evaluation.metrics import bootstrap_interval, pearson, ranks, spearman
from crossenc_kit.evaluation.ranking import evaluate_ranking
from crossenc_kit.inference.score_store import cached_scores
from crossenc_kit.retrieval.reranking import rerank

MAX_LENGTH = {"msmarco": 192, "stsb": 128}
PUBLIC_RUN = "rerank_trecdl19/runs/bert.tsv"
RAW = {"activation_fn": "identity"}
SWAPS = 2000  # of the paired test of correlations


class Reranking:
    """Lists of a query's passages; measured per query of the tests of `reranking.py`."""

    batch_size = 8  # lists

    def __init__(self, settings: argparse.Namespace) -> None:
        self.settings = settings
        self.tests = TESTS["msmarco"](settings.data_dir)
        self.teacher = CrossEncoder(settings.teacher, device="cpu")

    def training(self, labels: str, seed: int) -> tuple[Pairs, str, int]:
        """Data, loss and epochs."""
        lists = LISTS["msmarco"](self.settings, seed)
        if labels in ("gold", "copied"):
            return lists, self.settings.gold_loss, 1
        if labels == "public run":
            return self.public_lists(len(lists), seed), "kl_divergence", 1
        scores = cached_scores(self.teacher, lists, self.settings.runs / "teacher-scores", settings=RAW)
        return with_teacher_scores(lists, scores), "kl_divergence", 1

    def public_lists(self, count: int, seed: int) -> Pairs:
        """Lists of passages that the public run ranks, drawn at random, with its scores."""
        collection = read_ranking(self.settings.data_dir / "rerank_trecdl19", "test")
        path = self.settings.data_dir / PUBLIC_RUN
        size = self.settings.negatives + 1
        public = read_run(path)
        run = {query: list(own) for query, own in public.items() if len(own) >= size}
        rng = np.random.default_rng(seed)
        queries = [list(run)[row % len(run)] for row in range(count)]
        chosen = [(query, [run[query][d] for d in rng.permutation(len(run[query]))[:size]]) for query in queries]
        chances = np.array([public[query][document] for query, own in chosen for document in own])
        scores = np.log(chances) - np.log1p(-chances)  # published are the probabilities of a model of two classes
        rows = [
            (collection.queries[query], [collection.documents[d] for d in own], list(part))
            for (query, own), part in zip(chosen, np.split(scores, len(chosen)), strict=True)
        ]
        empty = Pairs([], [], np.zeros(0), np.zeros(1, dtype=np.int64))
        return lists_of(empty, rows)

    def score(self, model: Any) -> dict[str, Run]:
        def scorer(pairs: Any) -> np.ndarray:
            return model.predict(pairs, **RAW)

        return {
            name: rerank(scorer, collection, candidates, 1000)
            for name, (collection, candidates, *_) in self.tests.items()
        }

    def keep(self, stem: Path, scored: Mapping[str, Run]) -> None:
        for name, run in scored.items():
            write_run(stem.with_name(f"{stem.name}-{name}.trec"), run, stem.name)

    def kept(self, stem: Path) -> dict[str, Run]:
        return {name: read_run(stem.with_name(f"{stem.name}-{name}.trec")) for name in self.tests}

    def baselines(self) -> dict[str, dict[str, Run]]:
        teacher = self.settings.runs / "msmarco-teacher"
        if not teacher.with_name("msmarco-teacher-msmarco.trec").is_file():
            self.keep(teacher, self.score(self.teacher))
        public = read_run(self.settings.data_dir / PUBLIC_RUN)
        return {
            "BM25": {name: candidates for name, (_, candidates, *_) in self.tests.items()},
            "public run": {"trecdl19": among(self.tests["trecdl19"][1], public)},
            "teacher": self.kept(teacher),
        }

    def metrics(self, scored: Mapping[str, Run]) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for name, run in scored.items():
            collection, _, metric, relevant = self.tests[name]
            names = list(dict.fromkeys([metric, "ndcg@10", "mrr@10", "map"]))
            means = evaluate_ranking(collection.qrels, run, relevant_from=relevant, resamples=0).means
            found[name] = {key: means[key] for key in names}
        return found

    def compare(self, systems: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Each test: means over queries of the means over seeds, with intervals; all pairs of systems, paired."""
        found = {}
        for name, (collection, _, metric, relevant) in self.tests.items():
            options = {"relevant_from": relevant, "resamples": 0}
            own = {
                system: np.mean(
                    [evaluate_ranking(collection.qrels, run[name], **options).values[metric] for run in scored],
                    axis=0,
                )
                for system, scored in systems.items()
                if name in scored[0]
            }
            parts = {
                system: {"mean": float(v.mean()), "interval": bootstrap_interval(np.mean, v, resamples=2000)}
                for system, v in own.items()
            }
            differences = {
                f"{a} - {b}": {"difference": float((own[a] - own[b]).mean()), "p": randomisation_test(own[a], own[b])}
                for a, b in couples(own)
            }
            found[name] = {"metric": metric, "systems": parts, "differences": differences}
        return found


class Similarity:
    """Pairs with a similarity; measured by correlations over the pairs of the test split."""

    batch_size = 32  # pairs

    def __init__(self, settings: argparse.Namespace) -> None:
        self.settings = settings
        self.splits = {name: read_sts(settings.data_dir / "stsb", name) for name in ("train", "test")}
        self.teacher = CrossEncoder(self.new_teacher(), device="cpu")

    def new_teacher(self) -> Path:
        """A model of all layers, trained with the gold labels for two epochs."""
        folder = self.settings.runs / "stsb-teacher"
        if not (folder / "model.safetensors").is_file():
            model = CrossEncoder(self.settings.model, num_labels=1, max_length=MAX_LENGTH["stsb"], seed=0, device="cpu")
            train(model, self.splits["train"], "bce", TrainingConfig(epochs=2, batch_size=32, learning_rate=1e-4))
            model.save_pretrained(folder)
        return folder

    def training(self, labels: str, seed: int) -> tuple[Pairs, str, int]:
        """Data, loss and epochs: as many steps with gold labels as with the teacher's."""
        gold = self.splits["train"]
        if labels in ("gold", "copied"):
            return gold, "bce", 2
        more = sample_pairs(gold, how="bm25", k=2, seed=seed)
        rows = np.random.default_rng(seed).permutation(len(more))[: len(gold)]
        folder = self.settings.runs / "teacher-scores"
        parts = {"known": gold, "new": more.select(np.sort(rows).tolist())}
        return (
            join_pairs(**{name: label_pairs(self.teacher, part, folder=folder) for name, part in parts.items()}),
            "bce",
            1,
        )

    def score(self, model: Any) -> dict[str, np.ndarray]:
        return {"stsb": model.predict(self.splits["test"], **RAW)}

    def keep(self, stem: Path, scored: Mapping[str, np.ndarray]) -> None:
        np.save(stem.with_suffix(".npy"), scored["stsb"], allow_pickle=False)

    def kept(self, stem: Path) -> dict[str, np.ndarray]:
        return {"stsb": np.load(stem.with_suffix(".npy"), allow_pickle=False)}

    def baselines(self) -> dict[str, dict[str, np.ndarray]]:
        return {"teacher": self.score(self.teacher)}

    def metrics(self, scored: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
        labels = self.splits["test"].labels
        own = scored["stsb"]
        return {"stsb": {"pearson": pearson(sigmoid(own), labels), "spearman": spearman(own, labels)}}  # type: ignore[arg-type]

    def compare(self, systems: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Spearman, the mean over seeds, with intervals over the pairs; all pairs of systems, paired."""
        labels = np.asarray(self.splits["test"].labels)
        own = {name: np.array([ranks(scored["stsb"]) for scored in runs]).T for name, runs in systems.items()}
        parts = {
            name: {
                "mean": mean_spearman(columns, labels),
                "interval": bootstrap_interval(mean_spearman, columns, labels, resamples=500),
            }
            for name, columns in own.items()
        }
        differences = {
            f"{a} - {b}": {"difference": parts[a]["mean"] - parts[b]["mean"], "p": swap_test(own[a], own[b], labels)}
            for a, b in couples(own)
            if own[a].shape == own[b].shape
        }
        return {"stsb": {"metric": "spearman", "systems": parts, "differences": differences}}


TASKS: dict[str, Callable[[argparse.Namespace], Any]] = {"msmarco": Reranking, "stsb": Similarity}


def among(candidates: Run, other: Run) -> Run:
    """The candidates with the scores of another run; what that does not have stands below, in the old order."""
    found = {}
    for query, own in candidates.items():
        known = other.get(query, {})
        low = min(known.values(), default=0.0)
        found[query] = {d: known.get(d, low - 1 - rank) for rank, d in enumerate(own)}
    return found


def couples(systems: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each system with each before it."""
    names = list(systems)
    return [(name, other) for place, name in enumerate(names) for other in names[:place]]


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores.astype(float)))


def mean_spearman(columns: np.ndarray, labels: np.ndarray) -> float:
    """The mean over seeds of the correlation of `(N, seeds)` with `(N,)`."""
    return float(np.mean([spearman(column, labels) for column in columns.T]))


def swap_test(ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray) -> float:
    """The two-sided p of the difference of mean correlations with each pair's ranks `(N, seeds)` swapped or not."""
    rng = np.random.default_rng(0)
    seen = abs(mean_spearman(ours, labels) - mean_spearman(theirs, labels))
    count = 0
    for _ in range(SWAPS):
        swap = rng.random(len(labels))[:, None] < 0.5
        a, b = np.where(swap, theirs, ours), np.where(swap, ours, theirs)
        count += abs(mean_spearman(a, labels) - mean_spearman(b, labels)) >= seen
    return (1 + count) / (1 + SWAPS)
