"""Baselines that do not learn: word overlap by hand and its laws, random documents."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit.retrieval import random_index, word_overlap, words


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


def test_random_documents():
    documents = {f"d{i}": "text" for i in range(5)}
    queries = {f"q{i}": "text" for i in range(600)}
    search = random_index(documents)
    run = search(queries, 2)
    assert {len(found) for found in run.values()} == {2}
    counts = Counter(document for found in run.values() for document in found)
    assert all(180 < counts[document] < 300 for document in documents)  # 240 expected, deviation 12
    assert search({"q7": "other"}, 2)["q7"] == run["q7"]
    assert random_index(documents, seed=1)(queries, 2) != run
    assert list(search({"q": "?"}, 99)["q"].values()) == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
