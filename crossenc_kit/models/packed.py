"""The forward pass without padding.

The tokens of all pairs in a batch lie end to end in one `(T_total, H)` matrix, so every linear
layer, normalisation and activation works on useful tokens only. Attention must keep the pairs
apart; pairs of equal length are stacked, and then it needs no mask. The head reads only the first
token of each pair, so the last layer needs keys and values for all tokens, but queries, output and
feed-forward only for the first ones: the rest is pruned. Both steps are exact, forward and backward.

BERT (and MiniLM), RoBERTa, XLM-R, ELECTRA and DistilBERT run packed, with LoRA's layers inside if
there are any. Every other architecture runs through its own `forward` on padded batches.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from crossenc_kit.models.products import FastProducts, missing_rows
from crossenc_kit.models.tokens import Tokens

PATHS = ("pruned", "packed", "padded")  # from the fastest to the plainest
BERT_LIKE = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "electra": "electra"}
CLASSES = {
    "BertForSequenceClassification",
    "RobertaForSequenceClassification",
    "XLMRobertaForSequenceClassification",
    "ElectraForSequenceClassification",
    "DistilBertForSequenceClassification",
}


class Layer(NamedTuple):
    """One encoder layer, whatever the family calls its parts."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    heads: int
    dropout: float
    attention_output: Callable[[Tensor, Tensor], Tensor]  # attended, residual (T, H) -> (T, H)
    feed_forward: Callable[[Tensor], Tensor]  # (T, H) -> (T, H), with its residual and norm


class Parts(NamedTuple):
    """A sequence classifier taken apart for the packed pass."""

    # ids, segments, positions, each (1, T) -> (1, T, H)
    embed: Callable[[Tensor, Tensor | None, Tensor], Tensor]
    layers: list[Layer]
    head: Callable[[Tensor], Tensor]  # first tokens (B, H) -> (B, C)
    first_position: int
    pad_id: int | None  # if the family numbers positions by counting ids other than this one


def can_pack(model: Any) -> bool:
    """Tell whether a Hugging Face sequence classifier has a packed forward pass."""
    config = model.config
    if type(model).__name__ not in CLASSES or getattr(config, "is_decoder", False):
        return False
    return getattr(config, "position_embedding_type", "absolute") in (None, "absolute")


def take_apart(model: Any) -> Parts:
    """Name the parts of a model for which `can_pack` is true."""
    config, encoder = model.config, model.base_model
    if config.model_type == "distilbert":
        return _distilbert_parts(model, encoder)
    layers = [_bert_layer(layer) for layer in encoder.encoder.layer]

    def embed(ids: Tensor, segments: Tensor | None, positions: Tensor) -> Tensor:
        segments = torch.zeros_like(ids) if segments is None else segments
        hidden = encoder.embeddings(input_ids=ids, token_type_ids=segments, position_ids=positions)
        return encoder.embeddings_project(hidden) if hasattr(encoder, "embeddings_project") else hidden

    def head(first: Tensor) -> Tensor:
        if config.model_type == "bert":
            return model.classifier(model.dropout(encoder.pooler(first.unsqueeze(1))))
        return model.classifier(first.unsqueeze(1))

    counts_padding = BERT_LIKE[config.model_type] == "roberta"
    pad_id = config.pad_token_id if counts_padding else None
    return Parts(embed, layers, head, config.pad_token_id + 1 if counts_padding else 0, pad_id)


def _bert_layer(layer: Any) -> Layer:
    attention = layer.attention.self

    def feed_forward(hidden: Tensor) -> Tensor:
        return layer.output(layer.intermediate(hidden), hidden)

    heads, dropout = attention.num_attention_heads, attention.dropout.p
    return Layer(attention.query, attention.key, attention.value, heads, dropout, layer.attention.output, feed_forward)


def _distilbert_parts(model: Any, encoder: Any) -> Parts:
    def embed(ids: Tensor, segments: Tensor | None, positions: Tensor) -> Tensor:
        return encoder.embeddings(input_ids=ids, position_ids=positions)

    def head(first: Tensor) -> Tensor:
        return model.classifier(model.dropout(torch.relu(model.pre_classifier(first))))

    return Parts(embed, [_distilbert_layer(layer) for layer in encoder.transformer.layer], head, 0, None)


def _distilbert_layer(layer: Any) -> Layer:
    attention = layer.attention

    def attention_output(attended: Tensor, residual: Tensor) -> Tensor:
        return layer.sa_layer_norm(attention.out_lin(attended) + residual)

    def feed_forward(hidden: Tensor) -> Tensor:
        return layer.output_layer_norm(layer.ffn.ff_chunk(hidden) + hidden)

    heads, dropout = attention.n_heads, attention.dropout.p
    return Layer(attention.q_lin, attention.k_lin, attention.v_lin, heads, dropout, attention_output, feed_forward)


def forward(model: Any, tokens: Tokens, rows: np.ndarray, pad: Padding, *, path: str = "pruned") -> Tensor:
    """Score some rows by the fastest exact path: raw scores `(B, C)`, in the order of the rows.

    model: a Hugging Face sequence classifier without a wrapper, in any mode; gradients flow
    path: to measure each step, "packed" computes the whole last layer and "padded" pads, which
        architectures that cannot be packed always do; the scores are the same
    """
    if path not in PATHS:
        raise ValueError(f"unknown path={path!r}; choose from {', '.join(PATHS)}")
    recompute = model.training and any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
    # Checkpointed layers run twice, and the second run, in `backward`, is outside of this context.
    with nullcontext() if recompute else FastProducts():
        if path != "padded" and can_pack(model):
            parts = take_apart(model)
            order = np.argsort(-tokens.lengths[rows], kind="stable")  # (B,)
            inputs = pack(tokens, rows[order], parts.first_position, model.device)
            if parts.pad_id is None or not bool((inputs.ids == parts.pad_id).any()):
                scores = _packed_forward(model, parts, inputs, recompute, path == "pruned")  # (B, C)
                return scores[torch.as_tensor(np.argsort(order), device=scores.device)]
        return model(**pad_batch(tokens, rows, pad, model.device)).logits


class Packed(NamedTuple):
    """A packed batch. It may end in a few tokens that no pair reads: see `products`."""

    ids: Tensor  # (1, T_total)
    segments: Tensor | None  # (1, T_total)
    positions: Tensor  # (1, T_total)
    sizes: list[int]  # B lengths in tokens
    first: Tensor  # (B,) where each pair starts


def pack(tokens: Tokens, rows: np.ndarray, first_position: int, device: Any) -> Packed:
    """Put the pairs `rows` (sorted by length) end to end, positions starting anew at each."""
    pairs = [tokens.pair(row) for row in rows]
    sizes = tokens.lengths[rows]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])  # (B,)
    positions = np.arange(int(sizes.sum())) - np.repeat(starts, sizes) + first_position
    spare = missing_rows(len(positions)) if torch.device(device).type == "cpu" else 0
    every = np.concatenate([ids for ids, _ in pairs])  # (sum of sizes,)
    columns = [np.append(every, [every[0]] * spare), np.append(positions, [first_position] * spare), starts]
    ids, positions_, first = (torch.as_tensor(column, dtype=torch.long, device=device) for column in columns)
    segments = None
    if tokens.template.segments is not None:
        kinds = np.concatenate([*(segment for _, segment in pairs if segment is not None), np.zeros(spare, dtype=int)])
        segments = torch.as_tensor(kinds, dtype=torch.long, device=device).unsqueeze(0)
    return Packed(ids.unsqueeze(0), segments, positions_.unsqueeze(0), sizes.tolist(), first)


def _packed_forward(model: Any, parts: Parts, inputs: Packed, recompute: bool, prune: bool) -> Tensor:
    hidden = parts.embed(inputs.ids, inputs.segments, inputs.positions).squeeze(0)  # (T_total, H)
    for depth, layer in enumerate(parts.layers):
        first = inputs.first if prune and depth == len(parts.layers) - 1 else None
        arguments = (layer, hidden, inputs.sizes, first, model.training)
        hidden = (
            checkpoint(_layer_forward, *arguments, use_reentrant=False) if recompute else _layer_forward(*arguments)
        )
    return parts.head(hidden if prune else hidden[inputs.first])  # (B, H) -> (B, C)


def _layer_forward(layer: Layer, hidden: Tensor, sizes: list[int], first: Tensor | None, training: bool) -> Tensor:
    """Run one layer on `(T_total, H)`; with `first` `(B,)`, only those rows come out, `(B, H)`."""
    asked = hidden if first is None else hidden[first]  # (T_total, H) or (B, H)
    query, key, value = layer.query(asked), layer.key(hidden), layer.value(hidden)
    dropout = layer.dropout if training else 0.0
    attend = attend_by_length if hidden.device.type == "cpu" else attend_padded
    attended = attend(query, key, value, sizes, layer.heads, dropout, first is not None)
    return layer.feed_forward(layer.attention_output(attended, asked))


def attend_by_length(
    query: Tensor, key: Tensor, value: Tensor, sizes: list[int], heads: int, dropout: float, first_only: bool
) -> Tensor:
    """Attend within each pair, one call per run of pairs of equal length: no mask, no padding.

    `key`, `value` are `(T_total, H)`, `query` and the result too, or `(B, H)` with `first_only`.
    """
    outputs = []
    pair = start = 0
    while pair < len(sizes):
        size, count = sizes[pair], 1
        while pair + count < len(sizes) and sizes[pair + count] == size:
            count += 1
        stop = start + size * count
        asked = query[pair : pair + count] if first_only else query[start:stop]
        q, k, v = (
            part.view(count, -1, heads, part.shape[-1] // heads).transpose(1, 2)
            for part in (asked, key[start:stop], value[start:stop])
        )  # (count, heads, size, H / heads)
        attended = scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        outputs.append(attended.transpose(1, 2).reshape(-1, query.shape[-1]))
        pair, start = pair + count, stop
    if not first_only and start < len(query):  # the spare rows at the end
        outputs.append(query.new_zeros(len(query) - start, query.shape[-1]))
    return torch.cat(outputs)


def attend_padded(
    query: Tensor, key: Tensor, value: Tensor, sizes: list[int], heads: int, dropout: float, first_only: bool
) -> Tensor:
    """Do the same in one call with a mask: fewer and larger kernels, for accelerators.

    Only attention sees padding; the linear layers, which are most of the work, do not.
    """
    lengths = torch.tensor(sizes, device=key.device)
    mask = torch.arange(max(sizes), device=key.device) < lengths[:, None]  # (B, T)

    def spread(part: Tensor) -> Tensor:  # (T_total, H) -> (B, heads, T, H / heads)
        full = part.new_zeros(len(sizes), max(sizes), part.shape[-1])
        full = full.masked_scatter(mask[..., None], part)
        return full.view(len(sizes), -1, heads, part.shape[-1] // heads).transpose(1, 2)

    one_each = (len(sizes), 1, heads, -1)
    q = query.view(one_each).transpose(1, 2) if first_only else spread(query)
    attended = scaled_dot_product_attention(
        q, spread(key), spread(value), attn_mask=mask[:, None, None, :], dropout_p=dropout
    ).transpose(1, 2)
    rows = attended.reshape(len(sizes), -1, query.shape[-1])  # (B, T or 1, H)
    return rows[:, 0] if first_only else rows[mask]


class Padding(NamedTuple):
    """What fills up the shorter pairs of a padded batch, and on which side."""

    id: int
    segment: int
    side: str


def padding_of(model: Any, tokenizer: Any) -> Padding:
    """Choose the tokenizer's padding, on the side where it changes no score.

    That is the right, whatever the tokenizer says: positions then count from a pair's first token,
    as they do without padding. Models that read the last position (XLNet) have relative positions,
    and are padded on the left.
    """
    side = "left" if getattr(model.config, "summary_type", None) == "last" else "right"
    return Padding(tokenizer.pad_token_id, tokenizer.pad_token_type_id, side)


def pad_batch(tokens: Tokens, rows: np.ndarray, pad: Padding, device: Any) -> dict[str, Tensor]:
    """Build `input_ids`, `attention_mask` and perhaps `token_type_ids`, each `(B, T)`."""
    longest = int(tokens.lengths[rows].max())
    ids = np.full((len(rows), longest), pad.id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    segments = np.full((len(rows), longest), pad.segment, dtype=np.int64)
    for at, row in enumerate(rows):
        size = int(tokens.lengths[row])
        where = slice(0, size) if pad.side == "right" else slice(longest - size, longest)
        pair_ids, pair_segments = tokens.pair(row)
        ids[at, where], mask[at, where] = pair_ids, 1
        if pair_segments is not None:
            segments[at, where] = pair_segments
    batch = {"input_ids": ids, "attention_mask": mask}
    if tokens.template.segments is not None:
        batch["token_type_ids"] = segments
    return {name: torch.as_tensor(array, device=device) for name, array in batch.items()}
