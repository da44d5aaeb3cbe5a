"""What the house tests read: the package's files, parsed once, and the files of the repository."""

import ast
import functools
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "crossenc_kit"


@functools.cache
def parsed(path):
    """Parse a file once for all tests of this folder."""
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def tree_of():
    return parsed


@pytest.fixture(scope="session")
def package_files():
    """Every Python file of the package, doors included."""
    return sorted(PACKAGE.rglob("*.py"))


@pytest.fixture(scope="session")
def rooms():
    """{room: names of its files without the door}."""
    doors = sorted(PACKAGE.glob("*/__init__.py"))
    return {door.parent.name: sorted({file.stem for file in door.parent.glob("*.py")} - {"__init__"}) for door in doors}


@pytest.fixture(scope="session")
def repository_files():
    """List the files that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("this is not a checkout with git")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]
