"""Judgements (qrels, `{query id: {document id: grade}}`): which documents are positives, and what was not known.

A grade of 0 or less is a document judged not relevant. A document that a query's judgements lack was not looked at;
it may be relevant all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from crossenc_kit.pairs import DataError
from crossenc_kit.run_metrics import check_judged, check_qrels
from crossenc_kit.searches import check_depth, draws

Qrels = Mapping[str, Mapping[str, float]]


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
