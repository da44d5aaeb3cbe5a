"""Models with an adapter learn, resume and go on from a folder as plain ones do."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file
from small_models import SHORT, own_weights, wrap
from small_runs import Outcome, digest, run, tiny, up_and_down

from crossenc_kit import CrossEncoder, TrainingConfig
from crossenc_kit.errors import CheckpointError
from crossenc_kit.models.adapters import plain_weights

pytestmark = [
    pytest.mark.filterwarnings("error::UserWarning", "ignore::crossenc_kit.errors.TruncationWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # PEFT calls it
]


def base_weights(model):
    weights, own = model.model.state_dict(), own_weights(model)
    return {name: weight.clone() for name, weight in weights.items() if name not in own}


CONFIG = TrainingConfig(batch_size=5, epochs=3, learning_rate=1e-2, token_budget=70, evaluation_steps=2)


def small(seed=0, rank=4, **options):
    """A tiny model with a new head and an adapter that has not learnt yet, dropout everywhere."""
    torch.manual_seed(seed)
    return wrap(tiny(seed=seed), spread=0.0, r=rank, lora_dropout=0.1, **options)


def go(folder=None, *, stop_after=None, evaluator=up_and_down, model=None, **options) -> Outcome:
    def on_row(row):
        if row["step"] == stop_after and "loss" in row:
            raise ZeroDivisionError("broken off")

    saving = {"output_dir": folder, "save_steps": 3} if folder else {}
    return run(CONFIG, evaluator=evaluator, on_row=on_row, model=model or small(), **saving, **options)


def test_training_changes_the_adapter_and_the_head_only():
    model = small()
    base, own = base_weights(model), own_weights(model)
    assert model.untrained_head
    outcome = go(model=model)
    assert outcome.result.steps == 15
    assert digest(base_weights(model)) == digest(base)
    assert [name for name, weight in own_weights(model).items() if torch.equal(weight, own[name])] == []
    assert len(own) == 2 * 2 * 2 + 2  # A and B of query and value in both layers, weight and bias of the head
    assert not model.untrained_head


def worse_and_worse(model):
    """The first evaluation is the best: the adapter's matrices B begin at zero and grow."""
    return -float(sum(weight.abs().sum() for name, weight in model.model.state_dict().items() if "lora_B" in name))


def test_the_best_weights_come_back(tmp_path):
    base = base_weights(small())
    outcome = go(tmp_path, evaluator=worse_and_worse)
    assert (outcome.result.best_step, outcome.result.steps) == (2, 15)
    best, last = (CrossEncoder(tmp_path / name, device="cpu") for name in ("best", "last"))
    expected = digest(plain_weights(outcome.model.model))
    assert digest(plain_weights(best.model)) == expected != digest(plain_weights(last.model))
    assert digest(base_weights(outcome.model)) == digest(base)


@pytest.mark.parametrize("step", [1, 7, 10])
@pytest.mark.parametrize("evaluator", [up_and_down, worse_and_worse])
def test_the_same_bits_after_an_interruption(tmp_path, evaluator, step):
    expected = go(tmp_path / "whole", evaluator=evaluator)
    with pytest.raises(ZeroDivisionError):
        go(tmp_path / "run", evaluator=evaluator, stop_after=step)
    outcome = go(tmp_path / "run", evaluator=evaluator, resume=True, model=small())
    assert outcome.digests() == expected.digests()
    for name in ("best", "last"):
        files = [load_file(tmp_path / one / name / "adapter_model.safetensors") for one in ("whole", "run")]
        assert digest(files[0]) == digest(files[1])


def test_another_adapter_cannot_resume(tmp_path):
    with pytest.raises(ZeroDivisionError):
        go(tmp_path, stop_after=4)
    with pytest.raises(CheckpointError, match=r"lora_A.default.weight is \(4, 64\) in the checkpoint, \(2, 64\) here"):
        go(tmp_path, resume=True, model=small(rank=2))


def test_gradient_checkpointing_changes_nothing():
    outcomes = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = wrap(tiny(dropout=False), spread=0.0)
        outcomes.append(go(model=model, evaluator=None, gradient_checkpointing=checkpointing, epochs=1).weights())
    for name, weight in outcomes[0].items():
        assert torch.allclose(weight, outcomes[1][name], atol=2e-4), name


def test_a_loaded_adapter_can_be_trained_on_and_saved_again(tmp_path):
    wrap(tiny()).save_pretrained(tmp_path / "first")
    model = CrossEncoder(tmp_path / "first", device="cpu")
    before = own_weights(model)
    go(model=model, evaluator=None, epochs=1)
    assert [name for name, weight in own_weights(model).items() if torch.equal(weight, before[name])] == []
    model.save_pretrained(tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    assert CrossEncoder(tmp_path / "second", device="cpu").predict(SHORT).tolist() == model.predict(SHORT).tolist()
