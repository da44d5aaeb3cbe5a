"""`fit` of sentence-transformers 3.x: code of its training page, word for word, and the constructor."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from small_peer import QUIET, fresh
from small_runs import tiny
from torch import nn
from torch.utils.data import DataLoader

import crossenc_kit
from crossenc_kit import CESoftmaxAccuracyEvaluator, CrossEncoder, InputExample

pytestmark = pytest.mark.filterwarnings("ignore:the head of")  # untrained on purpose


def test_the_regression_example_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"DataLoader": DataLoader, "name": "tiny"}
    exec(
        """
from crossenc_kit import CrossEncoder, InputExample
from crossenc_kit import CECorrelationEvaluator

model = CrossEncoder(name, num_labels=1)
train_samples = [
    InputExample(texts=["sentence1", "sentence2"], label=0.3),
    InputExample(texts=["Another", "pair"], label=0.8),
]
train_dataloader = DataLoader(train_samples, shuffle=True, batch_size=16)
evaluator = CECorrelationEvaluator.from_input_examples(train_samples, name="sts-dev")
model.fit(train_dataloader=train_dataloader, evaluator=evaluator, epochs=4, warmup_steps=1, output_path="out")
scores = model.predict([["My first", "sentence pair"], ["Second text", "pair"]])
""",
        namespace,
    )
    assert namespace["scores"].shape == (2,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    with open(tmp_path / "out" / "CECorrelationEvaluator_sts-dev_results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert {row["steps"] for row in rows} == {"-1"}
    again = CrossEncoder("out")
    assert again.num_labels == 1


def test_the_classification_example_of_the_page(tmp_path):
    train_samples = [
        InputExample(texts=["sentence1", "sentence2"], label=2),
        InputExample(texts=["Another", "pair"], label=0),
        InputExample(texts=["A", "third"], label=1),
    ]
    model = CrossEncoder("tiny", num_labels=3)
    evaluator = CESoftmaxAccuracyEvaluator.from_input_examples(train_samples, name="dev")
    loader = DataLoader(train_samples, shuffle=True, batch_size=16)
    model.fit(train_dataloader=loader, evaluator=evaluator, epochs=2, output_path=str(tmp_path / "nli"), **QUIET)
    assert model.predict(["My first", "sentence pair"]).shape == (3,)
    assert CrossEncoder(tmp_path / "nli").num_labels == 3


def test_the_arguments_of_the_constructor_are_those_of_3_4_in_its_order():
    identity = nn.Identity()
    model = CrossEncoder("tiny", 2, 32, "cpu", {}, {}, {}, None, False, None, True, identity, 0.3)
    assert (model.num_labels, model.max_length, str(model.device)) == (2, 32, "cpu")
    assert model.default_activation_function is model.activation_fn is identity
    assert model.config.classifier_dropout == 0.3


def test_two_spellings_of_one_argument_warn_once():
    sigmoid = nn.Sigmoid()
    with pytest.warns(
        UserWarning, match="both activation_fn and its older spelling default_activation_function"
    ) as seen:
        model = CrossEncoder("tiny", default_activation_function=nn.Identity(), activation_fn=sigmoid, device="cpu")
    assert len(seen) == 1
    assert model.activation_fn is sigmoid


def test_the_public_class_is_the_kits_own():
    assert issubclass(CrossEncoder, crossenc_kit.models.cross_encoder.CrossEncoder)
    assert isinstance(tiny(), crossenc_kit.models.cross_encoder.CrossEncoder)


def test_predict_takes_the_keywords_of_both_generations(model):
    pairs = [["a", "b"], ["c d", "e"]]
    older = model.predict(pairs, 32, False, 0, nn.Identity(), False, True, False)
    later = model.predict(pairs, activation_fn=nn.Identity())
    assert np.array_equal(older, later)
    assert torch.is_tensor(model.predict(pairs, convert_to_tensor=True))
    three = fresh(3)
    assert three.predict(pairs, apply_softmax=True).sum(axis=1) == pytest.approx([1, 1], abs=1e-6)
