"""The report of a run, and two runs compared: by hand, against trec_eval, in words, and what is refused."""

import csv
import math
import os
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.comparison import compare_runs, randomisation_test
from crossenc_kit.evaluation.metrics import bootstrap_interval
from crossenc_kit.evaluation.ranking import evaluate_ranking
from crossenc_kit.evaluation.ranking_metrics import query_values

DISCOUNT = 1 / math.log2(3)
QRELS = {"a": {"x": 2, "y": 1}, "b": {"x": 1, "lost": 1}, "c": {"z": 1}, "d": {"x": 0}, "e": {"x": 1}}
FIRST = {
    "a": {"u": 3.0, "x": 2.0, "y": 1.0},
    "b": {"u": 2.0, "x": 1.0},
    "c": {"u": 1.0},  # no relevant candidate
    "d": {"x": 1.0},  # nothing relevant at all
    "new": {"x": 1.0},  # no judgements
}  # "e" is missing
PERFECT = {q: {d: QRELS.get(q, {}).get(d, 0) for d in own} for q, own in FIRST.items()}


def random_case(queries=60, seed=0):
    rng = np.random.default_rng(seed)
    qrels = {f"q{i}": {f"d{j}": int(rng.integers(4)) for j in range(8)} for i in range(queries)}
    good = {q: {d: grade + float(rng.normal()) for d, grade in own.items()} for q, own in qrels.items()}
    poor = {q: {d: grade / 2 + float(rng.normal()) for d, grade in own.items()} for q, own in qrels.items()}
    return qrels, good, poor


class TestReport:
    def test_by_hand(self):
        report = evaluate_ranking(QRELS, PERFECT, first_stage=FIRST, resamples=0, name="five", k=2)
        assert (report.name, report.count, report.query_ids) == ("five", 5, ("a", "b", "c", "d", "e"))
        assert list(report.means) == ["ndcg@2", "mrr@2", "map", "recall@2", "success@2"]
        assert report.values["ndcg@2"] == pytest.approx([1, 1 / (1 + DISCOUNT), 0, 0, 0])
        assert report.values["map"] == pytest.approx([1, 1 / 2, 0, 0, 0])
        assert report.means["mrr@2"] == pytest.approx(2 / 5)
        assert report.means["recall@2"] == pytest.approx((1 + 1 / 2) / 5)
        base = report.baselines["first stage"]
        assert base["mrr@2"] == pytest.approx((1 / 2 + 1 / 2) / 5)
        assert base["ndcg@2"] == pytest.approx((2 * DISCOUNT / (2 + DISCOUNT) + DISCOUNT / (1 + DISCOUNT)) / 5)
        assert report.ceiling == report.means  # the run is as good as can be
        assert (report.intervals, report.comparisons) == ({}, {})

    def test_what_is_counted(self):
        report = evaluate_ranking(QRELS, PERFECT, first_stage=FIRST, resamples=0)
        assert report.candidates == 3 + 2 + 1 + 1
        assert report.candidate_recall == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)  # "d" has none to find
        assert report.missing == ("e",)
        assert report.without_relevant == ("d",)
        assert report.without_hit == ("c", "e")
        assert report.unjudged == ("new",)
        assert report.judged == pytest.approx([2 / 3, 1 / 2, 0, 1, 0])
        assert report.outside == 0

    def test_what_the_first_stage_could_not_have_found(self):
        run = {"a": {"x": 1.0, "y": 0.5}, "b": {"lost": 1.0, "x": 0.5}}
        report = evaluate_ranking(QRELS, run, first_stage=FIRST, resamples=0)
        assert report.outside == 1
        assert report.ceiling["recall@10"] == pytest.approx(2 / 5)  # candidates of either: the ceiling is one
        assert "Documents of the run that are not in the first stage: 1; no reranking has these" in str(report)

    def test_a_ceiling_is_what_candidates_allow(self):
        worst = {q: {d: -grade for d, grade in own.items()} for q, own in PERFECT.items()}
        report = evaluate_ranking(QRELS, worst, k=2, resamples=0)
        assert report.ceiling == evaluate_ranking(QRELS, PERFECT, k=2, resamples=0).means
        assert report.means["mrr@2"] < report.ceiling["mrr@2"] == 2 / 5
        assert "base_ndcg@2" not in report.metrics  # no first stage was given

    def test_queries_with_a_hit_have_means_of_their_own(self):
        report = evaluate_ranking(QRELS, PERFECT, first_stage=FIRST, resamples=0)
        assert report.means["mrr@10"] == 2 / 5
        assert report.means_with_hit()["mrr@10"] == 1  # of "a" and "b"

    def test_what_is_relevant(self):
        report = evaluate_ranking(QRELS, FIRST, relevant_from=2, resamples=0, metric="map")
        assert report.values["map"] == pytest.approx([1 / 2, 0, 0, 0, 0])
        assert report.without_relevant == ("b", "c", "d", "e")
        assert report.values["ndcg@10"][1] > 0  # the lower grade is still a gain

    def test_the_metric_that_comes_first(self):
        qrels, good, poor = random_case()
        report = evaluate_ranking(qrels, good, metric="mrr", baselines={"poor": poor}, resamples=50, k=3)
        assert next(iter(report.metrics)) == "mrr@3"
        assert report.comparisons["poor"].metric == "mrr@3"
        assert report.means == pytest.approx(evaluate_ranking(qrels, good, k=3, resamples=0).means)

    def test_intervals_and_comparisons(self):
        qrels, good, poor = random_case()
        report = evaluate_ranking(qrels, good, first_stage=poor, baselines={"itself": good}, resamples=200, seed=3)
        values = report.values["ndcg@10"]
        assert report.intervals["ndcg@10"] == bootstrap_interval(np.mean, values, resamples=200, seed=3)
        assert set(report.intervals) == set(report.means)
        found = report.comparisons["first stage"]
        theirs = query_values(qrels, poor, ["ndcg@10"])["ndcg@10"]
        assert found.differences == pytest.approx(values - theirs)
        assert found.p == randomisation_test(values, theirs, seed=3) < 0.01
        assert 0 < found.interval[0] < found.difference < found.interval[1]
        assert report.comparisons["itself"].p == 1
        assert list(report.baselines) == ["first stage", "itself"]
        again = evaluate_ranking(qrels, good, first_stage=poor, baselines={"itself": good}, resamples=200, seed=3)
        assert str(again) == str(report)

    def test_against_trec_eval(self):
        qrels, run, _ = random_case()
        m = ir_measures
        for grade, gains in ((1, {}), (2, {1: 1, 2: 3, 3: 7})):
            report = evaluate_ranking(
                qrels, run, k=5, relevant_from=grade, gains="exponential" if gains else "linear", resamples=0
            )
            ndcg = (m.nDCG(gains=gains) if gains else m.nDCG) @ 5
            measures = {"ndcg@5": ndcg, "map": m.AP(rel=grade)}
            measures |= {"recall@5": m.R(rel=grade) @ 5, "success@5": m.Success(rel=grade) @ 5}
            found = m.pytrec_eval.calc_aggregate(list(measures.values()), qrels, run)
            assert {k: report.means[k] for k in measures} == pytest.approx({k: found[v] for k, v in measures.items()})

    def test_ties(self):
        qrels = {"q": {"a": 1}}
        run = {"q": {"a": 1.0, "b": 1.0}}
        assert evaluate_ranking(qrels, run, resamples=0).means["mrr@10"] == 1 / 2
        assert evaluate_ranking(qrels, {"q": {"a": 1.0, "A": 1.0}}, resamples=0).means["mrr@10"] == 1
        free = [evaluate_ranking(qrels, {"q": {"a": 1.0, o: 1.0}}, resamples=0, ties="order_free") for o in "bA"]
        assert [report.means["mrr@10"] for report in free] == [1 / 2, 1 / 2]

    def test_nothing_that_was_given_is_changed(self):
        before = repr((PERFECT, FIRST, QRELS))
        evaluate_ranking(QRELS, PERFECT, first_stage=FIRST, baselines={"b": FIRST}, resamples=10)
        assert repr((PERFECT, FIRST, QRELS)) == before

    def test_in_words(self):
        report = evaluate_ranking(QRELS, PERFECT, first_stage=FIRST, baselines={"again": PERFECT}, resamples=50, k=2)
        title, columns, model, first, again, ceiling, *rest = str(report).splitlines()
        assert title == "evaluation: 5 queries, 7 candidates (1.4 a query)"
        assert columns.split() == ["nDCG@2", "95", "%", "interval", "MRR@2", "MAP", "recall@2", "success@2"]
        low, high = report.intervals["ndcg@2"]
        assert model.split() == f"model 0.323 {low:.3f} to {high:.3f} 0.400 0.300 0.300 0.400".split()
        assert first.split()[:2] == ["first", "stage"]
        assert again.split()[1:] == ceiling.split()[1:] == ["0.323", "0.400", "0.300", "0.300", "0.400"]
        assert rest[0].startswith("  nDCG@2 above first stage: +0.")
        assert rest[0].endswith(f"p = {report.comparisons['first stage'].p:.3g}")
        assert rest[2:] == [
            "  Candidates hold 0.375 of the relevant documents of a query",
            "  Queries without a relevant candidate: 2 ('c', 'e')",
            "  Queries without any relevant document: 1 ('d')",
            "  Queries without documents in the run: 1 ('e')",
            "  Queries of the run without judgements, not measured: 1 ('new')",
            "  Judged are 62.5% of the first 2; what is not counts as not relevant",
        ]
        short = str(evaluate_ranking({"a": {"x": 1}}, {"a": {"x": 1.0}}, resamples=0))
        assert len(short.splitlines()) == 5
        assert "nan" not in short


class TestComparison:
    def test_by_hand(self):
        ours = {"a": {"x": 3.0, "u": 2.0}, "b": {"u": 3.0, "x": 2.0}, "c": {"z": 1.0}}
        found = compare_runs(QRELS, ours, FIRST, metric="mrr@10", names=("mine", "BM25"), resamples=100)
        low, high = found.interval
        assert found.differences.tolist() == [1 / 2, 0, 1, 0, 0]
        assert found.query_ids == ("a", "b", "c", "d", "e")
        assert found.means == pytest.approx((2.5 / 5, 1 / 5))
        assert found.difference == pytest.approx(1.5 / 5)
        assert (found.wins, found.ties, found.losses) == (2, 3, 0)
        assert found.p == 1 / 2  # of the four patterns of two signs, two are as large
        assert str(found).splitlines() == [
            "mine against BM25: 5 queries",
            "  MRR@10              0.500 against 0.200",
            f"  difference          +0.300, {low:+.3f} to {high:+.3f} (95 %, paired bootstrap)",
            "  randomisation test  p = 0.5",
            "  queries             2 better, 3 equal, 0 worse",
        ]

    def test_the_other_way_round(self):
        qrels, good, poor = random_case()
        one, other = compare_runs(qrels, good, poor), compare_runs(qrels, poor, good)
        assert one.p == pytest.approx(other.p, abs=0.01)
        assert one.differences == pytest.approx(-other.differences)
        assert (one.wins, one.losses) == (other.losses, other.wins)
        assert one.metric == "ndcg@10"

    def test_rounding_is_no_difference(self):
        qrels = {"q": {"a": 1, "b": 1, "c": 3, "d": 2}}
        runs = [{"q": dict(zip(ids, (4.0, 3.0, 2.0, 1.0), strict=True))} for ids in ("cadb", "cbda")]
        found = compare_runs(qrels, *runs)
        assert (found.wins, found.ties, found.losses, found.p) == (0, 1, 0, 1)


def test_a_metric_may_be_named_with_its_k():
    short, full = (evaluate_ranking(QRELS, FIRST, metric=name, k=3, resamples=0) for name in ("mrr", "mrr@3"))
    assert short.means == full.means
    assert next(iter(full.means)) == "mrr@3"


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"metric": "ndcg@5"},
                r"^metric must be one of ndcg, mrr, map, recall, success, which have k=10; got 'ndcg@5'",
            ),
            ({"ties": "input"}, "ties must be one of trec_eval, order_free"),
            ({"gains": "log"}, "gains must be one of linear, exponential"),
            ({"relevant_from": 0}, "relevant_from must be above 0"),
            ({"k": 0}, "^no metric 'ndcg@0'; there is ndcg, mrr, ndcg@k"),
            ({"k": 2.5}, r"^no metric 'ndcg@2\.5'"),
            (
                {"first_stage": FIRST, "baselines": {"first stage": FIRST}},
                "another row of the table is called 'first stage'; rename",
            ),
            ({"baselines": {"model": FIRST}}, "another row of the table is called 'model'"),
            ({"baselines": {"ceiling": FIRST}}, "another row of the table is called 'ceiling'"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            evaluate_ranking(QRELS, FIRST, **options)

    @pytest.mark.parametrize(
        ("run", "options", "message"),
        [
            ({"a": {"x": math.nan}}, {}, r"^the run, query 'a', document 'x': the score is nan"),
            ({"zz": {"x": 1.0}}, {}, r"^the run: no query has judgements\. Its queries: 'zz'; those of the qrels: 'a'"),
            (
                FIRST,
                {"first_stage": {"a": {"x": "1"}}},
                r"^the run of 'first stage', query 'a', document 'x': the score",
            ),
            (FIRST, {"baselines": {"BM25": {}}}, r"^the run of 'BM25': no query has judgements\. Its queries: none"),
            (FIRST, {"baselines": {"BM25": {"a": {1: 1.0}}}}, "the document id 1 is int; ids are strings"),
        ],
    )
    def test_data(self, run, options, message):
        with pytest.raises(DataError, match=message):
            evaluate_ranking(QRELS, run, **options)

    def test_comparisons(self):
        with pytest.raises(DataError, match=r"^the run of 'theirs', query 'a', document 'x': the score is inf"):
            compare_runs(QRELS, FIRST, {"a": {"x": math.inf}})
        with pytest.raises(ValueError, match="no metric 'bleu'"):
            compare_runs(QRELS, FIRST, FIRST, metric="bleu")


def test_grades_below_0_are_counted():
    qrels = {"q": {"a": 1, "b": -1, "c": -2}}
    report = evaluate_ranking(qrels, {"q": {"a": 1.0, "b": 2.0}}, resamples=0)
    assert report.below_zero == 2
    assert "Grades below 0, which count as 0: 2" in report.notes()
    zeros = evaluate_ranking({"q": {"a": 1, "b": 0, "c": 0}}, {"q": {"a": 1.0, "b": 2.0}}, resamples=0)
    assert report.means == zeros.means
    assert not [note for note in zeros.notes() if "below 0" in note]


@pytest.mark.skipif(
    not (Path(os.environ.get("CROSSENC_KIT_DATA", "")) / "rerank_trecdl19").is_dir(),
    reason="set CROSSENC_KIT_DATA to a folder with rerank_trecdl19",
)
def test_published_figures():
    folder = Path(os.environ["CROSSENC_KIT_DATA"]) / "rerank_trecdl19"

    def table(name):
        found = {}
        with open(folder / name, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                found.setdefault(row["query-id"], {})[row["corpus-id"]] = float(row["score"])
        return found

    bm25, bert, qrels = table("runs/bm25.tsv"), table("runs/bert.tsv"), table("qrels/test.tsv")
    report = evaluate_ranking(qrels, bert, first_stage=bm25, relevant_from=2, resamples=100)
    assert round(report.means["ndcg@10"], 3) == 0.696
    assert round(report.baselines["first stage"]["ndcg@10"], 3) == 0.484
    m = ir_measures
    measures = {"ndcg@10": m.nDCG @ 10, "map": m.AP(rel=2), "recall@10": m.R(rel=2) @ 10}
    whole = {query: {d: int(grade) for d, grade in own.items()} for query, own in qrels.items()}
    found = m.pytrec_eval.calc_aggregate(list(measures.values()), whole, bert)
    assert {k: report.means[k] for k in measures} == pytest.approx({k: found[v] for k, v in measures.items()})
