"""A notebook as an experiment: what it leaves behind, how it fails, and sweeps."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from crossenc_kit.errors import RunError
from crossenc_kit.history import History
from crossenc_kit.lab.experiments import from_here, run_notebook, sweep
from crossenc_kit.lab.records import load_record, load_records

# a kernel is reached over a socket of this machine
pytestmark = pytest.mark.enable_socket

PARAMETERS = """\
seed = 1  # random seed
learning_rate = 1e-4  # peak
epochs = 2  # passes over the data
data_dir = ""  # a folder
output_dir = ""  # folder for the record"""

START = """\
from crossenc_kit.lab.records import start_run
record = start_run("small", globals(), output_dir)"""


@pytest.fixture
def small(tmp_path, write_notebook):
    """A function that writes notebooks/small.ipynb, whose cells come after `start_run`."""
    return lambda *cells: write_notebook(tmp_path / "notebooks", START, *cells, parameters=PARAMETERS)


@pytest.fixture
def notebook(small):
    return small("record.finish({'value': learning_rate * epochs});")


def test_an_experiment_leaves_its_notebook_parameters_metrics_figures_and_history(small, tmp_path, monkeypatch, capsys):
    cells = [
        "from matplotlib.figure import Figure\nfigure = Figure()\nrecord.figure(figure, 'curve', alt='a line')",
        "from crossenc_kit.history import History\nprint('half way')",
        "record.finish({'value': learning_rate * epochs, 'test': {'n': 3}}, History([{'step': 1}]), data='abc');",
    ]
    small(*cells)
    monkeypatch.chdir(tmp_path)
    record = run_notebook("small", {"epochs": "3"}, name="first")
    folder = tmp_path / "experiments" / "first"
    files = {"figures", "history.jsonl", "metrics.json", "record.json", "small.ipynb"}
    assert {path.name for path in folder.iterdir()} == files
    assert (folder / "figures" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "metrics.json").read_text()) == record["metrics"]
    assert record["metrics"] == {"value": pytest.approx(3e-4), "test": {"n": 3}}
    assert (record["status"], record["notebook"], record["name"]) == ("finished", "small", "first")
    assert record["parameters"] == {"seed": 1, "learning_rate": 1e-4, "epochs": 3, "data_dir": ""}
    assert record["command"] == "crossenc-kit run small -p epochs 3"
    assert (record["data"], record["figures"]) == ("abc", {"curve": "a line"})
    assert 0 < record["minutes"] < 5
    assert record["provenance"]["versions"]["numpy"] == np.__version__
    assert list(History.load(folder / "history.jsonl")) == [{"step": 1}]
    assert "Executing" in capsys.readouterr().err
    assert load_records(tmp_path / "experiments") == load_records(folder) == [record]


def test_the_notebook_runs_in_its_own_folder_and_paths_given_here_reach_it(small, tmp_path, monkeypatch):
    small("import os\nrecord.finish({'n': len(os.listdir(data_dir))}, at=os.getcwd());")
    (tmp_path / "here" / "data").mkdir(parents=True)
    (tmp_path / "here" / "data" / "a.txt").touch()
    monkeypatch.chdir(tmp_path / "here")
    record = run_notebook("../notebooks/small.ipynb", {"data_dir": "data"}, progress=False)
    assert record["metrics"] == {"n": 1}
    assert record["at"] == str(tmp_path / "notebooks")
    assert Path.cwd() == tmp_path / "here"
    assert record["parameters"]["data_dir"] == "data"  # as given: a record holds no path of one machine


def test_nothing_starts_where_a_parameter_or_the_folder_is_wrong(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for parameters in ({"epoch": 1}, {"epochs": "x"}):
        with pytest.raises(RunError):
            run_notebook(notebook, parameters)
    for name in ("a/b", "..", "", "/a"):
        with pytest.raises(RunError, match="cannot name an experiment"):
            run_notebook(notebook, name=name)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        run_notebook(notebook, output_dir="file")
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match="holds no experiment"):
        run_notebook(notebook, output_dir=".", name="other")
    assert not (tmp_path / "experiments").exists()


@pytest.mark.parametrize(
    ("name", "value", "reaches"),
    [
        ("data_dir", "data", True),
        ("model", "./data", True),
        ("model", "data", False),  # may be the name of a model
        ("data_dir", "none", False),
        ("data_dir", "", False),
    ],
)
def test_a_path_that_exists_here_is_made_absolute(tmp_path, monkeypatch, name, value, reaches):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert from_here(name, value) == (str(tmp_path / "data") if reaches else value)


@pytest.mark.parametrize("package", ["papermill", "ipykernel"])
def test_without_papermill_or_a_kernel_the_error_says_what_to_install(notebook, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}, .*pip install \"crossenc_kit\[lab\]\""):
        run_notebook(notebook, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finished_experiment_is_never_written_over_an_unfinished_one_starts_again(notebook, tmp_path):
    folder = tmp_path / "experiments" / "a"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "figures").mkdir()
    (folder / "metrics.json").write_text('{"old": 1}')
    (folder / "record.json").write_text('{"status": "failed", "error": {"message": "old"}}')
    record = run_notebook(notebook, output_dir=tmp_path / "experiments", name="a", progress=False)
    assert record["metrics"] == {"value": pytest.approx(2e-4)}
    assert "error" not in record
    assert (folder / "checkpoints").is_dir()
    assert not (folder / "figures").exists()
    with pytest.raises(RunError, match="is finished"):
        run_notebook(notebook, output_dir=tmp_path / "experiments", name="a")


@pytest.mark.parametrize(
    ("cells", "timeout", "cell", "message"),
    [
        (["print('fine')", "raise ValueError('three\\x1b[0m')"], None, 4, "ValueError: three"),
        (["import os\nos._exit(1)"], None, 3, "DeadKernelError: Kernel died"),
        (["import time\ntime.sleep(60)"], 2, 3, "CellTimeoutError"),
        (["import sys\nsys.exit()"], None, 3, "the notebook stopped itself before its last cell"),
    ],
    ids=["error", "dead kernel", "timeout", "exit"],
)
def test_a_failure_is_recorded_with_the_cell_of_the_source_notebook(tmp_path, small, cells, timeout, cell, message):
    path = small(*cells, "record.finish({})")
    record = run_notebook(path, output_dir=tmp_path / "out", progress=False, cell_timeout=timeout)
    assert record["status"] == load_record(record["folder"])["status"] == "failed"
    assert (Path(record["folder"]) / "small.ipynb").is_file()
    assert (record["error"]["cell"], record["error"]["source"]) == (cell, cells[-1])
    assert record["error"]["message"].startswith(message)


def test_an_interrupted_experiment_says_so(small, tmp_path):
    path = small("import time\ntime.sleep(120)")
    code = "from crossenc_kit.__main__ import main; import sys; sys.exit(main())"
    options = ["--output-dir", str(tmp_path / "experiments"), "--name", "a"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", str(path), *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
        # a shell lets its background jobs ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    executed = tmp_path / "experiments" / "a" / "small.ipynb"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and '"running"' not in (executed.read_text() if executed.exists() else ""):
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert load_record(executed.parent)["status"] == "interrupted"
    assert "Traceback" not in errors


def test_experiments_in_threads_do_not_move_each_other(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(2) as executor:
        records = sweep(
            notebook, {"seed": np.array([1, 2]), "epochs": ["1"]}, executor, {"learning_rate": "1e-2"}, "many"
        )
    assert Path.cwd() == tmp_path
    assert [(r["parameters"]["seed"], r["parameters"]["epochs"]) for r in records] == [(1, 1), (2, 1)]
    assert [r["metrics"]["value"] for r in records] == [0.01, 0.01]
    assert len({r["folder"] for r in records}) == 2


def test_one_failed_experiment_of_a_sweep_does_not_lose_the_others(small, tmp_path):
    path = small("assert seed != 1", "record.finish({'seed': seed});")
    records = sweep(path, {"seed": [1, 2]}, output_dir=tmp_path / "experiments")
    assert [record["status"] for record in records] == ["failed", "finished"]
    assert records[0]["error"]["message"].startswith("AssertionError")
    assert records[1]["metrics"] == {"seed": 2}


def test_a_sweep_is_checked_before_it_starts_and_keeps_what_could_not_start(tmp_path, notebook, monkeypatch):
    with pytest.raises(RunError, match="parameter epochs = 2 takes int"):
        sweep(notebook, {"epochs": [1, "many"]}, output_dir=tmp_path / "experiments")
    assert not (tmp_path / "experiments").exists()
    (tmp_path / "file").touch()
    for executor in (None, ThreadPoolExecutor(1)):
        (record,) = sweep(notebook, {"seed": [1]}, executor, output_dir=tmp_path / "file")
        assert record["status"] == "failed"
        assert record["error"]["message"].startswith("FileExistsError: ")
