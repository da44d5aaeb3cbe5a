"""Folders: one that appears whole or not at all, and those that travel with the kit."""

from __future__ import annotations

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
from typing import Any


def shipped(name: str) -> Path:
    """The folder `name` ("data", "notebooks") that travels with the kit, whether or not it is there."""
    places = shipped_places(name)
    return next((place for place in places if place.is_dir()), places[-1])


def shipped_places(name: str) -> list[Path]:
    """Where a folder that travels with the kit may be: in the package (a wheel), or beside it (a checkout)."""
    package = Path(__file__).resolve().parent
    return [package / "shipped" / name, package.parent / name]


@contextmanager
def replace_folder(path: str | os.PathLike, owned: Sequence[str] = ()) -> Iterator[Path]:
    """Give an empty folder beside `path` to write into; at the end it takes the place of `path`.

    Where the writing fails, `path` stays as it was. Files of an older folder that the new one does not
    write are kept, but for names that match a pattern of `owned`: those belong to the content that is
    replaced. Raises `OSError` naming the folder where it cannot be written.
    """
    target = Path(path).resolve()  # where a link points to, so that the link stays
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
    """Clear up after a `replace_folder` of `path` that was killed; the older folder returns if no new one came.

    Nobody else may be replacing it meanwhile.
    """
    target = Path(path).resolve()
    for left in target.parent.glob(f".{target.name}-*"):
        if not target.exists() and (left / target.name).is_dir():
            (left / target.name).rename(target)
        shutil.rmtree(left, ignore_errors=True)


def _swap(partial: Path, target: Path, owned: Sequence[str]) -> None:
    if not target.exists():
        partial.rename(target)
        return
    for old in target.iterdir():
        if not (partial / old.name).exists() and not any(fnmatch(old.name, pattern) for pattern in owned):
            _copy(old, partial / old.name)
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    target.rename(retired / target.name)
    try:
        partial.rename(target)
    except OSError:
        (retired / target.name).rename(target)
        retired.rmdir()
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _copy(old: Path, new: Path) -> None:
    """A file, a folder or a link, the link as it is."""
    if old.is_dir() and not old.is_symlink():
        shutil.copytree(old, new, symlinks=True)
    else:
        shutil.copy2(old, new, follow_symlinks=False)


def flush(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    is_folder = path.is_dir()
    if is_folder and sys.platform == "win32":  # which has no such call
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network and FUSE mounts
            raise
    finally:
        os.close(descriptor)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers and arrays of numpy and torch, paths and tuples become plain ones."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinities become null, since no other JSON reader accepts them."""

    def finite(item: Any) -> Any:
        if isinstance(item, float) and not math.isfinite(item):
            return None
        if isinstance(item, dict):
            return {key: finite(sub) for key, sub in item.items()}
        return [finite(sub) for sub in item] if isinstance(item, list) else item

    return json.dumps(finite(plain(value)), indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write a record as indented JSON, replacing the file in one move."""
    return _replace(Path(path), dumps(value, indent=2) + "\n")


def _replace(path: Path, text: str) -> Path:
    """Write JSON as UTF-8; half of a surrogate pair, which UTF-8 cannot hold, as its JSON escape."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # half of it, where the disk is full
    return path


def write_jsonl(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write one strict JSON object a line (gzipped if `path` ends in .gz), replacing the file in one move.

    Half of a surrogate pair, which UTF-8 cannot hold, is written as its JSON escape; NaN and infinities
    become null.
    """
    return write_lines(path, ((dumps(row) + "\n").encode("utf-8", "backslashreplace") for row in rows))


def write_lines(path: str | os.PathLike, lines: Iterable[bytes]) -> Path:
    """Write lines (gzipped if `path` ends in .gz), replacing the file in one move."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as raw:
        # no name and no time in the gzip header: equal lines give equal files
        stream = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        stream.writelines(lines)
        if stream is not raw:
            stream.close()
    os.replace(partial, path)
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text file and force it to the disk."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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


def file_stamp(path: str | os.PathLike) -> tuple[int, int]:
    """Size and time of the last change of a file."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def file_sha256(path: str | os.PathLike) -> str:
    """sha256 of a file's bytes, in 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def text_hash(texts: Iterable[str], digest: Any = None) -> Any:
    """Feed texts to a sha256 (a new one, or `digest`) and return it; `.hexdigest()` gives the 64 hex digits.

    Each text is preceded by its length in bytes, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256() if digest is None else digest
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(encoded) + encoded)
    return digest
