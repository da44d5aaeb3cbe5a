import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import nbformat
import numpy as np
import pytest

from crossenc_kit.errors import RunError
from crossenc_kit.history import History
from crossenc_kit.lab.experiments import ProgressLine, run_notebook, sweep
from crossenc_kit.lab.records import load_run, load_runs

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


def write_notebook(folder, *cells, name="small", parameters=PARAMETERS):
    folder.mkdir(parents=True, exist_ok=True)
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    rest = [nbformat.v4.new_code_cell(source) for source in cells]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Small"), first, *rest])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.fixture
def notebook(tmp_path):
    return write_notebook(tmp_path / "notebooks", START, "record.finish({'value': learning_rate * epochs});")


def test_a_run_leaves_the_notebook_its_parameters_metrics_figures_and_history(tmp_path, monkeypatch, capsys):
    cells = [
        START,
        "from matplotlib.figure import Figure\nfigure = Figure()\nrecord.figure(figure, 'curve', alt='a line')",
        "from crossenc_kit.history import History\nprint('half way')",
        "record.finish({'value': learning_rate * epochs, 'test': {'n': 3}}, History([{'step': 1}]), data='abc');",
    ]
    write_notebook(tmp_path / "notebooks", *cells)
    monkeypatch.chdir(tmp_path)
    record = run_notebook("small", {"epochs": "3"}, name="first")
    folder = tmp_path / "runs" / "first"
    assert sorted(path.name for path in folder.iterdir()) == [
        "figures",
        "history.jsonl",
        "metrics.json",
        "run.json",
        "small.ipynb",
    ]
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
    assert "small: finished" in capsys.readouterr().err
    assert load_runs(tmp_path / "runs") == load_runs(folder) == [record]


def test_the_notebook_runs_in_its_own_folder_and_paths_given_here_reach_it(tmp_path, monkeypatch):
    write_notebook(
        tmp_path / "notebooks", START, "import os\nrecord.finish({'n': len(os.listdir(data_dir))}, at=os.getcwd());"
    )
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
        with pytest.raises(RunError, match="cannot name a run"):
            run_notebook(notebook, name=name)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot make the folder .*choose another --output-dir"):
        run_notebook(notebook, output_dir="file")
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match="is not the folder of a run"):
        run_notebook(notebook, output_dir=".", name="other")
    assert not (tmp_path / "runs").exists()


def test_without_papermill_the_error_is_the_command_that_installs_it(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr("crossenc_kit.lab.experiments.find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"pip install \"crossenc_kit\[lab\]\""):
        run_notebook(notebook, output_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_is_never_written_over_an_unfinished_one_starts_again(notebook, tmp_path):
    folder = tmp_path / "runs" / "a"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "figures").mkdir()
    (folder / "metrics.json").write_text('{"old": 1}')
    (folder / "run.json").write_text('{"status": "failed", "error": {"message": "old"}}')
    record = run_notebook(notebook, output_dir=tmp_path / "runs", name="a", progress=False)
    assert record["metrics"] == {"value": pytest.approx(2e-4)}
    assert "error" not in record
    assert (folder / "checkpoints").is_dir()
    assert not (folder / "figures").exists()
    with pytest.raises(RunError, match="holds a finished run"):
        run_notebook(notebook, output_dir=tmp_path / "runs", name="a")


def failing(tmp_path, *cells, **options):
    path = write_notebook(tmp_path / "notebooks", START, *cells, "record.finish({})")
    record = run_notebook(path, output_dir=tmp_path / "runs", progress=False, **options)
    assert record["status"] == load_run(record["folder"])["status"] == "failed"
    assert (Path(record["folder"]) / "small.ipynb").is_file()
    return record["error"]


def test_an_error_in_a_cell_is_recorded_with_the_cell_of_the_source_notebook(tmp_path):
    error = failing(tmp_path, "print('fine')", "raise ValueError('three\\x1b[0m')")
    assert error == {"message": "ValueError: three", "cell": 4, "source": "raise ValueError('three\\x1b[0m')"}


def test_a_dead_kernel_is_a_failure(tmp_path):
    error = failing(tmp_path, "import os\nos._exit(1)")
    assert (error["cell"], error["message"]) == (3, "DeadKernelError: Kernel died")


def test_a_cell_that_takes_too_long_is_a_failure(tmp_path):
    error = failing(tmp_path, "import time\ntime.sleep(60)", cell_timeout=2)
    assert error["cell"] == 3
    assert "CellTimeoutError" in error["message"]


def test_a_notebook_that_leaves_early_is_a_failure(tmp_path):
    error = failing(tmp_path, "import sys\nsys.exit()")
    assert error["cell"] == 3
    assert "stopped itself" in error["message"]


def test_an_interrupted_run_says_so(tmp_path):
    path = write_notebook(tmp_path / "notebooks", START, "import time\ntime.sleep(120)")
    code = "from crossenc_kit.__main__ import main; import sys; sys.exit(main())"
    command = [sys.executable, "-c", code, "run", str(path), "--output-dir", str(tmp_path / "runs"), "--name", "a"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
    )
    executed = tmp_path / "runs" / "a" / "small.ipynb"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and '"running"' not in (executed.read_text() if executed.exists() else ""):
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert load_run(executed.parent)["status"] == "interrupted"
    assert "small: interrupted" in errors
    assert "Traceback" not in errors


def test_runs_in_threads_do_not_move_each_other(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(2) as executor:
        records = sweep(
            notebook, {"seed": np.array([1, 2]), "epochs": ["1"]}, executor, {"learning_rate": "1e-2"}, "many"
        )
    assert Path.cwd() == tmp_path
    assert [(r["parameters"]["seed"], r["parameters"]["epochs"]) for r in records] == [(1, 1), (2, 1)]
    assert [r["metrics"]["value"] for r in records] == [0.01, 0.01]
    assert len({r["folder"] for r in records}) == 2


def test_one_failed_run_of_a_sweep_does_not_lose_the_others(tmp_path):
    path = write_notebook(tmp_path / "notebooks", START, "assert seed != 1", "record.finish({'seed': seed});")
    records = sweep(path, {"seed": [1, 2]}, output_dir=tmp_path / "runs")
    assert [record["status"] for record in records] == ["failed", "finished"]
    assert records[0]["error"]["message"].startswith("AssertionError")
    assert records[1]["metrics"] == {"seed": 2}


def test_a_sweep_is_typed_before_its_first_run_and_keeps_what_could_not_start(tmp_path, notebook, monkeypatch):
    with pytest.raises(RunError, match="parameter epochs = 2 takes int"):
        sweep(notebook, {"epochs": [1, "many"]}, output_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    (tmp_path / "file").touch()
    for executor in (None, ThreadPoolExecutor(1)):
        (record,) = sweep(notebook, {"seed": [1]}, executor, output_dir=tmp_path / "file")
        assert record["status"] == "failed"
        assert "cannot make the folder" in record["error"]["message"]


def test_progress_elsewhere_than_a_terminal_is_a_line_now_and_then():
    stream = StringIO()
    line = ProgressLine(stream)
    for number in range(1, 4):
        line.cell(number, 3)
        line.write(f"step {number}\n")
        line.flush()
    line.close("small: finished")
    assert stream.getvalue() == "0:00  cell 1/3\n0:00  small: finished\n"


def test_progress_on_a_terminal_rewrites_one_line_without_control_characters():
    stream = StringIO()
    stream.isatty = lambda: True
    line = ProgressLine(stream)
    line.cell(1, 3)
    line.write("loss 1\rloss 2\x1b[31m\x07\n")
    line.flush(every=0)
    line.close("small: finished")
    assert stream.getvalue().split("\r\x1b[2K")[1:] == [
        "0:00  cell 1/3",
        "0:00  cell 1/3  loss 2[31m",
        "0:00  small: finished\n",
    ]


def test_no_progress_is_asked_for():
    line = ProgressLine(None)
    line.cell(1, 3)
    line.close("done")
