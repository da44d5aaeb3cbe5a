"""Training on lists of candidates: each loss by name, pairwise losses too, and data that change from epoch to epoch."""

from __future__ import annotations

import gc
import signal
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import candidate_lists, drawn, largest_difference, run, tiny

from crossenc_kit import CrossEncoder, DataError, Pairs, TrainingConfig, loss_with, train
from crossenc_kit.training import setup
from crossenc_kit.training.batches import plan_epoch, rows_of

CONFIG = TrainingConfig(batch_size=4, epochs=2, learning_rate=1e-3)


# --- losses of pairs take a list's candidates one by one -------------------------------------------


@pytest.mark.parametrize("loss", ["bce", "mse", loss_with("bce", positive_weight="balanced")], ids=["bce", "mse", "w"])
@pytest.mark.parametrize("changes", [{}, {"token_budget": 60}, {"batch_size": 2, "accumulation": 2}], ids=str)
def test_a_loss_of_pairs_is_that_of_the_flattened_pairs(loss, changes):
    lists = candidate_lists()
    pairs = Pairs(lists.left, lists.right, lists.labels)
    lengths = tiny().tokenize(lists).lengths

    def rows(epoch):
        plan = plan_epoch(lengths, lists.offsets, seed=0, epoch=epoch, batch_size=4)
        return [rows_of(np.concatenate(step), lists.offsets) for step in plan]

    grouped = run(CONFIG, lists, loss, model=tiny(dropout=False), **changes)
    flat = tiny(dropout=False)
    result = train(flat, pairs, loss, CONFIG, batches=rows)
    assert largest_difference(grouped.weights(), flat.model.state_dict()) < 1e-5  # AdamW divides by gradients near 0
    assert largest_difference(grouped.weights(), tiny(dropout=False).model.state_dict()) > 1e-3
    for column in ("loss", "grad_norm", "pairs", "tokens"):
        found, expected = (history.column(column)[1] for history in (grouped.result.history, result.history))
        assert found == pytest.approx(expected, rel=1e-4)
    assert grouped.result.history.column("pairs")[1].sum() == 2 * lists.num_pairs  # batch_size counts lists


def test_classes_of_candidates():
    lists = replace(candidate_lists(), labels=np.arange(27) % 3)
    loss = loss_with("cross_entropy", class_weights=[1.0, 4.0, 0.5])
    whole = run(TrainingConfig(batch_size=9), lists, loss, model=tiny(dropout=False, num_labels=3))
    ragged = run(TrainingConfig(batch_size=9, token_budget=60), lists, loss, model=tiny(dropout=False, num_labels=3))
    assert largest_difference(whole.weights(), ragged.weights()) < 1e-6
    labels = torch.tensor(np.arange(27) % 3)
    model = tiny(dropout=False, num_labels=3)
    scores = model.scores(model.tokenize(lists), np.arange(27))
    expected = torch.nn.functional.cross_entropy(scores, labels, weight=torch.tensor([1.0, 4.0, 0.5]))
    assert whole.result.history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)


# --- data that are drawn anew for each epoch -------------------------------------------------------


def test_each_epoch_asks_for_its_data_once_and_trains_on_them():
    asked, seen = [], []

    def data(epoch):
        asked.append((epoch, len(seen)))
        return drawn(epoch)

    outcome = run(CONFIG, data, "group_cross_entropy", epochs=3, on_row=seen.append)
    assert asked == [(0, 0), (1, 3), (2, 6)]  # three steps an epoch
    lengths = [tiny().tokenize(drawn(epoch)).lengths.sum() for epoch in range(3)]
    assert outcome.result.history.column("tokens")[1].reshape(3, 3).sum(1).tolist() == lengths
    assert len(set(lengths)) > 1


def test_the_same_data_in_each_epoch_are_the_same_run():
    plain = run(CONFIG, candidate_lists(), "ranknet").digests()
    assert run(CONFIG, lambda epoch: candidate_lists(), "ranknet").digests() == plain
    assert run(CONFIG, drawn, "ranknet").digests() != plain


@pytest.mark.parametrize("stop_at", [2, 3, 4])
def test_a_resumed_run_asks_for_the_epoch_it_is_in(tmp_path, stop_at):
    whole = run(CONFIG, drawn, "ranknet").digests()
    asked = []

    def data(epoch):
        asked.append(epoch)
        return drawn(epoch)

    def stop(row):
        if row["step"] == stop_at:
            signal.raise_signal(signal.SIGTERM)

    stopped = run(CONFIG, drawn, "ranknet", output_dir=tmp_path, on_row=stop)
    assert stopped.result.steps == stop_at
    assert run(CONFIG, data, "ranknet", output_dir=tmp_path, resume=True).digests() == whole
    assert asked == [0, 1]  # epoch 0 for the check that it is the same run


def test_the_data_of_an_epoch_are_gone_when_the_next_ones_come(monkeypatch):
    alive = []

    def remembered(made):
        alive.append(weakref.ref(made))
        return made

    def data(epoch):
        gc.collect()
        assert [reference() for reference in alive] == [None] * 2 * epoch  # data and tokens
        return remembered(drawn(epoch))

    tokenizing = setup.tokenize
    model = tiny()
    monkeypatch.setattr(setup, "tokenize", lambda *arguments: remembered(tokenizing(*arguments)))
    monkeypatch.setattr(model, "tokenize", lambda pairs: remembered(CrossEncoder.tokenize(model, pairs)))
    run(CONFIG, data, "ranknet", epochs=3, model=model)
    assert len(alive) == 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda epoch: drawn(epoch).select(range(9 - epoch)), "epoch 1: train_data gives 8 rows, and gave 9 for epoch"),
        (lambda epoch: [] if epoch else drawn(epoch), "the training data is empty"),
        (lambda epoch: replace(drawn(epoch), labels=None if epoch else drawn(0).labels), "training needs labels"),
        (lambda epoch: 7, "expected a list of examples, got int"),
    ],
)
def test_data_of_an_epoch_that_cannot_be_used(data, message):
    with pytest.raises(DataError, match=message):
        run(CONFIG, data, "ranknet")


# --- lists that teach nothing ---------------------------------------------------------------------


def with_silent(grade):
    """Six lists of several labels, one of a single document, and two of equal labels."""
    rows = [(example.texts[0], example.texts[1:], example.label) for example in candidate_lists(6)]
    rows += [("a query", ["one text"], [1])]
    return [*rows, ("a query", ["one text", "another"], [grade] * 2), ("a third", ["a", "b", "c"], [grade] * 3)]


EQUAL = ["ranknet", "lambda_loss", "listmle", "position_aware_listmle", "approx_ndcg"]
NOT_EQUAL = ["listnet", "kl_divergence", "margin_mse", "adr_mse", "group_cross_entropy"]


@pytest.mark.parametrize(
    ("loss", "grade", "count"),
    [
        *((loss, grade, 3) for loss in EQUAL for grade in (0, 1)),
        *((loss, 1, 1) for loss in NOT_EQUAL),
        ("group_cross_entropy", 0, 3),
        (loss_with("lambda_loss", weighting="ndcg_loss1"), 0, 3),
        (loss_with("lambda_loss", weighting="ndcg_loss1"), 1, 1),
    ],
    ids=str,
)
def test_lists_without_a_signal_are_counted_once(loss, grade, count):
    name = loss if isinstance(loss, str) else "lambda_loss"
    message = (
        rf"^{count} of 9 lists have equal labels throughout \(1 of them a single document\) and teach {name} nothing;"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        outcome = run(CONFIG, lambda epoch: with_silent(grade), loss)
    (warning,) = caught.list
    assert warning.filename.endswith("small_runs.py")  # the line that called `train`
    assert np.isfinite(outcome.result.history.column("loss")[1]).all()
    assert outcome.result.history.column("pairs")[1].sum() == 2 * 24


def test_lists_that_teach_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in (*EQUAL, *NOT_EQUAL, "multiple_negatives", "bce"):
            run(CONFIG, candidate_lists(), loss, max_steps=1)
        run(CONFIG, with_silent(1), "bce", max_steps=1)
        run(CONFIG, with_silent(1), loss_with("group_cross_entropy", in_batch=1), max_steps=1)
    with pytest.warns(UserWarning, match=r"^2 of 9 lists have .* \(0 of them .* teach lambda_loss nothing"):
        run(CONFIG, with_silent(0), loss_with("lambda_loss", in_batch=1), max_steps=1)


def test_lists_that_all_teach_nothing_are_refused():
    rows = [row for row in with_silent(1) if len(set(row[2])) == 1]
    with pytest.raises(DataError, match=r"^3 of 3 lists have equal .* teach ranknet nothing; give each query"):
        run(CONFIG, rows, "ranknet")
