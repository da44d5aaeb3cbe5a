"""The comparison on the user's machine: sides that agree, numbers that add up, and what is left out."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from small import PAIRS, saved_model, write_lines
from small_models import fitted

from crossenc_kit import CrossEncoder
from crossenc_kit.__main__ import main
from crossenc_kit.lab import benchmark, compare_speed
from crossenc_kit.lab.benchmark import OURS, SIDES, score_with


class Here:
    """What stands for a process: calls are made at once, in this one."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def here(monkeypatch):
    """All sides in this process: what a process of its own costs is its imports, and they are the same."""
    monkeypatch.setattr(benchmark, "own_process", Here)
    benchmark._scorer.cache_clear()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    saved_model(folder / "one", num_labels=1)
    saved_model(folder / "three", label_names=("no", "perhaps", "yes"))
    return folder


@pytest.mark.parametrize("name", ["one", "three"])
@pytest.mark.parametrize("side", [side for side in SIDES if side != OURS])
def test_every_side_gives_our_scores_before_the_activation(folders, name, side):
    pytest.importorskip(side.partition(",")[0].replace("-", "_"))
    folder = str(folders / name)
    ours = score_with(OURS, folder, "cpu", None, PAIRS)
    assert ours.shape == ((10,) if name == "one" else (10, 3))
    assert np.ptp(ours) > 0
    theirs = score_with(side, folder, "cpu", 4, PAIRS)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_what_is_measured_adds_up(here, folders, monkeypatch):
    monkeypatch.setattr(
        benchmark,
        "interleave",
        lambda runs, repeats: {name: [1.0, 2.0, 4.0] for name in runs} | {OURS: [0.5, 1.0, 1.0]},
    )
    monkeypatch.setattr(benchmark, "memory_of", lambda device: 123.4)
    report = compare_speed(str(folders / "one"), [*PAIRS, *PAIRS], limit=12, repeats=3, device="cpu")
    ours, *others = report.sides
    assert (ours["name"], ours["pairs_per_second"], ours["memory"]) == (OURS, 12, 123.4)
    assert "gain" not in ours
    for side in others:
        assert (side["pairs_per_second"], side["gain"], side["gain_spread"]) == (6, 2, [2, 4])
        assert 0 <= side["difference"] < 1e-5
    assert (report.pairs, report.repeats, report.data) == (12, 3, "the pairs given")
    assert list(report.metrics.items())[:2] == [("pairs_per_second", 12), (f"gain over {others[0]['name']}", 2)]
    json.dumps(report.to_dict())
    quiet = replace(report, load_average=0.0)
    lines = str(quiet).splitlines()
    assert lines[0].endswith("one, 12 pairs (the pairs given), 3 turns each")
    assert lines[4].split() == ["crossenc_kit", ours["version"], "12.0", "(12.0", "to", "24.0)", "123", "MiB"]
    assert "6.000 (3.000 to 12.000)  2.00x (2.00 to 4.00)  123 MiB" in lines[5]
    assert "NOTE" not in str(quiet)
    assert "<td>6.000 (3.000 to 12.000)</td><td>2.00x (2.00 to 4.00)</td>" in quiet._repr_html_()


def test_a_side_that_is_missing_or_fails_is_left_out_and_named(here, folders, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no\nsuch model")

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setitem(SIDES, "transformers, a loop", broken)
    report = compare_speed(str(folders / "one"), PAIRS, repeats=1, device="cpu")
    assert [side["name"] for side in report.sides] == [OURS]
    missing = report.left_out.pop("sentence-transformers")
    assert "needs sentence_transformers, which is not installed: pip install" in missing
    assert report.left_out == {"transformers, a loop": "RuntimeError: no such model"}
    assert "transformers, a loop is left out: RuntimeError: no such model\n" in f"{report}\n"
    monkeypatch.setitem(SIDES, OURS, broken)
    benchmark._scorer.cache_clear()
    with pytest.raises(RuntimeError, match="no\nsuch model"):
        compare_speed(str(folders / "one"), PAIRS, repeats=1, device="cpu")


def test_scores_that_differ_and_a_busy_machine_are_noted(here, folders, monkeypatch):
    def wrong(*arguments):
        return lambda pairs: np.full(len(pairs), 9.0)

    for side in list(SIDES):
        if side not in (OURS, "transformers, a loop"):
            monkeypatch.delitem(SIDES, side)
    monkeypatch.setitem(SIDES, "transformers, a loop", wrong)
    report = compare_speed(str(folders / "one"), PAIRS, repeats=1, device="cpu")
    table = str(replace(report, load_average=1000.0))
    assert "NOTE: scores of transformers, a loop differ by more than 0.001" in table
    assert "NOTE: the load average is 1000.0" in table


def test_an_export_is_refused_and_the_way_to_measure_it_told(tmp_path, capsys):
    model = fitted()
    model.save_pretrained(tmp_path / "model")
    CrossEncoder(tmp_path / "model", backend="int8").save_pretrained(tmp_path / "fast")
    message = r"fast' is an export \(int8\), which the other sides do not load: give the folder of the float32 model"
    with pytest.raises(ValueError, match=message):
        compare_speed(str(tmp_path / "fast"), PAIRS, repeats=1, device="cpu")
    assert main(["bench", str(tmp_path / "fast"), "--device", "cpu"]) == 2
    assert "give the folder of the float32 model" in capsys.readouterr().err


@pytest.mark.parametrize("given", [{"repeats": 0}, {"limit": 0}], ids=str)
def test_nothing_to_compare(given):
    with pytest.raises(ValueError, match="compare at least one pair once, got repeats="):
        compare_speed("tiny", PAIRS, **given)


def test_without_pairs_it_takes_the_sample_data(here, monkeypatch):
    monkeypatch.delenv("CROSSENC_KIT_DATA", raising=False)
    for side in [side for side in SIDES if side != OURS]:
        monkeypatch.delitem(SIDES, side)
    report = compare_speed("tiny", repeats=1, limit=5, device="cpu")
    assert (report.data, report.pairs) == ("from sts/dev.jsonl", 5)


def test_the_command_in_processes_of_their_own(folders, tmp_path, capsys, monkeypatch):
    for side in [side for side in SIDES if side not in (OURS, "transformers, a loop")]:
        monkeypatch.delitem(SIDES, side)
    pairs = write_lines(tmp_path / "pairs.jsonl")
    arguments = ["bench", str(folders / "one"), "--pairs", str(pairs), "--repeats", "2", "--device", "cpu", "--json"]
    assert main([*arguments, "--columns", "right", "left"]) == 0
    record = json.loads(capsys.readouterr().out)
    ours, theirs = record["sides"]
    assert (ours["name"], theirs["name"], record["pairs"]) == (OURS, "transformers, a loop", 10)
    assert len(ours["seconds"]) == len(theirs["seconds"]) == 2
    assert 50 < ours["memory"] < 5000
    assert theirs["difference"] < 1e-5
    assert main(["bench", "tiny", "--pairs", "none.jsonl"]) == 2
    assert "none.jsonl" in capsys.readouterr().err
