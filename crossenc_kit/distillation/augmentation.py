"""Augmented SBERT: a cross-encoder labels new pairs, and a bi-encoder learns from gold and silver.

    silver = label_pairs(cross_encoder, sample_pairs(gold, how="bm25", k=3))
    bi_encoder = train_bi_encoder(join_pairs(gold=gold, silver=silver))

Thakur, Reimers, Daxenberger and Gurevych, "Augmented SBERT: Data Augmentation Method for Improving
Bi-Encoders for Pairwise Sentence Scoring Tasks", 2021. It matters which pairs are sampled: most random
pairs have nothing in common.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
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

WARMUP = 0.1  # of the steps, in which the learning rate rises


def sample_pairs(
    texts: Pairs | Sequence[str],
    *,
    how: str = "bm25",
    k: int = 3,
    seed: int = 0,
    exclude: Any = (),
    encode: Callable[[Sequence[str]], np.ndarray] | None = None,
) -> Pairs:
    """Pair each text with its `k` nearest new partners, or with random ones; without labels.

    texts: a `Pairs` stands for its distinct texts, and its own pairs are known
    how: "bm25", "dense" (by `encode`, see `dense_index`) or "random" (by `seed`)
    exclude: further known pairs, in either order

    The search's score is the tag "bm25" or "dense". Raises `DataError` if there is no new pair.
    """
    known = list(as_pairs(exclude).texts)
    if isinstance(texts, Pairs):
        known, texts = known + texts.texts, [*texts.left, *texts.right]
    texts = list(dict.fromkeys(check_text(text, f"text {row}") for row, text in enumerate(texts)))
    barred: dict[str, set[str]] = {text: {text} for text in texts}
    for a, b in known:
        barred.setdefault(a, set()).add(b)
        barred.setdefault(b, set()).add(a)
    by_name = {str(row): text for row, text in enumerate(texts)}
    if how not in ("bm25", "dense", "random"):
        raise ValueError(f"how is {how!r}; expected one of bm25, dense, random")
    if how == "random":
        search = random_index(by_name, seed=seed)
    else:
        search = bm25_index(by_name) if how == "bm25" else dense_index(by_name, encode)
    # deep enough that k are left when the known ones and the text itself are gone
    run = search(by_name, k + max(map(len, barred.values()), default=0))
    found: dict[tuple[str, str], float] = {}
    without = 0
    for name, text in by_name.items():
        hits = [(by_name[other], score) for other, score in run[name].items()]
        fresh = [hit for hit in hits if hit[0] not in barred[text]]
        without += not fresh
        found |= {(text, other): score for other, score in fresh[:k] if (other, text) not in found}
    if not found:
        raise DataError(f"{how} found no new pairs for {len(texts)} texts")
    notes = [f"{len(found):,} new pairs by {how}, up to {k} per text"]
    notes += [f"texts without a new pair: {without:,} of {len(texts):,}"] if without else []
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
    """Label pairs with a cross-encoder's scores: silver labels, beside a person's gold.

    folder: keeps the scores there, with the `options` of `cached_scores`

    A classifier's columns take the order of the data's `label_names`; other classes raise `DataError`.
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
    """Join tables of pairs, `join_pairs(gold=a, silver=b)`; the tag "origin" names the part of each row.

    Tags that every part has are kept. Raises `DataError` if the parts have different kinds of labels.
    """
    tables = {name: as_pairs(part) for name, part in parts.items()}
    kinds = {name: _kind(table) for name, table in tables.items()}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} has {kind}" for name, kind in kinds.items())
        raise DataError(f"the parts' labels differ: {told}")
    every = list(tables.values())
    shared = [name for name in every[0].tags if name != "origin" and all(name in t.tags for t in every)]
    tags = {"origin": [name for name, table in tables.items() for _ in range(len(table))]}
    tags |= {name: [value for table in every for value in table.tags[name]] for name in shared}
    sizes = np.concatenate([np.diff(table.offsets) for table in every])
    return Pairs(
        [text for table in every for text in table.left],
        [text for table in every for text in table.right],
        None if every[0].labels is None else np.concatenate([np.asarray(table.labels) for table in every]),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        tags,
        tuple(f"{name}: {note}" for name, table in tables.items() for note in (f"{len(table):,} rows", *table.notes)),
        every[0].label_names,
    )


def _kind(pairs: Pairs) -> str:
    if pairs.labels is None:
        return "no labels"
    width = f"{pairs.labels.shape[1]} labels" if pairs.labels.ndim > 1 else "one label"
    return f"{width} per pair" + (f" of the classes {'/'.join(pairs.label_names)}" if pairs.label_names else "")


def train_bi_encoder(
    pairs: Any,
    base: Any = "minilm",
    *,
    epochs: int = 1,
    batch_size: int = 16,
    learning_rate: float = 2e-5,
    seed: int = 0,
    device: str | None = None,
) -> Any:
    """Train a `SentenceTransformer` so that the cosine of a pair's vectors is its label y.

    The trainer of sentence-transformers minimises (cos(u, v) - y)^2. The learning rate rises during the
    first tenth of the steps and then falls to 0.

    pairs: one label each, -1 to 1
    base: a `SentenceTransformer`, trained in place, or an encoder's folder or name, mean-pooled

    Raises `DataError` for labels that are not cosines.
    """
    peer = need("sentence_transformers", "training a bi-encoder")
    table = as_pairs(pairs)
    labels = _cosines(table)
    import torch
    from datasets import Dataset
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    if isinstance(base, (str, os.PathLike)):
        with quiet_transformers():
            base = peer.SentenceTransformer(find_backbone(base).folder, device=device)
    data = Dataset.from_dict({"left": table.left, "right": table.right, "label": labels.tolist()})
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        settings = peer.SentenceTransformerTrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
            warmup_ratio=WARMUP,
            seed=seed,
            use_cpu=str(base.device) == "cpu",
            disable_tqdm=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
        )
        peer.SentenceTransformerTrainer(base, settings, data, loss=CosineSimilarityLoss(base)).train()
    return base.eval()


def bi_encoder_scorer(model: Any) -> Scorer:
    """Make a scorer of a `SentenceTransformer`: the cosine of the two texts' vectors, `(N,)` in -1..1."""

    def encode(texts: Sequence[str]) -> np.ndarray:
        return model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)

    return lambda pairs: cosine(pairs, encode)


def _cosines(pairs: Pairs) -> np.ndarray:
    if pairs.labels is None or pairs.labels.ndim != 1 or not len(pairs.labels):
        raise DataError("a bi-encoder needs pairs with one label each; label_pairs adds a cross-encoder's")
    bad = np.flatnonzero(~(np.abs(pairs.labels) <= 1))
    if len(bad):
        found = f"pair {bad[0]}: the label is {pairs.labels[bad[0]]:g}, and a cosine is from -1 to 1"
        raise DataError(f"{found}; take a cross-encoder's scores after the sigmoid, or scale them")
    return pairs.labels.astype(np.float32)
