"""What a model looks at, and where it errs: pairs changed in one way, and errors by kind of pair.

A probe changes every pair in one known way; whether the prediction follows says what the model reads.
A model that answers the same with the left text gone has not read a pair (Poliak et al., "Hypothesis
only baselines in natural language inference", 2018), and one that answers the same with shuffled
words has not read their order (Sinha et al., "UnNatural language inference", 2021). For exchanged
sides see Wang et al., "What if we simply swap the two text fragments?", 2019.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import Pairs, as_pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.classification import as_probabilities, predict_classes
from crossenc_kit.evaluation.metrics import bootstrap_interval
from crossenc_kit.evaluation.similarity import rows_by_tag
from crossenc_kit.history import Report
from crossenc_kit.retrieval.baselines import word_overlap
from crossenc_kit.scorers import Scorer, score_pairs

Probe = Callable[[Pairs, int], Pairs]
NEGATION = re.compile(r"\b(?:(\w+)n['’]t|(can)not|not|never)\b(\s?)", re.IGNORECASE)
IRREGULAR = {"wo": "will", "ca": "can", "sha": "shall"}  # won't, can't, shan't
AUXILIARY = re.compile(
    r"(?<!\b[Tt]he )(?<!\b[Aa] )\b(?:am|is|are|was|were|can|could|will|would|shall|should|may|might"
    r"|must)\b"
)
# First words that lose their capital inside a sentence; any other may be a name.
OPENINGS = re.compile(
    r"(?:an?|the|my|nobody|this|that|these|those|some|all|both|each|every|most|many|few|half|one|two"
    r"|three|he|she|it|they|we|you|his|her|its|their|our|your|there|in|on|at|after|before|during|when"
    r"|while|if)\b",
    re.IGNORECASE,
)
GIVEN = "as given"


def swap(pairs: Pairs, seed: int = 0) -> Pairs:
    """Exchange left and right."""
    return replace(pairs, left=list(pairs.right), right=list(pairs.left))


def negate(pairs: Pairs, seed: int = 0) -> Pairs:
    """Negate the right text as `negated` does; labels stay, so a good model's accuracy falls."""
    return replace(pairs, right=[negated(text) for text in pairs.right])


def right_only(pairs: Pairs, seed: int = 0) -> Pairs:
    """Empty the left text."""
    return replace(pairs, left=[""] * len(pairs.left))


def left_only(pairs: Pairs, seed: int = 0) -> Pairs:
    """Empty the right text."""
    return replace(pairs, right=[""] * len(pairs.right))


def shuffle_words(pairs: Pairs, seed: int = 0) -> Pairs:
    """Shuffle the words of each text, split at white space, in an order that `seed` fixes."""
    rng = np.random.default_rng(seed)

    def shuffled(text: str) -> str:
        words = text.split()
        return " ".join(words[i] for i in rng.permutation(len(words)))

    left = [shuffled(text) for text in pairs.left]
    return replace(pairs, left=left, right=[shuffled(text) for text in pairs.right])


def negated(text: str) -> str:
    """Negate an English statement by the first of three rules that fits.

    Take out the first "not", "never", "n't" or "cannot"; or put "not" after the first form of "be" or
    modal verb; or put "It is not true that" before the text. A text without a word stays as it is.
    The rules know no grammar: long sentences may come out clumsy, or negated in the wrong clause.
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
    inside = text[:1].lower() + text[1:] if OPENINGS.match(text) else text
    return f"It is not true that {inside}"


PROBES: dict[str, Probe] = {
    "swap": swap,
    "negate": negate,
    "right only": right_only,
    "left only": left_only,
    "shuffled words": shuffle_words,
}


@dataclass(frozen=True)
class ProbeRow:
    """Say how one probe moved a scorer, over all pairs.

    For several classes, the score is the probability of the class predicted for the pair as given.
    """

    name: str
    accuracy: float | None  # against the labels as given; None for pairs without class labels
    mean: float  # of the scores
    change: float  # mean of the score less that of the pair as given
    absolute_change: float  # mean size of the change
    flipped: float  # share of pairs that change class, or side of the threshold


@dataclass(frozen=True, eq=False)
class ProbeReport(Report):
    """Report what each probe does to a scorer; the first row is the pairs as given."""

    count: int
    rows: tuple[ProbeRow, ...]
    scores: dict[str, np.ndarray]  # by name of the row, scores (N,) or probabilities (N, C)

    @property
    def metrics(self) -> dict[str, float]:
        """Return the accuracy as given, if there are labels, and the share each probe flipped."""
        given, *rows = self.rows
        found = {} if given.accuracy is None else {"accuracy": given.accuracy}
        return found | {f"flipped by {row.name}": row.flipped for row in rows}

    def __str__(self) -> str:
        several = self.scores[GIVEN].ndim == 2
        head = f"{'accuracy':>9}{'P(class)' if several else 'score':>10}   change  |change|  flipped"
        lines = [f"{self.count:,} pairs", f"  {'':<22}{head}"]
        for row in self.rows:
            accuracy = "" if row.accuracy is None else f"{row.accuracy:.3f}"
            line = f"  {row.name:<22}{accuracy:>9}{row.mean:>10.3f}"
            if row is not self.rows[0]:
                line += f"{row.change:>+9.3f}{row.absolute_change:>10.3f}{row.flipped:>9.1%}"
            lines.append(line)
        if several:
            lines.append("  P(class): mean probability of the class predicted for the pair as given")
        return "\n".join(lines)


def probe(
    scorer: Scorer,
    data: Any,
    probes: Iterable[str] | Mapping[str, Probe] = tuple(PROBES),
    *,
    threshold: float = 0.5,
    seed: int = 0,
) -> ProbeReport:
    """Score pairs as given and under each probe, and say what moved.

    probes: names of `PROBES`, by default all, or `{name: function of (pairs, seed)}`
    threshold: divides scores `(N,)` in two; of `(N, C)` the largest counts

    Raises `DataError` if there are no pairs, or a probe changes their number.
    """
    pairs = _one_pair_each(as_pairs(data))
    if not pairs.num_pairs:
        raise DataError("there are no pairs to probe")
    scores = {GIVEN: score_pairs(scorer, pairs.texts)}
    for name, function in _chosen(probes).items():
        changed = function(pairs, seed)
        if (made := changed.num_pairs) != pairs.num_pairs:
            raise DataError(f"the probe {name!r} made {made} pairs of {pairs.num_pairs}")
        scores[name] = score_pairs(scorer, changed.texts)
    given = scores[GIVEN]
    if given.ndim > 1:
        scores = {name: as_probabilities(values) for name, values in scores.items()}
        given = scores[GIVEN]
    labels = _class_labels(pairs, given)
    rows = [_probe_row(name, own, given, labels, threshold) for name, own in scores.items()]
    return ProbeReport(pairs.num_pairs, tuple(rows), scores)


def _probe_row(
    name: str,
    scores: np.ndarray,
    given: np.ndarray,
    labels: np.ndarray | None,
    threshold: float,
) -> ProbeRow:
    cut = threshold if given.ndim == 1 else None
    before, after = predict_classes(given, cut), predict_classes(scores, cut)
    accuracy = None if labels is None else float(np.mean(after == labels))
    if given.ndim == 2:
        every = np.arange(len(given))
        scores, given = scores[every, before], given[every, before]  # (N,) of the class as given
    change = scores - given
    moved = (scores.mean(), change.mean(), np.abs(change).mean(), np.mean(before != after))
    return ProbeRow(name, accuracy, *map(float, moved))


def _chosen(probes: Iterable[str] | Mapping[str, Probe]) -> Mapping[str, Probe]:
    if isinstance(probes, Mapping):
        return probes
    names = list(probes)
    if unknown := [name for name in names if name not in PROBES]:
        raise ValueError(f"unknown probe {unknown[0]!r}; there are: {', '.join(PROBES)}")
    return {name: PROBES[name] for name in names}


def _one_pair_each(pairs: Pairs) -> Pairs:
    """Return the same pairs in groups of one, each with the tags of its group."""
    group = np.repeat(np.arange(len(pairs)), np.diff(pairs.offsets))
    tags = {name: [column[g] for g in group] for name, column in pairs.tags.items()}
    return replace(pairs, offsets=np.arange(pairs.num_pairs + 1), tags=tags)


def _class_labels(pairs: Pairs, scores: np.ndarray) -> np.ndarray | None:
    """Return the labels `(N,)` if they are classes of the scorer, else None."""
    classes = scores.shape[1] if scores.ndim == 2 else 2
    if pairs.labels is None or pairs.labels.ndim != 1:
        return None
    return pairs.labels.astype(int) if np.isin(pairs.labels, range(classes)).all() else None


@dataclass(frozen=True)
class ErrorSlice:
    """Describe one kind of pairs, and how good the scorer is on it."""

    by: str  # the column that tells kinds apart, such as "length"
    name: str  # the kind, such as "9 to 30 words"
    count: int
    value: float  # mean of the metric
    interval: tuple[float, float]  # 95 %


@dataclass(frozen=True)
class ErrorSlices(Report):
    """Hold slices of the pairs, as a sequence, beside the metric over all of them."""

    slices: tuple[ErrorSlice, ...]
    metric: str  # accuracy, or mean |error|
    overall: float  # of all pairs

    @property
    def metrics(self) -> dict[str, float]:
        """Return the value of all pairs, then that of each slice."""
        return {"all": self.overall} | {f"{own.by}: {own.name}": own.value for own in self.slices}

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, at: Any) -> Any:
        return self.slices[at]

    def __iter__(self) -> Iterator[ErrorSlice]:
        return iter(self.slices)

    def __str__(self) -> str:
        lines = [
            f"  {'':<40}{'pairs':>8}{self.metric:>15}  95 % interval",
            f"  {'all':<48}{self.overall:>15.3f}",
        ]
        for part in self.slices:
            low, high = part.interval
            figures = f"{part.count:>8,}{part.value:>15.3f}  {low:.3f} to {high:.3f}"
            lines.append(f"  {f'{part.by}: {part.name}':<40}{figures}")
        return "\n".join(lines)


def error_slices(
    report: Any,
    data: Any,
    *,
    by: Sequence[str] = ("length", "overlap"),
    bins: int = 4,
    resamples: int = 1000,
    seed: int = 0,
) -> ErrorSlices:
    """Measure a report within kinds of pairs: accuracy, or mean |score - label| of a correlation.

    data: the pairs that were evaluated
    by: "length" (words of both texts) and "overlap" (shared words, 0..1), each cut into at most `bins`
        bins of about equal size, and names of tag columns, the most frequent tag first

    Raises `DataError` if the data are not those of the report, or a column is missing.
    """
    pairs = _one_pair_each(as_pairs(data))
    labels = report.labels if pairs.labels is None else pairs.labels
    if pairs.num_pairs != report.count or not np.array_equal(labels, report.labels):
        raise DataError(
            f"the {pairs.num_pairs} pairs or their labels are not those of the report, which has "
            f"{report.count}; give the pairs that were evaluated"
        )
    if hasattr(report, "correct"):
        metric, values = "accuracy", report.correct().astype(float)
    else:
        metric, values = "mean |error|", np.abs(report.scores - report.labels)
    found = []
    for column in by:
        for name, rows in _slices(pairs, column, bins):
            own = values[rows]
            interval = bootstrap_interval(np.mean, own, resamples=resamples, seed=seed)
            found.append(ErrorSlice(column, name, len(rows), float(own.mean()), interval))
    return ErrorSlices(tuple(found), metric, float(values.mean()))


def _slices(pairs: Pairs, column: str, bins: int) -> list[tuple[str, Any]]:
    """Return (name, row numbers) of each kind of pairs that a column tells apart."""
    if column in pairs.tags:
        rows = rows_by_tag(pairs.tags[column], pairs.num_pairs)
        if len(rows) == pairs.num_pairs > 1:  # an id
            raise DataError(f"column {column!r} has another value for each pair, so nothing to slice by")
        return list(rows.items())
    if column == "length":
        lengths = [len(left.split()) + len(right.split()) for left, right in pairs.texts]
        return _binned(np.array(lengths), bins, "{:g}", " words")
    if column == "overlap":
        return _binned(word_overlap(pairs.texts), bins, "{:.2f}", "")
    known = ", ".join(["length", "overlap", *pairs.tags])
    raise DataError(f"no column {column!r}; there are: {known}")


def _binned(values: np.ndarray, bins: int, form: str, unit: str) -> list[tuple[str, np.ndarray]]:
    """Cut values into at most `bins` (range, row numbers) of about equal size, equal ones together."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, values, side="right")
    found = []
    for rows in (np.flatnonzero(place == p) for p in np.unique(place)):
        low, high = form.format(values[rows].min()), form.format(values[rows].max())
        name = low if low == high else f"{low} to {high}"
        found.append((name + unit, rows))
    return found
