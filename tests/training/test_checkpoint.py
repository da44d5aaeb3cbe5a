"""Checkpoints: what is on the disk, what comes back, what stays, and what is seen of damage."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import torch
from small_runs import names, saved, whole_version

from crossenc_kit.training.checkpoint import newest, save


def test_files_and_manifest(tmp_path):
    path = saved(tmp_path / "checkpoints", 123, 1.0)
    assert path == tmp_path / "checkpoints" / "step-00000123"
    assert names(tmp_path / "checkpoints") == ["step-00000123"]
    assert names(path) == ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["step"] == 123
    assert sorted(manifest["files"]) == ["model.safetensors", "optimizer.safetensors", "state.json"]
    for name, entry in manifest["files"].items():
        content = (path / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_tensors_come_back_bit_for_bit(tmp_path):
    tensors = {
        "float": torch.tensor([0.1, -0.0, math.inf, 1e-45]),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "count": torch.tensor(7, dtype=torch.int64),
        "flag": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "other empty": torch.zeros(0),
        "needs grad": torch.ones(2, requires_grad=True),
    }
    save(tmp_path, 0, {"model": tensors}, {})
    loaded = newest(tmp_path).tensors("model")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name], tensor)
    assert math.copysign(1, loaded["float"][1]) == -1


def test_tied_viewed_and_transposed_tensors(tmp_path):
    table = torch.arange(6.0).reshape(2, 3)
    tensors = {"table": table, "tied": table, "row": table[1], "transposed": table.T, "expanded": table[:, :1]}
    tensors["expanded"] = tensors["expanded"].expand(2, 4)
    save(tmp_path, 1, {"model": tensors}, {})
    loaded = newest(tmp_path).tensors("model")
    assert loaded["row"].tolist() == [3.0, 4.0, 5.0]
    assert loaded["transposed"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert loaded["expanded"].tolist() == [[0.0] * 4, [3.0] * 4]
    assert torch.equal(loaded["table"], loaded["tied"])


def test_loaded_tensors_do_not_depend_on_their_file(tmp_path):
    file = saved(tmp_path, 1, 5.0) / "model.safetensors"
    weight = newest(tmp_path).tensors("model")["weight"]
    file.write_bytes(bytes(file.stat().st_size))
    assert weight.tolist() == [[5.0, 5.0]] * 3


def test_state_comes_back_exactly(tmp_path):
    state = {"best": -math.inf, "third": 1 / 3, "nested": {"steps": [1, 2], "text": "naïve 😀"}, "none": None}
    save(tmp_path, 1, {}, {**state, "nan": math.nan, "pair": (1, 2)})
    loaded = newest(tmp_path).state
    assert math.isnan(loaded.pop("nan"))
    assert loaded.pop("pair") == [1, 2]
    assert loaded == state


def test_state_that_is_not_json_touches_nothing(tmp_path):
    saved(tmp_path, 1, 1.0)
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        save(tmp_path, 2, {}, {"seen": {1, 2}})
    assert names(tmp_path) == ["step-00000001"]


def test_no_checkpoint(tmp_path):
    assert newest(tmp_path) is None
    assert newest(tmp_path / "absent") is None
    (tmp_path / "step-00000001.txt").write_text("not a checkpoint")
    assert whole_version(tmp_path) is None


def test_the_newest_stay(tmp_path):
    for step in (5, 10, 15, 20):
        saved(tmp_path, step, float(step))
    assert names(tmp_path) == ["step-00000015", "step-00000020"]
    saved(tmp_path, 25, 25.0, keep=1)
    assert names(tmp_path) == ["step-00000025"]
    assert whole_version(tmp_path) == 25.0


def test_steps_are_ordered_as_numbers(tmp_path):
    for step in (99_999_999, 100_000_000):
        saved(tmp_path, step, float(step % 10))
    assert newest(tmp_path).step == 100_000_000


def test_the_same_step_again_replaces(tmp_path):
    saved(tmp_path, 5, 1.0)
    saved(tmp_path, 10, 2.0)
    saved(tmp_path, 10, 3.0)
    assert names(tmp_path) == ["step-00000005", "step-00000010"]
    assert whole_version(tmp_path) == 3.0


def test_damaged_ones_neither_count_nor_stay(tmp_path):
    """Going on from 10 because 20 is damaged must not cost 10 its place, nor the new one its own."""
    for step in (10, 20):
        saved(tmp_path, step, float(step))
    (tmp_path / "step-00000020" / "manifest.json").unlink()
    saved(tmp_path, 15, 15.0)
    assert names(tmp_path) == ["step-00000010", "step-00000015"]


def test_whole_later_ones_are_left_alone(tmp_path):
    saved(tmp_path, 20, 20.0)
    for step in (5, 6):
        saved(tmp_path, step, float(step), keep=1)
    assert names(tmp_path) == ["step-00000006", "step-00000020"]


def test_leftovers_of_dead_processes_go(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    alive = os.getppid()
    for name in (f".partial-step-00000001-{dead.pid}", f".retired-step-00000001-{dead.pid}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    others = [f".partial-step-00000001-{alive}", ".partial-notes", "best"]
    for name in others:
        (tmp_path / name).mkdir()
    saved(tmp_path, 2, 2.0)
    assert names(tmp_path) == sorted([*others, "step-00000002"])


def truncate(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)


def copy_another_manifest(path: Path) -> None:
    shutil.copy(path.with_name("step-00000010") / "manifest.json", path)


DAMAGES = {
    "model.safetensors has 1.. bytes, not 1..": truncate,
    "the sha256 of model.safetensors": flip_a_bit,
    "manifest.json is missing": lambda path: (path / "manifest.json").unlink(),
    "optimizer.safetensors is missing": lambda path: (path / "optimizer.safetensors").unlink(),
    "state.json is missing": lambda path: (path / "state.json").unlink(),
    "manifest.json cannot be read": lambda path: (path / "manifest.json").write_bytes(b""),
    "manifest.json cannot be read:": lambda path: (path / "manifest.json").write_text("[]"),
    "of another checkpoint": copy_another_manifest,
}


@pytest.mark.parametrize(("reason", "damage"), DAMAGES.items(), ids=DAMAGES)
def test_a_damaged_newest_falls_back(tmp_path, reason, damage):
    saved(tmp_path, 10, 10.0)
    path = saved(tmp_path, 20, 20.0)
    damage(path)
    with pytest.warns(UserWarning, match=f"step-00000020 is damaged .*{reason}"):
        found = newest(tmp_path)
    assert (found.step, found.state["version"]) == (10, 10.0)


def test_all_damaged(tmp_path):
    truncate(saved(tmp_path, 10, 10.0))
    with pytest.warns(UserWarning, match="step-00000010 is damaged"):
        assert newest(tmp_path) is None


def test_no_flipped_bit_of_any_file_goes_unseen(tmp_path):
    """One bit in each byte of each file: the checkpoint is refused, or what it says is what was saved."""
    path = saved(tmp_path, 10, 10.0)
    flips = 0
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        for position in range(len(content)):
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            file.write_bytes(flipped)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = newest(tmp_path)
            # White space of the manifest is all that may change unseen.
            assert found is None or (file.name == "manifest.json" and whole_version(tmp_path) == 10.0)
            flips += found is None
        file.write_bytes(content)
    assert flips > 500
