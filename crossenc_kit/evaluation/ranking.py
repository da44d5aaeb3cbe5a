"""A run and judgements become a report: what the first stage found, what reranking could reach, and what it reached.

A run is `{query id: {document id: score}}`, qrels are `{query id: {document id: grade}}`; ties and names of metrics are
those of `run_metrics`. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossenc_kit.data.collection import Qrels, Run, check_form, check_judged, check_qrels
from crossenc_kit.errors import DataError, some
from crossenc_kit.evaluation.comparison import RunComparison, compare_values
from crossenc_kit.evaluation.metrics import bootstrap_interval
from crossenc_kit.evaluation.ranking_metrics import (
    best_order,
    check_options,
    heading,
    judged_share,
    measure_run,
    relevant,
)

FIRST_STAGE = "first stage"
WITHOUT_HIT = ("zero", "leave_out")
METRICS = {"ndcg": "ndcg@{}", "mrr": "mrr@{}", "map": "map", "recall": "recall@{}", "success": "success@{}"}


@dataclass(frozen=True, eq=False)
class RankingReport:
    """How well queries' documents are ordered, beside the first stage, the ceiling and other runs.

    `values`: metric to `(Q,)`, one a query of `query_ids`; `means`, `intervals`: metric to the mean and its bootstrap
    interval over queries at 95 %, the latter empty where none was asked for. `ceiling`: the means of the best order of
    the candidates, which no reranking of them can exceed; `candidates` are the documents of the run and of the first
    stage, counted. `candidate_recall`: the part of a query's relevant documents that are candidates, in the mean over
    the queries that have any. `baselines`: the means of the first stage, if given, and of other runs, by name;
    `comparisons`: this run against each of them by the first metric. `judged`: the part of the first k documents that
    has a judgement, `(Q,)`. Queries by their ids: `missing` have no documents in the run, `without_relevant` no
    relevant document, `without_hit` some, but none among the candidates; `unjudged` are in the run, not in the qrels,
    and not measured. `outside`: how many documents of the run the first stage does not have. `left_out`: whether
    queries without relevant candidates are left out of the Q. `below_zero`: how many grades are below 0 and count as 0.
    """

    name: str
    k: int
    query_ids: tuple[str, ...]
    values: dict[str, np.ndarray]
    means: dict[str, float]
    ceiling: dict[str, float]
    candidates: int
    candidate_recall: float
    judged: np.ndarray
    missing: tuple[str, ...] = ()
    without_relevant: tuple[str, ...] = ()
    without_hit: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    outside: int = 0
    left_out: bool = False
    below_zero: int = 0
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    comparisons: dict[str, RunComparison] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Q, how many queries are in the means."""
        return len(self.query_ids)

    def metrics(self) -> dict[str, float]:
        """Means by name; the first is the one to select by. Those of the first stage, if given, begin with "base_"."""
        base = self.baselines.get(FIRST_STAGE, {})
        return {**self.means, **{f"base_{metric}": value for metric, value in base.items()}}

    def __str__(self) -> str:
        first, *rest = self.means
        rows = {"model": self.means, **self.baselines, "ceiling": self.ceiling}
        width = max(22, *map(len, rows))
        each = self.candidates / max(self.count, 1)
        lines = [f"{self.name}: {self.count:,} queries, {self.candidates:,} candidates ({each:.1f} a query)"]
        columns = "".join(f"{heading(metric):>12}" for metric in rest)
        lines.append(f"  {'':<{width}}{heading(first):>10}  {'95 % interval':<16}{columns}")
        for name, means in rows.items():
            shown = "{:.3f} to {:.3f}".format(*self.intervals[first]) if means is self.means and self.intervals else ""
            columns = "".join(f"{means[metric]:>12.3f}" for metric in rest)
            lines.append(f"  {name:<{width}}{means[first]:>10.3f}  {shown:<16}{columns}")
        for name, found in self.comparisons.items():
            low, high = found.interval
            lines.append(
                f"  {heading(first)} above {name}: {found.difference:+.3f}, {low:+.3f} to {high:+.3f} "
                f"(95 %, paired bootstrap), p = {found.p:.3g}"
            )
        return "\n".join([*lines, *(f"  {note}" for note in self.notes())])

    def notes(self) -> list[str]:
        """What to know of the figures, in words: what the candidates hold, and what is missing, unjudged, left out."""
        fate = "left out, which flatters" if self.left_out else "kept in the means"
        notes = [f"Candidates hold {self.candidate_recall:.3f} of the relevant documents of a query"]
        for what, ids in {
            f"without a relevant candidate, {fate}": self.without_hit,
            f"without any relevant document, {fate}": self.without_relevant,
            "without documents in the run": self.missing,
            "of the run without judgements, not measured": self.unjudged,
        }.items():
            notes += [f"Queries {what}: {len(ids):,} ({some(ids)})"] if ids else []
        if self.outside:
            notes.append(
                f"Documents of the run that are not in the first stage: {self.outside:,}; no reranking has these"
            )
        if self.below_zero:
            notes.append(f"Grades below 0, which count as 0: {self.below_zero:,}")
        shares = self.judged[[query not in self.missing for query in self.query_ids]]
        if len(shares) and shares.mean() < 1:
            notes.append(f"Judged are {shares.mean():.1%} of the first {self.k}; what is not counts as not relevant")
        return notes


def evaluate_ranking(
    run: Run,
    qrels: Qrels,
    *,
    k: int = 10,
    relevant_from: float = 1,
    gains: str = "linear",
    first_stage: Run | None = None,
    baselines: Mapping[str, Run] | None = None,
    queries_without_hit: str = "zero",
    metric: str = "ndcg",
    resamples: int = 1000,
    seed: int = 0,
    ties: str = "trec_eval",
    name: str = "",
) -> RankingReport:
    """nDCG@k, MRR@k, MAP, recall@k and success@k of a run, over all queries of the qrels.

    `relevant_from`: the lowest grade that is relevant, for all but nDCG. `gains`: "linear" or "exponential", for nDCG.
    `first_stage`: the run whose candidates are reranked. `baselines`: other runs, by name. `queries_without_hit`: a
    query that has no relevant candidate is "zero", or is "leave_out" of all means, which says how good the order is
    where there is one. `metric`: "ndcg" (or with its k, "ndcg@10"), "mrr", "map", "recall" or "success", which stands
    first and is compared. `resamples=0` skips intervals and comparisons. Figures of a complete run equal those of
    trec_eval.

    Raises `DataError` where a run or the qrels have another form, an id that is no string or a number that is not
    finite, where no query of a run has judgements, and where no query is left.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, got {k!r}")
    metric = _kind(metric, k)
    if queries_without_hit not in WITHOUT_HIT:
        raise ValueError(f"queries_without_hit must be one of {', '.join(WITHOUT_HIT)}; got {queries_without_hit!r}")
    names = [METRICS[kind].format(k) for kind in (metric, *(other for other in METRICS if other != metric))]
    check_options(names, relevant_from, gains, ties)
    others = _others(run, qrels, first_stage, baselines)
    status, left_out = _status(run, qrels, first_stage, relevant_from), queries_without_hit == "leave_out"
    kept = _kept(qrels, status, left_out)
    candidates = _candidates(run, first_stage, kept)
    options: dict[str, Any] = {"relevant_from": relevant_from, "gains": gains, "ties": ties}
    values, *more = (measure_run(table, kept, names, **options) for table in (run, *others.values()))
    measured = dict(zip(others, more, strict=True))
    return RankingReport(
        name or "evaluation",
        k,
        tuple(kept),
        values,
        _means(values),
        _means(measure_run(best_order(candidates, kept), kept, names, **options)),
        sum(map(len, candidates.values())),
        _recall(candidates, kept, relevant_from),
        judged_share(run, kept, k, ties=ties),
        **status,
        left_out=left_out,
        below_zero=sum(grade < 0 for judged in kept.values() for grade in judged.values()),
        intervals=_intervals(values, resamples, seed),
        baselines={key: _means(own) for key, own in measured.items()},
        comparisons=_comparisons(values, measured, tuple(kept), resamples, seed),
    )


def _kind(metric: str, k: int) -> str:
    """The kind of a metric that is given so, or with its k; `ValueError` for any other."""
    metric = {form.format(k): kind for kind, form in METRICS.items()}.get(metric, metric)
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, which have k={k}; got {metric!r}")
    return metric


def _others(run: Run, qrels: Qrels, first_stage: Run | None, baselines: Mapping[str, Run] | None) -> dict[str, Run]:
    """The first stage and the baselines by name, after a look at all that is measured."""
    check_qrels(qrels)
    others = {**({} if first_stage is None else {FIRST_STAGE: first_stage}), **(baselines or {})}
    taken = {"model", "ceiling", *([FIRST_STAGE] if first_stage is not None else [])} & set(baselines or {})
    if taken:
        raise ValueError(f"a baseline is called {min(taken)!r}, as another row of the table is; give it another name")
    for what, table in {"the run": run, **{f"the run of {key!r}": other for key, other in others.items()}}.items():
        check_form(table, what)
        check_judged(table, qrels, what)
    return others


def _candidates(run: Run, first_stage: Run | None, qrels: Qrels) -> dict[str, dict[str, float]]:
    """The documents of each query of the qrels that the run or the first stage has."""
    return {query: dict.fromkeys([*run.get(query, ()), *(first_stage or {}).get(query, ())], 0.0) for query in qrels}


def _status(run: Run, qrels: Qrels, first_stage: Run | None, relevant_from: float) -> dict[str, Any]:
    """What a report says of queries, by id, and how many documents of the run no first stage gave."""
    candidates = _candidates(run, first_stage, qrels)
    sought = {query: relevant(judged, relevant_from) for query, judged in qrels.items()}
    outside = (
        [len(found.keys() - first_stage.get(query, {}).keys()) for query, found in run.items()] if first_stage else []
    )
    return {
        "missing": tuple(query for query in qrels if not run.get(query)),
        "without_relevant": tuple(query for query in qrels if not sought[query]),
        "without_hit": tuple(q for q in qrels if sought[q] and not sought[q] & candidates[q].keys()),
        "unjudged": tuple(query for query in run if query not in qrels),
        "outside": sum(outside),
    }


def _kept(qrels: Qrels, status: Mapping[str, Any], leave_out: bool) -> Qrels:
    """The qrels of the queries that are measured."""
    gone = {*status["without_hit"], *status["without_relevant"]} if leave_out else set()
    kept = {query: judged for query, judged in qrels.items() if query not in gone}
    if not kept:
        raise DataError(f"none of the {len(qrels)} queries has a relevant candidate: none is left to measure")
    return kept


def _recall(candidates: Run, qrels: Qrels, relevant_from: float) -> float:
    """The mean part of a query's relevant documents that are candidates; 0 where no query has any."""
    sought = {query: relevant(judged, relevant_from) for query, judged in qrels.items()}
    parts = [len(own & candidates[query].keys()) / len(own) for query, own in sought.items() if own]
    return float(np.mean(parts)) if parts else 0.0


def _means(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(own.mean()) for name, own in values.items()}


def _intervals(values: Mapping[str, np.ndarray], resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    if not resamples:
        return {}
    return {name: bootstrap_interval(np.mean, own, resamples=resamples, seed=seed) for name, own in values.items()}


def _comparisons(
    ours: Mapping[str, np.ndarray],
    others: Mapping[str, Mapping[str, np.ndarray]],
    query_ids: tuple[str, ...],
    resamples: int,
    seed: int,
) -> dict[str, RunComparison]:
    """This run against each of the others, by the first metric."""
    metric = next(iter(ours))
    return {
        key: compare_values(("model", key), metric, query_ids, ours[metric], theirs[metric], resamples, seed)
        for key, theirs in others.items()
        if resamples
    }
