"""BM25: by hand, against its formulas on random corpora, ties, empty texts, and what cannot be searched."""

import math
import sys
import warnings

import numpy as np
import pytest

from crossenc_kit.errors import DataError
from crossenc_kit.retrieval import bm25
from crossenc_kit.retrieval.bm25 import bm25_index

DOCUMENTS = {
    "mat": "The cat sat on the mat.",
    "dog": "A dog sat.",
    "empty": "?",
    "cats": "the cat and the cat",
}
WORDS = [f"w{number}" for number in range(30)]


def search(documents, queries, k=100, include=None, **options):
    return bm25_index(documents, **options)(queries, k, include)


def random_texts(rng, count, longest=12):
    """Texts of frequent and rare words, some of them without any."""
    odds = 1 / np.arange(1, len(WORDS) + 1)
    sizes = rng.integers(0, longest, count)
    return {f"{i}": " ".join(rng.choice(WORDS, size, p=odds / odds.sum())) or "?" for i, size in enumerate(sizes)}


def bm25_by_formula(documents, query, method, k1, b, delta=0.5):
    """Every document's score, the formulas of Kamphuis et al. 2020 one word after the other."""
    texts = [bm25.terms(text) for text in documents.values()]
    mean = sum(map(len, texts)) / len(texts)
    total = np.zeros(len(texts))
    for word in bm25.terms(query):
        df = sum(word in text for text in texts)
        if not df:
            continue
        idf = {
            "lucene": math.log(1 + (len(texts) - df + 0.5) / (df + 0.5)),
            "robertson": max(0.0, math.log((len(texts) - df + 0.5) / (df + 0.5))),
            "atire": math.log(len(texts) / df),
            "bm25l": math.log((len(texts) + 1) / (df + 0.5)),
            "bm25+": math.log((len(texts) + 1) / df),
        }[method]
        for row, text in enumerate(texts):
            tf, norm = text.count(word), 1 - b + b * len(text) / mean
            total[row] += (
                idf
                * {
                    "lucene": tf / (tf + k1 * norm),
                    "robertson": tf / (tf + k1 * norm),
                    "atire": tf * (k1 + 1) / (tf + k1 * norm),
                    "bm25l": (k1 + 1) * (tf / norm + delta) / (k1 + tf / norm + delta) if norm else 0,
                    "bm25+": tf * (k1 + 1) / (tf + k1 * norm) + delta,
                }[method]
                if tf or method in ("bm25l", "bm25+")
                else 0
            )
    return total


class TestBM25:
    def test_by_hand(self):
        # lengths 6, 3, 0, 5: mean 3.5; "cat" and "the" are each in 2 of 4 documents: idf log(1 + 2.5 / 2.5) = log 2
        long, short = 1.5 * (0.25 + 0.75 * 6 / 3.5), 1.5 * (0.25 + 0.75 * 5 / 3.5)
        mat = math.log(2) * (1 / (1 + long) + 2 / (2 + long))  # cat once, the twice
        cats = math.log(2) * (2 / (2 + short) + 2 / (2 + short))
        run = search(DOCUMENTS, {"q": "the cat"})
        assert list(run["q"]) == ["cats", "mat"]
        assert run["q"] == pytest.approx({"cats": cats, "mat": mat})

    @pytest.mark.parametrize("method", ["lucene", "robertson", "atire", "bm25l", "bm25+"])
    def test_against_the_formulas_on_random_corpora(self, method):
        for seed in range(8):
            rng = np.random.default_rng(seed)
            documents, queries = random_texts(rng, 40), random_texts(rng, 6, 5)
            k1, b = rng.uniform(0.5, 2), rng.uniform(0, 1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run = search(
                    documents, queries, 10, include=dict.fromkeys(queries, documents), k1=k1, b=b, method=method
                )
            for query, text in queries.items():
                expected = bm25_by_formula(documents, text, method, k1, b)
                assert run[query] == pytest.approx(dict(zip(documents, expected, strict=True)), rel=1e-5, abs=1e-6)
                found = np.array([float(expected[int(document)]) for document in run[query]])
                assert (np.diff(found) <= 1e-5).all()

    def test_only_documents_that_share_a_word_and_the_first_k_of_them(self):
        rng = np.random.default_rng(0)
        documents, queries = random_texts(rng, 60), {"q": "w3 w7 w3"}
        expected = bm25_by_formula(documents, "w3 w7 w3", "lucene", 1.5, 0.75)
        order = [document for document in np.argsort(-expected, kind="stable") if expected[document] > 0]
        for k in (1, 3, 1000):
            assert list(search(documents, queries, k)["q"]) == [str(document) for document in order[:k]]

    def test_equal_scores_are_in_the_order_of_the_documents(self):
        documents = dict.fromkeys("zyxwv", "same words") | {"other": "none"}
        for k in range(1, 6):
            assert list(search(documents, {"q": "words"}, k)["q"]) == list("zyxwv")[:k]

    def test_queries_without_a_known_word_are_empty_and_counted(self):
        queries = {"found": "cat", "unknown": "zebra", "nothing": "...", "marks": "?!"}
        with pytest.warns(UserWarning, match=r"3 of 4 queries found nothing: .*'unknown', 'nothing', 'marks'"):
            run = search(DOCUMENTS, queries)
        assert [len(run[query]) for query in queries] == [2, 0, 0, 0]
        assert search(DOCUMENTS, {}) == {}

    def test_documents_to_include_are_there_at_their_own_score(self):
        index = bm25_index(DOCUMENTS)
        queries = {"q": "the cat", "other": "dog"}
        plain, run = index(queries, 1), index(queries, 1, {"q": ["mat", "empty"]})
        assert list(run["q"]) == ["cats", "mat", "empty"]
        assert run["q"] == {**index(queries, 9)["q"], "empty": 0.0}
        assert run["other"] == plain["other"]
        with pytest.raises(DataError, match="query 'q': the document 'nowhere' to include is not in the corpus"):
            index(queries, 1, {"q": ["nowhere"]})

    def test_stop_words_and_words_of_ones_own(self):
        assert list(search(DOCUMENTS, {"q": "the dog"}, stop_words="english")["q"]) == ["dog"]
        assert list(search(DOCUMENTS, {"q": "the dog"}, stop_words=["dog"])["q"]) == ["cats", "mat"]
        stem = lambda text: [word.rstrip("s") for word in bm25.terms(text)]  # noqa: E731
        assert list(search({"a": "cats", "b": "dogs"}, {"q": "cat"}, tokenize=stem)["q"]) == ["a"]

    def test_words(self):
        assert bm25.terms("Don't, a B-2 Naïve B!") == ["don", "t", "a", "b", "2", "naïve", "b"]

    def test_what_cannot_be_searched(self):
        for call, message in (
            (lambda: search({"a": "...", "b": "?"}, {"q": "a"}), "none of the 2 documents has a word"),
            (lambda: search({"a": None}, {"q": "a"}), "document 'a': the text is missing"),
            (lambda: search(DOCUMENTS, {"q": 3}), "query 'q': expected a string, got int '3'"),
            (lambda: search(["a"], {"q": "a"}), r"mapping \{document id: text\}, got list"),
        ):
            with pytest.raises(DataError, match=message):
                call()
        for options, message in (
            ({"k": 0}, "k must be at least 1, got 0"),
            ({"k": 2.5}, "k is 2.5; expected a whole number"),
            ({"k": None}, "k is None; expected a whole number"),
            ({"k": True}, "k is True; expected a whole number"),
            ({"method": "bm26"}, "Invalid .*: bm26. Choose from"),
            ({"k1": -1}, "k1 is -1 and b is 0.75; lucene needs"),
            ({"k1": 0, "method": "bm25+"}, r"bm25\+ needs k1 above 0"),
            ({"b": 2}, "k1 is 1.5 and b is 2"),
            ({"stop_words": "klingon"}, "stop_words is 'klingon'"),
        ):
            with pytest.raises(ValueError, match=message):
                search(DOCUMENTS, {"q": "a"}, **options)

    def test_without_bm25s(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "bm25s", None)
        with pytest.raises(ImportError, match=r'pip install "crossenc_kit\[search\]"'):
            search(DOCUMENTS, {"q": "a"})

    def test_searching_says_nothing(self, capfd):
        search(DOCUMENTS, {"q": "the cat"})
        assert capfd.readouterr() == ("", "")
