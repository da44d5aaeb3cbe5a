"""Layer matching: its losses by hand, what of which model it changes, and what cannot be matched."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import FAMILIES, fitted, save_classifier
from small_runs import sentences
from torch.nn import functional

from crossenc_kit import CrossEncoder, DataError, Pairs, TrainingConfig, make_student, match_layers
from crossenc_kit.distillation.layers import attention_kl, attention_mse, hidden_mse
from crossenc_kit.errors import TrainingError, TruncationWarning

CONFIG = TrainingConfig(epochs=1, batch_size=4, learning_rate=3e-3)
MAP = "layer_map must map the student's layers 0 to 1 to the teacher's 0 to 3; got"
TOKENS = "make different tokens of these pairs, and layers are compared token by token"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model of any family, its folder made once for each set of changes; the model anew."""
    folders = {}

    def model(family="bert", **changes):
        key = family, tuple(sorted(changes.items()))
        if key not in folders:
            folder = tmp_path_factory.mktemp("model")
            folders[key] = str(save_classifier(folder, family, **{"num_hidden_layers": 4, **changes}))
        return CrossEncoder(folders[key], device="cpu", max_length=40)

    return model


def weights(model):
    return {name: weight.clone() for name, weight in model.model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


# --- losses ---------------------------------------------------------------------------------------


class TestLosses:
    mask = torch.tensor([[True, True, True], [True, False, False]])

    def test_hidden_states_by_hand(self):
        student = torch.zeros(2, 3, 2)
        teacher = torch.tensor([[[1.0, 1.0], [0, 2], [0, 0]], [[3, 1], [9, 9], [9, 9]]])
        # the first pair's tokens: 1, 2, 0; the second pair has one, with (9 + 1) / 2
        assert hidden_mse(student, teacher, self.mask).item() == pytest.approx((1 + 5) / 2)

    def test_attention_by_hand(self):
        mask = torch.tensor([[True, True]])
        student = torch.tensor([[[[0.5, 0.5], [0.5, 0.5]]]])
        teacher = torch.tensor([[[[0.25, 0.75], [0.5, 0.5]]]])
        divergence = math.log(0.5) / 4 + 3 * math.log(1.5) / 4
        assert attention_kl(student, teacher, mask).item() == pytest.approx(divergence / 2)
        assert attention_mse(student, teacher, mask).item() == pytest.approx(2 * 0.0625 / 4)

    def test_the_divergence_is_that_of_torch(self):
        student, teacher = (torch.randn(2, 4, 5, 5).softmax(3) for _ in range(2))
        found = attention_kl(student, teacher, torch.ones(2, 5, dtype=torch.bool))
        expected = functional.kl_div(student.log(), teacher, reduction="sum") / (2 * 4 * 5)
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("loss", [hidden_mse, attention_kl, attention_mse])
    def test_padding_and_length_change_nothing(self, loss):
        shape = (1, 2, 2) if loss is hidden_mse else (1, 3, 2, 2)
        student, teacher = (torch.randn(shape).softmax(-1) for _ in range(2))
        alone = loss(student, teacher, torch.ones(1, 2, dtype=torch.bool))
        pad = (0, 0, 0, 3) if loss is hidden_mse else (0, 3, 0, 3)
        padded = [functional.pad(x, pad, value=float(at)) for at, x in enumerate((student, teacher), 7)]
        torch.testing.assert_close(loss(*padded, torch.arange(5)[None] < 2), alone)

    def test_a_probability_of_0_is_finite(self):
        student = torch.tensor([[[[0.0, 1.0]] * 2]], requires_grad=True)
        found = attention_kl(student, torch.tensor([[[[1.0, 0.0]] * 2]]), torch.ones(1, 2, dtype=torch.bool))
        found.backward()
        assert found.item() == pytest.approx(-math.log(1e-12), rel=1e-4)
        assert bool(student.grad.isfinite().all())


def test_exports_are_refused(tmp_path):
    fitted().save_pretrained(tmp_path)
    fast = CrossEncoder(tmp_path, backend="int8")
    for models, name in (((fitted(), fast), "teacher"), ((fast, fitted()), "student"), ((fast, fast), "student")):
        message = rf"the {name} is an export \(int8\), whose layers cannot be seen: take the float32 model"
        with pytest.raises(ValueError, match=message):
            match_layers(*models, sentences(4), config=CONFIG)


# --- the stage ------------------------------------------------------------------------------------


def one_by_one(student, teacher, pairs, layers, attention):
    """The mean loss of pairs that are run alone, unpadded, by transformers' own models and tokenizer."""
    losses = []
    for left, right in pairs.texts:
        found = []
        for model in (student, teacher):
            model.model.set_attn_implementation("eager")
            inputs = model.tokenizer(left, right, return_tensors="pt", truncation=True, max_length=40)
            with torch.no_grad():
                found.append(model.model(**inputs, output_hidden_states=True, output_attentions=True))
            model.model.set_attn_implementation("sdpa")
        own, taught = found
        mask = torch.ones(1, own.hidden_states[0].shape[1], dtype=torch.bool)
        for i, j in layers:
            hidden = functional.mse_loss(own.hidden_states[i + 1], taught.hidden_states[j + 1])
            losses.append(float(hidden) + 0.5 * float(attention(own.attentions[i], taught.attentions[j], mask)))
    return np.mean(losses)


@pytest.mark.parametrize(
    ("layer_map", "layers"), [(None, [(0, 1), (1, 3)]), ([0, 3], [(0, 0), (1, 3)]), ({1: 2}, [(1, 2)])]
)
@pytest.mark.parametrize(("attention", "function"), [("kl", attention_kl), ("mse", attention_mse)])
def test_the_first_loss_is_that_of_the_pairs_one_by_one(made, layer_map, layers, attention, function):
    teacher, pairs = made(), sentences(6)
    student = make_student(teacher, keep=[1, 2])
    expected = one_by_one(student, teacher, pairs, layers, function)
    config = TrainingConfig(batch_size=6, token_budget=40)
    options = {"hidden_weight": 1.0, "attention_weight": 0.5, "attention": attention}
    (row,) = match_layers(student, teacher, pairs, layer_map, config, **options)
    assert row["loss"] == pytest.approx(expected, rel=1e-4)
    assert row["loss"] == pytest.approx(row["hidden"] + 0.5 * row["attention"])
    assert (row["step"], row["epoch"], row["pairs"]) == (1, 1.0, 6)
    assert row["tokens"] == student.tokenize(pairs).lengths.sum()


@pytest.mark.filterwarnings("ignore:.* exceed 40 tokens")
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in ("electra, narrow", "albert")])
def test_the_student_learns_its_layers_and_nothing_else_changes(made, family):
    teacher = made(family)
    student = make_student(teacher, keep=[0, 3])
    student.model.train()
    before, own, kind = weights(teacher), weights(student), teacher.config._attn_implementation
    rows = []
    history = match_layers(
        student, teacher, sentences(8), [1, 3], replace(CONFIG, epochs=6, batch_size=8), on_row=rows.append
    )
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert history[-1]["attention"] < history[0]["attention"]
    assert history[-1]["hidden"] < history[0]["hidden"]
    assert rows == list(history)
    assert same(before, weights(teacher))
    assert all(parameter.grad is None for parameter in [*teacher.model.parameters(), *student.model.parameters()])
    assert (student.model.training, teacher.model.training) == (True, False)
    assert (teacher.config._attn_implementation, student.config._attn_implementation) == (kind, kind)
    found = weights(student)
    head = {name for name in own if not name.startswith(student.model.base_model_prefix) or ".pooler." in name}
    assert len(head) >= 1
    assert head <= {name for name in own if torch.equal(own[name], found[name])}
    layers = [name for name in own if name.endswith("weight") and name not in head and own[name].dim() > 1]
    assert not any(torch.equal(own[name], found[name]) for name in layers)


def test_a_student_with_all_layers_has_nothing_to_learn(made):
    teacher = made()
    history = match_layers(make_student(teacher, 4), teacher, sentences(8), config=CONFIG)
    assert history[0]["loss"] < 1e-10


def test_a_run_is_a_function_of_its_seed(made):
    teacher = made()

    def run(**changes):
        student = make_student(teacher, 2)
        torch.manual_seed(np.random.default_rng().integers(1000))  # of no effect
        history = match_layers(student, teacher, sentences(10), config=replace(CONFIG, **changes))
        return weights(student), history.column("loss")[1]

    first, losses = run()
    assert same(first, run()[0])
    assert not same(first, run(seed=1)[0])
    for changes in ({"token_budget": 30}, {"batch_size": 2, "accumulation": 2}):  # the same steps, cut otherwise
        assert run(**changes)[1] == pytest.approx(losses, rel=1e-4)
    assert run(precision="bf16")[1] == pytest.approx(losses, rel=0.05)
    assert len(run(max_steps=2)[1]) == 2 < len(losses)


def test_models_of_other_widths_are_compared_through_a_linear_map(made):
    teacher, student = made(), made(hidden_size=16, num_hidden_layers=2)
    history = match_layers(student, teacher, sentences(8), config=replace(CONFIG, epochs=5, batch_size=8))
    assert history[-1]["hidden"] < history[0]["hidden"]
    assert sorted(weights(student)) == sorted(weights(made(hidden_size=16, num_hidden_layers=2)))  # the map is gone
    again = made(hidden_size=16, num_hidden_layers=2)
    match_layers(again, teacher, sentences(8), config=replace(CONFIG, epochs=5, batch_size=8))
    assert same(weights(student), weights(again))


def test_a_model_without_segments_learns_from_one_with_them(made):
    teacher, student = made(), made("distilbert", num_hidden_layers=2)
    history = match_layers(student, teacher, sentences(8), config=replace(CONFIG, epochs=5, batch_size=8))
    assert history[-1]["loss"] < history[0]["loss"]


def test_one_of_the_two_errors_alone(made):
    teacher, other = made(), made(num_attention_heads=2, num_hidden_layers=2)
    history = match_layers(other, teacher, sentences(4), config=CONFIG, attention_weight=0)
    assert history[0]["attention"] == 0
    assert history[0]["loss"] == history[0]["hidden"] > 0
    history = match_layers(make_student(teacher, 2), teacher, sentences(4), config=CONFIG, hidden_weight=0)
    assert history[0]["hidden"] == 0
    assert history[0]["loss"] == history[0]["attention"] > 0


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_map": [0, 4]}, MAP),
        ({"layer_map": [0, -1]}, MAP),
        ({"layer_map": {2: 3}}, MAP),
        ({"layer_map": [0, 1, 2]}, "layer_map has 3 layers for a student of 2; use a dict for some of them"),
        ({"layer_map": {}}, MAP),
        ({"attention": "cosine"}, "unknown attention='cosine'; choose from kl, mse"),
        ({"hidden_weight": -1}, r"are 0 or more, not both 0; got \(-1, 1.0\)"),
        ({"attention_weight": math.inf}, r"are 0 or more, not both 0; got \(1.0, inf\)"),
        ({"hidden_weight": 0, "attention_weight": 0}, "are 0 or more, not both 0"),
        ({"config": replace(CONFIG, patience=2)}, "match_layers does not use patience; leave it at its default"),
        ({"config": replace(CONFIG, output_dir="x", save_steps=1)}, "does not use save_steps, output_dir"),
        ({"config": replace(CONFIG, dropout=0.1)}, "match_layers does not use dropout"),
        ({"config": replace(CONFIG, precision="fp16")}, "match_layers trains in fp32 or bf16, not in fp16"),
        ({"config": replace(CONFIG, epochs=0)}, "epochs must be a whole number, 1 or more, got 0"),
        ({"pairs": Pairs([], [])}, "there is nothing to match layers on: no pairs"),
    ],
)
def test_what_is_asked_for_is_checked(made, arguments, message):
    teacher = made()
    student = make_student(teacher, 2)
    before = weights(student)
    given = {"pairs": sentences(4), "config": CONFIG, **arguments}
    error = DataError if "pairs" in arguments else ValueError
    with pytest.raises(error, match=message):
        match_layers(student, teacher, **given)
    assert same(before, weights(student))


def test_models_that_cannot_be_compared(made):
    teacher, pairs = made(), sentences(4)
    with pytest.raises(ValueError, match="student and teacher are the same model; make_student cuts one"):
        match_layers(teacher, teacher, pairs)
    with pytest.raises(ValueError, match="the student has 4 layers and its teacher 2: give a layer_map"):
        match_layers(teacher, make_student(teacher, 2), pairs)
    with pytest.raises(ValueError, match="the student has 2 attention heads and the teacher 4: set attention_weight=0"):
        match_layers(made(num_attention_heads=2), teacher, pairs)
    with pytest.raises(ValueError, match=TOKENS):
        match_layers(made("roberta"), teacher, pairs)
    other = make_student(teacher, 2)
    other.tokenizer.backend_tokenizer.normalizer = None  # keeps capital letters, which are not in the vocabulary
    with pytest.raises(ValueError, match=TOKENS):
        match_layers(other, teacher, pairs)


def test_pairs_that_are_cut_are_counted(made):
    teacher = made()
    student = make_student(teacher, 2)
    student.max_length = 8
    with pytest.warns(TruncationWarning, match=r"^\d of 6 pairs exceed 8 tokens and were cut") as caught:
        match_layers(student, teacher, sentences(6), config=CONFIG)
    assert caught[0].filename == __file__


def test_a_loss_that_is_not_finite_stops_at_once(made):
    teacher = made()
    student = make_student(teacher, 2)
    teacher.model.bert.encoder.layer[3].output.dense.bias.data[0] = math.nan
    before = weights(student)
    with pytest.raises(
        TrainingError, match=r"step 0: the loss is nan .*\(rows 0, 1, 2, 3\); the weights are those before"
    ):
        match_layers(student, teacher, sentences(4), config=CONFIG)
    assert same(before, weights(student))
    assert student.config._attn_implementation == teacher.config._attn_implementation == "sdpa"
