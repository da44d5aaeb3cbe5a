"""Corpora, triples and candidates row by row: the forms of BEIR and MS MARCO, unusable lines, and flat memory."""

from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import write

from crossenc_kit.data.ranking import iter_documents, iter_top1000, iter_triples, read_texts
from crossenc_kit.errors import DataError

ROWS = [("007", 'He said "no'), ("1", "one\u2028two\x85three"), ("2", "NA")]
TSV = "".join(f"{name}\t{text}\n" for name, text in ROWS)
JSONL = "".join(json.dumps({"_id": name, "title": "", "text": text}) + "\n" for name, text in ROWS)
TEXTS = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1).filter(str.strip)


class TestDocuments:
    @pytest.mark.parametrize(
        "content",
        [
            TSV,
            JSONL,
            "\ufeff" + TSV.replace("\n", "\r\n"),
            gzip.compress(JSONL.encode()),
            gzip.compress(TSV.encode()),
            "qid\tquery\n" + TSV,
            "".join(json.dumps({"url": "x", "docid": n, "contents": t}) + "\n" for n, t in ROWS),
            "".join(json.dumps({"pid": int(n) if n == "1" else n, "passage": t}) + "\n" for n, t in ROWS),
        ],
        ids=["tsv", "jsonl", "bom and crlf", "jsonl.gz", "tsv.gz", "header", "contents", "a number as id"],
    )
    def test_every_form(self, tmp_path, content):
        path = write(tmp_path / "corpus", content)
        assert list(iter_documents(path)) == ROWS
        assert read_texts(path) == dict(ROWS)

    def test_a_title_goes_in_front(self, tmp_path):
        rows = [{"_id": "1", "title": "Cats ", "text": "They purr."}, {"_id": "2", "title": "Dogs", "text": ""}]
        rows += [{"_id": "3", "title": None, "text": "Cows."}, {"_id": "4", "title": " ", "text": "Bees."}]
        path = write(tmp_path / "corpus.jsonl", "".join(map("{}\n".format, map(json.dumps, rows))))
        assert [text for _, text in iter_documents(path)] == ["Cats They purr.", "Dogs ", "Cows.", "Bees."]

    def test_only_the_wanted(self, tmp_path):
        assert read_texts(write(tmp_path / "a", TSV), ["2", "007", "absent"]) == {"007": ROWS[0][1], "2": "NA"}

    @pytest.mark.parametrize(
        ("start", "line", "message"),
        [
            (TSV, "3", r"1 columns, expected 2 \(id, text\): '3'"),
            (TSV, "3\ta\tb", r"3 columns, expected 2 \(id, text\)"),
            (TSV, "3\t ", r"the text is empty"),
            (TSV, "\ttext", r"the id is empty"),
            (JSONL, '{"_id": "3"', r"not JSON \(.*\): '\{\"_id\": \"3\"'"),
            (JSONL, '["3", "text"]', r"expected a JSON object"),
            (JSONL, '{"_id": "3", "body": "text"}', r"expected an id .* and a text .*got the columns _id, body"),
            (JSONL, '{"_id": "3", "text": ""}', r"the text of id '3' is empty"),
            (JSONL, '{"_id": "3", "text": null}', r"id '3', text: the text is missing"),
            (JSONL, '{"_id": "3", "text": "a", "title": 7}', r"id '3', title: expected a string, got int"),
            (JSONL, '{"_id": true, "text": "a"}', r"the id is True; expected a string"),
            (JSONL, '{"_id": "", "text": "a"}', r"the id is ''; expected a string"),
        ],
    )
    def test_malformed_lines(self, tmp_path, start, line, message):
        path = write(tmp_path / "corpus.txt", f"{start}{line}\n4\tfour\n" if start is TSV else f"{start}{line}\n")
        with pytest.raises(DataError, match=rf"corpus\.txt, line 4: {message}.*malformed=\"count\""):
            list(iter_documents(path))
        with pytest.warns(
            UserWarning, match=rf"corpus\.txt: malformed lines left out: 1 \(line 4: {message}"
        ) as caught:
            found = list(iter_documents(path, malformed="count"))
        assert found == ROWS + [("4", "four")] * (start is TSV)
        assert caught[0].filename == __file__

    def test_an_id_that_is_there_twice(self, tmp_path):
        path = write(tmp_path / "a.tsv", TSV + "007\tagain\n")
        with pytest.raises(DataError, match=r"a\.tsv, line 4: the id '007' is there a second time"):
            read_texts(path)
        with pytest.warns(UserWarning, match="the id '007' is there a second time"):
            assert read_texts(path, malformed="count") == dict(ROWS)
        assert read_texts(path, ["1"]) == {"1": ROWS[1][1]}
        assert len(list(iter_documents(path))) == 4

    def test_a_wrong_argument_is_seen_at_once(self, tmp_path):
        for function in (iter_documents, iter_triples, iter_top1000, read_texts):
            with pytest.raises(ValueError, match="malformed must be one of error, count; got 'skip'"):
                function(write(tmp_path / "a", TSV), malformed="skip")

    @pytest.mark.parametrize("place", [0, 2, 3])
    @pytest.mark.parametrize(("form", "line"), [(TSV, b"9\tcaf\xe9\n"), (JSONL, b'{"_id": "9", "text": "caf\xe9"}\n')])
    def test_a_line_that_is_not_in_the_encoding_is_malformed(self, tmp_path, form, line, place):
        lines = form.encode().splitlines(keepends=True)
        path = write(tmp_path / "corpus", b"".join([*lines[:place], line, *lines[place:]]))
        message = rf"line {place + 1}: 0xe9 \(byte {line.index(0xE9) + 1}\) is not utf-8"
        with pytest.raises(DataError, match=rf'corpus, {message}.*encoding="latin-1" \(malformed="count" passes over'):
            list(iter_documents(path))
        with pytest.warns(UserWarning, match=rf"corpus: malformed lines left out: 1 \({message}"):
            assert list(iter_documents(path, malformed="count")) == ROWS
        with pytest.warns(UserWarning, match=message):
            assert read_texts(path, malformed="count") == dict(ROWS)

    @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.dictionaries(TEXTS, TEXTS, min_size=1))
    def test_what_is_written_is_what_is_read(self, tmp_path, texts):
        path = write(tmp_path / "a.jsonl", "".join(json.dumps({"_id": k, "text": v}) + "\n" for k, v in texts.items()))
        assert read_texts(path) == texts


class TestTriples:
    def test_texts(self, tmp_path):
        rows = [('"why', "because", "NA"), ("how", "so", "not so")]
        path = write(tmp_path / "triples.train.small.tsv", "".join("\t".join(row) + "\n" for row in rows))
        assert list(iter_triples(path)) == rows
        assert list(iter_triples(write(tmp_path / "a.gz", gzip.compress(path.read_bytes())))) == rows

    def test_ids_and_their_texts(self, tmp_path):
        path = write(tmp_path / "qidpidtriples.tsv", "q1\td1\td2\nq2\td2\td1\n")
        assert list(iter_triples(path)) == [("q1", "d1", "d2"), ("q2", "d2", "d1")]
        queries, documents = {"q1": "why", "q2": "how"}, {"d1": "because", "d2": "so"}
        assert list(iter_triples(path, queries, documents)) == [("why", "because", "so"), ("how", "so", "because")]
        assert next(iter_triples(path, documents=documents)) == ("q1", "because", "so")
        with pytest.raises(DataError, match=r"tsv, line 2: no query 'q2' among the 1 texts given"):
            list(iter_triples(path, {"q1": "why"}, documents))
        with (
            pytest.warns(UserWarning, match=r"left out: 2 \(line 1: no document 'd2'.*; line 2: no document 'd2'"),
        ):
            assert list(iter_triples(path, queries, {"d1": "because"}, malformed="count")) == []

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("q\tp", r"2 columns, expected 3 \(query, positive, negative\): 'q\\tp'"),
            ("q\tp\tn\tm", r"4 columns, expected 3"),
            ("q\t\tn", r"the positive is empty"),
            ("q\tp\t ", r"the negative is empty"),
        ],
    )
    def test_malformed_lines(self, tmp_path, line, message):
        path = write(tmp_path / "t.tsv", f"a\tb\tc\n{line}\nd\te\tf\n")
        with pytest.raises(DataError, match=rf"t\.tsv, line 2: {message}"):
            list(iter_triples(path))
        with pytest.warns(UserWarning, match=rf"left out: 1 \(line 2: {message}"):
            assert list(iter_triples(path, malformed="count")) == [("a", "b", "c"), ("d", "e", "f")]

    @pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"", mtime=0)])
    def test_a_file_without_lines(self, tmp_path, content):
        path = write(tmp_path / "t.tsv", content)
        for function in (iter_triples, iter_top1000, iter_documents, read_texts):
            with pytest.raises(DataError, match=r"t\.tsv: the file has no lines"):
                list(function(path))

    def test_what_was_left_out_is_also_said_where_reading_stops_early(self, tmp_path):
        path = write(tmp_path / "t.tsv", "bad\na\tb\tc\nbad\n")
        rows = iter_triples(path, malformed="count")
        assert next(rows) == ("a", "b", "c")
        with pytest.warns(UserWarning, match=r"left out: 1 \(line 1: 1 columns"):
            rows.close()

    def test_memory_stays_flat(self, tmp_path):
        """Reading 20 times as many rows takes no more memory."""

        def peak(rows):
            path = tmp_path / f"{rows}.tsv"
            with open(path, "w") as file:
                file.writelines(f"query {i}\t{'positive ' * 20}\t{'negative ' * 20}\n" for i in range(rows))
            tracemalloc.start()
            try:
                count = sum(1 for _ in iter_triples(path))
                return count, tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        (few, small), (many, large) = peak(1000), peak(20_000)
        assert (few, many) == (1000, 20_000)
        assert large < 1.2 * small + 50_000


class TestTop1000:
    def test_rows(self, tmp_path):
        path = write(tmp_path / "top1000.dev", "188714\t1000052\tfoods to eat\tWatch out for salt\n7\t8\tq\tp\n")
        first, second = iter_top1000(path)
        assert first == ("188714", "1000052", "foods to eat", "Watch out for salt")
        assert (second.query_id, second.document_id, second.query, second.document) == ("7", "8", "q", "p")

    def test_malformed_lines(self, tmp_path):
        path = write(tmp_path / "top1000.dev", "7\t8\tq\tp\n7\t8\tq\n7\t8\tq\t\n")
        with pytest.raises(DataError, match=r"line 2: 3 columns, expected 4 \(query id, passage id, query, passage\)"):
            list(iter_top1000(path))
        with pytest.warns(UserWarning, match=r"left out: 2 \(line 2: 3 columns.*; line 3: the passage is empty"):
            assert len(list(iter_top1000(path, malformed="count"))) == 1

    def test_a_stream_that_is_not_read_to_its_end_says_nothing(self, tmp_path):
        path = write(tmp_path / "top1000.dev", "7\t8\tq\tp\n" * 3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(list(itertools.islice(iter_top1000(path, malformed="count"), 2))) == 2
