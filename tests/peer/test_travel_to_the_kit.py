"""Models of transformers and sentence-transformers, old and new, give equal scores in the kit."""

from __future__ import annotations

import json

import pytest
import sentence_transformers as peer
import torch
from small_models import (
    BY_FAMILY,
    BY_LABELS,
    FAMILIES,
    IDENTITY,
    MAX_LENGTH,
    NAMES,
    NLI,
    PAIRS,
    SIGMOID,
    assert_equal,
    classifier,
    name_as_others_do,
    on_the_hub,
    raw_scores,
    save_classifier,
    sigmoid,
    tokenizer,
)

from crossenc_kit import CrossEncoder
from crossenc_kit.errors import BackboneError
from crossenc_kit.models import settings as models_settings

pytestmark = pytest.mark.filterwarnings("ignore::crossenc_kit.errors.TruncationWarning")


@BY_FAMILY
@BY_LABELS
def test_from_sentence_transformers(tmp_path, family, num_labels):
    """A model that the kit has never seen, with an activation that is not the usual one."""
    save_classifier(tmp_path / "plain", family, num_labels)
    unusual = torch.nn.Identity() if num_labels == 1 else torch.nn.Sigmoid()
    theirs = peer.CrossEncoder(str(tmp_path / "plain"), activation_fn=unusual, max_length=MAX_LENGTH, device="cpu")
    name_as_others_do(theirs.config, NAMES[num_labels])
    theirs.save_pretrained(str(tmp_path / "theirs"))
    assert (tmp_path / "theirs" / "modules.json").is_file()
    assert "sentence_transformers" not in json.loads((tmp_path / "theirs" / "config.json").read_text())
    ours = CrossEncoder(tmp_path / "theirs", device="cpu")
    assert type(ours.activation_fn) is type(unusual)
    assert (ours.num_labels, ours.max_length, ours.label_names) == (num_labels, MAX_LENGTH, NAMES[num_labels])
    assert_equal(ours.predict(PAIRS), theirs.predict(PAIRS))


def save_as_version_3(folder, family, num_labels, path):
    """Its `save` was that of transformers; an activation that had been given stood in one key of the configuration."""
    model = classifier(family, num_labels)
    name_as_others_do(model.config, NAMES[num_labels])
    if path:
        model.config.sbert_ce_default_activation_function = path
    model.save_pretrained(folder)
    tokenizer(FAMILIES[family][0]).save_pretrained(folder)


def assert_as_version_3(folder, num_labels, path):
    ours, raw = CrossEncoder(folder, max_length=MAX_LENGTH, device="cpu"), raw_scores(folder, MAX_LENGTH)
    expected = sigmoid(raw) if path == SIGMOID or (path is None and num_labels == 1) else raw
    assert ours.label_names == NAMES[num_labels]
    assert_equal(ours.predict(PAIRS), expected[:, 0] if num_labels == 1 else expected)


@BY_FAMILY
@BY_LABELS
def test_from_sentence_transformers_3(tmp_path, family, num_labels):
    save_as_version_3(tmp_path, family, num_labels, IDENTITY)
    assert_as_version_3(tmp_path, num_labels, IDENTITY)


@BY_LABELS
@pytest.mark.parametrize("path", [None, SIGMOID])
def test_activations_of_sentence_transformers_3(tmp_path, num_labels, path):
    save_as_version_3(tmp_path, "bert", num_labels, path)
    assert_as_version_3(tmp_path, num_labels, path)


def test_an_activation_that_sentence_transformers_changed(saved, tmp_path):
    """It writes the new one into its own file and leaves ours, now wrong, in the configuration."""
    theirs = peer.CrossEncoder(str(saved("bert", 1)), activation_fn=torch.nn.Identity(), device="cpu")
    theirs.save_pretrained(str(tmp_path / "theirs"))
    stale = json.loads((tmp_path / "theirs" / "config.json").read_text())["sentence_transformers"]
    assert stale["activation_fn"] == SIGMOID
    ours = CrossEncoder(tmp_path / "theirs", device="cpu")
    assert_equal(ours.predict(PAIRS), theirs.predict(PAIRS))
    ours.save_pretrained(tmp_path / "theirs")  # and all of it is ours again
    assert not (tmp_path / "theirs" / models_settings.ST_CONFIG).exists()
    assert_equal(CrossEncoder(tmp_path / "theirs", device="cpu").predict(PAIRS), theirs.predict(PAIRS))


def test_a_pipeline_of_modules_is_refused(tmp_path):
    """A CrossEncoder of sentence-transformers whose scores come from an encoder, a pooling and a dense layer."""
    from sentence_transformers.cross_encoder.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    save_classifier(tmp_path / "plain", "bert")
    encoder = Transformer(str(tmp_path / "plain"), transformer_task="feature-extraction")
    dense = Dense(32, 1, module_input_name="sentence_embedding", module_output_name="scores")
    theirs = peer.CrossEncoder(modules=[encoder, Pooling(32), dense], device="cpu")
    theirs.save_pretrained(str(tmp_path / "theirs"))
    with pytest.raises(BackboneError, match=r"theirs' is a pipeline \(Transformer, Pooling, Dense\) of sentence-trans"):
        CrossEncoder(tmp_path / "theirs")


def test_an_embedding_model_is_an_encoder_like_any_other(tmp_path):
    save_classifier(tmp_path / "plain", "bert")
    peer.SentenceTransformer(str(tmp_path / "plain"), device="cpu").save_pretrained(str(tmp_path / "theirs"))
    assert len(json.loads((tmp_path / "theirs" / "modules.json").read_text())) > 1
    model = CrossEncoder(tmp_path / "theirs", seed=0)
    assert model.untrained_head
    assert isinstance(model.activation_fn, torch.nn.Sigmoid)


def test_a_name_of_the_hub_is_read_as_a_folder_is(saved, tmp_path):
    theirs = peer.CrossEncoder(str(saved("bert", 3)), activation_fn=torch.nn.Sigmoid(), device="cpu")
    theirs.save_pretrained(str(tmp_path / "theirs"))
    on_the_hub(tmp_path / "cache", "somebody/nli", tmp_path / "theirs")
    ours = CrossEncoder("somebody/nli", cache_dir=str(tmp_path / "cache"), device="cpu")
    assert ours.label_names == NLI
    assert_equal(ours.predict(PAIRS), theirs.predict(PAIRS))


@pytest.mark.parametrize(("names", "expected"), [(NLI, 3), (("no", "yes"), 2), ((), 1)])
def test_a_configuration_that_names_no_architecture(tmp_path, names, expected):
    """As old ones do: classes, or a number of them, show that there is a head; without them it is a bare encoder."""
    model = classifier("bert", expected)
    model.save_pretrained(tmp_path)
    tokenizer("wordpiece").save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings = {name: value for name, value in settings.items() if name not in ("architectures", "id2label")}
    classes = {"id2label": dict(enumerate(names)), "label2id": {}} if names else {}
    (tmp_path / "config.json").write_text(json.dumps(settings | classes))
    assert CrossEncoder(tmp_path, device="cpu").num_labels == expected
