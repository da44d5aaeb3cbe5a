"""Augmented SBERT: a cross-encoder labels new pairs, and a bi-encoder learns from gold and silver.

    silver = label_pairs(cross_encoder, sample_pairs(gold, how="bm25", k=3))
    bi_encoder = train_bi_encoder(join_pairs(gold=gold, silver=silver))

Thakur, Reimers, Daxenberger and Gurevych, "Augmented SBERT: Data Augmentation Method for Improving Bi-Encoders for
Pairwise Sentence Scoring Tasks", 2021. Which pairs are sampled decides: at random most are about nothing alike.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import Pairs, as_pairs, check_text
from crossenc_kit.distillation.teachers import with_teacher_scores
from crossenc_kit.errors import DataError, need
from crossenc_kit.inference.score_store import cached_scores
from crossenc_kit.models.backbones import find_backbone, quiet_transformers
from crossenc_kit.models.settings import with_module
from crossenc_kit.retrieval.baselines import random_index
from crossenc_kit.retrieval.bm25 import bm25_index
from crossenc_kit.retrieval.dense import cosine, dense_index
from crossenc_kit.scorers import Scorer, as_scorer, score_pairs, scorer_label_names
from crossenc_kit.training.optimization import adamw, parameter_groups, rate_factor, set_rate

WAYS = ("bm25", "dense", "random")


def sample_pairs(
    texts: Pairs | Sequence[str],
    right: Sequence[str] | None = None,
    *,
    how: str = "bm25",
    k: int = 3,
    seed: int = 0,
    exclude: Any = None,
    encode: Callable[[Sequence[str]], np.ndarray] | None = None,
) -> Pairs:
    """New pairs without labels: each text with the `k` others that are nearest to it, or drawn at random.

    `texts` alone are paired among themselves: never with themselves, and a pair that both sides propose is there
    once. With `right`, each of `texts` is paired with those. A `Pairs` stands for its distinct texts of both sides,
    and its own pairs are known. `exclude`: known pairs (anything `as_pairs` takes), in either order where there is no
    `right`; a text gets `k` pairs that are new, while there are any. `how`: "bm25", "dense" (by `encode`, see
    `dense_index`) or "random" (by `seed`). The tag "bm25" or "dense" has the search's score; the notes say
    how many known pairs were found, and how many texts got none. Raises `DataError` where there is no new pair.
    """
    if how not in WAYS:
        raise ValueError(f"how is {how!r}; expected one of {', '.join(WAYS)}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    known = _known(texts, exclude)
    left = _distinct([*texts.left, *texts.right] if isinstance(texts, Pairs) else texts, "text")
    others = left if right is None else _distinct(right, "right text")
    barred: dict[str, set[str]] = {}
    for a, b in [*known, *((b, a) for a, b in known)] if right is None else known:
        barred.setdefault(a, set()).add(b)
    depth = k + max(map(len, barred.values()), default=0) + (right is None)  # k are left when these are gone
    run = _search(how, left, others, depth, seed, encode)
    return _new_pairs(left, others, run, barred, how, k, symmetric=right is None)


def _known(texts: Any, exclude: Any) -> list[tuple[str, str]]:
    given = texts.texts if isinstance(texts, Pairs) else []
    return given if exclude is None else [*given, *as_pairs(exclude).texts]


def _distinct(texts: Any, what: str) -> list[str]:
    if isinstance(texts, str):
        raise DataError(f"expected a list of texts, got one string {texts[:40]!r}")
    found = list(dict.fromkeys(check_text(text, f"{what} {row}") for row, text in enumerate(texts)))
    if not found:
        raise DataError(f"there is no {what}")
    return found


def _search(
    how: str, left: list[str], right: list[str], depth: int, seed: int, encode: Any
) -> Mapping[str, Mapping[str, float]]:
    queries, documents = ({str(row): text for row, text in enumerate(texts)} for texts in (left, right))
    if how == "bm25":
        return bm25_index(documents)(queries, depth)
    if how == "dense":
        return dense_index(documents, encode)(queries, depth)
    return random_index(documents, seed=seed)(queries, depth)


def _new_pairs(
    left: list[str],
    right: list[str],
    run: Mapping[str, Mapping[str, float]],
    barred: Mapping[str, set[str]],
    how: str,
    k: int,
    symmetric: bool,
) -> Pairs:
    """The first `k` hits of each text that are neither barred nor the text itself."""
    found: dict[tuple[str, str], float] = {}
    known = without = 0
    for row, text in enumerate(left):
        hits = [(right[int(name)], score) for name, score in run[str(row)].items()]
        hits = [hit for hit in hits if not symmetric or hit[0] != text]
        fresh = [hit for hit in hits if hit[0] not in barred.get(text, ())]
        known += len(hits) - len(fresh)
        without += not fresh
        for other, score in fresh[:k]:
            if not symmetric or (other, text) not in found:
                found[text, other] = score
    if not found:
        raise DataError(f"no new pairs: {how} found {known} that are known, and nothing else, for {len(left)} texts")
    notes = [f"{len(found):,} new pairs by {how}, up to {k} a text"]
    notes += [f"known pairs among what was found: {known:,}"] if known else []
    notes += [f"texts without a new pair: {without:,} of {len(left):,}"] if without else []
    tags: dict[str, list] = {} if how == "random" else {how: list(found.values())}
    return Pairs([a for a, _ in found], [b for _, b in found], tags=tags, notes=tuple(notes))


def label_pairs(
    scorer: Scorer,
    pairs: Any,
    folder: str | os.PathLike | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Pairs:
    """The pairs with a cross-encoder's scores as labels: silver, where gold are a person's.

    With a `folder`, the scores are kept there; `options` are those of `teachers.cached_scores`, such as `teacher`. The
    columns of a classifier's scores are put in the order of the data's `label_names`; `DataError` for other classes.
    """
    if folder is not None:
        scores = cached_scores(scorer, pairs, folder, settings=settings, **options)
    elif options:
        raise ValueError(f"{', '.join(options)}: options of a cache, which needs a folder")
    else:
        call, chosen = as_scorer(scorer), with_module(settings or {})
        scores = score_pairs(lambda texts: call(texts, **chosen), as_pairs(pairs).texts)
    return with_teacher_scores(pairs, scores, label_names=scorer_label_names(scorer))


def join_pairs(**parts: Any) -> Pairs:
    """Tables of pairs as one, `join_pairs(gold=a, silver=b)`, with the name of its part as the tag "origin" of each.

    Other tags are kept where every part has them. Raises `DataError` for labels that are not of one kind.
    """
    tables = {name: as_pairs(part) for name, part in parts.items()}
    if not tables:
        raise ValueError("there is nothing to join; name the parts, as in join_pairs(gold=a, silver=b)")
    kinds = {name: _kind(table) for name, table in tables.items()}
    if len(set(kinds.values())) > 1:
        raise DataError(f"the labels are of several kinds: {', '.join(f'{n} has {kind}' for n, kind in kinds.items())}")
    every = list(tables.values())
    shared = [name for name in every[0].tags if name != "origin" and all(name in table.tags for table in every)]
    return Pairs(
        [text for table in every for text in table.left],
        [text for table in every for text in table.right],
        None if every[0].labels is None else np.concatenate([table.labels for table in every]),  # type: ignore[misc]
        np.concatenate([[0], np.cumsum([size for table in every for size in np.diff(table.offsets)])]).astype(np.int64),
        {
            "origin": [name for name, table in tables.items() for _ in range(len(table))],
            **{name: [value for table in every for value in table.tags[name]] for name in shared},
        },
        tuple(f"{name}: {note}" for name, table in tables.items() for note in (f"{len(table):,} rows", *table.notes)),
        every[0].label_names,
    )


def _kind(pairs: Pairs) -> str:
    if pairs.labels is None:
        return "no labels"
    width = f"{pairs.labels.shape[1]} labels" if pairs.labels.ndim > 1 else "one label"
    return f"{width} a pair" + (f" of the classes {'/'.join(pairs.label_names)}" if pairs.label_names else "")


def train_bi_encoder(
    pairs: Any,
    base: Any = "minilm",
    *,
    epochs: int = 1,
    batch_size: int = 16,
    learning_rate: float = 2e-5,
    warmup: float = 0.1,
    seed: int = 0,
    device: str | None = None,
    show_progress_bar: bool | None = None,
) -> Any:
    """A `SentenceTransformer` trained so that the cosine of a pair's vectors is its label.

    The loss is sentence-transformers' CosineSimilarityLoss, (cos(u, v) - y)^2; AdamW, its rate rising during `warmup`,
    a part of all steps, and falling to 0. `pairs`: one label a pair, -1 to 1. `base`: a `SentenceTransformer`, which is
    trained in place; or the folder or name of an encoder ("minilm", "tiny", one of the hub), whose token vectors are
    averaged where it does not say otherwise. `bi_encoder_scorer` makes a scorer of it. Raises `ImportError` with the
    pip command where sentence-transformers is missing, `DataError` for labels that are no cosines.
    """
    if epochs < 1 or batch_size < 1 or not learning_rate > 0 or not 0 <= warmup <= 1:
        raise ValueError("expected epochs and batch_size of at least 1, learning_rate above 0, warmup from 0 to 1")
    peer = need("sentence_transformers", "training a bi-encoder")
    import torch
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss
    from tqdm import tqdm

    table = as_pairs(pairs)
    labels = torch.as_tensor(_cosines(table), dtype=torch.float32)
    steps = epochs * -(-len(labels) // batch_size)
    hide = not show_progress_bar if show_progress_bar is not None else not sys.stderr.isatty()
    with quiet_transformers():
        named = isinstance(base, (str, os.PathLike))
        model = peer.SentenceTransformer(find_backbone(base).folder, device=device) if named else base
    loss = CosineSimilarityLoss(model)
    optimizer = adamw(parameter_groups(model.named_parameters(), learning_rate))
    with torch.random.fork_rng(devices=[]), tqdm(total=steps, unit="step", desc="bi-encoder", disable=hide) as bar:
        torch.manual_seed(seed)
        model.train()
        for rows in _batches(len(labels), batch_size, epochs, seed):
            sides = [[side[row] for row in rows] for side in (table.left, table.right)]
            features = [peer.util.batch_to_device(model.preprocess(texts), model.device) for texts in sides]
            set_rate(optimizer, rate_factor("linear", bar.n + 1, steps + 1, round(warmup * steps)))
            optimizer.zero_grad()
            value = loss(features, labels[rows].to(model.device))
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            bar.set_postfix(loss=f"{value.item():.4f}", refresh=False)
            bar.update()
    return model.eval()


def bi_encoder_scorer(model: Any) -> Scorer:
    """A scorer of a `SentenceTransformer`: the cosine of the two texts' vectors, `(N,)` in -1..1."""

    def encode(texts: Sequence[str]) -> np.ndarray:
        return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)

    return lambda pairs: cosine(pairs, encode)


def _cosines(pairs: Pairs) -> np.ndarray:
    if pairs.labels is None or pairs.labels.ndim != 1 or not len(pairs.labels):
        raise DataError("a bi-encoder needs pairs with one label each; label_pairs gives them those of a cross-encoder")
    bad = np.flatnonzero(~(np.abs(pairs.labels) <= 1))
    if len(bad):
        raise DataError(
            f"pair {bad[0]}: the label is {pairs.labels[bad[0]]:g}, and a cosine is from -1 to 1 ({len(bad)} of "
            f"{len(pairs.labels)} are not); take a cross-encoder's scores after the sigmoid, or scale them"
        )
    return pairs.labels


def _batches(count: int, size: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """The row numbers of each step, every row once an epoch, shuffled from (seed, epoch)."""
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(count)
        yield from (order[start : start + size] for start in range(0, count, size))
