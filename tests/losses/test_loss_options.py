"""Losses with options: checked when they are given, used in training; and what may not come before a ranking loss."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from small_runs import candidate_lists, run, sentences, tiny
from torch import nn

from crossenc_kit import TrainingConfig, loss_with
from crossenc_kit.data.pairs import Pairs
from crossenc_kit.losses.listwise import RANKING_LOSSES
from crossenc_kit.losses.loss import LOSSES, check_activation, find_loss
from crossenc_kit.sentence_transformers.cross_encoder import loss_of
from crossenc_kit.training.batches import MicroBatch, mean_loss

GIVEN = [
    ("lambda_loss", {"weighting": "lambda_rank", "k": 2, "sigma": 2.0}),
    ("lambda_loss", {"mu": 3.0}),
    ("multiple_negatives", {"scale": 20.0}),
    ("multiple_negatives", {"sigmoid": False}),
    ("approx_ndcg", {"temperature": 0.1}),
    ("kl_divergence", {"temperature": 2.0}),
    ("margin_mse", {"against_first": True}),
    ("ranknet", {"sigma": 2.0}),
    ("adr_mse", {"alpha": 2.0}),
]


@pytest.mark.parametrize(("name", "options"), GIVEN, ids=str)
def test_options_reach_the_function(name, options):
    data = candidate_lists(6)
    loss = loss_with(name, **options)
    groups = np.arange(6)
    batch = MicroBatch(groups, np.arange(data.num_pairs), data.labels, np.diff(data.offsets), 0, 1.0)
    scores = torch.randn(data.num_pairs, 1, generator=torch.Generator().manual_seed(0))
    own = replace(find_loss(partial(RANKING_LOSSES[name], **options)), groups=True)
    expected = mean_loss(own, scores, batch)
    assert mean_loss(loss, scores, batch) == expected
    assert mean_loss(find_loss(name), scores, batch) != expected
    assert loss.name == f"{name}({', '.join(f'{k}={v}' for k, v in sorted(options.items()))})"
    assert loss.groups


def test_a_function_of_the_callers_own_may_have_options():
    def hinge(scores, labels, margin=1.0):
        return (margin - scores * labels).clamp(min=0).mean()

    loss = loss_with(hinge, margin=0.5)
    assert loss.name == "hinge(margin=0.5)"
    assert run(TrainingConfig(batch_size=22), sentences(), loss).result.history[0]["loss"] < 0.6
    with pytest.raises(ValueError, match=r"the loss 'hinge' has no margins; it has margin$"):
        loss_with(hinge, margins=0.5)


# --- checked when they are given ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ranknet", {"temperature": 2.0}, "the loss 'ranknet' has no temperature; it has sigma, mean_over$"),
        ("lambda_loss", {"K": 3}, "'lambda_loss' has no K; it has weighting, k, sigma, mu, mean_over, in_batch$"),
        ("listnet", {"scale": 3}, "the loss 'listnet' has no scale; it has no options$"),
        ("multiple_negatives", {"num_negatives": 3}, "no num_negatives; it has scale, sigmoid, in_batch$"),
        ("bce", {"sigma": 1.0}, "the loss 'bce' has no sigma; it has positive_weight$"),
        ("lambda", {"k": 1}, "unknown loss 'lambda'; choose from bce, "),
        ("lambda_loss", {"weighting": "ndcg"}, "unknown weighting 'ndcg'; choose from none, "),
        ("ranknet", {"mean_over": "batch"}, "mean_over must be 'lists' or 'pairs', got 'batch'"),
        ("lambda_loss", {"mean_over": "pairs", "k": 3}, "mean_over='pairs' goes with neither k nor 'ndcg_loss1'"),
        ("lambda_loss", {"mean_over": "pairs", "weighting": "ndcg_loss1"}, "goes with neither k nor 'ndcg_loss1'"),
        ("lambda_loss", {"k": 0}, "k must be a finite number above 0, got 0"),
        ("lambda_loss", {"sigma": math.nan}, "sigma must be a finite number above 0, got nan"),
        ("multiple_negatives", {"scale": 0}, "scale must be a finite number above 0, got 0"),
        ("approx_ndcg", {"temperature": -0.1}, "temperature must be a finite number above 0, got -0.1"),
        ("cross_entropy", {"class_weights": [1, 0]}, "class_weights must be positive numbers or 'balanced', got"),
        ("cross_entropy", {"label_smoothing": 1.0}, "label_smoothing must be 0 or more and less than 1, got 1.0"),
        ("bce", {"positive_weight": -1.0}, "positive_weight must be positive numbers or 'balanced', got -1.0"),
    ],
)
def test_what_a_loss_does_not_have_or_take(name, options, message):
    with pytest.raises(ValueError, match=message):
        loss_with(name, **options)


# --- an activation before a ranking loss ----------------------------------------------------------


@pytest.mark.parametrize("name", RANKING_LOSSES)
@pytest.mark.parametrize(
    "activation",
    [nn.Sigmoid(), nn.Tanh(), nn.Softmax(-1), nn.Hardtanh(), torch.sigmoid],
    ids=["Sigmoid", "Tanh", "Softmax", "Hardtanh", "sigmoid"],  # the text of a function holds its address
)
def test_fit_refuses_one_that_bounds_the_scores(name, activation):
    message = rf"^\w+ before {name} bounds the scores to -?[01]..1, so that .* takes raw scores"
    with pytest.raises(ValueError, match=message):
        loss_of(name, activation, 1)
    with pytest.raises(ValueError, match=message):
        loss_of(loss_with(name), activation, 1)


def test_other_activations_and_losses_of_pairs_are_the_callers_business():
    assert loss_of("ranknet", nn.Identity(), 1) == find_loss("ranknet")
    assert loss_of("ranknet", nn.ReLU(), 1).groups is True
    for name in ("bce", "mse", "sigmoid_mse"):
        activated = loss_of(name, nn.Sigmoid(), 1)
        assert activated.groups is False  # so that lists come to it pair by pair
        scores, labels = torch.tensor([0.3, -1.0]), torch.tensor([1.0, 0.0])
        assert activated.apply(scores, labels) == LOSSES[name].apply(scores.sigmoid(), labels)
    check_activation(find_loss("bce"), nn.Sigmoid())


def test_training_sees_raw_scores_whatever_the_models_activation():
    config, ends = TrainingConfig(batch_size=4, learning_rate=1e-3), []
    for activation in ("identity", "sigmoid"):
        ends.append(
            run(config, candidate_lists(), "ranknet", model=tiny(activation_fn=activation)).digests()["weights"]
        )
    assert ends[0] == ends[1]


def test_balanced_weights_of_lists_count_their_documents():
    data = Pairs(["a"] * 4, ["b", "c", "d", "e"], np.array([1.0, 0, 0, 0]), np.array([0, 3, 4]))
    outcome = run(TrainingConfig(batch_size=2), data, loss_with("bce", positive_weight="balanced"))
    assert outcome.model.card["settings"]["loss"] == "bce_with_logits(positive_weight=3.0)"
