"""Hard negatives: documents that a first stage ranks high for a query and that are not known to answer it.

The names and rules are those of `sentence_transformers.util.mine_hard_negatives`. Let P be the most documents that
are known relevant of one query, s a candidate's score, p the *lowest* score of the query's positives.

1. Candidates are the first `range_max` + P documents of the run, without those known relevant (a grade above
   `negative_grade`; a positive has at least `positive_grade`, a grade between is neither), and without copies: the text
   of the query, of a document known relevant, or of a candidate before it.
2. Dropped is what has  s + `absolute_margin` > p,  s > p - |p| `relative_margin`,  s > `max_score`,  s < `min_score`.
3. Of what is left, positions `range_min` to `range_max` (from 0, the last not included) stay.
4. `num_negatives` of them are chosen: the first ("top"), or some at random ("random"), or all where there are fewer.

A positive's score is that of the first stage, which is asked for it whatever its rank. Where a run does not have it, it
is below every document of the run: then no candidate is below the positive, and a margin drops them all.

Some negatives are false: relevant, but not judged. The closer to the positives, the more of them; `judgements` measures
how many. Copies, and scoring by a cross-encoder where no margin or threshold is set, are the kit's own rules.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.collection import check_form
from crossenc_kit.data.documents import check_depth, document_texts, ids_of
from crossenc_kit.errors import DataError, some
from crossenc_kit.retrieval.baselines import random_run
from crossenc_kit.retrieval.bm25 import bm25_index
from crossenc_kit.retrieval.dense import dense_index
from crossenc_kit.retrieval.negatives import (
    OUTPUTS,
    SAMPLING,
    Choice,
    Known,
    MinedNegatives,
    Qrels,
    mined_negatives,
    what_is_known,
)
from crossenc_kit.retrieval.search import Run
from crossenc_kit.scorers import as_scorer, check_finite

Scorer = Callable[[Sequence[tuple[str, str]]], Any]


class Limits(NamedTuple):
    """Which candidates are dropped: by their score, and by their position among those left."""

    absolute_margin: float | None
    relative_margin: float | None
    max_score: float | None
    min_score: float | None
    range_min: int
    range_max: int


def mine_hard_negatives(
    queries: Mapping[str, str],
    documents: Mapping[str, Any],
    qrels: Qrels,
    *,
    run: Mapping[str, Mapping[str, float]] | None = None,
    first_stage: str | Callable[..., Run] = "bm25",
    range_min: int = 0,
    range_max: int = 100,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 4,
    sampling: str = "top",
    cross_encoder: Scorer | None = None,
    positive_grade: float = 1,
    negative_grade: float = 0,
    output: str = "groups",
    drop_short: bool = False,
    seed: int = 0,
) -> MinedNegatives:
    """Negatives of every query that has a positive; on top of this file are the rules.

    `first_stage`: "bm25", "dense", "random" (no scores: the weak baseline), a search of `bm25_index` or `dense_index`,
    or any function of (queries, k) that gives a run; or `run`, searched before. `cross_encoder`, any scorer of text
    pairs, scores candidates and positives, and orders them anew. `sampling`: a random draw depends on `seed` and the
    query's id. `output`: "groups", a query with one positive and the negatives, labels 1, 0, 0, ...; "lists", with all
    its positives; "pairs", one by one. A query with no negative is left out, with `drop_short` each that lacks some.

    Grades below 0 are not relevant, as 0 is. They, judged documents without a text, and queries that only the qrels or
    only the run has are counted in the statistics. Raises `ValueError` for arguments that do not go together;
    `DataError` for ids, texts, grades or scores that do not fit, and where no query has a positive, or none a negative.
    """
    limits = Limits(absolute_margin, relative_margin, max_score, min_score, range_min, range_max)
    choice = Choice(num_negatives, sampling, output, drop_short, seed)
    if run is not None and first_stage != "bm25":
        raise ValueError("give a first_stage or a run, not both")
    scored = run is not None or first_stage != "random" or cross_encoder is not None
    _check_limits(limits, scored)
    _check_choice(choice, range_max - range_min)
    ids_of(queries, "query")
    documents = document_texts(documents)
    ids_of(documents, "document")
    known = what_is_known(queries, documents, qrels, positive_grade, negative_grade)
    depth = range_max + max(map(len, known.excluded.values()))
    found = _find(queries, documents, known, depth, first_stage, seed) if run is None else run
    not_asked = _check_run(found, queries, known, "the run" if run is not None else "the first stage's run")
    candidates, dropped = _candidates(queries, documents, found, known, depth)
    scores_of = found if scored else {}
    positives = {q: {d: scores_of.get(q, {}).get(d, math.nan) for d in ids} for q, ids in known.positives.items()}
    if cross_encoder is not None:
        candidates, positives = _rescore(cross_encoder, queries, documents, candidates, positives)
    left = {query: _within(scores, positives[query], limits, dropped) for query, scores in candidates.items()}
    if not scored:
        left = {query: dict.fromkeys(ids, math.nan) for query, ids in left.items()}
    return mined_negatives(queries, documents, known, left, positives, dropped, choice, not_asked)


def _check_choice(choice: Choice, positions: int) -> None:
    check_depth(choice.num_negatives, "num_negatives")
    if positions < choice.num_negatives:
        raise ValueError(
            f"range_min and range_max leave {max(0, positions)} positions, too few for num_negatives="
            f"{choice.num_negatives}; lower num_negatives or range_min, or raise range_max"
        )
    if choice.sampling not in SAMPLING:
        raise ValueError(f"sampling is {choice.sampling!r}; expected one of {', '.join(SAMPLING)}")
    if choice.output not in OUTPUTS:
        raise ValueError(f"output is {choice.output!r}; expected one of {', '.join(OUTPUTS)}")


def _check_limits(limits: Limits, scored: bool) -> None:
    check_depth(limits.range_min, "range_min", least=0)
    check_depth(limits.range_max, "range_max")
    for name, limit in zip(limits._fields[:4], limits[:4], strict=True):
        if limit is not None and not scored:
            raise ValueError(f"{name} compares scores, which negatives drawn at random have not; give a cross_encoder")
        if limit is not None and not (isinstance(limit, Real) and math.isfinite(limit)):
            raise ValueError(f"{name} is {limit!r}; expected a finite number, or None")
        if limit is not None and limit < 0 and name.endswith("margin"):
            raise ValueError(
                f"{name} is {limit}; a margin is at least 0, which asks for no more than the positive's score"
            )


def _find(
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    known: Known,
    depth: int,
    first_stage: str | Callable[..., Run],
    seed: int,
) -> Run:
    """The run of a first stage over the queries that have positives, with the positives in it where it can."""
    asked = {query: queries[query] for query in known.positives}
    if first_stage == "random":
        return random_run(documents, asked, depth, seed=seed)
    if first_stage in ("bm25", "dense"):
        first_stage = (bm25_index if first_stage == "bm25" else dense_index)(documents)
    if not callable(first_stage):
        raise ValueError(f'first_stage is {first_stage!r}; expected "bm25", "dense", "random" or a search')
    if "include" in inspect.signature(first_stage).parameters:
        return first_stage(asked, depth, include=known.positives)
    return first_stage(asked, depth)


def _candidates(
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    run: Mapping[str, Mapping[str, float]],
    known: Known,
    depth: int,
) -> tuple[Run, Counter[str]]:
    """The first `depth` documents of each query without what is known relevant, and without copies."""
    candidates: Run = {}
    dropped: Counter[str] = Counter()
    for query, excluded in known.excluded.items():
        scores = run.get(query, {})
        if absent := [document for document in scores if document not in documents]:
            raise DataError(
                f"the run's document {absent[0]!r} of query {query!r} is not among the documents "
                f"({len(absent):,} such in this query)"
            )
        texts = {queries[query], *(documents[document] for document in excluded if document in documents)}
        candidates[query] = {}
        for document in sorted(scores, key=lambda document: -scores[document])[:depth]:
            if document in excluded:
                dropped["positive" if document in known.positives[query] else "grade between"] += 1
            elif documents[document] in texts:
                dropped["copy"] += 1
            else:
                candidates[query][document] = float(scores[document])
                texts.add(documents[document])
    return candidates, dropped


def _check_run(run: Mapping[str, Mapping[str, float]], queries: Mapping[str, str], known: Known, name: str) -> int:
    """How many queries of the run are not among the queries; raises `DataError` where none has a positive."""
    check_form(run, name)
    if not run.keys() & known.positives.keys():
        ours = some(run) or "none"
        raise DataError(
            f"{name}: none of its queries is one that has a positive. "
            f"Its queries: {ours}; those: {some(known.positives)}"
        )
    return sum(query not in queries for query in run)


def _rescore(scorer: Scorer, queries: Mapping[str, str], documents: Mapping[str, str], *runs: Run) -> list[Run]:
    """The runs with the scores of a scorer, all pairs scored in one call."""
    keys = [(query, document) for run in runs for query, scores in run.items() for document in scores]
    pairs = [(queries[query], documents[document]) for query, document in keys]
    scores = np.asarray(as_scorer(scorer)(pairs), dtype=float)
    if scores.shape != (len(keys),):
        raise DataError(f"cross_encoder gave scores of shape {scores.shape}; expected ({len(keys)},), one a pair")
    check_finite(scores, lambda row: "query {!r}, document {!r}".format(*keys[row]), "cross_encoder")
    new = iter(scores.tolist())
    return [{query: {document: next(new) for document in ids} for query, ids in run.items()} for run in runs]


def _within(
    scores: Mapping[str, float], positives: Mapping[str, float], limits: Limits, dropped: Counter[str]
) -> dict[str, float]:
    """The candidates of a query that no limit drops, best first; counts the others by the first limit that does."""
    lowest = min(-math.inf if math.isnan(score) else score for score in positives.values())
    kept = []
    for document in sorted(scores, key=lambda document: -scores[document]):
        reason = _too_close(scores[document], lowest, limits)
        if reason is None:
            kept.append(document)
        else:
            dropped[reason] += 1
    inside = kept[limits.range_min : limits.range_max]
    dropped["position"] += len(kept) - len(inside)
    return {document: scores[document] for document in inside}


def _too_close(score: float, lowest: float, limits: Limits) -> str | None:
    """The margin or threshold that drops a candidate, or None; `lowest` is the positives' lowest score."""
    if limits.absolute_margin is not None and score + limits.absolute_margin > lowest:
        return "absolute_margin"
    if limits.relative_margin is not None:
        highest = lowest - abs(lowest) * limits.relative_margin if math.isfinite(lowest) else lowest
        if score > highest:
            return "relative_margin"
    if limits.max_score is not None and score > limits.max_score:
        return "max_score"
    if limits.min_score is not None and score < limits.min_score:
        return "min_score"
    return None
