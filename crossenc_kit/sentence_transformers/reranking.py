"""Reranking evaluators under the names of sentence-transformers: one of 3.x, one of 4 and later.

There are Q samples, each a query with K candidate texts that are relevant (grade 1) or not (grade
0). `evaluation.ranking_metrics` says how candidates with equal scores are ordered, which
sentence-transformers leaves to its sorting.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.pairs import check_text
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.ranking_metrics import average_precision_of, ndcg, reciprocal_rank
from crossenc_kit.scorers import raw_options
from crossenc_kit.sentence_transformers.evaluators import CsvEvaluator, Row

logger = logging.getLogger(__name__)


class Sample(NamedTuple):
    """A query with its K candidates; `first_stage` holds their grades in the order given."""

    query: str
    texts: list[str]
    grades: list[int]
    first_stage: list[int] | None = None


class SampleEvaluator(CsvEvaluator):
    """An evaluator of a list (or dict) of samples; metrics are cut off at rank `at_k`.

    Raises `DataError` if there are no samples, or naming the one that lacks a key or a text.
    """

    def __init__(self, samples: Any, at_k: int, name: str, write_csv: bool, mrr_at_k: int | None):
        if mrr_at_k is not None:
            logger.warning("mrr_at_k is an older name: use at_k=%s", mrr_at_k)
        self.at_k = at_k if mrr_at_k is None else mrr_at_k
        if self.at_k < 1:
            raise ValueError(f"at_k must be at least 1, got {self.at_k}")
        super().__init__(name, write_csv, suffix=f"_@{self.at_k}")
        self.samples = list(samples.values() if isinstance(samples, Mapping) else samples)
        if not self.samples:
            raise DataError("there are no samples to rank")
        self.groups: dict[int, Sample] = {}  # by the number of the sample

    def mean_metrics(self, rankings: Iterable[tuple[Any, Sequence[int]]]) -> Row:
        """Return means over samples, each a pair of scores `(K,)` and grades `(K,)`.

        They are AP, reciprocal rank and nDCG, each 0 if nothing is relevant.
        """
        k, each = self.at_k, []
        for scores, grades in rankings:
            found = (0.0, 0.0, 0.0)
            if any(grades):
                precision = average_precision_of(scores, grades)
                found = (precision, reciprocal_rank(scores, grades, k), ndcg(scores, grades, k))
            each.append(found)
        columns = ("MAP", f"MRR@{k}", f"NDCG@{k}")
        return dict(zip(columns, np.mean(each, axis=0).tolist(), strict=True))

    def scores_of_each(self, model: Any, **options: Any) -> dict[int, np.ndarray]:
        """Score all candidates in one call of the model: sample number -> raw scores `(K,)`.

        Skip samples without a positive candidate, which count 0 whatever the scores.
        """
        groups = {number: group for number, group in self.groups.items() if any(group.grades)}
        rows = [(n, place) for n, group in groups.items() for place in range(len(group.texts))]
        pairs = [[groups[number].query, groups[number].texts[place]] for number, place in rows]
        if not pairs:
            return {}

        def where(row: int) -> str:
            return f"sample {rows[row][0]}, candidate {rows[row][1]} ({pairs[row][1][:40]!r})"

        scores = self.scores_of(model, pairs, where=where, **{**raw_options(model), **options})
        ends = np.cumsum([len(group.texts) for group in groups.values()])
        return dict(zip(groups, np.split(scores, ends[:-1]), strict=True))


class CERerankingEvaluator(SampleEvaluator):
    """Measure MRR@k and nDCG@k of reranked candidates, as means over the samples.

    Samples without positives or without negatives are left out, as in 3.4.

    samples: dicts with `query`, `positive` and `negative` texts
    mrr_at_k: an older name of `at_k`, which it overrides
    """

    def __init__(
        self, samples: Any, at_k: int = 10, name: str = "", write_csv: bool = True, mrr_at_k: int | None = None
    ):
        super().__init__(samples, at_k, name, write_csv, mrr_at_k)
        every = {number: _labelled(sample, number) for number, sample in enumerate(self.samples)}
        self.groups = {n: group for n, group in every.items() if 0 < sum(group.grades) < len(group.grades)}
        if not self.groups:
            raise DataError("no sample has both positives and negatives: there is nothing to rank")
        logger.info("%s of %s samples have positives and negatives", len(self.groups), len(every))

    def measure(self, model: Any) -> tuple[Row, float]:
        scores = self.scores_of_each(model)
        row = self.mean_metrics((scores[n], group.grades) for n, group in self.groups.items())
        del row["MAP"]
        return row, row[f"MRR@{self.at_k}"]


class CrossEncoderRerankingEvaluator(SampleEvaluator):
    """Measure MAP, MRR@k and nDCG@k of reranked candidates, and of their first stage (`base_`).

    The means are over all samples; one whose candidates include no positive counts 0. Select by nDCG.
    `base_` counts missed positives as ranked below everything else, as sentence-transformers does;
    the model's own figures are over found positives only, unless these are reranked too.

    samples: dicts with `query`, `positive` and either `negative` or `documents`, the candidates of
        a first stage from best to worst
    always_rerank_positives: rank missed positives as well; the default of sentence-transformers,
        and flattering: a first stage that finds nothing looks as good as one that finds everything
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
        super().__init__(samples, at_k, name, write_csv, mrr_at_k)
        self.always_rerank_positives = always_rerank_positives
        self.groups = {i: _ranked(sample, i, always_rerank_positives) for i, sample in enumerate(self.samples)}
        self.options = {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
        self.answer({}, f"ndcg@{self.at_k}")

    def measure(self, model: Any) -> tuple[Row, dict[str, float]]:
        scores = self.scores_of_each(model, **self.options)
        groups = self.groups
        row = self.mean_metrics((scores.get(n, ()), group.grades) for n, group in groups.items())
        found = {key.lower(): value for key, value in row.items()}
        orders = [group.first_stage for group in groups.values() if group.first_stage is not None]
        if orders:
            base = self.mean_metrics((-np.arange(len(order)), order) for order in orders)
            found |= {f"base_{key.lower()}": value for key, value in base.items()}
            said = ", ".join(f"{key} {value:.4f}" for key, value in base.items())
            logger.info("%s, first stage of %s samples: %s", self.title, len(orders), said)
            flat = "positives that the first stage missed were reranked too, which flatters"
            fair = "the model's figures are over found positives only, base_ counts missed ones"
            logger.info("%s: %s", self.title, flat if self.always_rerank_positives else fair)
        return row, self.answer(found, f"ndcg@{self.at_k}")


def _labelled(sample: Any, number: int) -> Sample:
    """Read positives and negatives as candidates of grade 1 and 0."""
    query, positive, negative = _read(sample, number, "negative")
    grades = [1] * len(positive) + [0] * len(negative)
    return Sample(query, positive + negative, grades)


def _ranked(sample: Any, number: int, with_missed: bool) -> Sample:
    """Read a sample with `negative` or `documents`.

    with_missed: positives that are not among the documents become candidates, too
    """
    if ("negative" in sample) == ("documents" in sample):
        raise DataError(f"sample {number}: exactly one of 'negative' and 'documents' is needed")
    if "documents" not in sample:
        return _labelled(sample, number)
    if isinstance(sample["documents"], Set):
        raise DataError(f"sample {number}: documents must be in order, got a set")
    query, positive, documents = _read(sample, number, "documents")
    grades = [int(text in positive) for text in documents]
    missed = [text for text in positive if text not in documents]
    # a first stage that found nothing gets 0, wherever the ranking would go on
    first_stage = grades + [1] * len(missed) if any(grades) else grades
    if with_missed:
        others = [text for text in documents if text not in positive]
        documents, grades = positive + others, [1] * len(positive) + [0] * len(others)
    return Sample(query, documents, grades, first_stage)


def _read(sample: Any, number: int, others: str) -> tuple[str, list[str], list[str]]:
    """Read query, positive texts and other texts; one text counts as a list of one."""
    missing = [key for key in ("query", "positive", others) if key not in sample]
    if missing:
        raise DataError(f"sample {number}: no {missing[0]!r} among {list(sample)}")
    query = check_text(sample["query"], f"sample {number}, query")
    positive, rest = (_texts(sample[key], f"sample {number}, {key}") for key in ("positive", others))
    return query, positive, rest


def _texts(value: Any, where: str) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [check_text(value, where)]
    return [check_text(text, f"{where}[{i}]") for i, text in enumerate(value)]
