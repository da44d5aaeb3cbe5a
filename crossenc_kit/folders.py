"""Folders: one that appears whole or not at all, and those that travel with the kit."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def shipped(name: str) -> Path:
    """The folder `name` ("data", "notebooks") that travels with the kit: in the package, or in a checkout above it."""
    package = Path(__file__).resolve().parent
    return package / name if (package / name).is_dir() else package.parent / name


@contextmanager
def replace_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give an empty folder beside `path` to write into; at the end it takes the place of `path`.

    Where the writing fails, `path` stays as it was. Files of an older folder that the new one does not
    write are kept. Raises `OSError` naming the folder where it cannot be written.
    """
    target = Path(path)
    try:
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
                _flush(file)
        _swap(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def mend_folder(path: str | os.PathLike) -> None:
    """Clear up after a `replace_folder` of `path` that was killed; the older folder returns if no new one came.

    Nobody else may be replacing it meanwhile.
    """
    target = Path(path)
    for left in target.parent.glob(f".{target.name}-*"):
        if not target.exists() and (left / target.name).is_dir():
            (left / target.name).rename(target)
        shutil.rmtree(left, ignore_errors=True)


def _swap(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    for old in target.iterdir():
        if not (partial / old.name).exists():
            (shutil.copytree if old.is_dir() else shutil.copy2)(old, partial / old.name)
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    target.rename(retired / target.name)
    try:
        partial.rename(target)
    except OSError:
        (retired / target.name).rename(target)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
