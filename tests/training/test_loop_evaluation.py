"""Evaluations during training, the best weights, early stopping, and what is left on the disk."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_runs import largest_difference, run, up_and_down

from crossenc_kit import CrossEncoder
from crossenc_kit.history import History

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
