"""Calibrated models: the same probabilities everywhere, and what cannot be calibrated."""

from __future__ import annotations

import numpy as np
import pytest
import sentence_transformers as peer
import torch
from small_models import (
    BY_FAMILY,
    BY_LABELS,
    PAIRS,
    assert_equal,
    labelled,
    raw_scores,
    save_classifier,
    sigmoid,
    softmax,
    sure_of_itself,
)

from crossenc_kit import CrossEncoder, DataError, calibrate
from crossenc_kit.evaluation.calibration import last_layer

pytestmark = pytest.mark.filterwarnings("ignore::crossenc_kit.errors.TruncationWarning")


@BY_FAMILY
@BY_LABELS
def test_a_calibrated_models_probabilities_are_the_same_everywhere(saved, tmp_path, family, num_labels):
    model = sure_of_itself(saved(family, num_labels))
    raw = model.predict(PAIRS, activation_fn="identity").reshape(len(PAIRS), num_labels)
    temperature = calibrate(model, labelled(model))
    assert temperature > 1.1
    model.save_pretrained(tmp_path)
    probabilities = sigmoid if num_labels == 1 else softmax
    expected = probabilities(raw / temperature)
    assert_equal(probabilities(raw_scores(tmp_path)), expected)
    expected = expected[:, 0] if num_labels == 1 else expected
    again = CrossEncoder(tmp_path, device="cpu")
    for one in (model, again, peer.CrossEncoder(str(tmp_path), device="cpu")):
        assert_equal(one.predict(PAIRS, apply_softmax=True), expected)
    assert again.config.crossenc_kit == {"temperature": temperature}


def test_temperatures_multiply_and_no_order_changes(saved):
    model = sure_of_itself(saved("electra", 3))
    before, data = model.predict(PAIRS), labelled(model)
    first = calibrate(model, data)
    second = calibrate(model, data)
    assert second == pytest.approx(1, abs=1e-4)
    assert model.config.crossenc_kit["temperature"] == first * second
    assert model.card["calibration"] == {"temperature": first * second, "fitted on pairs": len(data)}
    assert np.argsort(model.predict(PAIRS)).tolist() == np.argsort(before).tolist()


@pytest.mark.parametrize(
    ("family", "num_labels", "head"),
    [
        ("gpt2", 3, "score"),
        ("xlnet", 3, "logits_proj"),
        ("deberta", 3, "classifier"),
        ("roberta", 32, "classifier.out_proj"),  # after a dense layer of that size
    ],
)
def test_the_last_layer_of_other_heads(tmp_path, family, num_labels, head):
    model = CrossEncoder(save_classifier(tmp_path, family, num_labels), device="cpu")
    assert last_layer(model) is model.model.get_submodule(head)


def test_what_cannot_be_calibrated(saved):
    model = CrossEncoder(saved("bert", 1), device="cpu")
    with pytest.raises(ValueError, match=r"row 1: the label is 0\.5; expected a whole number"):
        calibrate(model, [("a", "b", 1), ("a", "c", 0.5)])
    with pytest.raises(DataError, match="needs one class per pair as label"):
        calibrate(model, [("a", "b"), ("a", "c")])
    model.activation_fn = torch.nn.Tanh()
    with pytest.raises(ValueError, match="scores go through Tanh; a temperature is defined for Sigmoid"):
        calibrate(model, [("a", "b", 1), ("a", "c", 0)])
    model.model.classifier = torch.nn.Sequential(torch.nn.Conv1d(32, 1, 1))
    with pytest.raises(ValueError, match="head of BertForSequenceClassification does not end in a linear layer"):
        last_layer(model)
