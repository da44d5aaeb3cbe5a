"""Folders that are not whole, weights, padding tokens and lengths that do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small_models import change, classifier, tokenizer

from crossenc_kit import CrossEncoder
from crossenc_kit.errors import BackboneError
from crossenc_kit.models import loading, settings
from crossenc_kit.models.backbones import Backbone

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


# --- folders that are not whole -------------------------------------------------------------------


def without(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def cut_weights(size):
    return lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:size])


def config(text=None, **changes):
    path = "config.json"
    return lambda folder: change(folder / path, **changes) if text is None else (folder / path).write_text(text)


CUT_OFF = r"loaded as a classifier: .*; the save may have been cut off"
NO_CLASSIFIER = "model' could not be loaded as a classifier: "
OTHER_SIZES = "its weights have other sizes than its configuration"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("config.json"), "not a whole model: config.json missing. The save may have been cut off"),
        (without("model.safetensors"), "not a whole model: model.safetensors missing"),
        (without("config.json", "model.safetensors"), "config.json and model.safetensors missing"),
        (without("tokenizer.json"), "has no vocabulary: tokenizer.json or vocab.txt is missing"),
        (without("tokenizer.json", "tokenizer_config.json"), "has no vocabulary"),
        *((cut_weights(size), CUT_OFF) for size in (0, 7, 1000, -1)),
        *((config(text), NO_CLASSIFIER) for text in ("", '{"model_type": ', '{"hidden_size": 3}')),
        (config('{"model_type": "no such"}'), NO_CLASSIFIER),
        (config(num_hidden_layers=3), r"lacks 16 of the model's weights \(bert.encoder.layer.2.*may have been cut"),
        (config(intermediate_size=64), OTHER_SIZES),
        (config(hidden_size=32), OTHER_SIZES),
    ],
)
def test_a_damaged_folder(folder, damage, message):
    damage(folder)
    with pytest.raises(BackboneError, match=message):
        CrossEncoder(folder)


def test_another_number_of_labels_needs_a_new_head_that_was_asked_for(saved):
    with pytest.raises(BackboneError, match="or num_labels, asks for; to begin with a new head: model_kwargs") as error:
        CrossEncoder(saved, num_labels=3)
    asked = str(error.value).partition("model_kwargs=")[2]
    model = CrossEncoder(saved, num_labels=3, model_kwargs=json.loads(asked.replace("True", "true")))
    assert model.num_labels == 3
    assert model.untrained_head


# --- padding tokens and lengths -------------------------------------------------------------------


def save_gpt2(folder, **tokens):
    """A decoder whose tokenizer has no padding token, as GPT-2's."""
    from transformers import PreTrainedTokenizerFast

    known = PreTrainedTokenizerFast(tokenizer_object=tokenizer("bytes").backend_tokenizer, **tokens)
    model = classifier("gpt2")
    model.config.pad_token_id = None
    model.save_pretrained(folder)
    known.save_pretrained(folder)
    return folder


def test_a_missing_padding_token_and_its_fix(tmp_path):
    folder = save_gpt2(tmp_path / "gpt2", eos_token="</s>")
    with pytest.raises(ValueError, match="has no padding token that its model knows; choose one, for example") as error:
        CrossEncoder(folder)
    fix = json.loads(str(error.value).partition("tokenizer_kwargs=")[2].replace("'", '"'))
    assert fix == {"pad_token": "</s>"}
    model = CrossEncoder(folder, tokenizer_kwargs=fix, device="cpu")
    assert model.config.pad_token_id == model.tokenizer.pad_token_id == 2
    pairs = [("the cat", "a dog"), ("cat", ""), ("open the book", "a"), ("", "")]
    assert np.allclose(model.predict(pairs), [model.predict(pair) for pair in pairs], rtol=0, atol=1e-5)


def test_a_padding_token_that_the_model_has_no_room_for(tmp_path):
    folder = save_gpt2(tmp_path / "gpt2")
    change(folder / "config.json", vocab_size=len(tokenizer("bytes")))
    with pytest.raises(ValueError, match="has no padding token that its model knows; choose one") as error:
        loading.load_tokenizer(Backbone(str(folder)), {"pad_token": "<new>"}, classifier("gpt2", vocab_size=267).config)
    assert "'<s>'" in str(error.value)


@pytest.mark.parametrize(
    ("family", "limit", "expected"),
    [
        ("bert", 1e30, 70),
        ("bert", 50, 50),
        ("roberta", 1e30, 68),  # two positions stand before the first token
        ("xlm-roberta", 1e30, 68),
        ("mpnet", 1e30, 68),
        ("distilbert", 1e30, 70),
        ("modernbert", 1e30, 70),
        ("gpt2", 1e30, 70),
        ("xlnet", 1e30, 512),  # has no limit
        ("xlnet", 300, 300),
    ],
)
def test_the_longest_input_fits_the_positions(family, limit, expected):
    model = classifier(family)

    class Known:
        model_max_length = limit

    assert settings.longest_input(model, Known) == expected
    ids = torch.full((1, min(expected, 80)), 5)
    model(input_ids=ids, attention_mask=torch.ones_like(ids))  # and that many do fit


def test_a_length_beyond_the_positions_is_refused_where_there_are_some(tmp_path):
    for family, most in (("roberta", 68), ("distilbert", 70), ("gpt2", 70)):
        assert settings.longest_input(classifier(family), None, most) == most
        with pytest.raises(ValueError, match=f"max_length={most + 1}, .* positions for only {most} tokens"):
            settings.longest_input(classifier(family), None, most + 1)
    assert settings.longest_input(classifier("xlnet"), None, 5000) == 5000
    assert settings.longest_input(classifier("modernbert"), None, 5000) == 5000  # rotary: no table


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def unreachable(folder, name, **options):
        if options.get("local_files_only"):
            return
        asked.append(name)
        raise OSError("We couldn't connect") from LocalEntryNotFoundError("no name, no answer")

    monkeypatch.setattr("transformers.utils.cached_file", unreachable)
    assert Backbone("nobody/nothing").without_network().hub == {"local_files_only": True}
    assert asked == ["config.json"]


def test_a_model_without_a_configuration_is_no_reason_to_stop_asking(monkeypatch):
    """As an adapter's repository is: the hub answers that it has no such file."""

    def answers(folder, name, **options):
        if options["_raise_exceptions_for_missing_entries"]:
            raise OSError(f"{folder} does not appear to have a file named {name}")
        return

    monkeypatch.setattr("transformers.utils.cached_file", answers)
    assert Backbone("somebody/adapter").without_network().hub == {}
