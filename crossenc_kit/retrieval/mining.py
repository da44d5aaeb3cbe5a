"""Hard negatives: documents that a first stage ranks high and that are not known to answer.

The names and rules are those of `sentence_transformers.util.mine_hard_negatives`. Let P be the most
known relevant documents of one query, s a candidate's score, and p the *lowest* score of the query's
positives.

1. Candidates are the first `range_max` + P documents of the run, without those known relevant (a
   grade above `negative_grade`; a positive has at least `relevant_from`, a grade between is neither)
   and without copies: the text of the query, of a known relevant document, or of an earlier candidate.
2. Dropped is what has  s + `absolute_margin` > p,  s > p - |p| `relative_margin`,  s > `max_score`
   or  s < `min_score`.
3. Of what is left, positions `range_min` to `range_max` (from 0, the last not included) stay.
4. `num_negatives` of them are chosen: the first ("top") or some at random ("random").

A positive's score is that of the first stage, which is asked for it whatever its rank. A positive
that a run lacks is below every document of it, so that a margin drops them all.

Some negatives are false: relevant, but not judged. The closer to the positives, the more of them;
`negatives.false_negative_rate` measures how many. Leaving out copies, and a cross-encoder without
margin or threshold, are the kit's own rules.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossenc_kit.data.collection import Collection, Run
from crossenc_kit.data.documents import check_depth
from crossenc_kit.errors import DataError
from crossenc_kit.retrieval.baselines import random_index
from crossenc_kit.retrieval.bm25 import bm25_index
from crossenc_kit.retrieval.dense import dense_index
from crossenc_kit.retrieval.negatives import (
    OUTPUTS,
    SAMPLING,
    Choice,
    Known,
    MinedNegatives,
    Scores,
    mined_negatives,
    what_is_known,
)
from crossenc_kit.scorers import Scorer, as_scorer, check_finite

FIRST_STAGES: dict[str, Callable[..., Any]] = {
    "bm25": bm25_index,
    "dense": dense_index,
    "random": random_index,
}


@dataclass(frozen=True)
class Limits:
    """Say which candidates are dropped: by their score, and by their position among the rest."""

    absolute_margin: float | None
    relative_margin: float | None
    max_score: float | None
    min_score: float | None
    range_min: int
    range_max: int

    def __post_init__(self) -> None:
        check_depth(self.range_min, "range_min", least=0)
        check_depth(self.range_max, "range_max")
        for name in ("absolute_margin", "relative_margin"):
            margin = getattr(self, name)
            if margin is not None and not margin >= 0:
                raise ValueError(f"{name} is {margin}; a margin is at least 0")

    @property
    def of_scores(self) -> list[str]:
        """Name the limits that compare scores."""
        names = ("absolute_margin", "relative_margin", "max_score", "min_score")
        return [name for name in names if getattr(self, name) is not None]

    def reason(self, score: float, lowest: float) -> str | None:
        """Name the limit that drops a candidate, or None; `lowest` is the positives' lowest score."""
        if self.absolute_margin is not None and score + self.absolute_margin > lowest:
            return "absolute_margin"
        if self.relative_margin is not None:
            room = abs(lowest) * self.relative_margin if math.isfinite(lowest) else 0.0
            if score > lowest - room:
                return "relative_margin"
        if self.max_score is not None and score > self.max_score:
            return "max_score"
        if self.min_score is not None and score < self.min_score:
            return "min_score"
        return None


def mine_hard_negatives(
    collection: Collection,
    *,
    run: Run | None = None,
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
    relevant_from: float = 1,
    negative_grade: float = 0,
    output: str = "groups",
    drop_short: bool = False,
    seed: int = 0,
) -> MinedNegatives:
    """Mine negatives for every query that has a positive, by the rules at the top of this file.

    first_stage: "bm25", "dense", "random" (no scores, the weak baseline) or a search; or give a `run`
    cross_encoder: scores candidates and positives of the first stage anew, and orders them
    output: "groups" (one positive and the negatives, labels 1, 0, 0, ...), "lists" (all positives of
        a query together) or "pairs"
    drop_short: leave out queries with fewer than `num_negatives` negatives, not only those with none

    Raises `ValueError` for options that do not go together, and `DataError` if the run or the scores
    do not fit, or if no query has a positive or a negative.
    """
    limits = Limits(absolute_margin, relative_margin, max_score, min_score, range_min, range_max)
    choice = Choice(num_negatives, sampling, output, drop_short, seed)
    scored = run is not None or first_stage != "random" or cross_encoder is not None
    if limits.of_scores and not scored:
        name = limits.of_scores[0]
        raise ValueError(f"{name} compares scores, but random negatives have none; give a cross_encoder")
    _check_choice(choice, range_max - range_min)
    known = what_is_known(collection, relevant_from, negative_grade)
    depth = range_max + max(map(len, known.excluded.values()))
    found = _find(collection, known, depth, first_stage, seed) if run is None else run
    collection.check(found, name="the run" if run is not None else "the first stage's run")
    candidates, dropped = _candidates(collection, found, known, depth)
    scores_of = found if scored else {}
    positives: Scores = {}
    for query, ids in known.positives.items():
        own = scores_of.get(query, {})
        positives[query] = {document: own.get(document, math.nan) for document in ids}
    if cross_encoder is not None:
        candidates, positives = _rescore(cross_encoder, collection, candidates, positives)
    left = {q: _within(own, positives[q], limits, dropped) for q, own in candidates.items()}
    if not scored:
        left = {query: dict.fromkeys(ids, math.nan) for query, ids in left.items()}
    return mined_negatives(collection, known, left, positives, dropped, choice)


def _check_choice(choice: Choice, positions: int) -> None:
    check_depth(choice.num_negatives, "num_negatives")
    if positions < choice.num_negatives:
        raise ValueError(
            f"range_min and range_max leave {max(0, positions)} positions, too few for "
            f"num_negatives={choice.num_negatives}"
        )
    for name, known in (("sampling", SAMPLING), ("output", OUTPUTS)):
        value = getattr(choice, name)
        if value not in known:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}")


def _find(
    collection: Collection,
    known: Known,
    depth: int,
    first_stage: str | Callable[..., Run],
    seed: int,
) -> Run:
    """Search for the queries that have positives, and ask for these positives if possible."""
    asked = {query: collection.queries[query] for query in known.positives}
    if first_stage == "random":
        return random_index(collection.documents, seed=seed)(asked, depth)
    if isinstance(first_stage, str) and first_stage in FIRST_STAGES:
        first_stage = FIRST_STAGES[first_stage](collection.documents)
    if not callable(first_stage):
        expected = ", ".join(map(repr, FIRST_STAGES))
        raise ValueError(f"first_stage is {first_stage!r}; expected {expected} or a search")
    if "include" in inspect.signature(first_stage).parameters:
        return first_stage(asked, depth, include=known.positives)
    return first_stage(asked, depth)


def _candidates(collection: Collection, run: Run, known: Known, depth: int) -> tuple[Scores, Counter[str]]:
    """Return each query's first `depth` documents without known relevant ones and copies."""
    documents = collection.documents
    candidates: Scores = {}
    dropped: Counter[str] = Counter()
    for query, excluded in known.excluded.items():
        scores = run.get(query, {})
        texts = {collection.queries[query], *(documents[document] for document in excluded)}
        candidates[query] = {}
        for document in sorted(scores, key=lambda document: -scores[document])[:depth]:
            if document in excluded:
                positive = document in known.positives[query]
                dropped["positive" if positive else "grade between"] += 1
            elif documents[document] in texts:
                dropped["copy"] += 1
            else:
                candidates[query][document] = float(scores[document])
                texts.add(documents[document])
    return candidates, dropped


def _rescore(scorer: Scorer, collection: Collection, *runs: Scores) -> list[Scores]:
    """Give the runs the scores of a scorer, all pairs in one call."""
    keys = [(query, document) for run in runs for query, own in run.items() for document in own]
    pairs = [(collection.queries[query], collection.documents[name]) for query, name in keys]
    scores = np.asarray(as_scorer(scorer)(pairs), dtype=float)
    if scores.shape != (len(keys),):
        expected = f"expected ({len(keys)},), one per pair"
        raise DataError(f"cross_encoder gave scores of shape {scores.shape}; {expected}")
    check_finite(scores, lambda row: "query {!r}, document {!r}".format(*keys[row]), "cross_encoder")
    new = iter(scores.tolist())
    return [{q: {document: next(new) for document in ids} for q, ids in run.items()} for run in runs]


def _within(
    scores: Mapping[str, float],
    positives: Mapping[str, float],
    limits: Limits,
    dropped: Counter[str],
) -> dict[str, float]:
    """Keep a query's candidates within the limits, best first; count the others by their limit."""
    lowest = min(-math.inf if math.isnan(score) else score for score in positives.values())
    kept = []
    for document in sorted(scores, key=lambda document: -scores[document]):
        reason = limits.reason(scores[document], lowest)
        if reason is None:
            kept.append(document)
        else:
            dropped[reason] += 1
    inside = kept[limits.range_min : limits.range_max]
    dropped["position"] += len(kept) - len(inside)
    return {document: scores[document] for document in inside}
