"""What all chain spaces share."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import zcpt
from tests.conftest import random_architecture, tiny_network_config
from zcpt import SpaceError

SPACES = [zcpt.get_space(name) for name in ("nasbench-macro", "proxyless")]


@pytest.fixture(params=SPACES, ids=lambda space: space.name)
def chain(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_the_depth_is_fixed(chain: Any) -> None:
    layers = len(chain.choices)
    for given in (1, layers - 1, layers + 1):
        with pytest.raises(SpaceError, match=f"have {layers} layers, not {given}: give {layers} or leave"):
            chain.supernet(channels=8, layers=given)


def test_canonical_architectures_are_the_same_networks(chain: Any) -> None:
    """The same seed gives the same weights, and they the same logits."""
    images = torch.randn(2, 3, 8, 8)
    moved = 0
    for seed in range(4):
        architecture = random_architecture(chain, seed)
        other = chain.canonicalize(architecture)
        assert chain.canonicalize(other) == other
        moved += other != architecture
        logits = []
        for same in (architecture, other):
            torch.manual_seed(seed)
            logits.append(chain.build_network(same, tiny_network_config(chain)).eval()(images))
        assert torch.equal(*logits)
    assert moved


def test_the_auxiliary_head_sits_two_thirds_into_the_network(chain: Any) -> None:
    network = chain.build_network(random_architecture(chain, 0), tiny_network_config(chain), auxiliary=True)
    # The stem is block 0.
    assert network.auxiliary_after == {8: 6, 21: 15}[len(chain.choices)]


def test_one_picture_shows_one_stage(chain: Any) -> None:
    architecture = random_architecture(chain, 2)
    graphs = chain.cells(architecture)
    assert [len(graph.arrows) for graph in graphs] == [stage.layers for stage in chain.stages]
    assert [graph.nodes[0] for graph in graphs] == ["stem", *(graph.nodes[-1] for graph in graphs[:-1])]
    shown = {target: operation for graph in graphs for _, target, operation in graph.arrows}
    assert shown == {choice.name: architecture[choice.name] for choice in chain.choices}


def test_removing_a_candidate_takes_its_share_away_and_no_more(chain: Any) -> None:
    start = zcpt.Mixture.initial(chain.choices)
    choice = chain.choices[1]
    count = len(choice.candidates)
    each = {"nasbench-macro": 1 / 3, "proxyless": 1.0}[chain.name]
    assert start.weights[choice.name] == (each,) * count
    assert start.without(choice.name, choice.candidates[0]).weights[choice.name] == (0.0, *(each,) * (count - 1))
