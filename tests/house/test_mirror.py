"""The tests mirror the rooms: tests/<room>/test_<file>[_<idea>].py tests a file of that room."""

from pathlib import Path

import crossenc_kit

PACKAGE = Path(crossenc_kit.__file__).parent
TESTS = Path(__file__).resolve().parents[1]
NO_ROOMS = {"peer", "faults", "notebooks", "house", "benchmarks"}  # what several rooms do together


def unmatched(folder, files):
    """List test files whose name does not begin with the name of one of the files that they could test."""
    stems = [path.stem.removeprefix("test_") for path in sorted(folder.glob("test_*.py"))]
    return [stem for stem in stems if not any(stem == file or stem.startswith(f"{file}_") for file in files)]


def test_every_folder_of_tests_is_a_room_or_one_of_five(rooms):
    folders = {path.parent.name for path in TESTS.glob("*/*.py")}
    assert folders == set(rooms) | NO_ROOMS


def test_every_test_file_is_named_after_a_file_of_its_room(rooms):
    found = {room: unmatched(TESTS / room, files) for room, files in rooms.items()}
    assert {room: names for room, names in found.items() if names} == {}


def test_the_tests_on_top_are_named_after_the_files_on_top():
    files = [path.stem.strip("_") for path in PACKAGE.glob("*.py")]  # __main__ is tested by test_main
    assert unmatched(TESTS, files) == []


def test_a_test_of_no_file_is_seen(tmp_path):
    for name in ("test_pairs.py", "test_pairs_of_texts.py", "test_pairsome.py", "conftest.py"):
        (tmp_path / name).touch()
    assert unmatched(tmp_path, ["pairs"]) == ["pairsome"]
