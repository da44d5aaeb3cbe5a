"""Quality against cost: which systems none beats, and names that meet neither each other nor a point."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.plots.figures import alt_text
from crossenc_kit.plots.scores import frontier, tradeoff

FORMS = {
    "padded": (400, 0.61),
    "packed": (800, 0.61),
    "int8": (2000, 0.60),
    "student": (1800, 0.5),
    "tiny": (9000, 0.2),
}


def test_a_system_is_on_the_frontier_where_no_other_is_better_in_one_and_as_good_in_both():
    assert frontier(FORMS) == ["packed", "int8", "tiny"]


def test_of_costs_the_lower_are_better():
    assert frontier({"a": (10, 0.5), "b": (20, 0.6), "c": (30, 0.6), "d": (5, 0.1)}, more_is_better=False) == [
        "d",
        "a",
        "b",
    ]


def test_two_systems_that_are_the_same_are_both_kept():
    assert frontier({"a": (10, 0.5), "b": (10, 0.5)}) == ["a", "b"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12), st.booleans())
def test_every_system_off_the_frontier_is_beaten_by_one_on_it(points, more_is_better):
    systems = {str(number): point for number, point in enumerate(points)}
    kept = frontier(systems, more_is_better=more_is_better)
    sign = 1 if more_is_better else -1
    ours = [(sign * systems[name][0], systems[name][1]) for name in kept]
    for name, (cost, quality) in systems.items():
        beaten = any(a >= sign * cost and b >= quality and (a, b) != (sign * cost, quality) for a, b in ours)
        assert beaten == (name not in kept)
    assert [systems[name][0] for name in kept] == sorted(systems[name][0] for name in kept)


def names_of(figure, systems):
    """The box of every name as it is drawn, in pixels, and the axes' own."""
    figure.draw_without_rendering()
    ax = figure.axes[0]
    drawn = {text.get_text(): text for text in ax.texts if text.get_text()}
    assert set(drawn) == set(systems)
    boxes = {name: drawn[name].get_window_extent() for name in systems}
    return boxes, ax.get_window_extent(), ax.transData


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.02, 0.4])
def test_names_of_crowded_points_meet_neither_each_other_nor_a_point(seed, spread):
    random = np.random.default_rng(seed)
    systems = {f"a system of number {i}": (np.exp(spread * random.normal()), random.normal()) for i in range(14)}
    boxes, room, place = names_of(tradeoff(systems), systems)
    for one, other in itertools.combinations(boxes.values(), 2):
        assert not one.overlaps(other)
    points = [place.transform(point) for point in systems.values()]
    for box in boxes.values():
        assert room.x0 <= box.x0 < box.x1 <= room.x1
        assert room.y0 <= box.y0 < box.y1 <= room.y1
        assert not any(box.contains(*point) for point in points)


def test_a_name_is_beside_its_point_where_there_is_room_and_joined_to_it_where_there_is_none():
    alone = {"a": (1.0, 0.5), "b": (10.0, 0.9)}
    boxes, _, place = names_of(tradeoff(alone), alone)
    for name, point in alone.items():
        x, y = place.transform(point)
        assert boxes[name].padded(12).contains(x, y)
    crowd = {f"system {number:02}": (1.0, 0.5 + number / 1e6) for number in range(12)} | {"far": (1.0, 9.0)}
    joined = [text for text in tradeoff(crowd).axes[0].texts if not text.get_text()]
    assert len(joined) >= 4


def test_whiskers_the_dotted_edge_and_the_legend():
    groups = {"padded": "exact", "packed": "exact", "int8": "rounded"}
    figure = tradeoff(FORMS, intervals={"int8": (0.55, 0.65)}, spreads={"packed": (700, 900)}, groups=groups)
    ax = figure.axes[0]
    lines = [(line.get_xdata(), line.get_ydata()) for line in ax.lines]
    drawn = [(list(map(float, x)), list(map(float, y))) for x, y in lines]
    assert ([2000, 2000], [0.55, 0.65]) in drawn
    assert ([700, 900], [0.61, 0.61]) in drawn
    assert ([800, 2000], [0.60, 0.60]) in drawn  # a speed of 1,000 is had at the quality of int8
    assert ([800, 800], [0.61, 0.60]) in drawn
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["exact", "rounded", "other"]
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel().endswith("(more is better)\nwhiskers: 95 % interval, least to most; dotted: none is better")


def test_of_costs_the_edge_is_level_from_a_system_to_the_next_dearer_one():
    figure = tradeoff({"a": (10, 0.5), "b": (20, 0.6)}, cost="ms", more_is_better=False)
    drawn = [(list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))) for line in figure.axes[0].lines]
    assert ([10, 20], [0.5, 0.5]) in drawn
    assert ([20, 20], [0.5, 0.6]) in drawn
    assert "less is better" in figure.axes[0].get_xlabel()
    assert alt_text(figure) == "Spearman against ms. a 0.500 at 10 ms; b 0.600 at 20 ms; not beaten: a, b."


@pytest.mark.parametrize("costs", [(1, 1.1), (0.001, 0.002), (90, 35_000), (5, 5), (1e4, 9e4)])
def test_the_axis_has_round_numbers_whatever_the_range(costs):
    figure = tradeoff({"a": (costs[0], 0.5), "b": (costs[1], 0.6)})
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert len(ticks) >= 3
    assert len(set(ticks)) == len(ticks)


@pytest.mark.parametrize(
    ("systems", "groups", "said"),
    [
        ({"a": (0, 0.5)}, None, r"^'a' is \(0\.0, 0\.5\); expected a cost above 0 and a quality, both finite$"),
        ({"a": (1, float("nan"))}, None, "both finite"),
        (FORMS, {name: name for name in FORMS}, "1 to 4 groups, which can be told apart; got 5"),
    ],
)
def test_what_cannot_be_drawn_is_said(systems, groups, said):
    with pytest.raises(ValueError, match=said):
        tradeoff(systems, groups=groups)
