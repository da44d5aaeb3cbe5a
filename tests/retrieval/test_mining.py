"""Hard negatives: by hand, against sentence-transformers' own mining, and what cannot be mined."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.data import Collection
from crossenc_kit.errors import DataError
from crossenc_kit.retrieval import bm25_index, mine_hard_negatives, negatives_by_epoch

QUERIES = {"q": "question", "r": "riddle"}
DOCUMENTS = {name: f"text {name}" for name in "pabcdefs"}
QRELS = {"q": {"p": 1}, "r": {"s": 1}}
RUN = {"q": {"a": 0.9, "p": 0.8, "b": 0.7, "c": 0.6, "d": 0.5, "e": 0.4}, "r": {"s": 0.5, "f": 0.4}}


def mine(qrels=QRELS, run=RUN, queries=QUERIES, documents=DOCUMENTS, **options):
    options = {"num_negatives": 2, "run": run, **options}
    return mine_hard_negatives(Collection(queries, documents, qrels), **options)


def found(mined, query="q"):
    """The negatives of a query, as one text."""
    return "".join(mined.negatives.get(query, ()))


class TestByHand:
    def test_groups(self):
        mined = mine()
        assert mined.negatives == {"q": {"a": 0.9, "b": 0.7}, "r": {"f": 0.4}}
        assert mined.candidates == {"q": {"a": 0.9, "b": 0.7, "c": 0.6, "d": 0.5, "e": 0.4}, "r": {"f": 0.4}}
        assert mined.positives == {"q": {"p": 0.8}, "r": {"s": 0.5}}
        assert mined.pairs.left == ["question"] * 3 + ["riddle"] * 2
        assert mined.pairs.right == ["text p", "text a", "text b", "text s", "text f"]
        assert mined.pairs.labels.tolist() == [1, 0, 0, 1, 0]
        assert mined.pairs.labels.dtype == np.float32
        assert mined.pairs.offsets.tolist() == [0, 3, 5]
        assert mined.pairs.tags == {"query_id": ["q", "r"], "document_ids": [["p", "a", "b"], ["s", "f"]]}

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"absolute_margin": 0}, "bc"),  # 0.9 is above the positive's 0.8
            ({"absolute_margin": 0.2}, "cd"),
            ({"relative_margin": 0.3}, "de"),  # at most 0.8 - 0.24
            ({"max_score": 0.7}, "bc"),
            ({"max_score": 0.69}, "cd"),
            ({"min_score": 0.8}, "a"),
            ({"range_min": 1}, "bc"),  # the positive has no position
            ({"range_min": 1, "max_score": 0.7}, "cd"),  # positions are counted after the limits
            ({"range_min": 1, "range_max": 3}, "bc"),
            ({"range_min": 3, "range_max": 5}, "de"),
            ({"absolute_margin": 0.15, "min_score": 0.55}, "c"),
            ({"num_negatives": 9}, "abcde"),
        ],
    )
    def test_margins_thresholds_and_positions(self, options, expected):
        assert found(mine(**options)) == expected

    def test_the_lowest_positive_sets_the_margin_and_each_has_a_group(self):
        qrels = {"q": {"c": 1, "p": 2}}
        mined = mine(qrels, absolute_margin=0)
        assert found(mined) == "de"  # below 0.6, that of c
        assert mined.pairs.tags["document_ids"] == [["c", "d", "e"], ["p", "d", "e"]]
        lists, pairs = (mine(qrels, output=output).pairs for output in ("lists", "pairs"))
        assert lists.tags == {"query_id": ["q"], "document_ids": [["c", "p", "a", "b"]]}
        assert lists.labels.tolist() == pairs.labels.tolist() == [1, 1, 0, 0]
        assert pairs.is_pointwise
        assert pairs.tags == {"query_id": ["q"] * 4, "document_ids": [["c"], ["p"], ["a"], ["b"]]}

    def test_grades_between_are_no_negatives_unless_asked_for(self):
        qrels = {"q": {"p": 3, "a": 1, "c": 0}}
        graded = mine(qrels, relevant_from=2, num_negatives=4)
        assert found(graded) == "bcde"
        assert graded.statistics["candidates_dropped"] == {"grade between": 1, "positive": 1}
        assert found(mine(qrels, relevant_from=2, negative_grade=1)) == "ab"
        assert list(mine(qrels).positives["q"]) == ["p", "a"]

    def test_copies_of_known_documents_of_the_query_and_of_candidates_are_left_out(self):
        documents = DOCUMENTS | {"a": "text p", "b": "question", "d": "text c"}
        mined = mine(documents=documents)
        assert found(mined) == "ce"
        assert mined.statistics["candidates_dropped"] == {"copy": 3, "positive": 2}

    def test_a_positive_that_the_run_lacks_is_below_every_candidate(self):
        run = {"q": {"a": 0.9, "b": -0.7}}
        assert found(mine(run=run)) == "ab"
        for options in ({"absolute_margin": 0}, {"relative_margin": 0.1}):
            with pytest.raises(DataError, match=r"no query has a negative: .*: 2 \('q', 'r'\).*_margin 2"):
                mine(run=run, **options)
        statistics = mine(run=run).statistics
        assert statistics["positives_without_score"] == 1  # that of r has no group
        assert statistics["margins"] == {"count": 0}

    def test_a_first_stage_is_asked_for_the_positives(self):
        documents = {"good": "answer", "x": "the cat", "y": "cat cat", "z": "a cat", "none": "dog"}
        for first_stage in ("bm25", bm25_index(documents)):
            collection = Collection({"q": "cat"}, documents, {"q": {"good": 1}})
            mined = mine_hard_negatives(collection, first_stage=first_stage)
            assert mined.positives == {"q": {"good": 0.0}}
            assert mined.negatives == bm25_index(documents)({"q": "cat"})
        with pytest.warns(UserWarning, match="1 of 1 queries"), pytest.raises(DataError, match="no query has"):
            mine_hard_negatives(Collection({"q": "mouse"}, documents, {"q": {"good": 1}}))

    def test_scores_of_a_cross_encoder_replace_those_of_the_first_stage(self):
        scores = {"p": 5.0, "a": 6.0, "b": 1.0, "c": 4.0, "d": 3.0, "e": 2.0, "s": 1.0, "f": 0.0}
        asked = []

        def scorer(pairs):
            asked.append(pairs)
            return np.array([scores[document[-1]] for _, document in pairs])

        mined = mine(cross_encoder=scorer, absolute_margin=1)
        assert mined.negatives == {"q": {"c": 4.0, "d": 3.0}, "r": {"f": 0.0}}
        assert mined.positives == {"q": {"p": 5.0}, "r": {"s": 1.0}}
        assert len(asked) == 1
        assert len(asked[0]) == 8
        with pytest.raises(DataError, match=r"scores of shape \(8, 2\); expected \(8,\), one per pair"):
            mine(cross_encoder=lambda pairs: np.ones((len(pairs), 2)))
        broken = {document: math.nan if document[-1] in "bd" else 1.0 for document in DOCUMENTS.values()}
        with pytest.raises(DataError, match=r"gave nan for query 'q', document 'b' \(2 of 8 scores are not finite\)"):
            mine(cross_encoder=lambda pairs: [broken[document] for _, document in pairs])


class TestStatistics:
    def test_who_lacks_what(self):
        queries = QUERIES | {"alone": "no positive", "lost": "not in the run"}
        qrels = QRELS | {"lost": {"a": 1}}
        mined = mine(qrels, queries=queries, min_score=0.4)
        assert list(mined.negatives) == ["q", "r"]
        statistics = mined.statistics
        assert json.loads(json.dumps(statistics)) == statistics
        expected = {"queries": 4, "queries_mined": 2, "queries_without_positive": ["alone"]}
        expected |= {"queries_without_negative": ["lost"], "queries_short": ["r"], "candidates_left": 6}
        assert {name: statistics[name] for name in expected} == expected
        assert statistics["positive_scores"] == {"count": 2, "mean": 0.65, "median": 0.65, "least": 0.5, "most": 0.8}
        margins = {"count": 3, "mean": 0.1 / 3, "median": 0.1, "least": -0.1, "most": 0.1}
        assert statistics["margins"] == pytest.approx(margins)
        for line in ("2 of 4 queries, 2 negatives each", "no positive, left out: 1 ('alone')", "margins: mean 0.033"):
            assert line in repr(mined)
        assert "fewer negatives, kept with what there is: 1 ('r')" in mined.pairs.notes[-2]

    def test_queries_that_lack_some_can_be_left_out(self):
        mined = mine(drop_short=True)
        assert list(mined.negatives) == ["q"]
        assert mined.statistics["queries_mined"] == 1
        assert "fewer negatives, left out: 1 ('r')" in repr(mined)
        with pytest.raises(DataError, match=r"no query has a negative: 0 of 2 queries, 6 negatives each"):
            mine(drop_short=True, num_negatives=6)


class TestDraws:
    def test_a_random_draw_is_of_the_seed_and_the_query(self):
        mined = mine(sampling="random")
        assert mined.negatives == mine(sampling="random").negatives
        assert mined.negatives["q"] == mine({"q": {"p": 1}}, sampling="random").negatives["q"]
        assert len({found(mine(sampling="random", seed=seed)) for seed in range(30)}) > 5  # of 10
        assert all(
            list(scores.values()) == sorted(scores.values(), reverse=True) for scores in mined.negatives.values()
        )

    def test_each_epoch_has_its_own_draw_in_groups_of_the_same_size(self):
        mined = mine(sampling="random", seed=3)
        draw = negatives_by_epoch(mined)
        epochs = [draw(epoch) for epoch in range(40)]
        assert epochs[0].fingerprint() == mined.pairs.fingerprint()
        assert draw(7).fingerprint() == epochs[7].fingerprint()
        assert negatives_by_epoch(mined, seed=4)(7).fingerprint() != epochs[7].fingerprint()
        assert {"".join(pairs.tags["document_ids"][0][1:]) for pairs in epochs} == {
            a + b for a in "abcde" for b in "abcde" if a < b
        }
        for pairs in epochs:
            assert pairs.offsets.tolist() == mined.pairs.offsets.tolist()
            assert pairs.labels.tolist() == mined.pairs.labels.tolist()
            assert pairs.tags["query_id"] == ["q", "r"]
        assert epochs[2].notes[-1] == "negatives drawn for epoch 2"

    def test_random_negatives_have_no_scores(self):
        mined = mine(run=None, first_stage="random", num_negatives=3)
        assert [len(scores) for scores in mined.negatives.values()] == [3, 3]
        assert "p" not in mined.candidates["q"]
        assert all(math.isnan(score) for scores in mined.negatives.values() for score in scores.values())
        assert mined.statistics["margins"] == {"count": 0}
        again = mine(run=None, first_stage="random", num_negatives=3)
        assert again.pairs.fingerprint() == mined.pairs.fingerprint()
        scored = mine(run=None, first_stage="random", cross_encoder=lambda pairs: np.arange(len(pairs)), max_score=3)
        assert scored.statistics["negative_scores"]["most"] <= 3


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from("abcdefs"), st.floats(-2, 2), max_size=7),
    st.dictionaries(st.sampled_from("abcp"), st.integers(0, 3), max_size=3),
    st.integers(1, 4),
    st.sampled_from([None, 0.0, 0.5]),
    st.sampled_from(["top", "random"]),
)
def test_laws(scores, grades, num_negatives, margin, sampling):
    qrels, run = {"q": {**grades, "p": 3}}, {"q": {**scores, "p": 1.0}}
    options = {"num_negatives": num_negatives, "sampling": sampling, "relevant_from": 2}
    try:
        mined = mine(qrels, run, absolute_margin=margin, relative_margin=margin, **options)
    except DataError:
        assert all(grades.get(d, 0) > 0 or margin is not None for d in scores if d not in qrels["q"])
        return
    lowest = min(mined.positives["q"].values())
    for document, score in mined.candidates["q"].items():
        assert grades.get(document, 0) <= 0
        assert margin is None or (score + margin <= lowest and score <= lowest - abs(lowest) * margin)
    assert mined.negatives["q"].items() <= mined.candidates["q"].items()
    assert len(mined.negatives["q"]) == min(num_negatives, len(mined.candidates["q"]))
    assert {len(group) for group in mined.pairs.tags["document_ids"]} == {1 + len(mined.negatives["q"])}
    every = sum(mined.statistics["candidates_dropped"].values()) + mined.statistics["candidates_left"]
    assert every == len(run["q"])


def test_documents_may_be_dicts():
    titled = {name: {"title": "text", "text": name, "year": 1999} for name in DOCUMENTS}
    queries = {"q": "which text", "r": "text c or d"}
    for options in ({}, {"run": None}, {"run": None, "first_stage": bm25_index(titled)}):
        plain, mined = (mine(queries=queries, documents=own, **options) for own in (DOCUMENTS, titled))
        assert (mined.pairs.left, mined.pairs.right) == (plain.pairs.left, plain.pairs.right)
        assert mined.negatives == plain.negatives
        assert negatives_by_epoch(mined)(1).right == negatives_by_epoch(plain)(1).right


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"qrels": {"q": {"p": 0}}}, "none of the 2 queries has a document of grade 1 or more"),
        ({"qrels": {}}, "none of the 2 queries has a document of grade 1 or more"),
        ({"run": {"q": {"x": 1.0}}}, "the run has 1 documents that the collection lacks: 'x'"),
        ({"run": {"q": {"a": math.nan}}}, "the run, query 'q', document 'a': the score is nan"),
        (
            {"run": None, "first_stage": lambda queries, k: {"q": ["a"]}},
            "the first stage's run, query 'q': expected",
        ),
        ({"run": {"q": {}, "r": {}}}, r"no query has a negative: .*no negative, left out: 2 \('q', 'r'\)"),
    ],
)
def test_data_that_cannot_be_mined(options, message):
    with pytest.raises(DataError, match=message):
        mine(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": 0}, "num_negatives must be at least 1, got 0"),
        ({"range_min": -1}, "range_min must be at least 0, got -1"),
        ({"range_max": None}, "range_max is None; expected a whole number"),
        ({"range_min": 5, "range_max": 6}, "leave 1 positions, too few for num_negatives=2"),
        ({"range_min": 5, "range_max": 3}, "leave 0 positions"),
        ({"sampling": "best"}, "sampling is 'best'; expected one of top, random"),
        ({"output": "triplets"}, "output is 'triplets'; expected one of groups, lists, pairs"),
        ({"absolute_margin": -0.1}, "absolute_margin is -0.1; a margin is at least 0"),
        ({"negative_grade": 1}, "negative_grade is 1 and relevant_from 1; it must be below"),
        ({"run": None, "first_stage": "splade"}, "first_stage is 'splade'; expected 'bm25', 'dense', 'random'"),
        ({"run": None, "first_stage": "random", "max_score": 1}, "max_score compares scores, .* give a cross_encoder"),
    ],
)
def test_options_that_mean_nothing(options, message):
    with pytest.raises(ValueError, match=message):
        mine(**options)
