"""The public names: a short list at the root, a door for each room, and a map that is right."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import crossenc_kit

PACKAGE = Path(crossenc_kit.__file__).parent
DOORS = sorted(PACKAGE.glob("*/__init__.py"))
ROOMS = [door.parent.name for door in DOORS]
MAP = re.findall(r"^ {4}(\w{3,}) {2,}(.+)$", crossenc_kit.__doc__, re.MULTILINE)


def stub_of(module):
    """Read a stub: {public name: file that defines it}, without the rooms that the root names."""
    tree = ast.parse((PACKAGE / module / "__init__.pyi").read_text(encoding="utf-8"))
    lines = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    assert all(alias.asname == alias.name for node in lines for alias in node.names), "a stub writes `x as x`"
    return {alias.name: node.module for node in lines for alias in node.names}


def test_the_root_has_between_60_and_70_names():
    assert 60 <= len(crossenc_kit.__all__) <= 70


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_a_stub_lists_what_python_sees(room):
    module = importlib.import_module(f"crossenc_kit.{room}".rstrip("."))
    stub = stub_of(room)
    assert sorted(module.__all__) == sorted(stub)
    assert set(stub) <= set(dir(module))
    for name, file in stub.items():
        assert getattr(module, name) is getattr(importlib.import_module(f"{module.__name__}.{file}"), name), name


def test_the_root_takes_its_names_from_the_rooms_doors():
    doors = {room: set(stub_of(room)) for room in ROOMS}
    found = {name: file.split(".")[0] for name, file in stub_of("").items()}
    assert {name for name, room in found.items() if room in doors and name not in doors[room]} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_door_is_one_sentence_and_a_stub(room):
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    sentence = ast.get_docstring(tree)
    assert sentence.count("\n") == 0
    assert sentence.endswith(".")
    assert [ast.unparse(node) for node in tree.body[1:]] == [
        "import lazy_loader",
        "__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)",
    ]


def test_no_room_exports_a_name_of_one_of_its_files(rooms):
    """Importing the file would put the module in the place of the function."""
    assert {room: set(stub_of(room)) & set(files) for room, files in rooms.items()} == {room: set() for room in rooms}


def test_a_star_brings_the_public_names_but_no_room():
    names = {}
    exec("from crossenc_kit import *", names)
    assert names.keys() - {"__builtins__"} == set(stub_of(""))
    assert names.keys() & set(ROOMS) == set()


def test_rooms_are_attributes_and_unknown_names_are_not():
    for room in ROOMS:
        assert getattr(crossenc_kit, room).__name__ == f"crossenc_kit.{room}"
    assert not hasattr(crossenc_kit, "nothing")
    with pytest.raises(ImportError, match="nothing"):
        exec("from crossenc_kit import nothing")


def test_the_map_tells_every_room_in_the_words_of_its_door():
    doors = {door.parent.name: ast.get_docstring(ast.parse(door.read_text(encoding="utf-8"))) for door in DOORS}
    told = {name: f"{line[0].upper()}{line[1:]}." for name, line in MAP if name in doors}
    assert told == doors


def test_the_map_tells_every_file_on_top():
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert {name for name, _ in MAP} == files | set(ROOMS)


def test_the_map_gives_the_letters_of_all_axes():
    letters = re.findall(r"\b([A-Z]) {2}(\w+)", crossenc_kit.__doc__)
    assert dict(letters) == {
        **{"B": "pairs", "T": "tokens", "C": "labels"},
        **{"Q": "queries", "K": "candidates", "H": "hidden"},
    }
