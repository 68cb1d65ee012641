"""Tests of the predictor: the graph of the choices, the loss of pairs, the ranking and the rounds."""

from __future__ import annotations

import math
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

import pytest
import torch

import zcpt
from tests.conftest import SPACES
from tests.zcpt.trials.grid import Grid, build_algorithm, read_number
from zcpt.seeding import use_seed
from zcpt.trials import Predictor
from zcpt.trials.choice_graph import ChoiceGraph, PairPredictor, compute_pair_loss, list_arrows


def build_predictor(**settings: Any) -> Predictor:
    """Return a predictor on two digits of ten."""
    algorithm = build_algorithm("predictor", Grid(10), **settings)
    assert isinstance(algorithm, Predictor)
    return algorithm


def build_network(space: zcpt.SearchSpace) -> PairPredictor:
    """Return a small graph network for a space."""
    with use_seed(0):
        return PairPredictor(ChoiceGraph(space), width=8, layers=2, dropout=0.0)


def test_the_arrows_of_a_nasbench201_cell_lead_from_edge_to_edge() -> None:
    assert list_arrows(zcpt.get_space("nasbench201")) == [
        ("node1/edge0", "node2/edge1"),
        ("node1/edge0", "node3/edge1"),
        ("node2/edge0", "node3/edge2"),
        ("node2/edge1", "node3/edge2"),
    ]


def test_the_arrows_of_a_chain_lead_from_layer_to_layer() -> None:
    layers = [f"layer{number:02}" for number in range(8)]
    assert list_arrows(zcpt.get_space("nasbench-macro")) == list(pairwise(layers))


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_a_graph_and_its_random_numbers_are_its_own(name: str) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    graph = ChoiceGraph(zcpt.get_space(name))
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(graph.adjacency.sum(dim=1), torch.ones(len(graph.adjacency), dtype=torch.float64))
    assert (graph.adjacency[0] > 0).all(), "the global node reads all choices"


def test_the_features_are_the_kept_candidate_and_the_node() -> None:
    graph = ChoiceGraph(Grid(2))
    features = graph.encode([Grid(2).parse("10")])
    expected = [[0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1]]
    assert features[0].tolist() == expected
    # The global node reads both digits, the ones read the tens, and each node reads itself.
    third = 1 / 3
    assert graph.adjacency.tolist() == [pytest.approx(row) for row in ([third] * 3, [0, 0.5, 0.5], [0, 0.5, 0.5])]


def test_the_loss_of_a_pair_is_worked_out_by_hand() -> None:
    strengths = torch.tensor([0.0, math.log(3)], dtype=torch.float64)
    # The second is better with probability 3/4, in both orders of the pair.
    loss = compute_pair_loss(strengths, torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert loss.item() == pytest.approx(-math.log(3 / 4))
    failed = compute_pair_loss(strengths, torch.tensor([-math.inf, 2.0], dtype=torch.float64))
    assert failed.item() == pytest.approx(-math.log(3 / 4)), "a trial that failed is worse than any other"
    equal = compute_pair_loss(strengths, torch.tensor([2.0, 2.0], dtype=torch.float64))
    assert equal.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)


def draw_chains(count: int) -> list[zcpt.Architecture]:
    """Return different random chains of NAS-Bench-Macro."""
    space, generator = zcpt.get_space("nasbench-macro"), torch.Generator().manual_seed(0)
    return list(dict.fromkeys(space.sample_architecture(generator) for _ in range(count)))


def test_sorting_by_strength_is_sorting_by_the_comparison_of_pairs() -> None:
    network = build_network(zcpt.get_space("nasbench-macro"))
    chains = draw_chains(12)

    def compare(one: zcpt.Architecture, other: zcpt.Architecture) -> int:
        first, second = network.predict([one, other])
        return 1 if first > second else -1

    strengths = dict(zip(chains, network.predict(chains), strict=True))
    assert sorted(chains, key=cmp_to_key(compare)) == sorted(chains, key=strengths.__getitem__)


def test_the_network_learns_an_order_from_a_few_values() -> None:
    space = zcpt.get_space("nasbench-macro")
    network, chains = build_network(space), draw_chains(80)
    values = [sum(choice.position(chain[choice.name]) for choice in space.choices) for chain in chains]
    with use_seed(0):
        network.fit(chains[:40], values[:40], steps=100, lr=0.01, decay=0.0)
    strengths, unseen = network.predict(chains[40:]), values[40:]
    pairs = [(i, j) for i in range(len(unseen)) for j in range(len(unseen)) if unseen[i] > unseen[j]]
    assert sum(strengths[i] > strengths[j] for i, j in pairs) > 0.85 * len(pairs)


def test_only_some_architectures_of_a_long_list_are_compared_in_one_step() -> None:
    space = Grid(10)
    network = build_network(space)
    architectures = [space.parse(f"{number:02}") for number in range(100)] * 6
    with use_seed(0):
        network.fit(architectures, [read_number(a) for a in architectures], steps=2, lr=0.01, decay=0.0)
    assert all(map(math.isfinite, network.predict(architectures[:3])))


def test_the_first_round_is_random_and_the_others_are_predicted() -> None:
    predictor = build_predictor(round_size=4, ranked=60, predictor_width=8, predictor_steps=30)
    reasons = []
    for _ in range(12):
        suggestion = predictor.ask()
        reasons.append(suggestion.reason)
        predictor.tell(suggestion.architecture, read_number(suggestion.architecture))
    later = ["predicted", "predicted", "predicted half", "predicted half"]
    assert reasons == ["random"] * 4 + later * 2


def test_the_drawn_half_of_later_rounds_comes_from_ever_fewer_of_the_best() -> None:
    predictor = build_predictor(round_size=2, ranked=400, predictor_width=8, predictor_steps=1)
    predictor._is_trained = True
    ranking = predictor._rank()
    drawn_from = []
    for number in range(1, 8):
        predictor._rounds = number
        predictor._rank = lambda: ranking  # type: ignore[method-assign]
        chosen = [predictor._choose_round() for _ in range(300)]
        assert all(half[0].architecture == ranking[0] for half in chosen)
        drawn_from.append(1 + max(ranking.index(half[1].architecture) for half in chosen))
    assert len(ranking) > 90
    assert drawn_from == [len(ranking) >> halvings for halvings in (1, 1, 2, 3, 4, 4, 4)]


def test_the_warm_up_chooses_the_first_round() -> None:
    predictor = build_predictor(round_size=4, ranked=200, predictor_width=8, predictor_steps=60)
    scored = [predictor.sample() for _ in range(60)]
    predictor.warm_up(scored, [math.nan, *(10 ** read_number(architecture) for architecture in scored[1:])])
    suggestions = [predictor.ask() for _ in range(2)]
    assert {suggestion.reason for suggestion in suggestions} == {"predicted"}
    assert all(read_number(suggestion.architecture) > 60 for suggestion in suggestions)


def test_a_move_draws_the_other_half_by_proxy() -> None:
    predictor = build_predictor(
        round_size=4, ranked=200, predictor_width=8, predictor_steps=5, move=True, move_samples=3
    )
    predictor._is_trained = True
    assert [suggestion.reason for suggestion in predictor._choose_round()] == ["predicted"] * 2 + ["move"] * 2


def test_values_that_are_compared_anew_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = build_predictor(round_size=2)
    first, second = (predictor.ask().architecture for _ in range(2))
    for architecture in (first, second):
        predictor.tell(architecture, 1.0)
    predictor.revise({first: 5.0})
    learned: dict[zcpt.Architecture, float] = {}
    monkeypatch.setattr(predictor.network, "fit", lambda a, values, **_: learned.update(zip(a, values, strict=True)))
    predictor.ask()
    assert learned == {first: 5.0, second: 1.0}
