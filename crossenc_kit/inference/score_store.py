"""Scores on the disk: parquet shards, each there whole or not at all, and each with a manifest.

    folder/_job.json                          the plan: model, input and settings the scores depend on
    folder/scores-00000-of-00007.parquet      a shard
    folder/_manifests/00000-of-00007.json     its sha256, and the plan's

The manifest is written after its shard, and a shard without one does not count. `score_file` numbers
its shards. `cached_scores` names a shard after the texts in it, so that it is found again wherever
these pairs stand. pandas, pyarrow and datasets skip names with `_`, so `pandas.read_parquet("folder")`
reads all shards of a job.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.data.tables import parquet_bytes, parquet_columns
from crossenc_kit.errors import CheckpointError, DataError
from crossenc_kit.files import explained, text_hash, write_bytes, write_json
from crossenc_kit.jobs import check_fingerprint
from crossenc_kit.models.settings import with_module
from crossenc_kit.models.tokens import one_or_more
from crossenc_kit.scorers import (
    Scorer,
    as_scorer,
    check_finite,
    cross_encoder_of,
    fingerprint,
    owner_of,
    warn_at_call,
    without_unknown,
)

JOB, MANIFESTS = "_job.json", "_manifests"
ABANDONED = 3600.0  # seconds: no file takes that long to write, so its writer is dead
# Settings that change how long scoring takes, but no score: a cache is not looked up by them.
SPEED = {"batch_size", "token_budget", "threads", "num_workers", "show_progress_bar"}


@dataclass(frozen=True)
class Shards:
    """A folder of shards; `plan` is what their scores depend on, as JSON holds it."""

    path: Path
    plan: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """Return the path of a shard."""
        return self.path / f"scores-{name}.parquet"

    def manifest(self, name: str) -> Path:
        """Return the path of a shard's manifest."""
        return self.path / MANIFESTS / f"{name}.json"

    def begin(self, **about: Any) -> None:
        """Write the plan into the folder (with `about`), or check that the plan there is the same.

        Raises `CheckpointError` naming what differs, and for parquet files that no job here wrote.
        """
        with _explaining(f"cannot keep scores in {str(self.path)!r}"):
            if not (self.path / JOB).exists():
                if other := next(self.path.glob("*.parquet"), None):
                    found = f"{self.path} contains {other.name}"
                    raise CheckpointError(f"{found}, which no job here wrote; choose an empty folder")
                self.path.mkdir(parents=True, exist_ok=True)
                write_json(self.path / JOB, {**about, "plan": self.plan})
            check_fingerprint(_read_job(self.path)["plan"], self.plan)
            (self.path / MANIFESTS).mkdir(exist_ok=True)
            for left in [*self.path.glob(".*.partial"), *self.path.glob(f"{MANIFESTS}/.*.partial")]:
                with suppress(FileNotFoundError):  # another process was first
                    if time.time() - left.stat().st_mtime > ABANDONED:
                        left.unlink()

    def damage(self, name: str) -> str | None:
        """Say what is wrong with a shard: "" if it is whole, None if it is not there yet."""
        try:
            manifest = json.loads(self.manifest(name).read_text(encoding="utf-8"))
            told = manifest["plan"], manifest["shard"], manifest["sha256"]
        except FileNotFoundError:
            return None  # its writer may have been killed between shard and manifest
        except (ValueError, LookupError, TypeError):
            return f"its manifest {MANIFESTS}/{name}.json cannot be read"
        if told[:2] != (_digest(self.plan), name):
            return "it belongs to another job or place"
        try:
            data = self.file(name).read_bytes()
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        same = told[2] == hashlib.sha256(data).hexdigest()
        return "" if same else "its sha256 is not the one in its manifest"

    def is_whole(self, name: str) -> bool:
        """Tell whether a shard is there; warn if it is damaged."""
        damage = self.damage(name)
        if damage:
            warn_at_call(f"{self.file(name)} is damaged ({damage}): it is scored again")
        return damage == ""

    def write(self, name: str, columns: Mapping[str, tuple[Any, Any]], **about: Any) -> None:
        """Write a shard of `{column: (values, type)}`, then its manifest with `about`.

        Of two processes that computed the same shard, the first one's stays.
        """
        from filelock import FileLock

        data = parquet_bytes(columns)
        manifest = {"shard": name, **about, "sha256": hashlib.sha256(data).hexdigest()}
        manifest["plan"] = _digest(self.plan)
        what = f"cannot write {self.file(name)}; the shards already there are whole"
        with _explaining(what), FileLock(self.path / ".writing"):
            if self.damage(name) != "":
                write_bytes(self.file(name), data)
                write_json(self.manifest(name), manifest)

    def read(self, names: Sequence[str], columns: Sequence[str] | None = None) -> dict[str, Any]:
        """Read columns of shards, one after another: arrays for row and score, lists for the rest."""
        tables = [parquet_columns(self.file(name), columns) for name in names]
        return {name: _values([table[name] for table in tables], name) for name in tables[0].column_names}

    def truncated(self) -> int:
        """Count the pairs of all shards that were cut at `max_length`."""
        manifests = (self.path / MANIFESTS).glob("*.json")
        return sum(json.loads(path.read_text(encoding="utf-8"))["truncated"] for path in manifests)


def score_column(scores: np.ndarray) -> tuple[Any, None]:
    """Turn scores `(N,)` or `(N, C)` into a column of numbers or of lists."""
    return (scores if scores.ndim == 1 else list(scores)), None


def shard_names(count: int) -> list[str]:
    """Name the shards of a job by their numbers."""
    return [f"{number:05d}-of-{count:05d}" for number in range(count)]


def is_written_there(folder: Path, path: Path) -> bool:
    """Tell whether a file, links followed, stands where a job in `folder` writes."""
    folder, path = folder.resolve(), path.resolve()
    if folder not in path.parents:
        return False
    first = path.relative_to(folder).parts[0]
    return first in (JOB, MANIFESTS) or first.startswith(".") or fnmatch(first, "scores-*.parquet")


def read_scores(folder: str | os.PathLike, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the scores of a finished `score_file` job, in the order of its input.

    Returns columns of N values by name: `row` `(N,)` int64, counted from 0; `score` float32 `(N,)`, or
    `(N, C)` for C classes; lists for `label` and the kept columns. `columns` selects.

    Raises `CheckpointError` for a folder without a job, and for missing or damaged shards, which the
    same job scores when it runs again.
    """
    job = _read_job(Path(folder))
    if "shards" not in job:
        raise CheckpointError(f"{folder} keeps a teacher's scores; call cached_scores to read them")
    shards, names = Shards(Path(folder), job["plan"]), shard_names(job["shards"])
    damaged = {name: damage for name in names if (damage := shards.damage(name)) != ""}
    if damaged:
        name, damage = next(iter(damaged.items()))
        what = f"{shards.file(name).name}: {damage or 'it is not there yet'}"
        count = f"{len(damaged)} of {len(names)} shards are missing"
        raise CheckpointError(f"{folder}: {count} ({what}); run the job again")
    return shards.read(names, columns)


def job_label_names(folder: str | os.PathLike) -> tuple[str, ...]:
    """Read the names of the classes that a job's score columns stand for; empty if it has none."""
    return tuple(_read_job(Path(folder)).get("label_names", ()))


def cached_scores(
    scorer: Scorer,
    pairs: Any,
    folder: str | os.PathLike,
    *,
    teacher: str | None = None,
    shard_size: int = 1024,
    settings: Mapping[str, Any] | None = None,
    show_progress_bar: bool | None = None,
) -> np.ndarray:
    """Score N pairs, `(N,)` or `(N, C)`, or read from `folder` what was scored before.

    Shards of `shard_size` pairs are kept as they are finished, so a killed call continues where it
    stopped. A shard is looked up by its texts, the settings and the teacher, so another teacher's
    scores are never taken. Several processes may share a folder.

    teacher: a name with a version; needed unless the scorer has a `fingerprint` (see `scorers`)
    settings: keyword arguments of the scorer; `{"activation_fn": "identity"}` gives raw scores

    Raises `DataError` for scores that are not finite or do not fit the pairs, `OSError` for a full disk.
    """
    one_or_more("shard_size", shard_size)
    if getattr(scorer, "depends_on_list", False):
        raise ValueError("this ensemble's scores depend on the whole list: cache the scores of its members")
    plan = {"teacher": _identity(scorer, teacher), "settings": _json_settings(settings or {})}
    options = without_unknown(scorer, settings or {}, SPEED)
    if cross_encoder_of(scorer) is not None:
        options = {"show_progress_bar": False, **options}  # one bar for all shards is enough
    shards = Shards(Path(folder).expanduser() / f"teacher-{_digest(plan)[:24]}", plan)
    shards.begin()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\d+ of \d+ pairs exceed max_length")  # counted below
        scores, told = _score_missing(shards, scorer, as_pairs(pairs).texts, shard_size, options, show_progress_bar)
    if told:
        warn_at_call(told)
    return scores


def _score_missing(
    shards: Shards, scorer: Scorer, texts: list, size: int, options: dict[str, Any], progress: bool | None
) -> tuple[np.ndarray, str]:
    """Score what is not in the shards; return all scores and a warning about pairs that were cut."""
    from tqdm import tqdm

    hide = not progress if progress is not None else not sys.stderr.isatty()
    parts: list[np.ndarray] = []
    cut = scored = 0
    with tqdm(total=len(texts), unit="pair", desc="teacher scores", disable=hide) as bar:
        for start in range(0, len(texts), size):
            block = texts[start : start + size]
            key = block_key(block)
            if not shards.is_whole(key):
                found = _score_block(scorer, block, start, options)
                here = getattr(owner_of(scorer), "truncated", 0)
                shards.write(key, {"score": score_column(found)}, rows=len(block), truncated=here)
                cut, scored = cut + here, scored + len(block)
            parts.append(shards.read([key])["score"])
            bar.update(len(block))
    told = f"{cut} of the {scored} pairs that were scored exceed the teacher's max_length" if cut else ""
    return (np.concatenate(parts) if parts else np.zeros(0)), told


def block_key(texts: Sequence[tuple[str, str]]) -> str:
    """Return the name of the shard of some pairs: the sha256 of their texts, in order."""
    return text_hash(text for pair in texts for text in pair).hexdigest()


def _score_block(scorer: Scorer, block: list, start: int, options: dict[str, Any]) -> np.ndarray:
    """Score the pairs of one shard and check them: finite, and one (or one row) per pair."""
    scores = np.asarray(as_scorer(scorer)(block, **with_module(options)))
    if scores.ndim not in (1, 2) or len(scores) != len(block):
        pairs = f"{len(block)} pairs (from pair {start})"
        raise DataError(f"the teacher gave scores of shape {scores.shape} for {pairs}")
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float64)

    def where(row: int) -> str:
        return "pair {}, {!r:.40} and {!r:.40}".format(start + row, *block[row])

    check_finite(scores, where, "the teacher", "; no score of this shard was kept")
    return np.ascontiguousarray(scores)


def _identity(scorer: Any, name: str | None) -> dict[str, Any]:
    """Identify a teacher by the caller's name, the model's fingerprint, or both."""
    try:
        return {"name": name, "fingerprint": fingerprint(scorer)}
    except ValueError:
        if not name:
            raise
    return {"name": name, "fingerprint": None}


def _json_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that change scores, as JSON holds them."""
    known = {name: value for name, value in settings.items() if name not in SPEED}
    try:
        return json.loads(json.dumps(known))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"no cache can be looked up by the settings {known!r} ({error}); give what JSON can hold, "
            'such as activation_fn="identity"'
        ) from None


def _read_job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads((path / JOB).read_text(encoding="utf-8"))
        return {**job, "plan": job["plan"]}
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path} is no folder of scores: there is no {JOB} in it") from None
    except (ValueError, LookupError, TypeError) as error:
        what = f"{path / JOB} cannot be read ({error})"
        raise CheckpointError(f"{what}; move the folder aside and run the job again") from None


def _digest(plan: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def _values(parts: Sequence[Any], name: str) -> Any:
    """Join a column of all shards."""
    if name not in ("row", "score"):
        return [value for part in parts for value in part.to_pylist()]
    arrays = [part.to_numpy() for part in parts]
    return np.concatenate([np.stack(a) if a.dtype == object else a for a in arrays])  # (N,) of (C,) is (N, C)


@contextmanager
def _explaining(what: str) -> Iterator[None]:
    """Let an `OSError` say what could not be done, and what to do about it."""
    try:
        yield
    except OSError as error:
        raise explained(error, what) from error
