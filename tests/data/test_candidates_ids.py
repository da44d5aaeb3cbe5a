"""Candidates given by ids of queries and documents, and rows of one query joined."""

from __future__ import annotations

import datasets
import pytest
from candidate_rows import DOCUMENTS, MS_MARCO, QUERIES, groups

from crossenc_kit.data.candidates import join_queries, read_candidates, triples_as_pairs
from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.data.ranking import iter_documents, iter_triples
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl


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
