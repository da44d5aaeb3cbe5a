"""Negatives chosen from candidates: as pairs, drawn anew for each epoch, and counted.

A grade of 0 is a document judged not relevant. A document without a judgement was not looked at, and
may be relevant all the same: a false negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.collection import Collection, Qrels, Run, check_judged, check_qrels
from crossenc_kit.data.documents import check_depth, draws
from crossenc_kit.data.pairs import Pairs
from crossenc_kit.errors import DataError, some
from crossenc_kit.history import html_table

SAMPLING = ("top", "random")
OUTPUTS = ("groups", "lists", "pairs")
Scores = dict[str, dict[str, float]]  # a run of our own making


class Choice(NamedTuple):
    """Say how many negatives a query gets, which ones, and in what form."""

    num_negatives: int
    sampling: str
    output: str
    drop_short: bool
    seed: int


class Known(NamedTuple):
    """Hold what the judgements say about the queries that have a positive."""

    positives: dict[str, list[str]]
    excluded: dict[str, set[str]]  # documents that are no negatives
    without: list[str]  # queries without a positive


def what_is_known(collection: Collection, relevant_from: float, negative_grade: float) -> Known:
    """Read the positives and what is above `negative_grade`, query by query.

    Raises `DataError` if no query has a positive.
    """
    if not negative_grade < relevant_from:
        raise ValueError(f"negative_grade is {negative_grade} and relevant_from {relevant_from}; it must be below")
    known = Known({}, {}, [])
    for query in collection.queries:
        grades = collection.qrels.get(query, {})
        positives = [document for document, grade in grades.items() if grade >= relevant_from]
        if positives:
            known.positives[query] = positives
            above = {document for document, grade in grades.items() if grade > negative_grade}
            known.excluded[query] = above
        else:
            known.without.append(query)
    if not known.positives:
        count = f"none of the {len(collection.queries):,} queries"
        raise DataError(f"{count} has a document of grade {relevant_from:g} or more")
    return known


@dataclass(frozen=True, eq=False)
class MinedNegatives:
    """Hold the negatives of queries, what they were chosen from, and what was dropped."""

    pairs: Pairs  # to train on, with the tags `query_id` and `document_ids`
    negatives: Scores  # the chosen documents, best first
    candidates: Scores  # those that they were chosen from, best first
    positives: Scores  # the known answers; NaN if their score is not known
    statistics: dict[str, Any]  # counts and scores, for JSON
    choice: Choice
    collection: Collection = field(repr=False)

    def __repr__(self) -> str:
        lines = [f"MinedNegatives: {len(self.pairs):,} groups", *in_words(self.statistics)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table((f"{len(self.pairs):,} groups",), [[line] for line in in_words(self.statistics)])


def negatives_by_epoch(mined: MinedNegatives, seed: int | None = None) -> Callable[[int], Pairs]:
    """Make `pairs(epoch)`: the same groups, with negatives drawn anew from the candidates.

    Nothing is searched again. A draw is a pure function of (seed, epoch, query id).

    seed: by default that of the mining, whose own random draw is that of epoch 0
    """
    seed = mined.choice.seed if seed is None else seed
    choice = mined.choice._replace(sampling="random", seed=seed)

    def pairs(epoch: int) -> Pairs:
        negatives = choose(mined.candidates, choice, epoch)
        notes = (*mined.pairs.notes, f"negatives drawn for epoch {epoch}")
        return labelled_pairs(mined.collection, mined.positives, negatives, choice.output, notes)

    return pairs


def mined_negatives(
    collection: Collection,
    known: Known,
    candidates: Scores,
    positives: Scores,
    dropped: Mapping[str, int],
    choice: Choice,
) -> MinedNegatives:
    """Choose negatives from candidates and count; raises `DataError` if no query has one."""
    statistics = _count_queries(len(collection.queries), known, candidates, choice)
    statistics["candidates_left"] = sum(map(len, candidates.values()))
    statistics["candidates_dropped"] = {why: count for why, count in dropped.items() if count}
    notes = tuple(in_words(statistics))
    least = choice.num_negatives if choice.drop_short else 1
    usable = {query: scores for query, scores in candidates.items() if len(scores) >= least}
    if not usable:
        raise DataError(f"no query has a negative: {'; '.join(notes)}")
    negatives = choose(usable, choice)
    positives = {query: positives[query] for query in usable}
    statistics |= _count_scores(positives, negatives)
    pairs = labelled_pairs(collection, positives, negatives, choice.output, notes)
    return MinedNegatives(pairs, negatives, usable, positives, statistics, choice, collection)


def choose(candidates: Run, choice: Choice, epoch: int = 0) -> Scores:
    """Choose at most `num_negatives` candidates of each query, best first."""
    chosen: Scores = {}
    for query, scores in candidates.items():
        ids = list(scores)
        size = min(choice.num_negatives, len(ids))
        rows: Sequence[int] = range(size)
        if choice.sampling == "random":
            rng = draws(choice.seed, epoch, query)
            rows = sorted(rng.choice(len(ids), size, replace=False).tolist())
        chosen[query] = {ids[row]: scores[ids[row]] for row in rows}
    return chosen


def labelled_pairs(
    collection: Collection, positives: Run, negatives: Run, output: str, notes: tuple[str, ...]
) -> Pairs:
    """Label (query, document) pairs 1 or 0, in groups of one positive, of all, or of one pair."""
    groups: list[tuple[str, list[str]]] = []
    for query, wrong in negatives.items():
        right = list(positives[query])
        if output == "groups":
            groups += [(query, [document, *wrong]) for document in right]
        elif output == "lists":
            groups.append((query, [*right, *wrong]))
        else:
            groups += [(query, [document]) for document in (*right, *wrong)]
    flat = [(query, document) for query, ids in groups for document in ids]
    sizes = [len(ids) for _, ids in groups]
    labels = [document in positives[query] for query, document in flat]
    return Pairs(
        left=[collection.queries[query] for query, _ in flat],
        right=[collection.documents[document] for _, document in flat],
        labels=np.array(labels, dtype=np.float32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        tags={
            "query_id": [query for query, _ in groups],
            "document_ids": [ids for _, ids in groups],
        },
        notes=notes,
    )


def _count_queries(queries: int, known: Known, candidates: Run, choice: Choice) -> dict[str, Any]:
    """Count the queries without a positive, without a negative, or with too few."""
    none = [query for query, own in candidates.items() if not own]
    short = [query for query, own in candidates.items() if 0 < len(own) < choice.num_negatives]
    lost = len(none) + (len(short) if choice.drop_short else 0)
    return {
        "queries": queries,
        "queries_mined": len(candidates) - lost,
        "queries_without_positive": known.without,
        "queries_without_negative": none,
        "queries_short": short,
        **choice._asdict(),
    }


def _count_scores(positives: Run, negatives: Run) -> dict[str, Any]:
    """Summarise the scores of positives and negatives, and how far apart they are in a query."""
    right, wrong, margins, unknown = [], [], [], 0
    for query, own in negatives.items():
        above = [score for score in positives[query].values() if not math.isnan(score)]
        below = [score for score in own.values() if not math.isnan(score)]
        unknown += len(positives[query]) - len(above)
        right += above
        wrong += below
        margins += [positive - negative for positive in above for negative in below]
    return {
        "positives_without_score": unknown,
        "positive_scores": _summary(right),
        "negative_scores": _summary(wrong),
        "margins": _summary(margins),
    }


def _summary(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    found = {"count": len(values), "mean": float(np.mean(values))}
    return {**found, "median": float(np.median(values)), "least": min(values), "most": max(values)}


def in_words(statistics: Mapping[str, Any]) -> Iterable[str]:
    """Say the statistics in words, a line each."""
    wanted, mined = statistics["num_negatives"], statistics["queries_mined"]
    yield f"{mined:,} of {statistics['queries']:,} queries, {wanted} negatives each"
    fate = "left out" if statistics["drop_short"] else "kept with what there is"
    for name, fact in (
        ("queries_without_positive", "no positive, left out"),
        ("queries_without_negative", "no negative, left out"),
        ("queries_short", f"fewer negatives, {fate}"),
    ):
        if ids := statistics[name]:
            yield f"queries with {fact}: {len(ids):,} ({some(ids)})"
    reasons = [f"{why} {count:,}" for why, count in statistics["candidates_dropped"].items()]
    left = f"{statistics['candidates_left']:,} candidates"
    yield f"{left}; dropped: {', '.join(reasons) or 'none'}"
    for name in ("positive_scores", "negative_scores", "margins"):
        row = statistics.get(name, {"count": 0})
        if row["count"]:
            middle = f"mean {row['mean']:.3f}, median {row['median']:.3f}"
            yield f"{name.replace('_', ' ')}: {middle}, {row['least']:.3f} to {row['most']:.3f}"


class FalseNegativeRate(NamedTuple):
    """Say how many negatives are relevant after all."""

    rate: float  # of those that were judged; NaN if none was
    at_least: float  # of all of them
    false: int
    judged: int
    negatives: int


def false_negative_rate(
    negatives: Mapping[str, Iterable[str]],
    qrels: Qrels,
    *,
    hidden: Qrels | None = None,
    relevant_from: float = 1,
) -> FalseNegativeRate:
    """Count how many of the negatives `{query id: document ids}` (or a run) are relevant after all.

    hidden: judgements that were kept from the mining (see `hide_positives`), and that go first

    Raises `DataError` if there are no negatives, or none of their queries has judgements.
    """
    judgements = {query: dict(grades) for query, grades in qrels.items()}
    for query, grades in (hidden or {}).items():
        judgements.setdefault(query, {}).update(grades)
    false = judged = count = 0
    for query, documents in negatives.items():
        grades = judgements.get(query, {})
        for document in documents:
            count += 1
            judged += document in grades
            false += grades.get(document, 0) >= relevant_from
    if not count:
        raise DataError("there are no negatives to look at")
    check_judged(negatives, judgements, "the negatives")  # type: ignore[arg-type]  # only queries
    rate = false / judged if judged else math.nan
    return FalseNegativeRate(rate, false / count, false, judged, count)


def hide_positives(qrels: Qrels, keep: int = 1, *, relevant_from: float = 1, seed: int = 0) -> tuple[Scores, Scores]:
    """Hide all but `keep` positives of each query: (visible, hidden) judgements.

    So judged data looks like data for which one answer is known. Documents of grade 0 or less stay
    visible. A draw depends on the seed and the query's id alone.
    """
    check_depth(keep, "keep")
    check_qrels(qrels)
    visible, hidden = {}, {}
    for query, grades in qrels.items():
        positives = [document for document, grade in grades.items() if grade >= relevant_from]
        order = draws(seed, query).permutation(len(positives))[:keep]
        kept = {positives[at] for at in order}
        seen = {document for document, grade in grades.items() if grade <= 0 or document in kept}
        visible[query] = {d: grade for d, grade in grades.items() if d in seen}
        hidden[query] = {d: grade for d, grade in grades.items() if d not in seen}
    return visible, hidden
