"""Losses: by hand, against torch.nn, their gradients against finite differences, and labels that do not fit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import labelled

from crossenc_kit.data.pairs import Pairs
from crossenc_kit.errors import DataError
from crossenc_kit.losses.checks import check_labels
from crossenc_kit.losses.loss import LOSSES, Loss, find_loss
from crossenc_kit.losses.pointwise import bce_with_logits, mse, sigmoid_mse

OF_CLASSES = {"cross_entropy", "class_kl_divergence"}
ALL = pytest.mark.parametrize("name", sorted(LOSSES.keys() - OF_CLASSES))


def batch(shape=(7,), seed=0):
    """Scores and labels in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)


class TestByHand:
    def test_binary_cross_entropy(self):
        assert bce_with_logits(torch.zeros(1), torch.ones(1)).item() == pytest.approx(math.log(2))
        scores = torch.tensor([math.log(3), 0.0])  # p = 3/4 and 1/2
        expected = (-math.log(3 / 4) - math.log(1 / 2)) / 2
        assert bce_with_logits(scores, torch.tensor([1.0, 0.0])).item() == pytest.approx(expected)

    def test_binary_cross_entropy_of_a_label_between_0_and_1(self):
        score, label = torch.tensor([math.log(3)]), torch.tensor([0.75])  # the minimum, where p = y
        entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
        assert bce_with_logits(score, label).item() == pytest.approx(entropy)
        assert bce_with_logits(score + 0.1, label) > bce_with_logits(score, label) < bce_with_logits(score - 0.1, label)

    def test_binary_cross_entropy_of_extreme_scores_is_finite(self):
        scores = torch.tensor([1e4, -1e4])
        assert bce_with_logits(scores, torch.tensor([1.0, 0.0])).item() == 0
        assert bce_with_logits(scores, torch.tensor([0.0, 1.0])).item() == pytest.approx(1e4)

    def test_mean_squared_error(self):
        assert mse(torch.tensor([1.0, 4.0]), torch.tensor([0.0, 2.0])).item() == 2.5  # (1 + 4) / 2

    def test_mean_squared_error_of_the_sigmoid(self):
        scores = torch.tensor([0.0, math.log(3)])  # p = 1/2 and 3/4
        assert sigmoid_mse(scores, torch.tensor([1.0, 0.75])).item() == pytest.approx(1 / 8)


class TestAgainstTorch:
    @pytest.mark.parametrize("shape", [(7,), (4, 3), (1,)])
    def test_values(self, shape):
        scores, labels = batch(shape)
        assert torch.equal(bce_with_logits(scores, labels), torch.nn.BCEWithLogitsLoss()(scores, labels))
        assert torch.equal(mse(scores, labels), torch.nn.MSELoss()(scores, labels))
        assert torch.equal(sigmoid_mse(scores, labels), torch.nn.MSELoss()(torch.sigmoid(scores), labels))

    @ALL
    def test_gradients_are_the_finite_differences(self, name):
        scores, labels = batch((5,))
        scores.requires_grad_()
        loss = LOSSES[name].function
        (gradient,) = torch.autograd.grad(loss(scores, labels), scores)
        step = 1e-2  # in float32: the error of the difference is step^2 plus 1e-7 / step
        for row in range(len(scores)):
            nudge = torch.zeros_like(scores)
            nudge[row] = step
            difference = (loss(scores + nudge, labels) - loss(scores - nudge, labels)) / (2 * step)
            assert gradient[row].item() == pytest.approx(difference.item(), abs=2e-4)


class TestLaws:
    @ALL
    def test_half_precision_scores_give_a_float32_loss(self, name):
        scores, labels = batch()
        loss = LOSSES[name].function(scores.bfloat16(), labels.double())
        assert loss.dtype == torch.float32
        assert loss.shape == ()

    @ALL
    @settings(max_examples=30)
    @given(seed=st.integers(0, 1000), size=st.integers(1, 20))
    def test_the_mean_over_items_in_any_order_is_never_negative(self, name, seed, size):
        loss = LOSSES[name].function
        scores, labels = batch((size,), seed)
        each = torch.stack([loss(scores[i : i + 1], labels[i : i + 1]) for i in range(size)])
        assert (each >= 0).all()
        torch.testing.assert_close(loss(scores, labels), each.mean())
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(loss(scores[order], labels[order]), loss(scores, labels))

    @ALL
    @pytest.mark.parametrize("size", [1e4, -1e4])
    def test_nothing_overflows_far_out(self, name, size):
        labels = torch.tensor([0.0, 0.3, 1.0])
        scores = torch.full((3,), size, requires_grad=True)
        loss = LOSSES[name].function(scores, labels)
        (gradient,) = torch.autograd.grad(loss, scores)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()

    @ALL
    def test_a_score_is_never_compared_with_another_rows_label(self, name):
        with pytest.raises(ValueError, match=r"(?i)size|shape"):
            LOSSES[name].function(torch.zeros(3, 1), torch.zeros(3))


class TestNames:
    @ALL
    def test_by_name_and_by_function_is_the_same(self, name):
        assert find_loss(name) is LOSSES[name]
        assert find_loss(LOSSES[name].function) is LOSSES[name]

    def test_a_function_of_the_callers_own_has_no_range(self):
        def huber(scores, labels):
            return torch.nn.functional.huber_loss(scores, labels)

        assert find_loss(huber) == Loss(huber, None, None)

    def test_an_unknown_name_lists_the_known(self):
        with pytest.raises(
            ValueError,
            match=r"unknown loss 'bcee'; choose from bce, cross_entropy, mse, sigmoid_mse, class.*, group.*or pass",
        ):
            find_loss("bcee")


class TestLabels:
    @pytest.mark.parametrize("name", ["bce", "sigmoid_mse"])
    def test_0_to_1(self, name):
        check_labels(LOSSES[name], labelled([0.0, 0.5, 1.0]), 1)
        for bad, shown in ((-0.01, "-0.01"), (5.0, "5.0"), (np.nan, "nan"), (np.inf, "inf")):
            message = (
                rf"^row 2: the label is {shown}, and {LOSSES[name].function.__name__} takes labels from 0 to 1 \(1 of 4"
            )
            with pytest.raises(DataError, match=message):
                check_labels(LOSSES[name], labelled([0.0, 1.0, bad, 0.0]), 1)

    def test_any_finite_number(self):
        check_labels(LOSSES["mse"], labelled([-3.0, 5.0]), 1)
        with pytest.raises(DataError, match="row 1: the label is nan, and mse takes finite labels"):
            check_labels(LOSSES["mse"], labelled([0.0, np.nan]), 1)

    def test_the_first_row_is_named_and_all_are_counted(self):
        with pytest.raises(DataError, match=r"^row 1: .* \(3 of 5 labels do not fit\); change them, or choose another"):
            check_labels(LOSSES["bce"], labelled([0, 2, 3, 1, 4]), 1)

    def test_a_width_that_the_model_does_not_have(self):
        with pytest.raises(DataError, match=r"num_labels=1, but row 0 has 3 label.* build the model with num_labels=3"):
            check_labels(LOSSES["bce"], labelled([[0, 1, 0]]), 1)
        with pytest.raises(DataError, match="num_labels=2, but row 0 has 1 label"):
            check_labels(LOSSES["bce"], labelled([0, 1]), 2)

    def test_no_labels(self):
        with pytest.raises(DataError, match="training needs labels: add a column named label"):
            check_labels(LOSSES["bce"], Pairs(["a"], ["b"]), 1)

    def test_a_function_of_the_callers_own_is_named(self):
        class Margin:
            def __call__(self, scores, labels):
                return (scores - labels).abs().mean()

        with pytest.raises(DataError, match="and Margin takes finite labels"):
            check_labels(find_loss(Margin()), labelled([np.nan]), 1)
