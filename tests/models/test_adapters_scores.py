"""Models with an adapter score as the wrapped model does, merge into a plain one, and are calibrated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from small_models import (
    BY_FAMILY,
    PACKED,
    PAIRS,
    SHORT,
    assert_equal,
    labelled,
    plain_scores,
    raw_scores,
    sure_of_itself,
    tokens_of,
)
from small_runs import sentences, tiny

from crossenc_kit import CrossEncoder, calibrate
from crossenc_kit.models import packed
from crossenc_kit.models.adapters import merge_adapters

pytestmark = [
    pytest.mark.filterwarnings("error::UserWarning", "ignore::crossenc_kit.errors.TruncationWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # PEFT calls it
]


# --- scores ---------------------------------------------------------------------------------------


@BY_FAMILY
def test_scores_are_those_of_the_wrapped_model(adapted, monkeypatch, family):
    """Without padding where the family runs so: as many padded batches as there are pairs elsewhere."""
    calls = []
    pad_batch = packed.pad_batch
    monkeypatch.setattr(packed, "pad_batch", lambda *given: calls.append(1) or pad_batch(*given))
    model = adapted(family, 3)
    plain = CrossEncoder(model.folder, device="cpu", max_length=40).predict(PAIRS)
    calls.clear()
    found = model.predict(PAIRS, batch_size=4)
    assert bool(calls) == (family not in PACKED)
    model.model.eval()
    with torch.inference_mode():
        assert_equal(found, plain_scores(model.model, family, PAIRS, max_length=40).numpy())
    assert not np.allclose(found, plain, atol=0.01)
    with model.model.disable_adapter():
        assert_equal(model.predict(PAIRS), plain)


def test_a_new_adapter_changes_no_score(adapted):
    model = adapted(spread=0.0)
    assert model.network is model.model.get_base_model()  # unwrapped once, when it was put in
    plain = CrossEncoder(model.folder, device="cpu", max_length=40)
    assert model.predict(PAIRS).tolist() == plain.predict(PAIRS).tolist()


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_gradients_are_those_of_the_wrapped_model(adapted, family):
    model = adapted(family, 3)
    tokens, rows = tokens_of(family, PAIRS, 40), np.arange(len(PAIRS))

    def gradients(scores):
        scores.square().sum().backward()
        found = {n: p.grad.clone() for n, p in model.model.named_parameters() if p.grad is not None}
        model.model.zero_grad()
        return found

    ours = gradients(model.scores(tokens, rows))
    theirs = gradients(plain_scores(model.model.train(), family, PAIRS, max_length=40))
    assert ours.keys() == theirs.keys()
    assert all("lora_" in name or "modules_to_save" in name for name in ours)
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], rtol=1e-3, atol=1e-4), name


def test_an_adapter_that_adds_tokens_runs_through_its_wrapper(adapted):
    model = CrossEncoder(adapted().folder, device="cpu")
    prompts = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    model.model = get_peft_model(model.model, prompts)
    assert model.network is model.model
    assert not packed.can_pack(model.network)
    alone = [plain_scores(model.model.eval(), "bert", [pair])[0, 0].item() for pair in SHORT]
    assert_equal(model.predict(SHORT, activation_fn="identity"), np.array(alone, dtype=np.float32))
    with pytest.raises(ValueError, match="of the kind PROMPT_TUNING adds nothing to the weights and cannot be"):
        merge_adapters(model)


# --- merging --------------------------------------------------------------------------------------


@BY_FAMILY
def test_a_merged_model_is_a_plain_one(adapted, tmp_path, family):
    model = adapted(family, 3)
    expected = model.predict(PAIRS)
    assert merge_adapters(model) is model
    assert type(model.model).__name__.endswith("ForSequenceClassification")
    assert all(parameter.requires_grad for parameter in model.model.parameters())
    assert_equal(model.predict(PAIRS), expected)
    model.save_pretrained(tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert list((tmp_path / "merged").glob("adapter*")) == []
    assert CrossEncoder(tmp_path / "merged", device="cpu").predict(PAIRS).tolist() == model.predict(PAIRS).tolist()
    assert_equal(raw_scores(tmp_path / "merged"), expected)


def test_nothing_to_merge():
    with pytest.raises(ValueError, match="no adapter to merge: the model is a plain BertForSequenceClassification"):
        merge_adapters(tiny())


# --- calibration ----------------------------------------------------------------------------------


def test_a_calibrated_adapter(adapted, tmp_path):
    adapted("electra", 3).save_pretrained(tmp_path / "adapter")
    model = sure_of_itself(tmp_path / "adapter")
    raw = model.predict(PAIRS)
    temperature = calibrate(model, labelled(model))
    assert temperature > 1.1
    assert_equal(model.predict(PAIRS), raw / temperature)
    model.save_pretrained(tmp_path / "calibrated")
    again = CrossEncoder(tmp_path / "calibrated", device="cpu")
    assert again.predict(PAIRS).tolist() == model.predict(PAIRS).tolist()
    assert again.config.crossenc_kit == {"temperature": temperature}


def test_a_head_that_is_not_the_adapters_own_is_not_calibrated(adapted):
    model = CrossEncoder(adapted().folder, device="cpu")
    model.model = get_peft_model(model.model, LoraConfig(target_modules=["query"]))
    with pytest.raises(ValueError, match=r"no head of its own beside 'classifier': call merge_adapters\(model\) first"):
        calibrate(model, [(*sentences(2).texts[0], 0), (*sentences(2).texts[1], 1)])
