"""Ranked documents: the hits of sentence-transformers for texts, and ids and metadata of documents that have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit.data.documents import rank_candidates, read_document
from crossenc_kit.errors import DataError
from crossenc_kit.models.cross_encoder import CrossEncoder

TEXTS = ["a dog", "the cat sings", "the cat", "books and the sea", "a cat and a dog"]
DOCUMENTS = [
    {"_id": "d1", "text": "a dog", "year": 1999},
    {"_id": "d2", "text": "the cat sings", "year": 2004, "url": "https://example.org"},
    {"_id": "d3", "text": "the cat", "year": 2001},
]


def by_length(pairs):
    return [len(document) for _, document in pairs]


def hits_of(documents, scorer=by_length, **options):
    return rank_candidates(scorer, ["q"], [documents], **options)[0]


# --- by hand --------------------------------------------------------------------------------------


def test_a_hit_of_a_text_has_index_and_score_alone():
    hits = hits_of(["a dog", "the cat sings"])
    assert hits == [{"corpus_id": 1, "score": 13.0}, {"corpus_id": 0, "score": 5.0}]
    assert [list(hit) for hit in hits_of(["a"], return_documents=True)] == [["corpus_id", "score", "text"]]


def test_a_hit_of_a_dict_has_its_id_and_metadata_beside():
    hits = hits_of(DOCUMENTS, top_k=2)
    assert hits == [
        {"corpus_id": 1, "score": 13.0, "id": "d2", "year": 2004, "url": "https://example.org"},
        {"corpus_id": 2, "score": 7.0, "id": "d3", "year": 2001},
    ]
    assert hits_of(DOCUMENTS, return_documents=True)[0]["text"] == "the cat sings"


def test_a_hit_of_a_mapping_has_its_id():
    documents = {"x": "a dog", "y": "the cat sings"}
    assert hits_of(documents) == [
        {"corpus_id": 1, "score": 13.0, "id": "y"},
        {"corpus_id": 0, "score": 5.0, "id": "x"},
    ]
    assert hits_of({"x": {"text": "a dog", "year": 1}}) == [{"corpus_id": 0, "score": 5.0, "id": "x", "year": 1}]
    assert hits_of({}) == []


@pytest.mark.parametrize("name", ["id", "_id", "corpus_id"])
def test_an_id_has_three_names(name):
    assert hits_of([{name: 7, "text": "a"}]) == [{"corpus_id": 0, "score": 1.0, "id": 7}]
    assert hits_of({"key": {name: 7, "text": "a"}}) == [{"corpus_id": 0, "score": 1.0, "id": "key"}]


def test_of_several_ids_the_first_name_counts():
    hit = {"id": 7, "text": "b", "corpus_id": 3, "score": 2.0}  # the place in another list
    assert hits_of([hit]) == [{"corpus_id": 0, "score": 1.0, "id": 7, "first_score": 2.0}]


def test_a_dict_needs_no_id_and_may_stand_beside_texts():
    assert hits_of(["a", {"text": "bb", "kind": "note"}]) == [
        {"corpus_id": 1, "score": 2.0, "kind": "note"},
        {"corpus_id": 0, "score": 1.0},
    ]


def test_a_title_is_read_before_the_text_and_is_not_part_of_it():
    document = read_document({"_id": "d", "title": "Cats", "text": "they sing"})
    assert (document.text, document.shown) == ("Cats they sing", "they sing")
    assert document.fields == {"id": "d", "title": "Cats"}
    for title in ("", None):
        assert read_document({"title": title, "text": "they sing"}).text == "they sing"


def test_hits_can_be_ranked_again():
    """Ids stay; the index is that in the new list, and the earlier score has a name of its own."""
    first = hits_of(DOCUMENTS, return_documents=True)
    again = hits_of(first, scorer=lambda pairs: [-len(document) for _, document in pairs])
    assert [(hit["id"], hit["corpus_id"], hit["score"], hit["first_score"]) for hit in again] == [
        ("d1", 2, -5.0, 5.0),
        ("d3", 1, -7.0, 7.0),
        ("d2", 0, -13.0, 13.0),
    ]
    assert again[0]["year"] == 1999


def test_hits_are_a_list_that_a_notebook_shows_as_a_table():
    hits = hits_of([{"id": "d1", "text": "<b>"}, "a much longer text"], return_documents=True)
    assert hits._repr_html_().startswith(
        "<table><thead><tr><th>corpus_id</th><th>score</th><th>text</th><th>id</th></tr></thead>"
        "<tbody><tr><td>1</td><td>18.0</td><td>a much longer text</td><td></td></tr>"
    )
    assert "<td>&lt;b&gt;</td><td>d1</td>" in hits._repr_html_()
    assert hits == list(hits)


# --- laws -----------------------------------------------------------------------------------------

LISTS = st.lists(st.text(max_size=6).map("w{}".format), max_size=8)


@given(LISTS, st.none() | st.integers(0, 9))
def test_ids_and_metadata_change_neither_order_nor_scores(texts, top_k):
    plain = hits_of(texts, top_k=top_k)
    named = {f"d{place}": text for place, text in enumerate(texts)}
    dicts = [{"id": name, "text": text, "length": len(text)} for name, text in named.items()]
    for documents in (named, dicts):
        hits = hits_of(documents, top_k=top_k)
        assert [{key: hit[key] for key in ("corpus_id", "score")} for hit in hits] == plain
        assert [hit["id"] for hit in hits] == [f"d{hit['corpus_id']}" for hit in hits]
    assert all(hit["length"] == hit["score"] for hit in hits_of(dicts))


@given(st.lists(LISTS, max_size=5))
def test_queries_are_scored_together_and_ranked_apart(documents):
    calls = []

    def scorer(pairs):
        calls.append(pairs)
        return by_length(pairs)

    queries = [f"q{place}" for place in range(len(documents))]
    rankings = rank_candidates(scorer, queries, documents)
    assert rankings == [hits_of(own) for own in documents]
    assert len(calls) == 1


# --- as sentence-transformers ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    peer = pytest.importorskip("sentence_transformers")
    folder = tmp_path_factory.mktemp("model")
    CrossEncoder("tiny", num_labels=1, seed=3, device="cpu").save_pretrained(folder)
    return CrossEncoder(folder, device="cpu"), peer.CrossEncoder(str(folder), device="cpu")


@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"return_documents": True}, {"top_k": 9, "batch_size": 2}])
def test_rank_is_that_of_sentence_transformers(both, options):
    ours, theirs = (model.rank("the cat", TEXTS, show_progress_bar=False, **options) for model in both)
    assert [list(hit) for hit in ours] == [list(hit) for hit in theirs]
    for key in ("corpus_id", "text"):
        assert [hit.get(key) for hit in ours] == [hit.get(key) for hit in theirs]
    assert [hit["score"] for hit in ours] == pytest.approx([hit["score"] for hit in theirs], abs=1e-5)


def test_rank_many_of_a_model_carries_ids(both):
    model, _ = both
    named = {f"d{place}": text for place, text in enumerate(TEXTS)}
    one, other = model.rank_many(["the cat", "a dog"], [named, DOCUMENTS], top_k=1, return_documents=True)
    assert named[one[0]["id"]] == one[0]["text"]
    assert DOCUMENTS[other[0]["corpus_id"]] == {"_id": other[0]["id"], "text": other[0]["text"]} | {
        key: value for key, value in other[0].items() if key not in ("id", "text", "corpus_id", "score")
    }
    assert [hit["id"] for hit in model.rank("the cat", named)] == [
        f"d{hit['corpus_id']}" for hit in model.rank("the cat", TEXTS)
    ]


# --- what cannot be ranked ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([{"id": "d1", "text": "a"}, {"id": "d2", "body": "b"}], r"document 'd2': no 'text' among \['id', 'body'\]"),
        ([{"body": "b"}], "document 0: no 'text' among"),
        ([{"id": "d1", "text": None}], "document 'd1', text: the text is missing"),
        ({"d1": {"text": "a", "title": 3}}, "document 'd1', title: expected a string, got int '3'"),
        ("a text", "got one string; put it in a list"),
    ],
)
def test_documents_without_a_text(documents, message):
    with pytest.raises(DataError, match=message):
        hits_of(documents)


@pytest.mark.parametrize(
    ("queries", "documents", "scorer", "message"),
    [
        (["q"], [[DOCUMENTS[0], DOCUMENTS[0]]], by_length, r"^query 0: 1 ids have several documents, .* 'd1'$"),
        (["q"], [["a", "b"]], lambda pairs: [0.0, float("nan")], r"gave nan for the query 'q' .* 'b' \(1 of 2 scores"),
        ({"q1": "a"}, [["b"]], by_length, "a list of their documents, got a mapping"),
        (["a"], {"q1": ["b"]}, by_length, "a list of their documents, got a mapping"),
        (["q"], [["a", "b"]], lambda pairs: [0.0], r"scores of shape \(1,\) for 2 pairs; expected one a pair"),
    ],
)
def test_what_cannot_be_ranked(queries, documents, scorer, message):
    with pytest.raises(DataError, match=message):
        rank_candidates(scorer, queries, documents)


@pytest.mark.parametrize(
    ("top_k", "message"), [(1.5, "top_k is 1.5; expected a whole number"), (-1, "at least 0, got -1")]
)
def test_how_many_hits(top_k, message):
    with pytest.raises(ValueError, match=message):
        hits_of(TEXTS, top_k=top_k)
