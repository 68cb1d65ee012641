"""EcoNAS' hierarchical strategy: cycles by hand, the laws of promotion and age, and its settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import zcpt
from zcpt import ConfigError
from zcpt.architecture import Architecture
from zcpt.trials.algorithm import Suggestion
from zcpt.trials.candidates import Candidates
from zcpt.trials.hierarchy import Hierarchy, HierarchySettings

SPACE = zcpt.get_space("nasbench-macro")


def make_hierarchy(seed: int = 0, score: Any = None, **settings: Any) -> Hierarchy:
    generator = torch.Generator().manual_seed(seed)
    return Hierarchy(Candidates(SPACE), generator, HierarchySettings(**settings), score)


def run_cycle(hierarchy: Hierarchy, values: list[float]) -> list[Suggestion]:
    """Ask for all trials of a cycle, then tell their values."""
    assert hierarchy.count_ready() == len(values)
    suggestions = [hierarchy.ask() for _ in values]
    for suggestion, value in zip(suggestions, values, strict=True):
        hierarchy.tell(suggestion.architecture, value)
    return suggestions


def is_neighbor(child: Architecture, parent: Architecture) -> bool:
    return child in SPACE.list_neighbors(parent)


def test_four_cycles_by_hand() -> None:
    hierarchy = make_hierarchy(initial=2, stages=2, promote="1", parents="1,1", max_age=2)
    zero, one = run_cycle(hierarchy, [3.0, 5.0])
    assert [(s.reason, s.share, s.origin) for s in (zero, one)] == [("random", 0.5, 0), ("random", 0.5, 1)]
    # The better one goes on; the second group is empty, so that it has no parent.
    two, three = run_cycle(hierarchy, [4.0, 6.0])
    assert (two.architecture, two.reason, two.share, two.origin) == (one.architecture, "promotion", 1.0, 1)
    assert (three.reason, three.share, three.origin) == ("mutation", 0.5, 3)
    assert is_neighbor(three.architecture, zero.architecture) or is_neighbor(three.architecture, one.architecture)
    assert hierarchy.unfinished == {0, 3}
    assert {member.origin: member.best for member in hierarchy.members} == {0: 3.0, 1: 5.0, 3: 6.0}  # of any stage
    # Network 0 was trained two cycles ago, so it leaves. One network is left in each group: the parents.
    four, five, six = run_cycle(hierarchy, [math.nan, 7.0, 2.0])
    assert (four.architecture, four.reason, four.origin) == (three.architecture, "promotion", 3)
    assert is_neighbor(five.architecture, three.architecture)
    assert is_neighbor(six.architecture, one.architecture)
    assert {member.origin for member in hierarchy.members} == {1, 5, 6}  # the training of network 3 has failed
    seven, _ = run_cycle(hierarchy, [1.0, 1.0])
    assert (seven.architecture, seven.origin) == (five.architecture, 5)
    assert {member.origin for member in hierarchy.members} == {5, 6, 8}


def follow(hierarchy: Hierarchy, trials: int, value: Callable[[Suggestion], float]) -> list[list[Suggestion]]:
    """Run whole cycles until there were so many trials."""
    cycles: list[list[Suggestion]] = []
    while sum(map(len, cycles)) < trials:
        count = hierarchy.count_ready()
        assert count is not None
        cycles.append([hierarchy.ask() for _ in range(count)])
        for suggestion in cycles[-1]:
            hierarchy.tell(suggestion.architecture, value(suggestion))
    return cycles


def rate(suggestion: Suggestion) -> float:
    return sum(choice[0] != "identity" for choice in suggestion.architecture.kept.values()) + suggestion.share


def test_the_published_cycle_has_sixteen_children_and_twelve_promotions() -> None:
    cycles = follow(make_hierarchy(), 400, rate)
    assert [len(cycle) for cycle in cycles[:4]] == [16, 8 + 6, 8 + 4 + 6 + 5, 8 + 4 + 16]
    for cycle in cycles[3:]:
        shares = [round(3 * suggestion.share) for suggestion in cycle]
        assert (shares.count(1), shares.count(2), shares.count(3)) == (16, 8, 4)


def test_every_stage_follows_the_one_before_and_no_network_is_begun_twice() -> None:
    done: dict[int, float] = {}
    begun = []
    for suggestion in (s for cycle in follow(make_hierarchy(seed=3), 300, rate) for s in cycle):
        assert suggestion.origin is not None
        assert suggestion.share == pytest.approx(done.get(suggestion.origin, 0) + 1 / 3)
        done[suggestion.origin] = suggestion.share
        if suggestion.reason != "promotion":
            begun.append(SPACE.canonicalize(suggestion.architecture))
    assert len(set(begun)) == len(begun) > 150


def test_no_network_lives_longer_than_its_age() -> None:
    hierarchy = make_hierarchy(max_age=3)
    for _ in range(12):
        follow(hierarchy, 1, rate)
        assert all(hierarchy.cycle - member.cycle < 3 for member in hierarchy.members)
    assert max(hierarchy.cycle - member.cycle for member in hierarchy.members) == 2


def test_one_stage_is_the_published_search_by_one_reliable_proxy() -> None:
    cycles = follow(make_hierarchy(stages=1, promote="", parents="16"), 60, rate)
    assert [len(cycle) for cycle in cycles] == [16] * 4
    assert {suggestion.share for cycle in cycles for suggestion in cycle} == {1.0}
    assert not HierarchySettings(stages=1, promote="", parents="16").trains_in_stages
    assert HierarchySettings().trains_in_stages


def test_when_every_training_fails_it_begins_anew() -> None:
    cycles = follow(make_hierarchy(initial=3), 9, lambda _: -math.inf)
    assert [[suggestion.reason for suggestion in cycle] for cycle in cycles] == [["random"] * 3] * 3


def test_the_first_networks_are_those_of_the_warm_up_and_children_can_be_moves() -> None:
    def score(architectures: Any) -> list[float]:
        return [float(len(set(architecture.kept.values()))) for architecture in architectures]

    hierarchy = make_hierarchy(score=score, move=True, explore=0.0, initial=2)
    architectures = [SPACE.sample_architecture(torch.Generator().manual_seed(i)) for i in range(3)]
    hierarchy.warm_up(architectures, [1.0, 3.0, 2.0])
    first = follow(hierarchy, 1, rate)[0]
    assert [suggestion.architecture for suggestion in first] == [architectures[1], architectures[2]]
    assert {s.reason for s in follow(hierarchy, 1, rate)[0] if s.reason != "promotion"} == {"move"}


def test_the_same_seed_gives_the_same_trials() -> None:
    runs = [follow(make_hierarchy(seed), 80, rate) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"promote": "8"}, "--promote takes 2 numbers with 3 stages, not '8'"),
        ({"parents": "6,5"}, "--parents takes 3 numbers with 3 stages, not '6,5'"),
        ({"promote": "8,four"}, "--promote takes whole numbers such as 8,4, not '8,four'"),
        ({"promote": "8,-4"}, "--promote takes whole numbers"),
        ({"parents": "0,0,0"}, "--parents 0,0,0 has no parent"),
        ({"max_age": 0}, "--max-age is at least 1, not 0"),
        ({"tournament_share": 2.0}, "--tournament-share is between 0 and 1, not 2.0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        HierarchySettings(**settings)
