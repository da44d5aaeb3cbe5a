"""Models of every family that are saved, and their scores by transformers alone."""

from __future__ import annotations

import json
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from families import pairs_of_all_lengths, save_classifier, words
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from crossenc_kit import CrossEncoder
from crossenc_kit.evaluation.calibration import last_layer

TRAVELLERS = ["bert", "roberta", "xlm-roberta", "electra", "distilbert", "deberta-v2", "modernbert", "albert", "mpnet"]
BY_FAMILY = pytest.mark.parametrize("family", TRAVELLERS)
BY_LABELS = pytest.mark.parametrize("num_labels", [1, 3])
NLI = ("contradiction", "entailment", "neutral")
NAMES = {1: (), 3: NLI}
PAIRS = pairs_of_all_lengths()
MAX_LENGTH = 40  # tokens: some of the pairs are cut
IN_FULL = [pair for pair in PAIRS if pair[1]]  # a call with one pair takes an empty second text for none at all
SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


def saver(tmp_path_factory):
    """A function from family, number of labels and activation to a folder that the kit saved; not to be written to."""

    @cache
    def save(family, num_labels, activation=None):
        folder = tmp_path_factory.mktemp("models")
        save_classifier(folder / "plain", family, num_labels)
        model = CrossEncoder(folder / "plain", max_length=MAX_LENGTH, device="cpu", activation_fn=activation)
        name_as_others_do(model.config, NAMES[num_labels])
        model.save_pretrained(folder / "kit")
        return folder / "kit"

    return save


def name_as_others_do(config, names):
    """As somebody does who has no kit."""
    if names:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}


def raw_scores(folder, max_length=None, **options):
    """`(N, C)` by transformers alone, in one padded batch."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    known = AutoTokenizer.from_pretrained(folder)
    known.model_max_length = max_length or known.model_max_length
    batch = known(*map(list, zip(*PAIRS, strict=True)), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        return model.eval()(**batch).logits.numpy()


def sigmoid(scores):
    return 1 / (1 + np.exp(-scores))


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def assert_equal(ours, theirs):
    assert np.shape(ours) == np.shape(theirs)
    assert np.allclose(ours, theirs, rtol=0, atol=1e-5)
    assert np.ptp(theirs) > 0.02  # scores that are all alike would prove nothing


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def on_the_hub(cache_folder, name, folder):
    """Put a folder into a cache as if it had been downloaded."""
    place = cache_folder / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))


def sure_of_itself(folder):
    """A model whose scores differ much, around zero, so that there is a temperature to be found."""
    model = CrossEncoder(folder, device="cpu")
    with torch.no_grad():
        last_layer(model).weight.mul_(8)
        last_layer(model).bias.sub_(torch.as_tensor(model.predict(PAIRS, activation_fn="identity").mean(axis=0)))
    return model


def labelled(model, temperature=2.0, size=80):
    """Pairs whose labels fall as the model's probabilities at that temperature say."""
    pairs = [(words(1 + i % 4, i), words(1 + i % 5, 1000 + i)) for i in range(size)]
    raw = model.predict(pairs, activation_fn="identity").reshape(size, -1)
    raw = raw if model.num_labels > 1 else np.hstack([0 * raw, raw])
    drawn = np.random.default_rng(0).random((size, 1)) > np.cumsum(softmax(raw / temperature), axis=1)[:, :-1]
    labels = drawn.sum(axis=1)
    return [(left, right, int(label)) for (left, right), label in zip(pairs, labels, strict=True)]
