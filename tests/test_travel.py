"""Models that travel: between this kit, transformers and sentence-transformers, old and new, with equal scores."""

from __future__ import annotations

import json
import shutil
from functools import cache

import numpy as np
import pytest
import sentence_transformers as peer
import torch
from families import FAMILIES, MERGES, SPECIAL, classifier, pairs_of_all_lengths, save_classifier, tokenizer, words
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline
from transformers.utils import logging

from crossenc_kit import CrossEncoder, DataError, calibrate, loading
from crossenc_kit.backbones import BackboneError, tiny_vocabulary
from crossenc_kit.temperature import last_layer

pytestmark = pytest.mark.filterwarnings("ignore::crossenc_kit.TruncationWarning")

TRAVELLERS = ["bert", "roberta", "xlm-roberta", "electra", "distilbert", "deberta-v2", "modernbert", "albert", "mpnet"]
BY_FAMILY = pytest.mark.parametrize("family", TRAVELLERS)
BY_LABELS = pytest.mark.parametrize("num_labels", [1, 3])
NLI = ("contradiction", "entailment", "neutral")
NAMES = {1: (), 3: NLI}
PAIRS = pairs_of_all_lengths()
MAX_LENGTH = 40  # tokens: some of the pairs are cut
IN_FULL = [pair for pair in PAIRS if pair[1]]  # a call with one pair takes an empty second text for none at all
SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
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


# --- to the kit -----------------------------------------------------------------------------------


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
    assert not (tmp_path / "theirs" / loading.ST_CONFIG).exists()
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


def on_the_hub(cache_folder, name, folder):
    """Put a folder into a cache as if it had been downloaded."""
    place = cache_folder / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))


def test_a_name_of_the_hub_is_read_as_a_folder_is(saved, tmp_path):
    theirs = peer.CrossEncoder(str(saved("bert", 3)), activation_fn=torch.nn.Sigmoid(), device="cpu")
    theirs.save_pretrained(str(tmp_path / "theirs"))
    on_the_hub(tmp_path / "cache", "somebody/nli", tmp_path / "theirs")
    ours = CrossEncoder("somebody/nli", cache_dir=str(tmp_path / "cache"), device="cpu")
    assert ours.label_names == NLI
    assert_equal(ours.predict(PAIRS), theirs.predict(PAIRS))


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


# --- calibration ----------------------------------------------------------------------------------


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
    with pytest.raises(DataError, match=r"row 1: the label is 0\.5, expected 0 to 1"):
        calibrate(model, [("a", "b", 1), ("a", "c", 0.5)])
    with pytest.raises(DataError, match="needs one class a pair as label"):
        calibrate(model, [("a", "b"), ("a", "c")])
    model.activation_fn = torch.nn.Tanh()
    with pytest.raises(ValueError, match="scores go through Tanh; a temperature is defined for Sigmoid"):
        calibrate(model, [("a", "b", 1), ("a", "c", 0)])
    model.model.classifier = torch.nn.Sequential(torch.nn.Conv1d(32, 1, 1))
    with pytest.raises(ValueError, match="head of BertForSequenceClassification does not end in a linear layer"):
        last_layer(model)


# --- published models -----------------------------------------------------------------------------

# Their configurations as the hub has them, with fewer and narrower layers and a smaller vocabulary.
BERT = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.02,
    "label2id": {"LABEL_0": 0},
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 300,
}
ELECTRA = BERT | {"architectures": ["ElectraForSequenceClassification"], "model_type": "electra"}
ELECTRA |= {"embedding_size": 48, "summary_activation": "gelu", "summary_last_dropout": 0.1, "summary_type": "first"}
ROBERTA = BERT | {"architectures": ["RobertaForSequenceClassification"], "model_type": "roberta", "pad_token_id": 1}
ROBERTA |= {"bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-05, "max_position_embeddings": 514}
ROBERTA |= {"type_vocab_size": 1, "transformers_version": "4.6.1"}
DEBERTA = BERT | {"architectures": ["DebertaV2ForSequenceClassification"], "model_type": "deberta-v2"}
DEBERTA |= {"layer_norm_eps": 1e-07, "max_relative_positions": -1, "norm_rel_ebd": "layer_norm", "pooler_dropout": 0}
DEBERTA |= {"pooler_hidden_act": "gelu", "pooler_hidden_size": 48, "pos_att_type": ["p2c", "c2p"]}
DEBERTA |= {"position_biased_input": False, "position_buckets": 256, "relative_attention": True, "type_vocab_size": 0}
DEBERTA |= {"share_att_key": True}
THREE = {"id2label": dict(zip("012", NLI, strict=True)), "label2id": {name: i for i, name in enumerate(NLI)}}
RAW = {"sbert_ce_default_activation_function": IDENTITY}


def sizes(hidden, layers, heads):
    return {
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


PUBLISHED = {  # name: configuration, activation
    "ms-marco-MiniLM-L6-v2": (BERT | sizes(48, 6, 12) | RAW, "Identity"),
    "ms-marco-TinyBERT-L2-v2": (BERT | sizes(16, 2, 2) | RAW, "Identity"),
    "ms-marco-electra-base": (ELECTRA | sizes(48, 4, 12), "Sigmoid"),
    "stsb-TinyBERT-L4": (BERT | sizes(24, 4, 12) | {"problem_type": "regression"}, "Sigmoid"),
    "qnli-distilroberta-base": (ROBERTA | sizes(48, 6, 12), "Sigmoid"),
    "quora-roberta-base": (ROBERTA | sizes(48, 4, 12), "Sigmoid"),
    "nli-deberta-v3-base": (DEBERTA | sizes(48, 3, 12) | THREE, "Identity"),
    "nli-MiniLM2-L6-H768": (ROBERTA | sizes(48, 6, 12) | THREE, "Identity"),
}


def save_published(folder, settings):
    """Weights, the configuration as it is written here, and the tokenizer's files as they were then."""
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**settings))
        for parameter in model.parameters():
            parameter.data += 0.15 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(settings))
    TOKENIZERS[settings["model_type"]](folder)
    change(folder / "tokenizer_config.json", model_max_length=512)
    return folder


def save_wordpieces(folder, kind="BertTokenizer"):
    (folder / "vocab.txt").write_text("\n".join(tiny_vocabulary()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "tokenizer_class": kind}))


def save_byte_pairs(folder):
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, MERGES)]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, MERGES)))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')


TOKENIZERS = {
    "bert": save_wordpieces,
    "electra": lambda folder: save_wordpieces(folder, "ElectraTokenizer"),
    "roberta": save_byte_pairs,
    "deberta-v2": tokenizer("wordpiece").save_pretrained,  # a tokenizer.json; there, sentencepiece's file is beside it
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models(tmp_path, name):
    settings, activation = PUBLISHED[name]
    folder = save_published(tmp_path / name, settings)
    model = CrossEncoder(folder, device="cpu")
    count = len(settings["id2label"])
    assert (model.num_labels, model.label_names) == (count, NAMES[count])
    assert type(model.activation_fn).__name__ == activation
    assert model.max_length == 512
    raw = raw_scores(folder)
    expected = (sigmoid(raw) if activation == "Sigmoid" else raw).reshape(len(PAIRS), -1)
    assert_equal(model.predict(PAIRS).reshape(len(PAIRS), -1), expected)
    assert_equal(model.predict(PAIRS), peer.CrossEncoder(str(folder), device="cpu").predict(PAIRS))


def test_a_configuration_that_only_counts_its_labels(tmp_path):
    settings = {name: value for name, value in PUBLISHED["nli-MiniLM2-L6-H768"][0].items() if "2" not in name}
    save_published(tmp_path / "model", settings | {"num_labels": 3})
    model = CrossEncoder(tmp_path / "model", device="cpu")
    assert (model.num_labels, model.label_names) == (3, ())
    assert_equal(model.predict(PAIRS), raw_scores(tmp_path / "model"))
