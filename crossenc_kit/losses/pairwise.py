"""Losses that compare the documents of a list in pairs: RankNet, LambdaLoss, margin-MSE.

They take scores, labels and a mask `(Q, K)` like every loss of lists; see `listwise`. In formulas s are
the scores of one list, y its labels, and i, j two of its documents.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from crossenc_kit.losses.lists import (
    both,
    check_above_0,
    checked_lists,
    differences,
    gains,
    mean_over_pairs,
    places,
)

WEIGHTINGS = ("none", "ndcg_loss1", "ndcg_loss2", "lambda_rank", "ndcg_loss2pp")  # of `lambda_loss`


def ranknet(scores: Tensor, labels: Tensor, mask: Tensor, sigma: float = 1.0, mean_over: str = "lists") -> Tensor:
    """Compute the logistic loss of pairs: the mean over pairs with y_i > y_j of log(1 + exp(-sigma (s_i - s_j))).

    Burges et al., "Learning to Rank using Gradient Descent", 2005. 0 if all labels are equal. The logarithm
    is natural, as in the paper; sentence-transformers' default is binary, 1 / log 2 times as large.

    mean_over: "lists" averages within each list, then over lists; "pairs" over the pairs of all lists

    Raises `ValueError` if `sigma` is not above 0.
    """
    check_above_0(sigma=sigma)
    s, y, mask = checked_lists(scores, labels, mask)
    ordered = both(mask) & (differences(y) > 0)  # (Q, K, K)
    return mean_over_pairs(ordered, -logsigmoid(sigma * differences(s)), mean_over)


def lambda_loss(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    weighting: str = "ndcg_loss2pp",
    k: int | None = None,
    sigma: float = 1.0,
    mu: float = 10.0,
    mean_over: str = "lists",
) -> Tensor:
    """Weigh RankNet's pairs by what they are worth in nDCG: mean of w_ij log2(1 + exp(-sigma (s_i - s_j))).

    weighting: w_ij, with gains G = (2^y - 1) / (best DCG), ranks r by score and D(r) = log2(1 + r):
        "none" 1, "lambda_rank" |1/D(r_i) - 1/D(r_j)| |G_i - G_j|,
        "ndcg_loss2" |1/D(d) - 1/D(d + 1)| |G_i - G_j| with d = |r_i - r_j|,
        "ndcg_loss2pp" mu times "ndcg_loss2" plus "lambda_rank",
        "ndcg_loss1" G_i / D(r_i) over all n^2 pairs; the others take the pairs with y_i > y_j
    k: only pairs with a document among the first k, and DCG@k
    mean_over: as in `ranknet`; "pairs", as in sentence-transformers, goes with neither `k` nor "ndcg_loss1"

    Wang et al., "The LambdaLoss Framework for Ranking Metric Optimization", 2018.
    """
    # Equal scores are ranked in the worst order. The weights are constants: no gradient passes through them.
    check_above_0(sigma=sigma, k=1 if k is None else k)
    if mean_over == "pairs" and (k is not None or weighting == "ndcg_loss1"):
        raise ValueError("mean_over='pairs' goes with neither k nor 'ndcg_loss1'")
    if weighting not in WEIGHTINGS:
        raise ValueError(f"unknown weighting {weighting!r}; choose from {', '.join(WEIGHTINGS)}")
    s, y, mask = checked_lists(scores, labels, mask, grades=weighting != "none")
    pairs = both(mask) if weighting == "ndcg_loss1" else both(mask) & (differences(y) > 0)  # (Q, K, K)
    before, alike = places(s.detach(), y, mask)
    rank = before + (alike + 1) / 2  # (Q, K), from 1; ties share the mean of their ranks
    if k is not None:
        pairs = pairs & ((rank <= k)[:, :, None] | (rank <= k)[:, None, :])
    weights = 1.0 if weighting == "none" else _weights(weighting, gains(y, k), rank, mu)
    return mean_over_pairs(pairs, -weights * logsigmoid(sigma * differences(s)) / math.log(2), mean_over)


def _weights(weighting: str, gain: Tensor, rank: Tensor, mu: float) -> Tensor:
    """Compute w_ij of `lambda_loss` `(Q, K, K)` or `(Q, K, 1)`; only "ndcg_loss1" uses the diagonal."""
    if weighting == "ndcg_loss1":
        return (gain / torch.log2(1 + rank))[:, :, None]
    between = differences(rank).abs().clamp(min=1)
    loss2 = (1 / torch.log2(1 + between) - 1 / torch.log2(2 + between)) * differences(gain).abs()
    lambda_rank = differences(1 / torch.log2(1 + rank)).abs() * differences(gain).abs()
    return {"ndcg_loss2": loss2, "lambda_rank": lambda_rank, "ndcg_loss2pp": mu * loss2 + lambda_rank}[weighting]


def margin_mse(scores: Tensor, labels: Tensor, mask: Tensor, against_first: bool = False) -> Tensor:
    """Compute the squared error of margins: the mean over pairs i < j of ((s_i - s_j) - (y_i - y_j))^2.

    The labels are a teacher's scores; equal labels ask for equal scores. Hofstaetter et al., "Improving
    Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation", 2020, for lists of one
    positive and one negative.

    against_first: only the first document's margins over the others, as in sentence-transformers

    Raises `ValueError` if the first document of a list is masked with `against_first`.
    """
    s, y, mask = checked_lists(scores, labels, mask)
    if against_first and not mask[:, 0].all():
        row = int((~mask[:, 0]).nonzero()[0])
        raise ValueError(f"list {row}: the first document is masked, and against_first compares with it")
    chosen = both(mask) & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)  # (Q, K, K)
    if against_first:
        chosen = chosen & (torch.arange(mask.shape[1], device=mask.device) == 0)[:, None]
    return mean_over_pairs(chosen, differences(s - y) ** 2)
