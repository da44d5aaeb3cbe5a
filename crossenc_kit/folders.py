"""Folders: one that appears whole or not at all, and those that travel with the kit."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path


def shipped(name: str) -> Path:
    """The folder `name` ("data", "notebooks") that travels with the kit, whether or not it is there."""
    places = shipped_places(name)
    return next((place for place in places if place.is_dir()), places[-1])


def shipped_places(name: str) -> list[Path]:
    """Where a folder that travels with the kit may be: in the package (a wheel), or beside it (a checkout)."""
    package = Path(__file__).resolve().parent
    return [package / name, package.parent / name]


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
