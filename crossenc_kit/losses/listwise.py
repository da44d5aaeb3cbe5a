"""Losses of lists: scores and labels `(Q, K)` of K candidate documents for each of Q queries, one scalar out.

First those that compare two distributions over the list, then pairs of documents, then the order of the whole list.
Every loss is the mean over the Q lists, so a long list weighs no more than a short one; with `mean_over="pairs"` it
weighs by its pairs of unlike labels, as in sentence-transformers. The mask `(Q, K)`, bool, is True where there is a
document; what stands elsewhere changes nothing. Scores are the model's raw outputs, before any activation: only their
differences within a list count (but for the sigmoid of `multiple_negatives`). The order of the documents in a list
does not count (but for `against_first`), and equal labels say nothing on order.

Nothing holds such scores near 0, and a sigmoid in float32 is 1 from 16.7 on, and from 11.4 on the same for scores that
are 0.01 apart: to rank, predict with `activation_fn="identity"`, or build the model with it.

In formulas s are the scores of one list, y its labels, n its number of documents. A list of one document has no
gradient and costs 0 (but for "ndcg_loss1"). Scores of half precision are computed in float32. All raise `ValueError`
for shapes that differ, a mask that is not bool, a list without documents, and labels that are not finite or, where
they are grades (a gain, or a share), below 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from crossenc_kit.losses.lists import (
    _differences,
    _gains,
    _log_softmax,
    _pairs,
    _places,
    check_above_0,
    check_flags,
    checked_lists,
)
from crossenc_kit.losses.pairwise import lambda_loss, margin_mse, ranknet


def group_cross_entropy(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Softmax cross-entropy of a list against its grades' shares: -sum p log softmax(s) with p = y / sum y.

    With one positive and n - 1 negatives it is -log of the positive's softmax; Bruch et al., "An Analysis of the
    Softmax Cost Function for Learning to Rank", 2019. 0 where no grade is above 0. Equal grades ask for equal scores.
    """
    s, y, mask = checked_lists(scores, labels, mask, grades=True)
    share = y / y.sum(1, keepdim=True).clamp(min=torch.finfo(y.dtype).tiny)
    return -(share * _log_softmax(s, mask)).sum(1).mean()


def multiple_negatives(
    scores: Tensor, labels: Tensor, mask: Tensor, scale: float = 10.0, sigmoid: bool = True
) -> Tensor:
    """-log softmax(scale sigmoid(s)) at the one positive of each list; with `sigmoid=False` of scale s.

    `labels`: `(Q,)`, the positive's column, or `(Q, K)` with one label above 0. For negatives from the batch, score
    each of Q queries with the documents of all: scores `(Q, Q)`, labels `torch.arange(Q)`, and the mask False where
    another query's document answers this one too. Henderson et al., "Efficient Natural Language Response
    Suggestion for Smart Reply", 2017; the sigmoid bounds the scores, as in sentence-transformers. Raises
    `ValueError` for a list that has no positive or several, and for a `scale` that is not above 0.
    """
    check_above_0(scale=scale)
    check_flags(sigmoid=sigmoid)
    if labels.dim() == 1:
        labels = torch.arange(scores.shape[-1], device=labels.device) == labels[:, None]
    s, y, mask = checked_lists(scores, labels, mask, grades=True)
    positives = (y > 0).sum(1)
    if (positives != 1).any():
        row = int((positives != 1).nonzero()[0])
        raise ValueError(
            f"list {row} has {int(positives[row])} positives among its documents, and multiple_negatives takes one; "
            "group_cross_entropy takes any number"
        )
    return -(_log_softmax(scale * (s.sigmoid() if sigmoid else s), mask) * (y > 0)).sum(1).mean()


def listnet(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of two top-1 distributions, -sum softmax(y) log softmax(s).

    Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", 2007. The least value, where s and y
    differ by a constant, is the entropy of softmax(y), not 0; with equal labels log n, at equal scores.
    """
    s, y, mask = checked_lists(scores, labels, mask)
    return -(_log_softmax(y, mask).exp() * _log_softmax(s, mask) * mask).sum(1).mean()


def kl_divergence(scores: Tensor, labels: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Divergence from a teacher's distribution, T^2 sum p (log p - log q), p = softmax(y / T), q = softmax(s / T).

    The labels are a teacher's scores. T^2 keeps the gradient's size; Hinton et al., "Distilling the Knowledge in a
    Neural Network", 2015. 0 where s and y differ by a constant. Raises `ValueError` for a `temperature` not above 0.
    """
    check_above_0(temperature=temperature)
    s, y, mask = checked_lists(scores, labels, mask)
    log_p, log_q = _log_softmax(y / temperature, mask), _log_softmax(s / temperature, mask)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def listmle(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """-log of the probability that documents drawn one by one come in the labels' order.

    sum over i of log(exp s_i + sum of exp s_j over y_j < y_i) - s_i; Xia et al., "Listwise Approach to Learning to
    Rank", 2008. A document competes with those of lower labels alone, as in Zhu and Klabjan, "Listwise Learning to
    Rank by Exploring Unique Ratings", 2020, so that equal labels need no made-up order; 0 where all labels are equal.
    """
    s, y, mask = checked_lists(scores, labels, mask)
    return _choice_costs(s, y, mask).sum(1).mean()


def position_aware_listmle(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """ListMLE with place i of the labels' order weighing 2^(n - i) - 1, over the sum of these weights.

    Lan et al., "Position-Aware ListMLE: A Sequential Learning Process for Ranking", 2014; the sum of 1 is
    sentence-transformers'. Equal labels share the mean weight of their places; 0 where all labels are equal.
    """
    s, y, mask = checked_lists(scores, labels, mask)
    before, alike = _places(y, y, mask)
    last = torch.exp2(-mask.sum(1, keepdim=True).to(s.dtype))
    # 2^-n times the mean of 2^(n - i) - 1 over the places of the equal labels: long lists do not overflow
    weights = ((torch.exp2(-before) - torch.exp2(-before - alike)) / alike.clamp(min=1) - last) * mask
    weights = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(s.dtype).tiny)
    return (weights * _choice_costs(s, y, mask)).sum(1).mean()


def adr_mse(scores: Tensor, labels: Tensor, mask: Tensor, alpha: float = 1.0) -> Tensor:
    """Squared error of soft ranks, mean over documents of (r_i - a_i)^2 / log2(1 + r_i).

    r is the rank by label, equal labels sharing the mean of their ranks, and a the soft rank by score,
    1 + sum over j != i of sigmoid(alpha (s_j - s_i)); Schlatt et al., "Rank-DistiLLM", 2025. Equal labels ask for
    equal scores. Raises `ValueError` for an `alpha` that is not above 0.
    """
    check_above_0(alpha=alpha)
    s, y, mask = checked_lists(scores, labels, mask)
    before, alike = _places(y, y, mask)
    rank = before + (alike + 1) / 2
    error = (rank - _soft_ranks(alpha * s, mask)) ** 2 / torch.log2(1 + rank)
    return ((error * mask).sum(1) / mask.sum(1)).mean()


def approx_ndcg(scores: Tensor, labels: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """1 - nDCG with soft ranks, 1 - sum of G_i / log2(1 + a_i), from 0 to 1.

    G = (2^y - 1) / (best DCG), and a_i = 1 + sum over j != i of sigmoid((s_j - s_i) / T). Qin et al., "A General
    Approximation Framework for Direct Optimization of Information Retrieval Measures", 2010, whose alpha is 1 / T: the
    lower, the nearer to nDCG, and the flatter. 0 where all labels are equal, as every order is then as good as any.
    Raises `ValueError` for a `temperature` that is not above 0.
    """
    check_above_0(temperature=temperature)
    s, y, mask = checked_lists(scores, labels, mask, grades=True)
    ndcg = (_gains(y, None) / torch.log2(1 + _soft_ranks(s / temperature, mask))).sum(1)
    ordered = (_pairs(mask) & (_differences(y) > 0)).flatten(1).any(1)
    return torch.where(ordered, 1 - ndcg, 0).mean()


def _soft_ranks(values: Tensor, mask: Tensor) -> Tensor:
    """1 + sum over j != i of sigmoid(v_j - v_i), `(Q, K)`."""
    return 0.5 + (_differences(-values).sigmoid() * mask[:, None, :]).sum(2)  # sigmoid(0) = 0.5 for j = i


def _choice_costs(s: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """-log of the probability `(Q, K)` that document i is drawn from itself and those of lower labels."""
    itself = torch.eye(s.shape[1], dtype=torch.bool, device=s.device)
    lower = (_differences(y) > 0) & mask[:, None, :]
    left = torch.where(lower | itself, s[:, None, :], -math.inf)
    return (left.logsumexp(2) - s).masked_fill(~mask, 0)


_FUNCTIONS: list[Callable[..., Tensor]] = [group_cross_entropy, multiple_negatives, listnet, kl_divergence]
_FUNCTIONS += [ranknet, lambda_loss, margin_mse, listmle, position_aware_listmle, adr_mse, approx_ndcg]
RANKING_LOSSES = {function.__name__: function for function in _FUNCTIONS}
