"""The plan of an epoch: a pure function of its arguments, within the budgets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit.training.batches import plan_epoch, rows_of, steps_per_epoch


@st.composite
def plans(draw):
    """Arguments of `plan_epoch`: groups of one to four pairs with any lengths."""
    sizes = draw(st.lists(st.integers(1, 4), max_size=40))
    lengths = np.array(draw(st.lists(st.integers(3, 50), min_size=sum(sizes), max_size=sum(sizes))), dtype=np.int64)
    options = {
        "seed": draw(st.integers(0, 2**32)),
        "epoch": draw(st.integers(0, 5)),
        "batch_size": draw(st.integers(1, 8)),
        "accumulation": draw(st.integers(1, 3)),
        "token_budget": draw(st.none() | st.integers(1, 300)),
    }
    return lengths, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), options


@given(plans())
def test_an_epoch_is_a_permutation_cut_into_steps_within_the_budgets(plan):
    lengths, offsets, options = plan
    count, per_step = len(offsets) - 1, options["batch_size"] * options["accumulation"]
    steps = plan_epoch(lengths, offsets, **options)
    assert len(steps) == steps_per_epoch(count, options["batch_size"], options["accumulation"])
    taken = [np.concatenate(step).tolist() for step in steps]
    assert sorted(group for step in taken for group in step) == list(range(count))
    assert [len(step) for step in taken] == [min(per_step, count - start) for start in range(0, count, per_step)]
    for micro_batch in (groups for step in steps for groups in step):
        tokens = lengths[rows_of(micro_batch, offsets)].sum()
        assert 1 <= len(micro_batch) <= options["batch_size"]
        assert options["token_budget"] is None or tokens <= options["token_budget"] or len(micro_batch) == 1


def as_lists(steps):
    return [[groups.tolist() for groups in step] for step in steps]


@given(plans())
def test_a_plan_depends_on_its_arguments_alone(plan):
    lengths, offsets, options = plan
    first = as_lists(plan_epoch(lengths, offsets, **options))
    np.random.seed(7)
    np.random.random(3)
    assert as_lists(plan_epoch(lengths.copy(), offsets.copy(), **options)) == first


def test_seed_and_epoch_change_the_order_and_budgets_do_not():
    lengths, offsets = np.full(64, 10), np.arange(65)
    options = {"seed": 1, "epoch": 0, "batch_size": 8}

    def order(**changes):
        steps = plan_epoch(lengths, offsets, **{**options, **changes})
        return [group for step in as_lists(steps) for groups in step for group in groups]

    assert order() != order(seed=2)
    assert order() != order(epoch=1)
    assert order() == order(token_budget=20)
    assert order(shuffle=False) == list(range(64))


def test_a_plan_by_hand():
    lengths, offsets = np.array([5, 9, 9, 7, 8, 3]), np.array([0, 1, 3, 4, 5, 6])  # group 1 has 18 tokens
    options = {"seed": 0, "epoch": 0, "shuffle": False}
    assert as_lists(plan_epoch(lengths, offsets, batch_size=2, **options)) == [[[1, 0]], [[3, 2]], [[4]]]
    steps = plan_epoch(lengths, offsets, batch_size=2, accumulation=2, token_budget=15, **options)
    assert as_lists(steps) == [[[1], [3, 2], [0]], [[4]]]


def test_rows_of_groups():
    assert rows_of(np.array([2, 0]), np.array([0, 2, 3, 6])).tolist() == [3, 4, 5, 0, 1]
    assert rows_of(np.array([2, 0]), np.arange(4)).tolist() == [2, 0]
