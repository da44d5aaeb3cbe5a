"""Distillation: what labels and losses it cannot take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import candidate_lists, sentences, tiny

from crossenc_kit import DataError, Pairs, TrainingConfig, distillation_loss, loss_with, train, with_teacher_scores

CONFIG = TrainingConfig(max_steps=1)


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.5}, "alpha=0.5 mixes with a gold loss: name one, gold='bce', or leave alpha out"),
        ({"gold": "bce", "alpha": -0.1}, r"alpha must be a number from 0 \(gold labels alone\) to 1 .*, got -0.1"),
        ({"gold": "bce", "alpha": 1.5}, "alpha must be a number from 0 .*, got 1.5"),
        ({"gold": "bce", "alpha": float("nan")}, "alpha must be a number from 0 .*, got nan"),
        ({"gold": "binary"}, "unknown loss 'binary'; choose from bce, "),
        ({"temperature": 2.0}, "the loss 'mse' has no temperature; it has no options"),
        ({"gold": "bce", "temperature": 2.0}, "the loss 'mse' has no temperature; it has no options"),
        (
            {"gold": loss_with("cross_entropy", class_weights=[1.0, 2.0])},
            "the gold loss has class_weights, which weigh its mean over rows, and the other part is not weighted",
        ),
        (
            {"gold": loss_with("multiple_negatives", in_batch=2)},
            r"the gold loss multiple_negatives\(in_batch=2\) takes negatives from the batch, which no teacher has",
        ),
        (
            {"gold": loss_with("ranknet", mean_over="pairs")},
            "the gold loss is a mean over pairs, the other part is not: leave mean_over at 'lists'",
        ),
        ({"gold": distillation_loss("mse", gold="bce")}, "the gold loss is itself a mixed one; give its two parts"),
    ],
    ids=str,
)
def test_a_loss_is_checked_when_it_is_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss("mse", **arguments)


# --- labels ---------------------------------------------------------------------------------------


def mixed(gold, teacher=0.5, columns=0):
    """Six pairs with the given gold labels beside a teacher's scores."""
    scores = np.full((6, columns) if columns else 6, teacher, dtype=np.float32)
    return with_teacher_scores(replace(sentences(6), labels=np.asarray(gold, dtype=np.float32)), scores, gold=True)


def changed(pairs, row, column, value):
    labels = pairs.labels.copy()
    labels[row, column] = value
    return replace(pairs, labels=labels)


STS = distillation_loss("mse", gold="bce")
NLI = distillation_loss("kl_divergence", gold="cross_entropy")


@pytest.mark.parametrize(
    ("pairs", "loss", "num_labels", "message"),
    [
        (sentences(6), STS, 1, r"the labels have 1 column, and mixed\(.*\) takes 2 columns, the teacher's 1 and then"),
        (mixed([0, 1, 2, 0, 1, 2], columns=2), NLI, 3, "have 3 columns, .* takes 4 or 6 columns, the teacher's 3"),
        (mixed([0, 1] * 3, columns=3), STS, 1, "have 4 columns, .* takes 2 columns.*with_teacher_scores"),
        (mixed([0, 1, 5, 0, 1, 0]), STS, 1, r"row 2: the label is 5.0, and bce_with_logits takes labels from 0 to 1"),
        (mixed([0, 1, 2, 0, 1, 3], columns=3), NLI, 3, "row 5: the label is 3.0, and cross_entropy takes classes"),
        (mixed([0, 1, 0.5, 0, 1, 2], columns=3), NLI, 3, "row 2: the label is 0.5, and cross_entropy takes classes"),
        (mixed([0, 1] * 3), NLI, 1, "class_kl_divergence needs one score per class: build the model with num_labels=2"),
        (
            changed(mixed([0, 1] * 3), 3, 0, np.nan),
            STS,
            1,
            "row 3: the label is nan, and mse takes finite labels",
        ),
        (
            changed(mixed([0, 1, 2] * 2, columns=3), 1, 2, np.inf),
            NLI,
            3,
            r"row 1: the label is \[0.5, 0.5, inf\], and class_kl_divergence takes finite labels",
        ),
        (changed(mixed([0, 1] * 3), 4, 1, np.nan), STS, 1, "row 4: the label is nan, and bce_with_logits takes labels"),
        (
            mixed([0, 1] * 3, teacher=3.0),
            distillation_loss("bce", gold="bce"),
            1,
            "row 0: the label is 3.0, and bce_with_logits takes labels from 0 to 1",
        ),
        (
            mixed([0, 1] * 3),
            distillation_loss("kl_divergence", gold="bce"),
            1,
            "kl_divergence ranks the candidates of a query, and every row is a single pair",
        ),
        (
            mixed([0, 1, 2] * 2, columns=3),
            distillation_loss("mse", gold="mse"),
            3,
            "row 0 has 1 label",
        ),
        (mixed([0, 1] * 3), "mse", 1, r"row 0 has 2 label.* a teacher's labels beside gold ones distillation_loss\("),
        (
            mixed([0, 1, 2] * 2, columns=3),
            "class_kl_divergence",
            3,
            r"row 0 has 4 .* gold ones distillation_loss\(",
        ),
        (
            Pairs(["a"], ["b"]),
            STS,
            1,
            "training needs labels: add a column named label, labels, score or scores",
        ),
    ],
)
def test_labels_are_checked_before_the_first_step(pairs, loss, num_labels, message):
    model = tiny(num_labels=num_labels)
    before = {name: weight.clone() for name, weight in model.model.state_dict().items()}
    with pytest.raises(DataError, match=message):
        train(model, pairs, loss, CONFIG)
    assert all(torch.equal(weight, before[name]) for name, weight in model.model.state_dict().items())


def test_a_divergence_over_classes_has_a_name_of_its_own():
    taught = with_teacher_scores(sentences(6), np.zeros((6, 3)))
    with pytest.raises(DataError, match=r"every row is a single pair.*'class_kl_divergence'"):
        train(tiny(num_labels=3), taught, "kl_divergence", CONFIG)
    train(tiny(num_labels=3), taught, "class_kl_divergence", CONFIG)


def test_a_list_names_row_and_document():
    lists = candidate_lists(4)
    both = changed(with_teacher_scores(lists, np.zeros(lists.num_pairs), gold=True), 3, 1, 7.0)
    with pytest.raises(DataError, match=r"row 1, document 1: the label is 7.0, and bce_with_logits takes .* \(1 of 11"):
        train(tiny(), both, distillation_loss("kl_divergence", gold="bce"), CONFIG)
