"""What a model looks at, and where it errs: pairs changed in one way, and errors by kind of pair.

A probe changes every pair in one known way; whether the prediction follows says what the model reads. One that
answers the same with the left text gone has not read a pair (Poliak et al., "Hypothesis only baselines in natural
language inference", 2018), one that answers the same with shuffled words has not read their order (Sinha et al.,
"UnNatural language inference", 2021). For exchanged sides see Wang et al., "What if we simply swap the two text
fragments?", 2019.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import Pairs, as_pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.classification import as_probabilities, predict_classes
from crossenc_kit.evaluation.metrics import bootstrap_interval
from crossenc_kit.evaluation.similarity import by_tag
from crossenc_kit.retrieval.baselines import word_overlap
from crossenc_kit.scorers import Scorer, score_pairs

Probe = Callable[[Pairs, int], Pairs]
NEGATION = re.compile(r"\b(?:(\w+)n['’]t|(can)not|not|never)\b(\s?)", re.IGNORECASE)
IRREGULAR = {"wo": "will", "ca": "can", "sha": "shall"}  # won't, can't, shan't
AUXILIARY = re.compile(
    r"(?<!\b[Tt]he )(?<!\b[Aa] )\b(?:am|is|are|was|were|can|could|will|would|shall|should|may|might|must)\b"
)
# First words that lose their capital inside a sentence; any other may be a name.
OPENINGS = re.compile(
    r"(?:an?|the|my|nobody|this|that|these|those|some|all|both|each|every|most|many|few|half|one|two|three|he|she|it|they|we|you|"
    r"his|her|its|their|our|your|there|in|on|at|after|before|during|when|while|if)\b",
    re.IGNORECASE,
)
GIVEN = "as given"


def swap(pairs: Pairs, seed: int = 0) -> Pairs:
    """Left and right exchanged."""
    return replace(pairs, left=list(pairs.right), right=list(pairs.left))


def negate(pairs: Pairs, seed: int = 0) -> Pairs:
    """The right text denied, by the rule of `negated`; the labels stay, so a good model's accuracy falls."""
    return replace(pairs, right=[negated(text) for text in pairs.right])


def right_only(pairs: Pairs, seed: int = 0) -> Pairs:
    """The left text emptied."""
    return replace(pairs, left=[""] * len(pairs.left))


def left_only(pairs: Pairs, seed: int = 0) -> Pairs:
    """The right text emptied."""
    return replace(pairs, right=[""] * len(pairs.right))


def shuffle_words(pairs: Pairs, seed: int = 0) -> Pairs:
    """The words of each text, split at white space, in a random order that `seed` fixes."""
    rng = np.random.default_rng(seed)

    def shuffled(text: str) -> str:
        words = text.split()
        return " ".join(words[i] for i in rng.permutation(len(words)))

    return replace(pairs, left=[shuffled(text) for text in pairs.left], right=[shuffled(text) for text in pairs.right])


def negated(text: str) -> str:
    """An English statement denied by the first of three rules that fits.

    A first "not", "never", "n't" or "cannot" is taken out; else "not" is put after the first form of "be" or modal
    verb; else "It is not true that" is put before the text. Text without a word stays as it is. The rules know no
    grammar: questions and long sentences may come out clumsy, or denied in the wrong clause.
    """
    if not re.search(r"\w", text):
        return text
    found = NEGATION.search(text)
    if found:
        stem = found[1] or found[2]
        stem = IRREGULAR.get(stem.lower(), stem) + found[3] if stem else ""
        denied = (text[: found.start()] + stem + text[found.end() :]).strip()
        return denied[:1].upper() + denied[1:] if text[:1].isupper() else denied
    found = AUXILIARY.search(text)
    if found:
        return f"{text[: found.end()]} not{text[found.end() :]}"
    return "It is not true that " + (text[:1].lower() + text[1:] if OPENINGS.match(text) else text)


PROBES: dict[str, Probe] = {
    "swap": swap,
    "negate": negate,
    "right only": right_only,
    "left only": left_only,
    "shuffled words": shuffle_words,
}


@dataclass(frozen=True)
class ProbeRow:
    """How one probe moved a scorer, over all pairs.

    `mean`: the mean score; of several classes, the mean probability of the class that was predicted for the pair as
    given. `change`, `absolute_change`: mean of that score less the one of the pair as given, and of its size.
    `flipped`: share of the pairs that get another class, or a score on the other side of the threshold.
    `accuracy`: against the labels of the pairs as given; None for pairs without class labels.
    """

    name: str
    accuracy: float | None
    mean: float
    change: float
    absolute_change: float
    flipped: float


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """What probes do to a scorer; the first row is the pairs as given.

    `scores`: name of the row to `(N,)` scores or `(N, C)` probabilities.
    """

    count: int
    rows: tuple[ProbeRow, ...]
    scores: dict[str, np.ndarray]

    def __str__(self) -> str:
        several = self.scores[self.rows[0].name].ndim == 2
        score = "P(class)" if several else "score"
        lines = [f"{self.count:,} pairs", f"  {'':<22}{'accuracy':>9}{score:>10}   change  |change|  flipped"]
        for row in self.rows:
            accuracy = "" if row.accuracy is None else f"{row.accuracy:.3f}"
            moved = f"{row.change:>+9.3f}{row.absolute_change:>10.3f}{row.flipped:>9.1%}"
            lines.append(f"  {row.name:<22}{accuracy:>9}{row.mean:>10.3f}" + (moved if row is not self.rows[0] else ""))
        if several:
            lines.append("  P(class): mean probability of the class predicted for the pair as given")
        return "\n".join(lines)


def probe(
    scorer: Scorer,
    data: Any,
    probes: Iterable[str] | Mapping[str, Probe] | None = None,
    *,
    threshold: float = 0.5,
    seed: int = 0,
) -> ProbeReport:
    """Score the pairs as given and under each probe, and say what moved.

    `probes`: names of `PROBES` (default: all), or a mapping of name to a function of `(Pairs, seed)`. The scorer
    gives `(N,)` scores, whose two sides `threshold` divides, or `(N, C)`. Labels are not needed. Raises `DataError`
    where there are no pairs or a probe changes their number, `ValueError` for an unknown name.
    """
    pairs = _one_pair_each(as_pairs(data))
    if not pairs.num_pairs:
        raise DataError("there are no pairs to probe")
    scores = {GIVEN: score_pairs(scorer, pairs.texts)}
    for name, function in _chosen(probes).items():
        changed = function(pairs, seed)
        if changed.num_pairs != pairs.num_pairs:
            raise DataError(f"the probe {name!r} made {changed.num_pairs} pairs of {pairs.num_pairs}")
        scores[name] = score_pairs(scorer, changed.texts)
    if scores[GIVEN].ndim > 1:
        scores = {name: as_probabilities(values) for name, values in scores.items()}
    labels = _class_labels(pairs, scores[GIVEN])
    rows = [_probe_row(name, values, scores[GIVEN], labels, threshold) for name, values in scores.items()]
    return ProbeReport(pairs.num_pairs, tuple(rows), scores)


def _probe_row(
    name: str, scores: np.ndarray, given: np.ndarray, labels: np.ndarray | None, threshold: float
) -> ProbeRow:
    cut = threshold if given.ndim == 1 else None
    before, after = predict_classes(given, cut), predict_classes(scores, cut)
    accuracy = None if labels is None else float(np.mean(after == labels))
    if given.ndim == 2:
        every = np.arange(len(given))
        scores, given = scores[every, before], given[every, before]
    change = scores - given
    moved = (scores.mean(), change.mean(), np.abs(change).mean(), np.mean(before != after))
    return ProbeRow(name, accuracy, *map(float, moved))


def _chosen(probes: Iterable[str] | Mapping[str, Probe] | None) -> Mapping[str, Probe]:
    if probes is None or isinstance(probes, Mapping):
        return PROBES if probes is None else probes
    names = [probes] if isinstance(probes, str) else list(probes)
    unknown = [name for name in names if name not in PROBES]
    if unknown:
        raise ValueError(f"unknown probe {unknown[0]!r}; there are: {', '.join(PROBES)}")
    return {name: PROBES[name] for name in names}


def _one_pair_each(pairs: Pairs) -> Pairs:
    """The same pairs in groups of one, each with the tags of its group."""
    group = np.repeat(np.arange(len(pairs)), np.diff(pairs.offsets))
    tags = {name: [column[g] for g in group] for name, column in pairs.tags.items()}
    return replace(pairs, offsets=np.arange(pairs.num_pairs + 1), tags=tags)


def _class_labels(pairs: Pairs, scores: np.ndarray) -> np.ndarray | None:
    """The labels `(N,)` if they are classes of the scorer, else None (no labels, or graded ones)."""
    classes = scores.shape[1] if scores.ndim == 2 else 2
    if pairs.labels is None or pairs.labels.ndim != 1 or not np.isin(pairs.labels, range(classes)).all():
        return None
    return pairs.labels.astype(int)


@dataclass(frozen=True)
class ErrorSlice:
    """One kind of pairs: which (`by`, `name`), how many, the metric's mean `value` and its 95 % `interval`."""

    by: str
    name: str
    count: int
    value: float
    interval: tuple[float, float]


class Slices(list[ErrorSlice]):
    """A list of `ErrorSlice`s that prints as a table; `metric` names the values, `overall` is that of all pairs."""

    def __init__(self, slices: Iterable[ErrorSlice], metric: str, overall: float):
        super().__init__(slices)
        self.metric, self.overall = metric, overall

    def __str__(self) -> str:
        lines = [f"  {'':<40}{'pairs':>8}{self.metric:>15}  95 % interval", f"  {'all':<48}{self.overall:>15.3f}"]
        for part in self:
            low, high = part.interval
            label = f"{part.by}: {part.name}"
            lines.append(f"  {label:<40}{part.count:>8,}{part.value:>15.3f}  {low:.3f} to {high:.3f}")
        return "\n".join(lines)


def error_slices(
    report: Any,
    data: Any,
    *,
    by: Sequence[str] = ("length", "overlap"),
    bins: int = 4,
    resamples: int = 1000,
    seed: int = 0,
) -> Slices:
    """A report's accuracy (mean |score - label| for a `CorrelationReport`) within kinds of pairs, with intervals.

    `data`: the pairs that were evaluated. `by`: "length" (words of both texts) and "overlap" (shared words, 0..1),
    each cut into at most `bins` bins of about equal size, and names of tag columns of the `Pairs`, the most frequent
    tag first. Raises `DataError` where the data are not those of the report or a column is missing.
    """
    pairs = _one_pair_each(as_pairs(data))
    if pairs.num_pairs != report.count:
        raise DataError(f"the report is of {report.count} pairs, the data have {pairs.num_pairs}; give the same pairs")
    if pairs.labels is not None and not np.array_equal(pairs.labels, report.labels):
        raise DataError("the labels of the data are not those of the report; give the pairs that were evaluated")
    if hasattr(report, "correct"):
        metric, values = "accuracy", report.correct().astype(float)
    else:
        metric, values = "mean |error|", np.abs(report.scores - report.labels)
    found = []
    for column in by:
        for name, rows in _slices(pairs, column, bins):
            interval = bootstrap_interval(np.mean, values[rows], resamples=resamples, seed=seed)
            found.append(ErrorSlice(column, name, len(rows), float(values[rows].mean()), interval))
    return Slices(found, metric, float(values.mean()))


def _slices(pairs: Pairs, column: str, bins: int) -> list[tuple[str, np.ndarray]]:
    """(name, row numbers) of each kind of pairs that a column tells apart."""
    if column in pairs.tags:
        every = np.arange(pairs.num_pairs)
        rows: dict[str, Any] = by_tag(lambda rows, _: rows, every, every, pairs.tags[column])
        if len(rows) == pairs.num_pairs > 1:  # an id
            raise DataError(f"column {column!r} has another value for each pair; a slice needs pairs that share one")
        return list(rows.items())
    if column == "length":
        lengths = [len(left.split()) + len(right.split()) for left, right in pairs.texts]
        return _binned(np.array(lengths), bins, "{:g}", " words")
    if column == "overlap":
        return _binned(word_overlap(pairs.texts), bins, "{:.2f}", "")
    raise DataError(f"no column {column!r}; there are: {', '.join(['length', 'overlap', *pairs.tags])}")


def _binned(values: np.ndarray, bins: int, form: str, unit: str) -> list[tuple[str, np.ndarray]]:
    """(range in words, row numbers) of at most `bins` bins of about equal size; equal values stay together."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, values, side="right")
    found = []
    for rows in (np.flatnonzero(place == p) for p in np.unique(place)):
        low, high = form.format(values[rows].min()), form.format(values[rows].max())
        found.append((f"{low}{'' if low == high else f' to {high}'}{unit}", rows))
    return found
