"""Long documents: windows that have all of the text, their scores as one, and a report of what is cut."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import tokenizer

from crossenc_kit import chunked, rerank, truncation_report
from crossenc_kit.data import Collection, Pairs
from crossenc_kit.errors import DataError, TruncationWarning
from crossenc_kit.inference.long_documents import token_spans, windows, word_spans
from crossenc_kit.models.cross_encoder import CrossEncoder

KINDS = ["wordpiece", "no segments", "bytes", "unigram"]
PIECES = ["the", "cat", "dogs", "sings", "house", " ", "  ", "\n", "é", "日本", "🙂", "\u200b", "Ａ", "-", "1,000"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
SIZES = st.integers(1, 12)
DOCUMENT = "one two  three four\nfive six seven"


def numbers(pairs):
    """The sum of the numbers in the document."""
    return [sum(map(int, document.split())) for _, document in pairs]


# --- windows by hand ------------------------------------------------------------------------------


def words_of(text, size, stride=None):
    return windows(text, word_spans(text), size, stride)


def test_windows_of_words_by_hand():
    assert words_of(DOCUMENT, 3, 2) == ["one two  three", "three four\nfive", "five six seven"]
    assert words_of(DOCUMENT, 4) == ["one two  three four", "three four\nfive six", "five six seven"]
    assert words_of(DOCUMENT, 3, 3) == ["one two  three", "four\nfive six", "seven"]
    assert words_of(DOCUMENT, 7) == words_of(f" {DOCUMENT} ", 99) == [DOCUMENT]
    assert words_of(DOCUMENT, 1) == DOCUMENT.split()
    assert [words_of(text, 5) for text in ("", " ")] == [[""], [" "]]


def test_windows_of_tokens_by_hand():
    """Words of 1, 2, 1 and 3 tokens; a word of more tokens than a window has is cut."""
    known = tokenizer("wordpiece")
    text = "the cats dog xyz"
    counts = [len(known.tokenize(word)) for word in text.split()]
    assert counts == [1, 2, 1, 3]
    assert token_spans(text, known, 9).tolist() == [[0, 3, 1], [3, 8, 2], [8, 12, 1], [12, 16, 3]]
    assert windows(text, token_spans(text, known, 3), 3, 2) == ["the cats", " cats dog", " dog", " xyz"]
    assert windows(text, token_spans(text, known, 2), 2, 2) == ["the", " cats", " dog x", "yz"]


# --- windows: laws --------------------------------------------------------------------------------


@given(TEXTS, SIZES, st.data())
def test_windows_have_every_word_in_order_and_overlap(text, size, data):
    stride = data.draw(st.integers(1, size))
    words, found = text.split(), [window.split() for window in words_of(text, size, stride)]
    for number, window in enumerate(found):
        assert window == words[number * stride : number * stride + size]
        assert window or not words
    assert (len(found) - 1) * stride + len(found[-1]) == len(words)


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS, size=SIZES, data=st.data())
def test_windows_of_tokens_have_every_character_in_order(kind, text, size, data):
    stride = data.draw(st.integers(1, size))
    spans = token_spans(text, tokenizer(kind), size)
    places = "".join(chr(0x4E00 + place) for place in range(len(text)))  # each character tells where it stood
    found = [[ord(place) - 0x4E00 for place in window] for window in windows(places, spans, size, stride)]
    end = len(text.rstrip()) if text.strip() else len(text)
    covered = 0
    for places_of in found:
        assert not places_of or (places_of[0] <= covered and places_of == list(range(places_of[0], places_of[-1] + 1)))
        covered = max([covered, *(place + 1 for place in places_of)])
    assert covered == end
    assert all(found) or not text
    assert windows(text, spans, size, stride) == ["".join(text[place] for place in own) for own in found]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.lists(st.sampled_from(["the", "cats", "dogs", "sings", "house"]), max_size=40), size=st.integers(8, 20))
def test_windows_of_tokens_fit(kind, text, size):
    """What a tokenizer makes of a window alone has as many tokens as it had within the text, `size` at most."""
    known = tokenizer(kind)
    text = " ".join(text)
    for window in windows(text, token_spans(text, known, size), size):
        assert len(known(window, add_special_tokens=False)["input_ids"]) <= size


# --- scores ---------------------------------------------------------------------------------------


def test_aggregates_by_hand():
    """Windows 1 2, 3 4, 5 6 and 9 1; the other document is one window."""
    pairs = [("q", "1 2 3 4 5 6 9 1"), ("q", "7")]
    options = {"size": 2, "stride": 2}
    assert chunked(numbers, aggregate="max", **options)(pairs).tolist() == [11, 7]
    assert chunked(numbers, aggregate="first", **options)(pairs).tolist() == [3, 7]
    assert chunked(numbers, aggregate="mean_top_k", **options)(pairs).tolist() == [pytest.approx(28 / 3), 7]
    assert chunked(numbers, aggregate="mean_top_k", k=9, **options)(pairs).tolist() == [31 / 4, 7]
    assert chunked(numbers, size=2)(pairs).tolist() == [15, 7]  # 6 9 too


def test_every_window_is_scored_in_one_call_with_its_query_and_first_scores_no_other():
    calls = []

    def scorer(pairs):
        calls.append(list(pairs))
        return np.zeros(len(pairs))

    pairs = [("p", "1 2 3"), ("q", "4"), ("r", "1 2 3")]
    chunked(scorer, size=2, stride=2)(pairs)
    chunked(scorer, size=2, aggregate="first")(pairs)
    every = [("p", "1 2"), ("p", "3"), ("q", "4"), ("r", "1 2"), ("r", "3")]
    assert calls == [every, [("p", "1 2"), ("q", "4"), ("r", "1 2")]]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), max_size=6), SIZES, st.integers(1, 4))
def test_aggregates_are_those_of_each_documents_windows(documents, size, k):
    texts = [" ".join(map(str, own)) for own in documents]
    each = [[float(numbers([("q", window)])[0]) for window in words_of(text, size)] for text in texts]
    expected = {
        "max": [max(own) for own in each],
        "first": [own[0] for own in each],
        "mean_top_k": [np.mean(sorted(own)[-k:]) for own in each],
    }
    for aggregate, values in expected.items():
        found = chunked(numbers, size=size, aggregate=aggregate, k=k)([("q", text) for text in texts])
        assert found == pytest.approx(np.array(values))


def test_a_scorer_of_windows_finds_what_stands_at_the_end():
    filler = "word " * 300
    documents = {"first": "cat " + filler, "last": filler + "cat", "none": filler}
    run = {"q": {"none": 3.0, "last": 2.0, "first": 1.0}}

    def cut(pairs):  # reads 200 words
        return [float(query in document.split()[:200]) for query, document in pairs]

    def order(scorer):
        return list(rerank(scorer, Collection({"q": "cat"}, documents), run)["q"])

    assert order(cut) == ["first", "none", "last"]
    assert order(chunked(cut)) == ["last", "first", "none"]
    assert order(chunked(cut, aggregate="first")) == order(cut)


@pytest.fixture(scope="module")
def model():
    return CrossEncoder("tiny", num_labels=1, seed=2, max_length=24, device="cpu")


@pytest.fixture
def nothing_is_cut():
    with warnings.catch_warnings():
        warnings.simplefilter("error", TruncationWarning)
        warnings.filterwarnings("ignore", "the head of")
        yield


@pytest.mark.usefixtures("nothing_is_cut")
def test_windows_of_tokens_fill_what_a_model_reads(model):
    document = " ".join(f"the cat {number} sings in the xylophone" for number in range(30))
    pairs = [("the cat", document), ("the dog and the book of the city", document), ("the cat", "a dog")]
    assert truncation_report(model, pairs).num_cut == 2
    scores = chunked(model, unit="tokens")(pairs)
    assert scores[2] == pytest.approx(model.predict([pairs[2]], activation_fn="identity")[0], abs=1e-6)
    assert scores[:2] == pytest.approx([chunked(model, unit="tokens")([pair])[0] for pair in pairs[:2]], abs=1e-5)
    room = 24 - 3 - 2
    parts = windows(document, token_spans(document, model.tokenizer, room), room)
    assert len(parts) > 10
    each = model.predict([("the cat", part) for part in parts], activation_fn="identity")
    assert scores[0] == pytest.approx(each.max(), abs=1e-5)
    sized = chunked(lambda texts: model.predict(texts), unit="tokens", size=8, tokenizer=model.tokenizer)(pairs)
    assert sized.shape == (3,)


def test_what_cannot_be_scored(model):
    for options, message in (
        ({"size": 0}, "size must be a whole number, 1 or more, got 0"),
        ({"k": 0}, "k must be a whole number, 1 or more"),
        ({"size": 3, "stride": 4}, "stride=4 is more than size=3: the words between two windows would be lost"),
        ({"stride": 151}, "stride=151 is more than size=150"),
        ({"unit": "letters"}, "unit is 'letters'; expected words or tokens"),
        ({"aggregate": "sum"}, "aggregate is 'sum'; expected one of max, first, mean_top_k"),
        ({"unit": "tokens"}, "need a fast tokenizer"),
    ):
        with pytest.raises(ValueError, match=message):
            chunked(numbers, **options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        chunked(numbers, width=3)
    with pytest.raises(DataError, match="scores of shape"):
        chunked(lambda pairs: np.zeros((len(pairs), 3)))([("a", "b")])
    with pytest.raises(DataError, match=r"the scorer gave nan for row 1 \(1 of 2 scores are not finite\)"):
        chunked(lambda pairs: [0.0, np.nan])([("a", "b"), ("a", "c")])
    with pytest.raises(DataError, match="row 0, column '1': the text is missing"):
        chunked(numbers)([("a", None)])
    with pytest.raises(DataError, match="max_length=24 leaves no room beside the query 'cat cat cat"):
        chunked(model, unit="tokens")([("cat " * 30, "a dog")])


# --- what is cut ----------------------------------------------------------------------------------

CUT = [("the cat", "a dog " * 15), ("the cat", "a dog"), ("the cat " * 6, "a dog " * 6), ("the cat", "a dog " * 10)]


def test_a_report_by_hand(model):
    """24 tokens, 21 without the special ones: the rows have 2 + 30, 2 + 2, 12 + 12 and 2 + 20."""
    report = truncation_report(model, CUT, ["a", "b", "c", "d"])
    assert report.sizes.tolist() == [[2, 30], [2, 2], [12, 12], [2, 20]]
    assert report.lost.tolist() == [[0, 11], [0, 0], [2, 1], [0, 1]]
    assert (report.num_cut, report.tokens_lost, report.cut_ids) == (3, 15, ["a", "c", "d"])
    assert str(report).splitlines() == [
        "4 pairs, max_length=24, truncation=longest_first: 3 are cut (75.0%)",
        "  15 of 82 tokens are lost (18.3%)",
        "  first texts: 1 cut, 2 tokens lost, 2 at most",
        "  second texts: 3 cut, 13 tokens lost, 11 at most",
        "  most: 'a', 'c', 'd'",
    ]


def test_a_report_where_only_the_second_text_may_be_cut(model, monkeypatch):
    monkeypatch.setattr(model, "truncation", "only_second")
    report = truncation_report(model, [*CUT, ("the cat " * 12, "a dog")])
    assert report.lost.tolist() == [[0, 11], [0, 0], [0, 3], [0, 1], [0, 2]]
    assert report.refused.tolist() == [False] * 4 + [True]
    assert str(report).splitlines()[-1] == "  1 pairs are refused: the first text leaves no room"
    assert report.cut_ids == [0, 2, 4, 3]


@pytest.mark.filterwarnings("ignore")
def test_a_report_is_what_the_model_drops(model):
    whole = model.tokenizer([left for left, _ in CUT], [right for _, right in CUT], verbose=False)
    expected = [max(0, len(ids) - 24) for ids in whole["input_ids"]]
    report = truncation_report(model, Pairs(*map(list, zip(*CUT, strict=True))))
    assert report.lost.sum(axis=1).tolist() == expected
    model.predict(CUT)
    assert model.truncated == report.num_cut == 3


def test_a_report_of_nothing_cut(model):
    assert str(truncation_report(model, [("a", "b")])).endswith("longest_first: none is cut")
    assert str(truncation_report(model, [])).startswith("0 pairs")
    with pytest.raises(DataError, match="1 ids for 2 pairs; give one per pair"):
        truncation_report(model, [("a", "b")] * 2, ["x"])


def test_empty_texts_are_refused():
    with pytest.raises(DataError, match=r"^document of pair 1: the text is blank \(1 of 2 such\)"):
        chunked(lambda pairs: np.zeros(len(pairs)))([("q", "a b"), ("q", " ")])
    with pytest.raises(DataError, match=r"^query of pair 0: the text is blank \(1 of 1 such\)"):
        chunked(lambda pairs: np.zeros(len(pairs)))([("", "a b")])
