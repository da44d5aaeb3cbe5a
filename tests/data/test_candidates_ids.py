"""Candidates given by ids of queries and documents, and rows of one query joined."""

from __future__ import annotations

import datasets
import pytest
from small import groups

from crossenc_kit.data.candidates import join_queries, read_candidates
from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.data.ranking import iter_documents, iter_triples
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl

QUERIES = {"1": "why", "2": "how"}
DOCUMENTS = {"10": "because", "11": "so", "12": "NA"}


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
        pairs = read_candidates(rows, columns=["query", "doc_ids"], documents=DOCUMENTS)
        assert (groups(pairs), pairs.tags) == ([("when", {"because": 1})], {"query_id": [7]})

    def test_ids_without_texts(self):
        with pytest.raises(DataError, match=r"the columns query_id hold ids; give the texts as queries=\{id: text\}"):
            read_candidates(self.TRIPLETS)
        with pytest.raises(DataError, match=r"the columns positive_id, negative_id hold ids; .*documents=\{id: text\}"):
            read_candidates(self.TRIPLETS, queries=QUERIES)
        with pytest.raises(DataError, match=r"row 1: column 'negative_id': no text of id '12'"):
            read_candidates(self.TRIPLETS, queries=QUERIES, documents={"10": "a", "11": "b"})

    def test_ids_that_are_numbers_are_those_of_the_texts(self):
        texts = {"queries": {1: "why", 2: "how"}, "documents": {int(name): text for name, text in DOCUMENTS.items()}}
        assert tuple(groups(read_candidates(self.TRIPLETS, **texts))) == self.EXPECTED
        rows = [{"query_id": 1, "doc_ids": [10, "12"], "labels": [1, 0]}]
        assert groups(read_candidates(rows, **texts)) == [("why", {"because": 1, "NA": 0})]

    @pytest.mark.parametrize("kind", [int, str])
    def test_ids_in_columns_with_the_names_of_texts(self, tmp_path, kind):
        texts = {"queries": QUERIES, "documents": DOCUMENTS}
        ids = {"query": "1", "positive": "10", "negative_1": "11", "negative_2": "12"}
        rows = [{name: kind(cell) for name, cell in ids.items()}]
        path = write_jsonl(tmp_path / "train.jsonl", rows)
        for source in (datasets.Dataset.from_list(rows), rows, path):
            assert groups(read_candidates(source, **texts)) == [("why", {"because": 1, "so": 0, "NA": 0})]
        streamed = {kind: iter(mapping.items()) for kind, mapping in texts.items()}
        assert groups(read_candidates(path, **streamed)) == [("why", {"because": 1, "so": 0, "NA": 0})]
        rows[0]["score"] = [3.0, 2.0, 1.0]
        assert groups(read_candidates(rows, **texts)) == [("why", {"because": 3.0, "so": 2.0, "NA": 1.0})]

    @pytest.mark.parametrize("kind", [int, str])
    def test_an_id_without_a_text(self, kind):
        rows = [{"query": kind(1), "positive": kind(10), "negative": kind(99)}]
        message = f"row 0: column 'negative': no text of id {kind(99)!r}"
        with pytest.raises(DataError, match=message):
            read_candidates(rows, queries=QUERIES, documents=DOCUMENTS)
        rows += [{"query": kind(2), "positive": kind(10), "negative": kind(12)}]
        pairs = read_candidates(rows, queries=QUERIES, documents=DOCUMENTS, malformed="count")
        assert groups(pairs) == [("how", {"because": 1, "NA": 0})]
        assert f"({message})" in pairs.notes[1]

    @pytest.mark.parametrize("names", [("negative_id_1", "negative_id_2"), ("negative_1_id", "negative_2_id")])
    def test_numbered_columns_of_ids(self, names):
        rows = [{"query_id": "1", "positive_id": "10", names[0]: "11", names[1]: "12"}]
        pairs = read_candidates(rows, queries=QUERIES, documents=DOCUMENTS)
        assert groups(pairs) == [("why", {"because": 1, "so": 0, "NA": 0})]

    def test_texts_where_ids_should_be_and_ids_where_texts_should_be(self):
        with pytest.raises(DataError, match="row 0: column 'query': no text of id 'why'"):
            read_candidates([{"query": "why", "positive": "a", "negative": "b"}], queries=QUERIES)
        with pytest.raises(DataError, match="row 0: column 'query': expected a string, got int '1'"):
            read_candidates([{"query": 1, "positive": 10, "negative": 11}])
        with pytest.raises(DataError, match="row 0: column 'rank': no text of id 3"):
            read_candidates([{"query": "1", "rank": 3, "passage": "10"}], queries=QUERIES, documents=DOCUMENTS)
        rows = [{"idx": 5, "rank": 3, "query": 1, "passage": 10}]
        pairs = read_candidates(rows, columns=["query", "passage"], queries=QUERIES, documents=DOCUMENTS)
        assert (groups(pairs), pairs.tags) == ([("why", {"because": None})], {"idx": [5], "rank": [3]})

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
        pairs = read_candidates(iter(self.ROWS))
        assert groups(pairs) == [("why", {"a": 1, "b": 1, "e": 0, "f": 0}), ("how", {"c": 1, "d": 0})]
        assert pairs.notes == (
            "from the data set given",
            "4 rows joined to 2 queries",
            "documents that a query had more than once left out: 2",
            "documents that had several labels for a query, the highest kept: 1",
        )
        assert read_candidates(self.ROWS, by_query=False).fingerprint() == as_pairs(list(self.ROWS)).fingerprint()

    def test_only_the_first_triples_are_read(self, tmp_path):
        path = tmp_path / "triples.tsv"
        path.write_text("why\ta\tb\nhow\tc\td\nbroken\n")
        assert read_candidates(iter_triples(path), limit=2).right == ["a", "b", "c", "d"]
        with pytest.raises(DataError, match=r"triples\.tsv, line 3: 1 columns, expected 3"):
            read_candidates(iter_triples(path))
        with pytest.raises(DataError, match=r"row 0: column 'negative': expected a string, got int"):
            read_candidates([("a", "b", 3)])

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
