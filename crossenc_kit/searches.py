"""Searching a corpus: the best documents of each query from every document's score, and what ids and texts must be."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral

import numpy as np

from crossenc_kit.pairs import DataError, check_text

Run = dict[str, dict[str, float]]  # {query id: {document id: score}}, best first
Search = Callable[..., Run]  # search(queries, k=100, include=None)
Include = Mapping[str, Iterable[str]]  # {query id: document ids}


def search_with(scores_of: Callable[[Sequence[str]], Iterable[tuple[np.ndarray, float]]], ids: Sequence[str]) -> Search:
    """The search of a first stage; `scores_of` gives each query's scores `(D,)`, and what is no hit at all."""
    row_of = {document: row for row, document in enumerate(ids)}

    def search(queries: Mapping[str, str], k: int = 100, include: Include | None = None) -> Run:
        check_depth(k)
        asked = ids_of(queries, "query", least=0)
        _check_include(include, queries)
        run: Run = {}
        nothing = []
        for query, (scores, floor) in zip(asked, scores_of(list(queries.values())), strict=True):
            rows = best_rows(scores, k)
            rows = rows[scores[rows] > floor]
            if not len(rows):
                nothing.append(query)
            more = [_row(row_of, document, query) for document in (include or {}).get(query, ())]
            if more:
                rows = np.union1d(rows, more)  # in the order of the documents
                rows = rows[np.argsort(-scores[rows], kind="stable")]
            run[query] = {ids[row]: float(scores[row]) for row in rows}
        if nothing:
            some = ", ".join(repr(query) for query in nothing[:3]) + (", ..." if len(nothing) > 3 else "")
            warnings.warn(
                f"{len(nothing):,} of {len(asked):,} queries found nothing, "
                f"no document has a word of theirs that counts: {some}",
                stacklevel=2,
            )
        return run

    return search


def best_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """The rows of the `k` largest scores `(D,)`, best first, equal ones in their order."""
    rows = np.arange(len(scores))
    if k < len(scores):
        rows = np.flatnonzero(scores >= np.partition(scores, -k)[-k])  # ties at the border are still all there
    return rows[np.argsort(-scores[rows], kind="stable")][:k]


def draws(seed: int, *names: str | int) -> np.random.Generator:
    """A random generator of its own for each seed and names: the same in every process and order."""
    numbers = [zlib.crc32(name.encode("utf-8", "surrogatepass")) if isinstance(name, str) else name for name in names]
    return np.random.default_rng([seed, *numbers])


def ids_of(texts: Mapping[str, str], kind: str, least: int = 1) -> list[str]:
    """The ids of a mapping from id to text; raises `DataError` for ids that are no strings, and for blank texts."""
    if not isinstance(texts, Mapping):
        raise DataError(f"expected the texts as a mapping {{{kind} id: text}}, got {type(texts).__name__}")
    if len(texts) < least:
        raise DataError(f"there are no {'queries' if kind == 'query' else kind + 's'} to search")
    blank = []
    for name, text in texts.items():
        if not isinstance(name, str):
            raise DataError(f"the {kind} id {name!r} is {type(name).__name__}; ids are strings, use str() on it")
        if isinstance(text, Mapping):
            raise DataError(f'{kind} {name!r}: expected a text, got a dict; give its text, such as {kind}["text"]')
        if not check_text(text, f"{kind} {name!r}").strip():
            blank.append(name)
    if blank:
        raise DataError(f"{kind} {blank[0]!r}: the text is blank ({len(blank):,} of {len(texts):,} such); leave it out")
    return list(texts)


def check_depth(k: int, name: str = "k", least: int = 1) -> None:
    """Raise `ValueError` unless a count is a whole number of at least `least`."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise ValueError(f"{name} is {k!r}; expected a whole number")
    if k < least:
        raise ValueError(f"{name} must be at least {least}, got {k}")


def _check_include(include: Include | None, queries: Mapping[str, str]) -> None:
    if include is None:
        return
    if not isinstance(include, Mapping):
        raise DataError(f"include: expected {{query id: document ids}}, got {type(include).__name__}")
    strangers = [query for query in include if query not in queries]
    if strangers:
        raise DataError(f"include has {len(strangers):,} queries that are not asked, the first {strangers[0]!r}")


def _row(row_of: Mapping[str, int], document: str, query: str) -> int:
    if document not in row_of:
        raise DataError(f"query {query!r}: the document {document!r} to include is not in the corpus")
    return row_of[document]
