"""Losses of classes and weights: by hand, against torch, and labels that are no classes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import labelled

from crossenc_kit.errors import DataError
from crossenc_kit.losses.checks import check_labels
from crossenc_kit.losses.loss import LOSSES, find_loss, loss_with
from crossenc_kit.losses.pointwise import bce_with_logits, cross_entropy


class TestCrossEntropy:
    def test_by_hand(self):
        scores = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # p = (1/4, 3/4), (1/2, 1/2)
        labels = torch.tensor([1, 0])
        expected = (-math.log(3 / 4) - math.log(1 / 2)) / 2
        assert cross_entropy(scores, labels).item() == pytest.approx(expected, abs=1e-6)

    def test_smoothing_by_hand(self):
        scores = torch.tensor([[0.0, math.log(3.0)]])
        smooth = -0.9 * math.log(3 / 4) - 0.1 * (math.log(1 / 4) + math.log(3 / 4)) / 2
        assert cross_entropy(scores, torch.tensor([1]), label_smoothing=0.1).item() == pytest.approx(smooth, abs=1e-6)

    def test_weights_by_hand(self):
        scores = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
        expected = (2 * -math.log(3 / 4) + 6 * -math.log(1 / 2)) / (2 + 6)
        found = cross_entropy(scores, torch.tensor([1, 0]), class_weights=[6, 2])
        assert found.item() == pytest.approx(expected, abs=1e-6)

    def test_a_distribution_as_label(self):
        scores = torch.tensor([[0.0, math.log(3.0)]])
        expected = -0.25 * math.log(1 / 4) - 0.75 * math.log(3 / 4)
        assert cross_entropy(scores, torch.tensor([[0.25, 0.75]])).item() == pytest.approx(expected, abs=1e-6)

    @settings(max_examples=30)
    @given(seed=st.integers(0, 1000), classes=st.integers(2, 5), smoothing=st.sampled_from([0.0, 0.2]))
    def test_value_and_gradient_are_torchs(self, seed, classes, smoothing):
        generator = torch.Generator().manual_seed(seed)
        scores = (3 * torch.randn((6, classes), generator=generator)).requires_grad_()
        labels, weights = (
            torch.randint(classes, (6,), generator=generator),
            torch.rand(classes, generator=generator) + 0.1,
        )
        theirs = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(scores, labels)
        ours = cross_entropy(scores, labels, weights.tolist(), smoothing)
        torch.testing.assert_close(ours, theirs)
        (found,), (expected,) = torch.autograd.grad(ours, scores), torch.autograd.grad(theirs, scores)
        torch.testing.assert_close(found, expected)

    def test_no_overflow_far_out(self):
        scores = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
        loss = cross_entropy(scores, torch.tensor([1, 1]))
        loss.backward()
        assert loss.item() == pytest.approx(1e4)
        assert torch.isfinite(scores.grad).all()

    def test_a_positive_weight_by_hand(self):
        found = bce_with_logits(torch.zeros(2), torch.tensor([1.0, 0.0]), positive_weight=3.0)
        assert found.item() == pytest.approx((3 * math.log(2) + math.log(2)) / 2)

    def test_what_lists_weigh_in_a_mean_over_pairs(self):
        labels, sizes = np.array([1, 0, 0, 2, 2, 5, 0, 1, 2, 3]), np.array([3, 2, 1, 4])
        loss = loss_with("ranknet", mean_over="pairs")
        assert loss.item_weights(labels, sizes).tolist() == [2, 0, 0, 6]  # pairs of unlike labels
        assert loss_with("ranknet").item_weights(labels, sizes).tolist() == [1, 1, 1, 1]

    def test_balanced_weights_are_counted(self):
        loss = loss_with("cross_entropy", class_weights="balanced").fitted(labelled([0, 0, 0, 1]), 2)
        assert loss.options["class_weights"] == pytest.approx([4 / 6, 4 / 2])
        assert loss.item_weights(np.array([0, 1])) == pytest.approx([4 / 6, 2.0])
        loss = loss_with("bce", positive_weight="balanced").fitted(labelled([0, 0, 0, 1]), 1)
        assert loss.options == {"positive_weight": 3.0}

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ([1, 2, 3], "3 class_weights for a model with num_labels=2"),
            ([1, 0], "class_weights must be positive numbers or 'balanced', got"),
            ("even", "class_weights must be positive numbers or 'balanced', got 'even'"),
        ],
    )
    def test_weights_that_make_no_sense(self, weights, message):
        with pytest.raises(ValueError, match=message):
            loss_with("cross_entropy", class_weights=weights).fitted(labelled([0, 1]), 2)


class TestClasses:
    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([0, 1, 3], "row 2: the label is 3.0, and cross_entropy takes classes, whole numbers from 0 to 2"),
            ([0, -1, 1], "row 1: the label is -1.0, and cross_entropy takes classes"),
            (
                [0.3, 1.0],
                r"row 0: the label is 0.3, .*\(1 of 2 labels do not fit\); change them",
            ),
            ([np.nan, 1.0], "row 0: the label is nan"),
        ],
    )
    def test_what_is_no_class(self, labels, message):
        with pytest.raises(DataError, match=message):
            check_labels(LOSSES["cross_entropy"], labelled(labels), 3)

    def test_a_class_that_no_row_has(self):
        with pytest.warns(UserWarning, match="no row of the training data has class 2 of 3; it will not be learnt"):
            check_labels(LOSSES["cross_entropy"], labelled([0, 1, 1]), 3)

    def test_one_score_cannot_hold_classes(self):
        with pytest.raises(DataError, match="cross_entropy needs one score per class: build the model"):
            check_labels(LOSSES["cross_entropy"], labelled([0, 1]), 1)

    def test_distributions(self):
        check_labels(LOSSES["cross_entropy"], labelled([[0.2, 0.8], [1.0, 0.0]]), 2)
        with pytest.raises(
            DataError, match=r"row 1: .* takes classes, or a distribution over the classes that sums to 1"
        ):
            check_labels(LOSSES["cross_entropy"], labelled([[0.2, 0.8], [1.0, 1.0]]), 2)

    def test_a_function_of_the_callers_own_may_take_classes(self):
        check_labels(find_loss(torch.nn.CrossEntropyLoss()), labelled([0, 1, 2]), 3)
        with pytest.raises(DataError, match=r"row 1: the label is 5\.0, and CrossEntropyLoss takes classes"):
            check_labels(find_loss(torch.nn.CrossEntropyLoss()), labelled([0, 5, 2]), 3)
