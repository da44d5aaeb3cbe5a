"""int8 layers: sums of whole numbers, a scale for every row, and models made of them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import PACKED, classifier, fitted, padding, pairs_of_all_lengths, tokens_of, words
from torch import nn

from crossenc_kit import CrossEncoder, TrainingConfig, train
from crossenc_kit.errors import BackboneError
from crossenc_kit.evaluation.metrics import spearman
from crossenc_kit.models import int8
from crossenc_kit.models.int8 import Int8Embedding, Int8Linear, input_ranges, linear_layers, quantize, quantized
from crossenc_kit.models.packed import forward

PAIRS = pairs_of_all_lengths()
MANY = [(words(3 + i % 7, i), words(2 + i % 5, i + 50)) for i in range(60)]


def layer_of(weight, bias=None):
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def random_rows(count, seed=1):
    return torch.randn(count, 40, generator=torch.Generator().manual_seed(seed))


def random_layer(size_in=40, size_out=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return layer_of(torch.randn(size_out, size_in, generator=generator).tolist(), [0.5] * size_out)


# --- one layer ------------------------------------------------------------------------------------


def test_a_layer_by_hand():
    layer = quantized(layer_of([[127.0, -1.0], [0.0, 254.0]], [0.0, 10.0]))
    assert layer.weight.tolist() == [[127, 0], [-1, 127]]  # (in, out)
    assert layer.scale.tolist() == [1, 2]
    rows = torch.tensor([[127.0, 1.0], [0.0, 12.7], [0.0, 0.0]])  # whole numbers: 127, 1; 0, 127; nothing
    assert torch.allclose(layer(rows), torch.tensor([[127 * 127 - 1.0, 264.0], [-12.7, 12.7 * 254 + 10], [0.0, 10.0]]))


def test_the_product_is_exact():
    generator = torch.Generator().manual_seed(0)
    left = torch.randint(-127, 128, (70, 1000), generator=generator, dtype=torch.int8)
    right = torch.randint(-127, 128, (1000, 9), generator=generator, dtype=torch.int8)
    left[0], right[:, 0] = 127, -127
    expected = left.numpy().astype(np.int64) @ right.numpy().astype(np.int64)
    assert int8._product(left, right).shape == (70, 9)
    assert np.allclose(int8._product(left, right).numpy(), expected, rtol=1e-6)


def test_a_processor_without_an_exact_product_gives_the_same(monkeypatch):
    layer, rows = quantized(random_layer()), random_rows(9)
    expected = layer(rows)
    monkeypatch.setattr(int8, "has_exact_product", lambda: False)
    assert torch.allclose(layer(rows), expected, atol=1e-5)


@given(count=st.integers(1, 70), seed=st.integers(0, 5))
def test_rounding_is_within_half_a_step_of_each_number(count, seed):
    layer = random_layer(seed=seed)
    rows = random_rows(count, seed) * 3
    step = rows.abs().amax(1, keepdim=True) / 127 / 2  # (N, 1)
    weight_step = layer.weight.abs().amax(1) / 127 / 2  # (out,)
    allowed = step * layer.weight.abs().sum(1) + rows.abs().sum(1, keepdim=True) * weight_step + 40 * step * weight_step
    assert bool(((quantized(layer)(rows) - layer(rows)).abs() <= allowed + 1e-4).all())


def test_a_row_does_not_know_the_others():
    layer, rows = quantized(random_layer()), random_rows(70)
    rows[3] *= 1000
    together = layer(rows)
    assert all(torch.equal(layer(rows[at : at + 1]), together[at : at + 1]) for at in (0, 3, 69))
    assert torch.equal(layer(rows.view(2, 35, 40)), together.view(2, 35, 24))


def test_a_channel_that_is_far_larger_is_brought_closer():
    layer, rows = random_layer(), random_rows(50)
    rows[:, 7] *= 100
    smooth = quantized(layer, rows.abs().amax(0))
    with torch.no_grad():
        errors = [float((found(rows) - layer(rows)).abs().mean()) for found in (quantized(layer), smooth)]
    assert errors[1] < errors[0] / 3
    expected = (rows.abs().amax(0) / layer.weight.abs().amax(0)).rsqrt()
    assert torch.allclose(smooth.factor, expected)


def test_an_embedding_by_hand():
    table = Int8Embedding(*int8._quantize_rows(torch.tensor([[1.27, -0.5], [0.0, 0.0]])))
    assert table.weight.tolist() == [[127, -50], [0, 0]]
    assert torch.allclose(table(torch.tensor([[0, 1]])), torch.tensor([[[1.27, -0.5], [0.0, 0.0]]]))


# --- whole models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", PACKED)
def test_a_model_of_int8_layers_scores_nearly_alike_and_each_pair_for_itself(family):
    model, tokens = classifier(family), tokens_of(family, MANY)
    pad, every = padding(model, family), np.arange(len(MANY))
    with torch.no_grad():
        exact = forward(model, tokens, every, pad)
        ranges = input_ranges(model, lambda: forward(model, tokens, every, pad))
        fast = quantize(copy.deepcopy(model), ranges)
        scores = forward(fast, tokens, every, pad)
        alone = torch.cat([forward(fast, tokens, every[row : row + 1], pad) for row in range(5)])
    assert sorted(ranges) == sorted(linear_layers(model))
    assert not linear_layers(fast)
    assert spearman(scores[:, 0], exact[:, 0]) > 0.99
    assert 0 < float((scores - exact).abs().max()) < 0.25 * float(exact.std())
    assert torch.allclose(alone, scores[:5], rtol=0, atol=1e-5)


def test_pooler_and_head_stay_as_they_are():
    model = quantize(classifier("bert"))
    assert type(model.classifier) is nn.Linear
    assert type(model.bert.pooler.dense) is nn.Linear
    assert isinstance(model.bert.encoder.layer[1].output.dense, Int8Linear)
    assert isinstance(model.bert.embeddings.word_embeddings, Int8Embedding)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_model_without_linear_layers():
    with pytest.raises(ValueError, match="GPT2ForSequenceClassification has no linear layers in its encoder"):
        quantize(classifier("gpt2"))


def test_a_model_with_an_adapter():
    peft = pytest.importorskip("peft")
    wrapped = peft.get_peft_model(classifier("bert"), peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    with pytest.raises(ValueError, match="merge_adapters"):
        quantize(wrapped)


# --- as a backend ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a float32 model."""
    folder = tmp_path_factory.mktemp("plain")
    fitted().save_pretrained(folder)
    return folder


def test_float32_weights_become_int8_when_they_are_loaded_and_are_saved_as_such(plain, tmp_path):
    exact, fast = CrossEncoder(plain, device="cpu"), CrossEncoder(plain, backend="int8")
    assert (exact.backend, fast.backend, str(fast.device)) == ("torch", "int8", "cpu")
    assert "int8" in repr(fast)
    assert spearman(fast.predict(MANY), exact.predict(MANY)) > 0.99
    fast.save_pretrained(tmp_path / "fast")
    assert not (tmp_path / "fast/model.safetensors").exists()
    again = CrossEncoder(tmp_path / "fast")
    assert again.backend == "int8"
    assert np.array_equal(again.predict(MANY), fast.predict(MANY))
    assert [hit["corpus_id"] for hit in again.rank("a", ["b", "c", "a"])] == [
        hit["corpus_id"] for hit in fast.rank("a", ["b", "c", "a"])
    ]
    exact.save_pretrained(tmp_path / "fast")
    assert CrossEncoder(tmp_path / "fast").backend == "torch"
    assert not (tmp_path / "fast/model_int8.safetensors").exists()


def test_it_is_not_trained(plain):
    with pytest.raises(ValueError, match=r"backend='int8' cannot be trained.*float32 model"):
        train(CrossEncoder(plain, backend="int8"), [("a", "b", 1.0)] * 4, "bce", TrainingConfig())


def test_it_runs_on_the_cpu(plain):
    with pytest.raises(ValueError, match="backend='int8' runs on the CPU, not on cuda"):
        CrossEncoder(plain, backend="int8", device="cuda")


def test_an_architecture_without_the_packed_pass(tmp_path):
    from small_models import save_classifier

    save_classifier(tmp_path / "deberta", "deberta-v2")
    with pytest.raises(ValueError, match="DebertaV2ForSequenceClassification cannot: export it as 'onnx-int8'"):
        CrossEncoder(tmp_path / "deberta", backend="int8")


def test_unknown_backends(plain):
    with pytest.raises(ValueError, match="backend is 'tensorrt'; expected one of torch, int8, onnx, onnx-int8"):
        CrossEncoder(plain, backend="tensorrt")


@pytest.mark.parametrize("damage", [lambda data: data[:5000], lambda data: b"", lambda data: b"{" * 500])
def test_damaged_int8_weights(plain, tmp_path, damage):
    CrossEncoder(plain, backend="int8").save_pretrained(tmp_path / "fast")
    file = tmp_path / "fast/model_int8.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BackboneError, match=r"cannot load the int8 weights .*: .*export the model again"):
        CrossEncoder(tmp_path / "fast")


def test_another_number_of_labels(plain, tmp_path):
    CrossEncoder(plain, backend="int8").save_pretrained(tmp_path / "fast")
    with pytest.raises(ValueError, match=r"num_labels=3, but the exported model .* gives a pair 1 scores"):
        CrossEncoder(tmp_path / "fast", num_labels=3)
