"""Evaluators of reranking under the names of sentence-transformers: one of 3.x, and one of 4 and later.

Q samples, each a query with K candidate texts that are relevant (grade 1) or not (grade 0). How the metrics order
candidates with equal scores is said in `ranking_metrics`; sentence-transformers leaves it to the sorting.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.pairs import check_text
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.ranking_metrics import average_precision_of, ndcg, reciprocal_rank
from crossenc_kit.scorers import raw_options
from crossenc_kit.sentence_transformers.evaluators import Evaluator

logger = logging.getLogger(__name__)


class Candidates(NamedTuple):
    """What is ranked for a query: K texts and grades; `first_stage`: the grades of the order given, None for none."""

    query: str
    texts: list[str]
    grades: list[int]
    first_stage: list[int] | None = None


class CERerankingEvaluator(Evaluator):
    """MRR@k of reranked candidates, beside nDCG@k: means over the samples.

    `samples`: dicts (or a dict of them) with `query`, `positive` and `negative` texts; those that lack positives or
    negatives are left out, as in 3.4. `mrr_at_k` is an older name of `at_k`, and goes before it. Raises `DataError`
    naming the sample that lacks a key or a text, and where none is left to rank.
    """

    def __init__(
        self, samples: Any, at_k: int = 10, name: str = "", write_csv: bool = True, mrr_at_k: int | None = None
    ):
        self.at_k = _depth(at_k, mrr_at_k)
        super().__init__(name, write_csv, suffix=f"_@{self.at_k}")
        self.samples = _samples(samples)
        groups = {number: _candidates(sample, number) for number, sample in enumerate(self.samples)}
        self.groups = {number: group for number, group in groups.items() if 0 < sum(group.grades) < len(group.grades)}
        if not self.groups:
            raise DataError("no sample has both positives and negatives: there is nothing to rank")
        _warn_of_repeated(f"{type(self).__name__} {name}".rstrip(), self.groups)
        logger.info("%s of %s samples have positives and negatives", len(self.groups), len(groups))

    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        scores = _scores_of_each(self, model, self.groups)
        each = [_metrics(scores[number], group.grades, self.at_k)[1:] for number, group in self.groups.items()]
        mrr, gain = map(float, np.mean(each, axis=0))
        self.write(output_path, epoch, steps, {f"MRR@{self.at_k}": mrr, f"NDCG@{self.at_k}": gain})
        return mrr


class CrossEncoderRerankingEvaluator(Evaluator):
    """MAP, MRR@k and nDCG@k of reranked candidates; with ranked `documents` also those of the order given (`base_`).

    `samples`: dicts (or a dict of them) with `query`, `positive` (a text or several), and either `negative` texts or
    `documents`, the candidates of a first stage from best to worst. The figures are means over all samples; one
    whose candidates include no positive counts 0. nDCG is the one to select by. Raises `DataError` naming the sample
    that lacks a key or a text.

    With `always_rerank_positives` the positives that the first stage missed are ranked as well. That is the default of
    sentence-transformers, and flatters: a first stage that finds nothing looks as good as one that finds everything.
    Here it is off unless asked for; a missed positive is then no candidate, which lowers the figures only of a sample
    where all are missed.
    `base_` counts missed positives as ranked below everything else, whichever is chosen, as in sentence-transformers.
    So without `always_rerank_positives` the model's MAP and nDCG are over found positives only, those of `base_` over
    all: even the order left as it was is above `base_` where positives were missed. `evaluate_ranking` has both over
    all positives.
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
        self.at_k = _depth(at_k, mrr_at_k)
        super().__init__(name, write_csv, suffix=f"_@{self.at_k}")
        self.samples, self.always_rerank_positives = _samples(samples), always_rerank_positives
        self.groups = {i: _ranked(sample, i, always_rerank_positives) for i, sample in enumerate(self.samples)}
        _warn_of_repeated(f"{type(self).__name__} {name}".rstrip(), self.groups)
        self.options: dict[str, Any] = {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
        self.answer({}, f"ndcg@{self.at_k}")

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        usable = {number: group for number, group in self.groups.items() if any(group.grades)}
        scores = _scores_of_each(self, model, usable, **self.options)
        each = [_metrics(scores.get(number, ()), group.grades, self.at_k) for number, group in self.groups.items()]
        names = ("MAP", f"MRR@{self.at_k}", f"NDCG@{self.at_k}")
        found = dict(zip(names, np.mean(each, axis=0).tolist(), strict=True))
        self.write(output_path, epoch, steps, found)
        answer = {key.lower(): value for key, value in found.items()}
        orders = [group.first_stage for group in self.groups.values() if group.first_stage is not None]
        if orders:
            base = np.mean([_metrics(-np.arange(len(order)), order, self.at_k) for order in orders], axis=0)
            self.log_first_stage(dict(zip(names, base.tolist(), strict=True)), len(orders))
            answer |= {f"base_{key.lower()}": value for key, value in zip(names, base.tolist(), strict=True)}
        return self.answer(answer, f"ndcg@{self.at_k}")

    def log_first_stage(self, base: Mapping[str, float], count: int) -> None:
        """Log what the order given reaches, and whether the figures of the model are of more than was found."""
        title = f"{type(self).__name__} {self.name}".rstrip()
        said = ", ".join(f"{key} {value:.4f}" for key, value in base.items())
        logger.info("%s, first stage of %s samples: %s", title, count, said)
        if self.always_rerank_positives:
            logger.info("%s: positives that the first stage missed were reranked too, which flatters", title)
        else:
            logger.info("%s: the model's figures are over found positives only, base_ counts missed ones", title)


def _warn_of_repeated(title: str, groups: Mapping[int, Candidates]) -> None:
    """Log samples that have one text as several candidates, each of which counts, as in sentence-transformers."""
    repeated = [number for number, group in groups.items() if len(set(group.texts)) < len(group.texts)]
    both = [
        i for i in repeated if len(set(zip(groups[i].texts, groups[i].grades, strict=True))) > len({*groups[i].texts})
    ]
    for what, found in (
        ("have a text more than once among their candidates, and each counts", repeated),
        ("have a text both as a positive and as a negative", both),
    ):
        if found:
            logger.warning(
                "%s: %s of %s samples %s; the first is sample %s", title, len(found), len(groups), what, found[0]
            )


def _metrics(scores: Any, grades: Sequence[int], k: int) -> tuple[float, float, float]:
    """Average precision, reciprocal rank and nDCG of one sample: 0 where nothing is relevant, scored or not."""
    if not any(grades):
        return 0.0, 0.0, 0.0
    return average_precision_of(scores, grades), reciprocal_rank(scores, grades, k), ndcg(scores, grades, k)


def _scores_of_each(
    evaluator: Evaluator, model: Any, groups: Mapping[int, Candidates], **options: Any
) -> dict[int, np.ndarray]:
    """The scores `(K,)` of each sample's candidates, by the sample's number, from one call of the model: raw ones."""
    rows = [(number, place) for number, group in groups.items() for place in range(len(group.texts))]
    pairs = [[groups[number].query, groups[number].texts[place]] for number, place in rows]
    if not pairs:
        return {}

    def where(row: int) -> str:
        return f"sample {rows[row][0]}, candidate {rows[row][1]} ({pairs[row][1][:40]!r})"

    scores = evaluator.scores_of(model, pairs, classes=False, where=where, **{**raw_options(model), **options})
    ends = np.cumsum([len(group.texts) for group in groups.values()])
    return dict(zip(groups, np.split(scores, ends[:-1]), strict=True))


def _depth(at_k: int, mrr_at_k: int | None) -> int:
    """The k of MRR@k, under either of its names."""
    if mrr_at_k is not None:
        logger.warning("mrr_at_k is an older name: use at_k=%s", mrr_at_k)
    depth = at_k if mrr_at_k is None else mrr_at_k
    if depth < 1:
        raise ValueError(f"at_k must be at least 1, got {depth}")
    return depth


def _samples(samples: Any) -> list[Any]:
    """The samples of a list or a dict of them; raises `DataError` where there are none."""
    found = list(samples.values() if isinstance(samples, Mapping) else samples)
    if not found:
        raise DataError("there are no samples to rank")
    return found


def _candidates(sample: Any, number: int) -> Candidates:
    """Positives and negatives as candidates, of grade 1 and 0."""
    query = _query(sample, number)
    positive, negative = (_texts(sample, number, key) for key in ("positive", "negative"))
    return Candidates(query, positive + negative, [1] * len(positive) + [0] * len(negative))


def _ranked(sample: Any, number: int, with_missed: bool) -> Candidates:
    """The candidates of a sample with `negative` or `documents`; `with_missed`: also positives not among documents."""
    query = _query(sample, number)
    if ("negative" in sample) == ("documents" in sample):
        raise DataError(f"sample {number}: exactly one of 'negative' and 'documents' is needed")
    if "documents" not in sample:
        return _candidates(sample, number)
    positive, documents = _texts(sample, number, "positive"), _texts(sample, number, "documents")
    if not isinstance(sample["documents"], (Sequence, np.ndarray)):
        raise DataError(f"sample {number}: documents must be in order, got {type(sample['documents']).__name__}")
    grades = [int(text in positive) for text in documents]
    missed = [text for text in positive if text not in documents]
    first_stage = grades + [1] * len(missed) if any(grades) else grades  # found nothing: 0, wherever it goes on
    if with_missed:
        others = [text for text in documents if text not in positive]
        documents, grades = positive + others, [1] * len(positive) + [0] * len(others)
    return Candidates(query, documents, grades, first_stage)


def _query(sample: Any, number: int) -> str:
    return check_text(_value(sample, number, "query"), f"sample {number}, query")


def _texts(sample: Any, number: int, key: str) -> list[str]:
    """A sample's entry as texts; one text counts as a list of one."""
    value = _value(sample, number, key)
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        return [check_text(value, f"sample {number}, {key}")]
    return [check_text(text, f"sample {number}, {key}[{i}]") for i, text in enumerate(value)]


def _value(sample: Any, number: int, key: str) -> Any:
    if not isinstance(sample, Mapping):
        kind = type(sample).__name__
        raise DataError(f"sample {number}: expected a dict with query, positive and negative or documents, got {kind}")
    if key not in sample:
        raise DataError(f"sample {number}: no {key!r} among {list(sample)}")
    return sample[key]
