"""Gradients of a micro-batch of any size in the memory of a few pairs: its scores are cached.

A list-wise loss needs the scores of a whole list before it has a gradient, and the activations of a whole list are
what does not fit. Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossenc_kit.micro_batches import MicroBatch, mean_loss, seed_generators
from crossenc_kit.training_run import Run

if TYPE_CHECKING:
    from torch import Tensor


def backward_in_chunks(run: Run, batch: MicroBatch, micro_batch: int) -> Tensor:
    """Add the gradients of one micro-batch's loss, times its share of the step, to the parameters; return it.

    First all scores, `cached_pairs` pairs at a time, without a graph; then the gradient of the loss with respect to
    the scores; then each chunk again, with its graph and under the same dropout, to carry that gradient on to the
    weights. The result is that of one pass, for one more forward pass, in the memory of one chunk's graph. With
    dropout the masks are others than without chunks: chunk c of micro-batch k draws from (seed, step, k, c).
    """
    import torch

    chunks = _chunks(run.lengths(batch.rows), run.config.cached_pairs or len(batch.rows))

    def score(number: int) -> Tensor:
        seed_generators(run.config.seed, run.state.step, micro_batch, number)
        with run.autocast():
            return run.scores(batch.rows[chunks[number]]).float()

    with torch.no_grad():
        every = torch.cat([score(number) for number in range(len(chunks))])
    back = torch.as_tensor(np.argsort(np.concatenate(chunks)), device=every.device)
    scores = every[back].requires_grad_()
    with run.autocast():
        loss = mean_loss(run.loss, scores, batch) * batch.share
    (gradient,) = torch.autograd.grad(run.scaler.scale(loss), scores)
    for number, chunk in enumerate(chunks):
        score(number).backward(gradient[torch.as_tensor(chunk, device=gradient.device)])
    return loss


def _chunks(lengths: np.ndarray, most: int) -> list[np.ndarray]:
    """The numbers of pairs of the given lengths, longest first, cut into chunks of at most `most`."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + most] for start in range(0, len(order), most)]
