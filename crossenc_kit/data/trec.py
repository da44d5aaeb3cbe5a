"""Runs and judgements in files: the columns of TREC, of BEIR, of MS MARCO.

A run is `{query id: {document id: score}}`, qrels are `{query id: {document id: grade}}`. Ids are
texts: "007" stays "007". Columns are separated by spaces or tabs, or by tabs only if the first line
names them. Files may be gzipped.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crossenc_kit.data.collection import Qrels, Run, check_form, check_qrels
from crossenc_kit.data.tables import MalformedLines, first_line, lines_of, usable
from crossenc_kit.errors import DataError, some
from crossenc_kit.files import write_lines
from crossenc_kit.scorers import warn_at_call

QUERY_NAMES = ("query-id", "query_id", "qid", "query")
DOCUMENT_NAMES = ("corpus-id", "corpus_id", "document-id", "document_id", "doc_id", "docid", "pid")
NEGATIVE_GRADES = ("error", "zero")


class Columns(NamedTuple):
    """Say which of `width` columns hold query, document and number, and how the number is read."""

    width: int
    query: int
    document: int
    value: int
    number: Callable[[str], float]


class Kind(NamedTuple):
    """Describe a kind of file: by its number of columns, or by the names in its first line."""

    known: dict[int, Columns]
    named: dict[str, Callable[[str], float]]  # columns of the number, the first counts
    expected: str


def read_run(
    path: str | os.PathLike, *, malformed: str = "error", encoding: str = "utf-8"
) -> dict[str, dict[str, float]]:
    """Read a run; its first line tells the form:

    - TREC: `query Q0 document rank score tag`; only the score counts, as in trec_eval
    - MS MARCO: `query document rank`; the score is minus the rank. Warns if ranks are not 1, 2, ...
    - names, such as `query-id corpus-id rank score`; without `score` it is minus `rank`

    Raises `DataError` naming file and line for a wrong number of columns, a score that is not
    finite, a rank below 1, and a document that comes twice; `malformed="count"` leaves these out.
    """
    bad = MalformedLines(path, malformed)
    run = _read(path, RUN, bad, encoding)
    bad.warn()
    if run_width(path, encoding) == 3 and not bad.count:
        ranks = {query: sorted(-score for score in own.values()) for query, own in run.items()}
        if odd := [query for query, own in ranks.items() if own != list(range(1, len(own) + 1))]:
            wrong = f"the ranks of {len(odd):,} queries are not 1, 2, ... ({some(odd)})"
            warn_at_call(f"{path}: {wrong}: the last of three columns is read as a rank, 1 the best")
    return run


def run_width(path: str | os.PathLike, encoding: str = "utf-8") -> int:
    """Count the columns of a run: 6 (the fifth is a number), 3 (the third is), else 0."""
    cells = first_line(path, encoding).split()
    try:
        return len(cells) if len(cells) in (3, 6) and float(cells[{3: 2, 6: 4}[len(cells)]]) is not None else 0
    except ValueError:
        return 0


def read_qrels(
    path: str | os.PathLike, *, negative_grades: str = "error", malformed: str = "error", encoding: str = "utf-8"
) -> dict[str, dict[str, Any]]:
    """Read judgements; the first line tells the form:

    - TREC and MS MARCO: `query iteration document grade`
    - names, such as BEIR's `query-id corpus-id score`
    - `query document grade`

    Grades are whole numbers, or else floats. Raises `DataError` as `read_run` does.

    negative_grades: "zero" counts grades below 0 (in some TREC files -1 or -2, for spam) as 0
    """
    bad = MalformedLines(path, malformed)
    qrels, _ = qrels_and_notes(path, bad, negative_grades, encoding)
    bad.warn()
    return qrels


def qrels_and_notes(
    path: str | os.PathLike, bad: MalformedLines, negative_grades: str = "error", encoding: str = "utf-8"
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read judgements, and say in words what was done to them."""
    if negative_grades not in NEGATIVE_GRADES:
        raise ValueError(f"negative_grades must be one of {', '.join(NEGATIVE_GRADES)}; got {negative_grades!r}")
    qrels = _read(path, _qrels(_any_grade if negative_grades == "zero" else _grade), bad, encoding)
    below = [(grades, document) for grades in qrels.values() for document, grade in grades.items() if grade < 0]
    for grades, document in below:
        grades[document] = 0
    changed = [f"{Path(path).name}: grades below 0 counted as 0: {len(below):,}"] if below else []
    return qrels, [*changed, *bad.notes()]


def write_run(path: str | os.PathLike, run: Run, tag: str = "crossenc_kit") -> Path:
    """Write a run in TREC's six columns, in one move; gzipped if `path` ends in .gz.

    Ranks count from 1 by descending score; equal scores are by document id, descending, as in
    trec_eval. Scores read back equal. A query without candidates has no line, which is warned of.

    Raises `DataError` for scores that are not finite, and ids that cannot stand in such a file.
    """
    check_form(run)
    _check_words([tag], "tag")
    empty = [query for query, found in run.items() if not found]
    if empty:
        warn_at_call(f"queries without candidates are not in {path}: {len(empty):,} ({some(empty)})")
    lines = [
        f"{query} Q0 {document} {rank} {float(score)!r} {tag}\n"
        for query, found in run.items()
        for rank, (score, document) in enumerate(sorted(((s, d) for d, s in found.items()), reverse=True), 1)
    ]
    return _write(path, lines, run, "run")


def write_qrels(path: str | os.PathLike, qrels: Qrels) -> Path:
    """Write judgements as `query 0 document grade`, in the order given; else like `write_run`.

    Raises `DataError` as it does, and for grades below 0, which would not read back.
    """
    check_qrels(qrels)
    rows = [(query, document, grade) for query, own in qrels.items() for document, grade in own.items()]
    if below := [row for row in rows if row[2] < 0]:
        query, document, grade = below[0]
        wrong = f"the grade is {grade}, below 0 ({len(below):,} such), which would not read back; make it 0"
        raise DataError(f"query {query!r}, document {document!r}: {wrong}")
    lines = [f"{query} 0 {document} {_plain(grade)}\n" for query, document, grade in rows]
    return _write(path, lines, qrels, "qrels")


def _read(path: str | os.PathLike, kind: Kind, bad: MalformedLines, encoding: str) -> dict[str, dict[str, Any]]:
    """Read `{query id: {document id: number}}`; a document that comes twice is malformed."""
    lines = ((number, line) for number, line in lines_of(path, encoding, bad) if line.strip(" \t"))
    first = next(lines, None)
    if first is None:
        raise bad.nothing_left() if bad.count else DataError(f"{path}: the file has no lines; expected {kind.expected}")
    columns = _named_columns(first[1].split("\t"), kind, f"{path}, line {first[0]}")
    by_tabs = columns is not None
    rows = lines if by_tabs else itertools.chain([first], lines)

    def parse(line: str) -> tuple[str, str, float]:
        nonlocal columns
        cells = line.split("\t") if by_tabs else _cells(line)
        own = columns or kind.known.get(len(cells))
        if own is None or len(cells) != own.width:
            expected = f"{own.width} as in the lines before" if own else kind.expected
            raise DataError(f"{len(cells)} columns, expected {expected}: {line[:60]!r}")
        query, document, value = cells[own.query], cells[own.document], own.number(cells[own.value])
        if not query or not document:
            raise DataError(f"an id is empty: {line[:60]!r}")
        columns = own  # the first line that can be used says what the file is
        return query, document, value

    table: dict[str, dict[str, float]] = {}
    for number, (query, document, value) in usable(rows, parse, bad):
        own = table.setdefault(query, {})
        if document in own:
            bad.add(number, f"query {query!r} has document {document!r} a second time")
        else:
            own[document] = value
    if not table:
        raise bad.nothing_left()
    return table


def _cells(line: str) -> list[str]:
    """Split at spaces and tabs; a no-break space is part of an id, as in trec_eval."""
    return line.split() if line.isascii() else [cell for cell in line.replace("\t", " ").split(" ") if cell]


def _named_columns(cells: list[str], kind: Kind, where: str) -> Columns | None:
    """Find the columns that a first line names; None if it names none."""
    names = [cell.strip().lower() for cell in cells]
    if not set(names) & set(QUERY_NAMES) or not set(names) & set(DOCUMENT_NAMES):
        return None
    value = next((name for name in kind.named if name in names), None)
    if value is None:
        raise DataError(f"{where}: no column {' or '.join(kind.named)} among {', '.join(cells)}")
    query, document = (next(names.index(n) for n in known if n in names) for known in (QUERY_NAMES, DOCUMENT_NAMES))
    return Columns(len(names), query, document, names.index(value), kind.named[value])


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise DataError(f"the {what} is {text[:40]!r}; expected a number") from None
    if not math.isfinite(number):
        raise DataError(f"the {what} is {text[:40]}; expected a finite number")
    return number


def _score(text: str) -> float:
    return _number(text, "score")


def _minus_rank(text: str) -> float:
    """Score a rank by minus the rank: no two ranks round to one score."""
    if not re.fullmatch(r"0*[1-9][0-9]*", text):
        raise DataError(f"the rank is {text[:40]!r}; expected a whole number from 1")
    return -float(text)


def _any_grade(text: str) -> float:
    return _plain(_number(text, "grade"))


def _grade(text: str) -> float:
    grade = _any_grade(text)
    if grade < 0:
        raise DataError(f'the grade is {text}, below 0; negative_grades="zero" counts it as 0')
    return grade


def _plain(grade: float) -> float:
    """Return a grade as an int if it is whole."""
    return int(grade) if grade == int(grade) else float(grade)


def _write(path: str | os.PathLike, lines: Sequence[str], table: Run, what: str) -> Path:
    """Write lines to a file in one move; `DataError` for ids that would not read back."""
    if not lines:
        raise DataError(f"the {what} has no documents: there is nothing to write to {path}")
    _check_words(table, "query id")
    _check_words({document for own in table.values() for document in own}, "document id")
    return write_lines(path, (line.encode("utf-8") for line in lines))


def _check_words(names: Iterable[str], kind: str) -> None:
    for name in names:
        if len(name.split()) != 1 or name != name.strip() or name.startswith("\ufeff"):
            raise DataError(f"the {kind} {name[:60]!r} is empty or has white space, which separates columns; change it")


def _qrels(number: Callable[[str], float]) -> Kind:
    return Kind(
        {4: Columns(4, 0, 2, 3, number), 3: Columns(3, 0, 1, 2, number)},
        dict.fromkeys(["score", "grade", "relevance", "label"], number),
        "4 (query iteration document grade), or 3 (query document grade), also with a line of names on top",
    )


RUN = Kind(
    {6: Columns(6, 0, 2, 4, _score), 3: Columns(3, 0, 1, 2, _minus_rank)},
    {"score": _score, "rank": _minus_rank},
    "6 (query Q0 document rank score tag), 3 (query document rank), or a line with names (query-id corpus-id score)",
)
