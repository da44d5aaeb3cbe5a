"""Pairs read from files of any columns."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import write

from crossenc_kit.data.pair_files import read_pairs
from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.data.tables import parquet_bytes
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl


class TestReadPairs:
    @pytest.mark.parametrize(
        "content",
        [
            '{"id": "1", "left": "a", "right": "b, \\"c\\"", "label": 1}\n'
            '{"id": "2", "left": "d", "right": "e", "label": 0}\n',
            'id\tleft\tright\tlabel\n1\ta\tb, "c"\t1\n2\td\te\t0\n',
            'id,left,right,label\n1,a,"b, ""c""",1\n2,d,e,0\n',
        ],
        ids=["jsonl", "tsv", "csv"],
    )
    @pytest.mark.parametrize("zipped", [False, True])
    def test_every_form(self, tmp_path, content, zipped):
        path = write(tmp_path / "pairs.data", gzip.compress(content.encode()) if zipped else content)
        pairs = read_pairs(path)
        assert pairs.texts == [("a", 'b, "c"'), ("d", "e")]
        assert pairs.labels.tolist() == [1, 0]
        assert pairs.labels.dtype == np.int64
        assert pairs.tags == {"id": ["1", "2"]}
        assert pairs.notes == ("texts from columns 'left' and 'right' of pairs.data", "labels from column 'label'")

    def test_parquet(self, tmp_path):
        pytest.importorskip("pyarrow")
        columns = {"id": ["1", "2"], "left": ["a", "d"], "right": ['b, "c"', None], "label": [1, 0]}
        path = write(tmp_path / "pairs.data", parquet_bytes({name: (own, None) for name, own in columns.items()}))
        with pytest.raises(DataError, match=r"pairs\.data, row 1, column 'right': the text is missing"):
            read_pairs(path)
        columns["right"][1] = "e"
        write(path, parquet_bytes({name: (own, None) for name, own in columns.items()}))
        pairs = read_pairs(path)
        assert (pairs.texts, pairs.labels.tolist()) == ([("a", 'b, "c"'), ("d", "e")], [1, 0])
        assert pairs.tags == {"id": ["1", "2"]}

    @pytest.mark.parametrize(
        ("header", "chosen"),
        [
            ("idx\tour side\ttheir side", ("our side", "their side")),
            ("qid1\tqid2\tquestion1\tquestion2", ("question1", "question2")),
            ("genre\tpremise\thypothesis", ("premise", "hypothesis")),
            ("score\tlabel\ta\tb", ("a", "b")),
            ("document\tquery", ("query", "document")),
        ],
    )
    def test_which_columns(self, tmp_path, header, chosen):
        names = header.split("\t")
        path = write(tmp_path / "a.tsv", header + "\n" + "\t".join("1" for _ in names) + "\n")
        assert f"texts from columns {chosen[0]!r} and {chosen[1]!r}" in read_pairs(path).notes[0]

    def test_named_columns(self, tmp_path):
        path = write(tmp_path / "a.tsv", "sentence1\tsentence2\tid\na\tb\tc\n")
        assert read_pairs(path, columns=["id", "sentence1"]).texts == [("c", "a")]
        for columns in (["id"], ["id", "text"], "id", ["id", "sentence1", "sentence2"]):
            with pytest.raises(DataError, match="expected two of sentence1, sentence2, id"):
                read_pairs(path, columns=columns)

    def test_numbers_in_json_are_no_texts(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", [{"year": 2015, "a": "x", "weight": 0.5, "b": "y"}])
        assert read_pairs(path).texts == [("x", "y")]

    def test_one_text_column(self, tmp_path):
        with pytest.raises(DataError, match=r"a pair needs two text columns; found \['text'\] among text, label"):
            read_pairs(write(tmp_path / "a.tsv", "text\tlabel\na\t1\n"))

    @pytest.mark.parametrize(
        ("first", "second", "named"),
        [
            ("A cat sleeps.\tA cat naps.", "It rains.\tIt pours.", r"'A cat sleeps\.'"),
            ("what is a kettle\tkettles boil water", "cats\tdogs", "'what is a kettle'"),
        ],
    )
    def test_a_file_without_a_header(self, tmp_path, first, second, named):
        path = write(tmp_path / "a.tsv", f"{first}\n{second}\n")
        with pytest.raises(DataError, match=rf"a\.tsv, line 1: {named} looks like a text, not the name"):
            read_pairs(path)

    def test_no_rows(self, tmp_path):
        for content in ("", "left\tright\n"):
            with pytest.raises(DataError, match="has no rows"):
                read_pairs(write(tmp_path / "a.tsv", content))

    def test_labels(self, tmp_path):
        def labels(*values):
            rows = [{"left": "a", "right": "b", "label": value} for value in values]
            return read_pairs(write_jsonl(tmp_path / "a.jsonl", rows)).labels

        assert labels(0.5, 1).tolist() == [0.5, 1.0]
        assert labels(0.5, 1).dtype == np.float32
        assert labels([1, 0, 0], [0, 0, 1]).shape == (2, 3)
        with pytest.raises(
            DataError, match=r"a\.jsonl, line 2, column 'label': the rows before it have another number"
        ):
            labels([1, 0], [1])
        with pytest.raises(DataError, match=r"a\.jsonl, line 2, column 'label': the label is None"):
            labels(1, None)
        with pytest.raises(DataError, match=r"a\.jsonl, line 2, column 'label': expected a number, got 'neutral'"):
            labels(1, "neutral")

    def test_names_as_labels_are_a_tag(self, tmp_path):
        rows = [{"premise": "a", "hypothesis": "b", "label": name} for name in ("entailment", "-")]
        pairs = read_pairs(write_jsonl(tmp_path / "a.jsonl", rows))
        assert pairs.labels is None
        assert pairs.tags == {"label": ["entailment", "-"]}
        assert "'label' holds names, not numbers: kept as a tag" in pairs.notes

    def test_a_second_target_is_a_tag(self, tmp_path):
        pairs = read_pairs(write_jsonl(tmp_path / "a.jsonl", [{"left": "a", "right": "b", "score": 0.3, "label": 1}]))
        assert pairs.labels.tolist() == [1]
        assert pairs.tags == {"score": [0.3]}

    @settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.text(), st.text(), st.integers(0, 5)), min_size=1))
    def test_what_is_written_is_what_is_read(self, tmp_path, rows):
        path = write_jsonl(tmp_path / "a.jsonl", [{"left": a, "right": b, "label": n} for a, b, n in rows])
        assert read_pairs(path).fingerprint() == as_pairs(rows).fingerprint()
