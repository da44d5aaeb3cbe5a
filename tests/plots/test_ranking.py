"""Figures of rankings draw the numbers that they say, whatever the text, and refuse what cannot be drawn."""

import warnings
from io import BytesIO
from types import SimpleNamespace

import pytest
from PIL import Image

from crossenc_kit.evaluation.comparison import compare_runs
from crossenc_kit.evaluation.ranking import evaluate_ranking
from crossenc_kit.plots.figures import alt_text, png
from crossenc_kit.plots.ranking import dots_by_seed, quality_against_cost, query_differences, rank_changes, systems

HOSTILE = '<script>alert(1)</script> $x$ \\$ $\\frac{$ "quoted"\n[red](x) \x1b[31m'
QRELS = {"a": {"x": 1, "y": 1}, "b": {"x": 1}, "c": {"x": 1}}
BEFORE = {"a": {"u": 3.0, "x": 2.0}, "b": {"x": 2.0, "u": 1.0}, "c": {"x": 1.0}}
AFTER = {"a": {"x": 3.0, "u": 2.0, "y": 1.0}, "b": {"u": 2.0, "x": 1.0}, "c": {"x": 1.0}}


def a_comparison(word="mine", queries=3):
    qrels = {f"q{i}": {"x": 1} for i in range(queries)}
    ours = {query: {"x": 1.0, "y": (i % 3) - 1.0} for i, query in enumerate(qrels)}
    return compare_runs(qrels, ours, {q: {"y": 1.0, "x": 0.0} for q in qrels}, metric="mrr", names=(word, "BM25"))


def a_report(run, **options):
    return evaluate_ranking(QRELS, run, **{"resamples": 50, **options})


def a_point(depth, value):
    interval = {"ndcg@10": (value - 0.1, value + 0.1)}
    return SimpleNamespace(
        depth=depth,
        pairs=2 * depth,
        seconds=depth / 4,
        metrics={"ndcg@10": value},
        intervals=interval,
        ceiling={"ndcg@10": 0.9},
    )


POINTS = [a_point(0, 0.5), a_point(10, 0.7), a_point(20, 0.6)]
SAMPLES = {
    "query_differences": lambda word: query_differences(a_comparison(word), queries={"q0": word}),
    "rank_changes": lambda word: rank_changes(QRELS, BEFORE, AFTER, queries={"a": word}, names=(word, "b"), title=word),
    "systems": lambda word: systems({word: a_report(BEFORE), "b": a_report(AFTER)}, title=word),
    "quality_against_cost": lambda word: quality_against_cost({word: POINTS, "b": [(1, 2, 0.4)]}, title=word),
    "dots_by_seed": lambda word: dots_by_seed({word: [0.5, 0.6], "b": {7: 0.4}}, references={word: 0.3}, xlabel=word),
}
EACH = pytest.mark.parametrize("draw", SAMPLES.values(), ids=SAMPLES)


def drawn(ax):
    return [text.get_text() for text in ax.texts]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class TestQueryDifferences:
    def test_bars_from_most_gained_to_most_lost(self):
        ours = {"a": {"x": 1.0}, "b": {"u": 3.0, "v": 2.0, "x": 1.0}, "c": {"x": 1.0}}
        comparison = compare_runs(QRELS, ours, BEFORE, metric="mrr", names=("mine", "BM25"))
        figure = query_differences(comparison, queries={"a": "the first"})
        each, named = figure.axes
        bars = sorted((bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in each.patches)
        assert bars == [pytest.approx((0, 1 / 2)), pytest.approx((2, -2 / 3))]  # "c" is equal: no bar
        assert labels(named.yaxis) == ["the first", "c", "b"]
        assert [bar.get_width() for bar in named.patches] == pytest.approx([1 / 2, -2 / 3])
        legend = [text.get_text() for text in each.get_legend().get_texts()]
        assert legend == ["better (1)", "worse (1)"]
        assert each.get_xlabel() == "queries (1 of 3 are equal)"
        assert each.get_ylabel() == "difference in MRR"
        said = alt_text(figure)
        assert said.startswith("mine against BM25: MRR of each query. mean -0.056 [")
        assert f"p = {comparison.p:.3g}; 1 better, 1 equal, 1 worse; the first +0.500; c +0.000; b -0.667" in said

    def test_gains_and_losses_are_told_apart_without_colour(self):
        each, named = query_differences(compare_runs(QRELS, AFTER, BEFORE)).axes
        assert {bar.get_hatch() for bar in each.patches} == {"", "////"}
        assert all((bar.get_width() < 0) == (bar.get_hatch() == "////") for bar in named.patches)

    def test_only_the_ends_have_names(self):
        figure = query_differences(a_comparison(queries=30), named=2)
        assert len(figure.axes[1].get_yticks()) == 4
        assert len(figure.axes[0].patches) == 20  # a third lose nothing and gain nothing
        assert len(query_differences(a_comparison(queries=30), named=0).axes) == 1


class TestRankChanges:
    def test_a_line_a_relevant_document(self):
        figure = rank_changes(QRELS, BEFORE, AFTER, queries={"b": "second"}, names=("BM25", "model"))
        lines = [
            [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"]
            for ax in figure.axes
        ]
        ranks = [[list(line.get_ydata()) for line in own] for own in lines]
        assert ranks == [[[2, 1], [6, 3]], [[1, 2]], [[1, 1]]]  # "y" of "a" is not in the first: below the line
        assert [line.get_marker() for own in lines for line in own] == ["^", "^", "v", "o"]
        assert labels(figure.axes[0].yaxis) == ["1", "2", "3", "not found"]
        assert [ax.get_title() for ax in figure.axes] == ["a", "second", "c"]
        assert labels(figure.axes[2].xaxis) == ["BM25", "model"]
        facts = "4 relevant documents of 3 queries: 2 rise, 1 fall, 1 stay"
        assert alt_text(figure) == f"Ranks of the relevant documents. {facts}."

    def test_rank_1_is_on_top(self):
        low, high = rank_changes(QRELS, BEFORE, AFTER).axes[0].get_ylim()
        assert low > high

    def test_queries_may_be_chosen(self):
        figure = rank_changes(QRELS, BEFORE, AFTER, query_ids=["c", "b"])
        assert [ax.get_title() for ax in figure.axes] == ["c", "b"]
        assert labels(figure.axes[0].yaxis) == ["1", "2"]  # nothing is missing
        assert "1 are not in after" in alt_text(rank_changes(QRELS, AFTER, BEFORE))

    def test_six_are_shown_where_none_is_chosen(self):
        qrels = {f"q{i}": {"x": 1} for i in range(20)}
        run = {query: {"x": 1.0} for query in list(qrels)[5:]}
        assert [ax.get_title() for ax in rank_changes(qrels, run, run).axes] == [f"q{i}" for i in range(5, 11)]

    def test_what_cannot_be_drawn(self):
        with pytest.raises(ValueError, match=r"^no query has a relevant document in either run$"):
            rank_changes(QRELS, BEFORE, AFTER, relevant_from=2)


class TestSystems:
    def test_bars_whiskers_and_ceilings(self):
        reports = {"BM25": a_report(BEFORE), "model": a_report(AFTER, resamples=0)}
        figure = systems(reports, metric="mrr@10")
        ax = figure.axes[0]
        assert [bar.get_width() for bar in ax.patches] == pytest.approx([r.means["mrr@10"] for r in reports.values()])
        whiskers = [line for line in ax.lines if len(line.get_xdata()) == 2]
        assert [tuple(line.get_xdata()) for line in whiskers] == [reports["BM25"].intervals["mrr@10"]]
        ceilings = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
        assert ceilings == [report.ceiling["mrr@10"] for report in reports.values()]
        assert labels(ax.yaxis) == ["BM25 (3)", "model (3)"]
        assert drawn(ax) == ["0.833", "0.833"]
        assert "model 0.833, ceiling 1.000" in alt_text(figure)
        assert alt_text(systems(reports)).startswith("nDCG@10 of 2 systems. BM25 0.")


class TestQualityAgainstCost:
    def test_a_point_a_depth(self):
        figure = quality_against_cost(POINTS)
        line, *others = figure.axes[0].lines
        assert line.get_xdata().tolist() == [0, 10, 20]
        assert line.get_ydata().tolist() == [0.5, 0.7, 0.6]
        assert [other.get_ydata() for other in others[:3]] == [
            pytest.approx([v - 0.1, v + 0.1]) for v in (0.5, 0.7, 0.6)
        ]
        assert set(others[3].get_ydata()) == {0.9}
        assert drawn(figure.axes[0]) == []  # the axis says it
        assert "reranked: 0.500 at depth 0, most 0.700 at depth 10" in alt_text(figure)

    @pytest.mark.parametrize(("cost", "places"), [("pairs", [0, 20, 40]), ("seconds", [0, 2.5, 5])])
    def test_other_costs_have_the_depths_as_numbers(self, cost, places):
        figure = quality_against_cost({"one": POINTS}, cost=cost)
        assert figure.axes[0].lines[0].get_xdata().tolist() == places
        assert drawn(figure.axes[0]) == ["0", "10", "20"]

    def test_a_depth_that_costs_all_systems_as_much_is_written_once_below_the_lowest(self):
        figure = quality_against_cost({"a": [(1, 2.0, 0.4), (5, 6.0, 0.7)], "b": [(1, 2.0, 0.3)]}, cost="pairs")
        assert [(text.get_text(), text.xy) for text in figure.axes[0].texts] == [("1", (2, 0.3)), ("5", (6, 0.7))]

    def test_tuples(self):
        figure = quality_against_cost(
            {"a": [(5, 3.0, 0.6), (1, 2.0, 0.4)], "b": [(9, 1.0, 0.5, 0.4, 0.7)]}, cost="seconds"
        )
        one, other, whisker = figure.axes[0].lines
        assert (one.get_xdata().tolist(), one.get_ydata().tolist()) == ([2, 3], [0.4, 0.6])
        assert (other.get_xdata().tolist(), list(whisker.get_ydata())) == ([1], [0.4, 0.7])

    @pytest.mark.parametrize(("count", "got"), [(0, 0), (5, 5)])
    def test_systems_that_cannot_be_told_apart(self, count, got):
        with pytest.raises(ValueError, match=f"expected 1 to 4 systems, which can be told apart; got {got}"):
            quality_against_cost({str(i): POINTS for i in range(count)})


class TestDotsBySeed:
    def test_dots_means_and_whiskers(self):
        figure = dots_by_seed({"low": {1: 0.5, 2: 0.4}, "high": [0.6]}, {"low": (0.3, 0.7)}, references={"BM25": 0.2})
        ax = figure.axes[0]
        assert labels(ax.yaxis) == ["high (1)", "low (2)"]
        dots = [line.get_xdata().tolist() for line in ax.lines if line.get_marker() == "o"]
        assert dots == [[0.6], [0.5, 0.4]]
        means = [line.get_xdata()[0] for line in ax.lines if line.get_markersize() == 16]
        assert means == pytest.approx([0.6, 0.45])
        assert [tuple(line.get_xdata()) for line in ax.lines if line.get_markersize() == 8] == [(0.3, 0.7)]
        assert ax.lines[-1].get_xdata() == [0.2, 0.2]
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert legend == ["one seed", "mean", "BM25 0.200"]
        assert "low mean 0.450, 0.400 to 0.500 over 2 seeds" in alt_text(figure)


@EACH
def test_title_labels_and_size(draw):
    figure = draw("a name")
    assert figure.get_suptitle()
    assert alt_text(figure).startswith(figure.get_suptitle())
    assert all(ax.get_xlabel() or figure._supxlabel for ax in figure.axes)
    assert any(ax.get_ylabel() for ax in figure.axes)
    image = Image.open(BytesIO(png(figure)))
    assert image.width == 770
    assert 100 < image.height <= 900


@EACH
def test_hostile_text_is_drawn_as_it_is_and_escaped_in_html(draw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = draw(HOSTILE)._repr_html_()
    assert (page.count("<"), page.count(">")) == (1, 1)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: query_differences(a_comparison(queries=500)),
        lambda: query_differences(compare_runs(QRELS, BEFORE, BEFORE)),  # nothing differs
        lambda: query_differences(compare_runs({"a": {"x": 1}}, {"a": {"x": 1.0}}, {"a": {"u": 1.0}})),
        lambda: rank_changes(QRELS, {}, {"a": {"x": 1.0}}),
        lambda: rank_changes(QRELS, *[{"a": {f"d{i}": 1.0 for i in range(3000)} | {"x": 0.0}}] * 2),
        lambda: systems({f"system {i} " * 9: a_report(BEFORE) for i in range(25)}),
        lambda: quality_against_cost([(0, 0, 0.5)]),
        lambda: quality_against_cost([(1, 1, 0.5, 0.5, 0.5), (2, 1, 0.5, 0.4, 0.6)], cost="pairs"),
        lambda: dots_by_seed({f"loss {i} " * 9: [0.5] * (i + 1) for i in range(25)}),
    ],
)
def test_unusual_data_still_draw_without_a_warning(draw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png(draw())
