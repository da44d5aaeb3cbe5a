"""What `predict` takes and gives: scores of the plain model in every form, and what it says of other input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_models import pairs_of_all_lengths

from crossenc_kit import DataError, InputExample, Pairs

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # nothing here may warn but where a test says so

PAIRS = pairs_of_all_lengths()[:8]  # none longer than 64 tokens


def plain(model, pairs):
    """Raw scores `(N, C)` of Hugging Face's own model and tokenizer, a pair at a time."""
    with torch.no_grad():
        encoded = [model.tokenizer([left], [right], return_tensors="pt") for left, right in pairs]
        return torch.cat([model.model(**inputs).logits for inputs in encoded])


# --- predict: what goes in ------------------------------------------------------------------------


def test_scores_are_those_of_the_plain_model_after_the_activation(model, three):
    scores = model.predict(PAIRS)
    assert (scores.shape, scores.dtype) == ((8,), np.float32)
    assert np.allclose(scores, plain(model, PAIRS)[:, 0].sigmoid().numpy(), rtol=0, atol=1e-5)
    assert np.ptp(scores) > 0.1
    scores = three.predict(PAIRS)
    assert scores.shape == (8, 3)
    assert np.allclose(scores, plain(three, PAIRS).numpy(), rtol=0, atol=1e-5)


def test_every_form_of_input(model):
    left, right = [pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]
    expected = model.predict(PAIRS)
    forms = [
        [list(pair) for pair in PAIRS],
        np.array(PAIRS),
        np.array(PAIRS, dtype=object),
        [np.array(pair) for pair in PAIRS],
        tuple(PAIRS),
        (pair for pair in PAIRS),
        Pairs(left, right),
        Pairs(left, right, offsets=np.array([0, 3, 8])),
        [InputExample(texts=list(pair), label=0.5) for pair in PAIRS],
    ]
    for form in forms:
        assert model.predict(form).tolist() == expected.tolist(), type(form)
    assert model(PAIRS).tolist() == expected.tolist()


def test_a_single_pair_gives_a_single_score(model, three):
    expected = model.predict([PAIRS[1]])
    for form in (PAIRS[1], list(PAIRS[1]), np.array(PAIRS[1]), InputExample(texts=PAIRS[1])):
        score = model.predict(form)
        assert score.shape == ()
        assert score == expected[0]
    assert model.predict(PAIRS[1], convert_to_tensor=True).shape == ()
    assert three.predict(PAIRS[1]).shape == (3,)


def test_nothing_gives_nothing(model, three):
    assert model.predict([]).shape == (0,)
    assert three.predict([]).shape == (0, 3)
    assert three.predict([], apply_softmax=True, convert_to_tensor=True).shape == (0, 3)
    assert model.predict([], convert_to_numpy=False) == []
    assert model.predict(np.empty((0, 2), dtype=str)).shape == (0,)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ("one string", "expected a pair of texts or a list of pairs, got one string 'one string'"),
        (["one string"], "row 0: a pair has two texts, got 1"),
        ([("a", "b"), "ab"], "row 1: expected two texts, got str 'ab'"),
        ([("a", "b"), ("c", "d", "e")], "row 1: a pair has two texts, got 3"),
        ([("a", "b"), ("c", None)], r"row 1, text 1: the text is missing \(None\)"),
        ([("a", float("nan"))], r"row 0, text 1: the text is missing \(nan\)"),
        (("a", None), r"row 0, text 1: the text is missing"),
        ([("a", b"b")], "row 0, text 1: expected a string, got bytes"),
        (np.array([["a", np.nan]], dtype=object), "row 0, text 1: the text is missing"),
        ([InputExample(texts=["a"])], "row 0: a pair has two texts, got 1"),
        ([{"left": "a", "right": "b"}] * 2, "expected a string, got dict"),
        ({"left": "a", "right": "b"}, "got dict"),
        (None, "expected a pair of texts or a list of pairs, got NoneType"),
        (Pairs(["a"], [None]), "row 0, right text: the text is missing"),
    ],
)
def test_what_is_no_pair_of_texts(model, sentences, message):
    with pytest.raises(DataError, match=message):
        model.predict(sentences)
    assert not model.model.training


# --- predict: what comes out ----------------------------------------------------------------------


def test_conversions(model, three):
    expected = three.predict(PAIRS)
    tensor = three.predict(PAIRS, convert_to_tensor=True)
    assert (tensor.dtype, tensor.device.type, tensor.requires_grad) == (torch.float32, "cpu", False)
    assert tensor.numpy().tolist() == expected.tolist()
    rows = three.predict(PAIRS, convert_to_numpy=False)
    assert isinstance(rows, list)
    assert torch.equal(torch.stack(rows), tensor)
    assert len(model.predict(PAIRS, convert_to_numpy=False)) == 8
    tensor += 1  # not an inference tensor: the caller may work with it


def test_softmax(model, three):
    scores, raw = three.predict(PAIRS, apply_softmax=True), three.predict(PAIRS)
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert np.allclose(scores, np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True), atol=1e-6)
    assert model.predict(PAIRS, apply_softmax=True).tolist() == model.predict(PAIRS).tolist()  # of one label: nothing


def test_activations(model):
    raw = plain(model, PAIRS)[:, 0]
    for options in ({"activation_fn": torch.nn.Identity()}, {"activation_fct": torch.nn.Identity()}):
        assert np.allclose(model.predict(PAIRS, **options), raw, atol=1e-5)
    assert np.allclose(model.predict(PAIRS, activation_fn="identity"), raw, atol=1e-5)
    assert np.allclose(model.predict(PAIRS, activation_fn="torch.nn.modules.activation.Tanh"), raw.tanh(), atol=1e-5)
    assert np.allclose(model.predict(PAIRS, activation_fn=torch.tanh), raw.tanh(), atol=1e-5)
    assert model.predict(PAIRS, activation_fn=torch.nn.PReLU()).shape == (8,)  # has a weight that wants a gradient
    assert np.allclose(model.predict(PAIRS), raw.sigmoid(), atol=1e-5)  # none of them stays


def test_a_pair_has_the_same_score_in_whatever_company(model):
    expected = model.predict(PAIRS)
    order = [5, 2, 7, 7, 0, 4, 1, 3, 6]
    shuffled = [PAIRS[row] for row in order]
    alone = np.array([model.predict(pair) for pair in PAIRS])
    for scores in (alone, model.predict(PAIRS, batch_size=3), model.predict(PAIRS, token_budget=1)):
        assert np.allclose(scores, expected, rtol=0, atol=1e-5)
    for options in ({}, {"threads": 1}, {"threads": 2, "token_budget": 20}, {"threads": 2, "batch_size": 1}):
        assert np.allclose(model.predict(shuffled, **options), expected[order], rtol=0, atol=1e-5)


def test_batches_are_counted_in_tokens_and_capped_by_batch_size(model, batches):
    sizes = batches(model)
    model.predict([("the cat", "a dog")] * 300)  # 7 tokens each, 1024 a batch
    assert sizes == [146, 146, 8]
    sizes.clear()
    model.predict([("the cat", "a dog")] * 6, token_budget=29)
    assert sizes == [4, 2]
    sizes.clear()
    model.predict([("the cat", "a dog")] * 6, batch_size=5)
    assert sizes == [5, 1]
    with pytest.raises(ValueError, match="batch_size must be a whole number, 1 or more, got 0"):
        model.predict(PAIRS, batch_size=0)
    for options in ({"token_budget": 0}, {"token_budget": 1e4}, {"threads": 0}, {"threads": -1}, {"threads": True}):
        ((name, value),) = options.items()
        with pytest.raises(ValueError, match=f"{name} must be a whole number, 1 or more, got {value!r}"):
            model.predict(PAIRS, **options)


def test_a_device_that_is_not_there(model):
    for device in ("nope", "cuda:99", torch.device("cuda:99")):
        with pytest.raises(ValueError, match=f"this machine has no device '{device}': "):
            model.to(device)
    assert str(model.to("cpu").device) == "cpu"
