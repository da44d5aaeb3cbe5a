"""Files and folders that appear whole or not at all, strict JSON, hashes, and the folders shipped with the kit.

Whatever the kit writes goes first under a hidden name beside its target, is forced to the disk, and then
takes its name by one rename. A killed process leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import dataclasses
import errno
import gzip
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

BLOCK = 1 << 20  # bytes hashed at a time


def shipped(name: str) -> Path:
    """Find the folder `name` ("data", "notebooks") that comes with the kit, whether or not it is there."""
    places = shipped_places(name)
    return next((place for place in places if place.is_dir()), places[-1])


def shipped_places(name: str) -> list[Path]:
    """List where a shipped folder may be: inside the package (a wheel) or beside it (a checkout)."""
    package = Path(__file__).resolve().parent
    return [package / "shipped" / name, package.parent / name]


# --- files ----------------------------------------------------------------------------------------


@contextmanager
def replace_file(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a new file to write bytes into; at the end it takes the place of `path`.

    If writing fails, `path` stays as it was. If two write at a time, the last one counts.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)


def write_bytes(path: str | os.PathLike, data: bytes) -> Path:
    """Write a file in one move."""
    with replace_file(path) as file:
        file.write(data)
    return Path(path)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write UTF-8 in one move; half a surrogate pair, which UTF-8 cannot hold, becomes its escape."""
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_lines(path: str | os.PathLike, lines: Iterable[bytes]) -> Path:
    """Write lines in one move, gzipped if `path` ends in .gz."""
    path = Path(path)
    with replace_file(path) as file:
        if path.suffix == ".gz":
            # Neither name nor time in the gzip header, so that equal lines give equal files.
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as stream:
                stream.writelines(lines)
        else:
            file.writelines(lines)
    return path


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write a record as indented JSON in one move."""
    return write_text(path, dumps(value, indent=2) + "\n")


def write_jsonl(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write one JSON object per line in one move, gzipped if `path` ends in .gz."""
    return write_lines(path, ((dumps(row) + "\n").encode("utf-8", "backslashreplace") for row in rows))


def flush(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    is_folder = path.is_dir()
    if is_folder and sys.platform == "win32":  # Windows cannot flush a folder
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network mounts
            raise
    finally:
        os.close(descriptor)


def explained(error: OSError, what: str) -> OSError:
    """Return the same error with a message that says what failed and what to do."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "free some space" if full else "make the folder writable"
    reason = error.strerror or error
    return OSError(error.errno, f"{what} ({reason}); {hint} or choose another, and run it again")


# --- folders --------------------------------------------------------------------------------------


@contextmanager
def replace_folder(path: str | os.PathLike, owned: Sequence[str] = ()) -> Iterator[Path]:
    """Give an empty folder beside `path` to write into; at the end it takes the place of `path`.

    If writing fails, `path` stays as it was. Files that only the older folder has are carried over,
    except those whose name matches a pattern in `owned`: they are part of what is replaced.

    Raises `OSError` naming a folder that cannot be written.
    """
    target = Path(path).resolve()  # what a link points to, so that the link stays
    if target == Path.cwd():
        raise OSError(f"cannot replace the current folder {str(target)!r}; choose a folder inside it")
    try:
        if target.exists() and not target.is_dir():
            raise FileExistsError(errno.EEXIST, f"{target.name} is a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise OSError(f"cannot write into {str(target.parent)!r}: {error.strerror}; choose another folder") from error
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o777 & ~umask)  # mkdtemp makes folders that only their owner may open
        for file in partial.rglob("*"):
            if file.is_file():
                flush(file)
        _swap(partial, target, owned)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def mend_folder(path: str | os.PathLike) -> None:
    """Clean up after a killed `replace_folder`; if the new folder never arrived, the older one returns.

    Nobody else may be replacing the folder meanwhile.
    """
    target = Path(path).resolve()
    for left in target.parent.glob(f".{target.name}-*"):
        if not target.exists() and (left / target.name).is_dir():
            (left / target.name).rename(target)
        shutil.rmtree(left, ignore_errors=True)


def _swap(partial: Path, target: Path, owned: Sequence[str]) -> None:
    """Carry over what is not owned, move the older folder aside, and move the new one in."""
    if not target.exists():
        partial.rename(target)
        return
    for old in target.iterdir():
        new = partial / old.name
        if new.exists() or any(fnmatch(old.name, own) for own in owned):
            continue
        if old.is_dir() and not old.is_symlink():
            shutil.copytree(old, new, symlinks=True)
        else:
            shutil.copy2(old, new, follow_symlinks=False)
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    target.rename(retired / target.name)
    try:
        partial.rename(target)
    except OSError:
        (retired / target.name).rename(target)
        retired.rmdir()
        raise
    shutil.rmtree(retired, ignore_errors=True)


# --- JSON and hashes ------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Turn arrays and numbers of numpy and torch, paths, tuples and dataclasses into JSON's types."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """Write strict JSON: NaN and infinities, which other readers refuse, become null."""

    def finite(item: Any) -> Any:
        if isinstance(item, float) and not math.isfinite(item):
            return None
        if isinstance(item, dict):
            return {key: finite(sub) for key, sub in item.items()}
        return [finite(sub) for sub in item] if isinstance(item, list) else item

    return json.dumps(finite(plain(value)), indent=indent, ensure_ascii=False, allow_nan=False)


def file_stamp(path: str | os.PathLike) -> tuple[int, int]:
    """Return a file's size in bytes and the time of its last change in nanoseconds."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def file_sha256(path: str | os.PathLike) -> str:
    """Return the sha256 of a file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def text_hash(texts: Iterable[str], digest: Any = None) -> Any:
    """Feed texts to a sha256 (a new one, or `digest`) and return it.

    Each text comes after its length in bytes, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256() if digest is None else digest
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(encoded) + encoded)
    return digest
