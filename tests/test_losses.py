"""Losses: by hand, against torch.nn, their gradients against finite differences, and labels that do not fit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.label_checks import check_labels
from crossenc_kit.losses import (
    LOSSES,
    Loss,
    bce_with_logits,
    cross_entropy,
    find_loss,
    fit_weights,
    loss_with,
    mse,
    sigmoid_mse,
)
from crossenc_kit.pairs import DataError, Pairs

OF_CLASSES = {"cross_entropy", "class_kl_divergence"}
ALL = pytest.mark.parametrize("name", sorted(LOSSES.keys() - OF_CLASSES))


def batch(shape=(7,), seed=0):
    """Scores and labels in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)


def table(labels):
    """Pairs with the given labels."""
    texts = [f"text {row}" for row in range(len(labels))]
    return Pairs(texts, texts, np.asarray(labels))


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

    def test_gradients_by_formula(self):
        scores, labels = batch((6,))
        p = scores.sigmoid()
        formulas = {
            bce_with_logits: (p - labels) / 6,
            mse: 2 * (scores - labels) / 6,
            sigmoid_mse: 2 * (p - labels) * p * (1 - p) / 6,
        }
        for loss, expected in formulas.items():
            leaf = scores.clone().requires_grad_()
            loss(leaf, labels).backward()
            torch.testing.assert_close(leaf.grad, expected)


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
        check_labels(table([0.0, 0.5, 1.0]), LOSSES[name], 1)
        for bad, shown in ((-0.01, "-0.01"), (5.0, "5.0"), (np.nan, "nan"), (np.inf, "inf")):
            message = (
                rf"^row 2: the label is {shown}, and {LOSSES[name].function.__name__} takes labels from 0 to 1 \(1 of 4"
            )
            with pytest.raises(DataError, match=message):
                check_labels(table([0.0, 1.0, bad, 0.0]), LOSSES[name], 1)

    def test_any_finite_number(self):
        check_labels(table([-3.0, 5.0]), LOSSES["mse"], 1)
        with pytest.raises(DataError, match="row 1: the label is nan, and mse takes finite labels"):
            check_labels(table([0.0, np.nan]), LOSSES["mse"], 1)

    def test_the_first_row_is_named_and_all_are_counted(self):
        with pytest.raises(DataError, match=r"^row 1: .* \(3 of 5 rows are outside\); scale them, or choose another"):
            check_labels(table([0, 2, 3, 1, 4]), LOSSES["bce"], 1)

    def test_several_labels_a_pair(self):
        check_labels(table([[0, 1], [1, 0]]), LOSSES["bce"], 2)
        with pytest.raises(DataError, match=r"row 1: the label is \[0.0, 7.0\]"):
            check_labels(table([[0, 1], [0, 7]]), LOSSES["bce"], 2)

    def test_a_width_that_the_model_does_not_have(self):
        with pytest.raises(DataError, match="num_labels=1, but row 0 has 3 labels; build the model with num_labels=3"):
            check_labels(table([[0, 1, 0]]), LOSSES["bce"], 1)
        with pytest.raises(DataError, match="num_labels=2, but row 0 has 1 label;"):
            check_labels(table([0, 1]), LOSSES["bce"], 2)

    def test_no_labels(self):
        with pytest.raises(DataError, match="training needs labels: add a column named label"):
            check_labels(Pairs(["a"], ["b"]), LOSSES["bce"], 1)

    def test_a_function_of_the_callers_own_is_named(self):
        class Margin:
            def __call__(self, scores, labels):
                return (scores - labels).abs().mean()

        with pytest.raises(DataError, match="and Margin takes finite labels"):
            check_labels(table([np.nan]), find_loss(Margin()), 1)


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
        loss = fit_weights(loss_with("cross_entropy", class_weights="balanced"), table([0, 0, 0, 1]), 2)
        assert loss.options["class_weights"] == pytest.approx([4 / 6, 4 / 2])
        assert loss.item_weights(np.array([0, 1])) == pytest.approx([4 / 6, 2.0])
        loss = fit_weights(loss_with("bce", positive_weight="balanced"), table([0, 0, 0, 1]), 1)
        assert loss.options == {"positive_weight": 3.0}

    def test_the_name_tells_the_options(self):
        assert find_loss("cross_entropy").name == "cross_entropy"
        assert loss_with("cross_entropy", label_smoothing=0.1).name == "cross_entropy(label_smoothing=0.1)"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"name": "mse", "label_smoothing": 0.1}, "the loss 'mse' has no label_smoothing; it has no options"),
            ({"name": "bce", "class_weights": [1, 2]}, "'bce' has no class_weights; it has positive_weight"),
            ({"name": "cross_entropy", "label_smoothing": 1.0}, "label_smoothing must be 0 or more and less than 1"),
        ],
    )
    def test_options_that_a_loss_does_not_have(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            loss_with(**arguments)

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
            fit_weights(loss_with("cross_entropy", class_weights=weights), table([0, 1]), 2)


class TestClasses:
    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([0, 1, 3], "row 2: the label is 3, and cross_entropy takes classes, whole numbers from 0 to 2"),
            ([0, -1, 1], "row 1: the label is -1, and cross_entropy takes classes"),
            (
                [0.3, 1.0],
                r"row 0: the label is 0.3, .*\(1 of 2 rows are none\); for graded labels build the model with",
            ),
            ([np.nan, 1.0], "row 0: the label is nan"),
        ],
    )
    def test_what_is_no_class(self, labels, message):
        with pytest.raises(DataError, match=message):
            check_labels(table(labels), LOSSES["cross_entropy"], 3)

    def test_a_class_that_no_row_has(self):
        with pytest.warns(UserWarning, match="no row of the training data has class 2 of 3; it will not be learnt"):
            check_labels(table([0, 1, 1]), LOSSES["cross_entropy"], 3)

    def test_one_score_cannot_hold_classes(self):
        with pytest.raises(DataError, match="cross_entropy needs one score a class: build the model with num_labels=2"):
            check_labels(table([0, 1]), LOSSES["cross_entropy"], 1)

    def test_classes_under_another_loss(self):
        with pytest.raises(DataError, match=r"row 0 has 1 label; .* for labels that are classes use 'cross_entropy'"):
            check_labels(table([0, 1]), LOSSES["bce"], 2)

    def test_distributions(self):
        check_labels(table([[0.2, 0.8], [1.0, 0.0]]), LOSSES["cross_entropy"], 2)
        with pytest.raises(
            DataError, match=r"row 1: .* takes classes, or a distribution over the classes that sums to 1"
        ):
            check_labels(table([[0.2, 0.8], [1.0, 1.0]]), LOSSES["cross_entropy"], 2)

    def test_a_function_of_the_callers_own_may_take_classes(self):
        check_labels(table([0, 1, 2]), find_loss(torch.nn.CrossEntropyLoss()), 3)
        with pytest.raises(DataError, match="row 1: the label is 5, and CrossEntropyLoss takes classes"):
            check_labels(table([0, 5, 2]), find_loss(torch.nn.CrossEntropyLoss()), 3)
