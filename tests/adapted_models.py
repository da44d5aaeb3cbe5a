"""Models of several families with an adapter (PEFT), and the weights of their parts."""

from __future__ import annotations

import pytest
import torch
from families import pairs_of_all_lengths, save_classifier
from peft import LoraConfig, get_peft_model

from crossenc_kit import CrossEncoder

PAIRS = pairs_of_all_lengths()
SHORT = PAIRS[:6]
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


def wrap(model, targets=("query", "value"), spread=0.15, **options):
    """Put LoRA into a model, with weights that change its scores."""
    settings = {"task_type": "SEQ_CLS", "r": 4, "target_modules": list(targets), **options}
    model.model = get_peft_model(model.model, LoraConfig(**settings))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.model.parameters():
        if parameter.requires_grad:
            parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return model


def maker(folder):
    """A function from a family and a number of labels to a model with an adapter; its base is in a folder."""

    def make(family="bert", num_labels=1, **options):
        base = save_classifier(folder / "base", family, num_labels)
        return wrap(CrossEncoder(base, device="cpu", max_length=40), TARGETS[family], **options)

    return make


def own_weights(model):
    """Those of the adapter and of its head."""
    return {n: w.clone() for n, w in model.model.state_dict().items() if "lora_" in n or "modules_to_save" in n}
