"""Quality and cost of reranking at each depth: scored once, and as reranking at that depth alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit import Collection, depth_curve, rerank
from crossenc_kit.data.tables import read_jsonl, read_tsv
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.ranking import evaluate_ranking
from crossenc_kit.retrieval.baselines import word_overlap

RUN = {"q1": {"a": 9.0, "b": 8.0, "c": 7.0, "d": 6.0}, "q2": {"d": 0.5, "a": 0.25}}
QRELS = {"q1": {"c": 1}, "q2": {"d": 1, "x": 1}}
COLLECTION = Collection(
    {"q1": "cat", "q2": "dog", "unused": "sea"},
    {"a": "1", "b": "2", "c": "3", "d": "4", "x": "5"},
    QRELS,
)
CANDIDATES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1)
RUNS = st.dictionaries(st.sampled_from(["q1", "q2"]), CANDIDATES, min_size=1)


def by_number(pairs):
    return [float(document) for _, document in pairs]


def test_a_curve_by_hand(monkeypatch):
    """q1 has its answer at rank 3 and, once seen, at 1; q2 at rank 1, where it stays."""
    clock = iter([10.0, 16.0])
    monkeypatch.setattr("crossenc_kit.evaluation.reranking.time.perf_counter", lambda: next(clock))
    points = depth_curve(by_number, COLLECTION, RUN, depths=(0, 2, 3, 9), resamples=50)
    cost = [(point.depth, point.pairs, point.seconds) for point in points]
    assert cost == [(0, 0, 0), (2, 4, 4), (3, 5, 5), (9, 6, 6)]
    assert [point.metrics["mrr@10"] for point in points] == pytest.approx([2 / 3, 2 / 3, 1, (1 / 2 + 1) / 2])
    assert [point.ceiling["mrr@10"] for point in points] == pytest.approx([2 / 3, 2 / 3, 1, 1])
    for point in points:
        low, high = point.intervals["ndcg@10"]
        assert low <= point.metrics["ndcg@10"] <= high
    assert points.metrics == points[-1].metrics
    assert str(points).splitlines() == [str(point) for point in points]
    assert str(points[1]).startswith("depth 2: 4 pairs, 4.0 s; ndcg@10 0.")
    assert "mrr@10 0.667 (0.333 to 1.000), at best 0.667" in str(points[1])


@given(RUNS, st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_a_point_is_reranking_at_its_depth(run, depths):
    calls = []

    def scorer(pairs):
        calls.append(len(pairs))
        return by_number(pairs)

    points = depth_curve(scorer, COLLECTION, run, depths, k=3, resamples=0)
    assert sum(calls) == sum(min(max(depths), len(own)) for own in run.values())
    for depth, point in zip(depths, points, strict=True):
        report = evaluate_ranking(QRELS, rerank(by_number, COLLECTION, run, depth), k=3, resamples=0)
        assert point.metrics == report.means
        assert point.intervals == {}
        assert all(point.metrics[name] <= best + 1e-12 for name, best in point.ceiling.items())


def test_what_is_wrong_is_said_before_anything_is_scored():
    def scorer(pairs):
        raise AssertionError("nothing is to be scored")

    with pytest.raises(ValueError, match="gains must be one of"):
        depth_curve(scorer, COLLECTION, RUN, gains="foo")
    with pytest.raises(DataError, match="the run, query 'q1': expected"):
        depth_curve(scorer, COLLECTION, {"q1": ["c"]})
    with pytest.raises(DataError, match="the run: no query has judgements"):
        depth_curve(scorer, COLLECTION, {"unused": {"a": 1.0}})


def test_qrels_are_checked_once_for_all_depths(monkeypatch):
    calls = []
    monkeypatch.setattr("crossenc_kit.evaluation.ranking.check_qrels", calls.append)
    depth_curve(by_number, COLLECTION, RUN, depths=(0, 1, 2, 3), resamples=0)
    assert calls == [QRELS]


def test_queries_without_judgements_are_not_scored():
    calls = []
    run = {**RUN, "unused": {"a": 1.0}}
    depth_curve(lambda pairs: calls.append(len(pairs)) or by_number(pairs), COLLECTION, run, resamples=0)
    assert calls == [6]
    for depths, message in (
        ((3, -1), "a depth must be at least 0, got -1"),
        ((3, 1.5), "a depth is 1.5; expected a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            depth_curve(by_number, COLLECTION, RUN, depths)


PUBLIC_DATA = Path(os.environ.get("CROSSENC_KIT_DATA") or "not set") / "rerank_msmarco"


@pytest.mark.skipif(not PUBLIC_DATA.is_dir(), reason="no public data: set CROSSENC_KIT_DATA (rerank_msmarco/)")
def test_the_first_stage_of_ms_marco_is_at_its_published_figure():
    """MRR@10 of the BM25 order is .344 over the 100 queries of the dev split, of which 95 have an answer."""
    texts = {
        name: {row["_id"]: row["text"] for _, row in read_jsonl(PUBLIC_DATA / f"{name}.jsonl.gz")}
        for name in ("corpus", "queries")
    }
    run, qrels = {}, {}
    for table, file in ((run, "runs/bm25_top20_dev.tsv"), (qrels, "qrels/dev.tsv")):
        for _, row in read_tsv(PUBLIC_DATA / file):
            table.setdefault(row["query-id"], {})[row["corpus-id"]] = float(row["score"])
    collection = Collection(texts["queries"], texts["corpus"], qrels)
    points = depth_curve(word_overlap, collection, run, depths=(0, 20), resamples=0)
    assert points[0].metrics["mrr@10"] * len(qrels) / len(run) == pytest.approx(0.344, abs=5e-4)
    assert points[0].ceiling["mrr@10"] == points[0].metrics["mrr@10"] < points[1].ceiling["mrr@10"]
    assert points[1].ceiling["mrr@10"] == pytest.approx(93 / 95)
    assert points[1].pairs == 95 * 20
