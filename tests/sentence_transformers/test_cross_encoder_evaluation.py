"""`fit` evaluates, calls back and saves; its progress bar, and labels that do not fit."""

from __future__ import annotations

import math

import pytest
from small_peer import QUIET, fresh, same, weights
from small_runs import sentences
from torch.utils.data import DataLoader

from crossenc_kit import CECorrelationEvaluator, CrossEncoder, DataError
from crossenc_kit import CrossEncoderCorrelationEvaluator as LaterEvaluator

pytestmark = pytest.mark.filterwarnings("ignore:the head of")  # untrained on purpose


class Answers:
    """An evaluator that gives the answers in turn and notes how it was called."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), []

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self.calls.append((output_path, epoch, steps))
        return self.answers.pop(0)


def test_the_best_model_is_saved_and_the_last_one_kept(loader, tmp_path):
    saved = []
    model = fresh()
    evaluator = Answers(0.2, 0.9, 0.5)
    seen = []

    def callback(score, epoch, steps):
        seen.append((score, epoch, steps))
        saved.append(weights(model))

    model.fit(
        loader,
        evaluator,
        epochs=3,
        output_path=tmp_path,
        callback=callback,
        optimizer_params={"lr": 1e-3},
        **QUIET,
    )
    assert seen == [(0.2, 0, -1), (0.9, 1, -1), (0.5, 2, -1)]
    assert evaluator.calls == [(tmp_path, 0, -1), (tmp_path, 1, -1), (tmp_path, 2, -1)]
    assert same(weights(CrossEncoder(tmp_path, device="cpu")), saved[1])
    assert same(weights(model), saved[2])
    assert not same(saved[1], saved[2])


def test_evaluations_within_an_epoch_and_at_its_end(samples, model):
    evaluator = Answers(*range(6))
    model.fit(DataLoader(samples, batch_size=3), evaluator, epochs=2, evaluation_steps=3, **QUIET)  # 4 steps an epoch
    assert [(epoch, steps) for _, epoch, steps in evaluator.calls] == [(0, 3), (0, -1), (1, 3), (1, -1)]


def test_without_an_evaluator_the_last_model_is_saved(loader, model, tmp_path):
    model.fit(loader, output_path=tmp_path / "new" / "model", optimizer_params={"lr": 1e-3}, **QUIET)
    assert same(weights(CrossEncoder(tmp_path / "new" / "model", device="cpu")), weights(model))


def test_nothing_is_saved_where_nothing_was_asked_for(loader, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.fit(loader, Answers(0.1), **QUIET)
    model.fit(loader, Answers(0.1), save_best_model=False, output_path="out", **QUIET)
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


def test_a_score_that_is_not_a_number_saves_no_model(loader, model, tmp_path):
    model.fit(loader, Answers(math.nan), output_path=tmp_path, **QUIET)
    assert list(tmp_path.iterdir()) == []


def test_an_evaluator_that_gives_a_dict_goes_by_its_primary_metric(loader, model, tmp_path):
    seen = []
    data = sentences(8)
    evaluator = LaterEvaluator(data.texts, data.labels.tolist(), name="dev")
    model.fit(loader, evaluator, callback=lambda score, epoch, steps: seen.append(score), output_path=tmp_path, **QUIET)
    assert seen == [evaluator(model)["dev_spearman"]]
    assert (tmp_path / "CrossEncoderCorrelationEvaluator_dev_results.csv").is_file()
    assert (tmp_path / "model.safetensors").is_file()


def test_the_csv_survives_the_saving_of_the_model(samples, loader, model, tmp_path):
    evaluator = CECorrelationEvaluator.from_input_examples(samples)
    model.fit(loader, evaluator, epochs=2, output_path=tmp_path, **QUIET)
    rows = (tmp_path / "CECorrelationEvaluator_results.csv").read_text().splitlines()
    assert rows[0] == "epoch,steps,Pearson_Correlation,Spearman_Correlation"
    assert len(rows) == 3


@pytest.mark.parametrize(("shown", "expected"), [(True, True), (False, False)])
def test_the_progress_bar(loader, model, capsys, shown, expected):
    model.fit(loader, warmup_steps=0, show_progress_bar=shown)
    assert ("3/3" in capsys.readouterr().err) is expected


def test_labels_that_do_not_fit_are_named_before_training(samples, model):
    samples[7].label = 4
    with pytest.raises(DataError, match="row 7: the label is 4"):
        model.fit(DataLoader(samples, batch_size=4), **QUIET)
    three = fresh(3)
    with pytest.raises(DataError, match=r"row 0: the label is 0.3, and cross_entropy takes classes"):
        three.fit(DataLoader(samples, batch_size=4), **QUIET)
