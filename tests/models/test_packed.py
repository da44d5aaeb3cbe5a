"""The pass without padding, and the padded one: both are Hugging Face's own model, forward and backward."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import FAMILIES, PACKED, classifier, padding, pairs_of_all_lengths, plain_scores, tokenizer, tokens_of

from crossenc_kit.models import packed, products
from crossenc_kit.models.packed import attend_by_length, attend_padded, can_pack, forward, pad_batch, padding_of

PAIRS = pairs_of_all_lengths()


def scores_of(model, family, pairs):
    return forward(model, tokens_of(family, pairs), np.arange(len(pairs)), padding(model, family))


def gradients(model, scores):
    """The gradient of every parameter for a fixed random weighting of the scores."""
    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    (scores * weights).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(found, expected):
    """Equal to 1e-5 of each parameter's largest; a key's bias moves no score, and its gradient is rounding only."""
    assert sorted(found) == sorted(expected)
    rounding = 1e-6 * max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        allowed = max(1e-5 * float(gradient.abs().max()), rounding if "bias" in name else 0.0)
        assert float((found[name] - gradient).abs().max()) <= allowed, name


def recompute_layers(model):
    """Switch on gradient checkpointing, by its later name where transformers has it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


@pytest.fixture
def padded_calls(monkeypatch):
    """How many pairs each padded batch held."""
    calls = []

    def counted(tokens, rows, pad, device):
        calls.append(len(rows))
        return pad_batch(tokens, rows, pad, device)

    monkeypatch.setattr(packed, "pad_batch", counted)
    return calls


# --- against the plain model ----------------------------------------------------------------------


@pytest.mark.parametrize("num_labels", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_and_gradients_are_those_of_the_plain_model(family, num_labels, padded_calls):
    model = classifier(family, num_labels)
    assert can_pack(model) == (family in PACKED)
    expected = plain_scores(model, family, PAIRS)
    assert float(expected.detach().std(0).min()) > 0.05  # the pairs do differ
    expected_gradients = {name: g.clone() for name, g in gradients(model, expected).items()}
    scores = scores_of(model, family, PAIRS)
    assert scores.shape == (len(PAIRS), num_labels)
    assert torch.allclose(scores, expected, rtol=0, atol=1e-5)
    assert_same_gradients(gradients(model, scores), expected_gradients)
    assert padded_calls == ([] if family in PACKED else [len(PAIRS)])


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "deberta-v2", "gpt2", "xlnet"])
def test_a_pair_has_the_same_score_in_any_batch_and_order(family):
    model, tokens = classifier(family), tokens_of(family, PAIRS)
    with torch.no_grad():
        together = forward(model, tokens, np.arange(len(PAIRS)), padding(model, family))
        for rows in ([7], [4, 8], [11, 2, 2, 0], list(range(len(PAIRS)))[::-1]):
            scores = forward(model, tokens, np.array(rows), padding(model, family))
            assert torch.allclose(scores, together[rows], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "xlm-roberta", "mpnet", "modernbert"])
def test_a_text_with_the_literal_padding_token(family, padded_calls):
    """RoBERTa numbers positions by counting ids that are not the padding's: only its own `forward` knows how."""
    model = classifier(family)
    pad = tokenizer(FAMILIES[family][0]).pad_token
    pairs = [(f"the {pad} cat {pad}", "a dog"), ("the man", f"{pad}{pad} the dog"), ("the cat", "open the book")]
    assert [(tokens_of(family, pairs).pair(row)[0] == padding(model, family).id).sum() for row in range(3)] == [2, 2, 0]
    scores = scores_of(model, family, pairs)
    assert torch.allclose(scores, plain_scores(model, family, pairs), rtol=0, atol=1e-5)
    assert padded_calls == ([] if family in ("bert", "distilbert") else [3])


def test_a_tokenizer_that_pads_on_the_left_does_not_move_the_first_token(monkeypatch):
    model = classifier("deberta-v2")
    expected = plain_scores(model, "deberta-v2", PAIRS)
    monkeypatch.setattr(tokenizer("wordpiece"), "padding_side", "left")
    assert torch.allclose(scores_of(model, "deberta-v2", PAIRS), expected, rtol=0, atol=1e-5)


def test_the_side_of_the_padding():
    left = tokenizer("left")
    assert left.padding_side == "left"
    assert padding_of(classifier("gpt2"), left) == (0, 0, "right")
    assert padding_of(classifier("xlnet"), left) == (0, 0, "left")


def test_a_padded_batch_by_hand():
    tokens = tokens_of("bert", [("a", "b"), ("a b c", "")])
    right = pad_batch(tokens, np.array([0, 1]), packed.Padding(7, 5, "right"), "cpu")
    cls, sep = 2, 3
    a, b, c = (tokenizer("wordpiece").convert_tokens_to_ids(letter) for letter in "abc")
    assert right["input_ids"].tolist() == [[cls, a, sep, b, sep, 7], [cls, a, b, c, sep, sep]]
    assert right["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]
    assert right["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 5], [0, 0, 0, 0, 0, 1]]
    left = pad_batch(tokens, np.array([0]), packed.Padding(7, 5, "left"), "cpu")
    assert left["input_ids"].tolist() == [[cls, a, sep, b, sep]]  # as long as its own longest pair


# --- what is not packed ---------------------------------------------------------------------------


def test_a_decoder_relative_positions_and_a_class_with_its_own_forward_are_not_packed():
    model = classifier("bert")
    assert not can_pack(type("Mine", (type(model),), {})(model.config))
    for name, value in (("is_decoder", True), ("position_embedding_type", "relative_key")):
        other = copy.copy(model)
        other.config = copy.copy(model.config)
        setattr(other.config, name, value)
        assert not can_pack(other), name


# --- attention ------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), first_only=st.booleans())
def test_both_kinds_of_attention_agree_forward_and_backward(sizes, first_only):
    sizes = sorted(sizes, reverse=True)
    generator = torch.Generator().manual_seed(len(sizes))
    rows = len(sizes) if first_only else sum(sizes)
    inputs = [torch.randn(n, 8, generator=generator, requires_grad=True) for n in (rows, sum(sizes), sum(sizes))]
    weights = torch.randn(rows, 8, generator=generator)
    results = []
    for attend in (attend_by_length, attend_padded):
        attended = attend(*inputs, sizes, 2, 0.0, first_only)
        results.append([attended, *torch.autograd.grad((attended * weights).sum(), inputs)])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-5)


def test_attention_stays_within_a_pair_and_is_a_softmax_by_hand():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(5, 4, generator=generator) for _ in range(3))
    attended = attend_by_length(query, key, value, [3, 2], 1, 0.0, False)
    for part in (slice(0, 3), slice(3, 5)):
        weights = (query[part] @ key[part].T / 2).softmax(-1)  # the root of 4
        assert torch.allclose(attended[part], weights @ value[part], atol=1e-6)


# --- dropout and recomputation --------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "electra, narrow", "distilbert", "deberta-v2"])
def test_dropout_is_random_in_training_and_absent_otherwise(family):
    model = classifier(family, dropout=0.3)
    one, two = (scores_of(model, family, PAIRS) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.allclose(one, scores_of(classifier(family), family, PAIRS))  # as without dropout
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one, two = (scores_of(model, family, PAIRS) for _ in range(2))
    assert not torch.isclose(one, two).any()


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_each_dropout_of_the_configuration_acts(family):
    """Switching on one kind of dropout at a time, each changes the scores of training: none was left out."""
    names = {"bert": ["attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout"]}
    names["distilbert"] = ["attention_dropout", "dropout", "seq_classif_dropout"]
    for name in names[family]:
        model = classifier(family, **{name: 0.5}).train()
        one, two = (scores_of(model, family, PAIRS) for _ in range(2))
        assert not torch.equal(one, two), name


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("family", [*PACKED, "deberta-v2"])
def test_gradient_checkpointing_changes_no_gradient(family, dropout):
    found = []
    for recompute in (False, True):
        model = classifier(family, dropout=dropout).train()
        if recompute:
            recompute_layers(model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            found.append(gradients(model, scores_of(model, family, PAIRS)))
    assert_same_gradients(*found)


def test_gradient_checkpointing_keeps_less_for_the_backward_pass():
    kept = []
    for recompute in (False, True):
        model, sizes = classifier("bert").train(), []
        if recompute:
            recompute_layers(model)

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            scores_of(model, "bert", PAIRS)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 3


def test_every_path_gives_the_same_scores_and_the_plainer_ones_work_on_more_rows(monkeypatch):
    monkeypatch.setattr(products, "has_faster_product", lambda: False)
    model, tokens, rows = classifier("bert"), tokens_of("bert", PAIRS), np.arange(len(PAIRS))
    seen, last = [], model.bert.encoder.layer[-1]
    last.intermediate.register_forward_hook(lambda module, args, output: seen.append(output.shape[:-1].numel()))
    found = [forward(model, tokens, rows, padding(model, "bert"), path=path) for path in packed.PATHS]
    assert torch.allclose(found[1], found[0], rtol=0, atol=1e-5)
    assert torch.allclose(found[2], found[0], rtol=0, atol=1e-5)
    assert seen == [len(PAIRS), int(tokens.lengths.sum()), len(PAIRS) * int(tokens.lengths.max())]
    with pytest.raises(ValueError, match="unknown path='fast'; choose from pruned, packed, padded"):
        forward(model, tokens, rows, padding(model, "bert"), path="fast")


def test_half_precision_weights_give_half_precision_scores():
    model = classifier("bert").to(torch.bfloat16)
    scores = scores_of(model, "bert", PAIRS)
    assert scores.dtype == torch.bfloat16
    assert torch.allclose(scores.float(), scores_of(classifier("bert"), "bert", PAIRS), atol=0.1)
