"""Losses of lists: gradients against finite differences, their laws, and lists that say little."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_losses import ALL, ASK_FOR_EQUAL_SCORES, CASES, batch, value_and_gradient
from torch import tensor

from crossenc_kit.losses.listwise import approx_ndcg
from crossenc_kit.losses.pairwise import WEIGHTINGS, lambda_loss

SAY_NOTHING_OF_EQUAL_LABELS = [
    *(name for name in CASES if name.startswith(("ranknet", "lambda_loss", "approx_ndcg")) and "loss1" not in name),
    *("listmle", "position_aware_listmle"),
]
SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def each(loss, scores, labels, mask):
    """The mean of the loss over the lists, given to it one by one and without padding."""
    rows = [(scores[q : q + 1, row], labels[q : q + 1, row], row[row][None]) for q, row in enumerate(mask)]
    return torch.stack([loss(*row) for row in rows]).mean()


class TestLaws:
    @ALL
    def test_gradients_are_the_finite_differences(self, name):
        scores, labels, mask = batch(name, dtype=torch.float64)
        leaf = scores.requires_grad_()
        assert torch.autograd.gradcheck(lambda s: CASES[name](s, labels, mask), (leaf,), eps=1e-6, atol=1e-7)

    @ALL
    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), sizes=SIZES)
    def test_the_loss_is_the_mean_over_lists_and_never_negative(self, name, seed, sizes):
        arguments = batch(name, sizes, seed)
        found = CASES[name](*arguments)
        torch.testing.assert_close(found, each(CASES[name], *arguments))
        assert found >= -1e-6

    @ALL
    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), sizes=SIZES, junk=st.sampled_from([0.0, 1e30, math.inf, math.nan]))
    def test_what_stands_in_the_padding_changes_nothing(self, name, seed, sizes, junk):
        scores, labels, mask = batch(name, sizes, seed)
        expected, gradient = value_and_gradient(CASES[name], scores, labels, mask)
        more = torch.cat([mask, torch.zeros(len(sizes), 3, dtype=torch.bool)], 1)
        wider = [torch.full(more.shape, junk).masked_scatter(more, column[mask]) for column in (scores, labels)]
        order = torch.randperm(more.shape[1] - 1, generator=torch.Generator().manual_seed(seed)) + 1
        order = torch.cat([tensor([0]), order])  # padding between the documents too, but none before the first
        found, wide = value_and_gradient(CASES[name], *(column[:, order] for column in (*wider, more)))
        torch.testing.assert_close(found, expected)
        back = wide[:, order.argsort()]
        torch.testing.assert_close(back[more], gradient[mask])
        assert not back[~more].any()

    @ALL
    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), size=st.integers(1, 7), equal=st.booleans())
    def test_the_order_of_the_documents_does_not_matter(self, name, seed, size, equal):
        scores, labels, mask = batch(name, (size, size), seed)
        scores = scores.round() if equal else scores  # equal scores, and documents alike in score and label
        keep = name.endswith("against_first")
        order = torch.randperm(size - keep, generator=torch.Generator().manual_seed(seed)) + int(keep)
        order = torch.cat([tensor([0] * keep, dtype=torch.long), order])
        expected, gradient = value_and_gradient(CASES[name], scores, labels, mask)
        found, moved = value_and_gradient(CASES[name], scores[:, order], labels[:, order], mask)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(moved, gradient[:, order])

    @ALL
    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), shift=st.floats(-50, 50))
    def test_only_differences_of_scores_count(self, name, seed, shift):
        scores, labels, mask = batch(name, seed=seed, dtype=torch.float64)
        if name != "multiple_negatives":
            moved = CASES[name](scores + shift, labels, mask)
            torch.testing.assert_close(moved, CASES[name](scores, labels, mask), rtol=1e-9, atol=1e-9)

    @ALL
    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), size=st.sampled_from([1e4, -1e4]))
    def test_nothing_overflows_far_out(self, name, seed, size):
        scores, labels, mask = batch(name, seed=seed)
        for far in (size * scores.sign(), size * torch.ones_like(scores), size * scores):
            value, gradient = value_and_gradient(CASES[name], far, labels, mask)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()

    @ALL
    @pytest.mark.parametrize("grade", [1e-30, 100.0, 1e4])
    def test_small_and_large_labels(self, name, grade):
        scores, labels, mask = batch(name)
        value, gradient = value_and_gradient(CASES[name], scores, labels * grade, mask)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()

    @ALL
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_scores_give_a_float32_loss(self, name, dtype):
        scores, labels, mask = batch(name)
        found = CASES[name](scores.to(dtype), labels.double(), mask)
        assert found.dtype == torch.float32
        assert found.shape == ()
        torch.testing.assert_close(found, CASES[name](scores.to(dtype).float(), labels, mask), rtol=0, atol=0)

    @ALL
    def test_a_score_that_is_no_number_is_not_hidden(self, name):
        scores, labels, mask = batch(name, sizes=(4, 4), distinct=True)
        scores[1, 0] = math.nan
        assert CASES[name](scores, labels, mask).isnan()

    @ALL
    def test_a_step_down_the_gradient_lowers_the_loss(self, name):
        scores, labels, mask = batch(name)
        value, gradient = value_and_gradient(CASES[name], scores, labels, mask)
        assert gradient.abs().max() > 1e-4
        assert CASES[name](scores - 1e-2 * gradient, labels, mask) < value


class TestListsThatSayLittle:
    @ALL
    def test_one_document(self, name):
        scores, labels, mask = tensor([[3.0, 7.0]]), tensor([[1.0, 2.0]]), tensor([[True, False]])
        value, gradient = value_and_gradient(CASES[name], scores, labels, mask)
        assert value.item() == (name == "lambda_loss ndcg_loss1")  # it compares a document with itself too
        assert not gradient.any()

    @pytest.mark.parametrize(
        ("name", "grade"),
        [
            *((name, grade) for name in SAY_NOTHING_OF_EQUAL_LABELS for grade in (0.0, 2.0)),
            ("group_cross_entropy", 0.0),  # no positive
            ("lambda_loss ndcg_loss1", 0.0),
        ],
    )
    def test_equal_labels_that_cost_nothing(self, name, grade):
        scores, labels, mask = batch(name)
        value, gradient = value_and_gradient(CASES[name], scores, torch.full_like(labels, grade), mask)
        assert value.item() == 0
        assert not gradient.any()

    @ALL
    @pytest.mark.parametrize("grade", [0.0, 1.0, 3.0])
    def test_equal_labels_are_defined(self, name, grade):
        scores, labels, mask = batch(name)
        arguments = (torch.full_like(labels, grade), mask)
        if name.startswith("multiple_negatives"):
            with pytest.raises(ValueError, match=r"list 0 has [04] positives among its documents"):
                CASES[name](scores, *arguments)
            return
        for some in (scores, 0 * scores, 1e4 * scores):
            value, gradient = value_and_gradient(CASES[name], some, *arguments)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()

    @pytest.mark.parametrize("name", ASK_FOR_EQUAL_SCORES)
    def test_equal_labels_ask_for_equal_scores(self, name):
        scores, labels, mask = batch(name, sizes=(4, 4))
        equal = torch.ones_like(labels)
        value, gradient = value_and_gradient(CASES[name], scores, equal, mask)
        least, none = value_and_gradient(CASES[name], 0 * scores + 5, equal, mask)
        assert value > least
        assert (gradient * (scores - scores.mean(1, keepdim=True))).sum() > 0  # a step brings the scores together
        torch.testing.assert_close(none, torch.zeros_like(none), rtol=0, atol=1e-6)
        expected = math.log(4) if name in ("group_cross_entropy", "listnet") else 0.0
        assert least.item() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("weighting", [w for w in WEIGHTINGS if w != "none"])
    def test_a_model_that_scores_all_alike_still_learns(self, weighting):
        scores, labels, mask = torch.zeros(1, 3), tensor([[0.0, 1.0, 2.0]]), torch.ones(1, 3, dtype=torch.bool)
        _, gradient = value_and_gradient(partial(lambda_loss, weighting=weighting), scores, labels, mask)
        if weighting == "ndcg_loss1":  # weighs documents, not pairs: equal scores are its ranking already
            assert gradient[0, 2] < 0
        else:
            assert gradient[0, 2] < gradient[0, 1] < gradient[0, 0]

    def test_the_best_order_is_the_least_approx_ndcg(self):
        scores, labels = tensor([[30.0, 20.0, 10.0]]), tensor([[3.0, 1.0, 0.0]])
        mask = torch.ones(1, 3, dtype=torch.bool)
        assert approx_ndcg(scores, labels, mask).item() == pytest.approx(0, abs=1e-3)
        assert approx_ndcg(-scores, labels, mask).item() > 0.3
