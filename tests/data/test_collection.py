"""A collection is checked as it is made; a run on it becomes pairs, best first, with grades as labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit.data.collection import Collection
from crossenc_kit.errors import DataError

DOCUMENTS = {"d1": "cats purr", "d2": "dogs bark", "d3": "cows moo", "d4": "bees hum"}
QUERIES = {"q1": "what do cats do", "q2": "what do dogs do", "q3": "what do fish do"}
QRELS = {"q1": {"d1": 2, "d2": 0, "d3": 1}, "q2": {"d2": 1}, "q3": {"d1": 0}}
RUN = {"q1": {"d2": 0.5, "d1": 0.9, "d4": 0.7}, "q2": {"d3": 1.0}}


@pytest.fixture
def collection():
    kinds = {"kind": {"q1": "mammals", "q2": "mammals", "q3": "fish"}}
    return Collection(QUERIES, DOCUMENTS, QRELS, ("from a test",), "animals", kinds)


def of(queries=QUERIES, documents=DOCUMENTS, qrels=QRELS):
    return Collection(queries, documents, qrels)


class TestCollection:
    def test_what_it_says_of_itself(self, collection):
        assert repr(collection) == (
            "Collection animals: 3 queries, 4 documents, 5 judgements (3 relevant); from a test; "
            "queries without a relevant document: 1 ('q3')"
        )
        assert repr(of(qrels={})) == "Collection: 3 queries, 4 documents, 0 judgements (0 relevant)"

    def test_in_a_notebook(self, collection):
        table = of(queries={**QUERIES, "q1": "<script>"}, documents={**DOCUMENTS, "d1": "a & b" + "c" * 200})
        shown = table._repr_html_()
        assert "<td>q1</td><td>&lt;script&gt;</td><td>3</td><td>a &amp; bccc" in shown
        assert "b" + "c" * 95 + "\u2026</td>" in shown  # cut at 100 letters
        assert "<caption>Collection: 3 queries, 4 documents" in shown

    def test_relevant_documents(self, collection):
        assert collection.relevant("q1") == ["d1", "d3"]
        assert collection.relevant("q3") == collection.relevant("nothing") == []

    def test_queries_without_a_relevant_document_are_counted_and_named(self):
        qrels = {f"q{i}": {"d1": 0} for i in range(1200)}
        (note,) = of(queries=dict.fromkeys(qrels, "?"), qrels=qrels).notes
        assert note == "queries without a relevant document: 1,200 ('q0', 'q1', 'q2', ...)"
        assert of(queries={"q2": "?"}, qrels={"q2": {"d2": 1}}).notes == ()

    def test_documents_with_a_title_are_one_text(self):
        titled = of(documents={**DOCUMENTS, "d2": {"title": "Dogs", "text": "bark", "year": 2021}})
        assert titled.documents == {**DOCUMENTS, "d2": "Dogs bark"}

    def test_nothing_is_judged_unless_given(self):
        assert Collection(QUERIES, DOCUMENTS) == of(qrels={})

    def test_grades_may_be_floats(self):
        assert of(qrels={"q1": {"d1": 0.5}}).relevant("q1") == ["d1"]

    def test_select_queries(self, collection):
        chosen = collection.select_queries(["q2", "q1"])
        assert list(chosen.queries) == list(chosen.qrels) == ["q2", "q1"]
        assert chosen.documents == DOCUMENTS
        assert chosen.tags == {"kind": {"q2": "mammals", "q1": "mammals"}}
        assert chosen.notes == ("from a test",)  # the query without a relevant document is gone
        assert collection.select_queries(["q3"]).notes == collection.notes
        assert collection.select_queries(RUN).queries.keys() == RUN.keys()

    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            (["q1", "q9", "q8"], r"2 of 3 query ids are not in the collection: 'q9', 'q8'"),
            ("q1", r"expected query ids, got one string 'q1'; put it in a list"),
        ],
    )
    def test_select_queries_that_are_not_there(self, collection, ids, message):
        with pytest.raises(DataError, match=message):
            collection.select_queries(ids)

    def test_the_fingerprint_is_of_the_data_and_not_of_its_order(self, collection):
        def backwards(table):
            return dict(reversed(table.items()))

        same = Collection(backwards(QUERIES), backwards(DOCUMENTS), {q: backwards(QRELS[q]) for q in backwards(QRELS)})
        assert collection == same
        assert collection.fingerprint() == same.fingerprint()
        others = [
            of(documents={**DOCUMENTS, "d4": "bees hum."}),
            of(documents={**DOCUMENTS, "d5": "ants"}),
            of(queries={**QUERIES, "q1": "what"}),
            of(qrels={**QRELS, "q2": {"d2": 2}}),
            of(qrels={"q1": QRELS["q1"]}),
            of(qrels={}),
        ]
        assert len({one.fingerprint() for one in [collection, *others]}) == 1 + len(others)


class TestWhatIsChecked:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (
                {"documents": {**DOCUMENTS, "d5": "", "d6": " \n"}},
                r"document 'd5': the text is blank \(2 of 6 such\); leave it out",
            ),
            ({"documents": {**DOCUMENTS, "d5": None}}, r"document 'd5': the text is missing \(None\)"),
            ({"documents": {**DOCUMENTS, 7: "seven"}}, r"the document id 7 is int; ids are strings"),
            ({"queries": {**QUERIES, "": "empty"}}, r"the query id '' is str; ids are strings"),
            ({"queries": {**QUERIES, "q4": "\t"}}, r"query 'q4': the text is blank \(1 of 4 such\)"),
            ({"queries": ["q1"]}, r"expected the texts as a mapping \{query id: text\}, got list"),
            (
                {"qrels": {"q9": {"d1": 1}}},
                r"the qrels have 1 query ids that are not among the 3 query ids given: 'q9'",
            ),
            (
                {"qrels": {"q1": {"d9": 1, "d1": 1, "d8": 0}}},
                r"the qrels have 2 document ids that are not among the 4 .*'d9', 'd8'; add their texts",
            ),
            (
                {"qrels": {"q1": {"d1": 1, "d2": -2}, "q2": {"d2": -1}}},
                r"query 'q1', document 'd2': the grade is -2, below 0 \(2 in all\); count them as 0",
            ),
            ({"qrels": {"q1": {"d1": math.nan}}}, r"query 'q1', document 'd1': the grade is nan"),
            ({"qrels": {"q1": ["d1"]}}, r"query 'q1': expected \{document id: grade\}, got list"),
            ({"qrels": [("q1", "d1", 1)]}, r"the qrels: expected .*, got list"),
        ],
    )
    def test_wrong_data(self, wrong, message):
        with pytest.raises(DataError, match=message):
            of(**wrong)

    @pytest.mark.parametrize(
        ("run", "message"),
        [
            ({**RUN, "q9": {}}, r"the run has 1 queries that the collection lacks: 'q9'; is it of this split"),
            ({"q1": {"d9": 1.0, "d1": 2.0}}, r"the run has 1 documents that the collection lacks: 'd9'; .*corpus\?"),
            (
                {"x": {"d1": 1.0}},
                r"none of the 1 queries of the run is in the collection: 'x'; the collection's begin.*'q1'",
            ),
            ({}, "^the run has no queries: there are no candidates"),
            ({"q1": {"d1": math.nan}}, r"query 'q1', document 'd1': the score is nan"),
            ({"q1": {"d1": np.float32("inf")}}, r"query 'q1', document 'd1': the score is .*inf"),
            ({"q1": {"d1": "high"}}, r"query 'q1', document 'd1': the score is 'high'"),
            ({1: {"d1": 1.0}}, r"the query id 1 is int; ids are strings"),
            ({"q1": {1: 1.0}}, r"the document id 1 is int; ids are strings"),
            ({"q1": ["d1"]}, r"query 'q1': expected \{document id: score\}, got list"),
            ([("q1", "d1", 1.0)], r"expected a run as .*, got list"),
        ],
    )
    def test_wrong_runs(self, collection, run, message):
        for use in (collection.check, collection.as_pairs):
            with pytest.raises(DataError, match=message):
                use(run)

    def test_unknown_ids_may_be_counted(self, collection):
        run = {"q1": {"d9": 3.0, "d1": 2.0, "d8": 1.0}, "q2": {"d7": 1.0}, "q8": {"d1": 1.0}, "q9": {"x": 1.0}}
        assert collection.check(run, unknown="count") == (
            "queries of the run that the collection lacks, left out: 2 ('q8', 'q9')",
            "documents of the run that the collection lacks, left out: 3 ('d9', 'd8', 'd7')",
            "queries without candidates: 2 ('q2', 'q3')",
        )
        assert collection.as_pairs(run, unknown="count").right == ["cats purr"]
        for strange in ({"x": {"d1": 1.0}}, {"q1": {"x": 1.0}}):
            with pytest.raises(DataError, match=r"none of the 1 queries of the run|no query has a candidate"):
                collection.as_pairs(strange, unknown="count")

    def test_a_run_that_fits(self, collection):
        assert collection.check({query: {"d1": np.float64(1)} for query in QUERIES}) == ()
        with pytest.raises(ValueError, match="unknown must be one of error, count; got 'skip'"):
            collection.check(RUN, unknown="skip")


class TestAsPairs:
    def test_best_first_with_grades(self, collection):
        pairs = collection.as_pairs(RUN)
        assert pairs.texts == [
            ("what do cats do", "cats purr"),
            ("what do cats do", "bees hum"),
            ("what do cats do", "dogs bark"),
            ("what do dogs do", "cows moo"),
        ]
        assert pairs.labels.tolist() == [2, 0, 0, 0]
        assert pairs.labels.dtype == np.int64
        assert pairs.offsets.tolist() == [0, 3, 4]
        assert pairs.tags["query_id"] == ["q1", "q2"]
        assert pairs.tags["document_ids"] == [["d1", "d4", "d2"], ["d3"]]
        assert pairs.tags["kind"] == ["mammals", "mammals"]

    def test_what_is_missing_is_counted_and_named(self, collection):
        assert collection.as_pairs(RUN).notes == (
            *collection.notes,
            "queries without candidates: 1 ('q3')",
            "queries without a relevant candidate: 1 ('q2')",
        )

    def test_depth(self, collection):
        assert collection.as_pairs(RUN, 2).tags["document_ids"] == [["d1", "d4"], ["d3"]]
        assert collection.as_pairs(RUN, 9).texts == collection.as_pairs(RUN).texts
        with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
            collection.as_pairs(RUN, 0)

    def test_a_relevant_document_below_the_depth_is_missed(self, collection):
        run = {"q2": {"d1": 2.0, "d2": 1.0}}
        assert "queries without a relevant candidate: 1 ('q2')" in collection.as_pairs(run, 1).notes
        assert not any("relevant candidate" in note for note in collection.as_pairs(run, 2).notes)

    def test_equal_scores_keep_their_order(self, collection):
        run = {"q1": {"d3": 1.0, "d1": 1.0, "d4": 2.0, "d2": 1.0}}
        assert collection.as_pairs(run).tags["document_ids"] == [["d4", "d3", "d1", "d2"]]

    def test_relevant_documents_that_the_run_missed(self, collection):
        pairs = collection.as_pairs(RUN, 2, with_relevant=True)
        assert pairs.tags["document_ids"] == [["d1", "d4", "d3"], ["d3", "d2"]]
        assert pairs.labels.tolist() == [2, 0, 1, 0, 1]
        assert pairs.notes[-1] == "relevant documents that the run missed, added: 2"

    def test_float_grades(self):
        pairs = of(qrels={"q1": {"d1": 0.5}}).as_pairs(RUN)
        assert pairs.labels.tolist() == [0.5, 0, 0, 0]
        assert pairs.labels.dtype == np.float32

    def test_nothing_judged_is_unlabelled(self):
        assert of(qrels={}).as_pairs(RUN).labels is None

    def test_the_order_of_the_queries_is_the_collections(self, collection):
        assert collection.as_pairs(dict(reversed(RUN.items()))).tags["query_id"] == ["q1", "q2"]

    @given(st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-5, 5), min_size=1), st.integers(1, 9))
    def test_against_sorting_rows(self, scores, depth):
        """The first candidates by score are those of NumPy's stable sort."""
        collection = Collection({"q": "?"}, {letter: letter for letter in "abcdefgh"}, {"q": {"a": 1}})
        order = np.argsort(-np.array(list(scores.values())), kind="stable")[:depth]
        assert collection.as_pairs({"q": scores}, depth).right == [list(scores)[row] for row in order]


class TestJudgedPairs:
    def test_all_that_was_judged(self, collection):
        pairs = collection.judged_pairs()
        assert pairs.tags["document_ids"] == [["d1", "d2", "d3"], ["d2"], ["d1"]]
        assert pairs.labels.tolist() == [2, 0, 1, 1, 0]
        assert pairs.right[:3] == ["cats purr", "dogs bark", "cows moo"]
        assert pairs.notes == collection.notes

    def test_queries_without_judgements(self):
        pairs = of(qrels={"q2": {"d2": 1}}).judged_pairs()
        assert pairs.tags["query_id"] == ["q2"]
        assert pairs.notes[-1] == "queries without judgements left out: 2 ('q1', 'q3')"
        with pytest.raises(DataError, match="no query of the collection has judgements; give a run"):
            of(qrels={}).judged_pairs()
