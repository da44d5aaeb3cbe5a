"""`rank` and `rank_many`: documents in the order of their scores, and what cannot be ranked."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import pairs_of_all_lengths

from crossenc_kit import DataError

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # nothing here may warn but where a test says so

PAIRS = pairs_of_all_lengths()[:8]  # none longer than 64 tokens


DOCUMENTS = [right for _, right in PAIRS]


def test_rank_sorts_the_documents_by_their_scores(model):
    scores = model.predict([("the cat", text) for text in DOCUMENTS])
    hits = model.rank("the cat", DOCUMENTS)
    assert [hit["corpus_id"] for hit in hits] == np.argsort(-scores, kind="stable").tolist()
    assert [hit["score"] for hit in hits] == pytest.approx(sorted(scores.tolist(), reverse=True), abs=1e-6)
    assert all(type(hit["corpus_id"]) is int and type(hit["score"]) is float for hit in hits)
    assert model.rank("the cat", DOCUMENTS, top_k=3) == hits[:3]
    assert model.rank("the cat", DOCUMENTS, top_k=99) == hits
    assert model.rank("the cat", DOCUMENTS, top_k=0) == []
    with_texts = model.rank("the cat", DOCUMENTS, return_documents=True)
    assert [hit["text"] for hit in with_texts] == [DOCUMENTS[hit["corpus_id"]] for hit in hits]


def test_equal_scores_keep_the_order_of_the_documents(model):
    hits = model.rank("the cat", ["a dog", "a dog", "the book", "a dog"])
    same = [hit["corpus_id"] for hit in hits if hit["corpus_id"] != 2]
    assert same == [0, 1, 3]


def test_options_of_predict(model):
    hits = model.rank("the cat", DOCUMENTS, activation_fn="identity", batch_size=2)
    assert any(hit["score"] < 0 or hit["score"] > 1 for hit in hits)
    for options in ({"convert_to_tensor": True}, {"convert_to_numpy": False}):
        assert model.rank("the cat", DOCUMENTS, **options) == model.rank("the cat", DOCUMENTS)


def test_rank_many_is_rank_for_each_query(model, batches):
    queries, candidates = ["the cat", "a book", "the dog"], [DOCUMENTS[:3], [], DOCUMENTS[2:]]
    expected = [model.rank(query, texts) for query, texts in zip(queries, candidates, strict=True)]
    sizes = batches(model)
    rankings = model.rank_many(queries, candidates)
    assert len(sizes) == 1  # all of them in one go
    assert [[hit["corpus_id"] for hit in hits] for hits in rankings] == [
        [hit["corpus_id"] for hit in hits] for hits in expected
    ]
    assert rankings[1] == []
    assert model.rank_many([], []) == []
    assert model.rank("the cat", []) == []


@pytest.mark.parametrize(
    ("query", "documents", "options", "error", "message"),
    [
        ("q", "one document", {}, DataError, "got one string; put it in a list"),
        ("q", ["a", None], {}, DataError, "row 1, text 1: the text is missing"),
        (None, ["a"], {}, DataError, "row 0, text 0: the text is missing"),
        ("q", ["a"], {"top_k": -1}, ValueError, "top_k must be at least 0, got -1"),
    ],
)
def test_what_cannot_be_ranked(model, query, documents, options, error, message):
    with pytest.raises(error, match=message):
        model.rank(query, documents, **options)


def test_what_cannot_be_ranked_together(model, three):
    with pytest.raises(DataError, match="2 queries, but 1 lists of documents"):
        model.rank_many(["a", "b"], [["c"]])
    with pytest.raises(DataError, match="got one string"):
        model.rank_many("a", [["c"]])
    with pytest.raises(ValueError, match="ranking needs one score per pair; this model has num_labels=3"):
        three.rank("a", ["b"])
