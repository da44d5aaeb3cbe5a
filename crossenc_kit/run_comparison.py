"""Two runs on the same queries: by how much one is better, and whether that is more than luck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossenc_kit.comparison import randomisation_test
from crossenc_kit.metrics import bootstrap_interval
from crossenc_kit.run_metrics import (
    Qrels,
    Run,
    check_judged,
    check_options,
    check_qrels,
    check_run,
    heading,
    measure_run,
)


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
        check_run(run, f"the run of {name!r}")
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
