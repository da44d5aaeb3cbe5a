"""Teacher scores written to files: they read back bit for bit, and what a form cannot hold is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit import CrossEncoder, DataError, Pairs, score_file
from crossenc_kit.distillation import read_teacher_scores, write_teacher_scores

TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
NUMBER = st.floats(allow_nan=False, allow_infinity=False, width=32)

pytestmark = pytest.mark.filterwarnings("ignore:the head of 'tiny' is new")


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz"])
@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("columns", [0, 3])
def test_round_trip(tmp_path, texts, ids, name, with_ids, columns):
    pairs = ids if with_ids else texts
    scores = np.random.default_rng(0).normal(size=(3, columns) if columns else 3)
    assert write_teacher_scores(tmp_path / name, pairs, scores) == tmp_path / name
    assert read_teacher_scores(tmp_path / name, pairs).labels.tolist() == scores.astype(np.float32).tolist()
    keys = [("1", "7"), ("1", "8"), ("2", "7")] if with_ids else pairs.texts
    assert read_teacher_scores(tmp_path / name, keys).tolist() == scores.tolist()  # to the last bit
    assert [path.name for path in tmp_path.iterdir()] == [name]


@settings(max_examples=30)
@given(st.lists(st.tuples(TEXT, TEXT, NUMBER), min_size=1, max_size=5))
def test_any_texts_and_scores(tmp_path_factory, rows):
    pairs = Pairs([left for left, _, _ in rows], [right for _, right, _ in rows])
    scores = {(left, right): score for left, right, score in rows}  # one score per pair
    expected = [scores[pair] for pair in pairs.texts]
    path = tmp_path_factory.mktemp("scores") / "s.jsonl"
    write_teacher_scores(path, pairs, expected)
    assert read_teacher_scores(path, pairs.texts).tolist() == expected


def test_pairs_that_come_twice_keep_the_bits_of_each(tmp_path):
    scores = [1.0, 1.0000001, 2.0]
    pairs = [("a", "b"), ("a", "b"), ("c", "d")]
    write_teacher_scores(tmp_path / "s.jsonl", pairs, scores)
    assert read_teacher_scores(tmp_path / "s.jsonl", pairs).tolist() == scores


def test_a_bulk_job_is_read_from_its_folder(tmp_path, json_lines, ids, scores):
    model = CrossEncoder("tiny", label_names=("no", "maybe", "yes"), seed=0, device="cpu")
    rows = [{"query_id": q, "document_id": d, "query": q, "document": d} for q, d, _ in scores]
    job, columns = json_lines("pairs.jsonl", rows), ["query_id", "document_id"]
    score_file(model, job, f"{tmp_path}/job/", keep=columns, shard_size=2, progress=False)
    keys = [(q, d) for q, d, _ in scores]
    raw = model.predict(keys)
    assert read_teacher_scores(tmp_path / "job", keys[::-1]) == pytest.approx(raw[::-1], abs=1e-6)
    data = replace(ids, label_names=("yes", "no", "maybe"))  # the job's classes come in the data's order
    read = read_teacher_scores(tmp_path / "job", data)
    assert read.labels == pytest.approx(raw[:, [2, 0, 1]], abs=1e-6)
    assert read.label_names == data.label_names
    score_file(model, job, f"{tmp_path}/other/", progress=False)  # keeps neither ids nor texts
    with pytest.raises(DataError, match="query_id, document_id and score"):
        read_teacher_scores(tmp_path / "other", keys)


def test_the_order_of_the_classes_is_told(tmp_path, texts):
    data = replace(texts, label_names=("yes", "no"))
    write_teacher_scores(tmp_path / "s.jsonl", data, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    read = read_teacher_scores(tmp_path / "s.jsonl", data, label_names=("no", "yes"))
    assert read.labels.tolist() == [[2, 1], [4, 3], [6, 5]]


def test_half_of_a_surrogate_pair_is_written_and_read(tmp_path):
    odd = [("a\ud800", "b"), ("a\tb", "c")]
    write_teacher_scores(tmp_path / "s.jsonl", odd, [1, 2])
    assert read_teacher_scores(tmp_path / "s.jsonl", odd[::-1]).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1, 2], r"scores of shape \(2,\) for 3 pairs"),
        ([1, 2, float("nan")], r"scores of shape \(3,\), not all finite, for 3 pairs"),
    ],
)
def test_what_does_not_fit(tmp_path, texts, scores, message):
    with pytest.raises(DataError, match=message):
        write_teacher_scores(tmp_path / "s.jsonl", texts, scores)
    assert list(tmp_path.iterdir()) == []
