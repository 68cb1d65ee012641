"""Tests of evolution: the pool, the age of its members, the tournament and the move, worked out by hand."""

from __future__ import annotations

from typing import Any

import torch

from tests.zcpt.trials.grid import Grid, build_algorithm, read_numbers
from zcpt.architecture import Architecture
from zcpt.trials import Candidates, Evolution, EvolutionSettings


def build_evolution(**settings: Any) -> Evolution:
    """Return an evolution on two digits of ten."""
    algorithm = build_algorithm("evolution", Grid(10), **settings)
    assert isinstance(algorithm, Evolution)
    return algorithm


def fill_pool(evolution: Evolution, values: dict[str, float]) -> None:
    """Fill the pool with architectures of these values."""
    evolution.warm_up(
        [evolution.candidates.space.parse(text) for text in values], [-float(i) for i in range(len(values))]
    )
    for text, value in values.items():
        architecture = evolution.ask().architecture
        assert evolution.candidates.space.format(architecture) == text
        evolution.tell(architecture, value)


def list_members(evolution: Evolution) -> list[str]:
    """Return the members of the pool as digits."""
    return [evolution.candidates.space.format(architecture) for architecture, _ in evolution.members]


def count_differences(one: Architecture, other: str) -> int:
    """Return the number of digits in which an architecture differs from a number."""
    return sum(kept != digit for kept, digit in zip((one["tens"], one["ones"]), other, strict=True))


def test_the_oldest_member_dies_however_good_it_is() -> None:
    # The tournament is the whole pool, so the parent is the best living member.
    evolution = build_evolution(pool=3, tournament=3)
    fill_pool(evolution, {"11": 9.0, "55": 1.0, "88": 5.0})
    first = evolution.ask()
    assert (first.reason, count_differences(first.architecture, "11")) == ("mutation", 1)
    evolution.tell(first.architecture, 2.0)
    space = evolution.candidates.space
    assert list_members(evolution) == ["55", "88", space.format(first.architecture)]
    second = evolution.ask()
    assert count_differences(second.architecture, "88") == 1, "the best value, 9, died of age"
    evolution.tell(second.architecture, 3.0)
    assert list_members(evolution) == ["88", space.format(first.architecture), space.format(second.architecture)]


def test_the_pool_is_filled_with_the_best_of_the_warm_up_and_then_at_random() -> None:
    evolution = build_evolution(pool=3)
    evolution.warm_up([evolution.candidates.space.parse(text) for text in ("12", "34")], [1.0, 2.0])
    reasons = []
    for _ in range(4):
        suggestion = evolution.ask()
        reasons.append(suggestion.reason)
        evolution.tell(suggestion.architecture, 0.0)
    assert reasons == ["warm-up", "warm-up", "random", "mutation"]


def test_a_tournament_of_one_draws_its_parent_uniformly() -> None:
    evolution = build_evolution(pool=3, tournament=1)
    fill_pool(evolution, {"11": 9.0, "55": 1.0, "88": 5.0})
    parents = [evolution._select_parent()["tens"] for _ in range(600)]
    assert all(150 < parents.count(digit) < 250 for digit in "158")


def test_a_tournament_of_two_of_three_never_takes_the_worst() -> None:
    evolution = build_evolution(pool=3, tournament=2)
    fill_pool(evolution, {"11": 9.0, "55": 1.0, "88": 5.0})
    parents = [evolution._select_parent()["tens"] for _ in range(600)]
    # The pairs 11-55 and 11-88 go to 11, the pair 55-88 to 88.
    assert parents.count("5") == 0
    assert 360 < parents.count("1") < 440


def test_a_child_differs_in_one_decision_drawn_uniformly() -> None:
    evolution = build_evolution(pool=1, repeats=True)
    fill_pool(evolution, {"11": 1.0})
    children = [evolution.ask().architecture for _ in range(900)]
    counts = [
        sum(child == neighbor for child in children) for neighbor in evolution.candidates.list_neighbors(children[0])
    ]
    assert {count_differences(child, "11") for child in children} == {1}
    assert len(set(children)) == 18
    assert max(counts) < 85


def test_a_move_takes_the_neighbour_of_the_best_proxy_score_but_for_exploration() -> None:
    evolution = build_evolution(pool=1, move=True, explore=0.0)
    fill_pool(evolution, {"11": 1.0})
    # The proxy is the number itself: of the 18 neighbours of 11 it prefers 91, then 81.
    moves = [evolution.ask() for _ in range(2)]
    assert [(evolution.candidates.space.format(s.architecture), s.reason) for s in moves] == [
        ("91", "move"),
        ("81", "move"),
    ]
    explorer = build_evolution(pool=1, move=True, explore=0.25, repeats=True)
    fill_pool(explorer, {"11": 1.0})
    reasons = [explorer.ask().reason for _ in range(400)]
    assert 70 < reasons.count("mutation") < 130


def test_a_move_may_score_a_few_random_neighbours_only() -> None:
    scored: list[int] = []

    def score(architectures: list[Architecture]) -> list[float]:
        scored.append(len(architectures))
        return read_numbers(architectures)

    settings = EvolutionSettings(pool=1, move=True, explore=0.0, move_samples=5)
    evolution = Evolution(Candidates(Grid(10)), torch.Generator().manual_seed(0), settings, score)  # type: ignore[arg-type]
    evolution.tell(evolution.ask().architecture, 0.0)
    evolution.ask()
    assert scored == [5]


def test_a_parent_without_new_neighbours_leaves_the_place_to_another() -> None:
    evolution = Evolution(
        Candidates(Grid(2)), torch.Generator().manual_seed(0), EvolutionSettings(pool=2, tournament=1)
    )
    suggestions = []
    for _ in range(4):
        suggestions.append(evolution.ask())
        evolution.tell(suggestions[-1].architecture, 0.0)
    assert len({suggestion.architecture for suggestion in suggestions}) == 4
