"""A model on the candidates of collections and of lists: for training, and as a report of several."""

from dataclasses import replace

import numpy as np
import pytest

from crossenc_kit import Collection, TrainingConfig, train
from crossenc_kit.data.pairs import Pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.ranking import evaluate_ranking
from crossenc_kit.evaluation.reranking import evaluate_collections, ranking_evaluator
from crossenc_kit.retrieval.baselines import word_overlap
from crossenc_kit.retrieval.reranking import rerank

DOCUMENTS = {"d1": "red apple", "d2": "green pear", "d3": "red car on a road", "d4": "an apple a day"}
QUERIES = {"q1": "red apple", "q2": "pear", "q3": "asked in another split"}
QRELS = {"q1": {"d1": 2, "d4": 1}, "q2": {"d2": 1}}
COLLECTION = Collection(QUERIES, DOCUMENTS, QRELS)
RUN = {"q1": {"d3": 9.0, "d1": 8.0, "d2": 7.0}, "q2": {"d4": 3.0, "d2": 2.0}, "q3": {"d1": 1.0}}
LISTS = [
    {"query": "red apple", "documents": ["green pear", "red apple", "an apple a day"], "labels": [0, 2, 1]},
    {"query": "pear", "documents": ["an apple", "green pear"], "labels": [0, 1]},
]
SHOWN = ["ndcg@10", "mrr@10", "map"]


def reversed_overlap(pairs):
    return -word_overlap(pairs)


class TestCollection:
    def test_it_is_the_report_of_the_reranked_run(self):
        found = ranking_evaluator(COLLECTION, RUN)(word_overlap)
        assert list(found) == [*SHOWN, *(f"base_{name}" for name in SHOWN)]
        judged = {query: RUN[query] for query in QRELS}
        report = evaluate_ranking(QRELS, rerank(word_overlap, COLLECTION, judged), first_stage=judged, resamples=0)
        assert found == {name: report.metrics[name] for name in found}
        assert found["mrr@10"] == 1
        assert found["base_mrr@10"] == 1 / 2
        assert found["map"] == pytest.approx((1 / 2 + 1) / 2)  # "d4" is no candidate, and counts

    def test_only_the_first_of_the_run_are_reranked_and_only_what_is_judged(self):
        asked = []

        def scorer(pairs):
            asked.extend(pairs)
            return word_overlap(pairs)

        found = ranking_evaluator(COLLECTION, RUN, depth=1, k=5)(scorer)
        assert asked == [("red apple", DOCUMENTS["d3"]), ("pear", DOCUMENTS["d4"])]
        assert found["mrr@5"] == found["base_mrr@5"] == 0

    def test_equal_scores_are_cut_by_id_whatever_the_order_of_the_run(self):
        for row in ({"d1": 1.0, "d3": 1.0}, {"d3": 1.0, "d1": 1.0}):
            evaluate = ranking_evaluator(replace(COLLECTION, qrels={"q1": QRELS["q1"]}), {"q1": row}, depth=1)
            assert evaluate(word_overlap)["base_mrr@10"] == 0  # "d3" is the last id, so the first document

    def test_options(self):
        found = ranking_evaluator(COLLECTION, RUN, relevant_from=2, gains="exponential", ties="order_free")
        constant = found(lambda pairs: np.zeros(len(pairs)))
        assert constant["mrr@10"] == (1 / 3 + 0) / 2
        assert constant["base_mrr@10"] == 1 / 4

    @pytest.mark.parametrize(
        ("run", "message"),
        [
            (None, r"a collection needs a run: the candidates of a first stage, for example bm25_index\("),
            ({"q1": {"d9": 1.0}}, "the run has 1 documents that the collection lacks: 'd9'"),
            ({"q1": {"d1": float("nan")}}, "the score is nan"),
            ({"q3": {"d1": 1.0}}, "no query that has judgements has candidates in the run"),
            ({"q1": {}}, "no query that has judgements has candidates in the run"),
            ({**RUN, "q9": {"d1": 1.0}}, "the run has 1 queries that the collection lacks: 'q9'"),
        ],
    )
    def test_what_cannot_be_measured_is_said_at_once(self, run, message):
        with pytest.raises(DataError, match=message):
            ranking_evaluator(COLLECTION, run)

    def test_judged_queries_without_candidates_are_counted(self):
        with pytest.warns(UserWarning, match=r"^1 of 2 judged queries have no candidates and count 0: 'q2'$") as caught:
            ranking_evaluator(COLLECTION, {"q1": RUN["q1"]})
        assert caught.list[0].filename == __file__

    def test_options_that_mean_nothing(self):
        with pytest.raises(ValueError, match=r"^depth must be at least 1, got 0$"):
            ranking_evaluator(COLLECTION, RUN, depth=0)
        with pytest.raises(ValueError, match="relevant_from must be above 0"):
            ranking_evaluator(COLLECTION, RUN, relevant_from=0)


class TestLists:
    def test_by_hand(self):
        found = ranking_evaluator(LISTS)(reversed_overlap)
        assert list(found) == SHOWN
        assert found["mrr@10"] == (1 / 2 + 1 / 2) / 2
        assert found["map"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1 / 2) / 2)
        assert ranking_evaluator(LISTS, k=1)(word_overlap) == {"ndcg@1": 1, "mrr@1": 1, "map": 1}

    def test_the_order_given_is_a_first_stage_where_that_is_said(self):
        found = ranking_evaluator(LISTS, candidates_in_order=True)(word_overlap)
        assert found["ndcg@10"] == 1
        assert found["base_mrr@10"] == 1 / 2
        assert list(found) == [*SHOWN, *(f"base_{name}" for name in SHOWN)]

    def test_equal_scores_gain_nothing_by_the_order_of_the_list(self):
        rows = [("q", ["good", "bad", "worse"], [1, 0, 0])]
        constant = ranking_evaluator(rows)(lambda pairs: np.zeros(len(pairs)))
        assert constant["mrr@10"] == 1 / 3

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([("a", "b", 1.0), ("c", "d", 0.0)], r"^all 2 queries have one candidate, which leaves nothing to rank"),
            (
                Pairs(["a", "a"], ["b", "c"], offsets=np.array([0, 2])),
                r"^ranking needs one grade per candidate: add a column",
            ),
            (
                [("a", ["b", "c"], [1, 0]), ("d", ["e", "f"], [3, -1])],
                r"^row 1: the grade .* is -1; grades are 0 or more",
            ),
            (Pairs(["a"] * 2, ["b", "c"], np.ones((2, 2)), np.array([0, 2])), "ranking needs one grade per candidate"),
        ],
    )
    def test_what_is_no_list(self, rows, message):
        with pytest.raises(DataError, match=message):
            ranking_evaluator(rows)

    def test_scores_that_do_not_fit(self):
        with pytest.raises(DataError, match=r"^ranking needs one score per pair, got scores of shape \(5, 2\)"):
            ranking_evaluator(LISTS)(lambda pairs: np.zeros((len(pairs), 2)))
        with pytest.raises(DataError, match="scores are not finite"):
            ranking_evaluator(LISTS)(lambda pairs: np.full(len(pairs), np.nan))


class TestSeveralCollections:
    COLLECTIONS = {  # noqa: RUF012
        "fruit": (COLLECTION, RUN),
        "one": (replace(COLLECTION, qrels={"q2": {"d2": 1}}), {"q2": {"d4": 2.0, "d2": 1.0}}),
    }

    def test_the_mean_over_collections(self):
        report = evaluate_collections(word_overlap, self.COLLECTIONS, resamples=100)
        each = {name: ranking_evaluator(*task)(word_overlap) for name, task in self.COLLECTIONS.items()}
        assert report.means["map"] == pytest.approx((each["fruit"]["map"] + each["one"]["map"]) / 2)
        assert report.first_stage["mrr@10"] == 1 / 2
        assert report.ceiling["mrr@10"] == 1
        assert report.ceiling["recall@10"] == pytest.approx((3 / 4 + 1) / 2)
        metrics = report.metrics
        assert next(iter(metrics)) == "mean_ndcg@10"
        assert metrics["fruit_base_mrr@10"] == metrics["mean_base_mrr@10"] == 1 / 2
        assert report.reports["fruit"].name == "fruit"
        low, high = report.intervals["map"]
        assert low <= report.means["map"] <= high
        assert report.intervals == evaluate_collections(word_overlap, self.COLLECTIONS, resamples=100).intervals

    def test_in_words(self):
        report = evaluate_collections(word_overlap, self.COLLECTIONS, resamples=0, metric="mrr", k=5)
        title, columns, fruit, one, mean = str(report).splitlines()
        assert title == "2 collections, MRR@5"
        assert columns.split() == ["queries", "first", "stage", "model", "95", "%", "interval", "ceiling"]
        assert fruit.split() == ["fruit", "2", "0.500", "1.000", "1.000"]
        assert one.split() == ["one", "1", "0.500", "1.000", "1.000"]
        assert mean.split() == ["mean", "0.500", "1.000", "1.000"]

    def test_what_is_wrong_is_named(self):
        with pytest.raises(DataError, match="there are no collections to measure"):
            evaluate_collections(word_overlap, {})
        with pytest.raises(DataError, match=r"^collection 'a': none of the 1 queries of the run is in the coll"):
            evaluate_collections(word_overlap, {"a": (COLLECTION, {"x": {}})})


def test_training_selects_by_the_first_metric():
    from crossenc_kit import CrossEncoder

    model = CrossEncoder("tiny", num_labels=1, seed=0)
    pairs = [("red apple", text, label) for text, label in (("a red apple", 1.0), ("a green pear", 0.0))] * 4
    config = TrainingConfig(epochs=1, batch_size=4, evaluation_steps=1)
    evaluate = ranking_evaluator(COLLECTION, RUN)
    result = train(model, pairs, config=config, evaluator=evaluate)
    rows = [row for row in result.history if "eval_ndcg@10" in row]
    assert len(rows) == 2
    assert result.best_score == max(row["eval_ndcg@10"] for row in rows)
