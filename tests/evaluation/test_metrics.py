"""Correlations and bootstrap intervals: known answers, scipy's, and the laws they obey."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.evaluation.metrics import bootstrap_difference, bootstrap_interval, pearson, ranks, spearman

NUMBERS = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
COLUMNS = st.integers(2, 30).flatmap(lambda size: st.tuples(*[st.lists(NUMBERS, min_size=size, max_size=size)] * 2))
CORRELATIONS = pytest.mark.parametrize("metric", [pearson, spearman])


class TestKnownAnswers:
    def test_a_line(self):
        assert pearson([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
        assert pearson([1, 2, 3], [30, 20, 10]) == pytest.approx(-1)

    def test_a_corner(self):
        # deviations (-1, 0, 1) and (-1, 2, -1): their product sums to 0
        assert pearson([1, 2, 3], [0, 3, 0]) == pytest.approx(0)
        # (-1, 0, 1) and (-4/3, -1/3, 5/3): 3 / sqrt(2 * 42/9)
        assert pearson([1, 2, 3], [0, 1, 3]) == pytest.approx(3 / np.sqrt(2 * 42 / 9))

    def test_a_curve_that_rises_is_a_line_of_ranks(self):
        assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
        assert pearson([1, 2, 3, 4], [1, 10, 100, 1000]) < 0.9

    def test_one_swap_of_neighbours(self):
        # 1 - 6 sum d^2 / (n (n^2 - 1)) with d = (0, 1, -1, 0)
        assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(1 - 6 * 2 / (4 * 15))

    def test_equal_values_share_the_mean_of_their_ranks(self):
        assert ranks([30, 10, 20]).tolist() == [3, 1, 2]
        assert ranks([5, 1, 5, 5]).tolist() == [3, 1, 3, 3]
        assert ranks([7, 7]).tolist() == [1.5, 1.5]
        assert ranks([]).tolist() == []

    @CORRELATIONS
    @pytest.mark.parametrize("constant", [0.0, 0.1, 0.7, 1e-300, -3e7])
    def test_a_constant_carries_no_information(self, metric, constant):
        # 0.1 + 0.1 + 0.1 is not 3 * 0.1: a mean may differ from the equal numbers it is the mean of
        assert metric([constant] * 3, [1, 2, 4]) == 0
        assert metric([1, 2, 4], [constant] * 3) == 0
        assert metric([constant] * 3, [constant] * 3) == 0
        assert metric([constant] * 3, [0.1] * 3) == 0

    def test_very_large_and_very_small_numbers(self):
        expected = pearson([2, 3, -2], [1, 2, 0])
        assert pearson([1e308, 1.5e308, -1e308], [1, 2, 0]) == pytest.approx(expected)
        assert pearson([2e-300, 3e-300, -2e-300], [1, 2, 0]) == pytest.approx(expected)

    @CORRELATIONS
    def test_any_array_like_and_a_plain_float_back(self, metric):
        assert type(metric([0, 1, 1], [0.5, 1, 2])) is float
        assert metric((0, 1, 1), np.array([False, True, True])) == pytest.approx(1)


class TestAgainstScipy:
    @CORRELATIONS
    @pytest.mark.parametrize("ties", [False, True])
    def test_correlations(self, metric, ties):
        rng = np.random.default_rng(0)
        reference = {pearson: scipy.stats.pearsonr, spearman: scipy.stats.spearmanr}[metric]
        for size in (2, 3, 10, 500):
            x = rng.normal(size=size)
            y = x + rng.normal(size=size)
            if ties:
                x, y = np.round(x), np.round(2 * y)
            if np.ptp(x) and np.ptp(y):
                assert metric(x, y) == pytest.approx(reference(x, y).statistic, abs=1e-12)

    @settings(max_examples=100)
    @given(st.lists(NUMBERS))
    def test_ranks(self, values):
        assert ranks(values).tolist() == scipy.stats.rankdata(values).tolist()

    def test_the_interval_is_the_percentile_bootstrap(self):
        values = np.random.default_rng(1).gamma(2.0, size=80)
        theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=2)
        ours = bootstrap_interval(np.mean, values, resamples=5000)
        width = np.ptp(theirs.confidence_interval)
        assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.05 * width)


class TestLaws:
    @given(COLUMNS)
    def test_bounds_and_symmetry(self, columns):
        x, y = columns
        for metric in (pearson, spearman):
            assert -1 <= metric(x, y) <= 1
            assert metric(x, y) == pytest.approx(metric(y, x), abs=1e-9)
            assert metric(x, np.negative(y)) == pytest.approx(-metric(x, y), abs=1e-9)
            assert metric(x, x) == pytest.approx(1 if np.ptp(x) else 0)

    @given(COLUMNS, st.randoms(use_true_random=False))
    def test_the_order_of_the_rows_does_not_matter(self, columns, random):
        rows = list(zip(*columns, strict=True))
        random.shuffle(rows)
        x, y = zip(*rows, strict=True)
        assert spearman(x, y) == pytest.approx(spearman(*columns), abs=1e-9)
        assert pearson(x, y) == pytest.approx(pearson(*columns), abs=1e-6)

    @given(COLUMNS)
    def test_spearman_sees_the_order_alone(self, columns):
        x, y = map(np.asarray, columns)
        expected = spearman(x, y)
        for rising in (lambda v: 3 * v + 7, np.arcsinh, lambda v: v**3):
            assert spearman(rising(x), y) == pytest.approx(expected, abs=1e-12)
            assert spearman(x, -rising(y)) == pytest.approx(-expected, abs=1e-12)

    @given(COLUMNS, st.floats(0.1, 10), st.floats(-10, 10))
    def test_pearson_does_not_see_scale_and_origin(self, columns, scale, origin):
        x, y = map(np.asarray, columns)
        # a spread that the rounding of `x * scale + origin` cannot change much
        if np.ptp(x) == 0 or np.ptp(x) > 1e-2 * (np.abs(x).max() + 1):
            assert pearson(x * scale + origin, y) == pytest.approx(pearson(x, y), abs=1e-6)


class TestErrors:
    @CORRELATIONS
    def test_a_value_that_is_not_finite_is_named_with_its_row(self, metric):
        with pytest.raises(ValueError, match=r"^row 2: the score is nan; correlations need finite numbers$"):
            metric([0, 1, np.nan, np.inf], [0, 1, 2, 3])
        with pytest.raises(ValueError, match=r"^row 1: the label is -inf"):
            metric([0, 1, 2], [0, -np.inf, 2])

    @CORRELATIONS
    def test_shapes(self, metric):
        with pytest.raises(ValueError, match=r"scores have shape \(3,\) and labels \(2,\)"):
            metric([1, 2, 3], [1, 2])
        with pytest.raises(ValueError, match=r"scores have shape \(2, 1\) and labels \(2, 1\)"):
            metric([[1], [2]], [[1], [2]])
        with pytest.raises(ValueError, match="at least 2 pairs, got 1"):
            metric([1], [1])

    def test_bootstrap(self):
        with pytest.raises(ValueError, match=r"arrays of one length, at least 1; got lengths \[2, 3\]"):
            bootstrap_interval(pearson, [1, 2], [1, 2, 3])
        with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
            bootstrap_interval(np.mean, [1, 2], resamples=0)
        with pytest.raises(ValueError, match=r"got lengths \[0\]"):
            bootstrap_interval(np.mean, [])


class TestBootstrap:
    def test_nothing_varies(self):
        assert bootstrap_interval(np.mean, [3, 3, 3]) == (3, 3)

    def test_rows_are_resampled_together(self):
        x = np.arange(20.0)
        assert bootstrap_interval(pearson, x, 2 * x) == pytest.approx((1, 1))

    def test_the_seed_alone_decides(self):
        values = np.random.default_rng(0).normal(size=30)
        assert bootstrap_interval(np.mean, values, seed=1) == bootstrap_interval(np.mean, values, seed=1)
        assert bootstrap_interval(np.mean, values, seed=1) != bootstrap_interval(np.mean, values, seed=2)

    def test_a_higher_level_gives_a_wider_interval(self):
        values = np.random.default_rng(0).normal(size=30)
        intervals = [bootstrap_interval(np.mean, values, level=level) for level in (0.5, 0.9, 0.99)]
        for (low, high), (lower, higher) in pairwise(intervals):
            assert lower < low < np.mean(values) < high < higher

    def test_19_of_20_intervals_hold_the_truth(self):
        """Mean 0 of a normal distribution, 200 samples of 60: the share is within 3 standard errors of 95 %."""
        rng = np.random.default_rng(0)
        samples = rng.normal(size=(200, 60))
        intervals = [bootstrap_interval(np.mean, sample, resamples=200, seed=i) for i, sample in enumerate(samples)]
        held = np.mean([low <= 0 <= high for low, high in intervals])
        assert 0.90 <= held <= 0.98
        widths = [high - low for low, high in intervals]
        assert np.mean(widths) == pytest.approx(2 * 1.96 / np.sqrt(60), rel=0.06)

    def test_a_scorer_does_not_differ_from_itself(self):
        rng = np.random.default_rng(0)
        scores, labels = rng.normal(size=(2, 40))
        assert bootstrap_difference(pearson, scores, scores, labels) == (0, 0)

    def test_what_two_scorers_share_cancels(self):
        """A small gain that all rows share is seen, though the two intervals overlap."""
        rng = np.random.default_rng(0)
        labels = rng.normal(size=300)
        better = labels + rng.normal(size=300)
        worse = better + 0.6 * rng.normal(size=300)
        low, high = bootstrap_difference(spearman, better, worse, labels, resamples=500)
        assert 0 < low < spearman(better, labels) - spearman(worse, labels) < high
        apart = [bootstrap_interval(spearman, scores, labels, resamples=500) for scores in (better, worse)]
        assert apart[0][0] < apart[1][1]
        assert high - low < 0.7 * min(np.ptp(interval) for interval in apart)
        assert bootstrap_difference(spearman, worse, better, labels, resamples=500) == pytest.approx((-high, -low))
