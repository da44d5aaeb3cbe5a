"""Losses of lists: numbers worked by hand, plain loops, and the names."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_losses import LN2, batch
from torch import tensor

from crossenc_kit.evaluation.ranking_metrics import ndcg
from crossenc_kit.losses.listwise import (
    RANKING_LOSSES,
    adr_mse,
    approx_ndcg,
    group_cross_entropy,
    kl_divergence,
    listmle,
    listnet,
    multiple_negatives,
    position_aware_listmle,
)
from crossenc_kit.losses.pairwise import lambda_loss, margin_mse, ranknet


def one(function, scores, labels, **options):
    """The loss of one list, as a float."""
    scores, labels = tensor([scores], dtype=torch.float64), tensor([labels], dtype=torch.float64)
    return function(scores, labels, torch.ones(scores.shape, dtype=torch.bool), **options).item()


class TestByHand:
    def test_group_cross_entropy(self):
        scores = [0.0, math.log(3), math.log(4)]  # softmax 1/8, 3/8, 4/8
        assert one(group_cross_entropy, scores, [0, 1, 0]) == pytest.approx(-math.log(3 / 8))
        expected = -0.25 * math.log(1 / 8) - 0.75 * math.log(4 / 8)
        assert one(group_cross_entropy, scores, [1, 0, 3]) == pytest.approx(expected)
        assert one(group_cross_entropy, scores, [0, 0, 0]) == 0

    def test_multiple_negatives(self):
        scores = [0.0, math.log(3)]  # sigmoid 1/2 and 3/4; 4 (1/2 - 3/4) = -1
        assert one(multiple_negatives, scores, [1, 0], scale=4.0) == pytest.approx(math.log(1 + math.e))
        assert one(multiple_negatives, scores, [0, 1], scale=4.0) == pytest.approx(math.log(1 + 1 / math.e))
        assert one(multiple_negatives, scores, [1, 0], scale=1.0, sigmoid=False) == pytest.approx(-math.log(1 / 4))

    def test_listnet(self):
        # labels' distribution 1/3, 2/3; scores' 1/4, 3/4
        expected = -math.log(1 / 4) / 3 - 2 * math.log(3 / 4) / 3
        assert one(listnet, [0.0, math.log(3)], [0.0, LN2]) == pytest.approx(expected)

    def test_kl_divergence(self):
        expected = math.log((1 / 3) / (1 / 4)) / 3 + 2 * math.log((2 / 3) / (3 / 4)) / 3
        assert one(kl_divergence, [0.0, math.log(3)], [0.0, LN2]) == pytest.approx(expected)
        found = one(kl_divergence, [0.0, 5 * math.log(3)], [0.0, 5 * LN2], temperature=5.0)
        assert found == pytest.approx(25 * expected)

    def test_ranknet(self):
        # pairs of labels (2, 1), (2, 0), (1, 0) with score differences -ln 3, 0 and ln 3
        found = one(ranknet, [0.0, math.log(3), 0.0], [2, 1, 0])
        assert found == pytest.approx((math.log(4) + LN2 + math.log(4 / 3)) / 3)
        assert one(ranknet, [0.0, math.log(3)], [1, 0], sigma=2.0) == pytest.approx(math.log(10))

    @pytest.mark.parametrize(
        ("weighting", "weight"),
        [
            ("none", 1.0),
            # the grades 2 and 0 have gains 3 and 0, over a best DCG of 3: 1 and 0. The ranks are 2 and 1
            ("lambda_rank", 1 - 1 / math.log2(3)),
            ("ndcg_loss2", 1 - 1 / math.log2(3)),  # places that are 1 apart
            ("ndcg_loss2pp", 10 * (1 - 1 / math.log2(3)) + 1 - 1 / math.log2(3)),
        ],
    )
    def test_lambda_loss(self, weighting, weight):
        found = one(lambda_loss, [0.0, math.log(3)], [2, 0], weighting=weighting)
        assert found == pytest.approx(weight * math.log2(4))

    def test_the_first_ndcg_loss(self):
        # over all four pairs: gain 1 over the discount of rank 2, times log2 of 2 (with itself) and of 4
        found = one(lambda_loss, [0.0, math.log(3)], [2, 0], weighting="ndcg_loss1")
        assert found == pytest.approx((1 + 2) / math.log2(3) / 4)

    def test_margin_mse(self):
        assert one(margin_mse, [3.0, 1.0], [0.5, 0.0]) == pytest.approx((2 - 0.5) ** 2)
        # margins 1, 3 and 2 against 0, 1 and 1
        assert one(margin_mse, [3.0, 2.0, 0.0], [1, 1, 0]) == pytest.approx((1 + 4 + 1) / 3)
        assert one(margin_mse, [3.0, 2.0, 0.0], [1, 1, 0], against_first=True) == pytest.approx((1 + 4) / 2)

    def test_listmle(self):
        # weights e^s of 2, 1 and 3, in the order of the labels 1, 3, 2: 1/6, then 3/5
        assert one(listmle, [LN2, 0.0, math.log(3)], [0, 2, 1]) == pytest.approx(-math.log(1 / 6) - math.log(3 / 5))
        # two of label 1 compete with the one of label 0, not with each other: 1/3 and 3/5
        assert one(listmle, [LN2, 0.0, math.log(3)], [0, 1, 1]) == pytest.approx(-math.log(1 / 3) - math.log(3 / 5))

    def test_position_aware_listmle(self):
        # the places weigh 3, 1 and 0 of 4; equal labels on places 1 and 2 weigh 2 each
        first, second = -math.log(1 / 6), -math.log(3 / 5)
        found = one(position_aware_listmle, [LN2, 0.0, math.log(3)], [0, 2, 1])
        assert found == pytest.approx((3 * first + second) / 4)
        found = one(position_aware_listmle, [LN2, 0.0, math.log(3)], [0, 1, 1])
        assert found == pytest.approx((-2 * math.log(1 / 3) + 2 * second) / 4)

    def test_adr_mse(self):
        # soft ranks 1 + 3/4 and 1 + 1/4, for the ranks 1 and 2
        expected = ((3 / 4) ** 2 + (3 / 4) ** 2 / math.log2(3)) / 2
        assert one(adr_mse, [0.0, math.log(3)], [1, 0]) == pytest.approx(expected)
        assert one(adr_mse, [0.0, math.log(3) / 2], [1, 0], alpha=2.0) == pytest.approx(expected)
        # equal labels have the rank 1.5
        assert one(adr_mse, [0.0, math.log(3)], [1, 1]) == pytest.approx((1 / 4) ** 2 / math.log2(2.5))

    def test_approx_ndcg(self):
        # gains 3 and 1 on the soft ranks 1 + 3/4 and 1 + 1/4
        best = 3 + 1 / math.log2(3)
        expected = 1 - (3 / math.log2(2.75) + 1 / math.log2(2.25)) / best
        assert one(approx_ndcg, [0.0, math.log(3)], [2, 1]) == pytest.approx(expected)
        assert one(approx_ndcg, [0.0, 2 * math.log(3)], [2, 1], temperature=2.0) == pytest.approx(expected)

    def test_numbers_that_tensorflow_ranking_publishes(self):
        # tensorflow.org/ranking: ApproxNDCGLoss (temperature 0.1, negated), ListMLELoss, UniqueSoftmaxLoss
        two = tensor([[0.6, 0.8, 0.0], [0.5, 0.8, 0.4]]), tensor([[1.0, 0, 0], [0, 1, 0]])
        mask = tensor([[True, True, False], [True, True, True]])
        assert approx_ndcg(*two, mask, temperature=0.1).item() == pytest.approx(1 - 0.80536866)
        assert one(approx_ndcg, [0.6, 0.8], [1, 0], temperature=0.1) == pytest.approx(1 - 0.655107)
        assert one(listmle, [0.6, 0.8], [1, 0]) == pytest.approx(0.7981389)
        assert listmle(*two, mask).item() == pytest.approx(0.83911896)  # equal labels do not compete


class TestAgainstLoops:
    def test_margin_mse_is_the_mean_over_pairs(self):
        scores, labels, mask = batch("margin_mse", sizes=(5,))
        s, y = scores[0].tolist(), labels[0].tolist()
        squares = [((s[i] - s[j]) - (y[i] - y[j])) ** 2 for i, j in combinations(range(5), 2)]
        assert margin_mse(scores, labels, mask).item() == pytest.approx(np.mean(squares), rel=1e-5)

    def test_lambda_rank_weighs_a_pair_by_what_swapping_it_changes(self):
        scores, labels, mask = batch("lambda_loss", sizes=(6,), seed=3)
        s, gains = scores[0].double().numpy(), 2 ** labels[0].double().numpy() - 1
        costs = []
        for i, j in ((i, j) for i in range(6) for j in range(6) if gains[i] > gains[j]):
            swapped = s.copy()
            swapped[[i, j]] = s[[j, i]]
            costs.append(abs(ndcg(s, gains) - ndcg(swapped, gains)) * np.log2(1 + np.exp(s[j] - s[i])))
        found = lambda_loss(scores, labels, mask, weighting="lambda_rank")
        assert found.item() == pytest.approx(np.mean(costs), rel=1e-5)

    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), size=st.integers(2, 8))
    def test_approx_ndcg_nears_ndcg(self, seed, size):
        scores, labels, mask = batch("approx_ndcg", (size,), seed, dtype=torch.float64)
        if len(set(labels[0].tolist())) > 1:
            exact = ndcg(scores[0], 2 ** labels[0] - 1)
            found = approx_ndcg(scores, labels, mask, temperature=1e-9)
            assert found.item() == pytest.approx(1 - exact, abs=1e-6)


def test_every_loss_has_its_name_and_a_source():
    assert list(RANKING_LOSSES) == [function.__name__ for function in RANKING_LOSSES.values()]
    assert len(RANKING_LOSSES) == 11
    for function in RANKING_LOSSES.values():
        assert "et al." in function.__doc__, function.__name__
