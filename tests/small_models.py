"""Small models of every family: plain, saved, adapted, and their scores by transformers alone."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from crossenc_kit import CrossEncoder
from crossenc_kit.evaluation.calibration import last_layer
from crossenc_kit.models.backbones import tiny_folder, tiny_vocabulary
from crossenc_kit.models.packed import Padding, padding_of
from crossenc_kit.models.tokens import Tokens, tokenize

MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("in", "g"), ("Ġ", "a"), ("r", "e")]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]  # as RoBERTa's: the padding token's id is 1
ROBERTA_LIKE = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
ROBERTA_LIKE |= {"pad_token": "<pad>", "unk_token": "<unk>", "model_input_names": ["input_ids", "attention_mask"]}

# The tokenizer of each family; ELECTRA also with embeddings narrower than its layers.
FAMILIES = {
    "bert": ("wordpiece", {}),
    "roberta": ("bytes", {"type_vocab_size": 1}),
    "xlm-roberta": ("unigram", {"type_vocab_size": 1}),
    "electra": ("wordpiece", {"embedding_size": 32}),
    "electra, narrow": ("wordpiece", {"embedding_size": 16}),
    "distilbert": ("no segments", {}),
    "deberta": ("wordpiece", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 2}),
    "deberta-v2": (
        "wordpiece",
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    ),
    "modernbert": ("no segments", {"local_attention": 8, "global_attn_every_n_layers": 2}),
    "albert": ("wordpiece", {"embedding_size": 16}),
    "mpnet": ("bytes", {}),
    # absolute positions, reads the last token that is not padding
    "gpt2": ("left", {}),
    # relative positions, reads the last position
    "xlnet": ("left, segments", {"summary_type": "last", "d_inner": 48, "d_head": 8, "max_position_embeddings": None}),
}
PACKED = ["bert", "roberta", "xlm-roberta", "electra", "electra, narrow", "distilbert"]
DROPOUTS = ["attention_probs_dropout_prob", "hidden_dropout_prob", "attention_dropout", "dropout", "embd_pdrop"]
DROPOUTS += ["attn_pdrop", "resid_pdrop", "embedding_dropout", "mlp_dropout", "classifier_dropout"]
DROPOUTS += ["seq_classif_dropout", "classifier_dropout_prob", "pooler_dropout", "summary_first_dropout"]


@cache
def tokenizer(kind: str) -> Any:
    """`wordpiece` (as BERT's, with and without segment ids, padding on the left), `bytes` or `unigram`."""
    if kind == "bytes":
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        pieces = [*SPECIAL, *letters, *("".join(pair) for pair in MERGES)]
        made = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, MERGES))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
        return PreTrainedTokenizerFast(tokenizer_object=made, **ROBERTA_LIKE)
    if kind == "unigram":
        made = Tokenizer(models.Unigram(unigram_pieces(), unk_id=3))
        made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        pair = "<s> $A </s> </s> $B </s>"
        made.post_processor = processors.TemplateProcessing("<s> $A </s>", pair, [("<s>", 0), ("</s>", 2)])
        return PreTrainedTokenizerFast(tokenizer_object=made, **ROBERTA_LIKE)
    wordpiece = AutoTokenizer.from_pretrained(tiny_folder())
    wordpiece.padding_side = "left" if kind.startswith("left") else "right"
    if kind in ("no segments", "left"):
        wordpiece.model_input_names = ["input_ids", "attention_mask"]
    return wordpiece


def unigram_pieces() -> list[tuple[str, float]]:
    words = [word for word in tiny_vocabulary() if word.isalpha()]
    pieces = [f"▁{word}" for word in words] + ["▁", *(word for word in words if len(word) == 1), "é", "ing", "er"]
    return [(piece, 0.0) for piece in SPECIAL] + [(piece, -float(i % 7 + 1)) for i, piece in enumerate(pieces)]


def classifier(family: str, num_labels: int = 1, dropout: float = 0.0, seed: int = 0, **changes: Any) -> Any:
    """A sequence classifier of two layers, H = 32, in eval mode; weights wide enough to tell pairs apart."""
    kind, own = FAMILIES[family]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    settings = {"vocab_size": 300, "max_position_embeddings": 70, **sizes, "num_labels": num_labels}
    settings |= {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    settings |= {"pad_token_id": tokenizer(kind).pad_token_id, **dict.fromkeys(DROPOUTS, dropout), **own, **changes}
    known = {name: value for name, value in settings.items() if value is not None}
    config = AutoConfig.for_model(family.partition(",")[0], **known)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config)
        for parameter in model.parameters():  # biases and norms too, so that none is without effect
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def save_classifier(folder: Path, family: str, num_labels: int = 1, **changes: Any) -> Path:
    """A classifier's folder as transformers writes it: weights, configuration, tokenizer; nothing of ours."""
    classifier(family, num_labels, **changes).save_pretrained(folder)
    tokenizer(FAMILIES[family][0]).save_pretrained(folder)
    return folder


def tokens_of(family: str, pairs: list[tuple[str, str]], max_length: int = 64) -> Tokens:
    return tokenize(tokenizer(FAMILIES[family][0]), pairs, max_length)


def padding(model: Any, family: str) -> Padding:
    return padding_of(model, tokenizer(FAMILIES[family][0]))


def plain_scores(model: Any, family: str, pairs: list[tuple[str, str]], max_length: int = 64) -> torch.Tensor:
    """What Hugging Face's own model says of its own tokenizer's output, one pair at a time: no padding anywhere."""
    known = tokenizer(FAMILIES[family][0])
    options = {"truncation": "longest_first", "max_length": max_length, "return_tensors": "pt"}
    return torch.cat([model(**known([left], [right], **options)).logits for left, right in pairs])


def words(count: int, seed: int) -> str:
    """A text of `count` words."""
    known = [word for word in tiny_vocabulary() if word.isalpha() and len(word) > 2]
    return " ".join(np.random.default_rng(seed).choice(known, count).tolist())


def pairs_of_all_lengths() -> list[tuple[str, str]]:
    """Short and long, some of equal length, empty texts, texts that truncation cuts; in no order."""
    sizes = [(1, 1), (9, 2), (0, 3), (2, 9), (0, 0), (5, 5), (40, 3), (3, 40), (50, 50), (1, 1), (5, 5), (12, 0)]
    return [(words(left, 2 * i), words(right, 2 * i + 1)) for i, (left, right) in enumerate(sizes)]


def fitted(num_labels: int = 1, **options: Any) -> CrossEncoder:
    """A tiny model whose weights tell pairs apart, as if it were trained."""
    model = CrossEncoder("tiny", num_labels, seed=3, device="cpu", **options)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


# --- saved, and scored by transformers alone ------------------------------------------------------

TARGETS = {  # what LoRA stands beside; the dense layers of the feed-forward in some, the head's never
    "bert": ["query", "value", "intermediate.dense"],
    "roberta": ["query", "key", "value"],
    "xlm-roberta": ["query", "value"],
    "electra": ["query", "value", "attention.output.dense"],
    "distilbert": ["q_lin", "v_lin", "lin1"],
    "deberta-v2": ["query_proj", "value_proj"],
    "modernbert": ["Wqkv"],
    "albert": ["query", "value"],
    "mpnet": ["attn.q", "attn.v"],
}
BY_FAMILY = pytest.mark.parametrize("family", TARGETS)
BY_LABELS = pytest.mark.parametrize("num_labels", [1, 3])
NLI = ("contradiction", "entailment", "neutral")
NAMES = {1: (), 3: NLI}
PAIRS = pairs_of_all_lengths()
SHORT = PAIRS[:6]  # none longer than 20 tokens
MAX_LENGTH = 40  # tokens: some of the pairs are cut
IN_FULL = [pair for pair in PAIRS if pair[1]]  # a call with one pair takes an empty second text for none at all
SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


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


def save_model(folder):
    fitted(max_length=20).save_pretrained(folder)
    return folder


# --- with an adapter ------------------------------------------------------------------------------


def wrap(model, targets=("query", "value"), spread=0.15, **options):
    """Put LoRA into a model, with weights that change its scores."""
    from peft import LoraConfig, get_peft_model

    settings = {"task_type": "SEQ_CLS", "r": 4, "target_modules": list(targets), **options}
    model.model = get_peft_model(model.model, LoraConfig(**settings))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.model.parameters():
        if parameter.requires_grad:
            parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return model


def own_weights(model):
    """Those of the adapter and of its head."""
    return {n: w.clone() for n, w in model.model.state_dict().items() if "lora_" in n or "modules_to_save" in n}
