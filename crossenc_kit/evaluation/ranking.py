"""Rankings: a run and judgements become a report, beside the first stage and the ceiling.

qrels are `{query id: {document id: grade}}`, a run is `{query id: {document id: score}}`. Ties and
the names of metrics are those of `ranking_metrics`. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossenc_kit.data.collection import Qrels, Run, check_form, check_judged, check_qrels
from crossenc_kit.errors import some
from crossenc_kit.evaluation.comparison import Comparison, compare_values
from crossenc_kit.evaluation.metrics import bootstrap_interval
from crossenc_kit.evaluation.ranking_metrics import (
    best_order,
    check_options,
    heading,
    judged_share,
    query_values,
    relevant,
)
from crossenc_kit.history import Report

FIRST_STAGE = "first stage"
FORMS = {
    "ndcg": "ndcg@{}",
    "mrr": "mrr@{}",
    "map": "map",
    "recall": "recall@{}",
    "success": "success@{}",
}


@dataclass(frozen=True, eq=False)
class RankingReport(Report):
    """Report how well the documents of Q queries are ordered, by metric.

    Candidates are the documents of the run and of the first stage.
    """

    name: str
    k: int
    query_ids: tuple[str, ...]  # Q
    values: dict[str, np.ndarray]  # metric to (Q,)
    means: dict[str, float]
    ceiling: dict[str, float]  # of the best order of the candidates; no reranking exceeds it
    candidates: int  # documents, of all queries
    candidate_recall: float  # of a query's relevant documents, over queries that have any
    judged: np.ndarray  # (Q,), the share of the first k documents that was judged
    missing: tuple[str, ...] = ()  # queries without documents in the run
    without_relevant: tuple[str, ...] = ()  # queries without a relevant document
    without_hit: tuple[str, ...] = ()  # queries with some, but none among the candidates
    unjudged: tuple[str, ...] = ()  # queries of the run without judgements, not measured
    outside: int = 0  # documents of the run that the first stage lacks
    below_zero: int = 0  # grades below 0, which count as 0
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # 95 %, over queries
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)  # means of other runs
    comparisons: dict[str, Comparison] = field(default_factory=dict)  # with them, by first metric

    @property
    def count(self) -> int:
        """Return Q, the number of queries in the means."""
        return len(self.query_ids)

    @property
    def metrics(self) -> dict[str, float]:
        """Return the means, then those of the first stage as "base_..."; the first one selects."""
        base = self.baselines.get(FIRST_STAGE, {})
        return {**self.means, **{f"base_{metric}": value for metric, value in base.items()}}

    def means_with_hit(self) -> dict[str, float]:
        """Average over queries with a relevant candidate only: how good the order is where it counts.

        Quote these beside the means, which they flatter.
        """
        gone = {*self.without_hit, *self.without_relevant}
        kept = [query not in gone for query in self.query_ids]
        return {metric: float(own[kept].mean()) for metric, own in self.values.items()}

    def __str__(self) -> str:
        first, *rest = self.means
        rows = {"model": self.means, **self.baselines, "ceiling": self.ceiling}
        width = max(22, *map(len, rows))
        counts = f"{self.count:,} queries, {self.candidates:,} candidates"
        lines = [f"{self.name}: {counts} ({self.candidates / self.count:.1f} a query)"]
        columns = "".join(f"{heading(metric):>12}" for metric in rest)
        lines.append(f"  {'':<{width}}{heading(first):>10}  {'95 % interval':<16}{columns}")
        for name, means in rows.items():
            shown = ""
            if means is self.means and self.intervals:
                shown = "{:.3f} to {:.3f}".format(*self.intervals[first])
            columns = "".join(f"{means[metric]:>12.3f}" for metric in rest)
            lines.append(f"  {name:<{width}}{means[first]:>10.3f}  {shown:<16}{columns}")
        for name, found in self.comparisons.items():
            low, high = found.interval
            lines.append(
                f"  {heading(first)} above {name}: {found.difference:+.3f}, {low:+.3f} to "
                f"{high:+.3f} (95 %, paired bootstrap), p = {found.p:.3g}"
            )
        return "\n".join([*lines, *(f"  {note}" for note in self.notes())])

    def notes(self) -> list[str]:
        """Say in words what the candidates hold, and what is missing or was not judged."""
        recall = f"{self.candidate_recall:.3f}"
        notes = [f"Candidates hold {recall} of the relevant documents of a query"]
        for what, ids in {
            "Queries without a relevant candidate": self.without_hit,
            "Queries without any relevant document": self.without_relevant,
            "Queries without documents in the run": self.missing,
            "Queries of the run without judgements, not measured": self.unjudged,
        }.items():
            notes += [f"{what}: {len(ids):,} ({some(ids)})"] if ids else []
        if self.outside:
            what = "Documents of the run that are not in the first stage"
            notes.append(f"{what}: {self.outside:,}; no reranking has these")
        if self.below_zero:
            notes.append(f"Grades below 0, which count as 0: {self.below_zero:,}")
        shares = self.judged[[query not in self.missing for query in self.query_ids]]
        if len(shares) and shares.mean() < 1:
            share = f"{shares.mean():.1%} of the first {self.k}"
            notes.append(f"Judged are {share}; what is not counts as not relevant")
        return notes


def evaluate_ranking(
    qrels: Qrels,
    run: Run,
    *,
    k: int = 10,
    metric: str = "ndcg",
    relevant_from: float = 1,
    gains: str = "linear",
    ties: str = "trec_eval",
    first_stage: Run | None = None,
    baselines: Mapping[str, Run] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    name: str = "",
) -> RankingReport:
    """Measure nDCG@k, MRR@k, MAP, recall@k and success@k of a run over all queries of the qrels.

    metric: stands first and is compared: "ndcg", "mrr", "map", "recall" or "success"
    relevant_from: the lowest grade that is relevant, for all but nDCG
    gains: of nDCG, "linear" or "exponential"
    first_stage, baselines: the run whose candidates are reranked, and other runs by name
    resamples: of the bootstrap; 0 skips intervals and comparisons

    Raises `DataError` if a run or the qrels have another form, or no query in common.
    """
    names = _names(metric, k)
    check_options(names, relevant_from, gains, ties)
    others = _others(qrels, run, first_stage, baselines)
    candidates = _candidates(qrels, run, first_stage)
    options: dict[str, Any] = {"relevant_from": relevant_from, "gains": gains, "ties": ties}
    values = query_values(qrels, run, names, **options)
    measured = {key: query_values(qrels, own, names, **options) for key, own in others.items()}
    sought = {query: relevant(judged, relevant_from) for query, judged in qrels.items()}
    again: dict[str, Any] = {"resamples": resamples, "seed": seed}
    comparisons = {}
    for key, theirs in measured.items() if resamples else ():
        both = {"ours": values[names[0]], "theirs": theirs[names[0]], **again}
        comparisons[key] = compare_values(("model", key), names[0], tuple(qrels), **both)
    return RankingReport(
        name or "evaluation",
        k,
        tuple(qrels),
        values,
        means(values),
        means(query_values(qrels, best_order(qrels, candidates), names, **options)),
        sum(map(len, candidates.values())),
        _recall(sought, candidates),
        judged_share(qrels, run, k, ties=ties),
        missing=tuple(query for query in qrels if not run.get(query)),
        without_relevant=tuple(query for query in qrels if not sought[query]),
        without_hit=tuple(q for q in qrels if sought[q] and not sought[q] & candidates[q].keys()),
        unjudged=tuple(query for query in run if query not in qrels),
        outside=_outside(run, first_stage),
        below_zero=sum(grade < 0 for judged in qrels.values() for grade in judged.values()),
        intervals=intervals_of(values, **again),
        baselines={key: means(own) for key, own in measured.items()},
        comparisons=comparisons,
    )


def _names(metric: str, k: int) -> list[str]:
    """Return the metrics' names with their k, `metric` first."""
    names = {kind: form.format(k) for kind, form in FORMS.items()}
    first = names.get(metric, metric)
    if first not in names.values():
        known = ", ".join(FORMS)
        raise ValueError(f"metric must be one of {known}, which have k={k}; got {metric!r}")
    return [first, *(other for other in names.values() if other != first)]


def _others(qrels: Qrels, run: Run, first_stage: Run | None, baselines: Mapping[str, Run] | None) -> dict[str, Run]:
    """Check the qrels and all runs; return the first stage and the baselines by name."""
    check_qrels(qrels)
    first = {} if first_stage is None else {FIRST_STAGE: first_stage}
    if taken := {"model", "ceiling", *first} & set(baselines or {}):
        raise ValueError(f"another row of the table is called {min(taken)!r}; rename the baseline")
    others = {**first, **(baselines or {})}
    runs = {"the run": run, **{f"the run of {key!r}": other for key, other in others.items()}}
    for what, own in runs.items():
        check_form(own, what)
        check_judged(own, qrels, what)
    return others


def _candidates(qrels: Qrels, run: Run, first_stage: Run | None) -> dict[str, dict[str, float]]:
    """Return the documents that the run or the first stage has for each query of the qrels."""
    more = first_stage or {}
    return {q: dict.fromkeys([*run.get(q, ()), *more.get(q, ())], 0.0) for q in qrels}


def _recall(sought: Mapping[str, set[str]], candidates: Run) -> float:
    """Average the share of each query's relevant documents that are candidates."""
    shares = [len(own & candidates[q].keys()) / len(own) for q, own in sought.items() if own]
    return float(np.mean(shares)) if shares else 0.0


def _outside(run: Run, first_stage: Run | None) -> int:
    """Count the documents of the run that the first stage did not find."""
    if not first_stage:
        return 0
    return sum(len(own.keys() - first_stage.get(query, {}).keys()) for query, own in run.items())


def means(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Average each metric over the queries, `(Q,)` each."""
    return {name: float(own.mean()) for name, own in values.items()}


def intervals_of(values: Mapping[str, np.ndarray], resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return the bootstrap interval over queries of each metric's mean; none without resamples."""
    if not resamples:
        return {}
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    return {key: bootstrap_interval(np.mean, own, **options) for key, own in values.items()}
