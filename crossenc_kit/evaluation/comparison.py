"""Is one system better than another, or lucky? Two tests of paired values: random signs, and McNemar's.

Both systems are measured on the same N items, ours and theirs in the same order. A p is the chance of a
difference at least this large, in either direction, if the two systems were equally good.

Two runs on the same queries: by how much one is better, and whether that is more than luck.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.collection import Qrels, Run, check_form, check_judged, check_qrels
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.classification import ClassificationReport
from crossenc_kit.evaluation.metrics import bootstrap_interval
from crossenc_kit.evaluation.ranking_metrics import check_options, heading, measure_run

MOST_EXACT = 12  # up to so many items that differ, all 2^N signs are tried
BLOCK = 2**20  # signs in memory at once


class McNemar(NamedTuple):
    """Items that only ours, and only theirs, got right; the two-sided p of the exact test."""

    only_ours: int
    only_theirs: int
    p: float


def randomisation_test(ours: ArrayLike, theirs: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> float:
    """The two-sided p of the mean difference of paired values `(N,)` under random signs of the differences.

    If the systems are equally good, each difference could as well have had the other sign. p is the share of sign
    patterns whose |mean| is at least the observed one: of all of them where at most 12 items differ, else of
    `resamples` random ones with the observed one added, (1 + count) / (1 + resamples), so that p is never 0.
    Edgington, "Randomization Tests", 1980; Smucker, Allan and Carterette, "A comparison of statistical
    significance tests for information retrieval evaluation", 2007. Deterministic in `seed`.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    x, y = _paired(ours, theirs, "value")
    difference = x - y
    difference = difference[difference != 0]  # a sign does not change 0
    # Sums of the same numbers differ by rounding; what should be a tie counts as one.
    least = abs(difference.sum()) - 1e-12 * np.abs(difference).sum()
    if len(difference) <= MOST_EXACT:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(difference))))
        return float(np.mean(np.abs(signs @ difference) >= least))
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(difference))
    count = 0
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start), math.ceil(len(difference) / 8)
        kept = np.unpackbits(rng.integers(256, size=size, dtype=np.uint8), axis=1, count=len(difference))
        # What keeps its sign, less what does not; a product so thin is faster here than on several threads.
        sums = 2 * np.einsum("rn,n->r", kept, difference) - difference.sum()
        count += int(np.count_nonzero(np.abs(sums) >= least))
    return (1 + count) / (1 + resamples)


def mcnemar(ours_correct: ArrayLike, theirs_correct: ArrayLike) -> McNemar:
    """McNemar's exact test of two columns `(N,)` of right (1, True) and wrong (0, False).

    Items that both or neither got right say nothing about the difference. Of the others, each is a coin's toss if the
    systems are equally good: p = 2 P(X <= min(only ours, only theirs)), X binomial with probability 1/2, at most 1;
    1 where there are none. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", 1947.
    """
    x, y = _paired(ours_correct, theirs_correct, "mark")
    for name, column in (("ours", x), ("theirs", y)):
        bad = np.flatnonzero((column != 0) & (column != 1))
        if len(bad):
            raise ValueError(f"row {bad[0]}: {name} is {column[bad[0]]:g}; expected 1 for right or 0 for wrong")
    ours, theirs = int(np.sum(x > y)), int(np.sum(y > x))
    n = ours + theirs
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(min(ours, theirs) + 1)]
    tail = math.fsum(math.exp(log - n * math.log(2)) for log in logs)
    return McNemar(ours, theirs, min(1.0, 2 * tail))


def _paired(ours: ArrayLike, theirs: ArrayLike, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Two columns `(N,)` of finite numbers, N at least 1."""
    columns = []
    for name, values in (("ours", ours), ("theirs", theirs)):
        column = np.asarray(values)
        if column.dtype.kind not in "biuf" or column.ndim != 1:
            raise ValueError(f"{name} has shape {column.shape} of {column.dtype}; expected one {what} an item, (N,)")
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            raise ValueError(f"row {bad[0]}: {name} is {column[bad[0]]}; expected a finite number")
        columns.append(column.astype(float))
    if len(columns[0]) != len(columns[1]):
        raise ValueError(f"{len(columns[0])} of ours and {len(columns[1])} of theirs; expected the same items")
    if not len(columns[0]):
        raise ValueError("there are no items to compare")
    return columns[0], columns[1]


@dataclass(frozen=True, eq=False)
class RunComparison:
    """One metric of two runs on the same Q queries: is ours better than theirs?

    `names`, `means`: (ours, theirs). `differences`: ours - theirs of each query, `(Q,)`; those that differ by rounding
    only are ties. `interval`: paired bootstrap interval of their mean, the `difference`, at 95 %. `p`: two-sided, of
    the randomisation test.
    """

    names: tuple[str, str]
    metric: str
    query_ids: tuple[str, ...]
    differences: np.ndarray
    means: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    p: float
    wins: int
    ties: int
    losses: int

    def __str__(self) -> str:
        (ours, theirs), (low, high) = self.names, self.interval
        return "\n".join(
            [
                f"{ours} against {theirs}: {len(self.query_ids):,} queries",
                f"  {heading(self.metric):<19} " + "{:.3f} against {:.3f}".format(*self.means),
                f"  difference          {self.difference:+.3f}, {low:+.3f} to {high:+.3f} (95 %, paired bootstrap)",
                f"  randomisation test  p = {self.p:.3g}",
                f"  queries             {self.wins:,} better, {self.ties:,} equal, {self.losses:,} worse",
            ]
        )


def compare_runs(
    ours: Run,
    theirs: Run,
    qrels: Qrels,
    *,
    metric: str = "ndcg@10",
    names: tuple[str, str] = ("ours", "theirs"),
    relevant_from: float = 1,
    gains: str = "linear",
    ties: str = "trec_eval",
    resamples: int = 10_000,
    seed: int = 0,
) -> RunComparison:
    """The difference of two runs by one metric over all queries of the qrels, its interval, and a test of it.

    `metric`: see `run_metrics`, with its @k, since "ndcg" alone is that of the whole list. A query that a run lacks is
    0 for it. Raises `DataError` as `evaluate_ranking`.
    """
    check_options([metric], relevant_from, gains, ties)
    check_qrels(qrels)
    for name, run in zip(names, (ours, theirs), strict=True):
        check_form(run, f"the run of {name!r}")
        check_judged(run, qrels, f"the run of {name!r}")
    options: dict[str, Any] = {"relevant_from": relevant_from, "gains": gains, "ties": ties}
    x, y = (measure_run(run, qrels, [metric], **options)[metric] for run in (ours, theirs))
    return compare_values(names, metric, tuple(qrels), x, y, resamples, seed)


def compare_values(
    names: tuple[str, str],
    metric: str,
    query_ids: Sequence[str],
    ours: np.ndarray,
    theirs: np.ndarray,
    resamples: int = 10_000,
    seed: int = 0,
) -> RunComparison:
    """`compare_runs` of values `(Q,)` that are measured already; p is of at least 10,000 random signs."""
    differences = ours - theirs
    differences[np.abs(differences) < 1e-12] = 0.0  # the same sum in another order
    return RunComparison(
        names,
        metric,
        tuple(query_ids),
        differences,
        (float(ours.mean()), float(theirs.mean())),
        float(differences.mean()),
        bootstrap_interval(np.mean, differences, resamples=resamples, seed=seed),
        randomisation_test(differences, np.zeros(len(differences)), resamples=max(resamples, 10_000), seed=seed),
        int((differences > 0).sum()),
        int((differences == 0).sum()),
        int((differences < 0).sum()),
    )


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same N pairs: names and accuracies (ours, theirs), and whether ours is better.

    `interval`: paired bootstrap interval of the `difference` ours - theirs at 95 %. `p`: of the randomisation test.
    """

    names: tuple[str, str]
    count: int
    accuracies: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    p: float
    mcnemar: McNemar

    def __str__(self) -> str:
        (ours, theirs), (low, high) = self.names, self.interval
        return "\n".join(
            [
                f"{ours} against {theirs}: {self.count:,} pairs",
                "  accuracy            {:.3f} against {:.3f}".format(*self.accuracies),
                f"  difference          {self.difference:+.3f}, {low:+.3f} to {high:+.3f} (95 %, paired bootstrap)",
                f"  randomisation test  p = {self.p:.3g}",
                f"  McNemar's test      p = {self.mcnemar.p:.3g}; right only in {ours}: {self.mcnemar.only_ours:,}, "
                f"only in {theirs}: {self.mcnemar.only_theirs:,}",
            ]
        )


def compare_classifiers(
    ours: ClassificationReport, theirs: ClassificationReport, *, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """The difference in accuracy of two reports on the same pairs, its interval, and two tests of it.

    Raises `DataError` where the reports have other labels: they were not made from the same pairs.
    """
    if not np.array_equal(ours.labels, theirs.labels):
        raise DataError(
            f"{ours.name} has {ours.count} labels and {theirs.name} {theirs.count}, and they are not the same; "
            "evaluate both on the same pairs in the same order"
        )
    right = [report.correct().astype(float) for report in (ours, theirs)]
    interval = bootstrap_interval(np.mean, right[0] - right[1], resamples=resamples, seed=seed)
    return Comparison(
        (ours.name, theirs.name),
        ours.count,
        (ours.accuracy, theirs.accuracy),
        ours.accuracy - theirs.accuracy,
        interval,
        randomisation_test(*right, resamples=resamples, seed=seed),
        mcnemar(*right),
    )
