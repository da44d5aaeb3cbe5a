"""Which text of a pair is cut: as Hugging Face's tokenizers cut, and kept with a saved model."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from small_models import tokenizer

from crossenc_kit.errors import DataError, TruncationWarning
from crossenc_kit.models.cross_encoder import CrossEncoder
from crossenc_kit.models.settings import SBERT_CONFIG, find_rule
from crossenc_kit.models.tokens import only_second, tokenize, without_room

QUERY, LONG = "the cat and the dog in school", "a dog is in the book of the city and the cat"


# --- the rule -------------------------------------------------------------------------------------


def test_the_rule_by_hand():
    sizes = np.array([[3, 4], [3, 9], [6, 9], [0, 20], [7, 0], [7, 1], [9, 0]])
    assert only_second(sizes, 7).tolist() == [[3, 4], [3, 4], [6, 1], [0, 7], [7, 0], [7, 0], [9, 0]]
    assert without_room(sizes, 7).tolist() == [False] * 5 + [True] * 2


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
