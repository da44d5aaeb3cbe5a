import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import crossenc_kit
from crossenc_kit.__main__ import main
from crossenc_kit.lab import doctor, records


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a notebook "small"; a run of it has the metric `value`."""
    monkeypatch.chdir(tmp_path)
    parameters = 'seed = 1  # any\nfails = False  # or not\noutput_dir = ""  # where the record goes'
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    sources = [
        'from crossenc_kit.lab.records import start_run\nrecord = start_run("small", globals(), output_dir)',
        "from matplotlib.figure import Figure\nrecord.figure(Figure(), 'curve', alt='nothing')",
        "assert not fails, 'as asked'",
        "record.finish({'value': seed / 3, 'test': {'pairs': 7}});",
    ]
    notebook = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, sources)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "small.ipynb")
    return tmp_path


def test_help_imports_nothing_heavy():
    code = """
import sys
from crossenc_kit.__main__ import main
try:
    main(["--help"])
finally:
    print(sorted({"torch", "transformers", "numpy", "papermill"} & set(sys.modules)), file=sys.stderr)
"""
    environment = {"PYTHONPATH": str(Path(crossenc_kit.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    for name in ("run", "doctor", "results", "score"):
        assert f"\n    {name} " in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--version"])
    assert error.value.code == 0
    assert capsys.readouterr().out == f"crossenc-kit {crossenc_kit.__version__}\n"


# --- run ------------------------------------------------------------------------------------------


@pytest.mark.enable_socket
def test_run_prints_the_metrics_and_where_everything_is(folder, capsys):
    assert main(["run", "small", "-p", "seed", "2", "--name", "first"]) == 0
    out = capsys.readouterr().out
    assert "small finished in 0." in out
    assert "  value       0.6667\n" in out
    assert "  test.pairs  7\n" in out
    assert f" {Path('experiments/first/figures/curve.png')}\n" in out
    assert f"jupyter lab {Path('experiments/first/small.ipynb')}\n" in out
    assert main(["run", "small", "--name", "first"]) == 2
    assert "is finished" in capsys.readouterr().err


@pytest.mark.enable_socket
def test_a_failed_run_is_one_line_with_the_cell(folder, capsys):
    assert main(["run", "small", "-p", "fails", "yes", "--output-dir", "elsewhere", "--name", "a"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    executed = Path("elsewhere/a/small.ipynb")
    assert last == f"crossenc-kit: small, cell 4: AssertionError: as asked (executed so far: {executed})"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none"], "there is no notebook 'none'; notebooks in "),
        (["run", "small", "-p", "seeds", "2"], "small has no parameter 'seeds'; did you mean seed?"),
        (["run", "small", "-p", "seed", "two"], "parameter seed = 1 takes int, got str 'two'"),
        (["results"], "there is no folder 'experiments'; give the folder of the experiments"),
        (["score", "tiny", "none.jsonl"], "none.jsonl"),
    ],
)
def test_an_error_is_one_clear_line_on_stderr(folder, capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("crossenc-kit: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (folder / "experiments").exists()


def test_debug_shows_the_traceback(folder):
    with pytest.raises(ValueError, match="there is no notebook 'none'"):
        main(["run", "none", "--debug"])


def test_an_unforeseen_error_says_its_type_and_how_to_see_more(monkeypatch, capsys):
    def broken(options):
        raise KeyError("x")

    monkeypatch.setattr(records, "results_command", broken)
    assert main(["results"]) == 2
    assert capsys.readouterr().err == "crossenc-kit: KeyError: 'x' (--debug shows where)\n"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("2 changed:\n  a: 1\n  b: 2\nGive both", "2 changed: a: 1; b: 2. Give both"),
        ("One.\n\nTwo,\n  three", "One. Two, three"),
        ("", ""),
    ],
)
def test_the_lines_of_an_error_are_joined_as_sentences(monkeypatch, capsys, message, line):
    def broken(options):
        raise ValueError(message)

    monkeypatch.setattr(records, "results_command", broken)
    assert main(["results"]) == 2
    assert capsys.readouterr().err == f"crossenc-kit: {line}\n"


def test_an_interruption_has_its_own_exit_code(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "results_command", interrupted)
    assert main(["results"]) == 130
    assert capsys.readouterr().err == "crossenc-kit: interrupted\n"


# --- results --------------------------------------------------------------------------------------


def finished(folder, seed, value):
    folder.mkdir(parents=True)
    run = {"notebook": "n", "status": "finished", "minutes": 1, "parameters": {"seed": seed}}
    (folder / "record.json").write_text(json.dumps(run))
    (folder / "metrics.json").write_text(json.dumps({"value": value, "other": 1}))


def test_results_are_a_table_with_mean_and_spread(tmp_path, capsys):
    finished(tmp_path / "a", 1, 0.8)
    finished(tmp_path / "b", 2, 0.9)
    assert main(["results", str(tmp_path), "--metrics", "value"]) == 0
    assert "2     0.8500 ± 0.0707  1.0 ± 0.0\n" in capsys.readouterr().out
    assert main(["results", str(tmp_path), "--write", str(tmp_path / "all.json")]) == 0
    assert json.loads((tmp_path / "all.json").read_text())["summary"]["value"]["mean"] == pytest.approx(0.85)


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor_checks_what_is_here(capsys):
    assert main(["doctor"]) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert all(line.startswith(("ok       ", "missing  ")) for line in lines[:-1])
    assert lines[0].startswith(f"ok       python {sys.version.split()[0]}, crossenc_kit ")
    assert any(line.startswith("ok       torch ") and "device: " in line for line in lines)


def test_doctor_names_what_is_missing_and_the_command_that_fixes_it(monkeypatch, capsys):
    def broken():
        raise RuntimeError("no\ndriver")

    checks = {"good": (lambda: "fine", "nothing"), "gpu": (broken, "buy one")}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert main(["doctor"]) == 1
    expected = "ok       fine\nmissing  gpu: RuntimeError: no driver  -> buy one\n1 missing\n"
    assert capsys.readouterr().out == expected
    checks.pop("gpu")
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "ok       fine\neverything is there\n"


def test_doctor_finds_weights_that_are_missing(monkeypatch):
    monkeypatch.setattr("crossenc_kit.models.backbones.offline_weights", lambda: None)
    with pytest.raises(FileNotFoundError, match="not installed"):
        doctor.weights()


def test_doctor_finds_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(NotADirectoryError):
        doctor.cache_folder()


def test_doctor_finds_a_kernel_of_another_python(monkeypatch):
    kernels = pytest.importorskip("jupyter_client.kernelspec")
    pytest.importorskip("jupyterlab")
    other = kernels.KernelSpec(argv=["/opt/other/bin/python", "-m", "x"])
    monkeypatch.setattr(kernels, "get_kernel_spec", lambda name: other)
    with pytest.raises(RuntimeError, match=r"starts /opt/other/bin/python; run .*ipykernel install"):
        doctor.jupyter()


# --- score ----------------------------------------------------------------------------------------


def test_score_writes_a_line_for_each_pair_in_order(tmp_path, capsys):
    from crossenc_kit import CrossEncoder

    file = tmp_path / "pairs.tsv"
    file.write_text("id\tleft\tright\n1\ta cat\ta dog\n2\ta longer text here\tanother\n3\tone\ttwo\n")
    CrossEncoder("tiny", num_labels=1, seed=0).save_pretrained(tmp_path / "model")
    assert main(["score", str(tmp_path / "model"), str(file)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = CrossEncoder(tmp_path / "model").predict(
        [("a cat", "a dog"), ("a longer text here", "another"), ("one", "two")]
    )
    assert [row["row"] for row in rows] == [0, 1, 2]
    assert [row["score"] for row in rows] == pytest.approx(expected.tolist(), abs=1e-5)
    options = ["--columns", "right", "left", "--batch-size", "1", "--output", str(tmp_path / "scores.jsonl")]
    assert main(["score", str(tmp_path / "model"), str(file), *options]) == 0
    swapped = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [row["row"] for row in swapped] == [0, 1, 2]
    assert swapped[0]["score"] != pytest.approx(rows[0]["score"], abs=1e-7)
    assert main(["score", "tiny", str(file), "--output", str(tmp_path / "none" / "scores.jsonl")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_score_names_the_class_of_each_pair(tmp_path, capsys):
    from crossenc_kit import CrossEncoder

    file = tmp_path / "pairs.tsv"
    file.write_text("left\tright\na cat\ta dog\none\ttwo\n")
    model = CrossEncoder("tiny", label_names=("no", "perhaps", "yes"), seed=0)
    model.save_pretrained(tmp_path / "model")
    assert main(["score", str(tmp_path / "model"), str(file)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = model.predict([("a cat", "a dog"), ("one", "two")]).argmax(axis=1)
    assert [row["label"] for row in rows] == [("no", "perhaps", "yes")[best] for best in expected]
    assert all(len(row["score"]) == 3 for row in rows)
