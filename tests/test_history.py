"""What happened in a run: rows that survive the disk, strict JSON, and a provenance that can be shared."""

import getpass
import json
import math
import os
import platform
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit import __version__
from crossenc_kit.files import dumps, plain, write_json
from crossenc_kit.history import History, describe_device, provenance

NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.none() | st.booleans() | NUMBERS | st.text() | st.lists(st.integers() | st.text())
SEPARATORS = (
    "line\u2028paragraph\u2029next\u0085line\x0bfeed\x0c\x1c\r\n\t"  # all of these end a line for str.splitlines
)


@pytest.fixture
def history():
    """Two training steps, an evaluation, one more step."""
    history = History()
    history.append(step=1, loss=0.9)
    history.append(step=2, loss=0.7)
    history.append(step=2, eval_spearman=0.5)
    history.append(step=3, loss=0.6, grad_norm=1.5)
    return history


class TestRows:
    def test_a_column_has_the_steps_at_which_it_was_measured(self, history):
        for name, steps, values in (
            ("loss", [1, 2, 3], [0.9, 0.7, 0.6]),
            ("eval_spearman", [2], [0.5]),
            ("nothing", [], []),
        ):
            found = history.column(name)
            assert [column.tolist() for column in found] == [steps, values]
            assert found[1].dtype == float

    def test_names_in_the_order_of_their_first_row(self, history):
        assert history.names() == ["step", "loss", "eval_spearman", "grad_norm"]
        assert repr(history) == "History: 4 rows, columns step, loss, eval_spearman, grad_norm"

    def test_evaluations(self, history):
        assert history.evaluations() == [{"step": 2, "eval_spearman": 0.5}]

    def test_in_a_notebook_it_is_an_escaped_table_of_its_last_rows(self):
        history = History([{"step": step, "<b>note</b>": "<script>"} for step in range(30)])
        shown = history._repr_html_()
        assert "<script>" not in shown
        assert "<b>" not in shown
        assert shown.count("<tr>") == 21
        assert "30 rows, the first 10 not shown" in shown
        assert "<td>0.1235</td><td></td>" in History([{"loss": 0.123456}, {"step": 1}])._repr_html_()

    def test_a_sequence(self, history):
        assert history[0] == {"step": 1, "loss": 0.9}
        assert history[-1]["grad_norm"] == 1.5
        assert history[1:3] == [{"step": 2, "loss": 0.7}, {"step": 2, "eval_spearman": 0.5}]
        assert list(history) == history.rows

    def test_numbers_of_numpy_and_torch_become_plain(self, history):
        row = history.append(step=np.int64(4), loss=torch.tensor(0.5, requires_grad=True), eval_f1=np.float32(0.25))
        assert row == {"step": 4, "loss": 0.5, "eval_f1": 0.25}
        assert [type(value) for value in row.values()] == [int, float, float]


class TestOnDisk:
    def test_separators_inside_a_text_do_not_end_a_row(self, tmp_path):
        history = History([{"step": 1, "note": SEPARATORS}, {"step": 2}])
        assert History.load(history.save(tmp_path / "h.jsonl")).rows == history.rows

    def test_nan_and_infinities_become_null_and_come_back_as_nan(self, tmp_path):
        history = History()
        for step, loss in enumerate([0.5, math.nan, np.inf, -np.float32("inf")]):
            history.append(step=step, loss=loss)
        path = history.save(tmp_path / "h.jsonl")
        assert [json.loads(line, parse_constant=pytest.fail)["loss"] for line in path.read_text().splitlines()] == [
            0.5,
            *[None] * 3,
        ]
        steps, losses = History.load(path).column("loss")
        assert steps.tolist() == [0, 1, 2, 3]
        assert np.isnan(losses).tolist() == [False, True, True, True]

    @given(st.lists(st.dictionaries(st.text(), VALUES)))
    def test_every_row_comes_back(self, tmp_path_factory, rows):
        path = tmp_path_factory.mktemp("run") / "history.jsonl"
        assert History.load(History(rows).save(path)).rows == rows

    @pytest.mark.parametrize("broken", ['{"step": 2, "lo', "[1, 2]", "3", "null"])
    def test_a_broken_row_is_named(self, tmp_path, broken):
        path = tmp_path / "history.jsonl"
        path.write_text('{"step": 1}\n\n' + broken + "\n")
        with pytest.raises(ValueError, match=r"history\.jsonl, line 3: not a JSON object"):
            History.load(path)


class TestJson:
    def test_plain(self):
        value = {
            1: np.array([[1, 2]]),
            "t": torch.tensor([0.5, 1.0]),
            "path": Path("a") / "b",
            "deep": ({"x": (np.bool_(True), None)},),
        }
        expected = {"1": [[1, 2]], "t": [0.5, 1.0], "path": os.path.join("a", "b"), "deep": [{"x": [True, None]}]}
        assert plain(value) == expected
        assert json.loads(dumps(value)) == expected

    @given(st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))
    def test_what_json_can_hold_is_kept(self, value):
        assert json.loads(dumps(value)) == value
        assert json.loads(dumps(value, indent=2)) == value

    def test_a_record_is_indented_and_readable(self, tmp_path):
        path = write_json(tmp_path / "run.json", {"loss": math.nan, "text": "naïve"})
        assert path.read_text(encoding="utf-8") == '{\n  "loss": null,\n  "text": "naïve"\n}\n'
        assert os.listdir(tmp_path) == ["run.json"]

    def test_half_of_a_surrogate_pair_is_written_as_its_escape(self, tmp_path):
        odd = {"file": os.fsdecode(b"caf\xe9.txt"), "text": "\ud800"}
        path = write_json(tmp_path / "run.json", odd)
        assert json.loads(path.read_text(encoding="utf-8")) == odd
        assert History.load(History([odd]).save(tmp_path / "h.jsonl")).rows == [odd]


class TestProvenance:
    def test_what_it_says(self):
        record = provenance(device="cpu", seed=np.int64(3), data={"sha256": "ab"})
        assert record["versions"]["crossenc_kit"] == __version__
        assert record["versions"]["torch"] == torch.__version__
        assert record["versions"]["numpy"] == np.__version__
        assert record["python"] == platform.python_version()
        assert record["device"] == f"cpu, {torch.get_num_threads()} threads"
        assert (record["seed"], record["data"]) == (3, {"sha256": "ab"})
        assert type(record["seed"]) is int
        assert json.loads(dumps(record)) == record

    def test_it_can_be_shared(self):
        text = dumps(provenance())
        private = {socket.gethostname(), os.getcwd(), str(Path.home())} | ({getpass.getuser()} - {"root"})
        assert [name for name in private if len(name) > 1 and name in text] == []

    def test_devices(self, monkeypatch):
        assert describe_device() == describe_device("cpu") == describe_device(torch.device("cpu"))
        assert describe_device("mps") == "mps"
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"A GPU at {device}")
        assert describe_device(torch.device("cuda", 1)) == "A GPU at cuda:1"
        monkeypatch.delitem(__import__("sys").modules, "torch")
        assert describe_device() == f"cpu, {os.cpu_count()} cores"
