"""Is one system better than another, or lucky? A difference, its interval, and tests of it.

Both systems are measured on the same N items (pairs or queries), ours and theirs in the same order.
A p is the chance of a difference at least this large, in either direction, if the two systems were
equally good.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.data.collection import Qrels, Run, check_form, check_judged, check_qrels
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.metrics import bootstrap_interval
from crossenc_kit.evaluation.ranking_metrics import check_options, heading, query_values
from crossenc_kit.history import Report

if TYPE_CHECKING:
    from crossenc_kit.evaluation.classification import ClassificationReport

MOST_EXACT = 12  # up to so many items that differ, all 2^N signs are tried
BLOCK = 2**20  # signs in memory at once
ROUNDING = 1e-12  # values this close are the same sum in another order
LEAST_SIGNS = 10_000  # random signs behind the p of two runs, however few resamples are asked for


class McNemar(NamedTuple):
    """Hold how many items only ours and only theirs got right, and the two-sided exact p."""

    only_ours: int
    only_theirs: int
    p: float


def randomisation_test(ours: ArrayLike, theirs: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p of the mean difference of paired values `(N,)` under random signs.

    If the systems are equally good, each difference could as well have had the other sign. p is the
    share of sign patterns whose |mean| is at least the observed one: of all patterns if at most 12
    items differ, else of `resamples` random ones with the observed one added,
    (1 + count) / (1 + resamples), so that p is never 0. Edgington, "Randomization Tests", 1980;
    Smucker, Allan and Carterette, "A comparison of statistical significance tests for information
    retrieval evaluation", 2007.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    x, y = _paired(ours, theirs)
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
        size = min(rows, resamples - start), math.ceil(len(difference) / 8)  # bytes of 8 signs
        bits = rng.integers(256, size=size, dtype=np.uint8)
        kept = np.unpackbits(bits, axis=1, count=len(difference))  # (rows, N): 1 keeps its sign
        # What keeps its sign less what does not; einsum is faster here than a threaded product.
        sums = 2 * np.einsum("rn,n->r", kept, difference) - difference.sum()
        count += int(np.count_nonzero(np.abs(sums) >= least))
    return (1 + count) / (1 + resamples)


def mcnemar(ours_correct: ArrayLike, theirs_correct: ArrayLike) -> McNemar:
    """Run McNemar's exact test on two columns `(N,)` of right (1, True) and wrong (0, False).

    Items that both or neither got right say nothing about the difference. Each of the others is the
    toss of a coin if the systems are equally good; p is 1 if there are none. McNemar, "Note on the
    sampling error of the difference between correlated proportions or percentages", 1947.
    """
    from scipy.stats import binomtest

    x, y = _paired(ours_correct, theirs_correct)
    ours, theirs = int(np.sum(x > y)), int(np.sum(y > x))
    p = float(binomtest(ours, ours + theirs).pvalue) if ours + theirs else 1.0
    return McNemar(ours, theirs, p)


def _paired(ours: ArrayLike, theirs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return two columns `(N,)` of finite numbers, N at least 1."""
    x, y = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"ours has shape {x.shape} and theirs {y.shape}; expected a value for each of the same items")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("ours and theirs must be finite numbers")
    return x, y


@dataclass(frozen=True, eq=False)
class Comparison(Report):
    """Compare one metric of two systems on the same N pairs or queries: is ours better than theirs?"""

    names: tuple[str, str]  # ours, theirs
    metric: str
    means: tuple[float, float]  # ours, theirs
    differences: np.ndarray  # (N,), ours - theirs of each item; 0 if they differ by rounding only
    difference: float  # the mean of the differences
    interval: tuple[float, float]  # of the difference, 95 %, paired bootstrap
    p: float  # two-sided, of the randomisation test
    query_ids: tuple[str, ...] = ()  # of runs
    mcnemar: float | None = None  # of classifiers: the p of McNemar's exact test

    @property
    def count(self) -> int:
        """Return N, the number of pairs or queries."""
        return len(self.differences)

    @property
    def wins(self) -> int:
        """Count the items on which ours is better."""
        return int((self.differences > 0).sum())

    @property
    def ties(self) -> int:
        """Count the items on which both are equally good."""
        return int((self.differences == 0).sum())

    @property
    def losses(self) -> int:
        """Count the items on which theirs is better."""
        return int((self.differences < 0).sum())

    @property
    def metrics(self) -> dict[str, float]:
        """Return the difference first, then its interval, both means and the p of each test."""
        (ours, theirs), (low, high) = self.means, self.interval
        found = {"difference": self.difference, "low": low, "high": high}
        found |= {"ours": ours, "theirs": theirs, "p": self.p}
        return found if self.mcnemar is None else {**found, "mcnemar_p": self.mcnemar}

    def __str__(self) -> str:
        (ours, theirs), (low, high) = self.names, self.interval
        items = "queries" if self.query_ids else "pairs"
        mean, other = self.means
        lines = [
            f"{ours} against {theirs}: {self.count:,} {items}",
            f"  {heading(self.metric):<19} {mean:.3f} against {other:.3f}",
            f"  difference          {self.difference:+.3f}, {low:+.3f} to {high:+.3f} (95 %, paired bootstrap)",
            f"  randomisation test  p = {self.p:.3g}",
        ]
        if self.mcnemar is not None:
            lines.append(f"  McNemar's test      p = {self.mcnemar:.3g}")
        counts = f"{self.wins:,} better, {self.ties:,} equal, {self.losses:,} worse"
        return "\n".join([*lines, f"  {items:<19} {counts}"])


def compare_values(
    names: tuple[str, str],
    metric: str,
    query_ids: tuple[str, ...],
    ours: np.ndarray,
    theirs: np.ndarray,
    *,
    resamples: int = 10_000,
    signs: int | None = None,
    seed: int = 0,
    mcnemar: float | None = None,
) -> Comparison:
    """Compare values `(N,)` that were measured on the same queries, or pairs if there are no ids.

    signs: random signs of the randomisation test; by default `resamples`, at least 10,000
    """
    differences = ours - theirs
    differences[np.abs(differences) < ROUNDING] = 0.0
    signs = max(resamples, LEAST_SIGNS) if signs is None else signs
    nothing = np.zeros(len(differences))
    return Comparison(
        names,
        metric,
        means=(float(ours.mean()), float(theirs.mean())),
        differences=differences,
        difference=float(differences.mean()),
        interval=bootstrap_interval(np.mean, differences, resamples=resamples, seed=seed),
        p=randomisation_test(differences, nothing, resamples=signs, seed=seed),
        query_ids=query_ids,
        mcnemar=mcnemar,
    )


def compare_runs(
    qrels: Qrels,
    run_a: Run,
    run_b: Run,
    *,
    metric: str = "ndcg@10",
    names: tuple[str, str] = ("ours", "theirs"),
    relevant_from: float = 1,
    gains: str = "linear",
    ties: str = "trec_eval",
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two runs by one metric over all queries of the qrels; a missing query counts 0.

    metric: a name with its @k, such as "mrr@10"; "ndcg" alone measures the whole list

    Raises `DataError` for runs or qrels that cannot be measured, as `evaluate_ranking` does.
    """
    check_options([metric], relevant_from, gains, ties)
    check_qrels(qrels)
    options: dict[str, Any] = {"relevant_from": relevant_from, "gains": gains, "ties": ties}
    columns = []
    for name, run in zip(names, (run_a, run_b), strict=True):
        check_form(run, f"the run of {name!r}")
        check_judged(run, qrels, f"the run of {name!r}")
        columns.append(query_values(qrels, run, [metric], **options)[metric])
    ids = tuple(qrels)
    return compare_values(names, metric, ids, *columns, resamples=resamples, seed=seed)


def compare_classifiers(
    ours: ClassificationReport,
    theirs: ClassificationReport,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare the accuracies of two reports on the same pairs.

    Raises `DataError` if the reports have different labels, so that the pairs were not the same.
    """
    if not np.array_equal(ours.labels, theirs.labels):
        raise DataError(
            f"{ours.name} has {ours.count} labels and {theirs.name} {theirs.count}, and they are not "
            "the same; evaluate both on the same pairs in the same order"
        )
    right, other = (report.correct().astype(float) for report in (ours, theirs))
    return compare_values(
        (ours.name, theirs.name),
        "accuracy",
        (),
        right,
        other,
        resamples=resamples,
        signs=resamples,
        seed=seed,
        mcnemar=mcnemar(right, other).p,
    )
