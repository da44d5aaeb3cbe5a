"""Dense, word-overlap and random first stages, and fusion: by hand, against numpy and sentence-transformers."""

import math
import warnings
from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.errors import DataError
from crossenc_kit.retrieval import dense
from crossenc_kit.retrieval.baselines import overlap_run, random_run, word_overlap
from crossenc_kit.retrieval.bm25 import bm25_run, bm25_scorer
from crossenc_kit.retrieval.dense import dense_index, dense_run, encoder
from crossenc_kit.retrieval.search import best_rows, reciprocal_rank_fusion

FIRST = {"q": {"a": 9.0, "b": 8.0, "c": 7.0}, "only": {"x": 1.0}}
SECOND = {"q": {"c": 0.1, "d": 0.3, "a": 0.2}}


def letters(texts):
    """Vectors (U, 2): how many "a" and how many "b" a text has."""
    return np.array([[text.count("a"), text.count("b")] for text in texts], dtype=np.float32)


class TestDense:
    def test_by_hand(self):
        documents = {"a": "a", "ab": "ab", "b": "b", "aab": "aab"}
        assert dense_run(documents, {"q": "aab", "r": "b"}, 3, letters) == {
            "q": {"aab": 5.0, "ab": 3.0, "a": 2.0},
            "r": {"ab": 1.0, "b": 1.0, "aab": 1.0},  # equal: in the order of the documents
        }

    @pytest.mark.parametrize("at_once", [1, 7, 10_000])
    def test_against_numpy_in_blocks(self, at_once, monkeypatch):
        monkeypatch.setattr(dense, "SCORES_AT_ONCE", at_once * 50)
        vectors = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
        documents, queries = {f"d{i}": f"{i}" for i in range(50)}, {f"q{i}": f"{i}" for i in range(50, 80)}
        run = dense_run(documents, queries, 5, lambda texts: vectors[[int(text) for text in texts]])
        scores = vectors[50:] @ vectors[:50].T
        assert [list(found) for found in run.values()] == [[f"d{i}" for i in row[:5]] for row in np.argsort(-scores)]
        best = np.sort(scores)[:, ::-1][:, :5]
        np.testing.assert_allclose([list(found.values()) for found in run.values()], best, rtol=1e-5, atol=1e-6)

    def test_against_sentence_transformers(self):
        semantic_search = pytest.importorskip("sentence_transformers.util").semantic_search
        documents = {
            f"{i}": f"the {word} is {word}" for i, word in enumerate(["cat", "dog", "house", "car", "book", "day"])
        }
        queries = {"q": "a cat and a dog", "r": "?", "s": "the house is old"}
        encode = encoder("tiny")
        hits = semantic_search(encode(list(queries.values())), encode(list(documents.values())), top_k=6)
        run = dense_run(documents, queries, encode=encode)
        for found, expected in zip(run.values(), hits, strict=True):
            assert found == pytest.approx({str(hit["corpus_id"]): hit["score"] for hit in expected}, abs=1e-6)

    def test_vectors_of_the_documents_are_used_again(self):
        asked = []

        def encode(texts):
            asked.append(list(texts))
            return letters(texts)

        documents = {"a": "a", "b": "b"}
        search = dense_index(documents, encode, document_vectors=letters(documents.values()))
        assert search({"q": "bb"}) == dense_run(documents, {"q": "bb"}, encode=letters)
        assert asked == [["bb"]]
        assert search({}) == {}

    def test_documents_to_include_are_there_at_their_own_score(self):
        run = dense_run({"a": "a", "b": "b", "ab": "ab"}, {"q": "aa"}, 1, letters, include={"q": ["b"]})
        assert run == {"q": {"a": 2.0, "b": 0.0}}

    def test_vectors_that_do_not_fit(self):
        documents, queries = {"a": "a", "b": "b"}, {"q": "a"}
        for vectors, message in (
            (np.ones((3, 2)), r"the vectors of 2 documents have shape \(3, 2\); expected \(2, H\)"),
            (np.ones(2), r"shape \(2,\)"),
            (np.array([[1, 1], [1, np.nan]]), r"the vector of row 1 of the documents is not finite \(1 such"),
            (np.ones((2, 3)), "the queries' vectors have 2 values, the documents' 3"),
        ):
            with pytest.raises(DataError, match=message):
                dense_run(documents, queries, 2, letters, document_vectors=vectors)


class TestOverlapAndRandom:
    @settings(max_examples=40)
    @given(
        st.lists(st.text("abc? ", max_size=8).filter(str.strip), min_size=1, max_size=6),
        st.text("abcd? ", max_size=6).filter(str.strip),
    )
    def test_overlap_is_that_of_every_pair(self, texts, query):
        documents = {str(row): text for row, text in enumerate(texts)}
        expected = word_overlap([(query, text) for text in texts])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = overlap_run(documents, {"q": query}, 3)["q"]
        order = [row for row in np.argsort(-expected, kind="stable") if expected[row] > 0][:3]
        assert list(run) == [str(row) for row in order]
        assert list(run.values()) == pytest.approx([expected[row] for row in order])

    def test_random_documents(self):
        documents, queries = {f"d{i}": "text" for i in range(5)}, {f"q{i}": "text" for i in range(600)}
        run = random_run(documents, queries, 2)
        assert {len(found) for found in run.values()} == {2}
        counts = Counter(document for found in run.values() for document in found)
        assert all(180 < counts[document] < 300 for document in documents)  # 240 expected, deviation 12
        assert random_run(documents, {"q7": "other"}, 2)["q7"] == run["q7"]
        assert random_run(documents, queries, 2, seed=1) != run
        assert list(random_run(documents, {"q": "?"}, 99)["q"].values()) == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]


@pytest.mark.parametrize("search", [overlap_run, random_run, partial(dense_run, encode=letters)])
def test_blank_texts_and_ids_that_are_no_strings(search):
    for documents, queries, message in (
        ({"a": "a", "b": " ", "c": ""}, {"q": "a"}, "document 'b': the text is blank .2 of 3 such.; leave it out"),
        ({"a": "a"}, {"q": "a", "r": "\n"}, "query 'r': the text is blank .1 of 2 such"),
        ({7: "a"}, {"q": "a"}, "the document id 7 is int; ids are strings"),
        ({"a": "a"}, {7: "a"}, "the query id 7 is int; ids are strings"),
    ):
        with pytest.raises(DataError, match=message):
            search(documents, queries)
    with pytest.raises(ValueError, match=r"k is 2\.5; expected a whole number"):
        search({"a": "a"}, {"q": "a"}, 2.5)


@pytest.mark.parametrize("search", [bm25_run, overlap_run, random_run, partial(dense_run, encode=letters)])
def test_documents_may_be_dicts(search):
    """The title and the text are searched, as `rerank` scores them."""
    dicts = {"x": {"title": "a", "text": "b", "year": 1}, "y": "a a", "z": {"id": "other", "text": "c"}}
    assert search(dicts, {"q": "a b"}) == search({"x": "a b", "y": "a a", "z": "c"}, {"q": "a b"})
    with pytest.raises(DataError, match=r"document 'x': no 'text' among \['body'\]"):
        search({"x": {"body": "a"}}, {"q": "a"})
    with pytest.raises(DataError, match="query 'q': expected a string, got dict"):
        search({"x": "a"}, {"q": {"text": "a"}})


def test_a_bm25_scorer_counts_the_words_of_dicts():
    dicts = {"x": {"title": "a", "text": "b"}, "y": "a a"}
    pairs = [("a b", "a b"), ("a", "a a")]
    assert bm25_scorer(dicts)(pairs).tolist() == bm25_scorer({"x": "a b", "y": "a a"})(pairs).tolist()


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
            (([],), "fusion needs a list of runs"),
            ((FIRST,), "fusion needs a list of runs"),
            (([FIRST], -1), "k is -1; it must be above -1"),
            (([FIRST], None), "k is None; it must be above -1"),
            (([FIRST], 60, [1, 2]), r"weights is \[1, 2\]; expected 1 numbers"),
            (([FIRST], 60, [-1]), "not negative"),
            (([FIRST], 60, None, 0), "depth must be at least 1, got 0"),
            (([FIRST, {"q": {"a": math.nan}}],), "run 1, query 'q', document 'a': the score is nan"),
            (([{"q": {"a": None}}],), "run 0, query 'q', document 'a': the score is None"),
            (([{"q": ["a"]}],), "run 0, query 'q': expected {document id: score}, got list"),
            (([FIRST], 60, None, 2.5), "depth is 2.5; expected a whole number"),
        ):
            with pytest.raises(ValueError, match=message):
                reciprocal_rank_fusion(*arguments)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(1, 14))
def test_the_best_rows_are_those_of_a_stable_sort(scores, k):
    expected = sorted(range(len(scores)), key=lambda row: -scores[row])[:k]
    assert best_rows(np.array(scores, dtype=float), k).tolist() == expected
