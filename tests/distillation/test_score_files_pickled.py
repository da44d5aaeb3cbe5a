"""Score files that are pickles are refused, and the way out that the message tells works."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys

import pytest

from crossenc_kit import DataError, read_teacher_scores
from crossenc_kit.distillation.score_files import refuse_pickle

SCORES = {1: {7: 0.5, 8: -2.25}, 2: {7: 3.0}}
IDS = [("1", "7"), ("1", "8"), ("2", "7")]


def written(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("packed", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["scores.pkl.gz", "scores.tsv", "scores"])
def test_refused_by_name_or_by_content(tmp_path, protocol, packed, name):
    path = written(tmp_path / name, packed(pickle.dumps(SCORES, protocol=protocol)))
    with pytest.raises(DataError, match="is a pickle, and it is not read here: reading one runs whatever code"):
        read_teacher_scores(path, IDS)


@pytest.mark.parametrize("name", ["s.pickle", "s.PKL", "s.pt", "s.bin", "s.joblib", "s.pkl.xz"])
def test_refused_by_name(tmp_path, name):
    with pytest.raises(DataError, match="is a pickle"):
        refuse_pickle(written(tmp_path / name, b"whatever"))


def test_others_are_not(tmp_path):
    for name, content in {
        "scores.bin.jsonl": b"{}",
        "empty.tsv": b"",
        "cut.tsv.gz": gzip.compress(b"x" * 99)[:12],
    }.items():
        refuse_pickle(written(tmp_path / name, content))


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_nothing_in_it_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("scores.tsv", "scores.parquet", "scores.jsonl.gz", "scores.pkl"):
        with pytest.raises(DataError, match="is a pickle"):
            read_teacher_scores(written(tmp_path / name, pickle.dumps({1: {7: Harmful()}})), IDS)
    assert not (tmp_path / "harm").exists()
    pickle.loads((tmp_path / "scores.pkl").read_bytes())
    assert (tmp_path / "harm").exists()  # so it would have


@pytest.mark.parametrize("kind", ["pickle", "gzip", "torch"])
def test_the_way_out_that_the_message_tells(tmp_path, kind):
    path = tmp_path / {"pickle": "teacher.pkl", "gzip": "teacher.pkl.gz", "torch": "teacher.pt"}[kind]
    if kind == "torch":
        pytest.importorskip("torch").save(SCORES, path)
    else:
        path.write_bytes((gzip.compress if kind == "gzip" else bytes)(pickle.dumps(SCORES)))
    with pytest.raises(DataError) as refused:
        read_teacher_scores(path, IDS)
    code = str(refused.value).partition("\n\n")[2]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert read_teacher_scores(tmp_path / "teacher.jsonl", IDS).tolist() == [0.5, -2.25, 3.0]


@pytest.mark.parametrize("name", ["s2.jsonl", "s2.JSONL"])
@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_the_way_out_leaves_the_pickle_and_other_files_as_they_are(tmp_path, name, packed):
    path = written(tmp_path / name, packed(pickle.dumps(SCORES)))
    before = path.read_bytes()
    with pytest.raises(DataError) as refused:
        read_teacher_scores(path, IDS)
    command = [sys.executable, "-c", str(refused.value).partition("\n\n")[2]]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert read_teacher_scores(tmp_path / "s2-converted.jsonl", IDS).tolist() == [0.5, -2.25, 3.0]
    (tmp_path / "s2-converted.jsonl").write_text("mine")
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "FileExistsError" in again.stderr
    assert (path.read_bytes(), (tmp_path / "s2-converted.jsonl").read_text()) == (before, "mine")
