"""New pairs from texts, labelled by a cross-encoder, and what a bi-encoder learns from them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit import CrossEncoder, DataError, Pairs, ScoringPool, ensemble, evaluate_correlation, word_overlap
from crossenc_kit.distillation.augmentation import (
    bi_encoder_scorer,
    join_pairs,
    label_pairs,
    sample_pairs,
    train_bi_encoder,
)
from crossenc_kit.models.backbones import find_backbone

pytestmark = pytest.mark.filterwarnings("ignore:the head of 'tiny' is new")

TEXTS = ["a red cat sat", "the red cat", "a dog sat", "stock prices fell", "prices of stock rose"]


def words_of(texts):
    """A bi-encoder of sorts: which of some words a text has, `(U, 6)`."""
    known = ["red", "cat", "sat", "dog", "stock", "prices"]
    vectors = np.array([[word in text.split() for word in known] for text in texts])
    return vectors / np.sqrt(vectors.sum(1, keepdims=True))


class TestSampling:
    def test_bm25_by_hand(self):
        found = sample_pairs(TEXTS, k=1)
        assert found.texts == [
            ("a red cat sat", "the red cat"),  # red and cat; proposed by both sides, there once
            ("a dog sat", "a red cat sat"),
            ("stock prices fell", "prices of stock rose"),
        ]
        assert found.labels is None
        assert found.is_pointwise
        assert len(found.tags["bm25"]) == 3
        assert min(found.tags["bm25"]) > 0
        assert found.notes == ("3 new pairs by bm25, up to 1 per text",)

    def test_known_pairs_make_room_for_the_next(self):
        found = sample_pairs(TEXTS, k=1, exclude=[("the red cat", "a red cat sat"), ("stock prices fell", TEXTS[4])])
        assert found.texts == [("a red cat sat", "a dog sat")]
        assert "texts without a new pair: 3 of 5" in found.notes

    def test_dense_and_its_scores(self):
        found = sample_pairs(TEXTS, how="dense", k=1, encode=words_of)
        assert found.texts[0] == ("a red cat sat", "the red cat")
        assert found.tags["dense"][0] == pytest.approx(2 / np.sqrt(6))

    def test_pairs_stand_for_their_texts(self):
        gold = Pairs(TEXTS[:2], TEXTS[2:4], np.array([0.5, 0.1]))
        found = sample_pairs(gold, how="random", k=3)
        assert {text for pair in found.texts for text in pair} == set(TEXTS[:4])
        assert not {frozenset(pair) for pair in found.texts} & {frozenset(pair) for pair in gold.texts}
        assert found.tags == {}

    @settings(max_examples=40)
    @given(st.data(), st.integers(2, 12), st.integers(1, 4), st.integers(0, 3))
    def test_laws_of_a_random_sample(self, data, count, k, seed):
        texts = [f"text {row}" for row in range(count)]
        known = data.draw(st.lists(st.tuples(st.sampled_from(texts), st.sampled_from(texts)), max_size=10))
        barred = {frozenset(pair) for pair in known}
        free = {text: sum(frozenset((text, other)) not in barred for other in texts if other != text) for text in texts}
        if not any(free.values()):
            with pytest.raises(DataError, match="found no new pairs"):
                sample_pairs(texts, how="random", k=k, exclude=known)
            return
        found = sample_pairs(texts, how="random", k=k, seed=seed, exclude=known)
        sets = [frozenset(pair) for pair in found.texts]
        assert len(set(sets)) == len(sets)
        assert all(len(pair) == 2 for pair in sets)
        assert not set(sets) & barred
        for text in texts:  # each has its k, proposed by itself or by the other side
            assert sum(text in pair for pair in sets) >= min(k, free[text])
        assert found.texts == sample_pairs(texts, how="random", k=k, seed=seed, exclude=known).texts

    def test_the_seed_decides(self):
        texts = [f"text {row}" for row in range(30)]
        drawn = {tuple(sample_pairs(texts, how="random", k=1, seed=seed).texts) for seed in range(3)}
        assert len(drawn) == 3

    @pytest.mark.parametrize(
        ("texts", "options", "message"),
        [
            (TEXTS, {"how": "tfidf"}, "how is 'tfidf'; expected one of bm25, dense, random"),
            (["a", None], {}, "text 1: the text is missing"),
            (["only one"], {}, "bm25 found no new pairs for 1 texts"),
        ],
    )
    def test_what_does_not_fit(self, texts, options, message):
        with pytest.raises(ValueError, match=message):
            sample_pairs(texts, **options)


class TestLabels:
    def test_a_cross_encoder_labels_pairs(self, tmp_path):
        model = CrossEncoder("tiny", num_labels=1, seed=0)
        pairs = sample_pairs(TEXTS, k=2)
        silver = label_pairs(model, pairs)
        assert silver.labels == pytest.approx(model.predict(pairs))
        assert silver.tags == pairs.tags
        raw = label_pairs(model, pairs, settings={"activation_fn": "identity"})
        assert 1 / (1 + np.exp(-raw.labels)) == pytest.approx(silver.labels, abs=1e-6)
        assert label_pairs(model, pairs, tmp_path / "cache", shard_size=2).labels == pytest.approx(silver.labels)
        assert len(list((tmp_path / "cache").glob("*/*.parquet"))) == -(-len(pairs) // 2)

    def test_other_scorers(self, tmp_path):
        pairs = [("a b", "b c"), ("a", "a")]
        assert label_pairs(word_overlap, pairs).labels.tolist() == pytest.approx([1 / 3, 1])
        assert label_pairs(word_overlap, pairs, tmp_path, teacher="overlap-1").labels.tolist() == pytest.approx(
            [1 / 3, 1]
        )
        with pytest.raises(ValueError, match="teacher: options of a cache, which needs a folder"):
            label_pairs(word_overlap, pairs, teacher="overlap-1")
        with pytest.raises(DataError, match="gave nan"):
            label_pairs(lambda pairs: [1.0, float("nan")], pairs)

    @pytest.mark.parametrize("kept", [False, True], ids=["at once", "from a folder"])
    def test_a_classifiers_columns_come_in_the_order_of_the_data(self, tmp_path, kept):
        model = CrossEncoder("tiny", label_names=("neutral", "contradiction", "entailment"), seed=0, device="cpu")
        data = Pairs(["a", "b"], ["c", "d"], np.array([0, 2]), label_names=("contradiction", "entailment", "neutral"))
        silver = label_pairs(model, data, *([tmp_path] if kept else []))
        assert silver.label_names == data.label_names
        assert np.allclose(silver.labels, model.predict(data.texts)[:, [1, 2, 0]])
        assert label_pairs(model, data.texts).label_names == model.label_names
        pytest.importorskip("sentence_transformers")
        model.save_pretrained(tmp_path / "model")
        from sentence_transformers import CrossEncoder as Peer

        peer = Peer(str(tmp_path / "model"), device="cpu")
        for other in (model.predict, ensemble([model]), peer, peer.predict):
            assert label_pairs(other, data).labels == pytest.approx(silver.labels, abs=1e-6)
        with ScoringPool(model, processes=1) as pool:
            assert label_pairs(pool, data).labels == pytest.approx(silver.labels, abs=1e-6)
        with pytest.raises(DataError, match=r"the teacher's classes are neutral, .*, the data's no, perhaps, yes"):
            label_pairs(model, Pairs(["a"], ["b"], np.array([0]), label_names=("no", "perhaps", "yes")))


class TestJoining:
    def test_by_hand(self):
        gold = Pairs(
            ["q", "q", "r"], ["a", "b", "c"], np.array([1, 0, 1]), np.array([0, 2, 3]), {"id": [1, 2], "x": [0, 0]}
        )
        silver = Pairs(["s"], ["d"], np.array([0.25]), tags={"id": [3]}, notes=("by bm25",))
        joined = join_pairs(gold=gold, silver=silver)
        assert joined.texts == [("q", "a"), ("q", "b"), ("r", "c"), ("s", "d")]
        assert joined.labels.tolist() == [1, 0, 1, 0.25]
        assert joined.offsets.tolist() == [0, 2, 3, 4]
        assert joined.tags == {"origin": ["gold", "gold", "silver"], "id": [1, 2, 3]}
        assert joined.notes == ("gold: 2 rows", "silver: 1 rows", "silver: by bm25")

    def test_labels_of_several_kinds(self):
        with pytest.raises(DataError, match="the parts' labels differ: a has one label per pair, b has no labels"):
            join_pairs(a=[("x", "y", 1.0)], b=[("x", "y")])
        with pytest.raises(DataError, match="a has 2 labels per pair, b has one label per pair"):
            join_pairs(a=[("x", "y", [1.0, 0.0])], b=[("x", "y", 1.0)])
        named = [Pairs(["x"], ["y"], np.array([0]), label_names=names) for names in (("no", "yes"), ("yes", "no"))]
        with pytest.raises(DataError, match="of the classes no/yes, b has one label per pair of the classes yes/no"):
            join_pairs(a=named[0], b=named[1])


def sentences(seed, count):
    """Texts of a few words from few, so that some share many."""
    words = ["cat", "dog", "red", "big", "sat", "ran", "sun", "sea", "old", "new"]
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(words, 4, replace=False)) for _ in range(count)]


class TestBiEncoder:
    def test_silver_helps_where_gold_is_scarce(self):
        """Gold and silver are labelled by word overlap here: a teacher that never errs."""
        pytest.importorskip("sentence_transformers")
        gold = label_pairs(word_overlap, list(zip(sentences(0, 12), sentences(1, 12), strict=True)))
        test = label_pairs(word_overlap, list(zip(sentences(2, 200), sentences(3, 200), strict=True)))
        silver = label_pairs(word_overlap, sample_pairs(sentences(4, 100), how="random", k=4))
        options = {"epochs": 2, "learning_rate": 2e-3, "device": "cpu"}
        found = {}
        for name, data in {"gold": gold, "both": join_pairs(gold=gold, silver=silver)}.items():
            model = train_bi_encoder(data, "tiny", **options)
            assert not model.training
            found[name] = evaluate_correlation(bi_encoder_scorer(model), test, resamples=0).spearman
        assert found["both"] > found["gold"] + 0.1

    def test_the_seed_decides(self):
        pytest.importorskip("sentence_transformers")
        gold = label_pairs(word_overlap, list(zip(sentences(0, 12), sentences(1, 12), strict=True)))

        def scores(seed):
            model = train_bi_encoder(gold, "tiny", batch_size=4, learning_rate=1e-3, seed=seed, device="cpu")
            return bi_encoder_scorer(model)(gold.texts).tolist()

        assert scores(0) == scores(0) != scores(1)

    def test_a_model_given_is_trained_in_place_with_the_loss_of_sentence_transformers(self):
        peer = pytest.importorskip("sentence_transformers")
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

        body = Transformer(find_backbone("tiny").folder)
        model = peer.SentenceTransformer(modules=[body, Pooling(64, "mean")], device="cpu")
        pairs = [("a cat", "a dog", 1.0), ("the sea", "old sun", -1.0)]

        def error():
            cosines = bi_encoder_scorer(model)([pair[:2] for pair in pairs])
            return float(np.mean((cosines - [1.0, -1.0]) ** 2))

        before = error()
        assert train_bi_encoder(pairs, model, epochs=8, learning_rate=1e-3) is model
        assert error() < before - 0.3

    def test_labels_that_are_no_cosines(self):
        with pytest.raises(DataError, match=r"pair 1: the label is 3, and a cosine is from -1 to 1; take"):
            train_bi_encoder([("a", "b", 0.5), ("c", "d", 3)], "tiny")
        with pytest.raises(DataError, match="one label each; label_pairs adds"):
            train_bi_encoder([("a", "b")], "tiny")

    def test_without_the_package_it_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(ImportError, match=r"training a bi-encoder needs sentence.transformers"):
            train_bi_encoder([("a", "b", 1.0)], "tiny")
