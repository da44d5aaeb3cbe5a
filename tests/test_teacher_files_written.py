"""Teacher scores written to files: they read back bit for bit, and what a form cannot hold is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from teacher_score_files import IDS, TEXTS

from crossenc_kit import DataError, Pairs, read_teacher_scores, write_teacher_scores

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\t\n"), max_size=6)
NUMBER = st.floats(allow_nan=False, allow_infinity=False, width=32)


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
