"""Models that the kit saved give equal scores in transformers and sentence-transformers, and keep their names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sentence_transformers as peer
import torch
from small_models import (
    BY_FAMILY,
    BY_LABELS,
    IDENTITY,
    IN_FULL,
    MAX_LENGTH,
    NAMES,
    NLI,
    PAIRS,
    SIGMOID,
    assert_equal,
    change,
    classifier,
    name_as_others_do,
    raw_scores,
    save_classifier,
    sigmoid,
    softmax,
    tokenizer,
)
from transformers import AutoTokenizer, pipeline

from crossenc_kit import CrossEncoder, DataError

pytestmark = pytest.mark.filterwarnings("ignore::crossenc_kit.errors.TruncationWarning")


# --- from the kit ---------------------------------------------------------------------------------


@BY_FAMILY
@BY_LABELS
def test_to_transformers(saved, family, num_labels):
    folder = saved(family, num_labels)
    ours = CrossEncoder(folder, device="cpu").predict(PAIRS, activation_fn="identity")
    assert_equal(ours.reshape(len(PAIRS), num_labels), raw_scores(folder))
    assert AutoTokenizer.from_pretrained(folder).model_max_length == MAX_LENGTH


@BY_FAMILY
@BY_LABELS
def test_to_a_pipeline_whose_labels_have_their_names(saved, family, num_labels):
    """By default a pipeline gives probabilities: sigmoid for one label, softmax for several."""
    folder = saved(family, num_labels)
    model, pipe = CrossEncoder(folder, device="cpu"), pipeline("text-classification", model=str(folder), device="cpu")
    inputs = [{"text": left, "text_pair": right} for left, right in IN_FULL]
    names = NAMES[num_labels] or ("LABEL_0",)
    raw = model.predict(IN_FULL, activation_fn="identity").reshape(len(IN_FULL), num_labels)
    for function, expected in (("none", raw), (None, softmax(raw) if num_labels > 1 else sigmoid(raw))):
        answers = pipe(inputs, top_k=None, function_to_apply=function, truncation=True)
        by_name = [{row["label"]: row["score"] for row in answer} for answer in answers]
        assert_equal(np.array([[scores[name] for name in names] for scores in by_name]), expected)


@BY_FAMILY
@BY_LABELS
def test_to_sentence_transformers(saved, family, num_labels):
    folder = saved(family, num_labels)
    ours, theirs = CrossEncoder(folder, device="cpu"), peer.CrossEncoder(str(folder), device="cpu")
    assert (theirs.num_labels, theirs.max_seq_length) == (num_labels, MAX_LENGTH)
    if num_labels > 1:
        assert tuple(theirs.config.id2label.values()) == NLI
    assert_equal(ours.predict(PAIRS), theirs.predict(PAIRS))


@pytest.mark.parametrize(
    ("num_labels", "activation", "kind"),
    [
        (1, None, torch.nn.Sigmoid),
        (3, None, torch.nn.Identity),
        (1, "identity", torch.nn.Identity),
        (3, "sigmoid", torch.nn.Sigmoid),
    ],
)
def test_an_activation_travels(saved, tmp_path, num_labels, activation, kind):
    """To sentence-transformers, and back from the folder that it saves."""
    ours = CrossEncoder(saved("bert", num_labels, activation), device="cpu")
    theirs = peer.CrossEncoder(str(saved("bert", num_labels, activation)), device="cpu")
    theirs.save_pretrained(str(tmp_path))
    back = CrossEncoder(tmp_path, device="cpu")
    assert {type(one.activation_fn) for one in (ours, theirs, back)} == {kind}
    assert_equal(ours.predict(PAIRS), theirs.predict(PAIRS))
    assert_equal(back.predict(PAIRS), theirs.predict(PAIRS))


@pytest.mark.parametrize(("activation", "path"), [(None, SIGMOID), ("identity", IDENTITY)])
def test_the_older_sentence_transformers_find_the_activation_where_they_look(saved, activation, path):
    """Those of 3.x in one key of the configuration, 4 and 5 in another."""
    config = json.loads((saved("bert", 1, activation) / "config.json").read_text())
    assert config["sbert_ce_default_activation_function"] == config["sentence_transformers"]["activation_fn"] == path


# --- label names ----------------------------------------------------------------------------------


def test_names_given_to_a_new_head_go_out_and_come_back(tmp_path):
    save_classifier(tmp_path / "encoder", "roberta")
    change(tmp_path / "encoder" / "config.json", architectures=["RobertaModel"])
    new = {"ignore_mismatched_sizes": True}
    model = CrossEncoder(tmp_path / "encoder", label_names=NLI, model_kwargs=new, device="cpu", seed=0)
    assert (model.num_labels, model.label_names) == (3, NLI)
    model.save_pretrained(tmp_path / "kit")
    theirs = peer.CrossEncoder(str(tmp_path / "kit"), device="cpu")
    assert theirs.config.label2id == {"contradiction": 0, "entailment": 1, "neutral": 2}
    theirs.save_pretrained(str(tmp_path / "theirs"))
    back = CrossEncoder(tmp_path / "theirs", device="cpu")
    assert back.label_names == NLI
    back.name_labels(NLI)  # what training does with the names that its data has
    with pytest.raises(DataError, match=r"with_label_names\(\['contradiction', 'entailment', 'neutral'\]\) puts the"):
        back.name_labels(("entailment", "neutral", "contradiction"))


def test_more_than_ten_names_keep_their_order(tmp_path):
    names = tuple(f"class {chr(ord('l') - index)}" for index in range(12))
    model = classifier("bert", 12)
    name_as_others_do(model.config, names)
    model.save_pretrained(tmp_path)
    tokenizer("wordpiece").save_pretrained(tmp_path)
    assert CrossEncoder(tmp_path).label_names == names
