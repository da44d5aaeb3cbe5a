"""Metrics of a ranking: known answers, the laws they obey, and what they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit.evaluation.ranking_metrics import (
    average_precision_of,
    ndcg,
    precision_at,
    recall_at,
    reciprocal_rank,
    success_at,
)


def exponential(scores, grades, k=None):
    return ndcg(scores, grades, k, gains="exponential")


EVERY = [reciprocal_rank, ndcg, exponential, average_precision_of]
ALL = pytest.mark.parametrize("metric", EVERY)
AT_K = pytest.mark.parametrize("metric", [reciprocal_rank, ndcg, exponential])
NEED_K = pytest.mark.parametrize("metric", [recall_at, precision_at, success_at])
SCORES = st.integers(-4, 4).map(lambda number: number / 4)  # with ties
CANDIDATES = st.lists(st.tuples(SCORES, st.integers(0, 3)), min_size=1, max_size=12)
DEPTHS = st.one_of(st.none(), st.integers(1, 15))


def columns(rows):
    return (np.asarray(column) for column in zip(*rows, strict=True))


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

    def test_exponential_gain(self):
        # ranked: grades 0, 2, 1, gains 0, 3, 1; the best order 3, 1, 0
        found = ndcg([0.9, 0.5, 0.7], [0, 1, 2], gains="exponential")
        assert found == pytest.approx((3 / math.log2(3) + 1 / 2) / (3 + 1 / math.log2(3)))
        assert ndcg([3, 2, 1], [0, 1, 1], gains="exponential") == ndcg([3, 2, 1], [0, 1, 1])  # 2^1 - 1 = 1

    def test_counts_among_the_first_k(self):
        scores, grades = [0.9, 0.8, 0.7, 0.6], [0, 2, 0, 1]
        assert [recall_at(scores, grades, k) for k in (1, 2, 3, 4, 9)] == [0, 1 / 2, 1 / 2, 1, 1]
        assert [precision_at(scores, grades, k) for k in (1, 2, 3, 4, 8)] == [0, 1 / 2, 1 / 3, 1 / 2, 1 / 4]
        assert [success_at(scores, grades, k) for k in (1, 2, 3)] == [0, 1, 1]

    def test_counts_of_equal_scores(self):
        # one of three is relevant, two of the three are among the first two: in the mean 2 / 3 of it
        assert recall_at([5, 5, 5], [0, 1, 0], 2) == pytest.approx(2 / 3)
        assert precision_at([5, 5, 5], [0, 1, 0], 2) == pytest.approx(1 / 3)
        assert success_at([5, 5, 5], [0, 1, 0], 2) == 0  # at worst it is third
        assert success_at([5, 5, 5], [0, 1, 1], 2) == 1  # at worst second

    def test_what_is_relevant_is_said(self):
        scores, grades = [0.9, 0.8, 0.7, 0.6], [1, 2, 0, 3]
        assert reciprocal_rank(scores, grades, relevant_from=2) == 1 / 2
        assert reciprocal_rank(scores, grades, 1, relevant_from=2) == 0
        assert average_precision_of(scores, grades, relevant_from=2) == pytest.approx((1 / 2 + 2 / 4) / 2)
        assert recall_at(scores, grades, 2, relevant_from=2) == 1 / 2
        assert precision_at(scores, grades, 2, relevant_from=3) == 0
        assert success_at(scores, grades, 3, relevant_from=3) == 0
        assert success_at(scores, grades, 3, relevant_from=2.5) == 0
        assert reciprocal_rank([2, 1], [0.5, 1]) == 1  # by default every grade above 0
        assert reciprocal_rank([2, 1], [0.5, 1], relevant_from=1) == 1 / 2

    def test_what_the_first_stage_missed_counts(self):
        # candidates of grade 0 and 1; a document of grade 2 and one of grade 1 are none
        scores, grades, judged = [0.9, 0.8], [0, 1], [2, 0, 1, 1, 0]
        assert recall_at(scores, grades, 2, judged=judged) == pytest.approx(1 / 3)
        assert average_precision_of(scores, grades, judged=judged) == pytest.approx(1 / 2 / 3)
        assert average_precision_of(scores, grades, judged=judged, relevant_from=2) == 0
        best = 2 + 1 / math.log2(3) + 1 / 2
        assert ndcg(scores, grades, judged=judged) == pytest.approx(1 / math.log2(3) / best)
        assert ndcg(scores, grades, 2, judged=judged) == pytest.approx(1 / math.log2(3) / (2 + 1 / math.log2(3)))
        assert ndcg(scores, grades, 1, judged=judged) == 0
        best = 3 + 1 / math.log2(3) + 1 / 2
        assert ndcg(scores, grades, gains="exponential", judged=judged) == pytest.approx(1 / math.log2(3) / best)

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

    @given(CANDIDATES, st.lists(st.integers(0, 3), max_size=5), DEPTHS)
    def test_a_missed_document_is_one_that_is_ranked_below_k(self, rows, missed, k):
        scores, grades = columns(rows)
        judged = [*grades, *missed]
        far = [*scores, *(-1000 - np.arange(len(missed)))]
        cut = k or len(rows)
        assert recall_at(scores, grades, cut, judged=judged) == pytest.approx(
            recall_at(far, judged, min(cut, len(rows)))
        )
        k = min(cut, len(rows))
        assert ndcg(scores, grades, k, judged=judged) == pytest.approx(ndcg(far, judged, k))
        assert average_precision_of(scores, grades, judged=judged) <= average_precision_of(far, judged) + 1e-12
        assert ndcg(scores, grades, judged=grades[::-1]) == ndcg(scores, grades)

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
            ([1, math.nan, math.inf], [1, 0, 0], r"^candidate 1: the score is nan, not a finite number$"),
            ([1, 2], [1, math.inf], r"^candidate 1: the grade is inf, not a finite number$"),
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

    @NEED_K
    def test_these_need_what_the_others_need(self, metric):
        with pytest.raises(ValueError, match=r"^k must be at least 1, got 0$"):
            metric([1, 2], [0, 1], 0)
        with pytest.raises(ValueError, match=r"^candidate 1: the score is nan"):
            metric([1, math.nan], [0, 1], 1)

    def test_gains_that_there_are_not(self):
        with pytest.raises(ValueError, match=r"^gains must be one of linear, exponential; got 'exp'$"):
            ndcg([1], [1], gains="exp")
        with pytest.raises(ValueError, match=r"^2\^grade is too large for the grade 1100"):
            ndcg([1], [1100], gains="exponential")

    def test_a_grade_below_0_has_no_gain(self):
        with pytest.raises(ValueError, match=r"^candidate 2: the grade is below 0; count it as 0$"):
            ndcg([1, 2, 3], [1, 0, -1])
        assert reciprocal_rank([1, 2, 3], [1, 0, -1]) == 1 / 3  # not relevant, for these two
        assert average_precision_of([1, 2, 3], [1, 0, -1]) == 1 / 3
