"""Losses of what lies between a model's input and its score: hidden states and attention, student against teacher.

`mask` `(B, T)` is True where there is a token; what stands elsewhere changes nothing. Each is a mean over the B pairs
of a mean over the pair's own tokens, so that a long pair weighs no more than a short one.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-12  # of a probability before its logarithm: softmax gives a plain 0 where float32 ends


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of hidden states `(B, T, H)`, over tokens and H; Jiao et al., "TinyBERT", 2020."""
    errors = (student.float() - teacher.float()).square().mean(2)
    return _mean_over_tokens(errors, mask)


def attention_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of attention `(B, heads, T, T)`, over heads and the pair's T x T entries.

    Of probabilities, which models report, where TinyBERT takes the scores before the softmax.
    """
    errors = (student.float() - teacher.float()).square().mean(1)
    own = mask.sum(1, keepdim=True)
    return _mean_over_tokens((errors * mask[:, None, :]).sum(2) / own, mask)


def attention_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Divergence of attention `(B, heads, T, T)`, sum over keys of p (log p - log q), mean over heads and queries.

    p is the teacher's distribution, q the student's; Wang et al., "MiniLM", 2020. In natural logarithms.
    """
    p, q = teacher.float(), student.float()
    terms = p * (p.clamp(min=LEAST).log() - q.clamp(min=LEAST).log())
    return _mean_over_tokens((terms * mask[:, None, None, :]).sum(3).mean(1), mask)


def _mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over pairs of the mean over each pair's tokens, of values `(B, T)`."""
    return (torch.where(mask, values, 0).sum(1) / mask.sum(1)).mean()


ATTENTION_LOSSES = {"kl": attention_kl, "mse": attention_mse}
