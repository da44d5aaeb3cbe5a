"""What the repository looks like: short functions and files, a fixed top level, nothing of one machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "crossenc_kit").glob("*.py"))
CODE = [*PACKAGE, *sorted((ROOT / "tests").rglob("*.py"))]

TOP_LEVEL = {"pyproject.toml", "README.md", "environment.yml", "LICENSE"}
TOP_LEVEL |= {"notebooks", "crossenc_kit", "tests", "data"}
TOP_LEVEL |= {".gitignore", ".gitattributes", ".github", ".ci", ".editorconfig", ".pre-commit-config.yaml"}

MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+|tmp|work|farm|mnt)/[\w.]")
UNPICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FROM_TORCH = {"torch.load", "torch.save", "torch.serialization"}


def named(path):
    return str(path.relative_to(ROOT))


def repository_files():
    """What git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("this is not a checkout with git")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("path", CODE, ids=named)
def test_no_function_is_longer_than_60_lines(path):
    functions = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)]
    lengths = {f"{f.name}, line {f.lineno}": f.end_lineno - f.lineno + 1 for f in functions}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


@pytest.mark.parametrize("path", PACKAGE, ids=named)
def test_no_file_of_the_package_is_longer_than_300_lines(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 300


@pytest.mark.parametrize("path", PACKAGE, ids=named)
def test_nothing_is_unpickled(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(unpickling(tree)) == []


def unpickling(tree):
    """(line, what) of every import of a pickling module, `torch.load` or `torch.save`, and `allow_pickle`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] in UNPICKLING)
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module.split(".")[0] in UNPICKLING
            torch = node.module == "torch" and any(f"torch.{a.name}" in FROM_TORCH for a in node.names)
            yield from [(node.lineno, ast.unparse(node))] if whole or torch else []
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in FROM_TORCH:
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield node.value.lineno, node.arg


def test_unpickling_is_seen():
    for line in (
        "import pickle",
        "from dill import loads",
        "torch.load(x)",
        "from torch import save",
        "f(allow_pickle=1)",
    ):
        assert len(list(unpickling(ast.parse(line)))) == 1, line
    assert list(unpickling(ast.parse("import json, torch\ntorch.tensor(json.loads(x))"))) == []


def test_the_top_level_holds_only_what_it_is_for():
    top = {path.relative_to(ROOT).parts[0] for path in repository_files()}
    assert sorted(top - TOP_LEVEL) == []


def test_no_file_names_a_path_of_one_machine():
    found = []
    for path in repository_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:  # a picture
            continue
        found += [f"{named(path)}:{n}: {m[0]}" for n, line in enumerate(lines, 1) if (m := MACHINE_PATH.search(line))]
    assert found == []


def test_a_path_of_one_machine_is_seen():
    for start in ("root", "home/ann", "tmp", "Users/ann"):
        assert MACHINE_PATH.search(f'open("/{start}/data.txt")'), start
    assert not MACHINE_PATH.search("https://example.org/home/ann/data and ../tmp/data")


def test_environment_yml_is_python_and_pip_and_then_the_project():
    tomllib = pytest.importorskip("tomllib")
    yaml = pytest.importorskip("yaml")
    from packaging.specifiers import SpecifierSet

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python, pip, rest = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert pip == "pip"
    assert rest == {"pip": ["-e .[lab,test]"]}
    assert {"lab", "test"} <= set(project["optional-dependencies"])
    assert SpecifierSet(project["requires-python"]).contains(python.removeprefix("python=") + ".0")
