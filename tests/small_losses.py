"""The losses of lists with their options, random lists for them, and a loss's value and gradient."""

import math
from functools import partial

import pytest
import torch
from torch import tensor

from crossenc_kit.losses.listwise import RANKING_LOSSES, approx_ndcg, kl_divergence, multiple_negatives
from crossenc_kit.losses.pairwise import WEIGHTINGS, lambda_loss, margin_mse

CASES = {
    **RANKING_LOSSES,
    **{f"lambda_loss {weighting}": partial(lambda_loss, weighting=weighting) for weighting in WEIGHTINGS[:-1]},
    "lambda_loss at 2": partial(lambda_loss, k=2),
    "margin_mse against_first": partial(margin_mse, against_first=True),
    "multiple_negatives of raw scores": partial(multiple_negatives, scale=1.0, sigmoid=False),
    "kl_divergence at 3": partial(kl_divergence, temperature=3.0),
    "approx_ndcg at 0.5": partial(approx_ndcg, temperature=0.5),
}
ALL = pytest.mark.parametrize("name", CASES)
ASK_FOR_EQUAL_SCORES = ("group_cross_entropy", "listnet", "kl_divergence", "kl_divergence at 3", "adr_mse")
ASK_FOR_EQUAL_SCORES += ("margin_mse", "margin_mse against_first")
LN2 = math.log(2)


def batch(name, sizes=(4, 2, 6, 1, 3), seed=0, distinct=False, dtype=torch.float32):
    """Scores, labels and mask of lists of the given sizes; grades 0 to 3, or for one-positive losses one of 1."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(sizes), max(sizes))
    mask = torch.arange(shape[1]) < tensor(sizes)[:, None]
    labels = torch.randint(4, shape, generator=generator)
    if distinct:
        labels = torch.stack([torch.randperm(shape[1], generator=generator) for _ in sizes])
    if name.startswith("multiple_negatives"):
        labels = torch.arange(shape[1]) == (torch.rand(len(sizes), generator=generator) * tensor(sizes)).int()[:, None]
    scores = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return scores.to(dtype), labels.to(dtype) * mask, mask


def value_and_gradient(loss, scores, *arguments):
    leaf = scores.clone().requires_grad_()
    value = loss(leaf, *arguments)
    (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
    return value.detach(), torch.zeros_like(leaf) if gradient is None else gradient
