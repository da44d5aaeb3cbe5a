"""Runs and judgements in the forms of TREC, BEIR and MS MARCO: read, written, and what unusable lines say."""

from __future__ import annotations

import gzip
import math
import warnings

import ir_measures
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import write

from crossenc_kit.data.trec import read_qrels, read_run, write_qrels, write_run
from crossenc_kit.errors import DataError

RUN = {"007": {"d2": 12.5, "d1": -3.0}, "8": {"d1": 1e-7}}
TREC_RUN = "007 Q0 d2 1 12.5 bm25\n007\tQ0\td1  2 -3 bm25\n\n8 Q0 d1 1 1e-7 bm25\n"
QRELS = {"007": {"d1": 0, "d2": 3}, "8": {"d1": 1}}
TREC_QRELS = "007 0 d1 0\n007 0 d2 3\n8 Q0 d1 1\n"
IDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8)


class TestReadRun:
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("start", ["", "\ufeff"])
    @pytest.mark.parametrize("zipped", [False, True])
    def test_trec(self, tmp_path, zipped, start, end):
        content = (start + TREC_RUN.replace("\n", end)).encode()
        run = read_run(write(tmp_path / "a.run", gzip.compress(content) if zipped else content))
        assert run == RUN
        assert list(run["007"]) == ["d2", "d1"]

    def test_ms_marco_has_ranks_only(self, tmp_path):
        path = write(tmp_path / "run.tsv", "1048585\t7187155\t1\n1048585\t7187157\t2\n2\t4339068\t1\n")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_run(path) == {"1048585": {"7187155": -1.0, "7187157": -2.0}, "2": {"4339068": -1.0}}

    @pytest.mark.parametrize(("first", "second"), [("25", "3"), ("1", "1")])
    def test_three_columns_that_may_be_scores_or_grades(self, tmp_path, first, second):
        path = write(tmp_path / "s.tsv", f"q1\td1\t{first}\nq1\td2\t{second}\n")
        with pytest.warns(UserWarning, match=r"ranks of 1 queries are not 1, 2, .*'q1'.*read as a rank"):
            read_run(path)
        named = write(tmp_path / "named.tsv", f"qid\tpid\tscore\nq1\td1\t{first}\nq1\td2\t{second}\n")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_run(named) == {"q1": {"d1": float(first), "d2": float(second)}}

    def test_names_in_the_first_line(self, tmp_path):
        rows = [("query-id", "corpus-id", "rank", "score"), ("007", "an id", "1", "20.5"), ("007", "d1", "2", "19")]
        path = write(tmp_path / "run.tsv", "".join("\t".join(row) + "\n" for row in rows))
        assert read_run(path) == {"007": {"an id": 20.5, "d1": 19.0}}
        path = write(tmp_path / "run.tsv", "".join("\t".join(row[2::-1]) + "\n" for row in rows))  # no score, turned
        assert read_run(path) == {"007": {"an id": -1.0, "d1": -2.0}}
        with pytest.raises(DataError, match=r"run\.tsv, line 1: no column score or rank among query-id, corpus-id"):
            read_run(write(tmp_path / "run.tsv", "query-id\tcorpus-id\nq\td\n"))

    def test_the_score_counts_and_not_the_rank(self, tmp_path):
        assert read_run(write(tmp_path / "a", "q Q0 a 1 1.0 t\nq Q0 b 2 9.0 t\n")) == {"q": {"a": 1.0, "b": 9.0}}

    def test_a_no_break_space_is_part_of_an_id(self, tmp_path):
        assert read_run(write(tmp_path / "a", "q Q0 d\u00a01 1 1.0 t\n")) == {"q": {"d\u00a01": 1.0}}

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("q Q0 d 1 1.5", r"5 columns, expected 6 as in the lines before: 'q Q0 d 1 1\.5'"),
            ("q Q0 d 1 1.5 t more", r"7 columns, expected 6"),
            ("q d 1", r"3 columns, expected 6"),
            ("q Q0 d 1 high t", r"the score is 'high'; expected a number"),
            ("q Q0 d 1 nan t", r"the score is nan; expected a finite number"),
            ("q Q0 d 1 -inf t", r"the score is -inf; expected a finite number"),
            ("007 Q0 d2 9 1 t", r"query '007' has document 'd2' a second time"),
        ],
    )
    def test_malformed_lines(self, tmp_path, line, message):
        path = write(tmp_path / "a.run", TREC_RUN + line + "\n")
        with pytest.raises(DataError, match=rf"a\.run, line 5: {message}"):
            read_run(path)
        with pytest.warns(UserWarning, match=rf"a\.run: malformed lines left out: 1 \(line 5: {message}") as caught:
            assert read_run(path, malformed="count") == RUN
        assert caught[0].filename == __file__

    def test_many_malformed_lines_are_counted_and_the_first_named(self, tmp_path):
        path = write(tmp_path / "a.run", "bad\n" * 1200 + TREC_RUN)
        with pytest.warns(UserWarning, match=r"1,200 \(line 1: .*; line 2: .*; line 3: [^;]*; \.\.\.\)$"):
            assert read_run(path, malformed="count") == RUN

    def test_a_malformed_line_does_not_say_what_the_file_is(self, tmp_path):
        path = write(tmp_path / "a.run", "007 Q0 d2\n" + TREC_RUN)  # three columns, as MS MARCO's
        with pytest.warns(UserWarning, match=r"line 1: the rank is 'd2'"):
            assert read_run(path, malformed="count") == RUN

    def test_no_line_that_can_be_used(self, tmp_path):
        for content in ("bad\nworse and worse\n", "query-id\tcorpus-id\tscore\nq\td\tnan\n"):
            with pytest.raises(
                DataError, match=r"a\.run: no line can be used; a\.run: malformed lines left out: [12] "
            ):
                read_run(write(tmp_path / "a.run", content), malformed="count")

    @pytest.mark.parametrize("rank", ["0", "-1", "1.5", "a", "nan", "1_0"])
    def test_a_wrong_rank(self, tmp_path, rank):
        with pytest.raises(DataError, match=rf"line 2: the rank is '{rank}'; expected a whole number from 1"):
            read_run(write(tmp_path / "a", f"q\td\t1\nq\te\t{rank}\n"))

    def test_an_unknown_form(self, tmp_path):
        with pytest.raises(DataError, match=r"line 1: 4 columns, expected 6 \(query Q0 .*, 3 \(query document rank\)"):
            read_run(write(tmp_path / "a", "q d 1 2.0\n"))
        with pytest.raises(DataError, match=r"a: the file has no lines; expected 6"):
            read_run(write(tmp_path / "a", "\n \n"))
        with pytest.raises(DataError, match=r"line 2: an id is empty"):
            read_run(write(tmp_path / "a", "query-id\tcorpus-id\tscore\n\td\t1\n"))
        with pytest.raises(ValueError, match="malformed must be one of error, count; got 'skip'"):
            read_run(write(tmp_path / "a", TREC_RUN), malformed="skip")

    def test_against_ir_measures(self, tmp_path):
        rng = np.random.default_rng(0)
        rows = [(f"{q:03d}", f"doc{d}", rng.normal()) for q in range(20) for d in rng.choice(99, 30, replace=False)]
        text = "".join(f"{q}\tQ0 {d}   {i} {s} tag\n" for i, (q, d, s) in enumerate(rows))
        theirs = {}
        for row in ir_measures.read_trec_run(str(write(tmp_path / "a.run", text))):
            theirs.setdefault(row.query_id, {})[row.doc_id] = row.score
        assert read_run(tmp_path / "a.run") == theirs
        assert len(theirs) == 20


class TestReadQrels:
    @pytest.mark.parametrize(
        "content",
        [
            TREC_QRELS,
            TREC_QRELS.replace(" ", "\t"),
            gzip.compress(TREC_QRELS.encode()),
            "query-id\tcorpus-id\tscore\n007\td1\t0\n007\td2\t3\n8\td1\t1\n",
            "corpus-id\tquery-id\tgrade\nd1\t007\t0\nd2\t007\t3.0\nd1\t8\t1\n",
            "007 d1 0\n007 d2 3\n8 d1 1\n",
        ],
        ids=["trec", "ms marco", "gzipped", "beir", "other names", "three columns"],
    )
    def test_every_form(self, tmp_path, content):
        qrels = read_qrels(write(tmp_path / "qrels.tsv", content))
        assert qrels == QRELS
        assert all(type(grade) is int for judged in qrels.values() for grade in judged.values())

    def test_grades_that_are_not_whole(self, tmp_path):
        assert read_qrels(write(tmp_path / "a", "q 0 d 0.5\nq 0 e 1.0\n")) == {"q": {"d": 0.5, "e": 1}}

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("q 0 d", r"3 columns, expected 4 as in the lines before"),
            ("q 0 d yes", r"the grade is 'yes'; expected a number"),
            ("q 0 d nan", r"the grade is nan; expected a finite number"),
            ("q 0 d -1", r"the grade is -1, below 0; negative_grades=\"zero\" counts it as 0"),
            ("8 0 d1 1", r"query '8' has document 'd1' a second time"),
        ],
    )
    def test_malformed_lines(self, tmp_path, line, message):
        path = write(tmp_path / "qrels.txt", TREC_QRELS + line + "\n")
        with pytest.raises(DataError, match=rf"qrels\.txt, line 4: {message}"):
            read_qrels(path)
        with pytest.warns(UserWarning, match=rf"qrels\.txt: malformed lines left out: 1 \(line 4: {message}"):
            assert read_qrels(path, malformed="count") == QRELS

    def test_grades_below_0_may_count_as_0(self, tmp_path):
        path = write(tmp_path / "a", "q 0 d -1\nq 0 e 2\nr 0 d -2\n")
        assert read_qrels(path, negative_grades="zero") == {"q": {"d": 0, "e": 2}, "r": {"d": 0}}
        with pytest.raises(ValueError, match="negative_grades must be one of error, zero; got 'drop'"):
            read_qrels(path, negative_grades="drop")

    def test_against_ir_measures(self, tmp_path):
        rng = np.random.default_rng(1)
        text = "".join(f"{q:03d} 0\tdoc{d} {rng.integers(4)}\n" for q in range(30) for d in range(q + 1))
        theirs = {}
        for row in ir_measures.read_trec_qrels(str(write(tmp_path / "a.qrels", text))):
            theirs.setdefault(row.query_id, {})[row.doc_id] = row.relevance
        assert read_qrels(tmp_path / "a.qrels") == theirs
        assert len(theirs) == 30


class TestWriteRun:
    def test_what_is_written(self, tmp_path):
        run = {"q": {"a": 1.0, "b": np.float32(0.1), "c": 1.0, "d": 3}, "p": {"x": -2.5}}
        assert write_run(tmp_path / "a.run", run, "mine").read_text() == (
            "q Q0 d 1 3.0 mine\n"
            "q Q0 c 2 1.0 mine\n"  # equal scores: by id, descending
            "q Q0 a 3 1.0 mine\n"
            "q Q0 b 4 0.10000000149011612 mine\n"
            "p Q0 x 1 -2.5 mine\n"
        )
        assert read_run(tmp_path / "a.run") == run
        assert [path.name for path in tmp_path.iterdir()] == ["a.run"]

    def test_equal_scores_are_in_the_order_of_trec_eval(self, tmp_path):
        run = {"q": dict.fromkeys(("b", "é", "a", "B", "10", "9"), 1.0)}
        written = [line.split()[2] for line in write_run(tmp_path / "a", run).read_text("utf-8").splitlines()]
        for rank, name in enumerate(written, 1):
            rr = ir_measures.pytrec_eval.evaluator([ir_measures.RR], {"q": {name: 1}}).calc_aggregate(run)
            assert rr[ir_measures.RR] == pytest.approx(1 / rank)

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        run=st.dictionaries(
            IDS, st.dictionaries(IDS, st.floats(allow_nan=False, allow_infinity=False), min_size=1), min_size=1
        ),
        end=st.sampled_from(["", ".gz"]),
    )
    def test_what_is_written_is_what_is_read(self, tmp_path, run, end):
        path = write_run(tmp_path / f"a.run{end}", run)
        again = read_run(path)
        assert again == run
        assert all(list(own.values()) == sorted(own.values(), reverse=True) for own in again.values())
        before = path.read_bytes()
        assert write_run(path, {q: dict(reversed(own.items())) for q, own in run.items()}).read_bytes() == before

    def test_ir_measures_reads_it(self, tmp_path):
        theirs = list(ir_measures.read_trec_run(str(write_run(tmp_path / "a.run.gz", RUN))))
        assert {(row.query_id, row.doc_id, row.score) for row in theirs} == {
            ("007", "d2", 12.5),
            ("007", "d1", -3.0),
            ("8", "d1", 1e-7),
        }

    @pytest.mark.parametrize(
        ("run", "message"),
        [
            ({"q": {"d": math.nan}}, r"query 'q', document 'd': the score is nan"),
            ({"q": {"d": math.inf}}, r"query 'q', document 'd': the score is inf"),
            ({"q": {"a b": 1.0}}, r"the document id 'a b' is empty or has white space"),
            ({"q": {"a\u2028b": 1.0}}, r"the document id 'a\\u2028b' is empty or has white space"),
            ({"": {"d": 1.0}}, r"the query id '' is empty"),
            ({"\ufeffq": {"d": 1.0}}, r"the query id '\\ufeffq' is empty or"),
            ({" q": {"d": 1.0}}, r"the query id ' q' is empty or has white space"),
            ({7: {"d": 1.0}}, r"the query id 7 is int"),
            ({}, r"the run has no documents: there is nothing to write to .*a\.run"),
        ],
    )
    def test_what_cannot_be_written_leaves_the_file_as_it_was(self, tmp_path, run, message):
        path = write(tmp_path / "a.run", TREC_RUN)
        with pytest.raises(DataError, match=message):
            write_run(path, run)
        assert path.read_text() == TREC_RUN
        assert [path.name for path in tmp_path.iterdir()] == ["a.run"]

    def test_a_query_without_candidates_is_named(self, tmp_path):
        with pytest.warns(UserWarning, match=r"queries without candidates are not in .*a\.run: 1 \('q'\)"):
            assert read_run(write_run(tmp_path / "a.run", {**RUN, "q": {}})) == RUN

    @pytest.mark.parametrize("tag", ["", "two words", "a\n"])
    def test_a_tag_of_one_word(self, tmp_path, tag):
        with pytest.raises(DataError, match=r"the tag .* is empty or has white space"):
            write_run(tmp_path / "a.run", RUN, tag)


class TestWriteQrels:
    def test_what_is_written(self, tmp_path):
        qrels = {"007": {"d1": 0, "d2": 3.0}, "8": {"d1": 0.5}}
        assert write_qrels(tmp_path / "a", qrels).read_text() == "007 0 d1 0\n007 0 d2 3\n8 0 d1 0.5\n"

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        qrels=st.dictionaries(
            IDS, st.dictionaries(IDS, st.one_of(st.integers(0, 9), st.floats(0, 9)), min_size=1), min_size=1
        )
    )
    def test_what_is_written_is_what_is_read(self, tmp_path, qrels):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_qrels(write_qrels(tmp_path / "a.tsv", qrels)) == qrels

    def test_wrong_arguments(self, tmp_path):
        with pytest.raises(DataError, match="the qrels have no query"):
            write_qrels(tmp_path / "a", {})
        with pytest.raises(DataError, match="the qrels has no documents"):
            write_qrels(tmp_path / "a", {"q": {}})

    def test_grades_below_0_are_not_written(self, tmp_path):
        message = r"query 'q', document 'c': the grade is -1, below 0 \(2 such\), which would not read back"
        with pytest.raises(DataError, match=message):
            write_qrels(tmp_path / "a", {"q": {"b": 0, "c": -1, "d": -2}})
        assert list(tmp_path.iterdir()) == []
