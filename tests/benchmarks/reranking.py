"""Fine-tuning a reranker beside sentence-transformers' trainer: the same lists, loss, model, epochs and learning rate.

`msmarco`: trained on MS MARCO queries with negatives mined by BM25, and on the graded queries of TREC DL 2023; tested
on the BM25 candidates of other MS MARCO queries and of TREC DL 2019. `wikiqa`: trained and tested on all sentences of
an article. Beside both sides stand the first stage and the zero-shot cosine of separate vectors.

What a side ranks is kept in `--runs` as TREC runs, and is not made again: seeds and sides can be run one by one.

    python tests/benchmarks/reranking.py msmarco --data-dir DATA --runs RUNS --json 04_msmarco_reranking.json
    python tests/benchmarks/reranking.py wikiqa --data-dir DATA --runs RUNS --json 04_wikiqa.json
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fine_tuning import run_record, timed, train_peer

from crossenc_kit import (
    CrossEncoder,
    Pairs,
    TrainingConfig,
    dense_cosine,
    loss_with,
    mine_hard_negatives,
    read_ranking,
    train,
)
from crossenc_kit.data.trec import read_run, write_run
from crossenc_kit.distillation.ensembles import ensemble
from crossenc_kit.evaluation.comparison import randomisation_test
from crossenc_kit.evaluation.metrics import bootstrap_interval
from crossenc_kit.evaluation.ranking import evaluate_ranking
from crossenc_kit.lab.records import write_result
from crossenc_kit.retrieval.bm25 import bm25_index
from crossenc_kit.retrieval.reranking import rerank

NOTEBOOK = "04_msmarco_reranking"
MAX_LENGTH = 192
GRADED_LISTS = 8  # lists of each graded query
COSINE_SCALE, GRADE_BONUS = 20.0, 3.0  # 20 is the scale that the encoder was trained with
Run = Mapping[str, Mapping[str, float]]


def main() -> None:
    settings = parse_arguments()
    settings.runs.mkdir(parents=True, exist_ok=True)
    tests = TESTS[settings.task](settings.data_dir)
    baselines = {
        "first stage": {name: candidates for name, (_, candidates, *_) in tests.items()},
        "zero-shot cosine": cosine_runs(tests, settings),
    }
    systems: dict[str, dict[int, dict[str, Any]]] = {}
    for seed in settings.seeds:
        for side in settings.sides:
            if not settings.report or times_of(side, seed, settings).is_file():
                systems.setdefault(side, {})[seed] = ranked_by(side, seed, tests, settings)
    report(systems, baselines, tests, settings)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=TESTS)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with rerank_msmarco/ and the others")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs of each side and seed")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--loss", choices=PEER_LOSSES, default="lambda_loss")
    parser.add_argument(
        "--mean-over",
        choices=["lists", "pairs"],
        default="lists",
        help="of our loss: each list's mean, or all pairs of a step, as theirs is",
    )
    parser.add_argument("--labels", choices=["grades", "softened"], default="grades", help="see `softened`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8, help="lists in a step")
    parser.add_argument("--negatives", type=int, default=5, help="mined for each positive")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--lists", type=int, default=0, help="lists to train on; 0: all")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--threads", type=int, help="of each side; one apiece is fairest on a busy machine")
    parser.add_argument("--report", action="store_true", help="train nothing, report what is in the folder of runs")
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return settings


# --- what is trained and tested on ------------------------------------------------------------------


def msmarco_tests(data_dir: Path) -> dict[str, tuple[Any, Run, str, int]]:
    """Name to (collection, candidates, metric, least relevant grade)."""
    marco = read_ranking(data_dir / "rerank_msmarco", "test")
    trec = read_ranking(data_dir / "rerank_trecdl19", "test")
    first = read_run(data_dir / "rerank_msmarco" / "runs" / "bm25_top20_test.tsv")
    second = read_run(data_dir / "rerank_trecdl19" / "runs" / "bm25.tsv")
    return {
        "msmarco": (marco, {query: first[query] for query in marco.qrels if query in first}, "mrr@10", 1),
        "trecdl19": (trec, {query: dict(list(own.items())[:100]) for query, own in second.items()}, "ndcg@10", 2),
    }


def wikiqa_tests(data_dir: Path) -> dict[str, tuple[Any, Run, str, int]]:
    """All sentences of an article, in the order of BM25 with the words' statistics of the test split's articles."""
    wiki = read_ranking(data_dir / "rerank_wikiqa", "test")
    judged = {query: list(own) for query, own in wiki.qrels.items()}
    own = {document: wiki.documents[document] for judgements in wiki.qrels.values() for document in judgements}
    queries = {query: wiki.queries[query] for query in judged}
    found = bm25_index(own)(queries, 1, include=judged)
    run = {query: {document: found[query][document] for document in own} for query, own in judged.items()}
    return {"wikiqa": (wiki, run, "map", 1)}


def msmarco_lists(settings: argparse.Namespace, seed: int) -> Pairs:
    """A marked passage and mined ones of each query, then lists of the graded queries: one of grade 2 or 3, others."""
    marco = read_ranking(settings.data_dir / "rerank_msmarco", "train")
    wanted = {"num_negatives": settings.negatives, "range_max": 50, "sampling": "random", "seed": seed}
    mined = mine_hard_negatives(marco, drop_short=True, **wanted)
    print(mined, file=sys.stderr)
    graded = read_ranking(settings.data_dir / "rerank_trecdl23", "train")
    rng = np.random.default_rng(seed)
    rows = []
    for query, judged in graded.qrels.items():
        best = [document for document, grade in judged.items() if grade >= 2]
        others = [document for document, grade in judged.items() if grade < 2]
        for _ in range(GRADED_LISTS if best else 0):
            chosen = [rng.choice(best), *rng.choice(others, settings.negatives, replace=False)]
            rows.append((graded.queries[query], [graded.documents[d] for d in chosen], [judged[d] for d in chosen]))
    return lists_of(mined.pairs, rows)


def wikiqa_lists(settings: argparse.Namespace, seed: int) -> Pairs:
    """All sentences of each question's article."""
    return read_ranking(settings.data_dir / "rerank_wikiqa", "train").judged_pairs()


def lists_of(pairs: Pairs, rows: list[tuple[str, list[str], list[int]]]) -> Pairs:
    """The groups of `pairs`, then rows of (query, documents, grades)."""
    left = pairs.left + [query for query, documents, _ in rows for _ in documents]
    right = pairs.right + [document for _, documents, _ in rows for document in documents]
    labels = np.concatenate([pairs.labels, [grade for *_, grades in rows for grade in grades]])  # type: ignore[list-item]
    more = pairs.offsets[-1] + np.cumsum([len(documents) for _, documents, _ in rows])
    return Pairs(left, right, labels, np.concatenate([pairs.offsets, more]).astype(np.int64))


def softened(lists: Pairs) -> Pairs:
    """The lists with 20 times the zero-shot cosine plus 3 times the grade as labels: what is near is not all wrong.

    ListNet takes the softmax of the labels, which makes the separate vectors a teacher that the grades correct.
    """
    labels = COSINE_SCALE * dense_cosine(lists.texts) + GRADE_BONUS * np.asarray(lists.labels)
    return replace(lists, labels=labels.astype(np.float32))


TESTS = {"msmarco": msmarco_tests, "wikiqa": wikiqa_tests}
LISTS = {"msmarco": msmarco_lists, "wikiqa": wikiqa_lists}


# --- the sides --------------------------------------------------------------------------------------


def ours(lists: Pairs, settings: argparse.Namespace, seed: int) -> tuple[Callable, dict[str, float]]:
    """The kit's own loop."""
    model = new_model(settings, seed)
    config = TrainingConfig(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=seed,
        token_budget=8192,
    )
    loss = settings.loss if settings.mean_over == "lists" else loss_with(settings.loss, mean_over="pairs")
    minutes = timed(lambda: train(model, lists, loss, config))
    model.save_pretrained(settings.runs / f"model-{settings.task}-{settings.loss}-{seed}")
    return lambda pairs: model.predict(pairs, activation_fn="identity"), minutes


def theirs(lists: Pairs, settings: argparse.Namespace, seed: int) -> tuple[Callable, dict[str, float]]:
    """sentence-transformers' trainer, see `train_peer`."""
    rows = [(example.texts[0], list(example.texts[1:]), np.atleast_1d(example.label).tolist()) for example in lists]
    columns = dict(zip(("query", "docs", "labels"), map(list, zip(*rows, strict=True)), strict=True))
    warmup = -(-len(lists) // settings.batch_size) * settings.epochs // 10
    loss = PEER_LOSSES[settings.loss]
    peer, minutes = train_peer(new_model(settings, seed), columns, loss, settings, seed, warmup, 50)
    identity = torch.nn.Identity()
    return lambda pairs: peer.predict(pairs, activation_fn=identity, show_progress_bar=False), minutes


SIDES = {"crossenc_kit": ours, "sentence-transformers": theirs}
PEER_LOSSES = {"lambda_loss": "LambdaLoss", "listnet": "ListNetLoss", "ranknet": "RankNetLoss"}


def new_model(settings: argparse.Namespace, seed: int) -> CrossEncoder:
    return CrossEncoder(settings.model, num_labels=1, max_length=MAX_LENGTH, seed=seed, device="cpu")


def ranked_by(side: str, seed: int, tests: Mapping[str, Any], settings: argparse.Namespace) -> dict[str, Any]:
    """The side's runs on every test and its minutes, trained unless they are there."""
    files = {name: settings.runs / f"{settings.task}-{side}-{seed}-{name}.trec" for name in tests}
    times = times_of(side, seed, settings)
    if not times.is_file():
        lists = LISTS[settings.task](settings, seed)
        lists = lists[: settings.lists or None]
        lists = softened(lists) if settings.labels == "softened" else lists
        print(f"{settings.task}, seed {seed}: {side} on {lists!r}", file=sys.stderr, flush=True)
        scorer, minutes = SIDES[side](lists, settings, seed)
        for name, (collection, candidates, *_) in tests.items():
            write_run(files[name], rerank(scorer, collection, candidates, 1000), side)
        times.write_text(json.dumps({**minutes, "lists": len(lists), "pairs": lists.num_pairs}))
    return {"times": json.loads(times.read_text()), **{name: read_run(path) for name, path in files.items()}}


def times_of(side: str, seed: int, settings: argparse.Namespace) -> Path:
    """Where a side's minutes are kept; it is written last."""
    return settings.runs / f"{settings.task}-{side}-{seed}.json"


def cosine_runs(tests: Mapping[str, Any], settings: argparse.Namespace) -> dict[str, Run]:
    """The candidates reordered by the cosine of vectors that were not trained here."""
    found: dict[str, Run] = {}
    for test, (collection, candidates, *_) in tests.items():
        path = settings.runs / f"{settings.task}-cosine-{test}.trec"
        if not path.is_file():
            write_run(path, rerank(dense_cosine, collection, candidates, 1000), "cosine")
        found[test] = read_run(path)
    return found


# --- what came of it --------------------------------------------------------------------------------


def report(systems: Any, baselines: Any, tests: Mapping[str, Any], settings: argparse.Namespace) -> None:
    """Print every system on every test with the paired tests, and write the record."""
    comparisons = {}
    for test, (collection, _, metric, relevant) in tests.items():

        def values(run: Run, qrels: Any = collection.qrels, metric: str = metric, least: int = relevant) -> np.ndarray:
            return evaluate_ranking(qrels, run, relevant_from=least, resamples=0).values[metric]

        own = {name: values(runs[test]) for name, runs in baselines.items()}
        for side, seeds in systems.items():
            own[side] = np.mean([values(runs[test]) for runs in seeds.values()], axis=0)
            both = [mixed(runs[test], baselines["zero-shot cosine"][test]) for runs in seeds.values()]
            own[f"{side} + cosine"] = np.mean([values(run) for run in both], axis=0)
        comparisons[test] = compared(own, metric)
        print(f"\n{test}, {metric}, {len(collection.qrels)} queries")
        for name, row in comparisons[test]["systems"].items():
            print(f"  {name:<32}{row['mean']:.4f}  {row['interval'][0]:.3f} to {row['interval'][1]:.3f}")
        for name, row in comparisons[test]["differences"].items():
            print(f"  {name:<58}{row['difference']:+.4f}  p {row['p']:.4f}")
    if settings.json:
        seeds = [seed for seed in settings.seeds if any(seed in own for own in systems.values())]
        runs = [record(settings, seed, systems, tests) for seed in seeds]
        write_result(settings.json, runs, what=(__doc__ or "").splitlines()[0], comparisons=comparisons)


def mixed(run: Run, other: Run) -> dict[str, dict[str, float]]:
    """The mean of both runs' scores, each brought to mean 0 and deviation 1 within a query: no weight is fitted."""
    both = {query: [list(own.values()), [other[query][d] for d in own]] for query, own in run.items()}
    means = {query: ensemble(scores, "standardised_mean") for query, scores in both.items()}
    return {query: dict(zip(own, means[query].tolist(), strict=True)) for query, own in run.items()}


def compared(own: Mapping[str, np.ndarray], metric: str) -> dict[str, Any]:
    """Means over queries (of the mean over seeds) with intervals; each trained system against all others, paired."""
    systems = {
        name: {"mean": float(v.mean()), "interval": bootstrap_interval(np.mean, v, resamples=2000)}
        for name, v in own.items()
    }
    differences = {}
    for name in list(own)[2:]:
        for other in list(own)[: list(own).index(name)]:
            p = randomisation_test(own[name], own[other])
            differences[f"{name} - {other}"] = {"difference": float((own[name] - own[other]).mean()), "p": p}
    return {"metric": metric, "systems": systems, "differences": differences}


def record(settings: argparse.Namespace, seed: int, systems: Any, tests: Mapping[str, Any]) -> dict[str, Any]:
    """A run as the kit's records have it."""
    metrics: dict[str, Any] = {}
    there = {side: seeds for side, seeds in systems.items() if seed in seeds}
    for side, seeds in there.items():
        metrics[side] = {key: value for key, value in seeds[seed]["times"].items() if "minutes" in key}
        for test, (collection, _, metric, relevant) in tests.items():
            names = list(dict.fromkeys([metric, "ndcg@10", "mrr@10", "map"]))
            run, options = seeds[seed][test], {"relevant_from": relevant, "resamples": 0}
            means = evaluate_ranking(collection.qrels, run, **options).means
            metrics[side][test] = {name: means[name] for name in names}
    names = ("task", "model", "loss", "mean_over", "labels", "epochs", "batch_size", "negatives", "learning_rate")
    lists = next(iter(there.values()))[seed]["times"]["lists"]
    command = f"python tests/benchmarks/reranking.py {settings.task} --data-dir DATA --runs RUNS --seeds {seed}"
    command += f" --loss {settings.loss} --mean-over {settings.mean_over} --labels {settings.labels}"
    command += f" --negatives {settings.negatives}"
    command += f" --epochs {settings.epochs} --learning-rate {settings.learning_rate}"
    return run_record(NOTEBOOK, settings, names, metrics, command, lists=lists, seed=seed)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning)
    main()
