"""Teacher scores in files: matched to pairs by ids or texts, and what does not fit is named."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from crossenc_kit import DataError, Pairs
from crossenc_kit.data.collection import Collection
from crossenc_kit.data.trec import read_run, write_run
from crossenc_kit.distillation import read_teacher_scores

PUBLIC_DATA = Path(os.environ.get("CROSSENC_KIT_DATA") or "not set") / "rerank_trecdl19"


class TestForms:
    """Each form of one file: the scores of three pairs are 0.5, -2.25 and 3."""

    def check(self, path, pairs):
        read = read_teacher_scores(path, pairs)
        assert read.labels.tolist() == [0.5, -2.25, 3.0]
        assert (read.left, read.right, read.offsets.tolist()) == (pairs.left, pairs.right, [0, 2, 3])
        assert read.tags == pairs.tags

    def test_json_lines_by_ids(self, tmp_path, by_id, ids):
        path = by_id("scores.jsonl")
        self.check(path, ids)
        (tmp_path / "scores.gz").write_bytes(gzip.compress(path.read_bytes()))
        self.check(tmp_path / "scores.gz", ids)

    def test_json_lines_by_texts(self, json_lines, texts, ids):
        keys = [("q two", "a", 3), ("q one", "a", 0.5), ("q one", "b", -2.25)]
        path = json_lines("scores.jsonl", [{"sentence1": q, "sentence2": d, "score": s} for q, d, s in keys])
        self.check(path, texts)
        self.check(path, ids)  # the file has no ids

    def test_parquet_by_ids_and_texts(self, tmp_path, texts, ids):
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        columns = {"query_id": ["1", "1", "2"], "doc_id": ["7", "8", "7"], "query": texts.left, "document": texts.right}
        columns |= {"score": [0.5, -2.25, 3.0], "label": [1, 0, 1]}  # gold beside the teacher
        parquet.write_table(pyarrow.table(columns), tmp_path / "scores.parquet")
        self.check(tmp_path / "scores.parquet", texts)
        self.check(tmp_path / "scores.parquet", ids)

    def test_a_run(self, tmp_path, table, texts, ids):
        write_run(tmp_path / "run.trec", {"1": {"7": 0.5, "8": -2.25}, "2": {"7": 3.0, "9": 4.0}})
        self.check(tmp_path / "run.trec", ids)
        self.check(table("run.tsv", "query-id\tcorpus-id\tscore", "1\t7\t.5", "1\t8\t-2.25", "2\t7\t3"), ids)
        with pytest.raises(DataError, match="by query id and document id, and the pairs have no tags query_id"):
            read_teacher_scores(tmp_path / "run.trec", texts)

    def test_ranks_are_not_taken_for_scores(self, table, ids):
        path = table("run.tsv", "1\t7\t2", "1\t8\t1", "2\t7\t1")
        with pytest.raises(DataError, match=r"run\.tsv: the third column holds ranks, not scores"):
            read_teacher_scores(path, ids)

    def test_pairs_of_one_with_a_document_id(self, by_id):
        pairs = Pairs(["q", "q"], ["a", "b"], tags={"query_id": ["1", "1"], "document_id": ["8", "7"]})
        assert read_teacher_scores(by_id("s.jsonl"), pairs).labels.tolist() == [-2.25, 0.5]

    def test_a_list_of_keys_gives_an_array(self, by_id, json_lines):
        assert read_teacher_scores(by_id("s.jsonl"), [("2", "7"), (1, 8), ("2", "7")]).tolist() == [3.0, -2.25, 3.0]
        path = json_lines("texts.jsonl", [{"query": "q", "document": "d", "score": [1, 2]}])
        assert read_teacher_scores(path, [["q", "d"]]).tolist() == [[1, 2]]

    def test_a_score_per_class_and_gold_labels(self, by_id, ids, scores):
        path = by_id("classes.jsonl", [(q, d, [s, 1]) for q, d, s in scores])
        assert read_teacher_scores(path, ids).labels.tolist() == [[0.5, 1], [-2.25, 1], [3, 1]]
        read = read_teacher_scores(by_id("s.jsonl"), ids, gold=True)
        assert read.labels.tolist() == [[0.5, 1], [-2.25, 0], [3, 1]]


class TestCollections:
    def test_candidates_of_a_collection(self, by_id):
        queries, documents = {"1": "q one", "2": "q two"}, {"7": "a", "8": "b"}
        collection = Collection(queries, documents, {"1": {"7": 1}, "2": {"7": 1}})
        pairs = collection.as_pairs({"1": {"8": 2.0, "7": 1.0}, "2": {"7": 1.0}})
        read = read_teacher_scores(by_id("scores.jsonl"), pairs, gold=True)
        assert read.labels.tolist() == [[-2.25, 0], [0.5, 1], [3, 1]]

    @pytest.mark.skipif(not PUBLIC_DATA.is_dir(), reason="no public data: set CROSSENC_KIT_DATA (rerank_trecdl19/)")
    def test_a_published_run_of_a_cross_encoder(self):
        from crossenc_kit.data.ranking import read_ranking

        collection = read_ranking(PUBLIC_DATA, "test")
        bm25, bert = (read_run(PUBLIC_DATA / "runs" / f"{name}.tsv") for name in ("bm25", "bert"))
        pairs = collection.as_pairs(bm25)
        read = read_teacher_scores(PUBLIC_DATA / "runs" / "bert.tsv", pairs, missing="drop")
        common = {(query, document) for query, own in bm25.items() for document in own if document in bert[query]}
        assert 0 < len(common) == read.num_pairs <= pairs.num_pairs
        ids = [(q, d) for q, own in zip(read.tags["query_id"], read.tags["document_ids"], strict=True) for d in own]
        assert set(ids) == common
        assert read.labels.tolist() == [np.float32(bert[query][document]) for query, document in ids]
        assert read.right == [collection.documents[document] for _, document in ids]


class TestMissing:
    def test_pairs_without_a_score_are_named(self, by_id, ids, scores):
        path = by_id("scores.jsonl", scores[:1])
        message = r"2 of 3 pairs have no score there, looked up by their ids: '1' with '8'; '2' with '7'"
        with pytest.raises(DataError, match=rf"scores\.jsonl: {message}"):
            read_teacher_scores(path, ids)
        with pytest.raises(DataError, match=message):
            read_teacher_scores(path, [("1", "7"), ("1", "8"), ("2", "7")], missing="drop")
        with pytest.raises(ValueError, match="missing is 'skip'"):
            read_teacher_scores(path, ids, missing="skip")

    def test_left_out_with_their_tags_and_counted(self, by_id, ids, scores):
        read = read_teacher_scores(by_id("scores.jsonl", scores[1:2]), ids, missing="drop", gold=True)
        assert (read.left, read.right, read.labels.tolist()) == (["q one"], ["b"], [[-2.25, 0]])
        assert read.offsets.tolist() == [0, 1]
        assert read.tags == {"query_id": [1], "document_ids": [[8]]}
        assert read.notes[0].startswith("left out: 2 of 3 pairs have no score there")
        assert read.notes[1] == "left out: 1 of 2 groups, which had no score at all"

    def test_nothing_that_fits(self, by_id, ids):
        with pytest.raises(DataError, match=r"3 of 3 pairs have no score there.*: '1' with '7'; .*'2' with '7'$"):
            read_teacher_scores(by_id("scores.jsonl", [("3", "7", 1.0)]), ids, missing="drop")


class TestBadFiles:
    @pytest.mark.parametrize("value", [None, "nan", float("inf"), "", "good", [], [1, float("nan")], [[1]]])
    def test_scores_that_are_no_numbers(self, by_id, ids, value):
        path = by_id("scores.jsonl", [("1", "7", 1.0), ("9", "9", value)])
        with pytest.raises(DataError, match=r"scores.jsonl, line 2, column 'score': the score is .*; expected a"):
            read_teacher_scores(path, ids)

    def test_an_id_that_is_null(self, by_id, ids):
        with pytest.raises(DataError, match="line 1, column 'document_id': there is no value"):
            read_teacher_scores(by_id("b.jsonl", [("1", None, 1.0)]), ids)

    def test_two_scores_for_one_pair(self, by_id, ids, scores):
        path = by_id("scores.jsonl", [*scores, ("1", "8", -2.3)])
        message = r"line 4: '1' with '8' has the score -2.3, and -2.25 at .*line 2; keep one"
        with pytest.raises(DataError, match=message):
            read_teacher_scores(path, ids)
        same = by_id("same.jsonl", [*scores, ("1", "8", -2.250001)])
        assert read_teacher_scores(same, ids).labels.tolist() == [0.5, -2.25, 3.0]

    def test_other_numbers_of_scores(self, by_id, ids):
        path = by_id("scores.jsonl", [("1", "7", 1.0), ("1", "8", [1.0, 2.0])])
        with pytest.raises(DataError, match="line 2: 2 scores, in the rows before 1"):
            read_teacher_scores(path, ids)

    def test_columns_that_are_not_known(self, tmp_path, json_lines, ids):
        path = json_lines("scores.jsonl", [{"a": 1, "b": 2, "score": 3}])
        with pytest.raises(DataError, match="found the columns a, b, score; expected query_id, document_id and score"):
            read_teacher_scores(path, ids)
        with pytest.raises(FileNotFoundError):
            read_teacher_scores(tmp_path / "none.jsonl", ids)

    def test_ids_that_do_not_fit_the_groups(self, by_id):
        odd = Pairs(["q", "q"], ["a", "b"], None, np.array([0, 2]), {"query_id": ["1"], "document_ids": [["7"]]})
        with pytest.raises(DataError, match=r"group 0 \(query '1'\) has 2 pairs, and 1 document_ids"):
            read_teacher_scores(by_id("s.jsonl"), odd)
