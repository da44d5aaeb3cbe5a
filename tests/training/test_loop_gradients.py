"""What a step's loss and gradient are, however it is cut, for pairs, groups, classes and several labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import candidate_lists, largest_difference, run, sentences, softmax_loss, tiny
from torch.nn.functional import binary_cross_entropy_with_logits

from crossenc_kit import DataError, TrainingConfig, loss_with, train

CLASSES = replace(sentences(), labels=np.arange(22) % 7 // 3)  # of classes 0, 1 and 2, the last is rare


def gradient(data, loss, num_labels=1, **changes):
    """The gradient of one step over all the data, from a step of plain descent at rate 1."""
    model = tiny(dropout=False, num_labels=num_labels)
    before = {name: p.detach().clone() for name, p in model.model.named_parameters()}
    settings = {"scheduler": "constant", "learning_rate": 1.0, "weight_decay": 0.0, "max_grad_norm": 0.0}
    config = TrainingConfig(**settings, **changes)
    outcome = run(config, data, loss, model=model, optimizer=torch.optim.SGD)
    assert outcome.result.steps == 1
    return {name: before[name] - p.detach() for name, p in model.model.named_parameters()}


@pytest.mark.parametrize("changes", [{"token_budget": 60}, {"token_budget": 1}, {"batch_size": 5, "accumulation": 5}])
@pytest.mark.parametrize(
    ("data", "loss"),
    [
        (sentences(), "bce"),
        (candidate_lists(22), softmax_loss),
        (candidate_lists(22), loss_with("lambda_loss", mean_over="pairs")),
        (CLASSES, loss_with("cross_entropy", class_weights=[1.0, 5.0, 0.2], label_smoothing=0.1)),
    ],
    ids=["pairs", "lists", "pairs of lists", "weighted classes"],
)
def test_ragged_micro_batches_have_the_gradient_of_one_batch(data, loss, changes):
    num_labels = 3 if data is CLASSES else 1
    whole = gradient(data, loss, num_labels, batch_size=22)
    ragged = gradient(data, loss, num_labels, **{"batch_size": 22, **changes})
    largest = max(float(value.abs().max()) for value in whole.values())
    assert largest_difference(whole, ragged) < 1e-4 * largest
    assert largest > 1e-4


def test_that_gradient_is_the_mean_over_items():
    data = sentences()
    model = tiny(dropout=False)
    encoded = model.tokenizer(data.left, data.right, padding=True, return_tensors="pt")
    loss = binary_cross_entropy_with_logits(model.model(**encoded).logits[:, 0], torch.tensor(data.labels))
    loss.backward()
    expected = {name: p.grad for name, p in model.model.named_parameters()}
    assert largest_difference(gradient(data, "bce", batch_size=22, token_budget=60), expected) < 1e-6


def test_groups_reach_the_loss_as_lists_with_a_mask():
    data = candidate_lists()
    seen = []

    def loss(scores, labels, mask):
        seen.append((scores.detach(), labels, mask))
        return softmax_loss(scores, labels, mask)

    outcome = run(TrainingConfig(batch_size=9), data, loss)
    ((scores, labels, mask),) = seen
    assert scores.shape == labels.shape == mask.shape == (9, 4)
    assert sorted(mask.sum(1).tolist()) == [2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert labels[:, 0].tolist() == [1.0] * 9
    assert labels[:, 1:].sum() == 0
    assert (scores[~mask] == 0).all()
    assert (scores[mask] != 0).all()
    assert outcome.result.history[0]["pairs"] == 27


@pytest.mark.parametrize("loss", ["group_cross_entropy", "ranknet", "lambda_loss", "listmle", "approx_ndcg"])
def test_a_ranking_loss_by_name_learns_which_candidate_comes_first(loss):
    data, model = candidate_lists(9), tiny(dropout=False)
    config = TrainingConfig(epochs=40, batch_size=9, learning_rate=2e-3, warmup_steps=0)
    result = train(model, data, loss, config)
    losses = result.history.column("loss")[1]
    assert losses[-1] < 0.7 * losses[0]
    starts = data.offsets[:-1]
    scores = np.split(model.predict(data), starts[1:])
    assert np.mean([own.argmax() == 0 for own in scores]) > 0.8


def test_classes_are_learnt_and_their_names_go_into_the_model():
    data = replace(sentences(), labels=np.arange(22) % 2, label_names=("no", "yes"))
    model = tiny(num_labels=2)
    config = TrainingConfig(epochs=30, batch_size=11, learning_rate=3e-3, warmup_steps=0, dropout=0.0)
    train(model, data, "cross_entropy", config)
    assert (model.predict(data).argmax(axis=1) == data.labels).all()
    assert model.label_names == ("no", "yes")
    with pytest.raises(DataError, match=r"the model's classes are no, yes, the data's yes, no: .*with_label_names"):
        train(model, data.with_label_names(("yes", "no")), "cross_entropy", TrainingConfig())
