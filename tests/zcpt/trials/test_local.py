"""Tests of local search: when it moves on, and when it starts again."""

from __future__ import annotations

from typing import Any

from tests.zcpt.trials.grid import Grid, build_algorithm
from zcpt.trials import LocalSearch


def build_local(digits: int = 10, **settings: Any) -> LocalSearch:
    """Return a local search on two digits, whose starts are 22 and 44."""
    algorithm = build_algorithm("local", Grid(digits), starts=2, **settings)
    assert isinstance(algorithm, LocalSearch)
    algorithm.warm_up([algorithm.candidates.space.parse(text) for text in ("22", "44")], [2.0, 1.0])
    return algorithm


def ask(local: LocalSearch) -> tuple[str, str]:
    """Return the digits and the reason of the next suggestion, which is told the value 0."""
    suggestion = local.ask()
    local.tell(suggestion.architecture, 0.0)
    return local.candidates.space.format(suggestion.architecture), suggestion.reason


def start(local: LocalSearch) -> None:
    """Measure the starts: 44 is the better one."""
    for value in (1.0, 3.0):
        local.tell(local.ask().architecture, value)
    assert local.centre == (local.candidates.space.parse("44"), 3.0)


def test_the_first_better_neighbour_is_the_next_centre() -> None:
    local = build_local()
    start(local)
    text, reason = ask(local)
    assert reason == "neighbour"
    assert sum(a != b for a, b in zip(text, "44", strict=True)) == 1
    better = local.ask().architecture
    local.tell(better, 4.0)
    assert local.centre == (better, 4.0)
    following = local.ask().architecture
    assert following in local.candidates.list_neighbors(better)


def test_the_best_of_all_neighbours_is_the_next_centre() -> None:
    local = build_local(5, full_neighborhood=True)
    start(local)
    neighbors = [local.ask().architecture for _ in range(8)]
    for number, neighbor in enumerate(neighbors):
        local.tell(neighbor, 4.0 + (number == 3))
    local.ask()
    assert local.centre == (neighbors[3], 5.0)


def test_where_no_neighbour_is_better_the_search_starts_again() -> None:
    local = build_local(5)
    start(local)
    reasons = [ask(local)[1] for _ in range(11)]
    assert reasons == ["neighbour"] * 8 + ["random"] * 2 + ["neighbour"]


def test_a_batch_larger_than_the_neighbourhood_draws_the_next_starts() -> None:
    local = build_local(5)
    start(local)
    batch = [local.ask() for _ in range(10)]
    assert [suggestion.reason for suggestion in batch] == ["neighbour"] * 8 + ["random"] * 2
    for suggestion in batch:
        local.tell(suggestion.architecture, 0.0)
    assert local.ask().reason == "neighbour", "both starts are measured"


def test_a_move_measures_the_neighbours_in_the_order_of_their_proxy_scores() -> None:
    local = build_local(move=True)
    start(local)
    assert [ask(local)[0] for _ in range(3)] == ["94", "84", "74"]


def test_values_that_are_compared_anew_decide_which_neighbour_is_better() -> None:
    local = build_local()
    start(local)
    centre, neighbor = local.candidates.space.parse("44"), local.ask().architecture
    local.revise({centre: 9.0})
    local.tell(neighbor, 4.0)
    assert local.centre == (centre, 9.0)
