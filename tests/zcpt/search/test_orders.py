"""In which order choices are decided."""

import pytest

import zcpt
from zcpt import Choice, ConfigError
from zcpt.search import ORDERS
from zcpt.search.orders import schedule

DARTS = zcpt.get_space("darts").choices


def names(steps, group="normal"):
    return [choice.name for step in steps for choice in step if choice.group == group]


@pytest.mark.parametrize("order", list(ORDERS))
def test_every_choice_is_decided_once_and_in_its_phase(space, order):
    steps = schedule(space.choices, order, seed=0)
    decided = [choice for step in steps for choice in step]
    assert sorted(c.name for c in decided) == sorted(c.name for c in space.choices)
    assert [c.phase for c in decided] == sorted(c.phase for c in decided)


@pytest.mark.parametrize("order", list(ORDERS))
def test_a_darts_step_decides_one_edge_of_each_cell(order):
    steps = schedule(DARTS, order, seed=1)
    assert len(steps) == 14 + 3
    assert all([choice.group for choice in step] == ["normal", "reduce"] for step in steps)


def test_fixed_goes_from_input_to_output_and_reverse_back():
    fixed, reverse = (schedule(DARTS, order, seed=0) for order in ("fixed", "reverse"))
    assert names(fixed)[:4] == ["normal/node2/edge0", "normal/node2/edge1", "normal/node3/edge0", "normal/node3/edge1"]
    assert names(fixed)[14:] == ["normal/node3/inputs", "normal/node4/inputs", "normal/node5/inputs"]
    assert names(reverse)[:14] == names(fixed)[13::-1]
    assert names(reverse)[14:] == names(fixed)[:13:-1]


def test_random_depends_on_the_seed_alone_and_differs_between_cells():
    orders = [names(schedule(DARTS, "random", seed)) for seed in range(20)]
    assert len(set(map(tuple, orders))) == 20
    assert orders[3] == names(schedule(DARTS, "random", 3))
    one = [name.removeprefix("reduce") for name in names(schedule(DARTS, "random", 0), "reduce")]
    assert one != [name.removeprefix("normal") for name in orders[0]]


def test_random_is_uniform_over_the_first_edge():
    choices = [Choice(str(i), ("a", "b")) for i in range(6)]
    first = [schedule(choices, "random", seed)[0][0].name for seed in range(1200)]
    counts = [first.count(str(i)) for i in range(6)]
    assert all(140 < count < 260 for count in counts), counts  # 200 expected, standard deviation 13


def test_groups_of_different_length_are_interleaved():
    choices = [
        Choice("a0", ("x", "y"), group="a"),
        Choice("b0", ("x", "y"), group="b"),
        Choice("b1", ("x", "y"), group="b"),
    ]
    steps = schedule(choices, "fixed", seed=0)
    assert [[choice.name for choice in step] for step in steps] == [["a0", "b0"], ["b1"]]


def test_an_unknown_order_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match="unknown order 'randm': did you mean 'random'"):
        schedule(DARTS, "randm", seed=0)
