"""What losses of lists say of scores, labels, masks and options that cannot be used."""

import math

import pytest
import torch
from small_losses import ALL, ASK_FOR_EQUAL_SCORES, CASES, batch
from torch import tensor

from crossenc_kit.losses.listwise import adr_mse, approx_ndcg, kl_divergence, multiple_negatives
from crossenc_kit.losses.pairwise import lambda_loss, margin_mse, ranknet


class TestErrors:
    @ALL
    def test_shapes(self, name):
        loss, mask = CASES[name], torch.ones(2, 3, dtype=torch.bool)
        message = r"^scores have shape \(2, 3\), labels \(2, 2\), the mask \(2, 3\); expected one shape \(Q, K\)"
        with pytest.raises(ValueError, match=message):
            loss(torch.zeros(2, 3), torch.zeros(2, 2), mask)
        with pytest.raises(ValueError, match=r"the mask \(2, 3\); expected one shape"):
            loss(torch.zeros(2, 4), torch.zeros(2, 4), mask)
        with pytest.raises(ValueError, match=r"scores have shape \(3,\), .* expected one shape \(Q, K\)"):
            loss(torch.zeros(3), torch.zeros(3), mask[0])
        with pytest.raises(ValueError, match="with Q and K at least 1"):
            loss(torch.zeros(0, 3), torch.zeros(0, 3), mask[:0])

    @ALL
    def test_masks(self, name):
        scores, labels, mask = batch(name, sizes=(2, 3))
        with pytest.raises(ValueError, match=r"the mask has dtype torch.float32; expected torch.bool"):
            CASES[name](scores, labels, mask.float())
        mask[1] = False
        with pytest.raises(ValueError, match="list 1 has no documents: the mask is False in its whole row"):
            CASES[name](scores, labels, mask)

    @ALL
    def test_labels_that_are_no_numbers(self, name):
        scores, labels, mask = batch(name, sizes=(2, 3))
        labels[1, 2] = math.nan
        with pytest.raises(ValueError, match=r"^list 1, document 2: the label is nan; (grades|labels) are finite"):
            CASES[name](scores, labels, mask)

    @ALL
    def test_labels_below_0(self, name):
        scores, labels, mask = batch(name, sizes=(2, 3))
        labels[1, 2] = -0.5
        takes_any = ("ranknet", "lambda_loss none", "listmle", "position_aware_listmle", *ASK_FOR_EQUAL_SCORES[1:])
        if name in takes_any:
            assert torch.isfinite(CASES[name](scores, labels, mask))
            return
        with pytest.raises(ValueError, match=r"^list 1, document 2: the label is -0.5; grades are .* not below 0$"):
            CASES[name](scores, labels, mask)

    def test_positives_of_multiple_negatives(self):
        scores, mask = torch.zeros(2, 3), tensor([[True, True, True], [True, True, False]])
        with pytest.raises(ValueError, match="list 1 has 2 positives among its documents, and multiple_negatives"):
            multiple_negatives(scores, tensor([[1.0, 0, 0], [1, 1, 0]]), mask)
        for column in (2, 3, -1):  # padding, or no column at all
            with pytest.raises(ValueError, match=r"list 1 has 0 positives among .*; group_cross_entropy takes any"):
                multiple_negatives(scores, tensor([0, column]), mask)
        with pytest.raises(ValueError, match=r"labels \(3, 3\), the mask \(2, 3\)"):
            multiple_negatives(scores, tensor([0, 1, 1]), mask)

    def test_a_first_document_that_is_masked(self):
        scores, mask = torch.zeros(2, 2), tensor([[True, True], [False, True]])
        with pytest.raises(ValueError, match="list 1: the first document is masked, and against_first compares"):
            margin_mse(scores, scores, mask, against_first=True)

    @pytest.mark.parametrize(
        ("loss", "options"),
        [
            (multiple_negatives, "scale"),
            (kl_divergence, "temperature"),
            (ranknet, "sigma"),
            (lambda_loss, "sigma"),
            (adr_mse, "alpha"),
            (approx_ndcg, "temperature"),
        ],
    )
    @pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
    def test_options_that_must_be_above_0(self, loss, options, value):
        with pytest.raises(ValueError, match=f"^{options} must be a finite number above 0, got {value!r}$"):
            loss(*batch(loss.__name__), **{options: value})
