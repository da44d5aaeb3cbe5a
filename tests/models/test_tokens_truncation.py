"""Which text of a pair is cut: as Hugging Face's tokenizers cut, and kept with a saved model."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import tokenizer

from crossenc_kit.errors import DataError, TruncationWarning
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.settings import SBERT_CONFIG, find_rule
from crossenc_kit.models.tokens import only_second, tokenize, without_room

KINDS = ["wordpiece", "no segments", "bytes", "unigram"]
TEXTS = st.lists(st.sampled_from(["the", "cat", " ", "\n", "sings", "é", "日本", "🙂", "A"]), max_size=12).map("".join)
QUERY, LONG = "the cat and the dog in school", "a dog is in the book of the city and the cat"


def hugging_face(kind, left, right, max_length):
    """The ids and segments that Hugging Face gives one pair, or None where it raises an error."""
    try:
        encoded = tokenizer(kind)([left], [right], truncation="only_second", max_length=max_length)
    except Exception as error:  # of the fast tokenizers, and of no type of its own
        if "Truncation error" not in str(error):
            raise
        return None
    return {name: rows[0] for name, rows in encoded.items()}


def assert_as_hugging_face(kind, left, right, max_length):
    expected = hugging_face(kind, left, right, max_length)
    if expected is None:
        with pytest.raises(DataError, match="row 0: the first text has"):
            tokenize(tokenizer(kind), [(left, right)], max_length, "only_second")
        return
    tokens = tokenize(tokenizer(kind), [(left, right)], max_length, "only_second")
    ids, segments = tokens.pair(0)
    assert ids.tolist() == expected["input_ids"]
    assert tokens.lengths.tolist() == [len(ids)]
    assert segments is None or segments.tolist() == expected["token_type_ids"]


# --- the rule -------------------------------------------------------------------------------------


def test_the_rule_by_hand():
    sizes = np.array([[3, 4], [3, 9], [6, 9], [0, 20], [7, 0], [7, 1], [9, 0]])
    assert only_second(sizes, 7).tolist() == [[3, 4], [3, 4], [6, 1], [0, 7], [7, 0], [7, 0], [9, 0]]
    assert without_room(sizes, 7).tolist() == [False] * 5 + [True] * 2


@pytest.mark.parametrize("kind", KINDS)
@given(left=TEXTS, right=TEXTS, max_length=st.integers(6, 30))
def test_any_texts_are_cut_as_hugging_face_does(kind, left, right, max_length):
    assert_as_hugging_face(kind, left, right, max_length)


@pytest.mark.parametrize("kind", KINDS)
def test_every_case(kind):
    """Both short, one long, both long, empty, at the limit and around it: cut, and refused, where theirs are."""
    refused = 0
    for left in (0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 30):
        for right in (0, 1, 2, 3, 8, 30):
            pair = " a" * left, " b" * right
            assert_as_hugging_face(kind, *pair, 16)
            refused += hugging_face(kind, *pair, 16) is None
    assert refused > 5


def test_a_tokenizer_that_cuts_at_the_start(monkeypatch):
    for kind in KINDS:
        monkeypatch.setattr(tokenizer(kind), "truncation_side", "left")
        assert_as_hugging_face(kind, "the cat", LONG, 16)


def test_a_query_that_leaves_no_room_is_an_error_that_says_what_to_do():
    pairs = [("a", "b"), (QUERY, "b"), (QUERY, LONG)]
    message = (
        r"row 1: the first text has 7 tokens, but max_length=8 has room for 5 in a pair, .* \(2 of 3 pairs\); "
        'raise max_length, shorten the text, or use truncation="longest_first"'
    )
    with pytest.raises(DataError, match=message):
        tokenize(tokenizer("wordpiece"), pairs, 8, "only_second")


# --- of a model -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "only second"
    CrossEncoder("tiny", 1, 16, seed=1, truncation="only_second", device="cpu").save_pretrained(path)
    return path


def test_a_model_cuts_the_second_text_alone(folder):
    """Scores are those of documents that were cut by hand."""
    model, usual = CrossEncoder(folder, device="cpu"), CrossEncoder(folder, truncation="longest_first", device="cpu")
    with pytest.warns(TruncationWarning, match="1 of 1 pairs exceed max_length=16"):
        score = model.predict([(QUERY, LONG)])
    words = LONG.split()
    left = 16 - 3 - len(QUERY.split())
    with warnings.catch_warnings():
        warnings.simplefilter("error", TruncationWarning)
        assert score == pytest.approx(model.predict([(QUERY, " ".join(words[:left]))]), abs=1e-6)
    with pytest.warns(TruncationWarning):
        assert score != pytest.approx(usual.predict([(QUERY, LONG)]), abs=1e-6)


def test_a_saved_model_keeps_its_rule(folder, tmp_path):
    model = CrossEncoder(folder, device="cpu")
    assert model.truncation == "only_second"
    model.truncation = "longest_first"
    model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / SBERT_CONFIG).exists()
    model.truncation = "only_second"
    model.save_pretrained(tmp_path / "model")
    assert CrossEncoder(tmp_path / "model", device="cpu").truncation == "only_second"
    model.truncation = "longest_first"
    model.save_pretrained(tmp_path / "model")  # over the other, of which nothing stays
    assert CrossEncoder(tmp_path / "model", device="cpu").truncation == "longest_first"


@pytest.mark.filterwarnings("ignore::crossenc_kit.errors.TruncationWarning")
def test_from_sentence_transformers_and_to_it(folder, tmp_path):
    """It takes the rule as an argument of `predict`, or from a folder that it saved."""
    peer = pytest.importorskip("sentence_transformers")
    pairs = [(QUERY, LONG), ("the cat", LONG), ("a", "b")]
    settings = {"text": {"truncation": "only_second"}}
    theirs = peer.CrossEncoder(str(folder), device="cpu")
    expected = theirs.predict(pairs, show_progress_bar=False, processing_kwargs=settings)
    theirs[0].processing_kwargs = settings
    theirs.save_pretrained(str(tmp_path / "theirs"))
    for where in (folder, tmp_path / "theirs"):
        ours = CrossEncoder(where, device="cpu")
        assert ours.truncation == "only_second"
        assert ours.predict(pairs) == pytest.approx(expected, abs=1e-5)


def test_rules_that_there_are_not(folder, tmp_path):
    with pytest.raises(ValueError, match="unknown truncation 'only_first'; choose longest_first or only_second"):
        CrossEncoder("tiny", truncation="only_first")
    for known, rule in ((True, "longest_first"), ("only_second", "only_second")):
        assert find_rule(None, {"processing_kwargs": {"text": {"truncation": known}}}) == rule
    assert find_rule(None, {"processing_kwargs": {"common": {"truncation": "only_second"}}}) == "only_second"
    for nothing in (None, {}, json.loads('{"processing_kwargs": null}')):
        assert find_rule(None, nothing) == "longest_first"
    with pytest.warns(UserWarning, match="saved truncation 'only_first' is not one of"):
        assert find_rule(None, {"processing_kwargs": {"text": {"truncation": "only_first"}}}) == "longest_first"
