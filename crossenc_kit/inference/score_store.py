"""A folder of scores: parquet shards, each there whole or not at all, and each with a manifest.

    out/_job.json                      what the scores depend on: input, model, settings
    out/scores-00000-of-00007.parquet  a shard: the columns row, score, (label), and those kept of the input
    out/_manifests/00000.json          its rows, size and sha256; written after it: a shard without one does not count

Names with `_` are no data to pandas, pyarrow and datasets: `pandas.read_parquet("out")` reads all shards.

Scores on the disk in shards: one file a block of pairs, each there whole or not at all.

A shard is a safetensors file named after its texts, so that it is found again wherever these pairs stand. Its
header is its manifest: the texts' sha256, and the sha256 of the scores. A shard is written under a hidden name,
forced to the disk, and appears by one rename: there is no second file that could disagree with it.
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
from crossenc_kit.files import dumps, explained, flush, text_hash, write_bytes, write_json
from crossenc_kit.jobs import check_fingerprint, lock
from crossenc_kit.models.settings import with_module
from crossenc_kit.scorers import Scorer, as_scorer, cross_encoder_of, fingerprint, owner_of, without_unknown

JOB, MANIFESTS = "_job.json", "_manifests"
OTHERS = (JOB, MANIFESTS, ".lock", ".pid", ".ranks")  # what a job writes beside its shards
ABANDONED = 3600.0  # seconds: no shard takes that long to write, so its writer is dead
# Settings that change how long scoring takes, not what comes out: not part of what a cache is looked up by.
SPEED = {"batch_size", "token_budget", "threads", "num_workers", "show_progress_bar"}


@dataclass(frozen=True)
class ScoreFolder:
    """A job's folder: N rows in shards of `shard_rows`; `plan` is what the scores depend on.

    `writer` tells apart those who write at the same time: their unfinished files have different names. `label_names`:
    those of the columns of scores, for who reads them.
    """

    path: Path
    rows: int
    shard_rows: int
    plan: Mapping[str, Any]
    writer: str = "0"
    label_names: tuple[str, ...] = ()

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_rows)

    def shard(self, number: int) -> Path:
        return self.path / f"scores-{number:05d}-of-{self.shards:05d}.parquet"

    def manifest(self, number: int) -> Path:
        return self.path / MANIFESTS / f"{number:05d}.json"

    def rows_of(self, number: int) -> tuple[int, int]:
        """The first row of a shard, and the first of the next one."""
        return number * self.shard_rows, min((number + 1) * self.shard_rows, self.rows)

    def begin(self) -> None:
        """Write the job down, or check that the one that is there is the same.

        A job file that is damaged is written anew where the shards are of this job, as their manifests tell. Raises
        `CheckpointError` naming what differs, and for parquet files that are of no job or of one not known.
        """
        job = self.path / JOB
        if not job.exists():
            if other := next(self.path.glob("*.parquet"), None):
                raise CheckpointError(
                    f"{self.path} holds {other.name}, which is of no job here; choose an empty folder"
                )
            self._write_job(replace=False)
        try:
            check_fingerprint(_filled(_read_job(self.path)["plan"]), _filled(self.plan))
        except DamagedJob as error:
            if not self._is_ours():
                raise CheckpointError(
                    f"{error}, and the shards in {self.path} are of another job, or nothing tells of which; "
                    "move the folder aside and run this job again, or run the job that they are of"
                ) from None
            warnings.warn(f"{error}: it is written anew, the shards are of this job", stacklevel=3)
            self._write_job()
        (self.path / MANIFESTS).mkdir(exist_ok=True)

    def _write_job(self, replace: bool = True) -> None:
        about: dict[str, Any] = {"rows": self.rows, "shard_rows": self.shard_rows, "shards": self.shards}
        about |= {"label_names": list(self.label_names), "plan": self.plan}
        self._write(self.path / JOB, (dumps(about, indent=2) + "\n").encode(), replace)

    def _is_ours(self) -> bool:
        """Whether all manifests that can be read are of this plan, and shards have at least one."""
        found = []
        for path in (self.path / MANIFESTS).glob("*.json"):
            with suppress(ValueError, LookupError, TypeError):  # what `damage` says later
                found.append(json.loads(path.read_text(encoding="utf-8"))["plan"] == _digest(self.plan))
        return all(found) if found else not any(self.path.glob("*.parquet"))

    def damage(self, number: int) -> str | None:
        """What is wrong with a shard, in words; "" if it is whole, None where it is not there yet."""
        try:
            manifest = json.loads(self.manifest(number).read_text(encoding="utf-8"))
            told = (manifest["plan"], tuple(manifest["rows"]), manifest["bytes"], manifest["sha256"])
        except FileNotFoundError:
            return None  # without its manifest a shard may be of a writer that was killed
        except (ValueError, LookupError, TypeError):
            return f"its manifest {MANIFESTS}/{self.manifest(number).name} cannot be read"
        try:
            data = self.shard(number).read_bytes()
        except FileNotFoundError:
            return "the file is gone"
        if told[:2] != (_digest(self.plan), self.rows_of(number)):
            return "it is of another job"
        if told[2] != len(data):
            return f"it has {len(data):,} bytes, its manifest says {told[2]:,}"
        return "" if told[3] == hashlib.sha256(data).hexdigest() else "its sha256 is not the one in its manifest"

    def missing(self, numbers: Sequence[int]) -> list[int]:
        """Those of the shards `numbers` that are not there whole; of a damaged one a warning says so."""
        absent = []
        for number in numbers:
            damage = self.damage(number)
            if damage:
                warnings.warn(f"{self.shard(number)} is damaged ({damage}): it is scored again", stacklevel=3)
            if damage != "":
                absent.append(number)
        return absent

    def write(self, number: int, columns: Mapping[str, tuple[Sequence, Any]], **more: Any) -> None:
        """Write a shard, then its manifest with `more`, each whole or not at all; `OSError` if the disk refuses."""
        data = parquet_bytes(columns)
        self._write(self.shard(number), data)
        manifest = {"shard": self.shard(number).name, "rows": self.rows_of(number), "bytes": len(data)}
        manifest |= {"sha256": hashlib.sha256(data).hexdigest(), "plan": _digest(self.plan), **more}
        self._write(self.manifest(number), (dumps(manifest, indent=2) + "\n").encode())

    def truncated(self) -> int:
        """How many pairs of the shards that are there were cut at `max_length`."""
        manifests = (self.path / MANIFESTS).glob("*.json")
        return sum(json.loads(path.read_text(encoding="utf-8"))["truncated"] for path in manifests)

    def _write(self, path: Path, data: bytes, replace: bool = True) -> None:
        """Write a file that appears whole or not at all; without `replace` the first one stays."""
        partial = path.with_name(f".{path.name}.{self.writer}.partial")
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace or not _link(partial, path):
                os.replace(partial, path)
        except OSError as error:
            what = f"cannot write {path} ({error.strerror or error}); the shards already there are whole"
            raise OSError(
                error.errno, f"{what}. Free some space or make the folder writable, then run it again"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        with suppress(OSError):  # some network and FUSE mounts cannot; the manifests tell what arrived
            flush(path.parent)


def _link(partial: Path, path: Path) -> bool:
    """Give a file its name unless that is taken; False where the file system cannot do it in one step."""
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    except OSError:
        return False
    return True


@contextmanager
def alone(path: Path, rank: int, count: int) -> Iterator[None]:
    """One job at a time in a folder, of `count` processes; clears what killed ones left unfinished.

    `CheckpointError` where another job has it. Process 0 holds the folder, the others a place of their own in it.
    """
    with lock(path if rank == 0 else path / ".ranks" / str(rank)):
        for left in [*path.glob(".*.partial"), *(path / MANIFESTS).glob(".*.partial")]:
            writer = left.name.split(".")[-2]
            if writer == str(rank) or (rank == 0 and writer.isdigit() and int(writer) >= count):
                left.unlink(missing_ok=True)
        yield


def is_written_there(folder: Path, path: Path) -> bool:
    """Whether a file, links followed, lies in a folder of scores where a job writes."""
    folder, path = folder.resolve(), path.resolve()
    if folder not in path.parents:
        return False
    first = path.relative_to(folder).parts[0]
    return first in OTHERS or fnmatch(first, "scores-*.parquet") or fnmatch(first, ".*.partial")


def read_scores(folder: str | os.PathLike, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """The scores of a finished job in the input's order, as columns of N values by name.

    `row`: `(N,)` int64, the input's rows from 0; `score`: float32 `(N,)`, or `(N, C)` of several classes; `label`
    and kept columns: lists. `columns` selects. Raises `CheckpointError` for a folder that holds no job, and for a job
    file or shards that are missing or damaged, which the same job fills in when it is run again.
    """
    path = Path(folder)
    try:
        job = _read_job(path)
    except DamagedJob as error:
        raise CheckpointError(f"{error}; run the job again, which writes it anew and keeps the shards") from None
    there = ScoreFolder(path, job["rows"], job["shard_rows"], job["plan"])
    damaged = {number: damage for number in range(there.shards) if (damage := there.damage(number)) != ""}
    for number, damage in damaged.items():
        what = f"{there.shard(number).name}: {damage or 'it is not there yet'}"
        raise CheckpointError(
            f"{path}: {len(damaged)} of {there.shards} shards are missing ({what}); run the job again"
        )
    tables = [parquet_columns(there.shard(number), columns) for number in range(there.shards)]
    return {name: _values([table[name] for table in tables], name) for name in tables[0].column_names}


def folder_label_names(folder: str | os.PathLike) -> tuple[str, ...]:
    """The names of the classes of a job's scores, in the order of their columns; empty where it has none."""
    return tuple(_read_job(Path(folder))["label_names"])


def _values(parts: Sequence[Any], name: str) -> Any:
    """A column of all shards: an array of numbers for row and score, else a list."""
    if name not in ("row", "score"):
        return [value for part in parts for value in part.to_pylist()]
    arrays = [part.to_numpy() for part in parts]
    return np.concatenate([np.stack(a) if a.dtype == object else a for a in arrays])  # (N,) of (C,) is (N, C)


class DamagedJob(CheckpointError):
    """The job file of a folder of scores is there and cannot be read."""


def _read_job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads((path / JOB).read_text(encoding="utf-8"))
        there = {name: job[name] for name in ("rows", "shard_rows", "shards", "plan")}
        return {**there, "label_names": job.get("label_names", [])}
    except FileNotFoundError:
        raise CheckpointError(f"{path} holds no scores: there is no {JOB} in it") from None
    except NotADirectoryError:
        raise CheckpointError(f"{path} is a file, not a folder of scores; lines of JSON are read as any are") from None
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedJob(f"{path / JOB} cannot be read ({error})") from None


def _filled(plan: Any) -> Any:
    """A plan without what is empty in it: no kept columns are nothing to name."""
    if not isinstance(plan, Mapping):
        return plan
    return {name: _filled(value) for name, value in plan.items() if value != {}}


def _digest(plan: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def open_shards(folder: str | os.PathLike, identity: Mapping[str, Any]) -> Path:
    """The folder of one teacher's shards within `folder`, made if need be; `identity` is what they depend on.

    Its name is a sha256 of the identity, which stands in its `teacher.json`. What killed processes left is cleared.
    Raises `OSError` where it cannot be written.
    """
    text = json.dumps(identity, sort_keys=True)
    place = Path(folder).expanduser() / f"teacher-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "teacher.json").is_file():
            write_json(place / "teacher.json", identity)
        for left in place.glob(".*.partial"):
            with suppress(FileNotFoundError):  # another process was first
                if time.time() - left.stat().st_mtime > ABANDONED:
                    left.unlink()
    except OSError as error:
        raise explained(error, f"cannot keep scores in {str(folder)!r}") from error
    return place


def texts_key(texts: Sequence[tuple[str, str]]) -> str:
    """sha256 of the texts of some pairs, in order: the name of their shard."""
    return text_hash(text for pair in texts for text in pair).hexdigest()


def read_shard(place: Path, key: str, rows: int, where: str) -> np.ndarray | None:
    """The scores `(rows,)` or `(rows, C)` of a shard, None where there is none; of a damaged one a warning says so."""
    path = place / f"{key}.safetensors"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        warnings.warn(f"the cached scores of {where} cannot be read ({error}): scored again", stacklevel=4)
        return None
    try:
        return _verified(data, key, rows)
    except DataError as damage:
        warnings.warn(f"the cached scores of {where} are damaged ({path}: {damage}): scored again", stacklevel=4)
        return None


def write_shard(place: Path, key: str, scores: np.ndarray) -> None:
    """Keep the scores of a shard; `OSError` where the disk refuses, and then the other shards stay as they are."""
    from safetensors.numpy import save

    metadata = {"texts": key, "sha256": _shard_digest(scores)}
    try:
        write_bytes(place / f"{key}.safetensors", save({"scores": scores}, metadata=metadata))
    except OSError as error:
        what = f"cannot keep the scores of {len(scores)} pairs in {str(place)!r}; the shards already there are whole"
        raise explained(error, what) from error


def _verified(data: bytes, key: str, rows: int) -> np.ndarray:
    """The scores that a shard's bytes hold; `DataError` says in which way they are not those written."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        scores = load(data)["scores"]
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        texts, sha256 = metadata["texts"], metadata["sha256"]
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"not a whole safetensors file of scores, {error or type(error).__name__}") from None
    if texts != key:
        raise DataError("the scores are of other texts")
    if len(scores) != rows:
        raise DataError(f"{len(scores)} scores for {rows} pairs")
    if sha256 != _shard_digest(scores):
        raise DataError("the sha256 of the scores is not the one in the header")
    return scores


def _shard_digest(scores: np.ndarray) -> str:
    """sha256 of type, shape and values."""
    return hashlib.sha256(f"{scores.dtype.str}{scores.shape}".encode() + scores.tobytes()).hexdigest()


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
    """The scores `(N,)` or `(N, C)` of N pairs, read from `folder` where they were computed before.

    The scorer gets `shard_size` pairs at a time, and `settings` as keyword arguments (of a `CrossEncoder`,
    `{"activation_fn": "identity"}` for raw scores). Each such shard is written whole or not at all, so that a killed
    run goes on where it was; a damaged shard is named in a warning and scored again. A shard is looked up by its
    texts, the settings (but for those of `SPEED`) and the teacher: for a `CrossEncoder` (this kit's, or
    sentence-transformers') or a `ScoringPool` of one by its fingerprint, see `fingerprint`; any other needs
    `teacher="name-and-version"`, which the caller changes whenever the scores would. So scores of another teacher
    are never taken, and pairs added at the end leave the full shards before them as they are.

    Two processes may use one folder: each takes what the other has finished; what both compute is kept once, the
    later writer's. The scores must not depend on what else is scored, so ensembles by rank are refused: cache their
    members. Raises `OSError` for a folder that cannot be written and a full disk, `DataError` for scores that are
    not finite or not one (row) a pair; the shards finished before stay.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size must be at least 1 pair, got {shard_size}")
    if getattr(scorer, "depends_on_list", False):
        raise ValueError("the scores of this ensemble depend on the whole list: cache its members' scores, not its own")
    options, known = without_unknown(scorer, settings or {}, SPEED), _json_settings(settings or {})
    texts = as_pairs(pairs).texts
    place = open_shards(folder, {"teacher": _identity(scorer, teacher), "settings": known})
    return _score_blocks(scorer, texts, place, shard_size, options, show_progress_bar)


def _score_blocks(
    scorer: Scorer, texts: list[tuple[str, str]], place: Any, size: int, options: dict[str, Any], progress: bool | None
) -> np.ndarray:
    from tqdm import tqdm

    parts: list[np.ndarray] = []
    hide = not progress if progress is not None else not sys.stderr.isatty()
    model = cross_encoder_of(scorer)
    if model is not None:
        options = {"show_progress_bar": False, **options}  # the bar of all shards is enough
    cut = scored = 0
    bar = tqdm(total=len(texts), unit="pair", desc="teacher scores", disable=hide)
    with bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\d+ of \d+ pairs exceed max_length")  # counted over all shards
        for start in range(0, len(texts), size):
            block = texts[start : start + size]
            key, where = texts_key(block), f"pairs {start} to {start + len(block) - 1}"
            scores = read_shard(place, key, len(block), where)
            if scores is None:
                scores = _score_block(scorer, block, start, options)
                write_shard(place, key, scores)
                cut, scored = cut + getattr(owner_of(scorer), "truncated", 0), scored + len(block)
            if parts and scores.shape[1:] != parts[0].shape[1:]:
                raise DataError(f"{where}: scores of shape {scores.shape[1:]} a pair, before {parts[0].shape[1:]}")
            parts.append(scores)
            bar.update(len(block))
    if cut:
        warnings.warn(f"{cut} of the {scored} pairs that were scored exceed the teacher's max_length", stacklevel=3)
    return np.concatenate(parts) if parts else np.zeros(0)


def _score_block(scorer: Scorer, block: list[tuple[str, str]], start: int, options: dict[str, Any]) -> np.ndarray:
    """One shard's scores, checked: finite, and one (or one row) a pair."""
    scores = np.asarray(as_scorer(scorer)(block, **with_module(options)))
    if scores.ndim not in (1, 2) or len(scores) != len(block):
        raise DataError(f"the teacher gave scores of shape {scores.shape} for {len(block)} pairs (from pair {start})")
    scores = np.ascontiguousarray(scores if scores.dtype in (np.float32, np.float64) else scores.astype(np.float64))
    bad = np.flatnonzero(~np.isfinite(scores.reshape(len(block), -1)).all(axis=1))
    if len(bad):
        left, right = block[bad[0]]
        raise DataError(
            f"pair {start + bad[0]}: the teacher's score is {scores[bad[0]]} for {left[:40]!r}, {right[:40]!r} "
            f"({len(bad)} of these {len(block)} are not finite; nothing of them was kept)"
        )
    return scores


def _identity(scorer: Any, name: str | None) -> dict[str, Any]:
    """Return what tells a teacher from others: the caller's name, the model's fingerprint, or both."""
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise ValueError(f'teacher is {name!r}; expected a name with a version, such as "bm25-k1=1.2"')
    try:
        return {"name": name, "fingerprint": fingerprint(scorer)}
    except ValueError:
        if name is None:
            raise
    return {"name": name, "fingerprint": None}


def _json_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that count, as JSON holds them; `ValueError` for one that it cannot hold."""
    known = {}
    for name, value in settings.items():
        try:
            if name not in SPEED:
                known[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            raise ValueError(
                f"settings[{name!r}] is {value!r}, which no cache can be looked up by; give a number, a string "
                '(activation_fn="identity"), True, False, None, or a list or dict of these'
            ) from None
    return known
