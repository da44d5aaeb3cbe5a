"""Evaluators of reranking under the names of sentence-transformers: one of 3.x, and one of 4 and later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from crossenc_kit.pairs import DataError
from crossenc_kit.ranking_metrics import average_precision_of, ndcg, reciprocal_rank
from crossenc_kit.sentence_transformers_evaluators import LaterEvaluator, PairEvaluator


class CERerankingEvaluator(PairEvaluator):
    """MRR@k of reranked candidates, beside nDCG@k.

    `samples`: dicts (or a dict of them) with `query`, `positive` and `negative` texts; those that lack positives or
    negatives are left out.
    """

    def __init__(
        self, samples: Any, at_k: int = 10, name: str = "", write_csv: bool = True, mrr_at_k: int | None = None
    ):
        self.samples = list(samples.values()) if isinstance(samples, Mapping) else list(samples)
        self.at_k = at_k if mrr_at_k is None else mrr_at_k
        self.suffix = f"_@{self.at_k}"
        self.prepare(name, write_csv)

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        groups = [_candidates(sample, row, True) for row, sample in enumerate(self.samples)]
        usable = [(q, texts, grades) for q, texts, grades, _ in groups if 0 < sum(grades) < len(grades)]
        if not usable:
            raise DataError("no sample has both positives and negatives: there is nothing to rank")
        scores = self.scores_of(model, [[q, text] for q, texts, _ in usable for text in texts], classes=False)
        parts = np.split(scores, np.cumsum([len(texts) for _, texts, _ in usable])[:-1])
        ranked = [(part, grades) for part, (_, _, grades) in zip(parts, usable, strict=True)]
        found = {f"MRR@{self.at_k}": float(np.mean([reciprocal_rank(x, y, self.at_k) for x, y in ranked]))}
        found[f"NDCG@{self.at_k}"] = float(np.mean([ndcg(x, y, self.at_k) for x, y in ranked]))
        self.write(output_path, epoch, steps, found)
        return found[f"MRR@{self.at_k}"]


class CrossEncoderRerankingEvaluator(LaterEvaluator):
    """MAP, MRR@k and nDCG@k of reranked candidates; with ranked `documents` also those of the order given (`base_`).

    `samples`: dicts (or a dict of them) with `query`, `positive` (a text or several), and either `negative` texts or
    `documents`, all candidates of a first stage from best to worst. With `always_rerank_positives` the positives that
    the first stage missed are ranked as well, so that the figures leave out its recall: that is the default of
    sentence-transformers, and flatters. Here it is off unless asked for. A sample without a positive counts 0.
    """

    def __init__(
        self,
        samples: Any,
        at_k: int = 10,
        always_rerank_positives: bool = False,
        name: str = "",
        *,
        batch_size: int = 64,
        show_progress_bar: bool = False,
        write_csv: bool = True,
        mrr_at_k: int | None = None,
    ):
        self.samples = list(samples.values()) if isinstance(samples, Mapping) else list(samples)
        if not self.samples:
            raise DataError("there are no samples to rank")
        self.at_k = at_k if mrr_at_k is None else mrr_at_k
        self.always_rerank_positives = always_rerank_positives
        self.options = {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
        self.suffix = f"_@{self.at_k}"
        self.prepare(name, write_csv)
        self.answer({}, f"ndcg@{self.at_k}")

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        groups = [_candidates(sample, row, self.always_rerank_positives) for row, sample in enumerate(self.samples)]
        usable = [(query, texts) for query, texts, grades, _ in groups if sum(grades)]
        pairs = [[query, text] for query, texts in usable for text in texts]
        scores = list(self.scores_of(model, pairs, classes=False, **self.options)) if pairs else []
        ranked = []
        for _, texts, grades, _ in groups:
            own = [scores.pop(0) for _ in texts] if sum(grades) else [0.0] * len(texts)
            ranked.append((own, grades))
        found = self._means(ranked)
        bases = [base for *_, base in groups if base is not None]
        names = ("MAP", f"MRR@{self.at_k}", f"NDCG@{self.at_k}")
        named = dict(zip(names, found, strict=True))
        self.write(output_path, epoch, steps, named)
        answer = {key.lower(): value for key, value in named.items()}
        if bases:
            answer |= {f"base_{key}": value for key, value in zip(list(answer), self._means(bases), strict=True)}
        return self.answer(answer, f"ndcg@{self.at_k}")

    def _means(self, ranked: list[tuple[Any, Any]]) -> tuple[float, float, float]:
        """MAP, MRR@k and nDCG@k over queries."""
        each = [
            (average_precision_of(x, y), reciprocal_rank(x, y, self.at_k), ndcg(x, y, self.at_k)) for x, y in ranked
        ]
        precision, rank, gain = np.mean(each, axis=0)
        return float(precision), float(rank), float(gain)


def _candidates(
    sample: Mapping[str, Any], row: int, with_missed: bool
) -> tuple[str, list[str], list[int], tuple[list[int], list[int]] | None]:
    """(query, texts, 1 for a positive else 0, and the order given as (scores, grades), None for `negative`s)."""
    where = f"sample {row}"
    for key in ("query", "positive"):
        if key not in sample:
            raise DataError(f"{where}: no {key!r}; a sample has query, positive, and negative or documents")
    if ("negative" in sample) == ("documents" in sample):
        raise DataError(f"{where}: exactly one of 'negative' and 'documents' is needed")
    positive = [sample["positive"]] if isinstance(sample["positive"], str) else list(sample["positive"])
    if "negative" in sample:
        negative = [sample["negative"]] if isinstance(sample["negative"], str) else list(sample["negative"])
        return sample["query"], [*positive, *negative], [1] * len(positive) + [0] * len(negative), None
    documents = list(sample["documents"])
    grades = [int(text in positive) for text in documents]
    missed = [text for text in positive if text not in documents] if sum(grades) else []
    order = list(range(len(documents) + len(missed), 0, -1))  # what the first stage missed comes last
    base = (order, [*grades, *[1] * len(missed)])
    if with_missed:
        others = [text for text in documents if text not in positive]
        return sample["query"], [*positive, *others], [1] * len(positive) + [0] * len(others), base
    return sample["query"], documents, grades, base
