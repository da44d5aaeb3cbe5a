"""A few steps of training end with the weights that sentence-transformers' losses give on the same lists."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from small_models import fitted
from small_runs import WITHOUT_DROPOUT, sample

from crossenc_kit import Pairs, TrainingConfig, loss_with, train
from crossenc_kit.training.optimization import parameter_groups

sentence_transformers = pytest.importorskip("sentence_transformers")
from sentence_transformers.cross_encoder import losses  # noqa: E402

QUERIES, CANDIDATES, STEPS = 4, 4, 3
SETTINGS = {"batch_size": QUERIES, "epochs": STEPS, "scheduler": "constant", "warmup_steps": 0, "max_grad_norm": 0.0}


def lists(one_positive=False):
    """Lists of one length, their grades in another order in each: equally many pairs a list, as theirs pool them."""
    texts, count = sample(), QUERIES * CANDIDATES
    words = [[" ".join(text.split()[:4]) for text in column[:count]] for column in (texts.left, texts.right)]
    left = [words[0][row - row % CANDIDATES] for row in range(count)]
    right = [f"{row} {text}" for row, text in enumerate(words[1])]
    order = np.stack([np.random.default_rng(query).permutation(CANDIDATES) for query in range(QUERIES)])
    labels = np.eye(CANDIDATES)[0] * np.ones((QUERIES, 1)) if one_positive else order
    return Pairs(left, right, labels.reshape(-1).astype(np.float32), np.arange(0, count + 1, CANDIDATES))


def as_rows(data):
    """The queries, the documents of each, and their labels."""
    left, right = np.array(data.left).reshape(QUERIES, -1)[:, 0], np.array(data.right).reshape(QUERIES, -1)
    return left.tolist(), right.tolist(), torch.tensor(data.labels).reshape(QUERIES, -1)


def of_lists(make, factor=1.0):
    def loss(model, data):
        queries, documents, labels = as_rows(data)
        return make(model)([queries, documents], list(labels)) * factor

    return loss


def of_columns(make, labelled=True):
    def loss(model, data):
        queries, documents, labels = as_rows(data)
        columns = [list(column) for column in zip(*documents, strict=True)]
        return make(model)([queries, *columns], labels if labelled else None)

    return loss


def of_pairs(make):
    def loss(model, data):
        return make(model)([data.left, data.right], torch.tensor(data.labels))

    return loss


LAMBDA = partial(losses.LambdaLoss, weighting_scheme=losses.LambdaRankScheme(), k=3, sigma=2.0)
NEGATIVES = partial(losses.MultipleNegativesRankingLoss, num_negatives=None, scale=20.0)
CACHED = partial(losses.CachedMultipleNegativesRankingLoss, num_negatives=None, scale=20.0, mini_batch_size=5)
IN_BATCH = loss_with("multiple_negatives", in_batch="all", scale=20.0)
CASES = {
    "bce": ("bce", lists(True), of_pairs(losses.BinaryCrossEntropyLoss), {}),
    "listnet": ("listnet", lists(), of_lists(losses.ListNetLoss), {}),
    "ranknet": ("ranknet", lists(), of_lists(partial(losses.RankNetLoss, reduction_log="natural")), {}),
    "lambda_rank": (
        loss_with("lambda_loss", weighting="lambda_rank", k=3, sigma=2.0),
        lists(),
        of_lists(LAMBDA),
        {},
    ),
    "lambda_loss": ("lambda_loss", lists(), of_lists(losses.LambdaLoss), {}),
    "listmle": ("listmle", lists(), of_lists(partial(losses.ListMLELoss, respect_input_order=False)), {}),
    "margin_mse": (loss_with("margin_mse", against_first=True), lists(), of_columns(losses.MarginMSELoss), {}),
    "multiple_negatives": (IN_BATCH, lists(True), of_columns(NEGATIVES, labelled=False), {}),
    "cached": (IN_BATCH, lists(True), of_columns(CACHED, labelled=False), {"cached_pairs": 7}),
}


# The keys' biases have no gradient but rounding, which AdamW's usual eps of 1e-8 would turn into whole steps.
OPTIMIZERS = {"SGD": torch.optim.SGD, "AdamW": partial(torch.optim.AdamW, eps=1e-5)}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("case", CASES)
def test_the_same_weights(tmp_path, case, name):
    loss, data, peer, changes = CASES[case]
    optimizer, rate = OPTIMIZERS[name], 0.01 if name == "SGD" else 1e-3
    ours = fitted(config_kwargs=WITHOUT_DROPOUT)
    ours.save_pretrained(tmp_path)
    start = {name: weight.clone() for name, weight in ours.model.state_dict().items()}
    theirs = sentence_transformers.CrossEncoder(str(tmp_path), device="cpu").eval()
    own = {name.removeprefix("model."): weight for name, weight in theirs.named_parameters()}
    named = [(name, next(w for n, w in own.items() if n.endswith(name))) for name, _ in ours.model.named_parameters()]
    made = optimizer(parameter_groups(named, rate, 0.01))
    values = []
    for _ in range(STEPS):
        value = peer(theirs, data)
        value.backward()
        made.step()
        made.zero_grad()
        values.append(value.item())

    config = TrainingConfig(learning_rate=rate, **SETTINGS, **changes)
    result = train(ours, data, loss, config, optimizer=optimizer)
    assert result.history.column("loss")[1] == pytest.approx(values, rel=1e-4)
    ends = dict(ours.model.named_parameters())
    moved, apart = (
        torch.cat([(ends[name] - other[name]).detach().flatten() for name in ends]) for other in (start, dict(named))
    )
    assert moved.abs().max() > 1e-3
    assert apart.norm() < (1e-4 if name == "SGD" else 1e-3) * moved.norm()
