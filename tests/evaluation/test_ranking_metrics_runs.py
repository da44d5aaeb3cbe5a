"""A run and judgements: known answers, trec_eval's with ties and all, and what is refused."""

import itertools
import math
import random
import shutil

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.errors import some
from crossenc_kit.evaluation.ranking_metrics import (
    best_order,
    check_options,
    heading,
    judged_share,
    query_values,
    ranked,
    relevant,
)

QRELS = {"a": {"x": 2, "y": 1, "lost": 1}, "b": {"x": 0}, "c": {"z": 1}}
RUN = {"a": {"u": 3.0, "x": 2.0, "y": 1.0}, "b": {"x": 1.0}, "unjudged": {"x": 1.0}}

IDS = st.sampled_from(["d1", "d10", "d2", "é", "zz", "Z"])
NUMBERS = st.integers(-3, 3).map(lambda number: number / 2)
RUNS = st.dictionaries(st.sampled_from("1234"), st.dictionaries(IDS, NUMBERS, max_size=6), max_size=4)
# Grades from 0: pytrec_eval does not return from some runs with grades below 0.
JUDGED = st.dictionaries(
    st.sampled_from("1235"), st.dictionaries(IDS, st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=4
)


def theirs(measures, qrels, run):
    """{measure: {query: value}} of ir_measures, by trec_eval."""
    found = {}
    for value in ir_measures.pytrec_eval.evaluator(measures, qrels).iter_calc(run):
        found.setdefault(value.measure, {})[value.query_id] = value.value
    return found


class TestKnownAnswers:
    def test_each_metric_by_hand(self):
        found = query_values(QRELS, RUN, ["ndcg@3", "ndcg@1", "mrr@10", "mrr@1", "map", "recall@2", "success@2"])
        best = 2 + 1 / math.log2(3) + 1 / 2  # lost counts
        assert found["ndcg@3"] == pytest.approx([(2 / math.log2(3) + 1 / 2) / best, 0, 0])
        assert found["ndcg@1"].tolist() == [0, 0, 0]
        assert found["mrr@10"].tolist() == [1 / 2, 0, 0]
        assert found["mrr@1"].tolist() == [0, 0, 0]
        assert found["map"] == pytest.approx([(1 / 2 + 2 / 3) / 3, 0, 0])
        assert found["recall@2"] == pytest.approx([1 / 3, 0, 0])
        assert found["success@2"].tolist() == [1, 0, 0]
        assert list(found) == ["ndcg@3", "ndcg@1", "mrr@10", "mrr@1", "map", "recall@2", "success@2"]

    def test_relevance_and_gains(self):
        assert query_values(QRELS, RUN, ["recall@9", "precision@2"], relevant_from=2)["recall@9"].tolist() == [1, 0, 0]
        best = 3 + 1 / math.log2(3) + 1 / 2
        exponential = query_values(QRELS, RUN, ["ndcg"], gains="exponential")["ndcg"][0]
        assert exponential == pytest.approx((3 / math.log2(3) + 1 / 2) / best)

    def test_equal_scores_are_ordered_by_id_descending(self):
        run, qrels = {"q": {"b": 1.0, "a": 1.0, "c": 1.0}}, {"q": {"b": 1}}
        assert ranked(run["q"]) == ["c", "b", "a"]
        assert query_values(qrels, run, ["mrr"])["mrr"] == 1 / 2
        assert query_values(qrels, run, ["mrr"], ties="order_free")["mrr"] == 1 / 3  # at worst
        assert query_values(qrels, run, ["recall@1"], ties="order_free")["recall@1"] == pytest.approx(1 / 3)

    def test_scores_equal_in_single_precision_are_equal_for_trec_eval(self):
        assert ranked({"a": 1.0 + 1e-9, "b": 1.0}) == ["b", "a"]
        assert ranked({"a": 1.0 + 1e-6, "b": 1.0}) == ["a", "b"]
        assert ranked({"a": 1e300, "b": 2e300, "c": -1e300}) == ["b", "a", "c"]  # both are infinite
        run, qrels = {"q": {"a": 1.0 + 1e-9, "b": 1.0}}, {"q": {"a": 1}}
        assert query_values(qrels, run, ["mrr"], ties="order_free")["mrr"] == 1

    def test_grades_below_0_count_as_0(self):
        found = query_values({"q": {"a": -2, "b": 1}}, {"q": {"a": 2, "b": 1}}, ["ndcg", "map"])
        assert found["ndcg"] == pytest.approx(1 / math.log2(3))
        assert found["map"] == 1 / 2

    def test_what_is_judged_among_the_first(self):
        qrels = {"q": {"a": 0, "b": -1, "c": 1}, "none": {"a": 1}}
        run = {"q": {"a": 4, "x": 3, "b": 2, "y": 1}}
        assert judged_share(qrels, run, 1).tolist() == [1, 0]
        assert judged_share(qrels, run, 3) == pytest.approx([2 / 3, 0])
        assert judged_share(qrels, run, 9) == pytest.approx([1 / 2, 0])  # of the four that there are
        assert judged_share(qrels, {"q": {"a": 1, "x": 1}}, 1, ties="order_free").tolist() == [1 / 2, 0]

    def test_the_best_order(self):
        best = best_order(QRELS, RUN)
        assert best == {"a": {"u": 0, "x": 2, "y": 1}, "b": {"x": 0}, "c": {}}
        found = query_values(QRELS, best, ["ndcg", "mrr", "recall@9"])
        assert found["ndcg"][0] == pytest.approx((2 + 1 / math.log2(3)) / (2 + 1 / math.log2(3) + 1 / 2))
        assert (found["mrr"].tolist(), found["recall@9"].tolist()) == ([1, 0, 0], [2 / 3, 0, 0])

    def test_in_words(self):
        assert [heading(name) for name in ("ndcg@10", "mrr", "map", "recall@5")] == [
            "nDCG@10",
            "MRR",
            "MAP",
            "recall@5",
        ]
        assert (some(["a"]), some("abc"), some(dict.fromkeys("abcd"))) == ("'a'", "'a', 'b', 'c'", "'a', 'b', 'c', ...")
        assert relevant({"a": 2, "b": 1, "c": 0}, 2) == {"a"}
        assert relevant({"a": 2, "b": 1, "c": 0}) == {"a", "b"}


class TestAgainstTrecEval:
    """ir_measures calls trec_eval; runs have ties, unknown queries, queries of which nothing is there or relevant."""

    @settings(max_examples=150, deadline=None)
    @given(RUNS, JUDGED, st.integers(1, 7), st.integers(1, 3))
    def test_every_metric(self, run, qrels, k, grade):
        m = ir_measures
        pairs = {
            f"ndcg@{k}": m.nDCG @ k,
            "ndcg": m.nDCG,
            "mrr": m.RR(rel=grade),
            "map": m.AP(rel=grade),
            f"recall@{k}": m.R(rel=grade) @ k,
            f"success@{k}": m.Success(rel=grade) @ k,
            f"precision@{k}": m.P(rel=grade) @ k,
        }
        expected = theirs(list(pairs.values()), qrels, {query: own for query, own in run.items() if own})
        found = query_values(qrels, run, list(pairs), relevant_from=grade)
        for name, measure in pairs.items():
            assert found[name] == pytest.approx([expected[measure][query] for query in qrels], abs=1e-6), name

    @settings(max_examples=50, deadline=None)
    @given(RUNS, JUDGED, st.integers(1, 7))
    def test_the_reciprocal_rank_of_the_first_k(self, run, qrels, k):
        """trec_eval has no such cut; ir_measures takes it from MS MARCO's script, which orders ties by id ascending."""
        expected = theirs([ir_measures.RR], qrels, {query: own for query, own in run.items() if own})[ir_measures.RR]
        cut = [expected[query] if expected[query] >= 1 / k - 1e-9 else 0 for query in qrels]
        assert query_values(qrels, run, [f"mrr@{k}"])[f"mrr@{k}"] == pytest.approx(cut)
        strict = {q: {d: rank for rank, d in enumerate(own)} for q, own in run.items()}
        measure = ir_measures.RR @ k
        found = {v.query_id: v.value for v in ir_measures.iter_calc([measure], qrels, strict)}
        values = query_values(qrels, strict, [f"mrr@{k}"])[f"mrr@{k}"]
        assert values == pytest.approx([found[query] for query in qrels])

    @settings(max_examples=50, deadline=None)
    @given(RUNS, JUDGED, st.integers(1, 7))
    def test_judged(self, run, qrels, k):
        strict = {q: {d: rank for rank, d in enumerate(own)} for q, own in run.items() if own}
        found = {v.query_id: v.value for v in ir_measures.iter_calc([ir_measures.Judged @ k], qrels, strict)}
        assert judged_share(qrels, strict, k) == pytest.approx([found[query] for query in qrels])

    @settings(max_examples=50, deadline=None)
    @given(RUNS, JUDGED, st.integers(1, 7))
    def test_exponential_gain_as_mapped_grades(self, run, qrels, k):
        measure = ir_measures.nDCG(gains={1: 1, 2: 3, 3: 7}) @ k
        expected = theirs([measure], qrels, {query: own for query, own in run.items() if own})[measure]
        found = query_values(qrels, run, [f"ndcg@{k}"], gains="exponential")[f"ndcg@{k}"]
        assert found == pytest.approx([expected[query] for query in qrels], abs=1e-6)

    @pytest.mark.skipif(not shutil.which("perl"), reason="gdeval is a script in Perl")
    def test_exponential_gain_of_gdeval(self):
        rng = random.Random(0)
        documents = [f"d{i}" for i in range(30)]
        qrels = {str(q): {d: rng.randint(-1, 3) for d in rng.sample(documents, 12)} for q in range(200)}
        run = {q: {d: rng.randint(0, 6) / 4 for d in rng.sample(documents, rng.randint(1, 20))} for q in qrels}
        measure = ir_measures.nDCG(dcg="exp-log2") @ 5
        found = {v.query_id: v.value for v in ir_measures.iter_calc([measure], qrels, run)}
        values = query_values(qrels, run, ["ndcg@5"], gains="exponential")["ndcg@5"]
        assert values == pytest.approx([found[query] for query in qrels], abs=1e-5)  # it prints five digits

    def test_scores_in_double_precision(self):
        rng = np.random.default_rng(0)
        qrels = {"q": {f"d{i}": int(i % 3 == 0) for i in range(60)}}
        run = {"q": {f"d{i}": 7 + float(score) * 1e-6 for i, score in enumerate(rng.random(60))}}  # ties when single
        expected = theirs([ir_measures.AP, ir_measures.nDCG], qrels, run)
        found = query_values(qrels, run, ["map", "ndcg"])
        assert found["map"] == pytest.approx(expected[ir_measures.AP]["q"])
        assert found["ndcg"] == pytest.approx(expected[ir_measures.nDCG]["q"])
        assert found["map"] != pytest.approx(query_values(qrels, run, ["map"], ties="order_free")["map"])


class TestLaws:
    @given(RUNS, JUDGED, st.randoms(use_true_random=False), st.sampled_from(["trec_eval", "order_free"]))
    def test_the_order_of_rows_does_not_matter(self, run, qrels, shuffle, ties):
        names = ["ndcg@3", "mrr@3", "map", "recall@3", "success@3"]
        before = query_values(qrels, run, names, ties=ties)
        mixed = {q: dict(shuffle.sample(list(own.items()), len(own))) for q, own in run.items()}
        after = query_values({q: dict(reversed(own.items())) for q, own in qrels.items()}, mixed, names, ties=ties)
        for name in names:
            assert after[name] == pytest.approx(before[name])

    @given(RUNS, JUDGED, st.integers(1, 5))
    def test_no_order_of_the_documents_is_better_than_the_best(self, run, qrels, k):
        names = [f"ndcg@{k}", f"mrr@{k}", "map", f"recall@{k}", f"success@{k}", f"precision@{k}"]
        found, best = query_values(qrels, run, names), query_values(qrels, best_order(qrels, run), names)
        for name in names:
            assert (found[name] <= best[name] + 1e-12).all()

    def test_order_free_reciprocal_rank_is_the_worst_of_all_ids(self):
        qrels = {"q": {"a": 1}}
        values = {
            query_values({"q": {ids[0]: 1}}, {"q": dict.fromkeys(ids, 1.0)}, ["mrr"])["mrr"][0]
            for ids in itertools.permutations("abc")
        }
        assert values == {1, 1 / 2, 1 / 3}
        assert query_values(qrels, {"q": dict.fromkeys("abc", 1.0)}, ["mrr"], ties="order_free")["mrr"] == 1 / 3


class TestErrors:
    @pytest.mark.parametrize("name", ["dcg@10", "ndcg@0", "map@10", "recall", "success", "NDCG@10", "ndcg@", ""])
    def test_metrics_that_there_are_not(self, name):
        with pytest.raises(ValueError, match=rf"^no metric '{name}'; there is ndcg, mrr, ndcg@k"):
            query_values(QRELS, RUN, [name])

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"ties": "best"}, r"^ties must be one of trec_eval, order_free; got 'best'$"),
            ({"relevant_from": 0}, "relevant_from must be above 0, the grade of what was not judged; got 0"),
            ({"gains": "squared"}, "gains must be one of linear, exponential"),
        ],
    )
    def test_options(self, changed, message):
        options = {"relevant_from": 1, "gains": "linear", "ties": "trec_eval", **changed}
        with pytest.raises(ValueError, match=message):
            check_options(["map"], **options)
