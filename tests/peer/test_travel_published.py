"""Models as they are published, with their configurations and tokenizer files, give equal scores."""

from __future__ import annotations

import json

import pytest
import sentence_transformers as peer
import torch
from small_models import (
    IDENTITY,
    MERGES,
    NAMES,
    NLI,
    PAIRS,
    SPECIAL,
    assert_equal,
    change,
    raw_scores,
    sigmoid,
    tokenizer,
)
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForSequenceClassification

from crossenc_kit import CrossEncoder
from crossenc_kit.models.backbones import tiny_vocabulary

pytestmark = pytest.mark.filterwarnings("ignore::crossenc_kit.errors.TruncationWarning")


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
