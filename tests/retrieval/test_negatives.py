"""Judgements: what is hidden, how many negatives are false, and that harder negatives are more often false."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from crossenc_kit.data.ranking import read_ranking
from crossenc_kit.errors import DataError
from crossenc_kit.retrieval import bm25_index, false_negative_rate, hide_positives, mine_hard_negatives

PUBLIC_DATA = Path(os.environ.get("CROSSENC_KIT_DATA") or "not set")
QRELS = {"q": {"a": 3, "b": 2, "c": 1, "d": 0, "e": -1}, "r": {"f": 1}}


class TestHidden:
    def test_by_hand(self):
        visible, hidden = hide_positives(QRELS, relevant_from=2)
        (kept,) = set(visible["q"]) - {"d", "e"}
        assert kept in "ab"
        assert visible == {"q": {kept: QRELS["q"][kept], "d": 0, "e": -1}, "r": {}}
        assert hidden["q"].keys() == {"a", "b", "c"} - {kept}
        assert hidden["r"] == {"f": 1}
        assert hide_positives(QRELS, 9) == (QRELS, {"q": {}, "r": {}})

    def test_a_draw_is_of_the_seed_and_the_query(self):
        many = {f"q{number}": QRELS["q"] for number in range(60)}
        visible, _ = hide_positives(many)
        kept = ["".join(grades)[0] for grades in visible.values()]
        assert all(10 < kept.count(document) < 30 for document in "abc")
        assert hide_positives({"q7": QRELS["q"]})[0]["q7"] == visible["q7"]
        assert hide_positives(many, seed=1)[0] != visible

    def test_at_least_one_is_kept(self):
        with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
            hide_positives(QRELS, 0)
        with pytest.raises(ValueError, match=r"keep is 1\.5; expected a whole number"):
            hide_positives(QRELS, 1.5)
        with pytest.raises(DataError, match="the qrels, query 'q', document 'a': the grade is '1'"):
            hide_positives({"q": {"a": "1"}})


class TestFalseNegatives:
    def test_by_hand(self):
        negatives = {"q": {"a": 0.9, "c": 0.8, "d": 0.7, "x": 0.6}, "r": ["y"], "stranger": ["a"]}
        found = false_negative_rate(negatives, QRELS)
        assert found == (2 / 3, 2 / 6, 2, 3, 6)
        assert (found.rate, found.at_least, found.false, found.judged, found.negatives) == found
        assert false_negative_rate(negatives, QRELS, relevant_from=2).false == 1
        visible, hidden = hide_positives(QRELS)
        assert false_negative_rate(negatives, visible, hidden=hidden) == found
        assert false_negative_rate({"q": ["d"]}, {"q": {"d": 0}}, hidden={"q": {"d": 2}}).rate == 1

    def test_nothing_judged_and_nothing_at_all(self):
        found = false_negative_rate({"q": ["x"]}, QRELS)
        assert math.isnan(found.rate)
        assert found[1:] == (0, 0, 0, 1)
        with pytest.raises(DataError, match="there are no negatives to look at"):
            false_negative_rate({"q": []}, QRELS)

    def test_what_are_no_negatives_of_these_judgements(self):
        with pytest.raises(DataError, match=r"the negatives: no query has judgements. Its queries: 'z'; .* 'q', 'r'"):
            false_negative_rate({"z": ["a"]}, QRELS)
        assert false_negative_rate({"z": ["a"]}, QRELS, hidden={"z": {"a": 1}}).rate == 1


@pytest.mark.skipif(
    not (PUBLIC_DATA / "rerank_trecdl19").is_dir(),
    reason="no public data: set CROSSENC_KIT_DATA to a folder with rerank_trecdl19/",
)
def test_hard_negatives_are_more_often_false_and_a_distance_helps():
    data = read_ranking(PUBLIC_DATA / "rerank_trecdl19", "test")
    visible, hidden = hide_positives(data.qrels, relevant_from=2)

    search = bm25_index(data.documents)

    def rate(**options):
        options = {"relevant_from": 2, "first_stage": search, **options}
        mined = mine_hard_negatives(replace(data, qrels=visible), **options)
        return false_negative_rate(mined.negatives, visible, hidden=hidden).at_least

    assert rate() > rate(range_min=60) > 10 * rate(first_stage="random")
    assert rate() > rate(relative_margin=0.05) > rate(relative_margin=0.3)
