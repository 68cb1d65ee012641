"""Width and depth for a budget."""

from __future__ import annotations

import pytest

import zcpt
from tests.conftest import random_architecture
from train.sizing import Budget, find_width_depth
from zcpt import InfeasibleError, SpaceError
from zcpt.space import NetworkConfig, WidthDepth

SPACES = ["darts", "nasbench201", "nasbench1shot1-2", "nasbench-macro", "proxyless"]


def find(name: str, budget: Budget, seed: int = 0, **given: int) -> tuple[WidthDepth, float]:
    """Return width and depth of a random network, and the used share of the budget."""
    space = zcpt.get_space(name)
    architecture = random_architecture(space, seed)
    usual = NetworkConfig(space.train_size.channels, space.train_size.layers)
    size = find_width_depth(space, architecture, usual, budget, **given)
    config = NetworkConfig(size.channels, size.layers)
    return size, budget.compute_load(space, architecture, config)


@pytest.mark.parametrize("name", SPACES)
def test_the_network_fits_and_leaves_little_unused(name: str) -> None:
    usual = zcpt.get_space(name).train_size
    for budget in (Budget(300e3), Budget(None, 20e6), Budget(2e6, 100e6)):
        size, load = find(name, budget)
        assert 0.7 < load <= 1
        if name not in ("nasbench-macro", "proxyless"):  # their depth is fixed
            assert 1 / 3 < (size.channels / size.layers) / (usual.channels / usual.layers) < 3


def test_more_budget_gives_larger_networks() -> None:
    sizes = [find("nasbench201", Budget(limit))[0] for limit in (1e5, 1e6, 1e7)]
    assert sizes == sorted(sizes, key=lambda size: (size.channels, size.layers))
    assert sizes[0].layers < sizes[1].layers < sizes[2].layers


def test_what_is_given_stays() -> None:
    assert find("darts", Budget(300e3), layers=20)[0].layers == 20
    assert find("darts", Budget(300e3), channels=16)[0].channels == 16
    with pytest.raises(InfeasibleError, match=r"no width and depth fits --max-params 300k: the smallest network has"):
        find("darts", Budget(300e3), channels=36, layers=20)
    with pytest.raises(SpaceError, match="needs at least 3 cells"):
        find("darts", Budget(300e3), channels=36, layers=2)


def test_a_budget_that_no_network_fits_is_refused() -> None:
    with pytest.raises(InfeasibleError, match=r"--max-params 10 --max-macs 1k: the smallest .* \(C=1, 3 cells"):
        find("darts", Budget(10, 1e3))
