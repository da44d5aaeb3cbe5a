"""Small models of every family with random weights, and tokenizers of three kinds built on the spot."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from crossenc_kit import CrossEncoder
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
PADDED = [family for family in FAMILIES if family not in PACKED]
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
