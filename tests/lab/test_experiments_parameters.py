"""Where a notebook is, and its parameters: typed by their defaults, checked before anything runs."""

import pytest

from crossenc_kit.errors import RunError
from crossenc_kit.lab.experiments import find_notebook, read_parameters, typed_parameters

PARAMETERS = """\
seed = 1  # random seed
learning_rate = 1e-4  # peak
epochs = 2  # passes over the data
shuffle = True  # every epoch
backbone = "tiny"  # a name
data_dir = ""  # a folder
limit = None  # pairs, none for all
layers = [0, 1]  # which
output_dir = ""  # folder for the record"""


@pytest.fixture
def notebook(tmp_path, write_notebook):
    return write_notebook(tmp_path, parameters=PARAMETERS)


def test_a_notebook_is_found_by_path_by_name_and_by_its_number(tmp_path, write_notebook, monkeypatch):
    path = write_notebook(tmp_path / "notebooks", name="72_something")
    monkeypatch.chdir(tmp_path)
    for name in (path, "notebooks/72_something.ipynb", "72_something", "72_something.ipynb", "72"):
        assert find_notebook(name) == path


@pytest.mark.parametrize("place", ["kit/notebooks", "kit/crossenc_kit/shipped/notebooks"])
def test_a_notebook_of_the_kit_is_found_from_any_folder(tmp_path, write_notebook, monkeypatch, place):
    """In a checkout and in a wheel."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("crossenc_kit.files.__file__", str(tmp_path / "kit" / "crossenc_kit" / "files.py"))
    path = write_notebook(tmp_path / place, name="72_something")
    assert find_notebook("72") == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("73", r"there is no notebook '73'.*72_one, 72_two"),
        ("72", "'72' fits 2 notebooks: 72_one, 72_two"),
        ("", "there is no notebook ''"),
        ("elsewhere/72_one.ipynb", "there is no notebook 'elsewhere/72_one"),
    ],
)
def test_a_missing_or_ambiguous_notebook_lists_what_exists(tmp_path, write_notebook, monkeypatch, name, message):
    for stem in ("72_one", "72_two"):
        write_notebook(tmp_path / "notebooks", name=stem)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=message):
        find_notebook(name)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("seed", "3", 3),
        ("seed", "-3", -3),
        ("seed", 3.0, 3),
        ("seed", "1e3", 1000),
        ("seed", str(2**63 - 1), 2**63 - 1),
        ("learning_rate", "1e-2", 0.01),
        ("learning_rate", "5", 5.0),
        ("learning_rate", 1, 1.0),
        ("shuffle", "no", False),
        ("shuffle", "True", True),
        ("shuffle", False, False),
        ("backbone", "5", "5"),
        ("backbone", "none", "none"),
        ("limit", "none", None),
        ("limit", "5", 5),
        ("limit", "five", "five"),
        ("limit", None, None),
        ("layers", "[2, 3]", [2, 3]),
    ],
)
def test_values_get_the_type_of_the_parameter(notebook, name, given, expected):
    value = typed_parameters(notebook, {name: given})[name]
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("seed", "1.5"),
        ("seed", "one"),
        ("seed", True),
        ("seed", None),
        ("learning_rate", "fast"),
        ("learning_rate", "nan"),
        ("learning_rate", False),
        ("shuffle", "1"),
        ("shuffle", 1),
        ("backbone", 5),
        ("layers", "2"),
    ],
)
def test_a_value_of_another_type_is_an_error_that_shows_the_parameter(notebook, name, given):
    with pytest.raises(RunError, match=rf"parameter {name} = .* takes \w+.*, got \w+ {given!r}"):
        typed_parameters(notebook, {name: given})


def test_an_unknown_parameter_is_an_error_with_the_nearest_name(notebook):
    with pytest.raises(RunError, match=r"no parameter 'learning_rat'; did you mean learning_rate\?"):
        typed_parameters(notebook, {"learning_rat": 1})
    with pytest.raises(RunError, match=r"no parameter 'zzz'; it has seed, learning_rate, "):
        typed_parameters(notebook, {"zzz": 1})
    with pytest.raises(RunError, match="no parameter 'output_dir'"):
        typed_parameters(notebook, {"output_dir": "here"})


def test_parameters_are_read_with_their_defaults(notebook):
    assert read_parameters(notebook) == {
        "seed": 1,
        "learning_rate": 1e-4,
        "epochs": 2,
        "shuffle": True,
        "backbone": "tiny",
        "data_dir": "",
        "limit": None,
        "layers": [0, 1],
        "output_dir": "",
    }


def test_a_path_with_braces_is_not_a_template(tmp_path, write_notebook):
    assert read_parameters(write_notebook(tmp_path / "{seed}", parameters='output_dir = ""')) == {"output_dir": ""}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("seed = int('3')\noutput_dir = ''", r"parameters cell: \"seed = int\('3'\)\" is no literal"),
        ("seed = 1", 'has nowhere to put its record.*output_dir = ""'),
        ("import os", "has nowhere to put its record; its cell tagged 'parameters' needs"),
    ],
)
def test_a_parameters_cell_that_cannot_be_read_says_why(tmp_path, write_notebook, cell, message):
    with pytest.raises(RunError, match=message):
        read_parameters(write_notebook(tmp_path, parameters=cell))


def test_a_file_that_is_no_notebook_or_has_no_parameters_is_an_error(tmp_path, write_notebook):
    for text in ("no json", "[1]", '{"cells": 3}', "{}"):
        (tmp_path / "a.ipynb").write_text(text)
        with pytest.raises(RunError, match=r"a\.ipynb is not a notebook"):
            read_parameters(tmp_path / "a.ipynb")
    with pytest.raises(RunError, match=r"b\.ipynb has nowhere to put its record"):
        read_parameters(write_notebook(tmp_path, parameters="seed = 1", name="b", tags=()))
