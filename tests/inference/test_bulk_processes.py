"""A bulk job under torchrun: two processes write what one writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import saved_model, write_lines

import crossenc_kit
from crossenc_kit import score_file
from crossenc_kit.inference import read_scores

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.enable_socket
def test_two_processes_write_the_shards_of_one(tmp_path):
    pytest.importorskip("pyarrow")
    model, pairs = saved_model(tmp_path / "model", num_labels=1), write_lines(tmp_path / "pairs.jsonl")
    score_file(model, pairs, tmp_path / "one", shards=True, shard_size=2, keep=["id"])
    arguments = ["score", str(tmp_path / "model"), str(pairs), "--output", f"{tmp_path}/two/", "--shard-size", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(crossenc_kit.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, "-m", "crossenc_kit", *arguments, "--keep", "id", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 of 10 pairs scored now" in done.stderr  # shards 0, 2, 4
    assert "4 of 10 pairs scored now" in done.stderr
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.parquet")} for name in ("one", "two")
    )
    assert one == two
    assert len(read_scores(tmp_path / "two")["score"]) == 10
