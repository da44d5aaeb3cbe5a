"""A resumed run keeps its patience and its best weights, also where it was killed while writing them."""

from __future__ import annotations

import shutil
from functools import cache

import pytest
from small_runs import ask_to_stop, assert_as_whole, at_step, digest, folder_digests, go, interrupted, names, tiny

from crossenc_kit import CrossEncoder
from crossenc_kit.files import mend_folder
from crossenc_kit.jobs import read_status


@cache
def first_embeddings():
    return tiny().model.state_dict()["bert.embeddings.word_embeddings.weight"].clone()


def steadily_worse(model):
    """Falls as the word embeddings move away from where they began: the first evaluation is the best."""
    moved = model.model.state_dict()["bert.embeddings.word_embeddings.weight"] - first_embeddings()
    return {"wave": -float(moved.abs().sum())}


IMPATIENT = {"evaluator": steadily_worse, "patience": 3}


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    """A run that patience ends after evaluations at the steps 2 (the best), 4, 6 and 8, and its folder."""
    folder = tmp_path_factory.mktemp("early")
    outcome = go(folder, **IMPATIENT)
    assert (outcome.result.status, outcome.result.steps, outcome.result.best_step) == ("early", 8, 2)
    return outcome, folder


@pytest.mark.parametrize("step", [2, 4, 5])
def test_patience_goes_on_counting(tmp_path, early, step):
    interrupted(tmp_path, step, ask_to_stop, **IMPATIENT)
    outcome = go(tmp_path, resume=True, **IMPATIENT)
    assert_as_whole(outcome, tmp_path, early)
    assert outcome.result.status == "early"


def test_a_run_that_ended_early_has_ended(tmp_path, early):
    shutil.copytree(early[1], tmp_path / "run")
    assert read_status(tmp_path / "run") == {"status": "finished", "step": 8, "total_steps": 15, "reason": "early"}
    outcome = go(tmp_path / "run", resume=True, on_row=pytest.fail, evaluator=pytest.fail, patience=3)
    assert_as_whole(outcome, tmp_path / "run", early)
    assert (outcome.result.status, outcome.result.steps) == ("early", 8)


def test_asked_to_stop_when_patience_ran_out_it_has_ended_early(tmp_path):
    outcome = go(tmp_path, **IMPATIENT, on_row=at_step(8, ask_to_stop))
    assert outcome.result.status == "early"


def test_the_best_of_before_comes_back(tmp_path):
    """The best evaluation lies before the interruption, in the folder best/ and not in the checkpoint."""
    changes = {"evaluator": steadily_worse, "patience": None}
    interrupted(tmp_path, 9, ask_to_stop, **changes)
    best = CrossEncoder(str(tmp_path / "best"), device="cpu").model.state_dict()
    outcome = go(tmp_path, resume=True, **changes)
    assert outcome.result.best_step == 2
    assert digest(outcome.weights()) == digest(best)
    assert digest(CrossEncoder(str(tmp_path / "last"), device="cpu").model.state_dict()) != digest(best)


def test_best_weights_that_are_gone_are_warned_of(tmp_path):
    changes = {"evaluator": steadily_worse, "patience": None}
    interrupted(tmp_path, 9, ask_to_stop, **changes)
    shutil.rmtree(tmp_path / "best")
    with pytest.warns(UserWarning, match=r"best.model.safetensors is missing: the best .* of step 2, are lost"):
        go(tmp_path, resume=True, **changes)


def test_what_a_killed_run_left_of_the_best_folder_is_mended(tmp_path):
    """Killed while best/ was being replaced: half a new folder, and the old one set aside."""
    changes = {"evaluator": steadily_worse, "patience": None}
    interrupted(tmp_path, 9, ask_to_stop, **changes)
    expected = folder_digests(tmp_path)["best"]
    (tmp_path / ".best-half").mkdir()
    (tmp_path / ".best-half" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".best-aside").mkdir()
    (tmp_path / "best").rename(tmp_path / ".best-aside" / "best")
    go(tmp_path, resume=True, **changes)
    assert folder_digests(tmp_path)["best"] == expected
    assert names(tmp_path) == [".lock", "best", "checkpoints", "history.jsonl", "last", "status.json"]


def test_a_new_folder_that_arrived_is_not_undone(tmp_path):
    for name, content in (("best", "new"), (".best-aside/best", "old")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text(content)
    mend_folder(tmp_path / "best")
    assert names(tmp_path) == ["best"]
    assert (tmp_path / "best" / "file").read_text() == "new"
