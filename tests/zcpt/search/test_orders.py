"""The order in which choices are decided."""

from __future__ import annotations

import math
from typing import Any

import pytest

import zcpt
from zcpt import Choice, ConfigError
from zcpt.search import ORDERS, count_evaluations
from zcpt.search.decision import Decision
from zcpt.search.orders import build_queues
from zcpt.space import SearchSpace

DARTS = zcpt.get_space("darts").choices


STATIC = ("fixed", "reverse", "random")


def schedule(choices: Any, order: Any, seed: Any, joint: bool = False, worth: Any = None, surveyed: Any = None) -> Any:
    """Return the steps of a proposal; ``worth`` gives the importances that a survey of a choice finds."""

    def survey(choice: Any) -> Any:
        found = worth(choice) if worth else (0.0,)
        if surveyed is not None:
            surveyed.append(choice.name)
        return Decision(0, choice.name, choice.candidates, (), found, choice.candidates, 0.0, "survey")

    steps = []
    for queues in build_queues(choices, order, seed, joint):
        while any(queue.remaining for queue in queues):
            steps.append([queue.pop(survey)[0] for queue in queues if queue.remaining])
    return steps


def names(steps: Any, group: str = "normal") -> Any:
    return [choice.name for step in steps for choice in step if choice.group == group]


@pytest.mark.parametrize("order", list(ORDERS))
def test_every_choice_is_decided_once_and_in_its_phase(space: SearchSpace, order: Any) -> None:
    steps = schedule(space.choices, order, seed=0)
    decided = [choice for step in steps for choice in step]
    assert sorted(c.name for c in decided) == sorted(c.name for c in space.choices)
    assert [c.phase for c in decided] == sorted(c.phase for c in decided)


@pytest.mark.parametrize(
    ("order", "nasbench201", "darts"),
    [
        ("fixed", 30, 196),
        ("reverse", 30, 196),
        ("random", 30, 196),
        ("global-op-iter", 105, 1470),
        ("global-op-once", 60, 2 * 196),
        ("global-edge-iter", 135, 1470 + 196),
        ("global-edge-once", 60, 2 * 196),
    ],
)
def test_published_and_derived_numbers_of_evaluations(order: str, nasbench201: int, darts: Any) -> None:
    assert count_evaluations(zcpt.get_space("nasbench201").choices, order) == (nasbench201,) * 2
    assert count_evaluations(DARTS, order) == (darts + 44,) * 2  # 44 for the inputs


def test_an_order_over_both_cells_costs_what_one_list_of_28_edges_does() -> None:
    assert count_evaluations(DARTS, "global-op-iter", joint=True) == (7 * 28 * 29 // 2 + 44,) * 2
    assert count_evaluations(DARTS, "random", joint=True) == (240, 240)


def test_bounds_where_edges_have_different_numbers_of_operations() -> None:
    choices = [Choice("a", ("x", "y")), Choice("b", ("x", "y", "z"))]
    assert count_evaluations(choices, "global-op-iter") == (3 * 1 + 2 * 2, 2 * 1 + 3 * 2)
    assert count_evaluations(choices, "global-edge-once") == (10, 10)


@pytest.mark.parametrize("order", list(ORDERS))
def test_a_darts_step_decides_one_edge_of_each_cell(order: Any) -> None:
    steps = schedule(DARTS, order, seed=1)
    assert len(steps) == 14 + 3
    assert all([choice.group for choice in step] == ["normal", "reduce"] for step in steps)


def test_fixed_goes_from_input_to_output_and_reverse_back() -> None:
    fixed, reverse = (schedule(DARTS, order, seed=0) for order in ("fixed", "reverse"))
    assert names(fixed)[:4] == ["normal/node2/edge0", "normal/node2/edge1", "normal/node3/edge0", "normal/node3/edge1"]
    assert names(fixed)[14:] == ["normal/node3/inputs", "normal/node4/inputs", "normal/node5/inputs"]
    assert names(reverse)[:14] == names(fixed)[13::-1]
    assert names(reverse)[14:] == names(fixed)[:13:-1]


def test_random_depends_on_the_seed_alone_and_differs_between_cells() -> None:
    orders = [names(schedule(DARTS, "random", seed)) for seed in range(20)]
    assert len(set(map(tuple, orders))) == 20
    assert orders[3] == names(schedule(DARTS, "random", 3))
    one = [name.removeprefix("reduce") for name in names(schedule(DARTS, "random", 0), "reduce")]
    assert one != [name.removeprefix("normal") for name in orders[0]]


@pytest.mark.parametrize(("order", "first"), [("global-op-once", "c"), ("global-edge-once", "b")])
def test_once_orders_rank_edges_by_one_survey_best_first(order: str, first: str) -> None:
    worth = {"a": (0.0, 1.0), "b": (5.0, 5.0), "c": (9.0, -9.0), "d": (0.0, 1.0)}
    choices = [Choice(name, ("x", "y")) for name in worth]
    surveyed: list[Any] = []
    steps = schedule(choices, order, 0, worth=lambda c: worth[c.name], surveyed=surveyed)
    rest = ["b", "a", "d"] if first == "c" else ["a", "d", "c"]
    assert [choice.name for step in steps for choice in step] == [first, *rest]
    assert surveyed == list(worth)


@pytest.mark.parametrize("order", ["global-op-iter", "global-edge-iter"])
def test_repeated_orders_survey_all_open_choices_before_every_decision(order: str) -> None:
    choices = [Choice(name, ("x", "y")) for name in "abc"]
    surveyed: list[Any] = []
    worth = {name: iter(values) for name, values in {"a": [1.0, 1.0, 1.0], "b": [2.0], "c": [0.0, 3.0]}.items()}
    steps = schedule(choices, order, 0, worth=lambda c: (next(worth[c.name]), 0.0), surveyed=surveyed)
    assert [choice.name for step in steps for choice in step] == ["b", "c", "a"]
    assert "".join(surveyed) == "abc" + "ac" + "a"


def test_an_edge_without_finite_scores_comes_last() -> None:
    worth = {"a": (-math.inf, -math.inf), "b": (-math.inf, 1.0), "c": (0.0, 0.5)}
    for order in ("global-op-once", "global-edge-once"):
        steps = schedule([Choice(name, ("x", "y")) for name in worth], order, 0, worth=lambda c: worth[c.name])
        assert [choice.name for step in steps for choice in step] == ["b", "c", "a"]


@pytest.mark.parametrize("order", [order for order in ORDERS if order not in STATIC])
def test_inputs_follow_in_random_order_after_a_global_order(order: Any) -> None:
    steps = schedule(DARTS, order, 0)
    assert names(steps)[14:] == names(schedule(DARTS, "random", 0))[14:]


def test_joint_orders_share_one_queue_between_the_cells() -> None:
    worth = {choice.name: (float(-position),) for position, choice in enumerate(DARTS)}
    for order in ORDERS:
        steps = schedule(DARTS, order, 0, joint=True, worth=lambda c: worth[c.name])
        assert len(steps) == 28 + 6
        assert all(len(step) == 1 for step in steps)
    first = [step[0].name for step in schedule(DARTS, "global-op-once", 0, joint=True, worth=lambda c: worth[c.name])]
    assert first[:28] == [choice.name for choice in DARTS[:28]]


def test_random_is_uniform_over_the_first_edge() -> None:
    choices = [Choice(str(i), ("a", "b")) for i in range(6)]
    first = [schedule(choices, "random", seed)[0][0].name for seed in range(1200)]
    counts = [first.count(str(i)) for i in range(6)]
    assert all(140 < count < 260 for count in counts), counts  # 200 expected, standard deviation 13


def test_groups_of_different_length_are_interleaved() -> None:
    choices = [
        Choice("a0", ("x", "y"), group="a"),
        Choice("b0", ("x", "y"), group="b"),
        Choice("b1", ("x", "y"), group="b"),
    ]
    steps = schedule(choices, "fixed", seed=0)
    assert [[choice.name for choice in step] for step in steps] == [["a0", "b0"], ["b1"]]


def test_an_unknown_order_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="unknown order 'randm': did you mean 'random'"):
        schedule(DARTS, "randm", seed=0)
