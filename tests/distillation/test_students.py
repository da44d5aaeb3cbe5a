"""Students: which layers they keep, that all else is the teacher's and none of its memory, and that they travel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import FAMILIES, classifier, fitted, pairs_of_all_lengths, save_classifier, tokenizer
from small_runs import sentences
from torch import nn
from transformers import AutoModelForSequenceClassification

from crossenc_kit import CrossEncoder, TrainingConfig, make_student, train
from crossenc_kit.distillation.students import spread

pytestmark = pytest.mark.filterwarnings("ignore:.* pairs exceed max_length")

SHARED = ["albert"]  # one set of weights for all layers
PAIRS = pairs_of_all_lengths()[:6]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """A model of five layers of any family, made once."""
    made = {}

    def teacher(family="bert"):
        if family not in made:
            folder = save_classifier(tmp_path_factory.mktemp("teacher") / "model", family, num_hidden_layers=5)
            made[family] = CrossEncoder(str(folder), device="cpu", max_length=40)
        return made[family]

    return teacher


def raw(model, pairs=PAIRS):
    return model.predict(pairs, activation_fn="identity", threads=1)


# --- which layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "count", "keep", "expected"),
    [
        (3, 6, "even", [1, 3, 5]),
        (3, 12, "even", [3, 7, 11]),
        (4, 12, "even", [2, 5, 8, 11]),  # TinyBERT's map: its layer m learns from layer 3 m, counted from 1
        (6, 12, "even", [1, 3, 5, 7, 9, 11]),
        (2, 5, "even", [2, 4]),
        (4, 5, "even", [1, 2, 3, 4]),
        (1, 6, "even", [5]),
        (2, 6, "first", [0, 1]),
        (2, 6, "last", [4, 5]),
    ],
)
def test_the_layers_of_each_rule(wanted, count, keep, expected):
    assert spread(wanted, count, keep) == expected


@given(st.integers(1, 48).flatmap(lambda count: st.tuples(st.integers(1, count), st.just(count))))
def test_even_layers_are_in_order_end_with_the_last_and_leave_equal_gaps(numbers):
    wanted, count = numbers
    kept = spread(wanted, count)
    gaps = np.diff([-1, *kept])
    assert len(kept) == wanted
    assert kept[-1] == count - 1
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


def test_every_weight_is_a_copy_of_the_teachers(teachers):
    teacher = teachers()
    before = {name: weight.clone() for name, weight in teacher.model.state_dict().items()}
    student = make_student(teacher, keep=[1, 2, 4])
    own = student.model.state_dict()
    assert student.config.num_hidden_layers == len(student.model.bert.encoder.layer) == 3
    for name, weight in own.items():
        for at, number in enumerate((1, 2, 4)):
            if f"encoder.layer.{at}." in name:
                name = name.replace(f"layer.{at}.", f"layer.{number}.")
                break
        assert torch.equal(weight, before[name]), name
    storages = {weight.untyped_storage().data_ptr() for weight in teacher.model.state_dict().values()}
    assert not storages & {weight.untyped_storage().data_ptr() for weight in own.values()}
    for parameter in student.model.parameters():
        parameter.data.zero_()
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.model.state_dict().items())
    assert teacher.config.num_hidden_layers == len(teacher.model.bert.encoder.layer) == 5


def test_three_layers_evenly_spaced_are_the_default(teachers):
    teacher = teachers()
    assert make_student(teacher).name == f"layers 1, 3, 4 of {teacher.name}"
    assert np.array_equal(raw(make_student(teacher)), raw(make_student(teacher, 3, [1, 3, 4])))
    assert np.array_equal(raw(make_student(teacher, 2, "last")), raw(make_student(teacher, keep=(3, 4))))
    assert np.array_equal(raw(make_student(teacher, 2, "first")), raw(make_student(teacher, keep=range(2))))


# --- scores ---------------------------------------------------------------------------------------


def test_scores_are_those_of_the_model_with_its_other_layers_taken_out(teachers):
    expected = classifier("bert", num_hidden_layers=5)
    expected.bert.encoder.layer = nn.ModuleList([expected.bert.encoder.layer[number] for number in (0, 3)])
    inputs = {"truncation": True, "max_length": 40, "return_tensors": "pt"}
    known = tokenizer("wordpiece")
    scores = [expected(**known([left], [right], **inputs)).logits.item() for left, right in PAIRS]
    assert raw(make_student(teachers(), keep=[0, 3])) == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in SHARED])
def test_any_family_with_all_layers_and_with_some_saved_and_loaded(teachers, tmp_path, family):
    teacher = teachers(family)
    assert np.array_equal(raw(make_student(teacher, 5)), raw(teacher))
    student = make_student(teacher, keep=[0, 2, 4])
    scores = raw(student)
    assert np.abs(scores - raw(teacher)).max() > 1e-2
    student.save_pretrained(tmp_path)
    assert np.array_equal(raw(CrossEncoder(str(tmp_path), device="cpu")), scores)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).state_dict()
    own = student.model.state_dict()
    assert plain.keys() == own.keys()
    assert all(torch.equal(plain[name], own[name]) for name in own)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "distilbert", "mpnet"])
def test_sentence_transformers_gives_the_same_scores(teachers, tmp_path, family):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    student = make_student(teachers(family), 2)
    student.save_pretrained(tmp_path)
    theirs = sentence_transformers.CrossEncoder(str(tmp_path), device="cpu")
    assert np.abs(theirs.predict(PAIRS) - student.predict(PAIRS)).max() < 1e-5


@settings(max_examples=8)
@given(st.sets(st.integers(0, 4), min_size=1))
def test_a_student_of_a_student_is_a_student(teachers, kept):
    kept = sorted(kept)
    student = make_student(teachers(), keep=kept)
    again = make_student(student, len(kept), "last")
    last = make_student(student, 1, "last")
    assert np.array_equal(raw(again, PAIRS[:2]), raw(student, PAIRS[:2]))
    assert np.array_equal(raw(last, PAIRS[:2]), raw(make_student(teachers(), keep=kept[-1:]), PAIRS[:2]))


# --- settings -------------------------------------------------------------------------------------


def test_settings_are_the_teachers(tmp_path):
    options = {"label_names": ["no", "maybe", "yes"], "truncation": "only_second", "max_length": 20}
    teacher = fitted(3, activation_fn=nn.Softmax(dim=1), **options)
    student = make_student(teacher, 1)
    assert type(student) is type(teacher)
    assert (student.max_length, student.truncation, student.label_names) == (20, "only_second", ("no", "maybe", "yes"))
    assert isinstance(student.activation_fn, nn.Softmax)
    assert student.activation_fn is not teacher.activation_fn
    assert student.tokenizer.get_vocab() == teacher.tokenizer.get_vocab()
    assert student.tokenizer is not teacher.tokenizer
    assert student.config is not teacher.config
    assert not student.untrained_head
    assert not student.model.training
    student.activation_fn = nn.Identity()
    student.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Base model: tiny, of its encoder the layers 1 (the lowest is 0). Longest input: 20 tokens." in card
    loaded = CrossEncoder(str(tmp_path), device="cpu")
    assert (loaded.max_length, loaded.truncation, loaded.label_names) == (20, "only_second", ("no", "maybe", "yes"))


def test_a_head_that_is_untrained_stays_so_and_a_trained_one_too():
    teacher = CrossEncoder("tiny", 1, seed=0, device="cpu")
    assert make_student(teacher, 1).untrained_head
    train(teacher, sentences(6), config=TrainingConfig(batch_size=6, learning_rate=1e-3, warmup_steps=0))
    student = make_student(teacher, 1)
    assert not teacher.untrained_head
    assert not student.untrained_head
    result = train(student, sentences(6), "mse", TrainingConfig(epochs=10, batch_size=6, learning_rate=3e-3))
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_the_type_of_the_weights_and_the_random_numbers_stay():
    teacher = fitted()
    teacher.model.bfloat16()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    student = make_student(teacher, 1)
    assert torch.equal(torch.rand(1), expected)
    assert {weight.dtype for weight in student.model.parameters()} == {torch.bfloat16}


def test_another_number_of_scores_has_a_new_head(tmp_path):
    teacher = fitted(3, label_names=["no", "maybe", "yes"])
    same = make_student(teacher, 1, num_labels=3)
    assert same.label_names == teacher.label_names
    assert not same.untrained_head
    student = make_student(teacher, 1, num_labels=1, seed=1)
    assert (student.num_labels, student.label_names) == (1, ())
    assert isinstance(student.activation_fn, nn.Sigmoid)
    assert student.untrained_head
    assert "label_names" not in student.card
    assert sorted(student.new_head) == ["classifier.bias", "classifier.weight"]
    pooler = "bert.pooler.dense.weight"
    assert torch.equal(student.model.state_dict()[pooler], teacher.model.state_dict()[pooler])
    weights = [make_student(teacher, 1, num_labels=1, seed=seed).model.classifier.weight for seed in (1, 2)]
    assert torch.equal(weights[0], student.model.classifier.weight)
    assert not torch.equal(*weights)
    assert (teacher.num_labels, teacher.label_names) == (3, ("no", "maybe", "yes"))
    with pytest.warns(UserWarning, match="is new and untrained"):
        expected = student.predict(PAIRS)
    student.save_pretrained(tmp_path)
    assert np.array_equal(CrossEncoder(str(tmp_path), device="cpu").predict(PAIRS), expected)


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 6}, "a student of 6 layers cannot be cut from .*, which has 5$"),
        ({"layers": 0}, "a student of 0 layers cannot be cut from .*, which has 5$"),
        ({"keep": "middle"}, "unknown keep='middle'; choose from even, first, last, or give the layers' numbers"),
        *(
            ({"keep": numbers}, r"keep must name some of the layers 0 to 4, each once, from the lowest up; got \[")
            for numbers in ([], [0, 5], [-1], [0, "2"], [3, 1], [1, 1])
        ),
        ({"keep": [1, 2], "layers": 3}, "keep names 2 layers and layers=3; leave one of them out"),
        ({"num_labels": 0}, "num_labels must be a whole number, 1 or more, got 0"),
    ],
    ids=str,
)
def test_what_is_asked_for_is_checked(teachers, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_student(teachers(), **arguments)


def test_layers_that_share_their_weights_cannot_be_chosen_from(teachers):
    message = "AlbertForSequenceClassification runs one set of weights 5 times"
    with pytest.raises(ValueError, match=message):
        make_student(teachers("albert"), 2)


def test_a_first_layer_of_a_kind_of_its_own_stays(teachers):
    teacher = teachers("modernbert")  # of five layers
    assert make_student(teacher).card["layers"] == [0, 2, 4]
    assert make_student(teacher, 1).card["layers"] == [0]
    message = (
        r"layers 2, 3, 4 cannot stand in the places 0 to 2: .*layers\.0\.attn_norm\.weight is in only one of the two"
    )
    with pytest.raises(ValueError, match=message):
        make_student(teacher, keep="last")
    student = make_student(teacher, keep=[0, 3, 4])
    assert student.config.num_hidden_layers == 3


def test_an_adapter_is_merged_first():
    peft = pytest.importorskip("peft")
    teacher = fitted()
    lora = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2)
    teacher.model = peft.get_peft_model(teacher.model, lora)
    with pytest.raises(ValueError, match=r"'tiny' has an adapter: .*merge_adapters\(model\)"):
        make_student(teacher, 1)


def test_an_export_is_not_cut(tmp_path):
    fitted().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is an export \(int8\), whose layers cannot be cut: cut the float32 model"):
        make_student(CrossEncoder(tmp_path, backend="int8"), 1)


def test_a_model_without_a_list_of_layers():
    teacher = fitted()
    teacher.model.bert.encoder.layer = nn.Sequential(*teacher.model.bert.encoder.layer)
    with pytest.raises(ValueError, match="BertForSequenceClassification has no list of its 2 layers"):
        make_student(teacher, 1)
