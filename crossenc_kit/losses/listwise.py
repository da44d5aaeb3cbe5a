"""Losses of whole lists: scores and labels `(Q, K)` of K candidates for each of Q queries, one scalar out.

Every loss is the mean over the Q lists, so that a long list weighs no more than a short one; with
`mean_over="pairs"` a list weighs by its pairs of unequal labels, as in sentence-transformers. The bool mask
`(Q, K)` is True where there is a document; whatever stands elsewhere changes nothing. Only differences of
scores within a list count (except for the sigmoid of `multiple_negatives`), the order of the documents does
not (except for `against_first`), and equal labels say nothing about order.

Scores are raw, and nothing holds them near 0. In float32 a sigmoid is exactly 1 from 16.7 on, and from 11.4
on it is the same for scores 0.01 apart. So rank with `activation_fn="identity"`.

In formulas s are the scores of one list, y its labels, n its number of documents. A list of one document has
no gradient and costs 0 (except in "ndcg_loss1"). Half precision is computed in float32. All losses raise
`ValueError` for different shapes, a mask that is not bool, a list without documents, and labels that are not
finite or, if they are grades, below 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from crossenc_kit.losses.lists import (
    both,
    check_above_0,
    checked_lists,
    differences,
    gains,
    masked_log_softmax,
    places,
)
from crossenc_kit.losses.pairwise import lambda_loss, margin_mse, ranknet


def group_cross_entropy(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Compute the softmax cross-entropy against the grades' shares: -sum p log softmax(s) with p = y / sum y.

    With one positive it is -log of the positive's softmax; Bruch et al., "An Analysis of the Softmax Cost
    Function for Learning to Rank", 2019. 0 if no grade is above 0. Equal grades ask for equal scores.
    """
    s, y, mask = checked_lists(scores, labels, mask, grades=True)
    share = y / y.sum(1, keepdim=True).clamp(min=torch.finfo(y.dtype).tiny)
    return -(share * masked_log_softmax(s, mask)).sum(1).mean()


def multiple_negatives(
    scores: Tensor, labels: Tensor, mask: Tensor, scale: float = 10.0, sigmoid: bool = True
) -> Tensor:
    """Compute -log softmax(scale sigmoid(s)) at the one positive of each list; without `sigmoid` of scale s.

    For negatives from the batch, score each of Q queries with the documents of all: scores `(Q, Q)`, labels
    `torch.arange(Q)`, the mask False where another query's document answers this one too. Henderson et al.,
    "Efficient Natural Language Response Suggestion for Smart Reply", 2017; the sigmoid bounds the scores, as
    in sentence-transformers.

    labels: the positive's column `(Q,)`, or `(Q, K)` with one label above 0

    Raises `ValueError` for a list without exactly one positive, and for a `scale` that is not above 0.
    """
    check_above_0(scale=scale)
    if labels.dim() == 1:
        labels = torch.arange(scores.shape[-1], device=labels.device) == labels[:, None]  # (Q, K)
    s, y, mask = checked_lists(scores, labels, mask, grades=True)
    positives = (y > 0).sum(1)
    if (positives != 1).any():
        row = int((positives != 1).nonzero()[0])
        raise ValueError(
            f"list {row} has {int(positives[row])} positives among its documents, and multiple_negatives takes one; "
            "group_cross_entropy takes any number"
        )
    return -(masked_log_softmax(scale * (s.sigmoid() if sigmoid else s), mask) * (y > 0)).sum(1).mean()


def listnet(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Compute the cross-entropy of two top-1 distributions, -sum softmax(y) log softmax(s).

    Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", 2007. The minimum, reached
    if s and y differ by a constant, is the entropy of softmax(y), not 0; with equal labels it is log n.
    """
    s, y, mask = checked_lists(scores, labels, mask)
    return -(masked_log_softmax(y, mask).exp() * masked_log_softmax(s, mask) * mask).sum(1).mean()


def kl_divergence(scores: Tensor, labels: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute the divergence from a teacher, T^2 sum p (log p - log q), p = softmax(y / T), q = softmax(s / T).

    The labels are the teacher's scores. T^2 keeps the gradient's size; Hinton et al., "Distilling the
    Knowledge in a Neural Network", 2015. 0 if s and y differ by a constant.

    Raises `ValueError` for a `temperature` that is not above 0.
    """
    check_above_0(temperature=temperature)
    s, y, mask = checked_lists(scores, labels, mask)
    log_p, log_q = masked_log_softmax(y / temperature, mask), masked_log_softmax(s / temperature, mask)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def listmle(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Compute -log of the probability of drawing the documents one by one in the order of the labels.

    sum over i of log(exp s_i + sum of exp s_j over y_j < y_i) - s_i; Xia et al., "Listwise Approach to
    Learning to Rank", 2008. A document competes only with those of lower labels, as in Zhu and Klabjan,
    "Listwise Learning to Rank by Exploring Unique Ratings", 2020, so that equal labels need no invented
    order; 0 if all labels are equal.
    """
    s, y, mask = checked_lists(scores, labels, mask)
    return _choice_costs(s, y, mask).sum(1).mean()


def position_aware_listmle(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Compute ListMLE with the weight 2^(n - i) - 1 for place i of the labels' order; the weights sum to 1.

    Lan et al., "Position-Aware ListMLE: A Sequential Learning Process for Ranking", 2014; the sum of 1 is
    sentence-transformers'. Equal labels share the mean weight of their places; 0 if all labels are equal.
    """
    s, y, mask = checked_lists(scores, labels, mask)
    before, alike = places(y, y, mask)
    last = torch.exp2(-mask.sum(1, keepdim=True).to(s.dtype))  # (Q, 1)
    # 2^-n times the mean of 2^(n - i) - 1 over the places of the equal labels, so that long lists cannot overflow
    weights = ((torch.exp2(-before) - torch.exp2(-before - alike)) / alike.clamp(min=1) - last) * mask
    weights = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(s.dtype).tiny)
    return (weights * _choice_costs(s, y, mask)).sum(1).mean()


def adr_mse(scores: Tensor, labels: Tensor, mask: Tensor, alpha: float = 1.0) -> Tensor:
    """Compute the squared error of soft ranks, mean over documents of (r_i - a_i)^2 / log2(1 + r_i).

    r is the rank by label, equal labels sharing the mean of their ranks, and a the soft rank by score,
    1 + sum over j != i of sigmoid(alpha (s_j - s_i)); Schlatt et al., "Rank-DistiLLM", 2025. Equal labels
    ask for equal scores.

    Raises `ValueError` for an `alpha` that is not above 0.
    """
    check_above_0(alpha=alpha)
    s, y, mask = checked_lists(scores, labels, mask)
    before, alike = places(y, y, mask)
    rank = before + (alike + 1) / 2
    error = (rank - _soft_ranks(alpha * s, mask)) ** 2 / torch.log2(1 + rank)
    return ((error * mask).sum(1) / mask.sum(1)).mean()


def approx_ndcg(scores: Tensor, labels: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute 1 - nDCG with soft ranks, 1 - sum of G_i / log2(1 + a_i), from 0 to 1.

    G = (2^y - 1) / (best DCG), and a_i = 1 + sum over j != i of sigmoid((s_j - s_i) / T). Qin et al., "A
    General Approximation Framework for Direct Optimization of Information Retrieval Measures", 2010, whose
    alpha is 1 / T: the lower T, the nearer to nDCG, and the flatter. 0 if all labels are equal.

    Raises `ValueError` for a `temperature` that is not above 0.
    """
    check_above_0(temperature=temperature)
    s, y, mask = checked_lists(scores, labels, mask, grades=True)
    ndcg = (gains(y, None) / torch.log2(1 + _soft_ranks(s / temperature, mask))).sum(1)  # (Q,)
    ordered = (both(mask) & (differences(y) > 0)).flatten(1).any(1)  # (Q,)
    return torch.where(ordered, 1 - ndcg, 0).mean()


def _soft_ranks(values: Tensor, mask: Tensor) -> Tensor:
    """Compute 1 + sum over j != i of sigmoid(v_j - v_i), `(Q, K)`."""
    return 0.5 + (differences(-values).sigmoid() * mask[:, None, :]).sum(2)  # sigmoid(0) = 0.5 for j = i


def _choice_costs(s: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Compute -log of the probability of drawing document i from itself and those of lower labels, `(Q, K)`."""
    itself = torch.eye(s.shape[1], dtype=torch.bool, device=s.device)
    lower = (differences(y) > 0) & mask[:, None, :]  # (Q, K, K)
    left = torch.where(lower | itself, s[:, None, :], -math.inf)
    return (left.logsumexp(2) - s).masked_fill(~mask, 0)


_FUNCTIONS: list[Callable[..., Tensor]] = [group_cross_entropy, multiple_negatives, listnet, kl_divergence]
_FUNCTIONS += [ranknet, lambda_loss, margin_mse, listmle, position_aware_listmle, adr_mse, approx_ndcg]
RANKING_LOSSES = {function.__name__: function for function in _FUNCTIONS}
