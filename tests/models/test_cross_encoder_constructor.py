"""`CrossEncoder`'s arguments, what a new head says of itself, and what truncation says."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from small_models import fitted, pairs_of_all_lengths, words

from crossenc_kit import CrossEncoder
from crossenc_kit.errors import TruncationWarning

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # nothing here may warn but where a test says so

PAIRS = pairs_of_all_lengths()[:8]  # none longer than 64 tokens


# --- the constructor ------------------------------------------------------------------------------


def test_a_bare_encoder_gets_one_label_and_its_own_longest_input():
    model = CrossEncoder("tiny")
    assert (model.num_labels, model.max_length, model.config.num_labels) == (1, 256, 1)
    assert isinstance(model.activation_fn, torch.nn.Sigmoid)
    assert isinstance(CrossEncoder("tiny", num_labels=3).activation_fn, torch.nn.Identity)
    parts = ["'tiny': BertForSequenceClassification", "0.1 M parameters", "num_labels=1", str(model.device)]
    assert repr(model) == f"CrossEncoder({', '.join(parts)})"


def test_places_and_names_of_arguments_are_those_of_sentence_transformers():
    model = CrossEncoder(
        "tiny",
        2,
        48,
        activation_fn=torch.nn.Tanh(),
        device="cpu",
        model_kwargs={"attn_implementation": "eager"},
        tokenizer_kwargs={"truncation_side": "left"},
        config_kwargs={"hidden_dropout_prob": 0.3},
        classifier_dropout=0.25,
    )
    assert (model.num_labels, model.max_length, str(model.device)) == (2, 48, "cpu")
    assert isinstance(model.activation_fn, torch.nn.Tanh)
    assert model.config._attn_implementation == "eager"
    assert model.tokenizer.truncation_side == "left"
    assert model.config.hidden_dropout_prob == 0.3
    assert model.model.dropout.p == 0.25


def test_older_spellings():
    tanh = torch.nn.Tanh()
    model = CrossEncoder(
        model_name="tiny",
        automodel_args={"attn_implementation": "eager"},
        tokenizer_args={"truncation_side": "left"},
        default_activation_function=tanh,
    )
    assert model.name == "tiny"
    assert model.config._attn_implementation == "eager"
    assert model.tokenizer.truncation_side == "left"
    assert model.activation_fn is tanh
    assert CrossEncoder("tiny", processor_kwargs={"truncation_side": "left"}).tokenizer.truncation_side == "left"


def test_both_spellings_warn_and_the_later_counts():
    message = "both activation_fn and its older spelling default_activation_function were given; activation_fn is used"
    with pytest.warns(UserWarning, match=message) as seen:
        model = CrossEncoder("tiny", activation_fn="Tanh", default_activation_function=torch.nn.ReLU())
    assert len(seen) == 1
    assert isinstance(model.activation_fn, torch.nn.Tanh)
    assert CrossEncoder("tiny", default_activation_function=None, activation_fn="sigmoid").num_labels == 1  # no warning


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model_name_or_path": "tiny", "lables": 3}, TypeError, "unexpected argument 'lables'"),
        ({}, TypeError, "needs a model: a folder, a hub name, 'minilm' or 'tiny'"),
        ({"model_name_or_path": "tiny", "num_labels": 0}, ValueError, "num_labels must be at least 1, got 0"),
        (
            {"model_name_or_path": "tiny", "max_length": 257},
            ValueError,
            "max_length=257, .* for only 256",
        ),
        ({"model_name_or_path": "tiny", "activation_fn": "no.such"}, ValueError, "not part of torch.nn"),
        ({"model_name_or_path": "tiny", "activation_fn": 3}, TypeError, "a function or the name of one, got 3"),
    ],
)
def test_arguments_without_a_meaning(arguments, error, message):
    with pytest.raises(error, match=message):
        CrossEncoder(**arguments)


def test_a_seed_gives_equal_heads_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    heads = [CrossEncoder("tiny", seed=seed).model.classifier.weight for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), before)
    for seed in (1, 1, 2):  # without a seed of its own, the global generator makes the head
        torch.manual_seed(seed)
        heads.append(CrossEncoder("tiny").model.classifier.weight)
    for one, same, other in (heads[:3], heads[3:]):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


# --- warnings -------------------------------------------------------------------------------------


def test_truncation_is_counted_and_reported():
    model = fitted(max_length=16)
    pairs = [(words(20, 0), "a dog"), ("the cat", "a dog"), (words(30, 1), words(30, 2))]
    with pytest.warns(TruncationWarning) as seen:
        scores = model.predict(pairs)
    message = r"2 of 3 pairs exceed max_length=16 tokens and were cut \(by 47 tokens at most\)"
    assert [bool(re.match(message, str(warning.message))) for warning in seen] == [True]
    assert seen[0].filename == __file__  # it points at the line that called `predict`
    assert model.truncated == 2
    longer = fitted(max_length=200)
    assert longer.predict(pairs)[1] == pytest.approx(scores[1], abs=1e-5)
    assert abs(longer.predict(pairs)[2] - scores[2]) > 1e-4
    assert longer.truncated == 0


def test_a_new_head_says_so_until_it_has_learnt(model):
    new = CrossEncoder("tiny", seed=0)
    assert new.untrained_head
    with pytest.warns(UserWarning, match="the head of 'tiny' is new and untrained") as seen:
        new.predict(PAIRS)
    assert seen[0].filename == __file__  # the line that asked for scores
    with torch.no_grad():  # a step of any loop
        new.model.classifier.weight -= 1e-6 * torch.ones(64)
    assert not new.untrained_head
    new.predict(PAIRS)
    assert not model.untrained_head
    again = CrossEncoder("tiny", seed=0)
    again.model.bfloat16()
    assert again.untrained_head  # in another precision


def test_a_new_head_is_compared_only_after_something_wrote_to_the_weights(monkeypatch):
    compared, equal = [], torch.equal  # weight and bias of the head are compared, until one differs
    monkeypatch.setattr(torch, "equal", lambda *given: compared.append(1) or equal(*given))
    new = CrossEncoder("tiny", seed=0)
    for _ in range(3):
        with pytest.warns(UserWarning, match="new and untrained"):
            new.predict(PAIRS)
    assert new.untrained_head
    assert compared == []
    with torch.no_grad():
        new.model.bert.pooler.dense.bias += 1  # not of the head
    assert (new.untrained_head, new.untrained_head, len(compared)) == (True, True, 2)
    new.model.load_state_dict(fitted().model.state_dict())
    assert (new.untrained_head, new.untrained_head, len(compared)) == (False, False, 3)


@pytest.mark.parametrize("fused", [True, False])
def test_a_new_head_notices_every_optimizer(fused):
    """torch counts no writes of the fused ones."""
    new = CrossEncoder("tiny", seed=0, device="cpu")
    optimizer = torch.optim.AdamW(new.model.parameters(), fused=fused)
    new.scores(new.tokenize(PAIRS), np.arange(len(PAIRS))).sum().backward()
    assert new.untrained_head
    new.scores(new.tokenize(PAIRS), np.arange(len(PAIRS))).sum().backward()
    optimizer.step()
    assert not new.untrained_head


def test_training_does_not_warn_of_the_new_head():
    from crossenc_kit import TrainingConfig, correlation_evaluator, train

    data = [(left, right, row % 2) for row, (left, right) in enumerate(PAIRS)]
    model = CrossEncoder("tiny", seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        config = TrainingConfig(epochs=2, batch_size=4, evaluation_steps=1, warmup_steps=0)
        train(model, data, "bce", config, correlation_evaluator(data))
        model.predict(PAIRS)


def test_a_head_that_was_put_in_by_hand_is_the_callers_own():
    model = CrossEncoder("tiny", num_labels=1, seed=0)
    assert model.untrained_head
    width = model.config.hidden_size
    model.model.classifier = torch.nn.Sequential(torch.nn.Linear(width, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    assert not model.untrained_head
    model.model.classifier = torch.nn.Linear(width, 2)
    assert not model.untrained_head


# --- shown ----------------------------------------------------------------------------------------


def test_a_notebook_shows_a_model_as_a_table_and_runs_nothing_of_it(model, monkeypatch):
    monkeypatch.setattr(model, "name", "<script>alert(1)</script>")
    monkeypatch.setattr(model.config, "id2label", {0: "<b>"})
    page = model._repr_html_()
    for part in (
        "BertForSequenceClassification, 0.1 M parameters",
        "256 tokens, truncation longest_first",
        "Sigmoid()",
    ):
        assert part in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<b>" not in page
