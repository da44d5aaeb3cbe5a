"""A real file system that is soon full."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from small_runs import whole_run


@contextmanager
def mounted(size: str, tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of the given size, such as "1m"; the test is skipped where none can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if not done or done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.decode().strip() if done else 'no mount command'}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def disk_of(tmp_path: Path) -> Callable[[str], AbstractContextManager[Path]]:
    """Mount a file system of a size such as "1m" and give its folder."""
    return lambda size: mounted(size, tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """The run that nothing interrupts, and its folder; not to be written into."""
    torch.set_num_threads(1)  # sums of floats depend on their order
    return whole_run(tmp_path_factory.mktemp("whole"))
