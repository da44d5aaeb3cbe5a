"""What the repository looks like: short functions and files, few entries on top, nothing of one machine."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "crossenc_kit"

LONGEST_FUNCTION, LONGEST_FILE, LONGEST_DOCSTRING = 60, 400, 12  # lines
TOP_LEVEL = {"pyproject.toml", "README.md", "environment.yml", "notebooks", "crossenc_kit", "tests", "data"}
TOP_LEVEL |= {"LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff"}
TOP_LEVEL |= {".gitignore", ".gitattributes", ".github", ".ci", ".editorconfig", ".pre-commit-config.yaml"}
ON_TOP = {"__init__", "__main__", "errors", "files", "jobs", "history", "scorers"}

MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+|tmp|work|farm|mnt)/[\w.]")
UNPICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FROM_TORCH = {"torch.load", "torch.save", "torch.serialization"}


def named(path):
    return str(path.relative_to(ROOT))


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


# --- sizes ----------------------------------------------------------------------------------------


def test_no_function_is_longer_than_60_lines(package_files, tree_of):
    code = [*package_files, *sorted((ROOT / "tests").rglob("*.py"))]
    found = [
        (named(path), node.name, node.end_lineno - node.lineno + 1)
        for path in code
        for node in functions(tree_of(path))
    ]
    assert [function for function in found if function[2] > LONGEST_FUNCTION] == []


def test_no_file_of_the_package_is_longer_than_400_lines(package_files):
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in package_files}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_a_room_has_4_to_12_files_and_no_folder(rooms):
    assert {room: len(files) for room, files in rooms.items() if not 4 <= len(files) <= 12} == {}
    assert sorted(PACKAGE.glob("*/*/*.py")) == []
    assert len(rooms) == 11


def test_seven_files_stand_on_top_of_the_package():
    assert {path.stem for path in PACKAGE.glob("*.py")} == ON_TOP


def test_the_top_level_of_the_repository_is_fixed(repository_files):
    top = {path.relative_to(ROOT).parts[0] for path in repository_files}
    assert sorted(top - TOP_LEVEL) == []


def test_a_name_with_an_underscore_stays_in_its_file(package_files, tree_of):
    found = [
        f"{named(path)}: {alias.name} of {node.module}"
        for path in package_files
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (node.level or node.module.startswith("crossenc_kit")) and re.match(r"_(?!_)", alias.name)
    ]
    assert found == []


# --- prose ----------------------------------------------------------------------------------------

# Words that open a description ("The scores of ...", "How many ..."), and not an instruction ("Read a run.").
NO_VERBS = re.compile(
    r"(the|an?|what|whether|how|which|who|why|where|when|if|of|in|on|as|at|by|for|from|to|with|without|and|or|but|only|also|"
    r"this|these|those|there|its?|one|two|each|every|all|any|both|none|no|not|same|such|that|several|many|most|more|some|"
    r"other|true|false)"
)
VERBS_IN_S = {"pass", "process", "compress", "express", "access", "miss", "guess", "address", "focus", "discuss"}


def is_imperative(sentence):
    """Judge by the first word: no article or question word, not "Reads", "Reading" or "Read" as in "was read"."""
    word = re.match(r"\W*(\w+)", sentence)
    first = word[1].lower() if word else ""
    third_person = first.endswith("s") and first not in VERBS_IN_S
    gerund = first.endswith("ing") and first not in {"bring", "string", "ring"}
    return bool(first) and not NO_VERBS.fullmatch(first) and not third_person and not gerund


def public_functions(tree):
    """Yield (name, docstring) of the functions and methods that callers use; a property describes a value."""
    for scope in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")]:
        for node in scope.body:
            marks = [ast.unparse(mark) for mark in getattr(node, "decorator_list", [])]
            described = any(re.search(r"property|\.setter", mark) for mark in marks)
            if isinstance(node, ast.FunctionDef) and node.name[0] != "_" and not described:
                yield node.name, ast.get_docstring(node)


def docstrings(package_files, tree_of):
    for path in package_files:
        for name, text in public_functions(tree_of(path)):
            if text is not None:
                yield f"{named(path)}: {name}", text


def test_docstrings_open_with_an_imperative_sentence(package_files, tree_of):
    found = [(where, text.splitlines()[0]) for where, text in docstrings(package_files, tree_of)]
    assert len(found) > 300
    assert [f"{where}: {line}" for where, line in found if not is_imperative(line)] == []


def test_docstrings_have_at_most_12_lines(package_files, tree_of):
    found = {where: len(text.splitlines()) for where, text in docstrings(package_files, tree_of)}
    assert {where: lines for where, lines in found.items() if lines > LONGEST_DOCSTRING} == {}


def test_a_description_is_told_from_an_instruction():
    for line in ("Read a run.", "Pass gradients on.", "`Embed` texts.", "Bring it into order.", "Compress rows."):
        assert is_imperative(line), line
    for line in ("The scores.", "Whether it is so.", "Reads a run.", "Reading a run.", "Of a run, the ids.", ""):
        assert not is_imperative(line), line


# --- safety ---------------------------------------------------------------------------------------


def unpickling(tree):
    """Yield (line, what) of every import of a pickling module, `torch.load` or `torch.save`, and `allow_pickle`."""
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


def test_nothing_is_unpickled(package_files, tree_of):
    assert [(named(path), *found) for path in package_files for found in unpickling(tree_of(path))] == []


@pytest.mark.parametrize(
    "line", ["import pickle", "from dill import loads", "torch.load(x)", "from torch import save", "f(allow_pickle=1)"]
)
def test_unpickling_is_seen(line):
    assert len(list(unpickling(ast.parse(line)))) == 1
    assert list(unpickling(ast.parse("import json, torch\ntorch.tensor(json.loads(x))"))) == []


def test_no_file_names_a_path_of_one_machine(repository_files):
    found = []
    for path in repository_files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        found += [f"{named(path)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_a_path_of_one_machine_is_seen():
    for start in ("root", "home/ann", "tmp", "Users/ann"):
        assert MACHINE_PATH.search(f'open("/{start}/data.txt")'), start
    page = "https://example.org/" + "home/ann/data"  # in two parts, since this file is searched too
    assert not MACHINE_PATH.search(f"{page} and ../tmp/data")


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
