"""Negatives chosen from candidates: as pairs to train on, drawn anew for each epoch, and in numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.judgements import Known
from crossenc_kit.pairs import DataError, Pairs
from crossenc_kit.run_metrics import some
from crossenc_kit.searches import Run, draws

SAMPLING = ("top", "random")
OUTPUTS = ("groups", "lists", "pairs")


class Choice(NamedTuple):
    """How many negatives a query gets, which of its candidates, and in what form: see `mine_hard_negatives`."""

    num_negatives: int
    sampling: str
    output: str
    drop_short: bool
    seed: int


@dataclass(frozen=True, eq=False)
class MinedNegatives:
    """Negatives of queries, what they were chosen from, and what was dropped; shown in words.

    `pairs`: to train on, with the tags `query_id` and `document_ids`. `negatives`, `candidates`: runs, the chosen
    documents and those that they may be chosen from, best first. `positives`: the known answers with their scores, NaN
    where not known. `statistics`: counts and scores, for JSON.
    """

    pairs: Pairs
    negatives: Run
    candidates: Run
    positives: Run
    statistics: dict[str, Any]
    choice: Choice
    queries: Mapping[str, str] = field(repr=False)
    documents: Mapping[str, str] = field(repr=False)

    def __repr__(self) -> str:
        return "\n".join([f"MinedNegatives: {len(self.pairs):,} groups", *in_words(self.statistics)])


def negatives_by_epoch(mined: MinedNegatives, seed: int | None = None) -> Callable[[int], Pairs]:
    """`pairs(epoch)`: the same queries in groups of the same size, with negatives drawn anew from the candidates.

    Nothing is searched again. A draw is a pure function of (seed, epoch, query id). `seed` is by default that of the
    mining, whose own random draw is that of epoch 0.
    """
    choice = mined.choice._replace(sampling="random", seed=mined.choice.seed if seed is None else seed)

    def pairs(epoch: int) -> Pairs:
        negatives = choose(mined.candidates, choice, epoch)
        notes = (*mined.pairs.notes, f"negatives drawn for epoch {epoch}")
        return labelled_pairs(mined.queries, mined.documents, mined.positives, negatives, choice.output, notes)

    return pairs


def mined_negatives(
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    known: Known,
    candidates: Run,
    positives: Run,
    dropped: Mapping[str, int],
    choice: Choice,
    not_asked: int = 0,
) -> MinedNegatives:
    """Negatives chosen from candidates, with the statistics; raises `DataError` where no query has one.

    `not_asked`: how many queries the run has that are not among the queries.
    """
    statistics = count_queries(len(queries), known, candidates, choice)
    statistics["queries_only_in_run"] = not_asked
    statistics["candidates_left"] = sum(map(len, candidates.values()))
    statistics["candidates_dropped"] = {reason: count for reason, count in dropped.items() if count}
    notes = tuple(in_words(statistics))
    least = choice.num_negatives if choice.drop_short else 1
    usable = {query: scores for query, scores in candidates.items() if len(scores) >= least}
    if not usable:
        raise DataError(f"no query has a negative: {'; '.join(notes)}")
    negatives = choose(usable, choice)
    positives = {query: positives[query] for query in usable}
    statistics |= count_scores(positives, negatives)
    pairs = labelled_pairs(queries, documents, positives, negatives, choice.output, notes)
    return MinedNegatives(pairs, negatives, usable, positives, statistics, choice, queries, documents)


def choose(candidates: Run, choice: Choice, epoch: int = 0) -> Run:
    """At most `num_negatives` candidates of each query, best first."""
    chosen: Run = {}
    for query, scores in candidates.items():
        ids = list(scores)
        size = min(choice.num_negatives, len(ids))
        rows: Sequence[int] = range(size)
        if choice.sampling == "random":
            rows = sorted(draws(choice.seed, epoch, query).choice(len(ids), size, replace=False).tolist())
        chosen[query] = {ids[row]: scores[ids[row]] for row in rows}
    return chosen


def labelled_pairs(
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    positives: Run,
    negatives: Run,
    output: str,
    notes: tuple[str, ...],
) -> Pairs:
    """(query, document) pairs labelled 1 or 0, in groups of one positive, of all of a query, or of one pair."""
    groups: list[tuple[str, list[str]]] = []
    for query, wrong in negatives.items():
        right = list(positives[query])
        if output == "groups":
            groups += [(query, [document, *wrong]) for document in right]
        elif output == "lists":
            groups.append((query, [*right, *wrong]))
        else:
            groups += [(query, [document]) for document in (*right, *wrong)]
    sizes = [len(ids) for _, ids in groups]
    return Pairs(
        left=[queries[query] for query, ids in groups for _ in ids],
        right=[documents[document] for _, ids in groups for document in ids],
        labels=np.array([document in positives[query] for query, ids in groups for document in ids], dtype=np.float32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        tags={"query_id": [query for query, _ in groups], "document_ids": [ids for _, ids in groups]},
        notes=notes,
    )


def count_queries(queries: int, known: Known, candidates: Run, choice: Choice) -> dict[str, Any]:
    """Which queries have no positive, no negative, or too few, and how many are left."""
    none = [query for query, scores in candidates.items() if not scores]
    short = [query for query, scores in candidates.items() if 0 < len(scores) < choice.num_negatives]
    return {
        "queries": queries,
        "queries_mined": len(candidates) - len(none) - (len(short) if choice.drop_short else 0),
        "queries_without_positive": known.without,
        "queries_without_negative": none,
        "queries_short": short,
        "queries_only_judged": len(known.strangers),
        "judged_without_text": known.absent,
        "grades_below_zero": known.below_zero,
        **choice._asdict(),
    }


def count_scores(positives: Run, negatives: Run) -> dict[str, Any]:
    """Scores of positives and of negatives, and by how much each positive is above each negative of its query."""
    of_positives, of_negatives, margins = [], [], []
    for query, scores in negatives.items():
        right = [score for score in positives[query].values() if not math.isnan(score)]
        wrong = [score for score in scores.values() if not math.isnan(score)]
        of_positives += right
        of_negatives += wrong
        margins += [positive - negative for positive in right for negative in wrong]
    everything = sum(len(positives[query]) for query in negatives)
    return {
        "positives_without_score": everything - len(of_positives),
        "positive_scores": summary(of_positives),
        "negative_scores": summary(of_negatives),
        "margins": summary(margins),
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Count, mean, median, least and most; of no values, the count."""
    if not values:
        return {"count": 0}
    mean, median = float(np.mean(values)), float(np.median(values))
    return {"count": len(values), "mean": mean, "median": median, "least": min(values), "most": max(values)}


def in_words(statistics: Mapping[str, Any]) -> Iterable[str]:
    """The statistics, a line each."""
    wanted = statistics["num_negatives"]
    yield f"{statistics['queries_mined']:,} of {statistics['queries']:,} queries, {wanted} negatives each"
    for name, fact in (
        ("queries_without_positive", "no positive, left out"),
        ("queries_without_negative", "no negative, left out"),
        ("queries_short", f"fewer negatives, {'left out' if statistics['drop_short'] else 'kept with what there is'}"),
    ):
        ids = statistics[name]
        if ids:
            yield f"queries with {fact}: {len(ids):,} ({some(ids)})"
    for name, fact in (
        ("queries_only_judged", "queries of the judgements that are not among the queries"),
        ("queries_only_in_run", "queries of the run that are not among the queries"),
        ("judged_without_text", "judged documents, no positives, that are not among the documents"),
        ("grades_below_zero", "grades below 0, taken as not relevant"),
    ):
        if statistics[name]:
            yield f"{fact}: {statistics[name]:,}"
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in statistics["candidates_dropped"].items())
    yield f"{statistics['candidates_left']:,} candidates; dropped: {reasons or 'none'}"
    for name in ("positive_scores", "negative_scores", "margins"):
        row = statistics.get(name, {"count": 0})
        if row["count"]:
            spread = f"mean {row['mean']:.3f}, median {row['median']:.3f}, {row['least']:.3f} to {row['most']:.3f}"
            yield f"{name.replace('_', ' ')}: {spread}"
