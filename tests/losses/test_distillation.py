"""Losses of a teacher's scores, alone and mixed with gold labels: numbers, laws, and training on them."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import candidate_lists, run, sentences, tiny
from torch.nn import functional

from crossenc_kit import DataError, Pairs, TrainingConfig, distillation_loss, loss_with, with_teacher_scores
from crossenc_kit.losses.loss import LOSSES, find_loss
from crossenc_kit.losses.pointwise import class_kl_divergence
from crossenc_kit.sentence_transformers.cross_encoder import loss_of

LOG2, LOG3 = math.log(2), math.log(3)


def normal(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float32)


def with_gold(pairs, columns=0, seed=0):
    """The pairs with a teacher's scores, drawn at random, beside their own labels."""
    shape = (pairs.num_pairs, columns) if columns else pairs.num_pairs
    return with_teacher_scores(pairs, np.random.default_rng(seed).normal(size=shape), gold=True)


def with_classes(pairs):
    return replace(pairs, labels=np.arange(pairs.num_pairs) % 3)


# --- divergence over classes ----------------------------------------------------------------------


class TestClasses:
    def test_by_hand(self):
        scores, labels = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, LOG3]])  # the teacher: 1/4 and 3/4
        assert class_kl_divergence(scores, labels).item() == pytest.approx(math.log(0.5) / 4 + 3 * math.log(1.5) / 4)
        two = torch.cat([scores, labels]), torch.cat([labels, labels + 5])  # the second: no divergence
        assert class_kl_divergence(*two).item() == pytest.approx(0.130812 / 2, abs=1e-6)
        hot = class_kl_divergence(scores, 2 * labels, temperature=2.0)
        assert hot.item() == pytest.approx(4 * 0.130812, abs=1e-5)

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    def test_value_and_gradient_are_those_of_torch(self, temperature):
        scores, labels = normal(7, 3).requires_grad_(), normal(7, 3, seed=1)
        found = class_kl_divergence(scores, labels, temperature)
        ours = torch.autograd.grad(found, scores)[0]
        log_q, log_p = (x.div(temperature).log_softmax(1) for x in (scores, labels))
        expected = temperature**2 * functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(ours, torch.autograd.grad(expected, scores)[0])

    def test_what_it_cannot_take(self):
        with pytest.raises(ValueError, match=r"scores have shape \(4,\), labels \(4,\); expected \(B, C\) of both"):
            class_kl_divergence(torch.zeros(4), torch.zeros(4))
        with pytest.raises(ValueError, match=r"scores have shape \(4, 3\), labels \(4,\)"):
            class_kl_divergence(torch.zeros(4, 3), torch.zeros(4))
        for temperature in (0.0, -1.0, math.nan):
            with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
                loss_with("class_kl_divergence", temperature=temperature)


# --- the mix --------------------------------------------------------------------------------------


class TestMix:
    def test_one_score_by_hand(self):
        labels = torch.tensor([[1.0, 1.0], [1.0, 0.0]])  # the teacher's score, the gold label
        loss = distillation_loss("mse", gold="bce", alpha=0.25)
        bce = (LOG2 + math.log(1 + math.e**2)) / 2
        assert loss.apply(torch.tensor([0.0, 2.0]), labels).item() == pytest.approx(0.25 * 1.0 + 0.75 * bce)

    def test_classes_by_hand(self):
        loss = distillation_loss("kl_divergence", gold="cross_entropy", alpha=0.5)
        scores, labels = torch.zeros(1, 2), torch.tensor([[0.0, LOG3, 1.0]])  # two scores, and the gold class
        assert loss.apply(scores, labels).item() == pytest.approx(0.5 * 0.130812 + 0.5 * LOG2, abs=1e-6)
        gold = torch.tensor([[0.0, LOG3, 0.3, 0.7]])  # a distribution in place of a class
        assert loss.apply(scores, gold).item() == pytest.approx(0.5 * 0.130812 + 0.5 * LOG2, abs=1e-6)

    def test_lists_by_hand(self):
        scores = torch.tensor([[1.0, 0.0, 9.0], [0.0, 0.0, 0.0]])
        teacher, gold = torch.tensor([[3.0, 0.0, 9.0], [1.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 9.0], [0.0, 1, 0]])
        mask = torch.tensor([[True, True, False], [True, True, True]])
        labels = torch.stack([teacher, gold], dim=2)
        margins = (4 + (1 + 1 + 0) / 3) / 2  # (1 - 3)^2; (0 - 1)^2 twice and 0
        shares = (math.log(1 + math.exp(-1)) + LOG3) / 2
        mix = distillation_loss("margin_mse", gold="group_cross_entropy", alpha=0.5).apply(scores, labels, mask)
        assert mix.item() == pytest.approx(0.5 * margins + 0.5 * shares, abs=1e-6)
        bce = ((math.log(1 + math.exp(-1)) + LOG2) / 2 + LOG2) / 2  # of each list's documents, then of the lists
        mix = distillation_loss("margin_mse", gold="bce", alpha=0.5).apply(scores, labels, mask)
        assert mix.item() == pytest.approx(0.5 * margins + 0.5 * bce, abs=1e-6)
        squares = ((4 + 0) / 2 + 1 / 3) / 2
        mix = distillation_loss("mse", gold="group_cross_entropy", alpha=0.5).apply(scores, labels, mask)
        assert mix.item() == pytest.approx(0.5 * squares + 0.5 * shares, abs=1e-6)

    @given(st.sampled_from(["one score", "classes", "lists"]), st.floats(0, 1), st.integers(0, 99))
    def test_alpha_leads_from_the_gold_loss_to_the_teachers(self, kind, alpha, seed):
        scores = normal(4, 3, seed=seed) if kind != "one score" else normal(4, seed=seed)
        teacher, gold = normal(*scores.shape, seed=seed + 100), (normal(*scores.shape, seed=seed + 200) > 0).float()
        mask = [torch.ones(4, 3, dtype=torch.bool)] if kind == "lists" else []
        names = {"one score": ("mse", "bce"), "lists": ("kl_divergence", "lambda_loss")}
        first, second = names.get(kind, ("class_kl_divergence", "cross_entropy"))
        if kind == "classes":
            gold = gold.argmax(1).float()
            labels = torch.cat([teacher, gold[:, None]], dim=1)
        else:
            labels = torch.stack([teacher, gold], dim=-1)
        ends = [find_loss(second).apply(scores, gold, *mask), find_loss(first).apply(scores, teacher, *mask)]
        for share, expected in ((0, ends[0]), (1, ends[1]), (alpha, alpha * ends[1] + (1 - alpha) * ends[0])):
            found = distillation_loss(first, gold=second, alpha=share).apply(scores, labels, *mask)
            assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)

    def test_names_and_options(self):
        loss = distillation_loss("kl_divergence", gold="cross_entropy", alpha=0.3, temperature=2.0)
        parts = "distillation=class_kl_divergence(temperature=2.0), gold=cross_entropy"
        assert loss.name == f"mixed(alpha=0.3, {parts})"
        lists = distillation_loss("kl_divergence", gold="ranknet")
        assert lists.name == "mixed(alpha=0.5, distillation=kl_divergence, gold=ranknet)"
        assert [loss.groups, lists.groups, distillation_loss("mse", gold="ranknet").groups] == [False, True, True]
        assert distillation_loss("mse", gold=lambda scores, labels: scores.mean()).groups is None
        assert distillation_loss("mse") is LOSSES["mse"]
        assert distillation_loss("margin_mse", against_first=True).name == "margin_mse(against_first=True)"
        given_options = distillation_loss(loss_with("lambda_loss", k=3), sigma=2.0)
        assert given_options.name == "lambda_loss(k=3, sigma=2.0)"

    def test_an_activation_of_fit_is_applied_to_both(self):
        loss = loss_of(distillation_loss("mse", gold="mse", alpha=0.5), torch.nn.Sigmoid(), 1)
        scores, labels = normal(4), torch.stack([normal(4, seed=1), normal(4, seed=2)], dim=1)
        expected = sum(functional.mse_loss(scores.sigmoid(), column) for column in labels.unbind(1)) / 2
        assert loss.apply(scores, labels).item() == pytest.approx(expected.item())


# --- training -------------------------------------------------------------------------------------

STS = (lambda: sentences(), 0, "mse", "bce", 1)
NLI = (lambda: with_classes(sentences()), 3, "class_kl_divergence", "cross_entropy", 3)
LISTS = (lambda: candidate_lists(), 0, "kl_divergence", "ranknet", 1)
TASKS = pytest.mark.parametrize("task", [STS, NLI, LISTS], ids=["sts", "nli", "lists"])


@TASKS
def test_a_run_with_alpha_0_is_one_on_gold_labels_and_with_1_one_on_the_teachers(task):
    data, columns, teacher, gold, num_labels = task
    both = with_gold(data(), columns)
    alone = with_teacher_scores(data(), both.labels[:, : max(1, columns)])
    config = TrainingConfig(batch_size=5, learning_rate=1e-3, token_budget=70)

    def weights(pairs, loss):
        return run(config, pairs, loss, model=tiny(num_labels=num_labels)).weights()

    ends = {0.0: weights(data(), gold), 1.0: weights(alone, teacher)}
    for alpha, expected in ends.items():
        found = weights(both, distillation_loss(teacher, gold=gold, alpha=alpha))
        assert all(torch.equal(found[name], expected[name]) for name in expected), alpha
    assert not torch.equal(ends[0.0]["classifier.weight"], ends[1.0]["classifier.weight"])


@TASKS
def test_ragged_micro_batches_are_one_batch(task):
    data, columns, teacher, gold, num_labels = task
    both, loss = with_gold(data(), columns), distillation_loss(teacher, gold=gold, alpha=0.3)
    config = TrainingConfig(batch_size=len(both), learning_rate=1e-3, epochs=3)
    runs = [
        run(config, both, loss, model=tiny(dropout=False, num_labels=num_labels), **changes)
        for changes in ({}, {"token_budget": 60}, {"cached_pairs": 4})
    ]
    losses = [outcome.result.history.column("loss")[1] for outcome in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)
    card = runs[0].model.card
    assert card["settings"]["loss"] == loss.name
    gold_labels = data().labels
    assert card["data"]["gold labels"].startswith(f"{gold_labels.min():g} to {gold_labels.max():g}, mean ")
    assert "teacher's scores" in card["data"]
    assert "labels" not in card["data"]


@pytest.mark.parametrize("gold", [False, True])
def test_classes_in_another_order_than_the_students_are_refused(gold):
    data = replace(with_classes(sentences()), label_names=("contradiction", "entailment", "neutral"))
    taught = with_teacher_scores(data, normal(len(data), 3).numpy(), gold=gold)
    loss = distillation_loss("kl_divergence", gold="cross_entropy") if gold else "class_kl_divergence"
    model = tiny(num_labels=3, label_names=("neutral", "contradiction", "entailment"))
    model.new_head.clear()  # as one that was trained
    with pytest.raises(DataError, match=r"the model's classes are neutral, .* puts the data in the model's order"):
        run(TrainingConfig(batch_size=5), taught, loss, model=model)
    assert run(TrainingConfig(), taught, loss, model=tiny(num_labels=3)).model.label_names == data.label_names


def test_a_loss_of_pairs_beside_one_of_lists_is_the_mean_of_each_lists_mean():
    lists = with_gold(candidate_lists())
    model = tiny(dropout=False)
    scores = model.scores(model.tokenize(lists), np.arange(lists.num_pairs))[:, 0]
    teacher, gold = torch.tensor(lists.labels).unbind(1)
    bounds = list(zip(lists.offsets[:-1], lists.offsets[1:], strict=True))
    bce = np.mean([functional.binary_cross_entropy_with_logits(scores[a:b], gold[a:b]).item() for a, b in bounds])
    margins = []
    for a, b in bounds:
        errors = scores[a:b] - teacher[a:b]
        apart = (errors[:, None] - errors[None]) ** 2
        margins.append(apart.sum().item() / ((b - a) * (b - a - 1)))
    loss = distillation_loss("margin_mse", gold="bce", alpha=0.5)
    found = run(TrainingConfig(batch_size=9, token_budget=60), lists, loss, model=model).result.history[0]["loss"]
    assert found == pytest.approx((np.mean(margins) + bce) / 2, rel=1e-4)


def test_balanced_weights_are_counted_from_the_gold_labels():
    pairs = sentences(8)
    pairs = with_gold(replace(pairs, labels=np.array([1, 0, 0, 0, 0, 0, 1, 0], dtype=np.float32)))
    loss = distillation_loss("mse", gold=loss_with("bce", positive_weight="balanced"))
    name = run(TrainingConfig(batch_size=8), pairs, loss).model.card["settings"]["loss"]
    assert name == "mixed(alpha=0.5, distillation=mse, gold=bce_with_logits(positive_weight=3.0))"


def test_lists_that_only_one_part_learns_from_are_not_silent():
    lists = candidate_lists(6)
    equal = replace(lists, labels=np.ones(lists.num_pairs, dtype=np.float32))
    loss = distillation_loss("kl_divergence", gold="ranknet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(TrainingConfig(batch_size=6), with_gold(equal), loss)
    single = Pairs(lists.left, lists.right, lists.labels, np.array([0, 1, *range(3, lists.num_pairs + 1, 5)]))
    single = single.select(range(3))
    with pytest.warns(
        UserWarning, match=r"1 of 3 lists .* \(1 of them a single document\) and teach kl_.* and ranknet"
    ):
        run(TrainingConfig(batch_size=3), with_gold(single), loss)
