"""What saving keeps: scores and activations, here and in other libraries, and over older folders."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from small_models import change, fitted, pairs_of_all_lengths

from crossenc_kit import CrossEncoder
from crossenc_kit.models import settings as models_settings

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

PAIRS = pairs_of_all_lengths()[:6]  # none longer than 20 tokens


def test_a_saved_model_is_a_plain_folder_and_loads_with_equal_scores(saved):
    model, again = fitted(max_length=20), CrossEncoder(saved, device="cpu")
    names = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in saved.iterdir()} == names
    assert again.max_length == 20
    assert not again.untrained_head
    assert again.predict(PAIRS).tolist() == model.predict(PAIRS).tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "Identity"),  # 4 and later
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "Identity"),  # 3
        ({"sentence_transformers": {"version": "4.0"}}, "Sigmoid"),
        ({}, "Sigmoid"),
    ],
)
def test_the_activation_of_folders_by_sentence_transformers(folder, settings, expected):
    nothing = {"sentence_transformers": None, "sbert_ce_default_activation_function": None}
    change(folder / "config.json", **{**nothing, **settings})
    assert type(CrossEncoder(folder).activation_fn).__name__ == expected


def test_the_activation_file_of_the_newest_sentence_transformers(folder):
    change(folder / "config.json", sentence_transformers=None, sbert_ce_default_activation_function=None)
    (folder / models_settings.ST_CONFIG).write_text('{"activation_fn": "torch.nn.modules.linear.Identity"}')
    assert isinstance(CrossEncoder(folder).activation_fn, torch.nn.Identity)
    assert isinstance(CrossEncoder(folder, activation_fn="Tanh").activation_fn, torch.nn.Tanh)  # the caller's counts


def test_a_configuration_is_not_trusted_to_import(folder, monkeypatch):
    monkeypatch.setattr(os, "system", pytest.fail)
    change(folder / "config.json", sentence_transformers={"activation_fn": "os.system"})
    with pytest.warns(UserWarning, match="'os.system' is not part of torch.nn; .* Sigmoid is used"):
        assert isinstance(CrossEncoder(folder).activation_fn, torch.nn.Sigmoid)


@pytest.mark.parametrize(
    "choice", ["torch.nn.Linear", "torch.nn.functional", "no_such", "torch.nn.modules.activation.X"]
)
def test_names_that_are_no_activation(choice):
    with pytest.raises((TypeError, ValueError), match=r"unknown activation|required positional arguments"):
        models_settings.find_activation(choice)


def test_an_activation_without_a_name_says_so_when_it_is_saved(tmp_path):
    model = fitted(activation_fn=torch.tanh)
    with pytest.warns(UserWarning, match=r"is saved as Identity\(\); pass activation_fn when you load the model"):
        model.save_pretrained(tmp_path / "model")
    raw = CrossEncoder(tmp_path / "model").predict(PAIRS)
    assert np.allclose(np.tanh(raw), model.predict(PAIRS), atol=1e-6)
    with pytest.warns(UserWarning, match=r"LeakyReLU\(negative_slope=0.5\) is saved as LeakyReLU"):
        fitted(activation_fn=torch.nn.LeakyReLU(0.5)).save_pretrained(tmp_path / "model")


def test_a_model_saved_over_the_folder_it_was_loaded_from(folder):
    model = CrossEncoder(folder, device="cpu")
    expected = model.predict(PAIRS)
    model.save_pretrained(folder)
    assert model.predict(PAIRS).tolist() == expected.tolist()
    assert CrossEncoder(folder, device="cpu").predict(PAIRS).tolist() == expected.tolist()


def test_a_model_saved_over_another_mixes_with_nothing_of_it(folder):
    """A single file of weights would go before shards, sentence-transformers' file before the configuration."""
    (folder / models_settings.ST_CONFIG).write_text('{"activation_fn": "torch.nn.modules.activation.ReLU"}')
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]")
    (folder / "notes.txt").write_text("mine")
    model = fitted(activation_fn="identity")
    with torch.no_grad():
        model.model.classifier.weight.neg_()
    model.save_pretrained(folder, max_shard_size="50KB")
    names = {path.name for path in folder.iterdir()}
    assert "notes.txt" in names
    assert not names & {"model.safetensors", "vocab.txt", models_settings.ST_CONFIG}
    assert CrossEncoder(folder, device="cpu").predict(PAIRS).tolist() == model.predict(PAIRS).tolist()


def test_weights_do_not_depend_on_where_the_file_put_them(saved):
    addresses = [parameter.data_ptr() % 64 for parameter in CrossEncoder(saved, device="cpu").model.parameters()]
    assert set(addresses) == {0}


def test_transformers_stays_quiet_and_speaks_again(capfd):
    from transformers.utils import logging

    level = logging.get_verbosity()
    CrossEncoder("tiny")
    assert logging.get_verbosity() == level
    assert logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")
