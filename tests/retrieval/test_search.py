"""What all searches share, and fusion: by hand, laws, and what cannot be searched."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit.errors import DataError
from crossenc_kit.retrieval import bm25_index, dense_index, random_index, reciprocal_rank_fusion
from crossenc_kit.retrieval.search import best_rows

FIRST = {"q": {"a": 9.0, "b": 8.0, "c": 7.0}, "only": {"x": 1.0}}
SECOND = {"q": {"c": 0.1, "d": 0.3, "a": 0.2}}


def by_letters(documents):
    return dense_index(documents, lambda texts: np.array([[t.count("a"), t.count("b")] for t in texts]))


INDEX = pytest.mark.parametrize("index", [bm25_index, random_index, by_letters])


@INDEX
@pytest.mark.parametrize(
    ("documents", "queries", "message"),
    [
        ({"a": "a", "b": " ", "c": ""}, {"q": "a"}, "document 'b': the text is blank .2 of 3 such.; leave it out"),
        ({"a": "a"}, {"q": "a", "r": "\n"}, "query 'r': the text is blank .1 of 2 such"),
        ({7: "a"}, {"q": "a"}, "the document id 7 is int; ids are strings"),
        ({"a": "a"}, {7: "a"}, "the query id 7 is int; ids are strings"),
        ({"a": "a"}, {"q": {"text": "a"}}, "query 'q': expected a string, got dict"),
        ({"x": {"body": "a"}}, {"q": "a"}, r"document 'x': no 'text' among \['body'\]"),
        ({}, {"q": "a"}, "no documents"),
    ],
)
def test_what_cannot_be_searched(index, documents, queries, message):
    with pytest.raises(DataError, match=message):
        index(documents)(queries)


@INDEX
def test_documents_may_be_dicts(index):
    """The title and the text are searched, as `rerank` scores them."""
    dicts = {"x": {"title": "a", "text": "b", "year": 1}, "y": "a a", "z": {"id": "other", "text": "c"}}
    assert index(dicts)({"q": "a b"}) == index({"x": "a b", "y": "a a", "z": "c"})({"q": "a b"})
    with pytest.raises(ValueError, match=r"k is 2\.5; expected a whole number"):
        index(dicts)({"q": "a"}, 2.5)


class TestFusion:
    def test_by_hand(self):
        fused = reciprocal_rank_fusion([FIRST, SECOND])  # the second ranks d, a, c
        assert fused["q"] == pytest.approx({"a": 1 / 61 + 1 / 62, "c": 2 / 63, "d": 1 / 61, "b": 1 / 62})
        assert list(fused["q"]) == ["a", "c", "d", "b"]
        assert fused["only"] == {"x": 1 / 61}
        weighed = reciprocal_rank_fusion([FIRST, SECOND], k=0, weights=[1, 3], depth=2)["q"]
        assert weighed == pytest.approx({"d": 3, "a": 1 + 3 / 2, "b": 1 / 2})

    def test_equal_sums_are_in_the_order_of_the_first_run_that_has_the_document(self):
        assert list(reciprocal_rank_fusion([{"q": {"z": 1.0}}, {"q": {"a": 1.0}}])["q"]) == ["z", "a"]
        assert list(reciprocal_rank_fusion([{"q": {"b": 1.0, "a": 1.0}}])["q"]) == ["b", "a"]

    @given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.floats(-9, 9), min_size=1), min_size=1, max_size=3))
    def test_laws(self, scored):
        runs = [{"q": scores} for scores in scored]
        fused = reciprocal_rank_fusion(runs)["q"]
        assert fused == pytest.approx(reciprocal_rank_fusion(runs[::-1])["q"])
        assert list(fused.values()) == sorted(fused.values(), reverse=True)
        assert sum(fused.values()) == pytest.approx(sum(1 / (61 + i) for scores in scored for i in range(len(scores))))
        alone = reciprocal_rank_fusion(runs, weights=[1, *[0] * (len(runs) - 1)])["q"]
        assert [d for d in alone if alone[d]] == sorted(scored[0], key=lambda document: -scored[0][document])

    def test_what_cannot_be_fused(self):
        for arguments, message in (
            ((FIRST,), "run 0: expected a run as .*, got str"),
            (([FIRST], 60, [1, 2]), "argument 2 is longer than argument 1"),
            (([FIRST, {"q": {"a": math.nan}}],), "run 1, query 'q', document 'a': the score is nan"),
            (([{"q": {"a": None}}],), "run 0, query 'q', document 'a': the score is None"),
            (([{"q": ["a"]}],), "run 0, query 'q': expected {document id: score}, got list"),
        ):
            with pytest.raises(ValueError, match=message):
                reciprocal_rank_fusion(*arguments)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(1, 14))
def test_the_best_rows_are_those_of_a_stable_sort(scores, k):
    expected = sorted(range(len(scores)), key=lambda row: -scores[row])[:k]
    assert best_rows(np.array(scores, dtype=float), k).tolist() == expected
