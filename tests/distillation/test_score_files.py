"""Teacher scores in files: aligned to pairs by ids or texts, what does not fit named, margins as labels."""

from __future__ import annotations

import gzip
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from teacher_score_files import BY_ID, IDS, OTHERS, TEXTS, by_id, json_lines, table

from crossenc_kit import DataError, Pairs, read_teacher_scores
from crossenc_kit.data.collection import Collection
from crossenc_kit.data.trec import read_run, write_run

PUBLIC_DATA = Path(os.environ.get("CROSSENC_KIT_DATA") or "not set") / "rerank_trecdl19"


class TestForms:
    """Each form of one file: the scores of three pairs are 0.5, -2.25 and 3."""

    def check(self, path, pairs=IDS, **options):
        read = read_teacher_scores(path, pairs, **options)
        assert read.labels.tolist() == [0.5, -2.25, 3.0]
        assert (read.left, read.right, read.offsets.tolist()) == (pairs.left, pairs.right, [0, 2, 3])
        assert read.tags == pairs.tags

    def test_json_lines_by_ids(self, tmp_path):
        self.check(by_id(tmp_path / "scores.jsonl"))
        gzipped = tmp_path / "scores.gz"
        gzipped.write_bytes(gzip.compress((tmp_path / "scores.jsonl").read_bytes()))
        self.check(gzipped)

    @pytest.mark.parametrize("names", ["query_id\tdocument_id\tscore", "qid\tpid\tlabel", "query-id\tcorpus-id\tscore"])
    def test_tsv_by_ids(self, tmp_path, names):
        self.check(table(tmp_path / "scores.tsv", names, *(f"{q}\t{d}\t{s}" for q, d, s in [*BY_ID, *OTHERS])))

    def test_csv_by_texts(self, tmp_path):
        path = table(tmp_path / "scores.csv", "sentence1,sentence2,score", "q two,a,3", 'q one,"a",.5', "q one,b,-2.25")
        self.check(path, TEXTS)
        self.check(path, IDS)  # the file has no ids

    def test_parquet_by_ids_and_texts(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow.parquet")
        columns = {"query_id": ["1", "1", "2"], "doc_id": ["7", "8", "7"], "query": TEXTS.left, "document": TEXTS.right}
        columns |= {"score": [0.5, -2.25, 3.0], "label": [1, 0, 1]}  # gold beside the teacher
        import pyarrow as arrow

        pyarrow.write_table(arrow.table(columns), tmp_path / "scores.parquet")
        self.check(tmp_path / "scores.parquet", TEXTS)
        self.check(tmp_path / "scores.parquet", IDS)

    def test_a_trec_run(self, tmp_path):
        write_run(tmp_path / "run.trec", {"1": {"7": 0.5, "8": -2.25}, "2": {"7": 3.0, "9": 4.0}})
        self.check(tmp_path / "run.trec")
        with pytest.raises(DataError, match="by query id and document id, and the pairs have no tags query_id"):
            read_teacher_scores(tmp_path / "run.trec", TEXTS)

    def test_ms_marco_s_ranks_are_scores_below_0(self, tmp_path):
        path = table(tmp_path / "run.tsv", "1\t7\t2", "1\t8\t1", "2\t7\t1")
        read = read_teacher_scores(path, IDS)
        assert read.labels.tolist() == [-2, -1, -1]
        assert read.notes[-1] == "scores are minus the ranks"
        named = read_teacher_scores(path, IDS, names=["query_id", "document_id", "score"])
        assert named.labels.tolist() == [2, 1, 1]
        assert "scores are minus the ranks" not in named.notes

    def test_ranks_that_become_an_array_are_warned_of(self, tmp_path):
        path, keys = table(tmp_path / "run.tsv", "q1\td1\t1", "q1\td2\t2"), [("q1", "d1"), ("q1", "d2")]
        message = r"run\.tsv: scores are minus the ranks: its third column is 1, 2, .* give names=\(\"query_id\", \"doc"
        with pytest.warns(UserWarning, match=message) as caught:
            assert read_teacher_scores(path, keys).tolist() == [-1, -2]
        assert [one.filename for one in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            named = read_teacher_scores(path, keys, names=("query_id", "document_id", "score"))
            assert named.tolist() == [1, 2]
            write_run(tmp_path / "run.trec", {"q1": {"d1": 1.0, "d2": 2.0}})
            assert read_teacher_scores(tmp_path / "run.trec", keys).tolist() == [1, 2]
            pairs = Pairs(["q"] * 2, ["a", "b"], tags={"query_id": ["q1"] * 2, "document_id": ["d1", "d2"]})
            assert read_teacher_scores(path, pairs).notes[-1] == "scores are minus the ranks"

    @pytest.mark.parametrize(
        ("lines", "wrong"),
        [
            (["7\t1\t9", "7\t2\t3"], r": query '7' has 2 documents, with the ranks 3, 9;"),
            (["7\t1\t2", "7\t2\t2"], r": query '7' has 2 documents, with the ranks 2, 2;"),
            (["7\t1\t1", "7\t2\t2", "8\t1\t2"], r": query '8' has 1 documents, with the ranks 2;"),
            (["7\t1\t1.5", "7\t2\t3"], r", line 1: the rank is '1.5'; expected a whole number from 1;"),
            (["7\t1\t1", "7\t2\t0"], r", line 2: the rank is '0'"),
            (["good\tbad\t.5"], r", line 1: the rank is '.5'"),
        ],
    )
    def test_scores_without_names_are_not_taken_for_ranks(self, tmp_path, lines, wrong):
        path = table(tmp_path / "s.tsv", *lines)
        message = wrong + r".* three columns without a line of names are .* a score, give names=\(\"query_id\", "
        with pytest.raises(DataError, match=r"s\.tsv" + message) as caught:
            read_teacher_scores(path, [("7", "1")])
        assert "malformed" not in str(caught.value)
        names = ["query", "document", "score"] if "good" in lines[0] else ["query_id", "document_id", "score"]
        expected = float(lines[0].split("\t")[2])
        assert read_teacher_scores(path, [lines[0].split("\t")[:2]], names=names).tolist() == [expected]

    def test_what_is_wrong_with_a_trec_run_names_no_option_that_is_not_there(self, tmp_path):
        path = table(tmp_path / "run.trec", "1 Q0 7 1 0.5 x", "1 Q0 8 2 nan x")
        with pytest.raises(DataError, match=r"run\.trec, line 2: the score is nan; expected a finite number$"):
            read_teacher_scores(path, IDS)

    def test_triples_with_two_scores(self, tmp_path):
        names = ("positive_score", "negative_score", "query_id", "positive_id", "negative_id")
        rows = ["0.5\t-2.25\t1\t7\t8", "3\t1\t2\t7\t9", "3.0\t0\t2\t7\t11"]
        self.check(table(tmp_path / "no_names.tsv", *rows), names=names)
        self.check(table(tmp_path / "names.tsv", "\t".join(names), *rows))
        texts = [{"positive_score": 0.5, "negative_score": -2.25, "query": "q one", "positive": "a", "negative": "b"}]
        texts += [{"positive_score": 3, "negative_score": 0, "query": "q two", "positive": "a", "negative": "b"}]
        self.check(json_lines(tmp_path / "texts.jsonl", texts), TEXTS)

    def test_pairs_of_one_with_a_document_id(self, tmp_path):
        pairs = Pairs(["q", "q"], ["a", "b"], tags={"query_id": ["1", "1"], "document_id": ["8", "7"]})
        assert read_teacher_scores(by_id(tmp_path / "s.jsonl"), pairs).labels.tolist() == [-2.25, 0.5]

    def test_a_list_of_keys_gives_an_array(self, tmp_path):
        path = by_id(tmp_path / "scores.jsonl")
        assert read_teacher_scores(path, [("2", "7"), (1, 8), ("2", "7")]).tolist() == [3.0, -2.25, 3.0]
        path = json_lines(tmp_path / "texts.jsonl", [{"query": "q", "document": "d", "score": [1, 2]}])
        assert read_teacher_scores(path, [["q", "d"]]).tolist() == [[1, 2]]

    def test_a_score_a_class(self, tmp_path):
        path = table(tmp_path / "s.tsv", "query_id\tdocument_id\tscore", *(f"{q}\t{d}\t[{s}, 1]" for q, d, s in BY_ID))
        assert read_teacher_scores(path, IDS).labels.tolist() == [[0.5, 1], [-2.25, 1], [3, 1]]

    def test_gold_labels_are_kept_where_asked_for(self, tmp_path):
        read = read_teacher_scores(by_id(tmp_path / "s.jsonl"), IDS, gold=True)
        assert read.labels.tolist() == [[0.5, 1], [-2.25, 0], [3, 1]]


class TestCollections:
    def test_candidates_of_a_collection(self, tmp_path):
        run = {"1": {"8": 2.0, "7": 1.0}, "2": {"7": 1.0}}
        pairs = Collection({"1": "q one", "2": "q two"}, {"7": "a", "8": "b"}, {"1": {"7": 1}, "2": {"7": 1}}).as_pairs(
            run
        )
        read = read_teacher_scores(by_id(tmp_path / "scores.jsonl"), pairs, gold=True)
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
    def test_pairs_without_a_score_are_named(self, tmp_path):
        path = by_id(tmp_path / "scores.jsonl", BY_ID[:1])
        message = (
            r"scores.jsonl: 2 of 3 pairs have no score there, looked up by their ids: '1' with '8'; '2' with '7'; "
        )
        with pytest.raises(DataError, match=message + 'missing="drop" leaves them out'):
            read_teacher_scores(path, IDS)
        with pytest.raises(DataError, match="2 of 3 pairs have no score there, looked up by their ids: '1' with '8'"):
            read_teacher_scores(path, [("1", "7"), ("1", "8"), ("2", "7")], missing="drop")
        with pytest.raises(ValueError, match="missing is 'skip'"):
            read_teacher_scores(path, IDS, missing="skip")

    def test_left_out_with_their_tags_and_counted(self, tmp_path):
        read = read_teacher_scores(by_id(tmp_path / "scores.jsonl", BY_ID[1:2]), IDS, missing="drop", gold=True)
        assert (read.left, read.right, read.labels.tolist()) == (["q one"], ["b"], [[-2.25, 0]])
        assert read.offsets.tolist() == [0, 1]
        assert read.tags == {"query_id": [1], "document_ids": [[8]]}
        assert read.notes[0].startswith("left out: 2 of 3 pairs have no score there")
        assert read.notes[1] == "left out: 1 of 2 groups, which had no score at all"

    def test_nothing_that_fits(self, tmp_path):
        with pytest.raises(DataError, match=r"3 of 3 pairs have no score there.*: '1' with '7'; .*'2' with '7'$"):
            read_teacher_scores(by_id(tmp_path / "scores.jsonl", OTHERS), IDS, missing="drop")


class TestBadFiles:
    @pytest.mark.parametrize("value", ["nan", "inf", "", "good", "[]", "[1, NaN]", "[[1]]"])
    def test_scores_that_are_no_numbers(self, tmp_path, value):
        path = table(tmp_path / "scores.tsv", "query_id\tdocument_id\tscore", "1\t7\t1.0", f"9\t9\t{value}")
        with pytest.raises(DataError, match=r"scores.tsv, line 3, column 'score': the score is .*; expected a"):
            read_teacher_scores(path, IDS)

    def test_null_scores_and_ids(self, tmp_path):
        with pytest.raises(DataError, match="line 1, column 'score': the score is None"):
            read_teacher_scores(by_id(tmp_path / "a.jsonl", [("1", "7", None)]), IDS)
        with pytest.raises(DataError, match="line 1, column 'document_id': there is no value"):
            read_teacher_scores(by_id(tmp_path / "b.jsonl", [("1", None, 1.0)]), IDS)

    def test_two_scores_for_one_pair(self, tmp_path):
        path = by_id(tmp_path / "scores.jsonl", [*BY_ID, ("1", "8", -2.3)])
        with pytest.raises(
            DataError, match=r"line 4: '1' with '8' has the score -2.3, and -2.25 at .*line 2; keep one"
        ):
            read_teacher_scores(path, IDS)
        same = by_id(tmp_path / "same.jsonl", [*BY_ID, ("1", "8", -2.250001)])
        assert read_teacher_scores(same, IDS).labels.tolist() == [0.5, -2.25, 3.0]

    def test_other_numbers_of_scores(self, tmp_path):
        path = by_id(tmp_path / "scores.jsonl", [("1", "7", 1.0), ("1", "8", [1.0, 2.0])])
        with pytest.raises(DataError, match="line 2: 2 scores, in the rows before 1"):
            read_teacher_scores(path, IDS)

    def test_columns_that_are_not_known(self, tmp_path):
        path = table(tmp_path / "scores.tsv", "a\tb\tc\td", "1\t2\t3\t4")
        with pytest.raises(DataError, match="found the columns a, b, c, d; expected query_id, document_id and score"):
            read_teacher_scores(path, IDS)
        with pytest.raises(
            DataError, match="has no rows below the names 7, 1, 9, x; if that line is a row, give names="
        ):
            read_teacher_scores(table(tmp_path / "one.tsv", "7\t1\t9\tx"), IDS)
        names = ["query_id", "document_id", "score", "tag"]
        assert read_teacher_scores(tmp_path / "one.tsv", [("7", "1")], names=names).tolist() == [9]
        with pytest.raises(DataError, match=r"blank\.tsv: the file has no rows$"):
            read_teacher_scores(table(tmp_path / "blank.tsv", ""), IDS)
        with pytest.raises(DataError, match="the file has no rows"):
            read_teacher_scores(table(tmp_path / "empty.tsv", "query_id\tdocument_id\tscore"), IDS)
        with pytest.raises(FileNotFoundError):
            read_teacher_scores(tmp_path / "none.pkl", IDS)

    def test_ids_that_do_not_fit_the_groups(self, tmp_path):
        odd = Pairs(["q", "q"], ["a", "b"], None, np.array([0, 2]), {"query_id": ["1"], "document_ids": [["7"]]})
        with pytest.raises(DataError, match=r"group 0 \(query '1'\) has 2 pairs, and 1 document_ids"):
            read_teacher_scores(by_id(tmp_path / "s.jsonl"), odd)
        with pytest.raises(DataError, match=r"row 1: expected \(query id, document id\) or two texts, got \('1',\)"):
            read_teacher_scores(by_id(tmp_path / "s.jsonl"), [("1", "7"), ("1",)])
