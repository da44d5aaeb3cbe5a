"""What the battery's items work on: the sample data, runs and lists made of it, and small trained models."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from battery_adapters import kit, rows_of, weights


def tiny(num_labels: int = 1, **options: Any) -> Any:
    return kit.CrossEncoder("tiny", num_labels=num_labels, seed=3, device="cpu", **options)


@cache
def sts(split: str = "train") -> Any:
    return kit.read_sts(split=split)


@cache
def nli(split: str = "train") -> Any:
    return kit.read_nli(split=split)


@cache
def collection(split: str = "dev") -> Any:
    return kit.read_ranking(split=split)


@cache
def bm25(split: str = "dev", k: int = 30) -> dict[str, dict[str, float]]:
    own = collection(split)
    return kit.bm25_index(own.documents)(own.queries, k)


@cache
def dense() -> Any:
    return kit.dense_index(collection().documents)


@cache
def lists(depth: int = 5) -> Any:
    """Lists of graded candidates whose texts are cut to 12 words, which keeps the battery short."""
    own = collection("train")
    found = own.as_pairs(kit.bm25_index(own.documents)(own.queries, depth), depth=depth, with_relevant=True)
    return replace(found, right=[" ".join(text.split()[:12]) for text in found.right])


def shares() -> Any:
    """The same lists with grades 0 to 3 as labels from 0 to 1."""
    return replace(lists(), labels=lists().labels / 3)


def search_words(**more: Any) -> dict[str, Any]:
    """Everything that a function of a collection may ask for, under the names that it had and has."""
    own = collection()
    given = {"collection": own, "queries": own.queries, "documents": own.documents, "qrels": own.qrels}
    return given | {"run": bm25()} | more


def train(data: Any, loss: Any = "bce", model: Any = None, evaluator: Any = None, **settings: Any) -> Any:
    """Train 20 steps; returns the model and its answer: weights and every row of the history."""
    model = model or tiny()
    config = kit.TrainingConfig(**{"batch_size": 8, "max_steps": 20, "epochs": 9, "learning_rate": 1e-3} | settings)
    result = kit.train(model, data, loss, config, evaluator)
    best = [result.best_step, result.best_score]
    return model, {"weights": weights(model), "history": rows_of(result.history), "best": best}


@cache
def scorer() -> Any:
    """A tiny model whose scores differ among pairs."""
    return train(lists(), "group_cross_entropy", batch_size=4)[0]


@cache
def classifier() -> Any:
    return train(nli(), "cross_entropy", tiny(3, label_names=nli().label_names))[0]


def teacher_scores(pairs: Any) -> np.ndarray:
    return 4 * np.asarray(kit.word_overlap(pairs.texts), dtype=np.float32) - 1
