"""Pairs with classes: natural language inference, duplicate questions, paraphrases, answers.

The table of tasks at the end says where each data set is stored, how its columns are called and
what its numbers stand for; one function reads them all. Files are tables as in `tables`, but for
two habits: SNLI and MultiNLI leave empty cells out at the end of a line, and Quora quotes texts.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.pairs import Pairs, check_text
from crossenc_kit.data.sources import SPLITS, Layout, find_source
from crossenc_kit.data.tables import first_line, header, lines_of, read_table
from crossenc_kit.errors import DataError
from crossenc_kit.scorers import warn_at_call

ANNOTATOR = re.compile(r"label\d")  # the labels of single annotators, after the columns that matter
# "-": annotators of SNLI and MultiNLI did not agree; "hidden": MultiNLI's test sets. On the hub: -1
NO_LABEL = ("-", "hidden")
NumberedRows = list[tuple[int, Mapping[str, Any] | None]]  # None for a broken row


class Task(NamedTuple):
    """Say where pairs with classes are stored, and how they are read.

    texts: the two text columns of each published form; the first that is there counts
    labels: the label column, likewise
    classes: what 0, 1, ... stand for on the hub
    in_files: numbers in files stand for the same (if files hold names, numbers are ambiguous)
    broken: left columns of the forms whose publisher is known to have left broken rows in
    """

    layout: Layout
    texts: tuple[tuple[str, str], ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    in_files: bool = False
    broken: tuple[str, ...] = ()


def read_published(path: str | os.PathLike, encoding: str = "utf-8") -> Iterable[tuple[int, Any]]:
    """Yield (line number, row) of a file of labelled pairs; a broken row of Quora's is None."""
    names = first_line(path, encoding).split("\t")
    if {"question1", "question2"} <= set(names):
        return _read_quora(path, encoding)
    return _read_annotated(path, encoding) if ANNOTATOR.fullmatch(names[-1]) else read_table(path, encoding)


def _read_quora(path: str | os.PathLike, encoding: str) -> Iterator[tuple[int, dict[str, str] | None]]:
    """Read Quora's quora_duplicate_questions.tsv and GLUE's train.tsv and dev.tsv, line by line.

    Quora quotes a text with a quote or a tab as in CSV. Some rows have a line break in a text,
    which GLUE even shuffled apart: their lines lack cells, and are None. (Read as CSV, a quote that
    stays open would take in all rows up to the next quote.)
    """
    lines = lines_of(path, encoding)
    names = header(next(lines)[1].split("\t"), path)
    for number, line in lines:
        forms = (_unquoted(line), line.split("\t"))  # a quote may be only a character
        cells = next((cells for cells in forms if len(cells) == len(names)), None)
        if line:
            yield number, dict(zip(names, cells, strict=True)) if cells else None


def _unquoted(line: str) -> list[str]:
    """Split a line with quoting as in CSV; empty if its quotes do not match."""
    try:
        return next(csv.reader([line], delimiter="\t", strict=True), [])
    except csv.Error:
        return []


def _read_annotated(path: str | os.PathLike, encoding: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Read tab-separated files of SNLI and MultiNLI: most pairs have fewer than five annotators."""
    lines = lines_of(path, encoding)
    names = header(next(lines)[1].split("\t"), path)
    needed = sum(not ANNOTATOR.fullmatch(name) for name in names)
    for number, line in lines:
        cells = line.split("\t")
        if line and not needed <= len(cells) <= len(names):
            raise DataError(f"{path}, line {number}: {len(cells)} columns, expected {needed} to {len(names)}")
        if line:
            yield number, dict(zip(names, cells + [""] * (len(names) - len(cells)), strict=True))


def read_nli(
    source: Any = None,
    split: str = "train",
    *,
    label_names: Sequence[str] = ("contradiction", "entailment", "neutral"),
    classes: Sequence[str] | None = None,
    encoding: str = "utf-8",
) -> Pairs:
    """Read premises and hypotheses of a split; labels `(N,)` int64 are indices of `label_names`.

    The default order is that of sentence-transformers' NLI cross-encoders. Rows without a gold label
    are dropped; a pair that comes with different labels is kept, and warned of.

    source: None (see `find_data`), a file or folder (also its subfolder snli, mnli, ...) in a form of
        SNLI, MultiNLI or GLUE, a data set or a dictionary of them, or "org/name" on the hub
    split: train, dev or validation (of MultiNLI the matched one), matched, mismatched, test
    classes: the meaning of numbers in a file: ("entailment", "neutral", "contradiction")

    Raises `DataError` naming file, line and column of an empty text or an unknown label.
    """
    return _read(NLI, source, split, label_names, classes, encoding)


def read_duplicates(source: Any = None, split: str = "train", *, encoding: str = "utf-8") -> Pairs:
    """Read pairs of Quora questions; labels `(N,)` int64 are 0 not duplicate, 1 duplicate.

    Quora's own file has no splits: all of it is train. Its broken rows (no text, or a line break in
    one) are dropped and counted in the notes, as are those in GLUE's copy and on the hub.

    source: as in `read_nli`, with GLUE's QQP, or quora_duplicate_questions.tsv
    """
    return _read(DUPLICATES, source, split, DUPLICATES.classes, None, encoding)


def read_mrpc(source: Any = None, split: str = "train", *, encoding: str = "utf-8") -> Pairs:
    """Read the Microsoft Research Paraphrase Corpus; labels are 0 not_equivalent, 1 equivalent.

    source: as in `read_nli`, with msr_paraphrase_<split>.txt, or GLUE's MRPC
    """
    return _read(MRPC, source, split, MRPC.classes, None, encoding)


def read_qnli(source: Any = None, split: str = "train", *, encoding: str = "utf-8") -> Pairs:
    """Read questions and sentences; labels are 0 entailment (it answers), 1 not_entailment.

    source: as in `read_nli`, with GLUE's QNLI
    """
    return _read(QNLI, source, split, QNLI.classes, None, encoding)


def _read(
    task: Task, source: Any, split: str, names: Sequence[str], classes: Sequence[str] | None, encoding: str
) -> Pairs:
    """Read a split of a task."""
    origin, found = find_source(source, task.layout, SPLITS.get(split, (split,)))
    place, every, trees = _rows(found, encoding)
    columns = list(dict.fromkeys(name for _, row in every for name in row or ()))
    if not columns:
        raise DataError(f"{origin}: no rows for split {split!r}")
    left, right, target = _used_columns(task, columns, origin, split)
    rows, broken = _complete(every, (left, right), target, place, left in task.broken)
    codes = tuple(classes or _codes(task, found, target))
    decode = _decoder(task, names, codes)
    decoded = [decode(row.get(target), f"{place} {n}, column {target!r}") if target else None for n, row in rows]
    kept = [row for row, label in zip(rows, decoded, strict=True) if label is not None] or rows
    labels = np.array([label for label in decoded if label is not None], dtype=np.int64)
    notes = [f"from {origin}", _counts(labels, names)]
    unit = place.split()[-1]
    if any(_whole_number(row[target]) is not None for _, row in kept[:1] if labels.size and target):
        notes.append(f"numbers read as {', '.join(f'{i} {name}' for i, name in enumerate(codes))}")
    if len(kept) < len(rows):
        notes.append(f"rows without a gold label dropped: {len(rows) - len(kept):,}")
    if broken:
        notes.append(f"broken rows dropped: {len(broken):,}, the first at {unit} {broken[0]}")
    if trees:
        notes.append(f"left out: {', '.join(trees)}")
    texts = [[row[name] for _, row in kept] for name in (left, right)]
    if clash := _clashes(texts, labels, [f"{unit} {n}" for n, _ in kept], names):
        notes.append(clash)
        warn_at_call(f"{origin}: {clash}")
    tags = {name: [row.get(name) for _, row in kept] for name in columns if name not in (left, right, target)}
    known = labels if labels.size else None
    return Pairs(texts[0], texts[1], known, tags=tags, notes=tuple(notes), label_names=tuple(names))


def _rows(found: Any, encoding: str) -> tuple[str, NumberedRows, list[str]]:
    """Return what precedes row numbers in messages, the numbered rows, and the columns left out.

    Syntax trees are left out: nobody scores them, and they are most of SNLI and MultiNLI.
    """
    inside = isinstance(found, Path)
    rows: NumberedRows = []
    trees: dict[str, None] = {}
    for number, row in read_published(found, encoding) if inside else enumerate(found):
        if row is not None and not isinstance(row, Mapping):
            raise DataError(f"row {number}: expected named columns, got {type(row).__name__} {str(row)[:40]}")
        trees.update(dict.fromkeys(name for name in row or () if name.endswith("_parse")))
        rows.append((number, row and {name: cell for name, cell in row.items() if name not in trees}))
    return f"{found}, line" if inside else "row", rows, list(trees)


def _used_columns(task: Task, columns: list[str], origin: str, split: str) -> tuple[str, str, str | None]:
    """Find the columns of texts and label; a test split may lack the label, as GLUE's do."""
    texts = next((pair for pair in task.texts if set(pair) <= set(columns)), None)
    if texts is None:
        forms = " or ".join(f"{left}, {right}" for left, right in task.texts)
        raise DataError(f"{origin}: no columns {forms}; the columns are {', '.join(columns)[:200]}")
    target = next((name for name in task.labels if name in columns), None)
    if target is None and not split.startswith("test"):
        wanted = " or ".join(task.labels)
        raise DataError(f"{origin}: no column {wanted}; the columns are {', '.join(columns)[:200]}")
    return *texts, target


def _complete(
    rows: NumberedRows, texts: tuple[str, str], target: str | None, place: str, forgiving: bool
) -> tuple[list[tuple[int, Mapping[str, Any]]], list[int]]:
    """Split rows into complete and broken ones, which raise `DataError` unless `forgiving`."""
    kept = []
    broken = []
    for number, row in rows:
        cells = [row.get(name) for name in (*texts, target) if name] if row else [None]
        if row is None or (forgiving and any(c is None or not str(c).strip() for c in cells)):
            broken.append(number)
            continue
        for name in texts:
            where = f"{place} {number}, column {name!r}"
            if not check_text(row.get(name), where).strip():
                raise DataError(f"{where}: the text is empty; drop the row or fill in the text")
        kept.append((number, row))
    return kept, broken


def _codes(task: Task, found: Any, target: str | None) -> tuple[str, ...]:
    """Say what numbers as labels mean: the column's names, else the published order; () if unknown."""
    features = getattr(found, "features", None) or {}
    if hasattr(features.get(target), "names"):
        return tuple(features[target].names)
    return task.classes if task.in_files or hasattr(found, "features") else ()


def _decoder(task: Task, names: Sequence[str], codes: Sequence[str]) -> Callable[[Any, str], int | None]:
    """Make a function from a label and where it stands to its index; None is no gold label."""
    known = {_plain(name): index for index, name in enumerate(names)}

    def decode(value: Any, where: str) -> int | None:
        number = _whole_number(value)
        if number == -1 or (isinstance(value, str) and value.strip() in NO_LABEL):
            return None
        if number is not None and not codes:
            raise DataError(
                f"{where}: the label is the number {number}, and nothing here says what it stands for; "
                f"give the order, such as classes={task.classes!r}"
            )
        if number is not None and not 0 <= number < len(codes):
            raise DataError(f"{where}: the label is {number}; expected 0 to {len(codes) - 1} ({', '.join(codes)})")
        name = value if number is None else codes[number]
        if not isinstance(name, str) or _plain(name) not in known:
            raise DataError(f"{where}: the label is {name!r}; expected one of {', '.join(names)}")
        return known[_plain(name)]

    return decode


def _whole_number(value: Any) -> int | None:
    """Read a label that is a whole number, also as text, bool or float; else return None."""
    if hasattr(value, "tolist"):  # numpy, torch
        value = value.tolist()
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*-?\d+\s*", value) else None
    return int(value) if isinstance(value, (int, float)) and value % 1 == 0 else None


@cache
def _plain(name: str) -> str:
    """Spell a class's name without case, "_" and "-": GLUE writes not_duplicate."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _counts(labels: np.ndarray, names: Sequence[str]) -> str:
    if not labels.size:
        return "no gold labels: unlabelled"
    counts = np.bincount(labels, minlength=len(names))
    return "labels: " + ", ".join(f"{count:,} {name}" for count, name in zip(counts, names, strict=True))


def _clashes(texts: list[list[str]], labels: np.ndarray, places: list[str], names: Sequence[str]) -> str:
    """Count the pairs that come with different labels, and name the first; "" if there are none."""
    first: dict[tuple[str, ...], int] = {}
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    for index, (*pair, label) in enumerate(zip(*texts, labels, strict=False)):  # perhaps no labels
        earlier = first.setdefault(tuple(pair), index)
        if labels[earlier] != label:
            found.setdefault(tuple(pair), (earlier, index))
    if not found:
        return ""
    (left, right), rows = next(iter(found.items()))
    where = " and ".join(f"{places[row]} ({names[labels[row]]})" for row in rows)
    pair_of = f"{left[:40]!r}, {right[:40]!r}"
    return f"pairs that come with different labels: {len(found):,}, the first at {where}: {pair_of}"


NLI = Task(
    Layout(
        "NLI",
        ("nli", "snli", "multinli", "mnli", "multi_nli", "snli_1.0", "multinli_1.0", "SNLI", "MNLI"),
        ("{}.jsonl", "snli_1.0_{}.jsonl", "snli_1.0_{}.txt", "multinli_1.0_{}.jsonl", "multinli_1.0_{}.txt", "{}.tsv"),
        {"sentence-transformers/all-nli": "pair-class", "nyu-mll/glue": "mnli"},
    ),
    texts=(("premise", "hypothesis"), ("sentence1", "sentence2")),
    labels=("gold_label", "label"),
    classes=("entailment", "neutral", "contradiction"),
)
DUPLICATES = Task(
    Layout(
        "duplicate question",
        ("duplicates", "quora", "quora_duplicates", "qqp", "QQP"),
        ("{}.jsonl", "{}.tsv", "quora_duplicate_questions.tsv"),
        {"sentence-transformers/quora-duplicates": "pair-class", "nyu-mll/glue": "qqp"},
    ),
    texts=(("question1", "question2"), ("text1", "text2"), ("sentence1", "sentence2")),
    labels=("is_duplicate", "label"),
    classes=("not duplicate", "duplicate"),
    in_files=True,
    broken=("question1", "sentence1"),
)
MRPC = Task(
    Layout(
        "MRPC",
        ("mrpc", "MRPC", "MSRParaphraseCorpus"),
        ("{}.jsonl", "{}.tsv", "msr_paraphrase_{}.txt"),
        {"nyu-mll/glue": "mrpc"},
    ),
    texts=(("#1 String", "#2 String"), ("sentence1", "sentence2"), ("text1", "text2")),
    labels=("Quality", "label"),
    classes=("not_equivalent", "equivalent"),
    in_files=True,
)
QNLI = Task(
    Layout("QNLI", ("qnli", "QNLI", "QNLIv2"), ("{}.jsonl", "{}.tsv"), {"nyu-mll/glue": "qnli"}),
    texts=(("question", "sentence"),),
    labels=("label",),
    classes=("entailment", "not_entailment"),
)
