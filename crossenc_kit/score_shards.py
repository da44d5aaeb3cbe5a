"""Scores on the disk in shards: one file a block of pairs, each there whole or not at all.

A shard is a safetensors file named after its texts, so that it is found again wherever these pairs stand. Its
header is its manifest: the texts' sha256, and the sha256 of the scores. A shard is written under a hidden name,
forced to the disk, and appears by one rename: there is no second file that could disagree with it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from crossenc_kit.folders import flush
from crossenc_kit.history import dumps
from crossenc_kit.pairs import DataError

ABANDONED = 3600.0  # seconds: no shard takes that long to write, so its writer is dead


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
            write_whole(place / "teacher.json", (dumps(identity, indent=2) + "\n").encode("utf-8", "backslashreplace"))
        for left in place.glob(".*.partial"):
            with suppress(FileNotFoundError):  # another process was first
                if time.time() - left.stat().st_mtime > ABANDONED:
                    left.unlink()
    except OSError as error:
        raise _explained(error, f"cannot keep scores in {str(folder)!r}") from error
    return place


def texts_key(texts: Sequence[tuple[str, str]]) -> str:
    """sha256 of the texts of some pairs, in order: the name of their shard."""
    digest = hashlib.sha256()
    for pair in texts:
        for text in pair:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(encoded) + encoded)  # the length, so that no text can end another
    return digest.hexdigest()


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

    metadata = {"texts": key, "sha256": _digest(scores)}
    try:
        write_whole(place / f"{key}.safetensors", save({"scores": scores}, metadata=metadata))
    except OSError as error:
        what = f"cannot keep the scores of {len(scores)} pairs in {str(place)!r}; the shards already there are whole"
        raise _explained(error, what) from error


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
    if sha256 != _digest(scores):
        raise DataError("the sha256 of the scores is not the one in the header")
    return scores


def _digest(scores: np.ndarray) -> str:
    """sha256 of type, shape and values."""
    return hashlib.sha256(f"{scores.dtype.str}{scores.shape}".encode() + scores.tobytes()).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all; of two writers the last one counts."""
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)


def _explained(error: OSError, what: str) -> OSError:
    """The same error, saying what could not be done and what to do."""
    hints = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some space"}
    hint = hints.get(error.errno or 0, "make the folder writable")
    return OSError(error.errno, f"{what} ({error.strerror or error}); {hint} or choose another, and run it again")
