"""One internal form for every example: flat columns of left and right texts, cut into groups.

Whatever a caller brings (`InputExample`s, tuples, dict rows, a `datasets.Dataset`) becomes `Pairs`.
A pointwise example is a group of one pair; a query with its candidate documents is a group of K.
Texts and labels are checked here, once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from crossenc_kit.errors import DataError
from crossenc_kit.files import text_hash
from crossenc_kit.history import html_table

TARGET_COLUMNS = ("label", "labels", "score", "scores")
SHOWN_ROWS = 5  # examples of a table that a notebook shows
SHOWN_LETTERS = 100  # of each of their texts


class InputExample:
    """One example: its texts and its label, spelled as in sentence-transformers 3.x."""

    __slots__ = ("guid", "label", "texts")

    def __init__(self, guid: str = "", texts: Sequence[str] | None = None, label: Any = 0):
        self.guid = guid
        self.texts = texts
        self.label = label

    def __repr__(self) -> str:
        return f"InputExample(texts={self.texts!r}, label={self.label!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InputExample):
            return NotImplemented
        return (self.guid, self.texts, self.label) == (other.guid, other.texts, other.label)


@dataclass(frozen=True, eq=False)
class Pairs(Sequence[InputExample]):
    """Hold N text pairs in G groups, as a sequence of G `InputExample`s.

    left, right: N texts each
    labels: `(N,)` or `(N, C)`; None for unlabelled pairs
    offsets: `(G + 1,)`; group g is the pairs `offsets[g]:offsets[g + 1]` (default: one pair each)
    tags: columns of length G that are not model input (a phenomenon, an id)
    notes: what a reader did to the data, in words (labels scaled, rows dropped)
    label_names: names of the classes; `(N,)` labels index them, `(N, C)` labels have one column per
        class, and may have gold labels in the columns after these
    """

    left: list[str]
    right: list[str]
    labels: np.ndarray | None = None
    offsets: np.ndarray = None  # type: ignore[assignment]
    tags: dict[str, list] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.offsets is None:
            object.__setattr__(self, "offsets", np.arange(len(self.left) + 1))
        lengths = {"right": len(self.right), "offsets[-1]": self.offsets[-1]}
        if self.labels is not None:
            lengths["labels"] = len(self.labels)
        for name, length in lengths.items():
            if length != len(self.left):
                raise DataError(f"{name} says {length} pairs, but there are {len(self.left)} left texts")
        for name, column in self.tags.items():
            if len(column) != len(self):
                raise DataError(f"tag {name!r} has {len(column)} values for {len(self)} examples")
        object.__setattr__(self, "label_names", tuple(self.label_names))
        _check_classes(self.label_names, self.labels)

    @property
    def num_pairs(self) -> int:
        """N, the number of pairs; `len()` is G, the number of groups."""
        return len(self.left)

    @property
    def is_pointwise(self) -> bool:
        """True if every group is one pair."""
        return self.num_pairs == len(self)

    @property
    def texts(self) -> list[tuple[str, str]]:
        """All N pairs of texts, in order."""
        return list(zip(self.left, self.right, strict=True))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[InputExample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        index = range(len(self))[index]  # negative indices, IndexError
        start, stop = int(self.offsets[index]), int(self.offsets[index + 1])
        label = None if self.labels is None else self.labels[start:stop].tolist()
        if stop - start == 1:
            return InputExample(texts=[self.left[start], self.right[start]], label=label and label[0])
        return InputExample(texts=[self.left[start], *self.right[start:stop]], label=label)

    def select(self, groups: Iterable[int]) -> Pairs:
        """Keep only the given groups, in the given order."""
        every = range(len(self))
        chosen = [every[g] for g in groups]  # negative indices, IndexError
        rows = [r for g in chosen for r in range(self.offsets[g], self.offsets[g + 1])]
        return replace(
            self,
            left=[self.left[r] for r in rows],
            right=[self.right[r] for r in rows],
            labels=None if self.labels is None else self.labels[rows],
            offsets=offsets_of([self.offsets[g + 1] - self.offsets[g] for g in chosen]),
            tags={name: [column[g] for g in chosen] for name, column in self.tags.items()},
        )

    def with_label_names(self, names: Sequence[str]) -> Pairs:
        """Put the classes in another order: indices are renumbered, columns of classes moved."""
        order = tuple(names)
        if not order or sorted(order) != sorted(self.label_names):
            raise DataError(f"the classes are {self.label_names}, got {order}; give the same names in another order")
        old = [self.label_names.index(name) for name in order]
        labels = None if self.labels is None else reordered(self.labels, old)
        return replace(self, labels=labels, label_names=order)

    def fingerprint(self) -> str:
        """Hash texts, groups, labels and their names: equal data gives the same 64 hex digits."""
        digest = text_hash((*self.left, *self.right, *self.label_names))
        digest.update(np.ascontiguousarray(self.offsets, dtype="<i8").tobytes())
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, dtype="<f8").tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        kind = "pairs" if self.is_pointwise else f"groups, {self.num_pairs:,} pairs"
        classes = f"classes {', '.join(self.label_names)}" if self.label_names else ""
        return "; ".join(filter(None, [f"Pairs: {len(self):,} {kind}", classes, *self.notes]))

    def _repr_html_(self) -> str:
        head = self[:SHOWN_ROWS]
        group_of = np.repeat(np.arange(len(head)), np.diff(head.offsets))
        labels = [""] * head.num_pairs if head.labels is None else head.labels
        texts = (map(shortened, column) for column in (head.left, head.right))
        rows = list(zip(group_of, *texts, labels, strict=True))[:SHOWN_ROWS]
        return html_table(("row", "left", "right", "label"), rows, repr(self))


def offsets_of(sizes: Sequence[int]) -> np.ndarray:
    """Turn G group sizes into `(G + 1,)` offsets."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)


def shortened(text: Any) -> str:
    """Cut a text to what a table in a notebook shows of it."""
    text = str(text)
    return text if len(text) <= SHOWN_LETTERS else text[:SHOWN_LETTERS] + "…"


def reordered(labels: np.ndarray, old: list[int]) -> np.ndarray:
    """Bring labels of C classes to a new order of the classes; `old` holds their former indices.

    `(N,)` labels are indices. Of `(N, k)` labels, each C columns are one per class, and a single
    column that is left over holds indices.
    """
    columns = labels.reshape(len(labels), -1) if labels.size else np.zeros((0, 1))
    parts = [columns[:, start : start + len(old)] for start in range(0, columns.shape[1], len(old))]
    new = np.argsort(old)
    moved = [part[:, old] if part.shape[1] == len(old) else new[part.astype(int)] for part in parts]
    return np.hstack(moved).astype(labels.dtype).reshape(labels.shape)


def _check_classes(names: tuple[str, ...], labels: np.ndarray | None) -> None:
    """Raise `DataError` for a name that comes twice, and for labels without a name."""
    if len(set(names)) < len(names):
        raise DataError(f"label_names has a name twice: {', '.join(names)}; give each class its own name")
    if not names or labels is None:
        return
    if labels.ndim > 1 and labels.shape[1] - len(names) not in (0, 1, len(names)):
        raise DataError(f"the labels have {labels.shape[1]} columns, but there are {len(names)} label_names")
    if labels.ndim == 1 and not (fits := np.isin(labels, range(len(names)))).all():
        row = int(np.flatnonzero(~fits)[0])
        known = ", ".join(f"{i} {name}" for i, name in enumerate(names))
        raise DataError(f"pair {row}: the label is {labels[row]:g}; expected {known} (-1 is none: drop the row)")


def check_text(value: Any, where: str) -> str:
    """Return `value` if it is a string, else raise `DataError` naming where it stood."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise DataError(f"{where}: the text is missing ({value!r}); drop the row or fill in the text")
    got = f"{type(value).__name__} {str(value)[:40]!r}"
    raise DataError(f"{where}: expected a string, got {got}; if it is a text, use str() on it")


def check_label(value: Any, where: str) -> float | list[float]:
    """Return a label as a finite number (or a list of them), else raise `DataError`."""
    if isinstance(value, (str, bytes)):
        raise DataError(f"{where}: the label is the string {value[:40]!r}; map label names to numbers first")
    if hasattr(value, "tolist"):  # numpy, torch
        value = value.tolist()
    if isinstance(value, Sequence):
        if not value:
            raise DataError(f"{where}: the label is an empty list; drop the row or give it a label")
        return [check_label(item, f"{where}[{i}]") for i, item in enumerate(value)]  # type: ignore[misc]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: the label is {value!r}; expected a number") from None
    if not math.isfinite(number):
        raise DataError(f"{where}: the label is {number}; drop the row or give it a finite label")
    return value if isinstance(value, int) else number


def as_pairs(data: Any) -> Pairs:
    """Turn examples in any accepted form into one `Pairs` table.

    Accepted: `Pairs`; a sequence of `InputExample`; of `(left, right)` or `(left, right, label)`
    tuples; of dict rows; a `datasets.Dataset`. In rows, the column named `label`, `labels`, `score`
    or `scores` is the target (a `ClassLabel` gives its names), the others are inputs in order. Two
    texts are a pair; a list in the second column, or more text columns, are candidates.

    Raises `DataError` naming row and column of the first text or label that cannot be used.
    """
    if isinstance(data, Pairs):
        return data
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise DataError(f"expected a list of examples, got {type(data).__name__}")
    left: list[str] = []
    right: list[str] = []
    labels: list[Any] = []
    sizes: list[int] = []
    for row, example in enumerate(data):
        query, documents, label = _split_row(example, row)
        left += [query] * len(documents)
        right += documents
        sizes.append(len(documents))
        if row and (label is None) == bool(labels):
            raise DataError(f"row {row}: some rows have a label and some have none; give every row one, or none")
        if label is not None:
            labels += labels_of(label, len(documents), f"row {row}")
    features = getattr(data, "features", None) or {}  # of a datasets.Dataset
    names = next((features[n].names for n in TARGET_COLUMNS if hasattr(features.get(n), "names")), ())
    return Pairs(left, right, label_array(labels), offsets_of(sizes), label_names=names)


def _split_row(example: Any, row: int) -> tuple[str, list[str], Any]:
    """Split one example into (query, documents, label or None)."""
    columns, label = _columns(example, row)
    if len(columns) < 2:
        raise DataError(f"row {row}: a pair needs two texts, got {len(columns)}: {list(columns.values())!r}")
    query, documents = texts_of_row(columns, f"row {row}, ")
    if label is None and len(columns) > 2 and not isinstance(example, InputExample):
        label = [1.0] + [0.0] * (len(documents) - 1)  # (anchor, positive, negative, ...)
    return query, documents, label


def texts_of_row(columns: Mapping[str, Any], where: str = "") -> tuple[str, list[str]]:
    """Check a row's input columns: the query, and the documents (texts or lists of texts)."""
    (first, query), *rest = columns.items()
    query = check_text(query, f"{where}column {first!r}")
    documents = [
        check_text(text, f"{where}column {name!r}")
        for name, value in rest
        for text in (value if isinstance(value, (list, tuple)) else [value])
    ]
    if not documents:
        raise DataError(f"{where}column {rest[0][0]!r}: the list of candidates is empty; drop the row")
    return query, documents


def _columns(example: Any, row: int) -> tuple[dict[str, Any], Any]:
    """Split one example into (named input columns, label or None)."""
    if isinstance(example, InputExample):
        return {f"texts[{i}]": text for i, text in enumerate(example.texts or [])}, example.label
    if isinstance(example, Mapping):
        targets = [name for name in example if name in TARGET_COLUMNS]
        if len(targets) > 1:
            raise DataError(f"row {row}: more than one target column: {targets}; keep one of them")
        inputs = {name: value for name, value in example.items() if name not in TARGET_COLUMNS}
        return inputs, example[targets[0]] if targets else None
    if isinstance(example, (list, tuple)):
        has_label = len(example) == 3 and not isinstance(example[2], (str, type(None)))
        texts = example[:2] if has_label else example
        return {str(i): text for i, text in enumerate(texts)}, example[2] if has_label else None
    raise DataError(
        f"row {row}: expected an InputExample, a (left, right[, label]) tuple or a dict row, "
        f"got {type(example).__name__}"
    )


def labels_of(label: Any, count: int, where: str) -> list[Any]:
    """Check the labels of a group of `count` pairs; the list has one entry per pair."""
    checked = check_label(label, f"{where}, label")
    if count == 1:
        flat = isinstance(checked, list) and len(checked) == 1
        return checked if flat else [checked]  # type: ignore[return-value]
    if not isinstance(checked, list) or len(checked) != count:
        got = len(checked) if isinstance(checked, list) else "a single one"
        raise DataError(f"{where}: {count} candidates need {count} labels, got {got}")
    return checked


def label_array(labels: list[Any]) -> np.ndarray | None:
    """Stack N labels to int64 or float32, `(N,)` or `(N, C)`; None if there are none."""
    if not labels:
        return None
    widths = [len(label) if isinstance(label, list) else 0 for label in labels]
    odd = next((i for i, width in enumerate(widths) if width != widths[0]), None)
    if odd is not None:
        raise DataError(f"pair {odd}: its label has {widths[odd] or 1} values, the first pair's has {widths[0] or 1}")
    values = (value for label in labels for value in np.atleast_1d(label).tolist())
    whole = all(isinstance(value, (int, np.integer)) for value in values)
    return np.asarray(labels, dtype=np.int64 if whole else np.float32)


def as_text_pairs(sentences: Any) -> tuple[list[tuple[str, str]] | Pairs, bool]:
    """Return the pairs to score, and whether the caller gave a single one."""
    if isinstance(sentences, Pairs):
        return sentences, False
    if isinstance(sentences, InputExample):
        return as_text_pairs([sentences])[0], True
    if isinstance(sentences, (str, Mapping, Set)) or not isinstance(sentences, Iterable):
        got = f"one string {sentences[:40]!r}" if isinstance(sentences, str) else type(sentences).__name__
        raise DataError(f"expected a pair of texts or a list of pairs, got {got}")
    rows = sentences.tolist() if isinstance(sentences, np.ndarray) else list(sentences)
    first = rows[0] if rows else ()
    single = not isinstance(first, (list, tuple, np.ndarray)) and not hasattr(first, "texts")
    pairs = []
    for number, row in enumerate([rows] if single else rows):
        texts = getattr(row, "texts", row)
        if isinstance(texts, str) or not hasattr(texts, "__len__"):
            raise DataError(f"row {number}: expected two texts, got {type(texts).__name__} {str(texts)[:40]!r}")
        if len(texts) != 2:
            raise DataError(f"row {number}: a pair has two texts, got {len(texts)}")
        left, right = (check_text(text, f"row {number}, text {side}") for side, text in enumerate(texts))
        pairs.append((left, right))
    return pairs, single
