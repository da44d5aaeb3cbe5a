"""Rows of queries and candidates in the forms of the hub become groups, with labels, one a query."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from crossenc_kit.candidates import join_queries, read_candidates, triples_as_pairs
from crossenc_kit.pairs import DataError, as_pairs
from crossenc_kit.tables import write_jsonl
from crossenc_kit.text_streams import iter_documents, iter_triples

QUERIES = {"1": "why", "2": "how"}
DOCUMENTS = {"10": "because", "11": "so", "12": "NA"}
MS_MARCO = [
    {
        "answers": ["yes"],
        "passages": {"is_selected": [0, 1, 0], "passage_text": ["a", "b", "c"], "url": ["u", "v", "w"]},
        "query": "q one",
        "query_id": 1185869,
        "query_type": "DESCRIPTION",
        "wellFormedAnswers": [],
    },
    {
        "answers": ["No Answer Present."],
        "passages": {"is_selected": [0, 0], "passage_text": ["d", "e"], "url": ["x", "y"]},
        "query": "q two",
        "query_id": 2,
        "query_type": "NUMERIC",
        "wellFormedAnswers": [],
    },
    {
        "answers": ["7"],
        "passages": {"is_selected": [1], "passage_text": ["f"], "url": ["z"]},
        "query": "q three",
        "query_id": 3,
        "query_type": "NUMERIC",
        "wellFormedAnswers": [],
    },
]


def groups(pairs):
    labels = [None] * pairs.num_pairs if pairs.labels is None else pairs.labels.tolist()
    found = []
    for start, stop in zip(pairs.offsets[:-1], pairs.offsets[1:], strict=True):
        assert len(set(pairs.left[start:stop])) == 1
        found.append((pairs.left[start], dict(zip(pairs.right[start:stop], labels[start:stop], strict=True))))
    return found


class TestMsMarco:
    def test_passages(self):
        pairs = read_candidates(datasets.Dataset.from_list(MS_MARCO))
        assert groups(pairs) == [("q one", {"a": 0, "b": 1, "c": 0}), ("q three", {"f": 1})]
        assert pairs.labels.dtype == np.int64
        assert pairs.tags == {"query_id": [1185869, 3], "query_type": ["DESCRIPTION", "NUMERIC"]}
        assert pairs.notes == ("from the data set given", "queries without a selected passage left out: 1 (2)")

    def test_passages_as_a_list_of_dicts(self):
        listed = []
        for row in MS_MARCO:
            cells = zip(*row["passages"].values(), strict=True)
            listed.append({**row, "passages": [dict(zip(row["passages"], cell, strict=True)) for cell in cells]})
        assert listed[2]["passages"] == [{"is_selected": 1, "passage_text": "f", "url": "z"}]
        assert groups(read_candidates(listed)) == groups(read_candidates(MS_MARCO))

    def test_the_hub(self, monkeypatch):
        asked = []

        def load(name, config=None):
            asked.append((name, config))
            return datasets.DatasetDict({"validation": datasets.Dataset.from_list(MS_MARCO)})

        monkeypatch.setattr(datasets, "load_dataset", load)
        pairs = read_candidates("microsoft/ms_marco", "dev", config="v2.1")
        assert asked == [("microsoft/ms_marco", "v2.1")]
        assert len(pairs) == 2
        assert pairs.notes[0] == "from microsoft/ms_marco"

    def test_what_cannot_be_used(self):
        uneven = {**MS_MARCO[0], "passages": {"is_selected": [1], "passage_text": ["a", "b"]}}
        with pytest.raises(
            DataError, match=r"the data set given, row 1: column 'passages': 2 passage_text, 1 is_selected"
        ):
            read_candidates([MS_MARCO[0], uneven])
        with pytest.raises(DataError, match=r"none of the 1 queries has a selected passage"):
            read_candidates([MS_MARCO[1]])
        with pytest.raises(DataError, match=r"row 0: column 'query': the text is missing"):
            read_candidates([{**MS_MARCO[0], "query": None}])
        for passages in (None, "a", ["a"]):
            with pytest.raises(DataError, match=r"row 1: column 'passages': expected passage_text and is_selected"):
                read_candidates([MS_MARCO[0], {"query": "q", "passages": passages}])
        pairs = read_candidates([{"query": "q", "passages": None}, uneven, *MS_MARCO], malformed="count")
        assert groups(pairs) == groups(read_candidates(MS_MARCO))
        assert pairs.notes[1].startswith("the data set given: malformed rows left out: 2 (row 0: column 'passages': ")


class TestSentenceTransformers:
    def test_triplets(self):
        data = datasets.Dataset.from_dict({"query": ["why", "how"], "positive": ["a", "b"], "negative": ["c", "d"]})
        assert groups(read_candidates(data)) == [("why", {"a": 1, "c": 0}), ("how", {"b": 1, "d": 0})]

    def test_many_negatives(self):
        names = ["query", "positive", *(f"negative_{i}" for i in range(1, 6))]
        pairs = read_candidates(datasets.Dataset.from_dict({name: [name] for name in names}))
        assert groups(pairs) == [("query", dict.fromkeys(names[2:], 0) | {"positive": 1})]

    @pytest.mark.parametrize("target", ["score", "label"])
    def test_scored_passages_are_grouped_by_query(self, target):
        columns = {"query": ["why", "how", "why"], "passage": ["a", "b", "c"], target: [0.5, 1.0, 0.25]}
        data = datasets.Dataset.from_dict(columns)
        pairs = read_candidates(data)
        assert groups(pairs) == [("why", {"a": 0.5, "c": 0.25}), ("how", {"b": 1.0})]
        assert pairs.notes[1:] == ("3 rows joined to 2 queries",)
        alone = read_candidates(data, by_query=False)
        assert alone.is_pointwise
        assert alone.fingerprint() == as_pairs(data).fingerprint()

    def test_a_labelled_list(self):
        data = datasets.Dataset.from_dict({"query": ["why"], "docs": [["a", "b", "c"]], "labels": [[0, 1, 0]]})
        assert groups(read_candidates(data)) == [("why", {"a": 0, "b": 1, "c": 0})]
        assert groups(read_candidates(data, depth=2)) == [("why", {"a": 0, "b": 1})]
        unlabelled = read_candidates(data.remove_columns("labels"))
        assert unlabelled.labels is None
        assert groups(unlabelled) == [("why", {"a": None, "b": None, "c": None})]

    def test_margins(self):
        rows = {"query": ["why", "why"], "positive": ["a", "a"], "negative": ["b", "c"], "score": [4.0, -1.5]}
        pairs = read_candidates(datasets.Dataset.from_dict(rows))
        assert groups(pairs) == [("why", {"a": 4.0, "b": 0.0}), ("why", {"a": -1.5, "c": 0.0})]  # not joined
        assert "scores are margins: labels are (score, 0)" in pairs.notes

    def test_two_labels_of_a_triplet_are_no_margin(self):
        pairs = read_candidates([{"query": "why", "positive": "a", "negative": "b", "scores": [0.75, 0.25]}])
        assert groups(pairs) == [("why", {"a": 0.75, "b": 0.25})]


class TestIds:
    TRIPLETS = datasets.Dataset.from_dict(
        {"query_id": ["1", "2"], "positive_id": ["10", "11"], "negative_id": ["11", "12"]}
    )
    EXPECTED = (("why", {"because": 1, "so": 0}), ("how", {"so": 1, "NA": 0}))

    def test_texts_from_mappings(self):
        assert tuple(groups(read_candidates(self.TRIPLETS, queries=QUERIES, documents=DOCUMENTS))) == self.EXPECTED

    def test_texts_from_data_sets_and_streams(self, tmp_path):
        queries = datasets.Dataset.from_dict({"query_id": list(QUERIES), "query": list(QUERIES.values())})
        path = tmp_path / "collection.tsv"
        path.write_text("".join(f"{name}\t{text}\n" for name, text in DOCUMENTS.items()))
        pairs = read_candidates(self.TRIPLETS, queries=queries, documents=iter_documents(path))
        assert tuple(groups(pairs)) == self.EXPECTED

    def test_lists_scores_and_margins_of_ids(self):
        texts = {"queries": QUERIES, "documents": DOCUMENTS}
        rows = [{"query_id": 1, "doc_ids": [10, 12], "labels": [1, 0]}]
        assert groups(read_candidates(rows, **texts)) == [("why", {"because": 1, "NA": 0})]
        rows = [
            {"query_id": "1", "passage_id": "10", "score": 0.5},
            {"query_id": "1", "passage_id": "11", "score": 0.25},
        ]
        assert groups(read_candidates(rows, **texts)) == [("why", {"because": 0.5, "so": 0.25})]
        rows = [{"query_id": "2", "positive_id": "10", "negative_id": "11", "score": 3.5}]
        assert groups(read_candidates(rows, **texts)) == [("how", {"because": 3.5, "so": 0.0})]
        rows = [{"query": "when", "query_id": 7, "doc_ids": ["10"], "labels": [1]}]
        pairs = read_candidates(rows, documents=DOCUMENTS)
        assert (groups(pairs), pairs.tags) == ([("when", {"because": 1})], {"query_id": [7]})

    def test_ids_without_texts(self):
        with pytest.raises(DataError, match=r"the columns query_id hold ids; give the texts as queries=\{id: text\}"):
            read_candidates(self.TRIPLETS)
        with pytest.raises(DataError, match=r"the columns positive_id, negative_id hold ids; .*documents=\{id: text\}"):
            read_candidates(self.TRIPLETS, queries=QUERIES)
        with pytest.raises(DataError, match=r"1 of 3 ids are not among the documents given: '12'"):
            read_candidates(self.TRIPLETS, queries=QUERIES, documents={"10": "a", "11": "b"})

    def test_ids_that_are_numbers_are_those_of_the_texts(self):
        texts = {"queries": {1: "why", 2: "how"}, "documents": {int(name): text for name, text in DOCUMENTS.items()}}
        assert tuple(groups(read_candidates(self.TRIPLETS, **texts))) == self.EXPECTED
        rows = [{"query_id": 1, "doc_ids": [10, "12"], "labels": [1, 0]}]
        assert groups(read_candidates(rows, **texts)) == [("why", {"because": 1, "NA": 0})]

    @pytest.mark.parametrize("kind", [int, str])
    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            ({}, [("why", {"because": 1, "so": 0, "NA": 0})]),
            ({"score": 2.5}, None),
            ({"score": [3.0, 2.0, 1.0]}, [("why", {"because": 3.0, "so": 2.0, "NA": 1.0})]),
        ],
    )
    def test_ids_in_columns_with_the_names_of_texts(self, tmp_path, kind, columns, expected):
        texts = {"queries": QUERIES, "documents": DOCUMENTS}
        ids = {"query": "1", "positive": "10", "negative_1": "11", "negative_2": "12"}
        if expected is None:  # a margin is of one negative
            expected = [("why", {"because": 2.5, "so": 0.0})]
            del ids["negative_2"]
        rows = [{name: kind(cell) for name, cell in ids.items()} | columns]
        path = write_jsonl(tmp_path / "train.jsonl", rows)
        for source in (datasets.Dataset.from_list(rows), rows, path):
            assert groups(read_candidates(source, **texts)) == expected
        streamed = {kind: iter(mapping.items()) for kind, mapping in texts.items()}
        assert groups(read_candidates(path, **streamed)) == expected

    @pytest.mark.parametrize("kind", [int, str])
    def test_an_id_without_a_text_among_those_in_columns_of_texts(self, kind):
        rows = [{"query": kind(1), "positive": kind(10), "negative": kind(99)}]
        with pytest.raises(DataError, match=r"1 of 2 ids are not among the documents given: '99'"):
            read_candidates(rows, queries=QUERIES, documents=DOCUMENTS)
        rows += [{"query": kind(2), "positive": kind(10), "negative": kind(12)}]
        pairs = read_candidates(rows, queries=QUERIES, documents=DOCUMENTS, malformed="count")
        assert groups(pairs) == [("how", {"because": 1, "NA": 0})]
        assert f"(row 0: column 'negative': no text of id {kind(99)!r})" in pairs.notes[1]

    @pytest.mark.parametrize("names", [("negative_id_1", "negative_id_2"), ("negative_1_id", "negative_2_id")])
    def test_numbered_columns_of_ids(self, names):
        rows = [{"query_id": "1", "positive_id": "10", names[0]: "11", names[1]: "12"}]
        pairs = read_candidates(rows, queries=QUERIES, documents=DOCUMENTS)
        assert groups(pairs) == [("why", {"because": 1, "so": 0, "NA": 0})]

    def test_texts_that_no_column_has_ids_of(self):
        row = {"query": "why", "positive": "a", "negative": "b"}
        message = r"the data set given: queries= is given, but nothing in the columns query is taken for an id of it"
        for rows in ([row], [{"query_id": "1", **row}], [{**row, "query": None}, row]):
            with pytest.raises(DataError, match=message + r" \(the first is 'why'\); if they hold the texts, leave"):
                read_candidates(rows, queries=QUERIES)
        with pytest.raises(DataError, match="documents= is given, but nothing in the columns positive, negative is"):
            read_candidates([{**row, "query": "1"}], queries=QUERIES, documents=DOCUMENTS)
        with pytest.raises(DataError, match="queries= is given, but nothing in the columns query is"):
            read_candidates(MS_MARCO, queries=QUERIES)

    def test_a_number_beside_ids_is_no_id(self):
        texts = {"queries": {"1": "why", "3": "no"}, "documents": {"10": "because", "3": "no"}}
        with pytest.raises(DataError, match=r"queries= is given, .* columns rank is taken .* \(the first is '3'\)"):
            read_candidates([{"query_id": "1", "rank": 3, "passage_id": "10"}], **texts)
        with pytest.raises(DataError, match=r"documents= is given, .* columns rank is taken"):
            read_candidates([{"query": "why", "rank": 3, "passage_id": 10}], documents=texts["documents"])
        with pytest.raises(DataError, match="row 0: column 'rank': expected a string, got int '3'"):
            read_candidates([{"query": "1", "rank": 3, "passage": "10"}], **texts)
        rows = [{"idx": 5, "query": 1, "passage": 10}]
        pairs = read_candidates(rows, columns=["query", "passage"], **texts)
        assert (groups(pairs), pairs.tags) == ([("why", {"because": None})], {"idx": [5]})

    def test_whole_numbers_without_texts(self):
        rows = [{"query": 1, "positive": 10, "negative": 11}]
        message = (
            r"the columns query hold whole numbers; give the texts as queries=\{id: text\}; if they are texts, use"
        )
        with pytest.raises(DataError, match=message):
            read_candidates(rows)
        with pytest.raises(
            DataError, match=r"the columns positive, negative hold whole numbers; give .* as documents="
        ):
            read_candidates(rows, queries=QUERIES)

    def test_an_id_that_has_two_texts(self):
        rows = [("10", "because"), ("11", "so"), ("12", "NA"), ("9", "a"), ("9", "b")]  # nobody asks for 9
        for again in (rows, [*rows, ("11", "so")]):
            assert tuple(groups(read_candidates(self.TRIPLETS, queries=QUERIES, documents=again))) == self.EXPECTED
        message = "the id '11' is there a second time, with another text, among the documents given"
        for documents in ([*rows, ("11", "zz")], dict(rows) | {11: "zz"}):
            with pytest.raises(DataError, match=message):
                read_candidates(self.TRIPLETS, queries=QUERIES, documents=documents)


class TestRows:
    def test_ids_beside_texts_are_tags(self):
        rows = [{"qid": "1", "query": "why", "positive": "a", "negative": "b", "negative_ids": ["9"], "url": "u"}]
        pairs = read_candidates(rows)
        assert groups(pairs) == [("why", {"a": 1, "b": 0})]
        assert pairs.tags == {"qid": ["1"], "negative_ids": [["9"]], "url": ["u"]}

    def test_named_columns(self):
        rows = [{"lang": "en", "question": "why", "text": "a", "label": 1}]
        pairs = read_candidates(rows, columns=["question", "text"])
        assert (groups(pairs), pairs.tags) == ([("why", {"a": 1})], {"lang": ["en"]})
        for columns in (["question"], ["question", "body"], "question"):
            with pytest.raises(DataError, match=r"columns is .*; expected two or more of lang, question, text, label"):
                read_candidates(rows, columns=columns)
        with pytest.raises(DataError, match=r"no query with documents in the columns query, label; name them"):
            read_candidates([{"query": "why", "label": 1}])

    def test_files(self, tmp_path):
        rows = [{"query": "why", "passage": "a", "label": 1}, {"query": "why", "passage": "b", "label": 0}]
        path = write_jsonl(tmp_path / "train.jsonl", rows)
        assert groups(read_candidates(path)) == groups(read_candidates(tmp_path)) == [("why", {"a": 1, "b": 0})]
        (tmp_path / "a.tsv").write_text("query\tpassage\tlabel\nwhy\ta\t1\nwhy\tb\t0.5\n")
        assert groups(read_candidates(tmp_path / "a.tsv")) == [("why", {"a": 1, "b": 0.5})]
        (tmp_path / "a.tsv").write_text("query\tpassage\tlabel\nwhy\ta\tyes\n")
        with pytest.raises(DataError, match="the label is the string 'yes'"):
            read_candidates(tmp_path / "a.tsv")

    def test_limit(self):
        data = datasets.Dataset.from_dict({"query": list("abc"), "positive": list("def"), "negative": list("ghi")})
        assert read_candidates(data, limit=2).left == ["a", "a", "b", "b"]
        streamed = read_candidates(data.to_iterable_dataset(), limit=2)
        assert streamed.fingerprint() == read_candidates(data, limit=2).fingerprint()

    def test_blank_texts_and_labels_below_0(self):
        rows = [{"query": "why", "docs": ["a", " ", ""], "labels": [1, -1, -2]}]
        pairs = read_candidates(rows)
        assert pairs.notes[1:] == ("blank documents: 2 (the first of query 'why')", "labels below 0: 2")
        assert read_candidates([{"query": "why", "passage": "a", "score": -2.5}]).notes == ("from the data set given",)
        with pytest.raises(DataError, match="row 1: column 'query': the query is blank"):
            read_candidates([*rows, {"query": " ", "docs": ["a"], "labels": [1]}])

    @pytest.mark.parametrize("option", ["depth", "limit"])
    def test_wrong_arguments(self, option):
        with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
            read_candidates(MS_MARCO, **{option: 0})
        with pytest.raises(ValueError, match=f"{option} is 2.5; expected a whole number"):
            read_candidates(MS_MARCO, **{option: 2.5})
        with pytest.raises(ValueError, match="read_candidates needs a source"):
            read_candidates(None)

    def test_what_cannot_be_used(self):
        with pytest.raises(DataError, match="the data set given: no rows for split 'train'"):
            read_candidates([])
        with pytest.raises(DataError, match=r"row 1: expected named columns, got tuple"):
            read_candidates([{"query": "a", "positive": "b"}, ("c", "d")])
        with pytest.raises(DataError, match=r"row 1: column 'negative': the text is missing"):
            read_candidates([{"query": "a", "positive": "b", "negative": "c"}, {"query": "a", "positive": "b"}])


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
            (b'{"query": "q", "passage": "c", "label": "x"}', "label: the label is the string 'x'"),
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
        with pytest.raises(DataError, match=r"1 of 2 ids are not among the documents given: '99'"):
            read_candidates(path, **texts)
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

    def test_another_encoding(self, tmp_path):
        path = tmp_path / "a.tsv"
        path.write_bytes(b"query\tpassage\nwhy\tcaf\xe9\n")
        assert groups(read_candidates(path, encoding="latin-1")) == [("why", {"caf\xe9": None})]


class TestJoining:
    ROWS = (("why", "a", "b"), ("how", "c", "d"), ("why", "a", "e"), ("why", "b", "f"))

    def test_triples(self):
        pairs = triples_as_pairs(self.ROWS)
        assert groups(pairs) == [("why", {"a": 1, "b": 1, "e": 0, "f": 0}), ("how", {"c": 1, "d": 0})]
        assert pairs.notes == (
            "triples: 4",
            "4 rows joined to 2 queries",
            "documents that a query had more than once left out: 2",
            "documents that had several labels for a query, the highest kept: 1",
        )
        assert triples_as_pairs(self.ROWS, by_query=False).texts == as_pairs(list(self.ROWS)).texts

    def test_a_negative_that_is_its_positive_is_warned_of(self):
        message = r"negative is their positive: 2 of 6 \(the first is row 4\); they teach nothing"
        with pytest.warns(UserWarning, match=message) as caught:
            pairs = triples_as_pairs([*self.ROWS, ("who", "a", "a"), ("who", "b", "b")])
        assert caught[0].filename == __file__
        assert groups(pairs)[2] == ("who", {"a": 1, "b": 1})

    def test_only_the_first_triples_are_read(self, tmp_path):
        path = tmp_path / "triples.tsv"
        path.write_text("why\ta\tb\nhow\tc\td\nbroken\n")
        assert triples_as_pairs(iter_triples(path), 2).right == ["a", "b", "c", "d"]
        with pytest.raises(DataError, match=r"triples\.tsv, line 3: 1 columns, expected 3"):
            triples_as_pairs(iter_triples(path))

    def test_wrong_triples(self):
        with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
            triples_as_pairs(self.ROWS, 0)
        with pytest.raises(DataError, match="there are no triples"):
            triples_as_pairs([])
        with pytest.raises(DataError, match=r"row 1: expected \(query, positive, negative\), got 2 texts"):
            triples_as_pairs([("a", "b", "c"), ("a", "b")])
        with pytest.raises(DataError, match=r"row 0, column 'negative': expected a string, got int"):
            triples_as_pairs([("a", "b", 3)])

    def test_tags_that_differ_are_left_out(self):
        rows = [{"query_id": 1, "pid": i, "query": "why", "passage": text, "label": 0} for i, text in enumerate("ab")]
        pairs = read_candidates(rows)
        assert pairs.tags == {"query_id": [1]}
        assert pairs.notes[-1] == "tags that differ within a query left out: pid"

    def test_nothing_to_join(self):
        pairs = as_pairs(
            [{"query": "why", "docs": ["a", "b"], "labels": [1, 0]}, {"query": "how", "docs": ["a"], "labels": [1]}]
        )
        assert join_queries(pairs).fingerprint() == pairs.fingerprint()
        assert join_queries(pairs).notes == ()

    def test_several_labels_a_pair(self):
        pairs = as_pairs([{"query": "why", "passage": "a", "label": [1, 0]}])
        with pytest.raises(DataError, match="joining needs one label a pair, got 2; use by_query=False"):
            join_queries(pairs)
