"""Architectures drawn at random, and their neighbours: in every space, and against enumerations of small ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, product

import pytest
import torch
from scipy import stats

import zcpt
from darts_space.darts import Darts
from tests.conftest import random_architecture
from zcpt import Architecture, Choice, SpaceError
from zcpt.space import SearchSpace
from zcpt.variation import complete_decisions, draw_index, draw_kept, draw_weighted_index, list_exchanges


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def list_all(space: SearchSpace) -> list[Architecture]:
    """Return all canonical architectures of a small space."""
    return list(dict.fromkeys(map(space.canonicalize, complete_decisions(space.choices, space.architecture, {}))))


def compute_p_value(drawn: Sequence[object], possible: Sequence[object], bins: int) -> float:
    """Return the p-value of the chi-square test that all possible outcomes are equally likely.

    Args:
        drawn: The outcomes.
        possible: All possible outcomes.
        bins: Number of bins into which the possible outcomes are put, one after the other.
    """
    bin_of = {outcome: index * bins // len(possible) for index, outcome in enumerate(possible)}
    sizes, counts = Counter(bin_of.values()), Counter(bin_of[outcome] for outcome in drawn)
    expected = [len(drawn) * sizes[index] / len(possible) for index in range(bins)]
    return float(stats.chisquare([counts[index] for index in range(bins)], expected).pvalue)


@pytest.mark.parametrize(
    "name",
    ["nasbench201", "nasbench-macro", "nasbench1shot1-1", pytest.param("nasbench1shot1-2", marks=pytest.mark.slow)],
)
def test_samples_are_uniform_over_networks(name: str) -> None:
    space, generator = zcpt.get_space(name), seeded()
    possible = list_all(space)
    drawn = [space.sample_architecture(generator) for _ in range(4000)]
    assert compute_p_value(drawn, possible, bins=400) > 0.01


@pytest.mark.parametrize("name", ["nasbench-macro", pytest.param("nasbench1shot1-1", marks=pytest.mark.slow)])
def test_decisions_drawn_one_by_one_would_not_be_uniform_over_networks(name: str) -> None:
    """Show that the test above notices the bias that the spaces correct."""
    space, generator = zcpt.get_space(name), seeded()
    drawn = [SearchSpace.sample_architecture(space, generator) for _ in range(2000)]
    assert compute_p_value(drawn, list_all(space), bins=400) < 1e-6


def test_inputs_and_operations_of_darts_are_uniform() -> None:
    space, generator = zcpt.get_space("darts"), seeded()
    drawn = [space.sample_architecture(generator) for _ in range(1500)]
    for choice in space.choices:
        kept = [a.kept[choice.name] for a in drawn if choice.name in a.kept]
        possible = list(combinations(choice.candidates, choice.keep))
        assert compute_p_value(kept, possible, bins=len(possible)) > 1e-3
        share = len(kept) / len(drawn)
        node = int(choice.name.split("/")[1].removeprefix("node"))
        assert share == 1 or share == pytest.approx(2 / node, abs=0.05)


class UnequalDarts(Darts):
    """Cells of two nodes, with one operation on the first edges and more on the others, as after pruning."""

    name = "unequal"
    nodes = (2, 3)
    choices = tuple(
        Choice(choice.name, choice.candidates[:1] if choice.name.endswith("edge0") else choice.candidates[:3])
        if choice.phase == 0
        else choice
        for choice in Darts.choices
        if "node2" in choice.name or "node3" in choice.name
    )


class StruckDarts(UnequalDarts):
    """The same cells without one edge, as where a search network has struck it."""

    choices = tuple(
        Choice(choice.name, ("1", "2"), keep=2, phase=1) if choice.phase else choice
        for choice in UnequalDarts.choices
        if "node3/edge0" not in choice.name
    )


def test_an_edge_that_is_struck_is_in_no_sample_and_no_neighbor() -> None:
    space = StruckDarts()
    possible = list_all(space)
    assert len(possible) == space.count() == (3 * 9) ** 2
    architecture = space.sample_architecture(seeded())
    # One edge of a cell has no other operation, and three have two others; no input can be exchanged.
    assert len(space.list_neighbors(architecture)) == 2 * 3 * 2
    assert {architecture, *space.list_neighbors(architecture)} <= {*possible}


def test_samples_are_uniform_where_edges_have_different_numbers_of_operations() -> None:
    space, generator = UnequalDarts(), seeded()
    possible = list_all(space)
    assert len(possible) == space.count() == (3 * (3 + 3 + 9)) ** 2
    drawn = [space.sample_architecture(generator) for _ in range(2000)]
    assert compute_p_value(drawn, possible, bins=200) > 0.01
    naive = [SearchSpace.sample_architecture(space, generator) for _ in range(2000)]
    assert compute_p_value(naive, possible, bins=200) < 1e-6


def test_samples_depend_on_the_seed_alone() -> None:
    texts = {
        "nasbench201": "|none~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
        "nasbench-macro": "10222212",
    }
    for name, text in texts.items():
        space = zcpt.get_space(name)
        assert space.format(space.sample_architecture(seeded(7))) == text


def find_neighbors_by_decisions(space: SearchSpace, architecture: Architecture) -> set[Architecture]:
    """Return the architectures of decisions on all choices in which one exchange was made."""
    missing = [choice for choice in space.choices if choice.name not in architecture.kept]
    found = set()
    ways = [combinations(choice.selectable, choice.keep) for choice in missing]
    for values in product(*ways):
        decisions = {**architecture.kept, **dict(zip((choice.name for choice in missing), values, strict=True))}
        for choice in space.choices:
            for _, _, kept in list_exchanges(choice, decisions[choice.name]):
                found.add(space.architecture({**decisions, choice.name: kept}))
    return found - {architecture}


@pytest.mark.parametrize("name", ["nasbench201", "nasbench1shot1-1", "nasbench1shot1-2"])
def test_neighbors_are_those_of_all_decisions_with_one_exchange(name: str) -> None:
    space = zcpt.get_space(name)
    # The architectures with the fewest nodes have the most neighbours.
    several = sorted((random_architecture(space, seed) for seed in range(30)), key=lambda a: len(a.kept))[:4]
    for architecture in several:
        neighbors = space.list_neighbors(architecture)
        assert set(neighbors) == find_neighbors_by_decisions(space, architecture)
        assert len(neighbors) == 24 or name != "nasbench201"


def test_neighbors_of_chains_are_those_of_all_digit_strings_of_the_network() -> None:
    space = zcpt.get_space("nasbench-macro")
    strings: dict[Architecture, list[str]] = {}
    for digits in map("".join, product("012", repeat=8)):
        strings.setdefault(space.canonicalize(space.parse(digits)), []).append(digits)
    by_string = {digits: architecture for architecture, several in strings.items() for digits in several}
    assert len(strings) == 3969
    for seed in range(20):
        architecture = space.sample_architecture(seeded(seed))
        expected = {
            by_string[digits[:position] + digit + digits[position + 1 :]]
            for digits in strings[architecture]
            for position, digit in product(range(8), "012")
        }
        assert set(space.list_neighbors(architecture)) == expected - {architecture}


def test_darts_has_120_neighbors() -> None:
    """Check the number: 16 edges with 6 other operations; 2, 4 and 6 other inputs of three nodes in two cells."""
    space = zcpt.get_space("darts")
    for seed in range(3):
        architecture = space.sample_architecture(seeded(seed))
        assert len(space.list_neighbors(architecture)) == 16 * 6 + 2 * (2 + 4 + 6)


def test_the_operation_of_darts_moves_with_the_input() -> None:
    space = zcpt.get_space("darts-s1")
    normal = "('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('sep_conv_3x3', 1)"
    normal += ", ('skip_connect', 0), ('skip_connect', 1)" * 2
    reduce = ", ".join(["('max_pool_3x3', 0), ('max_pool_3x3', 1)"] * 4)
    concat = "range(2, 6)"
    text = f"Genotype(normal=[{normal}], normal_concat={concat}, reduce=[{reduce}], reduce_concat={concat})"
    architecture = space.parse(text)
    # Edge (3, 2) of the normal cell has 'skip_connect' and 'dil_conv_3x3'.
    moved = {
        (a.kept["normal/node3/inputs"], a["normal/node3/edge2"])
        for a in space.list_neighbors(architecture)
        if "normal/node3/edge2" in a.kept
    }
    # From edge 0 the skip connection moves; 'sep_conv_3x3' of edge 1 cannot, and edge 1 has the skip connection too.
    assert moved == {(("1", "2"), "skip_connect"), (("0", "2"), "dil_conv_3x3")}


def test_neighbors_are_neighbors_of_each_other(space: SearchSpace) -> None:
    architecture = space.sample_architecture(seeded(3))
    neighbors = space.list_neighbors(architecture)
    for neighbor in neighbors[:: max(1, len(neighbors) // 8)]:
        assert architecture in space.list_neighbors(neighbor)


def test_mutations_are_uniform_over_the_neighbors() -> None:
    space, generator = zcpt.get_space("nasbench201"), seeded()
    architecture = space.sample_architecture(generator)
    drawn = [space.mutate(architecture, generator) for _ in range(1000)]
    assert compute_p_value(drawn, space.list_neighbors(architecture), bins=24) > 0.01


class Optional(zcpt.SupernetSpace):
    """A node that may be left out, with a choice of two inputs: a space that overrides nothing but ``architecture``."""

    name = "optional"
    search_size = zcpt.WidthDepth(4, 1)
    choices = (Choice("node", ("no", "yes")), Choice("inputs", ("a", "b", "c"), keep=2), Choice("end", ("x",)))

    def build_supernet(self, config: zcpt.NetworkConfig) -> zcpt.Supernet:
        raise NotImplementedError

    def architecture(self, decisions: Mapping[str, tuple[str, ...]]) -> Architecture:
        left_out = ("inputs",) if decisions["node"] == ("no",) else ()
        return Architecture(self.name, {name: kept for name, kept in decisions.items() if name not in left_out})

    def check(self, architecture: Architecture) -> None:
        assert ("inputs" in architecture.kept) == (architecture["node"] == "yes")


def test_decisions_that_become_necessary_are_made_in_every_way() -> None:
    space = Optional()

    without = Architecture("optional", {"node": ("no",), "end": ("x",)})
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    with_node = [Architecture("optional", {"node": ("yes",), "inputs": pair, "end": ("x",)}) for pair in pairs]
    assert list_all(space) == [without, *with_node]
    assert space.list_neighbors(without) == with_node
    assert space.list_neighbors(with_node[0]) == [without, with_node[2], with_node[1]]
    # The order in which candidates are named does not matter.
    unsorted = Architecture("optional", {"node": ("yes",), "inputs": ("b", "a"), "end": ("x",)})
    assert set(space.list_neighbors(unsorted)) == {without, with_node[1], with_node[2]}


def test_a_space_of_one_architecture_has_no_neighbors() -> None:
    space = type("Single", (Optional,), {"name": "single", "choices": (Choice("node", ("no",)),)})()
    architecture = space.sample_architecture(seeded())
    assert space.list_neighbors(architecture) == []
    with pytest.raises(SpaceError, match="the architecture has no neighbours in space 'single'"):
        space.mutate(architecture, seeded())


def test_draws_stay_in_range_and_follow_weights() -> None:
    generator = seeded()
    assert {draw_index(3, generator) for _ in range(50)} == {0, 1, 2}
    counts = Counter(draw_weighted_index([0, 1, 0, 3], generator) for _ in range(400))
    assert counts.keys() == {1, 3}
    assert counts[1] == pytest.approx(100, abs=30)
    drawn = {
        draw_kept(Choice("c", ("a", "b", "none", "c"), keep=2, not_selectable=("none",)), generator) for _ in range(50)
    }
    assert drawn == {("a", "b"), ("a", "c"), ("b", "c")}


def test_exchanges_keep_the_order_of_the_choice() -> None:
    choice = Choice("c", ("a", "b", "c", "none"), keep=2, not_selectable=("none",))
    assert list(list_exchanges(choice, ("a", "c"))) == [("a", "b", ("b", "c")), ("c", "b", ("a", "b"))]
