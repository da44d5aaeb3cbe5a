"""Every notebook runs with changed parameters, and every parameter of it is alive.

A notebook's own metadata `crossenc_kit.test_parameters` holds another value for each of its parameters, small enough
for a run of seconds.
"""

import math
from pathlib import Path

import nbformat
import pytest

from crossenc_kit.errors import RunError
from crossenc_kit.lab.experiments import read_parameters, run_notebook, typed_parameters
from crossenc_kit.lab.records import flat

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_test_parameters_change_every_parameter(path):
    changed = nbformat.read(path, as_version=4).metadata.get("crossenc_kit", {}).get("test_parameters", {})
    defaults = {name: value for name, value in read_parameters(path).items() if name != "output_dir"}
    try:
        typed = typed_parameters(path, changed)
    except RunError as error:
        pytest.fail(str(error))
    assert sorted(name for name, default in defaults.items() if typed.get(name, default) == default) == []


@pytest.mark.enable_socket
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_run_with_changed_parameters_finishes_with_metrics(path, tmp_path, monkeypatch):
    monkeypatch.chdir(path.parent)  # "../data" is the sample data, whatever folder the tests were started in
    changed = nbformat.read(path, as_version=4).metadata["crossenc_kit"]["test_parameters"]
    record = run_notebook(path, changed, output_dir=tmp_path, name="run", progress=False, cell_timeout=300)
    assert record["status"] == "finished", record["error"]
    numbers = flat(record["metrics"])
    assert numbers
    assert [name for name, value in numbers.items() if not math.isfinite(value)] == []
    assert {name: record["parameters"][name] for name in changed} == changed
