import json

import numpy as np
import pytest

from crossenc_kit.errors import RunError
from crossenc_kit.lab import records
from crossenc_kit.lab.records import (
    align,
    flat,
    load_record,
    load_records,
    results_table,
    spread,
    start_run,
    write_result,
)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a.png"])
def test_a_figure_stays_in_its_folder(tmp_path, name):
    from matplotlib.figure import Figure

    record = start_run("n", {"seed": 1}, str(tmp_path))
    with pytest.raises(ValueError, match="cannot name a figure; use letters, digits, _ and -"):
        record.figure(Figure(), name)
    assert not list(tmp_path.rglob("*.png"))


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    monkeypatch.chdir(tmp_path)
    record = start_run("n", {"seed": 1, "_": 2, "np": np, "In": ["x"], "output_dir": "", "names": ["a"]})
    record.figure(Figure(), "curve")
    found = record.finish({"value": np.float32(0.5)}, data="abc")
    assert list(tmp_path.iterdir()) == []
    assert found["parameters"] == {"seed": 1, "names": ["a"]}
    assert (found["metrics"], found["data"]) == ({"value": 0.5}, "abc")


def test_a_notebook_opened_by_hand_keeps_the_same_record(tmp_path):
    record = start_run("n", {"seed": 1}, tmp_path / "a" / "b")
    assert load_record(tmp_path / "a" / "b")["status"] == "running"
    record.finish({"value": float("nan")})
    (found,) = load_records(tmp_path / "a")
    assert (found["status"], found["parameters"], found["metrics"]) == ("finished", {"seed": 1}, {"value": None})
    with pytest.raises(RunError, match="holds a finished experiment"):
        start_run("n", {"seed": 1}, tmp_path / "a" / "b")


def a_run(seed, value, **more):
    run = {"notebook": "n", "status": "finished", "minutes": 1.5, "metrics": {"test": {"value": value}}}
    return {**run, "parameters": {"seed": seed, "epochs": 2, "model": "a"}, "provenance": {"python": "3"}} | more


def test_flat_names_nested_numbers():
    assert flat({"a": 1, "b": {"c": 0.5, "d": {"e": 2}}, "text": "x", "on": True, "none": None}) == {
        "a": 1,
        "b.c": 0.5,
        "b.d.e": 2,
    }


def test_spread_of_three_and_of_one():
    assert spread([0.1, 0.2, 0.6]) == pytest.approx({"mean": 0.3, "range": 0.5, "std": 0.2645751})
    assert spread([0.1]) == {"mean": 0.1, "range": 0.0, "std": None}


def test_the_table_groups_by_settings_and_shows_only_those_that_differ():
    runs = [a_run(1, 0.8), a_run(2, 0.9), a_run(1, 0.7, parameters={"seed": 1, "epochs": 4, "model": "a"})]
    runs.append({**a_run(1, 0.5), "notebook": "m", "metrics": {"other": 3}})
    runs.append({**a_run(3, 0.1), "status": "failed", "name": "n-3", "error": {"message": "ValueError: three\nmore"}})
    assert results_table(runs).splitlines() == [
        "m: mean ± standard deviation over runs that differ only in the seed",
        "",
        "runs  other   minutes",
        "1     3.0000  1.5",
        "",
        "n: mean ± standard deviation over runs that differ only in the seed",
        "",
        "runs  epochs  test.value       minutes",
        "2     2       0.8500 ± 0.0707  1.5 ± 0.0",
        "1     4       0.7000           1.5",
        "",
        "n-3: failed  ValueError: three",
    ]
    assert results_table([]) == "no experiments"
    assert "other" not in results_table(runs, ["test.value"])


def test_a_table_has_no_control_characters():
    assert align([["a\x1b[31m", "b"], ["c", "dd"]]) == ["a[31m  b", "c      dd"]


def test_a_result_combines_seeds(tmp_path):
    runs = [a_run(1, 0.8, command="crossenc-kit run n"), a_run(2, 0.9)]
    result = write_result(tmp_path / "n.json", runs, note="full data")
    assert json.loads((tmp_path / "n.json").read_text()) == result
    assert result["settings"] == {"epochs": 2, "model": "a"}
    assert result["runs"] == [
        {"seed": 1, "minutes": 1.5, "metrics": {"test": {"value": 0.8}}},
        {"seed": 2, "minutes": 1.5, "metrics": {"test": {"value": 0.9}}},
    ]
    assert result["summary"]["test.value"] == pytest.approx({"mean": 0.85, "range": 0.1, "std": 0.0707107}, abs=1e-6)
    assert (result["minutes"]["mean"], result["provenance"], result["note"]) == (1.5, {"python": "3"}, "full data")
    assert result["commands"] == ["crossenc-kit run n"]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "no experiments"),
        ([a_run(1, 0.8), a_run(2, 0.9, status="failed", name="b")], "b is failed"),
        ([a_run(1, 0.8), a_run(2, 0.9, parameters={"seed": 2, "epochs": 4, "model": "a"})], "differs .* in epochs"),
        ([a_run(1, 0.8), {**a_run(2, 0.9), "notebook": "m"}], "differs from the first in notebook"),
    ],
)
def test_only_finished_runs_of_one_setting_make_a_result(tmp_path, runs, message):
    with pytest.raises(RunError, match=message):
        write_result(tmp_path / "n.json", runs)
    assert not (tmp_path / "n.json").exists()


def test_runs_that_cannot_be_read_say_which_file(tmp_path):
    with pytest.raises(RunError, match="there is no folder"):
        load_records(tmp_path / "none")
    assert load_records(tmp_path) == []
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "record.json").write_text("{")
    with pytest.raises(RunError, match=r"record\.json cannot be read"):
        load_records(tmp_path)


def test_a_result_names_each_device_once():
    found = {"mean": 0.5, "range": 0.1}
    days = [{"date": "2026-01-01", "device": "cpu, 2 threads"}, {"date": "2026-01-02", "device": "cpu, 2 threads"}]
    result = {"runs": [{}, {}], "summary": {"test.accuracy": found}, "provenance": days}
    assert records.describe_result(result).splitlines()[0] == "2 runs, cpu, 2 threads"
    result["provenance"] = [*days, {"date": "2026-01-02", "device": "a GPU"}]
    assert records.describe_result(result).splitlines()[0] == "2 runs, cpu, 2 threads and a GPU"
    assert "test.accuracy  0.5000  0.1000" in records.describe_result(result)
