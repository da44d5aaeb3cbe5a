"""losses.pairwise"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from crossenc_kit.losses.lists import (
    _differences,
    _gains,
    _mean,
    _pairs,
    _places,
    _weights,
    check_above_0,
    check_flags,
    check_k,
    check_mean_over,
    check_not_below_0,
    checked_lists,
)

WEIGHTINGS = ("none", "ndcg_loss1", "ndcg_loss2", "lambda_rank", "ndcg_loss2pp")  # of `lambda_loss`


def ranknet(scores: Tensor, labels: Tensor, mask: Tensor, sigma: float = 1.0, mean_over: str = "lists") -> Tensor:
    """Logistic loss of pairs, mean over the pairs with y_i > y_j of log(1 + exp(-sigma (s_i - s_j))).

    Burges et al., "Learning to Rank using Gradient Descent", 2005. 0 where all labels are equal. The natural
    logarithm, as in the paper; sentence-transformers' default is the binary one, 1 / log 2 times as much.
    `mean_over`: "lists" of each list's mean, or "pairs" of all lists. Raises `ValueError` for a `sigma` that is not
    above 0, and another `mean_over`.
    """
    check_above_0(sigma=sigma)
    check_mean_over(mean_over)
    s, y, mask = checked_lists(scores, labels, mask)
    return _mean(_pairs(mask) & (_differences(y) > 0), -logsigmoid(sigma * _differences(s)), mean_over)


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
    """RankNet's pairs weighed by what they are worth in nDCG, mean of w_ij log2(1 + exp(-sigma (s_i - s_j))).

    With gains G = (2^y - 1) / (best DCG), ranks r by score and D(r) = log2(1 + r), w_ij is for "none" 1; for
    "lambda_rank" |1/D(r_i) - 1/D(r_j)| |G_i - G_j|; for "ndcg_loss2" |1/D(d) - 1/D(d + 1)| |G_i - G_j| with
    d = |r_i - r_j|; for "ndcg_loss2pp" mu times the second plus the first of these; for "ndcg_loss1" G_i / D(r_i),
    over all n^2 pairs. The others are over pairs with y_i > y_j, and 0 where all labels are equal. With `k`, pairs
    with a document among the first k, and DCG@k. Equal scores are ranked in the worst order. The weights are no part
    of the gradient. Wang et al., "The LambdaLoss Framework for Ranking Metric Optimization", 2018; the mean over
    pairs is sentence-transformers', here of each list and then over lists, or with `mean_over="pairs"`, as there, of
    all lists at once. Raises `ValueError` for an unknown `weighting`, k < 1, mu < 0, a `sigma` not above 0, and for
    `mean_over="pairs"` with `k` or "ndcg_loss1", whose pairs are not those of unlike labels.
    """
    check_above_0(sigma=sigma)
    check_mean_over(mean_over, only_lists=k is not None or weighting == "ndcg_loss1")
    check_not_below_0(mu=mu)
    check_k(k)
    if weighting not in WEIGHTINGS:
        raise ValueError(f"unknown weighting {weighting!r}; choose from {', '.join(WEIGHTINGS)}")
    s, y, mask = checked_lists(scores, labels, mask, grades=weighting != "none")
    pairs = _pairs(mask) if weighting == "ndcg_loss1" else _pairs(mask) & (_differences(y) > 0)
    before, alike = _places(s.detach(), y, mask)
    rank = before + (alike + 1) / 2
    if k is not None:
        pairs = pairs & ((rank <= k)[:, :, None] | (rank <= k)[:, None, :])
    weights = 1.0 if weighting == "none" else _weights(weighting, _gains(y, k), rank, mu)
    return _mean(pairs, -weights * logsigmoid(sigma * _differences(s)) / math.log(2), mean_over)


def margin_mse(scores: Tensor, labels: Tensor, mask: Tensor, against_first: bool = False) -> Tensor:
    """Squared error of margins, mean over the pairs i < j of ((s_i - s_j) - (y_i - y_j))^2.

    The labels are a teacher's scores; Hofstaetter et al., "Improving Efficient Neural Ranking Models with
    Cross-Architecture Knowledge Distillation", 2020, where a list is a positive and a negative. With `against_first`
    only the margins of the first document over each other one count, as in sentence-transformers; raises
    `ValueError` for a list whose first document is masked. Equal labels ask for equal scores.
    """
    check_flags(against_first=against_first)
    s, y, mask = checked_lists(scores, labels, mask)
    if against_first and not mask[:, 0].all():
        row = int((~mask[:, 0]).nonzero()[0])
        raise ValueError(f"list {row}: the first document is masked, and against_first compares with it")
    chosen = _pairs(mask) & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    if against_first:
        chosen = chosen & (torch.arange(mask.shape[1], device=mask.device) == 0)[:, None]
    return _mean(chosen, _differences(s - y) ** 2)
