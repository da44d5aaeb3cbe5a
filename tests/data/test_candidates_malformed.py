"""What cannot be used of a file of candidates is named by file and line, or counted."""

from __future__ import annotations

import pytest
from small import groups

from crossenc_kit.data.candidates import read_candidates
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl

QUERIES = {"1": "why", "2": "how"}
DOCUMENTS = {"10": "because", "11": "so", "12": "NA"}


class TestMalformed:
    """What cannot be used of a file is named by file and line; or counted, and the rest is as without it."""

    def check(self, path, good, message, **options):
        with pytest.raises(DataError, match=rf"{path.name}, {message}.*malformed=\"count\""):
            read_candidates(path, **options)
        pairs = read_candidates(path, malformed="count", **options)
        assert groups(pairs) == good
        assert pairs.notes[1].startswith(f"{path.name}: malformed ")
        return pairs.notes[1]

    def test_a_row_after_a_blank_line(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text('{"query": "p", "passage": "a", "qid": 1}\n\n{"query": "q"}\n{"query": "r", "passage": "b"}\n')
        note = self.check(
            path, [("p", {"a": None}), ("r", {"b": None})], "line 3: column 'passage': the text is missing"
        )
        assert note.startswith("a.jsonl: malformed lines left out: 1 (line 3: column 'passage': the text is missing")
        assert read_candidates(path, malformed="count").tags == {"qid": [1, None]}

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (b'{"query": "q"', "not JSON"),
            (b'{"query": "q", "passage": "caf\xe9", "label": 1}', r"0xe9 \(byte 31\) is not utf-8"),
            (b'{"query": " ", "passage": "c", "label": 1}', "column 'query': the query is blank"),
            (b'{"query": "q", "passage": "c", "label": "x"}', "column 'label': the label is the string 'x'"),
            (b'{"query": "q", "passage": "c", "label": [1, 0]}', "2 labels a pair, in the rows before 1"),
            (b'{"query": "q", "passage": "c"}', "there is no label, and other rows have one"),
            (b"{}", "there is no label, and other rows have one"),
        ],
    )
    @pytest.mark.parametrize("place", [0, 1])
    def test_lines(self, tmp_path, line, message, place):
        lines = [b'{"query": "why", "passage": "a", "label": 1}', b'{"query": "why", "passage": "b", "label": 0}']
        lines.insert(place if b"[1, 0]" not in line else 2, line)
        (tmp_path / "train.jsonl").write_bytes(b"\n".join(lines))
        self.check(tmp_path / "train.jsonl", [("why", {"a": 1, "b": 0})], f"line {lines.index(line) + 1}: {message}")

    def test_columns_of_a_tsv_file(self, tmp_path):
        path = tmp_path / "a.tsv"
        path.write_text("query\tpassage\tlabel\nwhy\ta\nwhy\tb\t0.5\n")
        self.check(path, [("why", {"b": 0.5})], r"line 2: 2 columns, expected 3 \(query, passage, label\)")

    def test_one_margin_that_is_missing_does_not_change_the_others(self, tmp_path):
        good = {"query": "q", "positive": "a", "negative": "b", "score": 2.0}
        path = write_jsonl(tmp_path / "a.jsonl", [good, {**good, "negative": None}, {**good, "score": None}])
        note = self.check(path, [("q", {"a": 2.0, "b": 0.0})], "line 2: column 'negative': the text is missing")
        assert "malformed lines left out: 2" in note

    def test_ids_without_a_text(self, tmp_path):
        rows = [{"query_id": "1", "passage_id": name, "label": 1} for name in ("10", "99", None)]
        path = write_jsonl(tmp_path / "a.jsonl", rows)
        texts = {"queries": QUERIES, "documents": DOCUMENTS}
        pairs = read_candidates(path, malformed="count", **texts)
        assert groups(pairs) == [("why", {"because": 1})]
        assert (
            "(line 2: column 'passage_id': no text of id '99'; line 3: column 'passage_id': the id is missing)"
            in (pairs.notes[1])
        )
        path = write_jsonl(path, [rows[0], rows[2]])
        self.check(path, [("why", {"because": 1})], "line 2: column 'passage_id': the id is missing", **texts)

    def test_nothing_is_left(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", [{"query": " ", "passage": "a"}])
        with pytest.raises(DataError, match=r"a\.jsonl: no line can be used; a\.jsonl: malformed lines left out: 1"):
            read_candidates(path, malformed="count")
        path = write_jsonl(path, [{"query": "q", "passage_id": "9"}])
        with pytest.raises(DataError, match=r"a\.jsonl: no line can be used"):
            read_candidates(path, malformed="count", documents=DOCUMENTS)
        path.write_text("broken\n{}\n")
        with pytest.raises(ValueError, match="malformed must be one of error, count; got 'skip'"):
            read_candidates(path, malformed="skip")

    def test_parquet(self, tmp_path):
        table = pytest.importorskip("pyarrow").table
        import pyarrow.parquet

        columns = {"query": ["why", "how", "why"], "docs": [["a", "b"], None, ["c"]], "labels": [[1, 0], [1], [0]]}
        pyarrow.parquet.write_table(table(columns), tmp_path / "train.parquet")
        good = [("why", {"a": 1, "b": 0, "c": 0})]
        self.check(tmp_path / "train.parquet", good, "row 1: column 'docs': the text is missing")
        assert groups(read_candidates(tmp_path, malformed="count")) == good
        with pytest.raises(DataError, match=r"no file or folder .*none\.parquet"):
            read_candidates(tmp_path / "none.parquet")
