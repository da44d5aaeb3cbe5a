"""Files of pairs scored in bulk: the same scores as `predict`, whatever the form, the threads and the processes."""

import csv
import gzip
import json
import os
import re
import time

import numpy as np
import pytest
from small import PAIRS, ROWS, bits

from crossenc_kit import DataError, score_file
from crossenc_kit.errors import CheckpointError
from crossenc_kit.inference import read_scores
from crossenc_kit.jobs import lock

# --- what comes out -------------------------------------------------------------------------------


def test_lines_are_the_scores_of_predict_in_order_with_what_is_kept(tmp_path, model, pairs):
    output = tmp_path / "scores.jsonl.gz"
    done = score_file(model, pairs, output, keep=["id"])
    rows = [json.loads(line) for line in gzip.decompress(output.read_bytes()).splitlines()]
    assert [(row["row"], row["id"]) for row in rows] == [(at, 100 + at) for at in range(10)]
    assert [row["score"] for row in rows] == pytest.approx(model.predict(PAIRS).tolist(), abs=1e-6)
    assert (done.rows, done.scored) == (10, 10)


def test_shards_hold_their_rows_and_read_back_as_one(tmp_path, model, pairs):
    output = tmp_path / "scores"
    done = score_file(model, pairs, f"{output}/", keep=["id"], shard_size=4)
    names = [f"scores-0000{number}-of-00003.parquet" for number in range(3)]
    assert sorted(bits(output)) == names
    told = [json.loads((output / "_manifests" / f"0000{number}-of-00003.json").read_text()) for number in range(3)]
    assert [manifest["rows"] for manifest in told] == [4, 4, 2]
    assert (done.output, done.rows, done.shards, done.scored) == (output, 10, 3, 10)
    assert done.metrics["pairs_per_second"] == pytest.approx(10 / done.seconds)
    assert re.fullmatch(rf"10 of 10 pairs scored now, [\d,.]+ pairs/s; 3 shards in {output}", str(done))
    found = read_scores(output)
    assert list(found) == ["row", "id", "score"]
    assert found["row"].tolist() == list(range(10))
    assert found["id"] == [100 + row for row in range(10)]
    assert found["score"].dtype == np.float32
    np.testing.assert_allclose(found["score"], model.predict(PAIRS), atol=1e-6)
    assert list(read_scores(output, ["score"])) == ["score"]
    with pytest.raises(DataError, match="has no column 'ids'; it has row, id, score"):
        read_scores(output, ["ids"])


def test_other_readers_of_parquet_see_one_table(tmp_path, model, pairs):
    pandas = pytest.importorskip("pandas")
    score_file(model, pairs, tmp_path / "scores", shards=True, shard_size=3, keep=["id"])
    table = pandas.read_parquet(tmp_path / "scores")
    assert table["id"].tolist() == [100 + row for row in range(10)]
    assert str(table.dtypes["id"]) == "int64"
    np.testing.assert_array_equal(table["score"], read_scores(tmp_path / "scores")["score"])


def test_every_form_of_input_gives_the_same_scores(tmp_path, model, pairs):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    (tmp_path / "pairs.tsv").write_text("left\tright\n" + "".join(f"{left}\t{right}\n" for left, right in PAIRS))
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("left", "right"), *PAIRS])
    (tmp_path / "pairs.gz").write_bytes(gzip.compress(pairs.read_bytes()))
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "pairs.parquet", row_group_size=3)
    score_file(model, pairs, tmp_path / "a", shards=True)
    expected = read_scores(tmp_path / "a", ["score"])["score"]
    for name in ("pairs.tsv", "pairs.csv", "pairs.gz", "pairs.parquet"):
        score_file(model, tmp_path / name, tmp_path / f"of {name}", shards=True)
        np.testing.assert_array_equal(read_scores(tmp_path / f"of {name}")["score"], expected)


def test_scores_of_classes_come_with_labels_and_can_be_probabilities(tmp_path, classes, pairs):
    score_file(classes, pairs, tmp_path / "raw", shards=True, shard_size=4)
    score_file(classes, pairs, tmp_path / "softmax.jsonl", activation_fn="softmax")
    found, raw = read_scores(tmp_path / "raw"), classes.predict(PAIRS)
    np.testing.assert_allclose(found["score"], raw, atol=1e-6)
    assert found["label"] == [("no", "perhaps", "yes")[best] for best in raw.argmax(axis=1)]
    rows = [json.loads(line) for line in (tmp_path / "softmax.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([row["score"] for row in rows], classes.predict(PAIRS, apply_softmax=True), atol=1e-6)
    assert [row["label"] for row in rows] == found["label"]


def test_threads_change_no_bit(tmp_path, model, pairs, monkeypatch):
    score_file(model, pairs, tmp_path / "one", shards=True, batch_size=2, threads=1)
    score_file(model, pairs, tmp_path / "three", shards=True, batch_size=2, threads=3)
    assert bits(tmp_path / "one") == bits(tmp_path / "three")


# --- several processes ----------------------------------------------------------------------------


def test_each_process_writes_its_own_shards(tmp_path, model, pairs, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    folder = tmp_path / "scores"
    (folder / "_manifests").mkdir(parents=True)
    partial = [folder / f".scores-00002-of-00003.parquet-{name}.partial" for name in ("killed", "going on")]
    for path, seconds in zip(partial, (7200, 60), strict=True):
        path.touch()
        os.utime(path, (time.time() - seconds,) * 2)
    for rank, shards in (("1", [1]), ("0", [0, 1, 2])):
        monkeypatch.setenv("RANK", rank)
        score_file(model, pairs, folder, shards=True, shard_size=4)
        assert [int(name[7:12]) for name in sorted(bits(folder))] == shards
        if rank == "1":
            assert [path.exists() for path in partial] == [False, True]
            with pytest.raises(CheckpointError, match=r"2 of 3 shards are missing \(.*-00000-.* it is not there yet"):
                read_scores(folder)
    np.testing.assert_allclose(read_scores(folder)["score"], model.predict(PAIRS), atol=1e-6)
    with pytest.raises(ValueError, match="2 processes write a shard each: name a folder"):
        score_file(model, pairs, tmp_path / "scores.jsonl")


def test_two_jobs_do_not_share_a_folder(tmp_path, model, pairs):
    with lock(tmp_path / "scores"), pytest.raises(CheckpointError, match="is in use by another job"):
        score_file(model, pairs, tmp_path / "scores", shards=True)
