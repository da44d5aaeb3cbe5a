"""Published data sets of pairs with classes: where they are stored, their columns, and the habits of their files.

SNLI and MultiNLI have empty cells at the end of a line, Quora quotes texts, GLUE has rows of Quora's cut in two.
Everything else is a table as in `tables`: JSON Lines, TSV without quoting, CSV.

Pairs with classes: natural language inference, duplicate questions, paraphrases, answers to questions.

The table of tasks in `published` says where each is stored, how its columns are called and what its numbers
stand for; one function reads them all. Labels become the indices of `label_names`, and the notes say
what was dropped.
"""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossenc_kit.data.pairs import Pairs, check_text
from crossenc_kit.data.sources import SPLITS, Layout, find_source
from crossenc_kit.data.tables import first_line, header, lines_of, read_table
from crossenc_kit.errors import DataError

QUORA_IDS = ("id", "qid1", "qid2")
ANNOTATOR = re.compile(r"label\d")  # the labels of single annotators, after the columns that matter
NO_LABEL = ("-", "hidden")  # the annotators of SNLI and MultiNLI did not agree; MultiNLI's test sets. On the hub: -1
NumberedRows = list[tuple[int, Mapping[str, Any] | None]]  # line or row, its columns; None for a broken row


class Task(NamedTuple):
    """Where pairs with classes are stored, and how they are read.

    `texts`: the two text columns of each published form, `labels`: the label columns; the first that is there
    is taken. `classes`: what 0, 1, ... stand for on the hub. `in_files`: whether they stand for the same in
    files; where files hold names, numbers are ambiguous. `broken`: the left columns of forms whose publisher
    is known to have left broken rows in.
    """

    layout: Layout
    texts: tuple[tuple[str, str], ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    in_files: bool = False
    broken: tuple[str, ...] = ()


def read_published(path: str | os.PathLike, encoding: str = "utf-8") -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    """Yield (line number from 1, row) of a file of labelled pairs; the row is None where Quora's file is broken.

    Raises `DataError` naming file and line for any other row that cannot be used.
    """
    names = first_line(path, encoding).split("\t")
    if {"question1", "question2"} <= set(names):
        return read_quora(path, encoding)
    return _read_annotated(path, encoding) if ANNOTATOR.fullmatch(names[-1]) else read_table(path, encoding)


def read_quora(path: str | os.PathLike, encoding: str = "utf-8") -> Iterator[tuple[int, dict[str, str] | None]]:
    """Rows of Quora's quora_duplicate_questions.tsv, and of GLUE's train.tsv and dev.tsv that were cut from it.

    Quora quotes a text with a quote, a tab or a line break as in CSV. In GLUE's copies the two lines of such a
    row may stand apart, with too few cells and a quote that stays open: read as CSV, it would take in all the
    rows up to the next quote. A row is therefore what begins with the ids, and the lines up to the next such
    line; what does not give all the cells is None.
    """
    lines = lines_of(path, encoding)
    names = header(next(lines)[1].split("\t"), path)
    begins = re.compile(r"\d+\t" * sum(name in QUORA_IDS for name in names[: len(QUORA_IDS)]))
    record: list[str] = []
    begun = 2
    for number, line in lines:
        if record and (begins.match(line) or not begins.match(record[0])):  # the latter: ids of another form
            yield from _quora_rows(names, record, begun)
            record = []
        begun = begun if record else number
        record.append(line)
    if record:
        yield from _quora_rows(names, record, begun)


def _quora_rows(names: list[str], record: list[str], begun: int) -> Iterator[tuple[int, dict[str, str] | None]]:
    """The row that some lines are, and None for every line that is left over or fits nowhere."""
    first = _unquoted(record[0])
    whole = _unquoted("\n".join(record)) if record[1:] else first
    plain = record[0].split("\t")  # a quote may be only a character
    cells = next((cells for cells in (first, whole, plain) if len(cells) == len(names)), None)
    yield begun, dict(zip(names, cells, strict=True)) if cells else None
    if cells is not whole:
        yield from ((begun + more, None) for more, line in enumerate(record[1:], 1) if line)


def _unquoted(text: str) -> list[str]:
    """The cells of one row with quoting as in CSV; none where its quotes do not match."""
    try:
        rows = [cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True) if cells]
    except csv.Error:
        return []
    return rows[0] if len(rows) == 1 else []


def _read_annotated(path: str | os.PathLike, encoding: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of the tab-separated files of SNLI and MultiNLI: most pairs have fewer than five annotators."""
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
    """Premises and hypotheses of a split with labels `(N,)` int64, the indices of `label_names`.

    `source`: None (see `find_data`); a folder, or one with a subfolder nli, snli, multinli, mnli, snli_1.0 or
    multinli_1.0, that holds the JSON Lines or tab-separated files of SNLI or MultiNLI, GLUE's *.tsv, or
    <split>.jsonl(.gz) with premise, hypothesis and label; a file; a `datasets.Dataset` (its own split is used)
    or `DatasetDict`; the name "org/name" of a hub data set. `split`: train, dev or validation (of MultiNLI the
    matched one), matched, mismatched, test. The order of `label_names` is that of the published NLI
    cross-encoders of sentence-transformers; other models have another, so compare by name.

    Rows without a gold label ("-", on the hub -1) are dropped and counted in the notes; where no row has one, the
    pairs are unlabelled. Pairs that come twice with different labels are kept, named in the notes and warned of.
    Other columns become tags, but for the syntax trees. Numbers as labels mean 0 entailment, 1 neutral,
    2 contradiction on the hub, unless the data set names its classes; in a file they are ambiguous: give the
    file's order as `classes`. Raises `DataError` naming file, line and column for an empty text and for a label
    that is none of `label_names`.
    """
    return _read(NLI, source, split, label_names, classes, encoding)


def read_duplicates(source: Any = None, split: str = "train", *, encoding: str = "utf-8") -> Pairs:
    """Pairs of Quora questions with labels `(N,)` int64: 0 not duplicate, 1 duplicate.

    `source` as in `read_nli`, with duplicates/<split>.jsonl(.gz) (text1, text2, label), GLUE's QQP, or Quora's
    quora_duplicate_questions.tsv, which has no splits: all of it is train. A few rows of Quora's are broken (no
    text, or cut in two at a line break); in its file, in GLUE's and on the hub they are dropped and counted in the
    notes. In the first form such a row raises `DataError`.
    """
    return _read(DUPLICATES, source, split, DUPLICATES.classes, None, encoding)


def read_mrpc(source: Any = None, split: str = "train", *, encoding: str = "utf-8") -> Pairs:
    """Sentence pairs of the Microsoft Research Paraphrase Corpus, labels `(N,)` int64: 0 not_equivalent, 1 equivalent.

    `source` as in `read_nli`, with msr_paraphrase_train.txt and msr_paraphrase_test.txt, or GLUE's MRPC.
    """
    return _read(MRPC, source, split, MRPC.classes, None, encoding)


def read_qnli(source: Any = None, split: str = "train", *, encoding: str = "utf-8") -> Pairs:
    """Questions and sentences, labels `(N,)` int64: 0 entailment (the sentence holds the answer), 1 not_entailment.

    `source` as in `read_nli`, with GLUE's QNLI.
    """
    return _read(QNLI, source, split, QNLI.classes, None, encoding)


def _read(
    task: Task, source: Any, split: str, names: Sequence[str], classes: Sequence[str] | None, encoding: str
) -> Pairs:
    """The pairs of a task; only the readers above call this (the warning points at who called them)."""
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
    for clash in _clashes(texts, labels, [f"{unit} {n}" for n, _ in kept], names):
        notes.append(clash)
        warnings.warn(f"{origin}: {clash}", stacklevel=3)
    tags = {name: [row.get(name) for _, row in kept] for name in columns if name not in (left, right, target)}
    known = labels if labels.size else None
    return Pairs(texts[0], texts[1], known, tags=tags, notes=tuple(notes), label_names=tuple(names))


def _rows(found: Any, encoding: str) -> tuple[str, NumberedRows, list[str]]:
    """What stands before a row's number in a message, the numbered rows, and the columns left out of them.

    The syntax trees are left out: nobody scores them, and they are most of SNLI and MultiNLI.
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
    """The columns with the texts and the label; the label's may be missing in a test split, as in GLUE's."""
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
    rows: NumberedRows,
    texts: tuple[str, str],
    target: str | None,
    place: str,
    forgiving: bool,
) -> tuple[list[tuple[int, Mapping[str, Any]]], list[int]]:
    """The rows with both texts, and the numbers of broken ones; these raise `DataError` unless `forgiving`."""
    kept = []
    broken = []
    for number, row in rows:
        if row is None or (forgiving and not all(_filled(row.get(name)) for name in (*texts, target) if name)):
            broken.append(number)
            continue
        for name in texts:
            where = f"{place} {number}, column {name!r}"
            if not check_text(row.get(name), where).strip():
                raise DataError(f"{where}: the text is empty; drop the row or fill in the text")
        kept.append((number, row))
    return kept, broken


def _filled(cell: Any) -> bool:
    return cell is not None and str(cell).strip() != ""


def _codes(task: Task, found: Any, target: str | None) -> tuple[str, ...]:
    """What the numbers of a label column stand for: its own names, else the published order; () where ambiguous."""
    features = getattr(found, "features", None) or {}
    if hasattr(features.get(target), "names"):
        return tuple(features[target].names)
    return task.classes if task.in_files or hasattr(found, "features") else ()


def _decoder(task: Task, names: Sequence[str], codes: Sequence[str]) -> Callable[[Any, str], int | None]:
    """A function of a label and where it stands: its index in `names`, or None for no gold label."""
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
    """A label that is a whole number, also as text, bool or float; else None."""
    if hasattr(value, "tolist"):  # numpy, torch
        value = value.tolist()
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*-?\d+\s*", value) else None
    return int(value) if isinstance(value, (int, float)) and value % 1 == 0 else None


@cache
def _plain(name: str) -> str:
    """A class's name without regard to case, spaces, "_" and "-": GLUE writes not_duplicate."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _counts(labels: np.ndarray, names: Sequence[str]) -> str:
    if not labels.size:
        return "no gold labels: unlabelled"
    counts = np.bincount(labels, minlength=len(names))
    return "labels: " + ", ".join(f"{count:,} {name}" for count, name in zip(counts, names, strict=True))


def _clashes(texts: list[list[str]], labels: np.ndarray, places: list[str], names: Sequence[str]) -> list[str]:
    """How many pairs come more than once with different labels, and the first of them; nothing where there is none."""
    if not labels.size:
        return []
    first: dict[tuple[str, ...], int] = {}
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    for index, (pair, label) in enumerate(zip(zip(*texts, strict=True), labels, strict=True)):
        earlier = first.setdefault(pair, index)
        if labels[earlier] != label:
            found.setdefault(pair, (earlier, index))
    if not found:
        return []
    (left, right), rows = next(iter(found.items()))
    where = " and ".join(f"{places[row]} ({names[labels[row]]})" for row in rows)
    return [
        f"pairs that come with different labels: {len(found):,}, the first at {where}: {left[:40]!r}, {right[:40]!r}"
    ]


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
