"""Negatives chosen from candidates: as pairs to train on, drawn anew for each epoch, and in numbers.

Judgements (qrels, `{query id: {document id: grade}}`): which documents are positives, and what was not known.

A grade of 0 or less is a document judged not relevant. A document that a query's judgements lack was not looked at;
it may be relevant all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.collection import check_judged, check_qrels
from crossenc_kit.data.documents import check_depth, draws
from crossenc_kit.data.pairs import Pairs
from crossenc_kit.errors import DataError, some
from crossenc_kit.retrieval.search import Run

SAMPLING = ("top", "random")
OUTPUTS = ("groups", "lists", "pairs")
Qrels = Mapping[str, Mapping[str, float]]


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


class FalseNegativeRate(NamedTuple):
    """How many of some negatives are relevant: `rate` of the judged ones, `at_least` of all of them.

    `false` of the `judged` of `negatives` documents are relevant. `rate` is NaN where none was judged.
    """

    rate: float
    at_least: float
    false: int
    judged: int
    negatives: int


def false_negative_rate(
    negatives: Mapping[str, Iterable[str]], qrels: Qrels, *, hidden: Qrels | None = None, positive_grade: float = 1
) -> FalseNegativeRate:
    """How many of the negatives `{query id: document ids}` (a run is one) are relevant after all.

    A judgement is that of `qrels`, or of `hidden` where it has one: the judgements that were kept from the mining
    (see `hide_positives`). Relevant is a grade of at least `positive_grade`. A document without judgement counts as
    not relevant in `at_least`, and not at all in `rate`; one of a grade below 0 is judged, as not relevant. Scores of
    the negatives are not looked at. Raises `DataError` where there are no negatives, none of their queries has
    judgements, and for judgements that are none.
    """
    check_qrels(qrels)
    judgements = {query: dict(grades) for query, grades in qrels.items()}
    if hidden is not None and hidden != {}:
        check_qrels(hidden, "the hidden qrels")
        for query, grades in hidden.items():
            judgements.setdefault(query, {}).update(grades)
    if not isinstance(negatives, Mapping):
        raise DataError(f"expected the negatives as {{query id: document ids}}, got {type(negatives).__name__}")
    false = judged = count = 0
    for query, documents in negatives.items():
        if isinstance(documents, str) or not isinstance(documents, Iterable):
            raise DataError(f"the negatives of query {query!r}: expected document ids, got {documents!r}")
        grades = judgements.get(query, {})
        for document in documents:
            if not isinstance(document, str):
                raise DataError(f"the negatives of query {query!r}: the document id {document!r} is no string")
            count += 1
            judged += document in grades
            false += grades.get(document, 0) >= positive_grade
    if not count:
        raise DataError("there are no negatives to look at")
    check_judged(negatives, judgements, "the negatives")  # type: ignore[arg-type]  # of both, only the queries count
    return FalseNegativeRate(false / judged if judged else math.nan, false / count, false, judged, count)


def hide_positives(
    qrels: Qrels, keep: int = 1, *, positive_grade: float = 1, seed: int = 0
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """The judgements with only `keep` positives a query, and the judgements hidden by that: (visible, hidden).

    So judged data looks like data where one answer is known. Of each query, `keep` documents of grade
    `positive_grade` or more are drawn; those, and the documents of grade 0 or less, stay visible. A draw depends on
    the seed and the query's id alone. Raises `ValueError` for `keep` below 1, `DataError` for what are no judgements.
    """
    check_depth(keep, "keep")
    check_qrels(qrels)
    visible: dict[str, dict[str, float]] = {}
    hidden: dict[str, dict[str, float]] = {}
    for query, grades in qrels.items():
        positives = [document for document, grade in grades.items() if grade >= positive_grade]
        order = draws(seed, query).permutation(len(positives))[:keep]
        kept = {positives[at] for at in order}
        seen = {document for document, grade in grades.items() if grade <= 0 or document in kept}
        visible[query] = {document: grade for document, grade in grades.items() if document in seen}
        hidden[query] = {document: grade for document, grade in grades.items() if document not in seen}
    return visible, hidden


class Known(NamedTuple):
    """What judgements say: `positives` of each query that has one, and all documents that are no `negatives`.

    `without`: the queries that have no positive. `strangers`: the queries of the judgements that there are no texts of.
    `absent`: how many judged documents, none of them a positive, there are no texts of; `below_zero`: how many grades
    of the queries are below 0, which count as 0 does: not relevant.
    """

    positives: dict[str, list[str]]
    excluded: dict[str, set[str]]
    without: list[str]
    strangers: list[str]
    absent: int = 0
    below_zero: int = 0


def what_is_known(
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    qrels: Qrels,
    positive_grade: float = 1,
    negative_grade: float = 0,
) -> Known:
    """The positives (grade of at least `positive_grade`) and what is above `negative_grade`, query by query.

    Raises `DataError` for a grade that is no finite number, a positive that is not among the documents, and where no
    query has a positive.
    """
    if isinstance(qrels, Mapping) and not qrels:
        raise DataError("the qrels are empty: no query has a positive")
    check_qrels(qrels)
    if not negative_grade < positive_grade:
        raise ValueError(f"negative_grade is {negative_grade} and positive_grade {positive_grade}; it must be below")
    known = Known({}, {}, [], [query for query in qrels if query not in queries])
    missing = []
    absent = below_zero = 0
    for query in queries:
        grades = qrels.get(query, {})
        absent += sum(document not in documents for document, grade in grades.items() if grade < positive_grade)
        below_zero += sum(grade < 0 for grade in grades.values())
        positives = [document for document, grade in grades.items() if grade >= positive_grade]
        missing += [(query, document) for document in positives if document not in documents]
        if positives:
            known.positives[query] = positives
            known.excluded[query] = {document for document, grade in grades.items() if grade > negative_grade}
        else:
            known.without.append(query)
    if missing:
        query, document = missing[0]
        raise DataError(
            f"{len(missing):,} positives are not among the documents, the first {document!r} of query {query!r}; "
            "add their texts, or take them out of the judgements"
        )
    if not known.positives:
        judged, asked = (next(iter(ids), None) for ids in (qrels, queries))
        raise DataError(
            f"none of the {len(queries):,} queries has a document of grade {positive_grade:g} or more; "
            f"the judgements have ids such as {judged!r}, the queries {asked!r}"
        )
    return known._replace(absent=absent, below_zero=below_zero)
