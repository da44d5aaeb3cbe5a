"""A model reranks the candidates of one collection or several: evaluators for training, and a report of them all.

Documents and queries are `{id: text}`, qrels `{query id: {document id: grade}}`, and a first stage's candidates a run,
`{query id: {document id: score}}`. No torch here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.collection import Qrels, Run, check_form, check_judged, check_qrels
from crossenc_kit.data.documents import check_depth
from crossenc_kit.data.pairs import Pairs, as_pairs
from crossenc_kit.errors import DataError, some
from crossenc_kit.evaluation.ranking import FIRST_STAGE, RankingReport, evaluate_ranking
from crossenc_kit.evaluation.ranking_metrics import heading, ranked
from crossenc_kit.retrieval.reranking import (
    PAIRS_AT_ONCE,
    _grades,
    _reordered,
    candidate_pairs,
    in_order,
    rerank,
    score_candidates,
)
from crossenc_kit.scorers import Scorer, raw_scorer, score_pairs, warn_at_call

SHOWN = 3  # nDCG, MRR and MAP: what a run of training logs
Evaluator = Callable[[Scorer], dict[str, float]]


class Task(NamedTuple):
    """What is reranked: texts by id, judgements, and the candidates, cut to a depth, of queries that are judged."""

    documents: Mapping[str, Any]
    queries: Mapping[str, str]
    qrels: Qrels
    run: Run


def ranking_evaluator(
    data: Any,
    *,
    queries: Mapping[str, str] | None = None,
    qrels: Qrels | None = None,
    run: Run | None = None,
    depth: int = 100,
    k: int = 10,
    relevant_from: float = 1,
    gains: str = "linear",
    ties: str | None = None,
    candidates_in_order: bool = False,
) -> Evaluator:
    """An evaluator for `train`: a function from the model to `{"ndcg@10": ..., "mrr@10": ..., "map": ...}`.

    `data`: lists of candidates with grades (anything `as_pairs` takes, a group a query), which are all that is judged;
    or a collection, as documents beside `queries` and `qrels`, or as an object that has these three. Of a collection
    the first `depth` candidates of `run` are reranked, relevant documents that it lacks count, and `base_ndcg@10`, ...
    are of the run itself; of lists there are such figures with `candidates_in_order`, where their order is that of a
    first stage. `ties`: by default those of trec_eval for a collection, and order-free for lists, which have no ids.
    A model is measured by its raw scores, see `reranking.raw_scorer`; other options are those of `evaluate_ranking`.
    A warning counts judged queries that have no candidates, which count 0. What cannot be measured raises `DataError`
    at once.
    """
    options: dict[str, Any] = {"k": k, "relevant_from": relevant_from, "gains": gains, "resamples": 0}
    if queries is None and qrels is None and run is None and not hasattr(data, "qrels"):
        return _evaluator_of_lists(as_pairs(data), candidates_in_order, {**options, "ties": ties or "order_free"})
    task = as_task(data, queries, qrels, run, depth)
    options["ties"] = ties or "trec_eval"
    evaluate_ranking(task.run, task.qrels, **options)  # raises now what it would raise in training

    def evaluate(model: Scorer) -> dict[str, float]:
        return _shown(evaluate_task(model, task, **options))

    return evaluate


def as_task(
    data: Any,
    queries: Mapping[str, str] | None = None,
    qrels: Qrels | None = None,
    run: Run | None = None,
    depth: int = 100,
) -> Task:
    """A collection and candidates for it, checked; raises `DataError` for ids without a text, of qrels and run.

    Queries of the run that have no judgements are left out; judged ones without candidates are counted in a warning.
    Where `depth` cuts equal scores, the higher ids stay, as trec_eval orders them, whatever the order of the run's rows
    (`rerank` keeps the first of the rows).
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    documents = getattr(data, "documents", data)
    queries = getattr(data, "queries", None) if queries is None else queries
    qrels = getattr(data, "qrels", None) if qrels is None else qrels
    for name, part in {"queries": queries, "qrels": qrels, "run": run}.items():
        if part is None:
            what = {"run": "the candidates of a first stage, for example bm25_run(documents, queries)"}.get(name, name)
            raise DataError(f"reranking a collection needs its documents, queries, qrels and a run; {what} is missing")
    check_qrels(qrels)
    check_form(run)
    check_judged(run or {}, qrels or {})
    asked = {query: found for query, found in (run or {}).items() if found and query in (qrels or {})}
    candidates = {query: {name: found[name] for name in ranked(found)[:depth]} for query, found in asked.items()}
    if not candidates:
        raise DataError("no query that has judgements has candidates in the run: there is nothing to rerank")
    candidate_pairs(queries or {}, documents, in_order(candidates), depth)
    _check_ids(documents, queries or {}, qrels or {}, run or {})
    if bare := [query for query in qrels or {} if query not in candidates]:
        warn_at_call(f"{len(bare)} of {len(qrels or {})} judged queries have no candidates and count 0: {some(bare)}")
    return Task(documents, queries or {}, qrels or {}, candidates)


def _check_ids(documents: Any, queries: Mapping[str, str], qrels: Qrels, run: Run) -> None:
    """Raise `DataError` where queries and relevant documents that are judged or found have no text."""
    if strange := [query for query in run if query not in queries and query not in qrels]:
        raise DataError(
            f"{len(strange)} query ids of the run are not among the {len(queries)} texts given: {some(strange)}"
        )
    sought = dict.fromkeys(document for judged in qrels.values() for document, grade in judged.items() if grade > 0)
    for kind, ids, texts in (("query", qrels, queries), ("relevant document", sought, documents)):
        if unknown := [name for name in ids if name not in texts]:
            raise DataError(
                f"the qrels have {len(unknown)} {kind} ids that are not among the {len(texts)} texts given: "
                f"{some(unknown)}; add their texts, or take them out"
            )


def evaluate_task(scorer: Scorer, task: Task, **options: Any) -> RankingReport:
    """The report of a scorer's reranking beside the candidates' own order; `options` go to `evaluate_ranking`."""
    depth = max(map(len, task.run.values()))
    reranked = rerank(scorer, task.queries, task.documents, task.run, depth)
    return evaluate_ranking(reranked, task.qrels, first_stage=task.run, **options)


@dataclass(frozen=True, eq=False)
class CollectionsReport:
    """A scorer on several collections: the report of each, and the means over collections, which count alike.

    `means`, `first_stage`, `ceiling`: metric to the mean over the collections. `intervals`: metric to the bootstrap
    interval of `means` at 95 %, of the queries within each collection; empty where none was asked for.
    """

    reports: dict[str, RankingReport]
    means: dict[str, float]
    first_stage: dict[str, float]
    ceiling: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """The means by name, the first to select by, then those of the first stage, then those of each collection."""
        found = {f"mean_{metric}": value for metric, value in self.means.items()}
        found |= {f"mean_base_{metric}": value for metric, value in self.first_stage.items()}
        each = ((name, report.metrics()) for name, report in self.reports.items())
        return found | {f"{name}_{metric}": value for name, own in each for metric, value in own.items()}

    def __str__(self) -> str:
        first = next(iter(self.means))
        width = max(22, *map(len, self.reports))
        lines = [f"{len(self.reports)} collections, {heading(first)}"]
        lines.append(
            f"  {'':<{width}}{'queries':>9}{'first stage':>13}{'model':>9}  {'95 % interval':<16}{'ceiling':>9}"
        )
        rows: list[tuple[str, Any, dict, dict, dict, dict]] = [
            (name, own.count, own.baselines[FIRST_STAGE], own.means, own.intervals, own.ceiling)
            for name, own in self.reports.items()
        ]
        rows.append(("mean", "", self.first_stage, self.means, self.intervals, self.ceiling))
        for name, count, base, means, intervals, ceiling in rows:
            shown = "{:.3f} to {:.3f}".format(*intervals[first]) if intervals else ""
            figures = f"{base[first]:>13.3f}{means[first]:>9.3f}  {shown:<16}{ceiling[first]:>9.3f}"
            lines.append(f"  {name:<{width}}{count:>9}{figures}")
        return "\n".join(lines)


def evaluate_collections(
    scorer: Scorer,
    collections: Mapping[str, Sequence[Any]],
    *,
    depth: int = 100,
    resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> CollectionsReport:
    """Rerank and measure several collections: name to `(documents, queries, qrels, run)` or `(collection, run)`.

    `options` go to `evaluate_ranking`. Raises `DataError` naming the collection that cannot be measured.
    """
    tasks = _tasks(collections, depth)
    options |= {"resamples": resamples, "seed": seed}
    reports = {name: evaluate_task(scorer, task, name=name, **options) for name, task in tasks.items()}
    every = list(reports.values())
    return CollectionsReport(
        reports,
        _mean_of([report.means for report in every]),
        _mean_of([report.baselines[FIRST_STAGE] for report in every]),
        _mean_of([report.ceiling for report in every]),
        {metric: _interval(every, metric, resamples, seed) for metric in every[0].means if resamples},
    )


def collections_evaluator(collections: Mapping[str, Sequence[Any]], *, depth: int = 100, **options: Any) -> Evaluator:
    """An evaluator for `train` over several collections: `{"mean_ndcg@10": ..., "name_ndcg@10": ...}` and the like.

    Arguments are those of `evaluate_collections`.
    """
    tasks = {name: tuple(task) for name, task in _tasks(collections, depth).items()}

    def evaluate(model: Scorer) -> dict[str, float]:
        return evaluate_collections(model, tasks, depth=depth, resamples=0, **options).metrics()

    return evaluate


def _tasks(collections: Mapping[str, Sequence[Any]], depth: int) -> dict[str, Task]:
    if not collections:
        raise DataError("there are no collections to measure")
    tasks = {}
    for name, parts in collections.items():
        if len(parts) not in (2, 4):
            raise DataError(f"collection {name!r}: expected (documents, queries, qrels, run), got {len(parts)} parts")
        data, queries, qrels, run = parts if len(parts) == 4 else (parts[0], None, None, parts[1])
        try:
            tasks[name] = as_task(data, queries, qrels, run, depth)
        except DataError as error:
            raise DataError(f"collection {name!r}: {error}") from error
    return tasks


def _mean_of(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {metric: float(np.mean([table[metric] for table in tables])) for metric in tables[0]}


def _interval(reports: Sequence[RankingReport], metric: str, resamples: int, seed: int) -> tuple[float, float]:
    """The bootstrap interval of the mean over collections, queries drawn within each."""
    rng = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for values in (report.values[metric] for report in reports):
        means += [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means / len(reports), [0.025, 0.975])
    return float(low), float(high)


def _shown(report: RankingReport) -> dict[str, float]:
    """What a run of training logs of a report."""
    own = dict(list(report.means.items())[:SHOWN])
    base = report.baselines.get(FIRST_STAGE, {})
    return own | {f"base_{metric}": base[metric] for metric in own if base}


def _evaluator_of_lists(pairs: Pairs, in_order: bool, options: dict[str, Any]) -> Evaluator:
    """The evaluator of groups of candidates: ids are made of the groups' and candidates' numbers."""
    if pairs.labels is None or pairs.labels.ndim != 1:
        raise DataError("ranking needs one grade a candidate: add a column named label or labels, a list a query")
    if len(below := np.flatnonzero(np.asarray(pairs.labels) < 0)):
        row = int(np.searchsorted(pairs.offsets, below[0], side="right")) - 1
        raise DataError(
            f"row {row}: the grade of a candidate is {pairs.labels[below[0]]:g}, below 0 ({len(below)} in all); "
            "grades are 0 or more"
        )
    if pairs.is_pointwise:
        raise DataError(
            f"all {len(pairs)} queries have one candidate, which leaves nothing to rank; "
            "give each query the list of its candidates"
        )
    bounds = list(zip(pairs.offsets[:-1].tolist(), pairs.offsets[1:].tolist(), strict=True))
    ids = [f"{row:09d}" for row in range(pairs.num_pairs)]

    def table(values: Any) -> dict[str, dict[str, float]]:
        numbers = np.asarray(values, dtype=float).tolist()
        return {str(i): dict(zip(ids[a:b], numbers[a:b], strict=True)) for i, (a, b) in enumerate(bounds)}

    qrels = table(pairs.labels)
    first_stage = table(-np.arange(pairs.num_pairs)) if in_order else None
    evaluate_ranking(qrels, qrels, **options)  # raises now what it would raise in training

    def evaluate(model: Scorer) -> dict[str, float]:
        scores = score_pairs(raw_scorer(model), pairs.texts)
        if scores.ndim != 1:
            raise DataError(f"ranking needs one score a pair, the scorer gave scores of shape {scores.shape}")
        return _shown(evaluate_ranking(table(scores), qrels, first_stage=first_stage, **options))

    return evaluate


@dataclass(frozen=True)
class DepthPoint:
    """What reranking the first `depth` candidates of each query costs, and what it reaches.

    `pairs`: scored for all queries; `seconds`: for them, at the rate measured. `metrics`: means over the queries;
    `intervals`: their bootstrap intervals at 95 %; `ceiling`: the means of the best order of the first `depth`.
    """

    depth: int
    pairs: int
    seconds: float
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    ceiling: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = []
        for name, value in self.metrics.items():
            interval = " ({:.3f} to {:.3f})".format(*self.intervals[name]) if name in self.intervals else ""
            best = f", at best {self.ceiling[name]:.3f}" if name in self.ceiling else ""
            shown.append(f"{name} {value:.3f}{interval}{best}")
        return f"depth {self.depth}: {self.pairs:,} pairs, {self.seconds:.1f} s; {'; '.join(shown)}"


def depth_curve(
    scorer: Scorer,
    queries: Mapping[str, str],
    documents: Mapping[str, Any],
    run: Mapping[str, Mapping[str, float]],
    qrels: Mapping[str, Mapping[str, float]],
    depths: Sequence[int] = (0, 5, 10, 20, 50, 100),
    k: int = 10,
    *,
    pairs_at_once: int = PAIRS_AT_ONCE,
    **options: Any,
) -> list[DepthPoint]:
    """Quality and cost of reranking at each of several depths, in their order.

    Scored once, at the greatest depth; smaller ones reuse the scores, and their seconds are their part of the pairs.
    Only queries with judgements are scored. `options` go to `evaluate_ranking` (`relevant_from`, `gains`,
    `resamples`, `seed`). Raises what `rerank` and `evaluate_ranking` raise.
    """
    if not depths:
        raise ValueError("there are no depths; give one or more whole numbers")
    for depth in depths:
        check_depth(depth, "a depth", least=0)
    check_qrels(qrels)
    check_form(run)
    check_judged(run, qrels)
    candidates = in_order({query: own for query, own in run.items() if query in qrels})
    first_stage = {query: dict(own) for query, own in candidates.items()}
    evaluate_ranking(first_stage, qrels, k=k, **{**options, "resamples": 0})  # raises before anything is scored
    start = time.perf_counter()
    scores = score_candidates(scorer, queries, documents, candidates, max(depths), pairs_at_once)
    seconds = time.perf_counter() - start
    total = sum(map(len, scores.values()))
    grades = {query: _grades(own, qrels[query]) for query, own in candidates.items()}
    points = []
    for depth in depths:
        reranked = {query: _reordered(own, scores[query][:depth]) for query, own in candidates.items()}
        best = {query: _reordered(own, grades[query][:depth]) for query, own in candidates.items()}
        report = evaluate_ranking(reranked, qrels, k=k, **options)
        pairs = sum(min(depth, len(own)) for own in scores.values())
        ceiling = evaluate_ranking(best, qrels, k=k, **{**options, "resamples": 0}).means
        points.append(
            DepthPoint(depth, pairs, seconds * pairs / max(total, 1), report.means, report.intervals, ceiling)
        )
    return points
