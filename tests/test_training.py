"""The training loop: it learns, it is the plain loop, it repeats itself, and it says what is wrong."""

from __future__ import annotations

import math
import re
import signal
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import candidate_lists, run, sentences, softmax_loss, tiny, up_and_down, without_seconds
from torch.nn.functional import binary_cross_entropy_with_logits

from crossenc_kit import (
    CrossEncoder,
    DataError,
    InputExample,
    Pairs,
    TrainingConfig,
    TrainingError,
    TruncationWarning,
    bce_with_logits,
    loss_with,
    train,
)
from crossenc_kit.checkpoint import CheckpointError
from crossenc_kit.history import History
from crossenc_kit.training import seed_generators

NOUNS = ["sun", "moon", "tree", "river", "stone", "cloud", "grass", "sand"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Quicker for so small a model, and the same bits on every machine of a kind."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


# --- it learns, and as the plain loop does --------------------------------------------------------


def test_the_loss_falls_where_labels_can_be_told_apart():
    rows = [(f"the {NOUNS[i % 8]} is", f"{'good' if i % 2 else 'bad'} {NOUNS[i * 3 % 8]}", i % 2) for i in range(32)]
    outcome = run(TrainingConfig(batch_size=8, epochs=10, learning_rate=2e-3), rows)
    losses = outcome.result.history.column("loss")[1]
    assert losses[:4].mean() == pytest.approx(math.log(2), abs=0.05)
    assert losses[-4:].mean() < 0.3
    scores = outcome.model.predict([row[:2] for row in rows])
    assert ((scores > 0.5) == np.arange(32) % 2).all()


def plain_loop(data, config, warmup):
    """The textbook's loop: Hugging Face's padded forward, AdamW, transformers' schedule, clipping."""
    from transformers import get_scheduler

    encoder = tiny(dropout=False)
    model, tokenizer = encoder.model.train(), encoder.tokenizer
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, foreach=False)
    steps = math.ceil(len(data) / config.batch_size) * config.epochs
    scheduler = get_scheduler(config.scheduler, optimizer, warmup, steps)
    rates, norms = [], []
    for epoch in range(config.epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(len(data))
        for start in range(0, len(data), config.batch_size):
            rows = order[start : start + config.batch_size]
            left, right = ([texts[row] for row in rows] for texts in (data.left, data.right))
            logits = model(**tokenizer(left, right, padding=True, return_tensors="pt")).logits[:, 0]
            binary_cross_entropy_with_logits(logits, torch.tensor(data.labels[rows])).backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)))
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return model.state_dict(), rates, norms


@pytest.mark.parametrize("changes", [{}, {"token_budget": 60}])
def test_the_plain_loop_gives_the_same_weights(changes):
    data = sentences()
    settings = {"batch_size": 5, "epochs": 3, "learning_rate": 1e-3, "weight_decay": 0.1, "max_grad_norm": 0.4}
    config = TrainingConfig(scheduler="cosine", warmup_steps=3, seed=5, **settings)
    weights, rates, norms = plain_loop(data, config, 3)
    outcome = run(config, data, model=tiny(dropout=False), **changes)
    assert largest_difference(outcome.weights(), weights) < 1e-6
    assert largest_difference(outcome.weights(), tiny(dropout=False).model.state_dict()) > 1e-3
    history = outcome.result.history
    assert history.column("learning_rate")[1] == pytest.approx(rates)
    assert history.column("grad_norm")[1] == pytest.approx(norms, rel=1e-4)
    assert min(norms) < 0.4 < max(norms)  # clipping mattered, and not always


def test_rows_of_the_history():
    data = sentences()
    outcome = run(epochs=2)
    rows = outcome.result.history
    assert len(rows) == outcome.result.steps == 10
    assert rows.names() == ["step", "epoch", "loss", "learning_rate", "grad_norm", "pairs", "tokens", "seconds"]
    assert [row["pairs"] for row in rows] == [5, 5, 5, 5, 2] * 2
    assert sum(row["tokens"] for row in rows) == 2 * tiny().tokenize(data).lengths.sum()
    assert [row["epoch"] for row in rows] == pytest.approx([step / 5 for step in range(1, 11)])
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert outcome.result.minutes == pytest.approx(seconds[-1] / 60, abs=0.05)
    assert outcome.result.status == "finished"
    assert not outcome.model.model.training


# --- what a step's loss is ------------------------------------------------------------------------


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
    ],
    ids=["pairs", "lists", "pairs of lists"],
)
def test_ragged_micro_batches_have_the_gradient_of_one_batch(data, loss, changes):
    whole = gradient(data, loss, batch_size=22)
    ragged = gradient(data, loss, **{"batch_size": 22, **changes})
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


@pytest.mark.parametrize(
    "changes", [{"token_budget": 60}, {"batch_size": 4, "accumulation": 2}, {"batch_size": 2, "accumulation": 4}]
)
def test_how_a_step_is_cut_does_not_matter(changes):
    config = TrainingConfig(batch_size=8, epochs=2, learning_rate=1e-3)
    whole = run(config, model=tiny(dropout=False))
    cut = run(config, model=tiny(dropout=False), **changes)
    assert largest_difference(whole.weights(), cut.weights()) < 1e-6
    assert whole.result.history.column("loss")[1] == pytest.approx(cut.result.history.column("loss")[1], abs=1e-6)


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


def test_a_ranking_loss_and_single_pairs_do_not_fit():
    with pytest.raises(DataError, match="ranknet ranks the candidates of a query, and every row is a single pair"):
        train(tiny(), sentences(), "ranknet")


def test_several_labels():
    rows = [(left, right, [float(label), 1.0 - label]) for left, right, label in as_rows(sentences())]
    outcome = run(TrainingConfig(batch_size=11), rows, model=tiny(num_labels=2))
    assert outcome.model.predict([("a", "b"), ("c", "d")]).shape == (2, 2)


def as_rows(data):
    return list(zip(data.left, data.right, data.labels.tolist(), strict=True))


# --- the same again -------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"token_budget": 60}, {"batch_size": 5, "accumulation": 5}])
def test_weighted_classes_in_ragged_micro_batches_have_the_gradient_of_one_batch(changes):
    data = replace(sentences(), labels=np.arange(22) % 7 // 3)  # of classes 0, 1 and 2, the last is rare
    loss = loss_with("cross_entropy", class_weights=[1.0, 5.0, 0.2], label_smoothing=0.1)
    whole = gradient(data, loss, num_labels=3, batch_size=22)
    ragged = gradient(data, loss, num_labels=3, **{"batch_size": 22, **changes})
    largest = max(float(value.abs().max()) for value in whole.values())
    assert largest_difference(whole, ragged) < 1e-4 * largest
    assert largest > 1e-4


def test_classes_are_learnt_and_their_names_go_into_the_model():
    data = replace(sentences(), labels=np.arange(22) % 2, label_names=("no", "yes"))
    model = tiny(num_labels=2)
    config = TrainingConfig(epochs=30, batch_size=11, learning_rate=3e-3, warmup_steps=0, dropout=0.0)
    train(model, data, "cross_entropy", config)
    assert (model.predict(data).argmax(axis=1) == data.labels).all()
    assert model.label_names == ("no", "yes")
    with pytest.raises(DataError, match=r"the model's classes are no, yes, the data's yes, no: with_label_names"):
        train(model, data.with_label_names(("yes", "no")), "cross_entropy", TrainingConfig())


def test_the_callers_own_batches_take_the_place_of_the_plan():
    seen = []
    steps = [np.array([3, 1]), np.array([0, 2, 4])]
    config = TrainingConfig(epochs=2, batch_size=3)
    train(tiny(), sentences(5), "mse", config, on_row=seen.append, batches=lambda epoch: steps[:: 1 - 2 * epoch])
    assert [row["pairs"] for row in seen] == [2, 3, 3, 2]


def test_evaluations_within_and_at_the_end_of_each_epoch():
    seen = []
    config = TrainingConfig(epochs=2, batch_size=4, evaluation_steps=3, evaluate_epochs=True)  # 5 steps an epoch
    result = train(tiny(), sentences(20), "bce", config, lambda model: seen.append(1) or 0.0)
    assert [row["step"] for row in result.history if "eval_score" in row] == [3, 5, 8, 10]


def test_a_seed_gives_the_same_bits_whatever_ran_before():
    first = run(epochs=2).digests()
    torch.manual_seed(99)
    torch.rand(7)
    np.random.rand(3)
    assert run(epochs=2).digests() == first
    assert run(epochs=2, seed=1).digests()["weights"] != first["weights"]


def test_every_micro_batch_has_dropout_of_its_own():
    def drawn(*place):
        seed_generators(*place)
        return torch.rand(4).tolist()

    places = [(seed, step, k) for seed in range(2) for step in range(12) for k in range(12)]
    assert len({tuple(drawn(*place)) for place in places}) == len(places)
    assert drawn(1, 2, 3) == drawn(1, 2, 3)


def test_an_evaluator_does_not_change_the_weights():
    def random_evaluator(model):
        assert not model.model.training
        return float(torch.rand(1))

    plain, evaluated = run(), run(evaluator=random_evaluator, evaluation_steps=1, restore_best=False)
    assert plain.digests()["weights"] == evaluated.digests()["weights"]


def test_recomputing_activations_changes_no_weights():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, thrifty = run(epochs=2), run(epochs=2, gradient_checkpointing=True)
    assert any(getattr(module, "gradient_checkpointing", False) for module in thrifty.model.model.modules())
    assert largest_difference(plain.weights(), thrifty.weights()) < 1e-6


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_runs_and_comes_close(precision):
    exact, lower = run(), run(precision=precision)
    assert 0 < largest_difference(exact.weights(), lower.weights()) < 0.02
    losses = [outcome.result.history.column("loss")[1] for outcome in (exact, lower)]
    assert losses[0] == pytest.approx(losses[1], abs=5e-3)
    assert {tensor.dtype for tensor in lower.weights().values() if tensor.is_floating_point()} == {torch.float32}


def test_a_gradient_too_large_for_fp16_skips_its_step():
    before = tiny().model.state_dict()
    outcome = run(loss=lambda scores, labels: 1e9 * bce_with_logits(scores, labels), precision="fp16", max_steps=2)
    assert not np.isfinite(outcome.result.history.column("grad_norm")[1]).any()
    assert largest_difference(outcome.weights(), before) == 0


def test_precision_as_the_launcher_says(monkeypatch):
    asked = run(precision="bf16", max_steps=2).digests()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert run(max_steps=2).digests() == asked
    assert run(max_steps=2, precision="fp32").digests() != asked
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(ValueError, match="precision must be fp32, bf16 or fp16, got 'fp8'"):
        run()


# --- evaluation, the best, early stopping ---------------------------------------------------------


def scripted(*scores):
    """An evaluator that gives these scores one after the other, and remembers the weights it was given."""
    remaining, seen = list(scores), []

    def evaluator(model):
        seen.append({name: tensor.clone() for name, tensor in model.model.state_dict().items()})
        return {"other": 0.0, "score": remaining.pop(0)}

    return evaluator, seen


def evaluations(outcome, name="eval_score"):
    steps, values = outcome.result.history.column(name)
    return dict(zip(steps.tolist(), values.tolist(), strict=True))


def test_evaluations_come_at_the_end_of_each_epoch():
    outcome = run(epochs=2, evaluator=up_and_down)
    assert list(evaluations(outcome, "eval_wave")) == [5, 10]
    row = next(row for row in outcome.result.history if "eval_wave" in row)
    assert list(row) == ["step", "epoch", "eval_wave", "eval_mean", "seconds"]
    assert row["epoch"] == 1.0


def test_an_evaluation_before_the_first_step_is_of_the_model_as_it_came():
    evaluator, seen = scripted(0.5, 0.3, 0.4)
    outcome = run(epochs=2, evaluator=evaluator, evaluate_first=True)
    assert evaluations(outcome) == {0: 0.5, 5: 0.3, 10: 0.4}
    assert outcome.result.history[0]["step"] == outcome.result.history[0]["epoch"] == 0
    assert largest_difference(outcome.weights(), seen[0]) == 0  # the best of the three
    assert largest_difference(outcome.weights(), seen[2]) > 0
    assert outcome.result.best_step == 0


def test_evaluations_every_so_many_steps_and_at_the_end():
    outcome = run(epochs=2, evaluator=up_and_down, evaluation_steps=4)
    assert list(evaluations(outcome, "eval_wave")) == [4, 8, 10]


def test_patience_stops_the_run():
    evaluator, _ = scripted(0.1, 0.3, 0.2, 0.3, 0.9)
    outcome = run(epochs=2, evaluator=evaluator, evaluation_steps=1, metric="score", patience=2)
    assert (outcome.result.status, outcome.result.steps) == ("early", 4)  # an equal score is no better one
    assert (outcome.result.best_step, outcome.result.best_score) == (2, 0.3)


def test_the_best_weights_come_back():
    evaluator, seen = scripted(0.1, 0.3, 0.2)
    outcome = run(evaluator=evaluator, evaluation_steps=2, metric="score")
    assert largest_difference(outcome.weights(), seen[1]) == 0
    evaluator, seen = scripted(0.1, 0.3, 0.2)
    outcome = run(evaluator=evaluator, evaluation_steps=2, metric="score", restore_best=False)
    assert largest_difference(outcome.weights(), seen[2]) == 0
    assert outcome.result.best_step == 4


def test_the_first_metric_is_the_one_to_go_by():
    outcome = run(epochs=2, evaluator=up_and_down)
    waves = evaluations(outcome, "eval_wave")
    assert outcome.result.best_score == max(waves.values())
    assert outcome.result.best_step == max(waves, key=waves.get)
    assert run(epochs=2, evaluator=up_and_down, metric="mean").result.best_score < 1


def test_an_evaluator_may_give_a_number():
    outcome = run(epochs=2, evaluator=lambda model: np.float32(0.5))
    assert evaluations(outcome) == {5: 0.5, 10: 0.5}


def test_a_score_that_is_not_a_number_is_never_the_best():
    evaluator, _ = scripted(math.nan, 0.3, math.nan, 0.2, 0.1)
    outcome = run(evaluator=evaluator, evaluation_steps=1, metric="score")
    assert (outcome.result.best_step, outcome.result.best_score) == (2, 0.3)


@pytest.mark.parametrize(("answer", "given"), [({"pearson": 1.0, "score": 2.0}, "pearson, score"), ({}, "nothing")])
def test_a_metric_that_is_not_there(answer, given):
    with pytest.raises(ValueError, match=f"the evaluator gives {given}; metric='accuracy' is not among them"):
        run(evaluator=lambda model: answer, metric="accuracy", evaluation_steps=1)


@pytest.mark.parametrize("changes", [{"patience": 2}, {"metric": "score"}, {"evaluate_first": True}])
def test_nothing_to_be_patient_about(changes):
    with pytest.raises(
        ValueError, match=r"patience, metric and evaluate_first are .* pass an evaluator, or leave them out"
    ):
        run(**changes)


# --- what is left on the disk ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with a folder, and the rows that `on_row` saw."""
    rows = []
    folder = tmp_path_factory.mktemp("saved") / "new" / "run"
    config = {"evaluation_steps": 2, "output_dir": folder, "save_steps": 3}
    return run(evaluator=up_and_down, on_row=rows.append, epochs=3, **config), folder, rows


def test_best_and_last_are_models(saved):
    outcome, folder, _ = saved
    best, last = (CrossEncoder(str(folder / name), device="cpu") for name in ("best", "last"))
    assert largest_difference(best.model.state_dict(), outcome.weights()) == 0
    waves = evaluations(outcome, "eval_wave")
    assert outcome.result.best_step not in (15, None)
    assert up_and_down(best)["wave"] == outcome.result.best_score == max(waves.values())
    assert up_and_down(last)["wave"] == waves[15]
    assert f"| step | {outcome.result.best_step} |" in (folder / "best" / "README.md").read_text()


def test_the_history_is_there_and_every_row_was_seen(saved):
    outcome, folder, rows = saved
    assert rows == outcome.result.history.rows
    assert len(rows) == 15 + 8
    assert History.load(folder / "history.jsonl").rows == rows


def test_without_checkpoints_none_are_written(tmp_path):
    run(output_dir=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "last", "history.jsonl", "status.json"}
    last = CrossEncoder(str(tmp_path / "last"), device="cpu").model.state_dict()
    assert largest_difference(last, run().weights()) == 0


# --- stopping -------------------------------------------------------------------------------------


def test_an_interrupt_leaves_a_usable_model():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    outcome = run(on_row=lambda row: row["step"] == 3 and signal.raise_signal(signal.SIGINT))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert (outcome.result.status, outcome.result.steps, len(outcome.result.history)) == ("stopped", 3, 3)
    assert not outcome.model.model.training
    whole = run()
    assert without_seconds(outcome.result.history) == without_seconds(whole.result.history.until(3))
    assert np.isfinite(outcome.model.predict(sentences(3).texts)).all()


def test_an_interrupt_in_the_last_step_comes_too_late():
    outcome = run(on_row=lambda row: row["step"] == 5 and signal.raise_signal(signal.SIGINT))
    assert (outcome.result.status, outcome.result.steps) == ("finished", 5)


def test_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError):
        run(on_row=lambda row: 1 / 0)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# --- guards ---------------------------------------------------------------------------------------

ROW = ("a text", "another", 0.5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "nothing to train on: the training data is empty"),
        ([("a", "b"), ("c", "d")], "training needs labels: add a column named label, labels, score or scores"),
        ([ROW, ("a", "b", math.nan)], "row 1, label: the label is nan"),
        ([ROW, InputExample(texts=["a", "b"], label=math.inf)], "row 1, label: the label is inf"),
        ([ROW, {"a": "a", "b": "b", "label": "yes"}], "row 1, label: the label is the string 'yes'"),
        ([ROW, ROW, ("a", "b", 4.2)], r"row 2: the label is 4.19\d+, and bce_with_logits takes .* 0 to 1 \(1 of 3"),
        ([ROW, ("a", "b", -0.5)], "row 1: the label is -0.5, .*labels from 0 to 1"),
        ([("a", "b", [0.5, 1.0])], "num_labels=1, but row 0 has 2 labels; build the model with num_labels=2"),
        (Pairs(["a"], ["b"], np.array([math.nan])), "row 0: the label is nan, .*from 0 to 1"),
        (
            [("a", ["b", "c"], [0, 1]), ("d", ["e", "f"], [1, 2])],
            r"row 1, document 1: the label is 2.0, .*\(1 of 4 doc",
        ),
    ],
)
def test_data_that_cannot_be_used(data, message):
    with pytest.raises(DataError, match=message):
        train(tiny(), data)


def test_labels_of_any_size_where_the_loss_takes_them():
    run(data=[("a", "b", 4.2), ("c", "d", -3.0)], loss="mse")
    with pytest.raises(DataError, match="row 1: the label is inf, and mse takes finite labels"):
        run(data=Pairs(["a", "b"], ["c", "d"], np.array([1.0, math.inf])), loss="mse")


def test_groups_need_one_score_a_pair():
    data = candidate_lists(2)
    wide = Pairs(data.left, data.right, np.stack([data.labels] * 2, axis=1), data.offsets)
    with pytest.raises(DataError, match="groups of candidates need one score a pair, this model has num_labels=2"):
        run(data=wide, loss=softmax_loss, model=tiny(num_labels=2))


def poisoned(scores, labels):
    """Not finite where a label is exactly 0.125."""
    return (scores - labels).square().mean() + torch.where(labels == 0.125, math.nan, 0.0).sum()


def test_a_loss_that_is_not_finite_names_the_rows_and_spoils_no_weights(tmp_path):
    data = sentences()
    data.labels[13] = 0.125
    model, seen = tiny(), [tiny().model.state_dict()]

    def on_row(row):
        seen.append({name: tensor.clone() for name, tensor in model.model.state_dict().items()})

    with pytest.raises(TrainingError) as caught:
        run(data=data, loss=poisoned, model=model, on_row=on_row, output_dir=tmp_path, batch_size=2)
    step, rows = re.match(r"step (\d+): the loss is nan \(rows (\d+, \d+)\); the weigh", str(caught.value)).groups()
    assert "13" in rows.split(", ")
    assert int(step) == len(seen) - 1
    assert largest_difference(model.model.state_dict(), seen[-1]) == 0
    assert all(torch.isfinite(tensor).all() for tensor in model.model.state_dict().values())
    assert '"status": "failed"' in (tmp_path / "status.json").read_text()


def test_a_gradient_that_is_not_finite_stops_the_run():
    class Explode(torch.autograd.Function):
        @staticmethod
        def forward(ctx, scores):
            return scores.sum()

        @staticmethod
        def backward(ctx, gradient):
            return torch.full((5,), math.inf)

    model = tiny()
    with pytest.raises(TrainingError, match=r"step 0: the gradient's norm is (inf|nan); try a lower learning_rate"):
        run(loss=lambda scores, labels: Explode.apply(scores), model=model)
    assert largest_difference(model.model.state_dict(), tiny().model.state_dict()) == 0


def test_a_long_warm_up_is_warned_of():
    with pytest.warns(UserWarning, match=r"warm-up of 50 steps does not end .* 5 steps.*reach 8\.00e-05"):
        run(warmup_steps=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(warmup_steps=4)


def test_truncation_is_counted():
    model = tiny(max_length=20)
    cut = int((tiny().tokenize(sentences()).lengths > 20).sum())
    with pytest.warns(TruncationWarning, match=rf"{cut} of 22 pairs exceed max_length=20 tokens and were cut \(by \d+"):
        run(model=model, max_steps=1)
    assert model.card["data"]["truncated pairs"] == cut > 0


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(CheckpointError, match=r"cannot use .*file.*choose another folder"):
            run(output_dir=folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: 0}, f"{name} must be a whole number, 1 or more, got 0") for name in ("epochs", "batch_size")),
        *(({name: -1}, f"{name} must be a whole number, 1 or more") for name in ("accumulation", "keep_checkpoints")),
        *(({name: 0}, f"{name} must be .* 1 or more or None") for name in ("max_steps", "token_budget", "patience")),
        *(({name: -1}, f"{name} must be .* 0 or more") for name in ("save_steps", "evaluation_steps", "seed")),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number, 0 or more or None, got -1"),
        ({"warmup_steps": 0.1}, "warmup_steps must be a whole number"),
        ({"max_steps": 2.5}, "max_steps must be a whole number"),
        ({"learning_rate": -1e-5}, "learning_rate must be a number, 0 or more, got -1e-05"),
        ({"learning_rate": "1e-5"}, "learning_rate must be a number, 0 or more, got '1e-5'"),
        ({"learning_rate": math.nan}, "learning_rate must be a number"),
        ({"weight_decay": -0.1}, "weight_decay must be"),
        ({"layer_decay": -0.1}, "layer_decay must be"),
        ({"head_factor": math.inf}, "head_factor must be"),
        ({"max_grad_norm": -1.0}, "max_grad_norm must be"),
        ({"scheduler": "sawtooth"}, "unknown scheduler 'sawtooth'; choose from constant, "),
        ({"loss": "hinge"}, "unknown loss 'hinge'; choose from bce, cross_entropy, mse"),
        ({"precision": "int8"}, "precision must be fp32, bf16 or fp16, got 'int8'"),
        ({"save_steps": 5}, "save_steps needs an output_dir"),
        ({"resume": True}, "resume needs the output_dir"),
    ],
)
def test_settings_without_a_meaning(changes, message):
    with pytest.raises(ValueError, match=message):
        run(evaluator=up_and_down, **changes)


def test_numbers_of_numpy_are_numbers():
    assert run(max_steps=np.int64(2), learning_rate=np.float32(1e-4)).result.steps == 2
