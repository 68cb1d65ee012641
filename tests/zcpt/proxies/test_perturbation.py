"""These proxies can score the operations of every space: removing one changes the score, and nothing else does."""

from __future__ import annotations

import pytest
import torch

import zcpt
from tests.conftest import CHAINS, THREE_BY_THREE, tiny_network_config
from tests.zcpt.proxies.appendix import SEEDS
from tests.zcpt.scoring.test_evaluator import copy_state, is_same_state
from zcpt import ProxyError

SPACES = zcpt.list_spaces()
DEPENDENT = [name for name in SEEDS if zcpt.get_proxy(name).depends_on_mixture]
PAIRS = [(space, proxy) for space in SPACES for proxy in DEPENDENT]
FEW = [(space, DEPENDENT[-1 - number]) for number, space in enumerate(SPACES) if space != "nasbench201"]
FEW += [pair for pair in PAIRS if pair[0] == "nasbench201"]
"""Every proxy, and every space."""


def check(space_name: str, name: str, batch: zcpt.Batch) -> None:
    proxy, space = zcpt.get_proxy(name), zcpt.get_space(space_name)
    torch.manual_seed(0)
    net = space.build_supernet(tiny_network_config(space)).train()
    next(iter(net.children())).eval()  # different flags have to be restored, too
    before = copy_state(net)
    choice = next(c for c in space.choices if any(map(THREE_BY_THREE.search, c.candidates)))
    removed = next(filter(THREE_BY_THREE.search, choice.candidates))
    mixtures = [net.initial_mixture(), net.initial_mixture().without(choice.name, removed), net.initial_mixture()]
    if name == "synflow_bn" and space.name in CHAINS:
        with pytest.raises(ProxyError, match="single value"):
            zcpt.score_mixtures(net, proxy, mixtures, batch, engine="plain")
    else:
        start, without, again = zcpt.score_mixtures(net, proxy, mixtures, batch, engine="plain").tolist()
        if name != "synflow_bn":  # whose BatchNorms may leave a difference as small as rounding
            assert abs(without - start) > 1e-9 * abs(start)
        assert again == start  # the same bits
    assert is_same_state(copy_state(net), before)
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(
    ("space", "proxy"), [pytest.param(*pair, marks=pytest.mark.slow if pair[0] == "darts" else ()) for pair in FEW]
)
def test_removing_an_operation_changes_the_score(space: str, proxy: str, batch: zcpt.Batch) -> None:
    check(space, proxy, batch)


@pytest.mark.slow
@pytest.mark.parametrize(("space", "proxy"), [pair for pair in PAIRS if pair not in FEW])
def test_removing_an_operation_changes_the_score_of_any_space(space: str, proxy: str, batch: zcpt.Batch) -> None:
    check(space, proxy, batch)


@pytest.mark.parametrize("name", [name for name in SEEDS if name not in DEPENDENT])
def test_a_proxy_that_does_not_depend_on_the_mixture_gives_the_reason(name: str, batch: zcpt.Batch) -> None:
    proxy, space = zcpt.get_proxy(name), zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space))
    choice = space.choices[0]
    mixtures = [
        net.initial_mixture(),
        *(net.initial_mixture().without(choice.name, candidate) for candidate in choice.candidates),
    ]
    assert len(set(zcpt.score_mixtures(net, proxy, mixtures, batch, engine="plain").tolist())) == 1
    assert proxy.independence_reason
    assert not proxy.independence_reason.endswith(".")
