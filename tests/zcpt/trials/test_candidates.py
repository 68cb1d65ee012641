"""Candidates of trials: what is drawn, mutated and listed is inside the budgets, the published list and the pool."""

from __future__ import annotations

from collections import Counter
from itertools import islice, product

import pytest
import torch
from scipy import stats

import zcpt
from tests.conftest import LAYERS, ONE_SHOT
from tests.zcpt.test_variation import list_all
from zcpt import Architecture, ConfigError, InfeasibleError, NetworkConfig, SpaceError
from zcpt.cost import Block
from zcpt.search import BudgetChecker
from zcpt.search.budgets import Budget
from zcpt.space import SearchSpace
from zcpt.trials import Candidates


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def price(block: Block) -> int:
    return block.cost.params


def build_checker(space: SearchSpace, share: float) -> BudgetChecker:
    """Return a checker whose limit lies at a share of the way from the least to the largest number of parameters."""
    config = NetworkConfig(4, LAYERS[space.name], image_size=(8, 8))
    everything = {choice.name: choice.selectable for choice in space.choices}
    smallest = space.build_cheapest_finder(config, price)(everything)
    largest = space.build_cheapest_finder(config, lambda block: -price(block))(everything)
    assert smallest
    assert largest
    least, most = space.cost(smallest, config).params, space.cost(largest, config).params
    return BudgetChecker(space, config, [Budget("max_params", "parameters", least + share * (most - least), price)])


@pytest.mark.few_spaces
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_everything_is_within_the_budget(space: SearchSpace, share: float) -> None:
    checker, generator = build_checker(space, share), seeded()
    candidates = Candidates(space, checker)
    architecture = candidates.sample(generator)
    for _ in range(4):
        neighbors = candidates.list_neighbors(architecture)
        mutated = candidates.mutate(architecture, generator)
        assert mutated in neighbors or not neighbors
        for found in (architecture, *neighbors, mutated, candidates.sample(generator)):
            assert checker.is_feasible(found)
            assert candidates.is_allowed(found)
            assert space.canonicalize(found) == found
        allowed = [n for n in space.list_neighbors(architecture) if checker.is_feasible(n)]
        assert neighbors == allowed
        architecture = mutated


def test_several_architectures_are_found_where_one_of_millions_is_allowed() -> None:
    space = zcpt.get_space("darts-s2")
    checker, generator = build_checker(space, 0.05), seeded()
    drawn = {Candidates(space, checker).sample(generator) for _ in range(3)}
    assert len(drawn) == 3
    assert all(map(checker.is_feasible, drawn))


def test_samples_within_a_wide_budget_are_uniform() -> None:
    space = zcpt.get_space("nasbench201")
    checker, generator = build_checker(space, 0.3), seeded()
    candidates = Candidates(space, checker)
    drawn = [candidates.sample(generator) for _ in range(300)]
    plain = [a for a in (space.sample_architecture(generator) for _ in range(1200)) if checker.is_feasible(a)]
    for choice in space.choices:
        tables = [Counter(a[choice.name] for a in group) for group in (drawn, plain)]
        counts = [[table[name] for name in choice.candidates] for table in tables]
        assert stats.chi2_contingency(counts).pvalue > 1e-3


def test_samples_are_the_same_for_the_same_seed() -> None:
    space = zcpt.get_space("nasbench-macro")
    for share in (0.02, 0.5):
        runs = []
        for _ in range(2):
            candidates, generator = Candidates(space, build_checker(space, share)), seeded(5)
            architectures = [candidates.sample(generator) for _ in range(2)]
            runs.append([architectures, [candidates.mutate(a, generator) for a in architectures]])
        assert runs[0] == runs[1]


@pytest.mark.parametrize("name", ["nasbench-macro", pytest.param("nasbench1shot1-1", marks=pytest.mark.slow)])
def test_all_architectures_within_a_budget_are_listed_once(name: str) -> None:
    space = zcpt.get_space(name)
    checker = build_checker(space, 0.05)
    found = list(Candidates(space, checker).iterate())
    assert set(found) == {architecture for architecture in list_all(space) if checker.is_feasible(architecture)}
    assert len(found) == len(set(found)) > 10
    assert list(Candidates(space, checker, pool=found[:3]).iterate()) == found[:3]


def test_the_first_of_very_many_architectures_are_listed_at_once() -> None:
    space = zcpt.get_space("darts")
    checker = build_checker(space, 0.1)
    for candidates in (Candidates(space), Candidates(space, checker)):
        found = list(islice(candidates.iterate(), 20))
        assert len(set(found)) == 20
        assert all(map(candidates.is_allowed, found))


@pytest.mark.parametrize("name", ONE_SHOT)
def test_published_cells_only(name: str) -> None:
    space = zcpt.get_space(name)
    candidates = Candidates(space, BudgetChecker(space, NetworkConfig(4, 3), valid_only=True))
    generator = seeded()
    for _ in range(5):
        architecture = candidates.sample(generator)
        assert all(map(space.is_valid, [architecture, *candidates.list_neighbors(architecture)]))
        assert space.is_valid(candidates.mutate(architecture, generator))


def test_without_budgets_the_methods_of_the_space_are_used() -> None:
    space = zcpt.get_space("nasbench201")
    candidates = Candidates(space)
    architecture = candidates.sample(seeded())
    assert architecture == space.sample_architecture(seeded())
    assert candidates.list_neighbors(architecture) == space.list_neighbors(architecture)
    assert candidates.mutate(architecture, seeded()) == space.mutate(architecture, seeded())
    assert candidates.is_allowed(architecture)
    assert candidates.pool is None


def parse_digits(*texts: str) -> list[Architecture]:
    return [zcpt.get_space("nasbench-macro").parse(text) for text in texts]


def test_neighbors_in_a_pool_are_the_nearest() -> None:
    space = zcpt.get_space("nasbench-macro")
    near = [f"{digit}{2 - digit}222222" for digit in (1, 2)] + ["21221222"]
    own = "22222222"
    far = ["11111" + "".join(digits) for digits in product("12", repeat=3)]
    candidates = Candidates(space, pool=parse_digits(*far, own, *near))
    texts = [space.format(a) for a in candidates.list_neighbors(space.parse(own))]
    # '20222222' differs in one choice, '11222222' and '21221222' in two; the ten nearest reach to distance seven.
    assert texts[:3] == ["20222222", "11222222", "21221222"]
    distances = [sum(one != other for one, other in zip(text, own, strict=True)) for text in texts]
    assert distances == sorted(distances)
    assert Counter(distances) == {1: 1, 2: 2, 5: 1, 6: 3, 7: 3}
    # An architecture outside the pool has neighbours too.
    assert texts[0] in [space.format(a) for a in candidates.list_neighbors(space.parse("20222221"))]


def test_neighbors_in_the_pool_of_all_cells_are_those_of_the_space() -> None:
    space = zcpt.get_space("nasbench201")
    architecture = space.sample_architecture(seeded())
    second = [n for neighbor in space.list_neighbors(architecture) for n in space.list_neighbors(neighbor)]
    candidates = Candidates(space, pool=second)
    assert set(candidates.list_neighbors(architecture)) == set(space.list_neighbors(architecture))


def test_a_pool_holds_each_network_once_and_only_what_meets_the_budget() -> None:
    space = zcpt.get_space("nasbench-macro")
    texts = ["11101111", "11110111", "22222222", "00000000"]  # the first two are one network
    candidates = Candidates(space, pool=parse_digits(*texts))
    assert candidates.pool is not None
    assert [space.format(a) for a in candidates.pool] == ["11110111", "22222222", "00000000"]
    small = Candidates(space, build_checker(space, 0.1), parse_digits(*texts))
    assert small.pool == tuple(parse_digits("00000000"))
    assert small.sample(seeded()) == small.mutate(small.pool[0], seeded()) == small.pool[0]
    assert small.list_neighbors(small.pool[0]) == []
    assert not small.is_allowed(*parse_digits("22222222"))
    assert candidates.is_allowed(*parse_digits("11101111"))


def test_samples_of_a_pool_are_uniform() -> None:
    space = zcpt.get_space("nasbench-macro")
    candidates, generator = Candidates(space, pool=parse_digits("00000000", "22222222", "11111111")), seeded()
    drawn = Counter(candidates.sample(generator) for _ in range(300))
    assert stats.chisquare(list(drawn.values())).pvalue > 0.01
    assert len(drawn) == 3
    assert {candidates.mutate(parse_digits("00000000")[0], generator) for _ in range(20)} == set(
        parse_digits("22222222", "11111111")
    )


def test_a_pool_of_no_use_is_named() -> None:
    space = zcpt.get_space("nasbench-macro")
    with pytest.raises(ConfigError, match="the pool of architectures is empty"):
        Candidates(space, pool=[])
    with pytest.raises(
        InfeasibleError, match=r"none of the 2 architectures to choose from meets --max-params \S+: give"
    ):
        Candidates(space, build_checker(space, 0.0), parse_digits("22222222", "11111111"))
    with pytest.raises(SpaceError, match="belongs to space 'nasbench201', not to 'nasbench-macro'"):
        Candidates(space, pool=[zcpt.get_space("nasbench201").sample_architecture(seeded())])


def test_a_check_without_budgets_takes_no_time_and_excludes_nothing() -> None:
    space = zcpt.get_space("nasbench201")
    candidates = Candidates(space, BudgetChecker(space, NetworkConfig(4, 3)))
    assert candidates.checker is None
    assert len(list(candidates.iterate())) == 15625


@pytest.mark.parametrize("count", [5, 40, 300])
@pytest.mark.parametrize("share", [None, 0.3])
def test_distinct_architectures_are_drawn_once_each_and_at_most_all(count: int, share: float | None) -> None:
    space = zcpt.get_space("nasbench-macro")
    pool = parse_digits(*(f"{a}{b}000{c}00" for a in range(3) for b in range(3) for c in range(3)))
    checker = None if share is None else build_checker(space, share)
    for candidates, total in ((Candidates(space, checker), 6561), (Candidates(space, checker, pool), 27)):
        total = total if checker is None else sum(map(checker.is_feasible, candidates.iterate()))
        drawn = candidates.sample_distinct(count, seeded())
        assert len(set(drawn)) == len(drawn) == min(count, total)
        assert all(map(candidates.is_allowed, drawn))
        assert drawn == candidates.sample_distinct(count, seeded())


def test_all_architectures_of_a_space_are_drawn_in_random_order() -> None:
    space = zcpt.get_space("nasbench201")
    candidates = Candidates(space)
    drawn = candidates.sample_distinct(15625, seeded())
    assert set(drawn) == set(candidates.iterate())
    assert drawn[:100] != list(candidates.iterate())[:100]
    assert drawn[:100] == candidates.sample_distinct(8000, seeded())[:100]
