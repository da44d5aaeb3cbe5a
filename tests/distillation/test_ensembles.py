"""Ensembles: by hand, against scipy, as scorers, and members that do not fit together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit import Pairs, cached_scores, ensemble, evaluate_correlation, word_overlap

SCORES = [[3.0, 1.0, 2.0, 5.0], [10.0, 30.0, 20.0, 7.0]]
LISTS = [0, 3, 4]
PAIRS = [("q", "a"), ("q", "bb"), ("q", "cccc"), ("r", "a")]
NUMBERS = st.floats(-1e3, 1e3).map(lambda value: round(value, 1))


def lengths(pairs):
    return np.array([len(right) for _, right in pairs])


def minus_lengths(pairs):
    return [-10.0 * len(right) for _, right in pairs]


class Classes:
    """A scorer of three classes whose scores of the pair in row r are r, r + 0.1 and r + 0.2 for a, b and c."""

    def __init__(self, *names):
        self.label_names = names

    def predict(self, pairs):
        value = {"a": 0.0, "b": 0.1, "c": 0.2}
        return np.array([[row + value.get(name, 9) for name in self.label_names] for row in range(len(pairs))])


class TestClasses:
    def test_members_are_brought_to_one_order(self):
        both = ensemble([Classes("c", "a", "b"), Classes("a", "b", "c").predict])
        assert both.label_names == ("c", "a", "b")
        assert both(PAIRS[:2]) == pytest.approx(np.array([[0.2, 0.0, 0.1], [1.2, 1.0, 1.1]]))
        unnamed = ensemble([lambda pairs: np.zeros((len(pairs), 3)), Classes("b", "c", "a")])
        assert unnamed.label_names == ("b", "c", "a")
        assert unnamed(PAIRS[:1]) == pytest.approx(np.array([[0.05, 0.1, 0.0]]))
        assert ensemble([lengths, minus_lengths]).label_names == ()

    def test_other_classes(self):
        with pytest.raises(ValueError, match="member 1 has the classes a, b, d, member 0 a, b, c: not the same"):
            ensemble([Classes("a", "b", "c"), Classes("a", "b", "d")])


class TestByHand:
    def test_mean(self):
        assert ensemble(SCORES).tolist() == [6.5, 15.5, 11, 6]
        assert ensemble(SCORES, weights=[3, 1]).tolist() == [4.75, 8.25, 6.5, 5.5]
        classes = [[[1.0, 2.0], [3.0, 4.0]], [[3.0, 0.0], [5.0, 0.0]]]
        assert ensemble(classes).tolist() == [[2, 1], [4, 2]]

    def test_rank_mean(self):
        assert ensemble([SCORES[0]], "rank_mean").tolist() == pytest.approx([2 / 3, 0, 1 / 3, 1])
        assert ensemble([SCORES[0]], "rank_mean", groups=LISTS).tolist() == [1, 0, 0.5, 0.5]  # the last is alone
        assert ensemble(SCORES, "rank_mean", groups=LISTS).tolist() == [0.5, 0.5, 0.5, 0.5]
        assert ensemble([[4.0, 4.0, 1.0, 9.0]], "rank_mean").tolist() == pytest.approx([0.5, 0.5, 0, 1])

    def test_standardised_mean(self):
        assert ensemble([[1.0, 3.0, 5.0, 5.0]], "standardised_mean", groups=[0, 2, 4]).tolist() == [-1, 1, 0, 0]
        assert ensemble([[1.0, 3.0], [500.0, 100.0]], "standardised_mean").tolist() == [0, 0]
        assert ensemble([[0.1] * 3], "standardised_mean").tolist() == [0, 0, 0]  # though 0.1 is not exact

    def test_no_pairs(self):
        for how in ("mean", "rank_mean", "standardised_mean"):
            assert ensemble([[], []], how).shape == (0,)


class TestLaws:
    @given(st.lists(st.lists(NUMBERS, min_size=6, max_size=6), min_size=1, max_size=3))
    def test_ranks_and_standard_scores_are_scipy_s(self, members):
        stats = pytest.importorskip("scipy.stats")
        offsets = [0, 1, 4, 6]
        expected = np.zeros(6)
        standard = np.zeros(6)
        for start, stop in ((0, 1), (1, 4), (4, 6)):
            for scores in members:
                own = np.array(scores[start:stop])
                ranks = (stats.rankdata(own) - 1) / (len(own) - 1) if len(own) > 1 else 0.5
                expected[start:stop] += ranks / len(members)
                if np.ptp(own):
                    standard[start:stop] += stats.zscore(own) / len(members)
        assert ensemble(members, "rank_mean", groups=offsets) == pytest.approx(expected)
        assert ensemble(members, "standardised_mean", groups=offsets) == pytest.approx(standard, abs=1e-9)

    @given(st.lists(NUMBERS, min_size=2, max_size=8), st.floats(0.5, 20), NUMBERS)
    def test_a_member_s_scale_does_not_count(self, scores, factor, shift):
        other = np.arange(len(scores))
        for how in ("rank_mean", "standardised_mean"):
            one = ensemble([scores, other], how)
            assert ensemble([np.array(scores) * factor + shift, other], how) == pytest.approx(one, abs=1e-6)

    @given(st.permutations(range(6)), st.sampled_from(["mean", "rank_mean", "standardised_mean"]))
    def test_the_order_of_the_pairs_does_not_count(self, order, how):
        members = np.array([[3, 1, 2, 2, 5, 0], [9, 7, 8, 8, 8, 1.0]])
        assert ensemble(members[:, order], how) == pytest.approx(ensemble(members, how)[order])


class TestScorers:
    def test_a_scorer_of_scorers(self):
        assert ensemble([lengths, minus_lengths])(PAIRS).tolist() == [-4.5, -9, -18, -4.5]
        ranks = ensemble([lengths, minus_lengths], "rank_mean", weights=[1, 0])
        assert ranks(PAIRS).tolist() == pytest.approx([1 / 6, 2 / 3, 1, 1 / 6])

    def test_lists_of_scorers(self):
        by_left = ensemble([lengths], "rank_mean", groups="left")
        assert by_left(PAIRS).tolist() == [0, 0.5, 1, 0.5]
        assert by_left([PAIRS[i] for i in (2, 3, 0, 1)]).tolist() == [1, 0.5, 0, 0.5]
        assert ensemble([lengths], "rank_mean", groups=LISTS)(PAIRS).tolist() == [0, 0.5, 1, 0.5]
        with pytest.raises(ValueError, match="groups must rise from 0 to 3, the number of scores; got 0 to 4"):
            ensemble([lengths], "rank_mean", groups=LISTS)(PAIRS[:3])

    def test_it_is_evaluated_like_any_scorer(self):
        data = Pairs(*map(list, zip(*PAIRS[:3], strict=True)), labels=np.array([0.0, 0.5, 1.0]))
        report = evaluate_correlation(ensemble([lengths, word_overlap]), data, resamples=0)
        assert report.spearman == 1

    def test_a_cache_takes_means_and_refuses_ranks(self, tmp_path):
        found = cached_scores(ensemble([lengths, minus_lengths]), PAIRS, tmp_path, teacher="both-1", shard_size=2)
        assert found.tolist() == [-4.5, -9, -18, -4.5]
        with pytest.raises(ValueError, match="depend on the whole list: cache the scores of its members"):
            cached_scores(ensemble([lengths], "rank_mean"), PAIRS, tmp_path, teacher="ranks-1")


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        ([], {}, "expected scorers or arrays of scores, got 0"),
        ([lengths, [1.0]], {}, "got 2, 1 of them scorers"),
        ([[1.0], [1.0, 2.0]], {}, r"member 1 has scores of shape \(2,\), member 0 of \(1,\)"),
        ([[1.0], [float("nan")]], {}, "row 0: the score of member 1 is nan"),
        ([[1.0]], {"how": "median"}, "how is 'median'; expected one of mean, rank_mean, standardised_mean"),
        ([[[1.0, 2.0]]], {"how": "rank_mean"}, r"rank_mean takes one score per pair, these have shape \(1, 2\)"),
        ([[1.0]], {"groups": "left"}, "needs the texts"),
        ([lengths], {"groups": "query"}, "groups is 'query'"),
        ([[1.0, 2.0]], {"groups": [0, 1]}, "groups must rise from 0 to 2, the number of scores; got 0 to 1"),
        ([[1.0, 2.0]], {"groups": [0, 2, 1, 2]}, "groups must rise from 0 to 2"),
        ([[1.0, 2.0]], {"groups": [0.0, 2.0]}, "whole numbers"),
        ([[1.0]], {"weights": [1, 2]}, "weights are 1 numbers, one per member"),
        ([[1.0]], {"weights": [-1]}, "none negative"),
        ([[1.0]], {"weights": [0]}, "not all 0"),
    ],
)
def test_what_does_not_fit(members, options, message):
    with pytest.raises(ValueError, match=message):
        ensemble(members, **options)
