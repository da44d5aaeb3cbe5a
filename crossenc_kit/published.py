"""Published data sets of pairs with classes: where they are stored, their columns, and the habits of their files.

SNLI and MultiNLI have empty cells at the end of a line, Quora quotes texts, GLUE has rows of Quora's cut in two.
Everything else is a table as in `tables`: JSON Lines, TSV without quoting, CSV.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from crossenc_kit.pairs import DataError
from crossenc_kit.sources import Layout
from crossenc_kit.tables import first_line, header, lines_of, read_table

QUORA_IDS = ("id", "qid1", "qid2")
ANNOTATOR = re.compile(r"label\d")  # the labels of single annotators, after the columns that matter


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
