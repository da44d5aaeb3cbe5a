"""Cached scores: the gradients of one pass, in the memory of a few pairs."""

from __future__ import annotations

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import candidate_lists, run, sentences, softmax_loss, tiny
from torch.autograd.graph import saved_tensors_hooks

from crossenc_kit import CrossEncoder, Pairs, TrainingConfig, loss_with
from crossenc_kit.training.batches import MicroBatch, mean_loss, plan_epoch, rows_of, seed_generators
from crossenc_kit.training.optimization import parameter_groups

CONFIG = TrainingConfig(batch_size=9, epochs=2, learning_rate=1e-3)
LOSSES = ["lambda_loss", "listnet", "approx_ndcg", "multiple_negatives", softmax_loss, "bce"]
LOSSES += [loss_with("multiple_negatives", in_batch="all"), loss_with("group_cross_entropy", in_batch=3)]
NAMES = ["lambda_loss", "listnet", "approx_ndcg", "multiple_negatives", "own", "bce", "all in batch", "3 in batch"]


class Recorder(torch.optim.SGD):
    """Plain descent that keeps the gradients of its last step."""

    def step(self, closure=None):
        self.seen = [p.grad.clone() for group in self.param_groups for p in group["params"]]
        return super().step(closure)


def gradient(loss, model=None, data=None, **changes):
    """Loss of one step over all lists, and the gradient of every weight."""
    config = TrainingConfig(**{"batch_size": 9, "max_grad_norm": 0.0, **changes})
    data = candidate_lists() if data is None else data
    outcome = run(config, data, loss, model=model or tiny(dropout=False), optimizer=Recorder)
    assert outcome.result.steps == 1
    return outcome.result.history[0]["loss"], outcome.optimizer.seen


def assert_equal(first, second, tolerance=2e-4):
    """Equal losses, and gradients that differ by that part of the largest at most; sums of floats in another order."""
    largest = max(float(value.abs().max()) for value in first[1])
    assert largest > 1e-5
    assert first[0] == pytest.approx(second[0], rel=tolerance)
    for ours, theirs in zip(first[1], second[1], strict=True):
        assert float((ours - theirs).abs().max()) < tolerance * largest


# --- the gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_the_gradient_is_that_of_one_pass(loss):
    whole = gradient(loss)
    for changes in ({"cached_pairs": 1}, {"cached_pairs": 4}, {"cached_pairs": 500}):
        assert_equal(whole, gradient(loss, **changes))
    assert_equal(whole, gradient(loss, cached_pairs=4, token_budget=150))


def test_with_dropout_both_passes_draw_the_same():
    """Against one pass in which each chunk draws from its own place, all graphs being held."""
    data, loss, k = candidate_lists(), loss_with("lambda_loss"), 4
    found = gradient(loss, tiny(), cached_pairs=k)
    model = tiny()
    model.model.train()
    tokens = model.tokenize(data)
    ((groups,),) = plan_epoch(tokens.lengths, data.offsets, seed=0, epoch=0, batch_size=9)
    rows = rows_of(groups, data.offsets)
    order = np.argsort(-tokens.lengths[rows], kind="stable")
    scores = []
    for number, start in enumerate(range(0, 27, k)):
        seed_generators(0, 0, 0, number)
        scores.append(model.scores(tokens, rows[order[start : start + k]]))
    scores = torch.cat(scores)[torch.as_tensor(np.argsort(order))]
    batch = MicroBatch(groups, rows, data.labels[rows], np.diff(data.offsets)[groups], 0, 1.0)
    value = mean_loss(loss, scores, batch)
    value.backward()
    parameters = [p for group in parameter_groups(list(model.model.named_parameters()), 1.0) for p in group["params"]]
    assert_equal(found, (value.item(), [p.grad for p in parameters]))
    assert abs(found[0] - gradient(loss)[0]) > 1e-4  # dropout mattered


def test_it_goes_with_recomputed_activations():
    loss = loss_with("multiple_negatives", in_batch="all")
    assert_equal(gradient(loss), gradient(loss, cached_pairs=4, gradient_checkpointing=True))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_it_goes_with_lower_precision(precision):
    plain, cached = (
        run(CONFIG, candidate_lists(), "bce", precision=precision, dropout=0.0, cached_pairs=n) for n in (None, 5)
    )
    moved = {name: plain.weights()[name] - weight for name, weight in cached.weights().items()}
    assert max(float(difference.abs().max()) for difference in moved.values()) < 1e-2
    assert plain.result.history.column("loss")[1] == pytest.approx(cached.result.history.column("loss")[1], rel=1e-2)


def test_it_resumes_to_the_same_bits(tmp_path):
    config = replace(CONFIG, batch_size=4, cached_pairs=5)
    loss = loss_with("multiple_negatives", in_batch=2)
    whole = run(config, candidate_lists(), loss).digests()

    def stop(row):
        if row["step"] == 4:
            signal.raise_signal(signal.SIGTERM)

    run(config, candidate_lists(), loss, output_dir=tmp_path, on_row=stop)
    assert run(config, candidate_lists(), loss, output_dir=tmp_path, resume=True).digests() == whole
    assert run(config, candidate_lists(), loss, cached_pairs=None).digests() != whole  # other dropout


# --- the memory -----------------------------------------------------------------------------------


def test_no_graph_holds_more_pairs(monkeypatch):
    calls = []
    scores = CrossEncoder.scores

    def counted(model, tokens, rows):
        calls.append((torch.is_grad_enabled(), len(rows)))
        return scores(model, tokens, rows)

    monkeypatch.setattr(CrossEncoder, "scores", counted)
    gradient("listnet", cached_pairs=4)
    assert calls == [(enabled, size) for enabled in (False, True) for size in [4] * 6 + [3]]


class Held:
    """How many bytes graphs hold at most at once."""

    def __init__(self):
        self.now = self.most = 0

    def measure(self, **options):
        held = self

        class Kept:
            def __init__(self, tensor):
                self.tensor, self.size = tensor, tensor.nbytes
                held.now += self.size
                held.most = max(held.most, held.now)

            def __del__(self):
                held.now -= self.size

        with saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            gradient(**options)
        return self.most


def test_the_memory_is_that_of_the_chunk_whatever_the_length_of_the_list():
    def lists(size):
        pairs = sentences(22)
        rows = [row % 22 for row in range(size)]
        labels = np.zeros(size, dtype=np.float32)
        labels[0] = 1
        documents = [f"{pairs.right[row]} {at}" for at, row in enumerate(rows)]
        return Pairs([pairs.left[0]] * size, documents, labels, np.array([0, size]))

    plain = [Held().measure(loss="listnet", data=lists(size)) for size in (40, 80)]
    cached = [Held().measure(loss="listnet", data=lists(size), cached_pairs=10) for size in (40, 80)]
    assert plain[1] > 1.8 * plain[0]
    assert cached[1] < 1.2 * cached[0]
    assert cached[1] < plain[1] / 4  # the weights are among what is held


# --- what goes wrong ------------------------------------------------------------------------------
