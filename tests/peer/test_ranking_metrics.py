"""Metrics of a ranking against scikit-learn's, and against every order that equal scores allow."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from crossenc_kit.evaluation.ranking_metrics import (
    average_precision_of,
    ndcg,
    precision_at,
    recall_at,
    reciprocal_rank,
    success_at,
)

SCORES = st.integers(-4, 4).map(lambda number: number / 4)  # with ties
CANDIDATES = st.lists(st.tuples(SCORES, st.integers(0, 3)), min_size=1, max_size=12)
FEW = st.lists(st.tuples(SCORES, st.integers(0, 3)), min_size=1, max_size=6)
DEPTHS = st.one_of(st.none(), st.integers(1, 15))


def columns(rows):
    return (np.asarray(column) for column in zip(*rows, strict=True))


def in_every_order(rows):
    """The grades of each ranking that the scores allow: those of equal scores in every order."""
    groups = [
        [grade for score, grade in rows if score == value] for value in sorted({s for s, _ in rows}, reverse=True)
    ]
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield list(itertools.chain(*orders))


class TestAgainstScikitLearn:
    @given(CANDIDATES.filter(lambda rows: len(rows) > 1), DEPTHS)
    def test_gain_with_ties_and_grades(self, rows, k):
        scores, grades = columns(rows)
        assert ndcg(scores, grades, k) == pytest.approx(ndcg_score([grades], [scores], k=k), abs=1e-12)

    @given(CANDIDATES.filter(lambda rows: any(grade for _, grade in rows)))
    def test_average_precision_with_ties(self, rows):
        scores, grades = columns(rows)
        assert average_precision_of(scores, grades) == pytest.approx(average_precision_score(grades > 0, scores))

    def test_grades_that_are_no_whole_numbers(self):
        rng = np.random.default_rng(0)
        for _ in range(50):
            scores, grades = rng.normal(size=40), rng.random(40)
            assert ndcg(scores, grades, 10) == pytest.approx(ndcg_score([grades], [scores], k=10), abs=1e-12)


class TestAgainstEveryOrderOfEqualScores:
    @settings(max_examples=50)
    @given(FEW, DEPTHS)
    def test_reciprocal_rank_is_the_worst(self, rows, k):
        found = []
        for order in in_every_order(rows):
            hits = [rank for rank, grade in enumerate(order, 1) if grade]
            found.append(1 / hits[0] if hits and (k is None or hits[0] <= k) else 0)
        assert reciprocal_rank(*columns(rows), k) == min(found)

    @settings(max_examples=50)
    @given(FEW, DEPTHS)
    def test_gain_is_the_mean(self, rows, k):
        def dcg(order):
            return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(order[:k], 1))

        best = dcg(sorted((grade for _, grade in rows), reverse=True))
        found = [dcg(order) / best if best else 0 for order in in_every_order(rows)]
        assert ndcg(*columns(rows), k) == pytest.approx(np.mean(found))

    @settings(max_examples=50)
    @given(FEW, st.integers(1, 8), st.integers(1, 3))
    def test_counts_are_the_mean_and_success_the_worst(self, rows, k, grade):
        every = [sum(g >= grade for g in order[:k]) for order in in_every_order(rows)]
        relevant = sum(g >= grade for _, g in rows)
        scores, grades = columns(rows)
        expected = np.mean(every) / relevant if relevant else 0
        assert recall_at(scores, grades, k, relevant_from=grade) == pytest.approx(expected)
        assert precision_at(scores, grades, k, relevant_from=grade) == pytest.approx(np.mean(every) / k)
        assert success_at(scores, grades, k, relevant_from=grade) == float(min(every) > 0)

    @settings(max_examples=50)
    @given(FEW)
    def test_average_precision_takes_the_rank_of_the_last_of_equals(self, rows):
        found = []
        for score, grade in rows:
            if grade:
                retrieved = [other for value, other in rows if value >= score]
                found.append(sum(other > 0 for other in retrieved) / len(retrieved))
        assert average_precision_of(*columns(rows)) == pytest.approx(np.mean(found) if found else 0)
