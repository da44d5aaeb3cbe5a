"""Metrics of a ranking: known answers, scikit-learn's, every order of equal scores, and the laws they obey."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from crossenc_kit.ranking_metrics import average_precision_of, ndcg, reciprocal_rank

ALL = pytest.mark.parametrize("metric", [reciprocal_rank, ndcg, average_precision_of])
AT_K = pytest.mark.parametrize("metric", [reciprocal_rank, ndcg])
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


class TestKnownAnswers:
    def test_the_first_relevant_candidate(self):
        assert reciprocal_rank([0.9, 0.5, 0.1], [1, 0, 1]) == 1
        assert reciprocal_rank([0.5, 0.9, 0.1], [1, 0, 0]) == 1 / 2
        assert reciprocal_rank([0.5, 0.9, 0.7], [2, 0, 0]) == 1 / 3  # a grade of 2 is relevant, and no more than that
        assert reciprocal_rank([0.5, 0.9, 0.1], [0, 0, 0]) == 0

    def test_a_rank_below_k_counts_nothing(self):
        scores, grades = [0.5, 0.9, 0.7], [1, 0, 0]  # rank 3
        assert [reciprocal_rank(scores, grades, k) for k in (1, 2, 3, 4, None)] == [0, 0, 1 / 3, 1 / 3, 1 / 3]

    def test_equal_scores_give_the_worst_rank(self):
        assert reciprocal_rank([0.5, 0.5, 0.5, 0.1], [0, 1, 0, 0]) == 1 / 3
        assert reciprocal_rank([0.5, 0.5, 0.5, 0.5], [1, 1, 0, 0]) == 1 / 3  # two irrelevant ones before the first
        assert reciprocal_rank([0.5, 0.5, 0.5], [1, 0, 0], 2) == 0
        assert reciprocal_rank([0.0, -0.0], [1, 0]) == 1 / 2  # the two zeros are equal

    def test_gain(self):
        # ranked: grades 0, 2, 1: DCG = 2 / log2(3) + 1 / log2(4); the best order 2, 1, 0: 2 / log2(2) + 1 / log2(3)
        found = ndcg([0.9, 0.5, 0.7], [0, 1, 2])
        assert found == pytest.approx((2 / math.log2(3) + 1 / 2) / (2 + 1 / math.log2(3)))
        assert found == pytest.approx(0.66967, abs=1e-5)

    def test_gain_of_one_relevant_candidate(self):
        grades = [0, 0, 1]
        assert [ndcg([0.9, 0.7, 0.5], grades, k) for k in (1, 2, 3, 9)] == [0, 0, 1 / 2, 1 / 2]  # 1 / log2(3 + 1)
        assert ndcg([0.9, 0.7, 0.5], grades) == ndcg([0.9, 0.7, 0.5], grades, None) == 1 / 2
        assert ndcg([0.9, 0.7, 0.5], [1, 0, 0]) == 1
        assert ndcg([0.9, 0.7, 0.5], [0, 0, 0]) == 0

    def test_the_best_order_is_cut_at_k_too(self):
        # two relevant ones, at ranks 1 and 3: at 2 the best is 1 + 1 / log2(3), at 1 it is 1
        scores, grades = [0.9, 0.7, 0.5], [1, 0, 1]
        assert ndcg(scores, grades, 1) == 1
        assert ndcg(scores, grades, 2) == pytest.approx(1 / (1 + 1 / math.log2(3)))
        assert ndcg(scores, grades, 3) == pytest.approx(1.5 / (1 + 1 / math.log2(3)))

    def test_equal_scores_share_their_gain(self):
        # the relevant one is first or second, equally often
        assert ndcg([0.5, 0.5], [1, 0]) == pytest.approx((1 + 1 / math.log2(3)) / 2)
        assert ndcg([0.5, 0.5], [1, 0], 1) == pytest.approx(1 / 2)
        assert ndcg([0.9, 0.5, 0.5, 0.1], [0, 1, 0, 0], 2) == pytest.approx(1 / math.log2(3) / 2)

    def test_mean_of_precisions(self):
        # relevant at ranks 1, 3 and 4: precision 1, 2/3 and 3/4
        assert average_precision_of([4, 3, 2, 1], [1, 0, 1, 1]) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
        assert average_precision_of([4, 3, 2, 1], [0, 1, 0, 0]) == 1 / 2
        assert average_precision_of([4, 3, 2, 1], [0, 0, 0, 0]) == 0
        assert average_precision_of([4, 3, 2, 1], [3, 0, 2, 1]) == average_precision_of([4, 3, 2, 1], [1, 0, 1, 1])

    def test_equal_scores_are_retrieved_together(self):
        assert average_precision_of([0.5, 0.5, 0.5], [1, 0, 0]) == pytest.approx(1 / 3)
        # one at rank 1; two more among three that come together, precision 3 / 4
        assert average_precision_of([4, 2, 2, 2], [1, 0, 1, 1]) == pytest.approx((1 + 3 / 4 + 3 / 4) / 3)

    @ALL
    def test_one_candidate(self, metric):
        assert metric([0.3], [1]) == 1
        assert metric([0.3], [0]) == 0

    @ALL
    def test_a_python_float_comes_back_from_every_kind_of_array(self, metric):
        expected = metric([0.25, 0.5, 0.75], [1, 0, 1])
        for kind in (np.float32, np.float64, np.float16):
            assert type(metric(np.array([0.25, 0.5, 0.75], dtype=kind), np.array([True, False, True]))) is float
            assert metric(np.array([0.25, 0.5, 0.75], dtype=kind), (1, 0, 1)) == expected
        assert type(metric([1], [0])) is float


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
    @given(FEW)
    def test_average_precision_takes_the_rank_of_the_last_of_equals(self, rows):
        found = []
        for score, grade in rows:
            if grade:
                retrieved = [other for value, other in rows if value >= score]
                found.append(sum(other > 0 for other in retrieved) / len(retrieved))
        assert average_precision_of(*columns(rows)) == pytest.approx(np.mean(found) if found else 0)


class TestLaws:
    @ALL
    @given(CANDIDATES, st.randoms(use_true_random=False))
    def test_the_order_of_the_candidates_does_not_matter(self, metric, rows, random):
        before = metric(*columns(rows))
        random.shuffle(rows)
        assert metric(*columns(rows)) == pytest.approx(before, abs=1e-12)

    @AT_K
    @given(CANDIDATES, DEPTHS)
    def test_values_lie_between_0_and_1(self, metric, rows, k):
        assert 0 <= metric(*columns(rows), k) <= 1

    @given(CANDIDATES)
    def test_average_precision_lies_between_0_and_1(self, rows):
        assert 0 <= average_precision_of(*columns(rows)) <= 1

    @AT_K
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=20).filter(any), DEPTHS)
    def test_a_perfect_ranking_is_1(self, metric, grades, k):
        assert metric(grades, grades, k) == pytest.approx(1, abs=1e-12)

    @given(st.lists(st.integers(0, 1), min_size=1, max_size=20).filter(any))
    def test_the_average_precision_of_a_perfect_ranking_is_1(self, grades):
        assert average_precision_of(grades, grades) == 1

    @ALL
    @given(CANDIDATES)
    def test_only_the_order_of_the_scores_counts(self, metric, rows):
        scores, grades = columns(rows)
        assert metric(np.exp(scores), grades) == metric(scores, grades)

    @ALL
    @given(CANDIDATES.filter(lambda rows: any(g for _, g in rows) and not all(g for _, g in rows)))
    def test_a_relevant_candidate_that_rises_to_the_top_never_hurts(self, metric, rows):
        scores, grades = columns(rows)
        raised = scores.copy()
        raised[np.argmax(grades)] = 9
        assert metric(raised, grades) >= metric(scores, grades) - 1e-12

    @AT_K
    @given(CANDIDATES)
    def test_a_k_of_all_candidates_is_no_k(self, metric, rows):
        scores, grades = columns(rows)
        assert metric(scores, grades, len(rows)) == metric(scores, grades, None) == metric(scores, grades, 99)

    @ALL
    def test_the_arguments_are_left_as_they_were(self, metric):
        scores, grades = np.array([0.5, 0.1, 0.9]), np.array([0.0, 1.0, 2.0])
        metric(scores, grades)
        assert (scores.tolist(), grades.tolist()) == ([0.5, 0.1, 0.9], [0, 1, 2])


class TestErrors:
    @ALL
    @pytest.mark.parametrize(
        ("scores", "grades", "message"),
        [
            ([1, 2], [1], r"scores have shape \(2,\) and grades \(1,\); expected one of each for K >= 1 candidates"),
            ([], [], r"scores have shape \(0,\) and grades \(0,\); expected"),
            ([[1, 2]], [[1, 0]], r"scores have shape \(1, 2\) and grades \(1, 2\); expected"),
            (0.5, 1, r"scores have shape \(\) and grades \(\); expected"),
            ([1, math.nan, math.inf], [1, 0, 0], r"^candidate 1: the score is nan; rankings need finite numbers$"),
            ([1, 2], [1, math.inf], r"^candidate 1: the grade is inf; rankings need finite numbers$"),
        ],
    )
    def test_candidates_that_cannot_be_ranked(self, metric, scores, grades, message):
        with pytest.raises(ValueError, match=message):
            metric(scores, grades)

    @AT_K
    @pytest.mark.parametrize("k", [0, -1])
    def test_a_k_below_1(self, metric, k):
        with pytest.raises(ValueError, match=rf"^k must be at least 1, got {k}$"):
            metric([1, 2], [0, 1], k)

    def test_a_grade_below_0_has_no_gain(self):
        with pytest.raises(ValueError, match=r"^candidate 2: the grade is below 0; count it as 0$"):
            ndcg([1, 2, 3], [1, 0, -1])
        assert reciprocal_rank([1, 2, 3], [1, 0, -1]) == 1 / 3  # not relevant, for these two
        assert average_precision_of([1, 2, 3], [1, 0, -1]) == 1 / 3
