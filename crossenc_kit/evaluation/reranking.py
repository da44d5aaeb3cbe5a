"""A model reranks candidates: evaluators for training, several collections, quality by depth.

A first stage's candidates are a run, `{query id: {document id: score}}`. No torch here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossenc_kit.data.collection import Collection, Run
from crossenc_kit.data.documents import check_depth
from crossenc_kit.data.pairs import Pairs, as_pairs
from crossenc_kit.errors import DataError, some
from crossenc_kit.evaluation.ranking import (
    FIRST_STAGE,
    RankingReport,
    evaluate_ranking,
    intervals_of,
    means,
)
from crossenc_kit.evaluation.ranking_metrics import heading, query_values, ranked
from crossenc_kit.history import Report
from crossenc_kit.retrieval.reranking import in_order, reordered, rerank, score_candidates
from crossenc_kit.scorers import Evaluator, Scorer, raw_scorer, score_pairs, warn_at_call

SHOWN = 3  # nDCG, MRR and MAP: what a training run logs


def ranking_evaluator(
    data: Any,
    run: Run | None = None,
    *,
    depth: int = 100,
    k: int = 10,
    relevant_from: float = 1,
    gains: str = "linear",
    ties: str | None = None,
    candidates_in_order: bool = False,
) -> Evaluator:
    """Make an evaluator for `train`: from the model to `{"ndcg@10": ..., "mrr@10": ..., "map": ...}`.

    data: a `Collection`, or lists of candidates with grades (a group per query)
    run: the candidates of a collection; `base_ndcg@10`, ... are those of the run itself
    ties: by default "trec_eval" for a collection, "order_free" for lists, which have no ids
    candidates_in_order: the lists are ordered as a first stage left them, which gives `base_...`

    Raises `DataError` at once for what cannot be measured.
    """
    options: dict[str, Any] = {"k": k, "relevant_from": relevant_from, "gains": gains, "resamples": 0}
    if not isinstance(data, Collection):
        options["ties"] = ties or "order_free"
        return _evaluator_of_lists(as_pairs(data), candidates_in_order, options)
    if run is None:
        raise DataError(
            "reranking a collection needs a run: the candidates of a first stage, for example "
            "bm25_index(collection.documents)(collection.queries)"
        )
    candidates = judged_candidates(data, run, depth)
    options["ties"] = ties or "trec_eval"
    evaluate_ranking(data.qrels, candidates, **options)  # raises now what it would in training

    def evaluate(model: Scorer) -> dict[str, float]:
        return _shown(evaluate_reranking(model, data, candidates, **options))

    return evaluate


def judged_candidates(collection: Collection, run: Run, depth: int) -> dict[str, dict[str, float]]:
    """Cut a run to the first `depth` candidates of the queries that have judgements.

    Equal scores are cut by id, as trec_eval orders them; `rerank` keeps the order of the rows.
    """
    check_depth(depth, "depth")
    collection.check(run)
    asked = {query: found for query, found in run.items() if found and query in collection.qrels}
    if not asked:
        raise DataError("no query that has judgements has candidates in the run")
    if bare := [query for query in collection.qrels if query not in asked]:
        count = f"{len(bare)} of {len(collection.qrels)} judged queries"
        warn_at_call(f"{count} have no candidates and count 0: {some(bare)}")
    return {q: {name: found[name] for name in ranked(found)[:depth]} for q, found in asked.items()}


def evaluate_reranking(scorer: Scorer, collection: Collection, candidates: Run, **options: Any) -> RankingReport:
    """Rerank all candidates and measure them beside their own order."""
    reranked = rerank(scorer, collection, candidates, max(map(len, candidates.values())))
    return evaluate_ranking(collection.qrels, reranked, first_stage=candidates, **options)


def _shown(report: RankingReport) -> dict[str, float]:
    """Pick what a training run logs of a report."""
    own = dict(list(report.means.items())[:SHOWN])
    base = report.baselines.get(FIRST_STAGE, {})
    return own | {f"base_{metric}": base[metric] for metric in own if base}


def _evaluator_of_lists(pairs: Pairs, in_order: bool, options: dict[str, Any]) -> Evaluator:
    """Make the evaluator of groups of candidates, whose ids are their numbers."""
    if pairs.labels is None or pairs.labels.ndim != 1:
        raise DataError("ranking needs one grade per candidate: add a column of labels, one list per query")
    if len(below := np.flatnonzero(pairs.labels < 0)):
        row = int(np.searchsorted(pairs.offsets, below[0], side="right")) - 1
        grade = pairs.labels[below[0]]
        raise DataError(f"row {row}: the grade of a candidate is {grade:g}; grades are 0 or more")
    if pairs.is_pointwise:
        raise DataError(f"all {len(pairs)} queries have one candidate, which leaves nothing to rank")
    bounds = list(zip(pairs.offsets[:-1].tolist(), pairs.offsets[1:].tolist(), strict=True))
    ids = [f"{row:09d}" for row in range(pairs.num_pairs)]

    def table(values: Any) -> dict[str, dict[str, float]]:
        numbers = np.asarray(values, dtype=float).tolist()
        rows = {}
        for query, (start, end) in enumerate(bounds):
            rows[str(query)] = dict(zip(ids[start:end], numbers[start:end], strict=True))
        return rows

    qrels = table(pairs.labels)
    first_stage = table(-np.arange(pairs.num_pairs)) if in_order else None
    evaluate_ranking(qrels, qrels, **options)  # raises now what it would raise in training

    def evaluate(model: Scorer) -> dict[str, float]:
        scores = score_pairs(raw_scorer(model), pairs.texts)
        if scores.ndim != 1:
            raise DataError(f"ranking needs one score per pair, got scores of shape {scores.shape}")
        return _shown(evaluate_ranking(qrels, table(scores), first_stage=first_stage, **options))

    return evaluate


@dataclass(frozen=True, eq=False)
class CollectionsReport(Report):
    """Report a scorer on several collections, and the means over collections, which count alike."""

    reports: dict[str, RankingReport]
    means: dict[str, float]
    first_stage: dict[str, float]  # means over the collections, as the ceiling
    ceiling: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # of the means, 95 %

    @property
    def metrics(self) -> dict[str, float]:
        """Return the means, the first of which selects, then the first stage's, then each one's."""
        found = {f"mean_{metric}": value for metric, value in self.means.items()}
        found |= {f"mean_base_{metric}": value for metric, value in self.first_stage.items()}
        for name, report in self.reports.items():
            found |= {f"{name}_{metric}": value for metric, value in report.metrics.items()}
        return found

    def __str__(self) -> str:
        first = next(iter(self.means))
        width = max(22, *map(len, self.reports))
        head = f"{'queries':>9}{'first stage':>13}{'model':>9}  {'95 % interval':<16}{'ceiling':>9}"
        lines = [f"{len(self.reports)} collections, {heading(first)}", f"  {'':<{width}}{head}"]
        rows: list[tuple[Any, ...]] = [
            (name, own.count, own.baselines[FIRST_STAGE], own) for name, own in self.reports.items()
        ]
        for name, count, base, own in [*rows, ("mean", "", self.first_stage, self)]:
            shown = "{:.3f} to {:.3f}".format(*own.intervals[first]) if own.intervals else ""
            figures = f"{base[first]:>13.3f}{own.means[first]:>9.3f}  {shown:<16}"
            lines.append(f"  {name:<{width}}{count:>9}{figures}{own.ceiling[first]:>9.3f}")
        return "\n".join(lines)


def evaluate_collections(
    scorer: Scorer,
    collections: Mapping[str, tuple[Collection, Run]],
    *,
    depth: int = 100,
    resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> CollectionsReport:
    """Rerank and measure several collections, given by name with the candidates of each.

    `options` go to `evaluate_ranking`. For an evaluator of `train`, return the `.metrics` of this
    report. Raises `DataError` naming the collection that cannot be measured.
    """
    if not collections:
        raise DataError("there are no collections to measure")
    reports = {}
    options |= {"resamples": resamples, "seed": seed}
    for name, (collection, run) in collections.items():
        try:
            candidates = judged_candidates(collection, run, depth)
            reports[name] = evaluate_reranking(scorer, collection, candidates, name=name, **options)
        except DataError as error:
            raise DataError(f"collection {name!r}: {error}") from error
    every = list(reports.values())
    return CollectionsReport(
        reports,
        _mean_of([report.means for report in every]),
        _mean_of([report.baselines[FIRST_STAGE] for report in every]),
        _mean_of([report.ceiling for report in every]),
        {metric: _interval(every, metric, resamples, seed) for metric in every[0].means if resamples},
    )


def _mean_of(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {metric: float(np.mean([own[metric] for own in tables])) for metric in tables[0]}


def _interval(reports: Sequence[RankingReport], metric: str, resamples: int, seed: int) -> tuple[float, float]:
    """Bootstrap the mean over collections, with queries drawn within each of them."""
    rng = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for values in (report.values[metric] for report in reports):
        size = len(values)
        means += [values[rng.integers(size, size=size)].mean() for _ in range(resamples)]
    low, high = np.quantile(means / len(reports), [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class DepthPoint(Report):
    """Report the cost and the quality of reranking the first `depth` candidates of each query."""

    depth: int
    pairs: int  # scored for all queries
    seconds: float  # for these pairs, at the rate measured
    metrics: dict[str, float]  # means over the queries
    intervals: dict[str, tuple[float, float]]  # 95 %; empty without resamples
    ceiling: dict[str, float]  # of the best order of the first `depth`

    def __str__(self) -> str:
        shown = []
        for name, value in self.metrics.items():
            own = self.intervals.get(name)
            interval = f" ({own[0]:.3f} to {own[1]:.3f})" if own else ""
            shown.append(f"{name} {value:.3f}{interval}, at best {self.ceiling[name]:.3f}")
        cost = f"{self.pairs:,} pairs, {self.seconds:.1f} s"
        return f"depth {self.depth}: {cost}; {'; '.join(shown)}"


@dataclass(frozen=True)
class DepthCurve(Report):
    """Hold quality and cost at each depth, as a sequence of points; `metrics` are the deepest's."""

    points: tuple[DepthPoint, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """Return the means at the greatest depth; the first one selects the best model."""
        return max(self.points, key=lambda point: point.depth).metrics

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, at: Any) -> Any:
        return self.points[at]

    def __iter__(self) -> Iterator[DepthPoint]:
        return iter(self.points)

    def __str__(self) -> str:
        return "\n".join(map(str, self.points))


def depth_curve(
    scorer: Scorer,
    collection: Collection,
    run: Run,
    depths: Sequence[int] = (0, 5, 10, 20, 50, 100),
    *,
    k: int = 10,
    resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> DepthCurve:
    """Measure quality and cost of reranking at each of several depths, in their order.

    Pairs are scored once, at the greatest depth, for queries with judgements only; a smaller depth
    is charged its share of the seconds.

    options: `metric`, `relevant_from`, `gains` and `ties`, as in `evaluate_ranking`

    Raises `DataError` if the run does not fit the collection, before anything is scored.
    """
    for depth in depths:
        check_depth(depth, "a depth", least=0)
    collection.check(run)
    qrels = collection.qrels
    candidates = in_order({query: own for query, own in run.items() if query in qrels})
    first_stage = {query: dict(own) for query, own in candidates.items()}
    # Checks the qrels and the options, once for all depths.
    names = list(evaluate_ranking(qrels, first_stage, k=k, resamples=0, **options).means)
    options.pop("metric", None)
    start = time.perf_counter()
    scores = score_candidates(scorer, collection, candidates, max(depths))
    seconds = time.perf_counter() - start
    total = sum(map(len, scores.values()))
    grades = {query: _grades(own, qrels[query]) for query, own in candidates.items()}
    points = []
    for depth in depths:
        ours = {query: reordered(own, scores[query][:depth]) for query, own in candidates.items()}
        best = {query: reordered(own, grades[query][:depth]) for query, own in candidates.items()}
        values = query_values(qrels, ours, names, **options)
        ceiling = means(query_values(qrels, best, names, **options))
        pairs = sum(min(depth, len(own)) for own in scores.values())
        cost = seconds * pairs / max(total, 1)
        intervals = intervals_of(values, resamples, seed)
        points.append(DepthPoint(depth, pairs, cost, means(values), intervals, ceiling))
    return DepthCurve(tuple(points))


def _grades(own: list[tuple[str, float]], judged: Mapping[str, float]) -> np.ndarray:
    return np.array([float(judged.get(document, 0)) for document, _ in own])
