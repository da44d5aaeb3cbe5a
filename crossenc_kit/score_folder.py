"""A folder of scores: parquet shards, each there whole or not at all, and each with a manifest.

    out/_job.json                      what the scores depend on: input, model, settings
    out/scores-00000-of-00007.parquet  a shard: the columns row, score, (label), and those kept of the input
    out/_manifests/00000.json          its rows, size and sha256; written after it: a shard without one does not count

Names with `_` are no data to pandas, pyarrow and datasets: `pandas.read_parquet("out")` reads all shards.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.checkpoint import CheckpointError, check_fingerprint
from crossenc_kit.folders import flush
from crossenc_kit.history import dumps
from crossenc_kit.parquet import parquet_bytes, parquet_columns
from crossenc_kit.run_guard import lock

JOB, MANIFESTS = "_job.json", "_manifests"
OTHERS = (JOB, MANIFESTS, ".lock", ".ranks")  # what a job writes beside its shards


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
