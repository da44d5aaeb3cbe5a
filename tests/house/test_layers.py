"""A room imports only what its row of the table allows."""

import ast
import re
from pathlib import Path

import pytest

import crossenc_kit

PACKAGE = Path(crossenc_kit.__file__).parent

MAY_IMPORT = {
    "data": "",
    "losses": "data",
    "models": "data",
    "retrieval": "data models",
    "training": "data losses models",
    "evaluation": "data models retrieval",
    "inference": "data models evaluation",
    "distillation": "data losses models training retrieval evaluation inference",
    "plots": "data evaluation",
    "lab": "data models inference plots",
    "sentence_transformers": "data losses models training retrieval evaluation",
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
COMMAND = "__main__"  # hands each command to the room that does it


def room_of(path):
    """The room of a file, "" for the files on top of the package."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else ""


def imported_rooms(room, source):
    """(line, room) of every import from the kit; the room is "" for a file on top and for the package itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = ["crossenc_kit", room] if room else ["crossenc_kit"]  # what one dot stands for
            start = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*start, node.module or ""]).strip(".")
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "crossenc_kit" else [module]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "crossenc_kit":
                part = [*name.split("."), ""][1]
                yield node.lineno, "" if (PACKAGE / f"{part}.py").exists() or part == "__version__" else part


def wrong_imports(room, source):
    """Tell the imports that the table does not allow; a name of the root counts as a room that does not exist."""
    allowed = {"", room, *MAY_IMPORT.get(room, "").split()}
    return [f"line {line} imports {other}" for line, other in imported_rooms(room, source) if other not in allowed]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_table(path):
    if path.stem != COMMAND:
        assert wrong_imports(room_of(path), path.read_text(encoding="utf-8")) == []


def test_the_table_names_every_room():
    assert sorted(MAY_IMPORT) == sorted({room_of(path) for path in FILES} - {""})


@pytest.mark.parametrize(
    "line",
    [
        "import crossenc_kit.models.cross_encoder",
        "from crossenc_kit.models.cross_encoder import CrossEncoder",
        "from crossenc_kit import CrossEncoder",
        "from crossenc_kit import models",
        "from ..models import CrossEncoder",
        "from .. import models",
        "def f():\n    from crossenc_kit.models import CrossEncoder",
        "if TYPE_CHECKING:\n    from crossenc_kit.models import CrossEncoder",
    ],
)
def test_an_import_against_the_table_is_seen(line):
    assert len(wrong_imports("data", line)) == 1
    assert len(wrong_imports("", line.replace("..", "."))) == 1


def test_files_on_top_and_the_rooms_own_files_are_allowed():
    lines = "from crossenc_kit.errors import DataError\nfrom crossenc_kit.data.pairs import Pairs\n"
    lines += "from ..files import dumps\nfrom crossenc_kit import __version__"
    assert wrong_imports("data", lines) == []
    assert wrong_imports("training", lines) == []


def test_the_guide_for_contributors_shows_the_same_table():
    guide = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in guide.splitlines() if line.startswith("| `")]
    names = [[re.findall(r"`(\w+)`", cell) for cell in row] for row in rows]
    assert {room: sorted(others) for here, others in names for room in here} == {
        room: sorted(others.split()) for room, others in MAY_IMPORT.items()
    }
