"""Teacher scores written to files: they read back bit for bit, and what a form cannot hold is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from teacher_score_files import BY_ID, IDS, TEXTS, json_lines

from crossenc_kit import CrossEncoder, DataError, Pairs, read_teacher_scores, score_file, write_teacher_scores

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\t\n"), max_size=6)
NUMBER = st.floats(allow_nan=False, allow_infinity=False, width=32)


pytestmark = pytest.mark.filterwarnings("ignore:the head of 'tiny' is new")


class TestWriting:
    @pytest.mark.parametrize("name", ["s.jsonl", "s.tsv", "s.tsv.gz", "s.jsonl.gz", "s.parquet"])
    @pytest.mark.parametrize("pairs", [TEXTS, IDS], ids=["texts", "ids"])
    @pytest.mark.parametrize("columns", [0, 3])
    def test_round_trip(self, tmp_path, name, pairs, columns):
        scores = np.random.default_rng(0).normal(size=(3, columns) if columns else 3)
        assert write_teacher_scores(tmp_path / name, pairs, scores) == tmp_path / name
        read = read_teacher_scores(tmp_path / name, pairs)
        assert read.labels.tolist() == scores.astype(np.float32).tolist()
        keys = pairs.texts if pairs is TEXTS else [("1", "7"), ("1", "8"), ("2", "7")]
        assert read_teacher_scores(tmp_path / name, keys).tolist() == scores.tolist()  # to the last bit
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @settings(max_examples=30)
    @given(
        st.lists(st.tuples(TEXT, TEXT, NUMBER), min_size=1, max_size=5),
        st.sampled_from(["s.jsonl", "s.tsv", "s.parquet"]),
    )
    def test_any_texts_and_scores(self, tmp_path_factory, rows, name):
        pairs = Pairs([left for left, _, _ in rows], [right for _, right, _ in rows])
        scores = {(left, right): score for left, right, score in rows}  # one score a pair
        expected = [scores[pair] for pair in pairs.texts]
        path = tmp_path_factory.mktemp("scores") / name
        write_teacher_scores(path, pairs, expected)
        assert read_teacher_scores(path, pairs.texts).tolist() == expected

    def test_pairs_that_are_there_twice_keep_the_bits_of_each(self, tmp_path):
        scores = [1.0, 1.0000001, 2.0]
        pairs = [("a", "b"), ("a", "b"), ("c", "d")]
        write_teacher_scores(tmp_path / "s.tsv", pairs, scores)
        assert read_teacher_scores(tmp_path / "s.tsv", pairs).tolist() == scores

    def test_a_bulk_job_is_read_from_its_folder(self, tmp_path):
        pytest.importorskip("pyarrow")
        model = CrossEncoder("tiny", label_names=("no", "maybe", "yes"), seed=0, device="cpu")
        rows = [{"query_id": q, "document_id": d, "query": q, "document": d} for q, d, _ in BY_ID]
        job, columns = json_lines(tmp_path / "pairs.jsonl", rows), ["query_id", "document_id"]
        score_file(model, job, f"{tmp_path}/job/", keep=columns, shard_rows=2, progress=False)
        raw = model.predict([(q, d) for q, d, _ in BY_ID])
        keys = [(q, d) for q, d, _ in BY_ID]
        assert read_teacher_scores(tmp_path / "job", keys[::-1]) == pytest.approx(raw[::-1], abs=1e-6)
        data = replace(IDS, label_names=("yes", "no", "maybe"))  # the job's classes come in the data's order
        read = read_teacher_scores(tmp_path / "job", data)
        assert read.labels == pytest.approx(raw[:, [2, 0, 1]], abs=1e-6)
        assert read.label_names == data.label_names
        score_file(model, job, f"{tmp_path}/other/", progress=False)  # keeps neither ids nor texts
        with pytest.raises(DataError, match="query_id, document_id and score"):
            read_teacher_scores(tmp_path / "other", keys)

    def test_the_order_of_the_classes_is_told(self, tmp_path):
        data = replace(TEXTS, label_names=("yes", "no"))
        write_teacher_scores(tmp_path / "s.jsonl", data, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        read = read_teacher_scores(tmp_path / "s.jsonl", data, label_names=("no", "yes"))
        assert read.labels.tolist() == [[2, 1], [4, 3], [6, 5]]
        with pytest.raises(ValueError, match="label_names are brought to the order of the classes of a Pairs"):
            read_teacher_scores(tmp_path / "s.jsonl", data.texts, label_names=("no", "yes"))

    def test_texts_that_a_form_cannot_hold(self, tmp_path):
        odd = [("a", "b"), ("a\tb", "c")]
        with pytest.raises(DataError, match=r"pair 1: 'a\\tb' holds a tab or an end of line; write .jsonl or .parquet"):
            write_teacher_scores(tmp_path / "s.tsv", odd, [1, 2])
        for name in ("s.parquet", "s.tsv"):
            with pytest.raises(DataError, match=r"pair 0: .* holds half of a surrogate pair; write .jsonl"):
                write_teacher_scores(tmp_path / name, [("a\ud800", "b")], [1])
        assert list(tmp_path.iterdir()) == []
        write_teacher_scores(tmp_path / "s.jsonl", [*odd, ("a\ud800", "b")], [1, 2, 3])
        assert read_teacher_scores(tmp_path / "s.jsonl", [("a\ud800", "b"), *odd]).tolist() == [3, 1, 2]

    def test_what_does_not_fit(self, tmp_path):
        with pytest.raises(DataError, match=r"scores of shape \(2,\) for 3 pairs"):
            write_teacher_scores(tmp_path / "s.tsv", TEXTS, [1, 2])
        with pytest.raises(DataError, match=r"scores of shape \(3,\), not all finite, for 3 pairs"):
            write_teacher_scores(tmp_path / "s.tsv", TEXTS, [1, 2, float("nan")])
        with pytest.raises(ValueError, match=r"s.pkl: expected a name that ends in .jsonl, .tsv"):
            write_teacher_scores(tmp_path / "s.pkl", TEXTS, [1, 2, 3])
        assert list(tmp_path.iterdir()) == []
