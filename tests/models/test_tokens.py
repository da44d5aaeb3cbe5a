"""Token ids as Hugging Face gives them, each text tokenised once, and batches by length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import tokenizer, words

from crossenc_kit.data.pairs import Pairs
from crossenc_kit.errors import DataError
from crossenc_kit.models.tokens import RULES, length_batches, longest_first, pair_template, tokenize

KINDS = ["wordpiece", "no segments", "bytes", "unigram"]
BY_RULE = pytest.mark.parametrize("rule", RULES)
# Words, spaces, and what normalisation, byte-level pieces and special tokens make of the rest.
PIECES = ["the", "cat", " ", "  ", "\n", "sings", "é", "e\u0301", "ß", "日本", "🙂", "\u200b", "\x00", "Ａ", "[SEP]"]
PIECES += ["</s>", "<pad>", "[PAD]", "<unk>", "##s", "▁", "'s", "1,000", "A"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=8)


def hugging_face(kind, pair, **options):
    """What one call of the tokenizer makes of both texts of a pair, or None if it raises an error."""
    try:
        encoded = tokenizer(kind)(*([text] for text in pair), verbose=False, **options)
        return {name: rows[0] for name, rows in encoded.items()}
    except Exception as error:  # of the fast tokenizers, and of no type of its own
        if "Truncation error" not in str(error):
            raise
        return None


def assert_as_hugging_face(kind, pairs, max_length, rule="longest_first"):
    """Compare ids, segments and lengths of each pair; return the tokens and how many pairs were refused."""
    known, options = tokenizer(kind), {"truncation": rule, "max_length": max_length}
    expected = [hugging_face(kind, pair, **options) for pair in pairs]
    refused = expected.count(None)
    if refused:
        with pytest.raises(DataError, match=f"row {expected.index(None)}: the first text has"):
            tokenize(known, pairs, max_length, rule)
    fine = [(pair, encoded) for pair, encoded in zip(pairs, expected, strict=True) if encoded]
    tokens = tokenize(known, [pair for pair, _ in fine], max_length, rule)
    assert len(tokens) == len(fine)
    for row, (pair, encoded) in enumerate(fine):
        ids, segments = tokens.pair(row)
        assert ids.tolist() == encoded["input_ids"]
        assert tokens.lengths[row] == len(ids)
        assert tokens.dropped[row] == len(hugging_face(kind, pair)["input_ids"]) - len(ids)
        assert (None if segments is None else segments.tolist()) == encoded.get("token_type_ids")
    return tokens, refused


# --- tokens ---------------------------------------------------------------------------------------


def test_one_pair_by_hand():
    tokens = tokenize(tokenizer("wordpiece"), [("The cat", "a dog")], 16)
    ids, segments = tokens.pair(0)
    assert tokenizer("wordpiece").decode(ids.tolist()) == "[CLS] the cat [SEP] a dog [SEP]"
    assert segments.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert (tokens.lengths.tolist(), tokens.dropped.tolist(), tokens.num_truncated) == ([7], [0], 0)


def test_roberta_puts_two_separators_between():
    template = pair_template(tokenizer("bytes"))
    assert (template.before.tolist(), template.between.tolist(), template.after.tolist()) == ([0], [2, 2], [2])
    assert template.segments is None
    assert template.size == 4


@BY_RULE
@pytest.mark.parametrize("kind", KINDS)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4), max_length=st.integers(6, 40))
def test_any_texts_are_tokenised_as_hugging_face_does(kind, rule, pairs, max_length):
    assert_as_hugging_face(kind, pairs, max_length, rule)


@BY_RULE
@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_case(kind, rule):
    """Both short, one long, both long, equal, empty, at the limit and around it, for even and odd room."""
    sizes = (0, 1, 2, 3, 6, 7, 8, 11, 12, 13, 14, 15, 30)
    pairs = [(" a" * left, " b" * right) for left in sizes for right in sizes]
    for max_length in (6, 7, 16, 17):
        tokens, refused = assert_as_hugging_face(kind, pairs, max_length, rule)
        assert tokens.num_truncated == int((tokens.dropped > 0).sum()) > 0
        assert (refused > 5) == (rule == "only_second")


def test_truncation_by_hand():
    sizes = np.array([[3, 4], [3, 9], [9, 3], [9, 9], [0, 20], [5, 6], [20, 5]])
    assert longest_first(sizes, 7).tolist() == [[3, 4], [3, 4], [4, 3], [3, 4], [0, 7], [3, 4], [4, 3]]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1), st.integers(2, 60))
def test_truncation_keeps_as_much_as_there_is_room_for(sizes, room):
    full = np.array(sizes)
    kept = longest_first(full, room)
    assert (kept >= 0).all()
    assert (kept <= full).all()
    assert (kept.sum(axis=1) == np.minimum(full.sum(axis=1), room)).all()


def test_a_text_that_repeats_is_tokenised_once():
    class Counting:
        """A tokenizer that notes its inputs."""

        model_input_names = tokenizer("wordpiece").model_input_names

        def __init__(self):
            self.texts = []

        def __call__(self, text, pair=None, **options):
            self.texts += text if isinstance(text, list) else []
            return tokenizer("wordpiece")(text, pair, **options)

    counting = Counting()
    pairs = [("the query", f"document {i % 3}") for i in range(9)] + [("document 0", "the query")]
    tokens = tokenize(counting, pairs, 64)
    assert sorted(counting.texts) == ["document 0", "document 1", "document 2", "the query"]
    assert tokens.left.tolist() == [0] * 9 + [tokens.right[0]]
    assert_as_hugging_face("wordpiece", pairs, 64)


def test_many_texts_are_tokenised_in_parts(monkeypatch):
    pairs = [(words(i % 5, i), words(3, i + 100)) for i in range(23)]
    whole = tokenize(tokenizer("wordpiece"), pairs, 32)
    monkeypatch.setattr("crossenc_kit.models.tokens.TOKENIZE_AT_ONCE", 4)
    parts = tokenize(tokenizer("wordpiece"), pairs, 32)
    assert parts.ids.tolist() == whole.ids.tolist()
    assert parts.starts.tolist() == whole.starts.tolist()


def test_pairs_and_tuples_give_the_same_tokens():
    pairs = Pairs(["q", "q", "b"], ["x", "y", "z"], offsets=np.array([0, 2, 3]))
    one, other = tokenize(tokenizer("wordpiece"), pairs, 16), tokenize(tokenizer("wordpiece"), pairs.texts, 16)
    assert [one.pair(row)[0].tolist() for row in range(3)] == [other.pair(row)[0].tolist() for row in range(3)]


def test_nothing_to_tokenise():
    tokens = tokenize(tokenizer("wordpiece"), [], 16)
    assert (len(tokens), tokens.num_truncated, tokens.lengths.tolist()) == (0, 0, [])


@pytest.mark.parametrize("text", [None, float("nan"), 3, b"bytes", ["a list"]])
def test_what_is_not_a_text_is_named_by_row_and_side(text):
    with pytest.raises(DataError, match="row 1, right text"):
        tokenize(tokenizer("wordpiece"), [("a", "b"), ("c", text)], 16)
    with pytest.raises(DataError, match="row 0, left text"):
        tokenize(tokenizer("wordpiece"), [(text, "b")], 16)


def test_a_length_without_room_for_texts():
    with pytest.raises(ValueError, match=r"max_length=5 leaves no room for 4 special tokens and a token of each text"):
        tokenize(tokenizer("bytes"), [("a", "b")], 5)
    assert tokenize(tokenizer("bytes"), [("a b", "c d")], 6).lengths.tolist() == [6]


@BY_RULE
def test_a_tokenizer_that_cuts_at_the_start(monkeypatch, rule):
    long = "a dog is in the book of the city and the cat"
    for kind in KINDS:
        monkeypatch.setattr(tokenizer(kind), "truncation_side", "left")
        assert_as_hugging_face(kind, [("the cat sings and the dog comes", "a book"), ("a", "b")], 8, rule)
        assert_as_hugging_face(kind, [("the cat", long)], 16, rule)


def test_a_tokenizer_that_hides_its_own_tokens_is_refused():
    class Odd:
        model_input_names = ("input_ids",)

        def __call__(self, text, pair=None, **options):
            return {"input_ids": [1, 2, 3] if pair else [9]}

    with pytest.raises(ValueError, match="does not contain its own tokens"):
        tokenize(Odd(), [("a", "b")], 16)


# --- batches to score -----------------------------------------------------------------------------

LENGTHS = st.lists(st.integers(1, 60), max_size=60).map(np.array)


@given(LENGTHS.filter(len), st.integers(1, 200), st.none() | st.integers(1, 9))
def test_length_batches_cover_every_row_once_within_the_budget(lengths, budget, most):
    batches = list(length_batches(lengths, budget, most))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) * lengths[rows].max() <= budget or len(rows) == 1
        assert most is None or len(rows) <= most
    ordered = lengths[np.concatenate(batches)]
    assert (np.diff(ordered) <= 0).all()


def test_length_batches_by_hand():
    lengths = np.array([3, 9, 4, 3, 30])
    assert [rows.tolist() for rows in length_batches(lengths, 12)] == [[4], [1], [2, 0, 3]]
    assert [rows.tolist() for rows in length_batches(lengths, 12, 2)] == [[4], [1], [2, 0], [3]]
    assert list(length_batches(np.zeros(0, dtype=int), 12)) == []
    with pytest.raises(ValueError, match="batch_size must be a whole number, 1 or more, got 0"):
        next(length_batches(lengths, 12, 0))
