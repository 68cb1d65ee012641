"""The published contract tests: all parts of zcpt pass them, and every violation is found."""

import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import darts_space.operations
import mobilenet_space.blocks
import zcpt
from darts_space.nasbench201 import NasBench201
from mobilenet_space.blocks import Layer
from tests.conftest import MORE, PROXIES, tiny_network_config
from zcpt import Architecture, Batch, Choice, Mixture, NetworkConfig, Proxy, Supernet
from zcpt.cost import Block, Cost
from zcpt.space import CellGraph, CheapestFinder, SearchSpace
from zcpt.testing import check_operation, check_proxy, check_space


def narrow_supernet() -> Supernet:
    """Return a supernet with few linear regions."""
    torch.manual_seed(0)
    net = Supernet([Choice("op", ("conv", "skip"))])
    x = net.fixed("stem", nn.Sequential(nn.Conv2d(3, 4, 3, 3), nn.ReLU()), net.IMAGES)
    conv = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
    x = net.mixed("node", "op", {"conv": conv, "skip": nn.Identity()}, x)
    net.fixed("head", nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)), x)
    return net


@pytest.mark.few_spaces(*MORE)
def test_every_space_fulfils_the_contract(space: SearchSpace) -> None:
    check_space(space, tiny_network_config(space), architectures=2)


@pytest.mark.parametrize("name", PROXIES)
def test_every_proxy_fulfils_the_contract(name: str) -> None:
    if name == "linear_regions":
        # On the default network each of its 1000 samples is in a region of its own, with and without a candidate.
        check_proxy(zcpt.get_proxy(name), narrow_supernet())
    else:
        check_proxy(zcpt.get_proxy(name))


@pytest.mark.parametrize("name", list(darts_space.operations._BUILT_IN))
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("affine", [False, True])
def test_every_cell_operation_fulfils_the_contract(name: str, stride: int, affine: bool) -> None:
    check_operation(darts_space.operations.OPERATIONS[name].build(4, stride, affine), 4, stride=stride)


@pytest.mark.parametrize("name", [*mobilenet_space.blocks.MB_CONVS, mobilenet_space.blocks.IDENTITY])
@pytest.mark.parametrize(("stride", "out_channels"), [(1, 4), (1, 6), (2, 6)])
def test_every_chain_operation_fulfils_the_contract(name: str, stride: int, out_channels: int) -> None:
    module = mobilenet_space.blocks.OPERATIONS[name].build(Layer(4, out_channels, stride, (8, 8)), nn.ReLU, False)
    check_operation(module, 4, out_channels, stride)


def derive(**attributes: Any) -> SearchSpace:
    """Return NAS-Bench-201 with some methods replaced."""
    return cast(SearchSpace, type("Broken", (NasBench201,), attributes)())


def parse_wrong(self: SearchSpace, text: str) -> Architecture:
    return Architecture(self.name, {choice.name: choice.candidates[:1] for choice in self.choices})


def other_classes(self: SearchSpace, config: NetworkConfig) -> Supernet:
    return NasBench201().build_supernet(NetworkConfig(config.channels, config.layers, 7))


def as_published(self: SearchSpace, config: NetworkConfig) -> Supernet:
    return NasBench201().build_supernet(config)


def no_fixed_blocks(self: SearchSpace, config: NetworkConfig) -> Iterator[Block]:
    return iter(())


def half_the_macs(self: SearchSpace, architecture: Architecture, config: NetworkConfig) -> Cost:
    cost = NasBench201().cost(architecture, config)
    return Cost(cost.params, cost.macs // 2)


def without_auxiliary(self: SearchSpace, architecture: Architecture, config: NetworkConfig, **kwargs: Any) -> nn.Module:
    return NasBench201().build_network(architecture, config)


turns: list[int] = []


def drift(self: SearchSpace, architecture: Architecture) -> Architecture:
    """Move every architecture on to the next operation of an edge."""
    choice = self.choices[0]
    index = (choice.position(architecture[choice.name]) + 1) % len(choice.candidates)
    return Architecture(self.name, {**architecture.kept, choice.name: (choice.candidates[index],)})


def dearest(self: SearchSpace, config: NetworkConfig, price: Any, valid_only: bool = False) -> CheapestFinder:
    return lambda allowed: self.architecture(dict.fromkeys(allowed, ("nor_conv_3x3",)))


def drawn_elsewhere(self: SearchSpace, generator: torch.Generator) -> Architecture:
    turns.append(1)
    return NasBench201().sample_architecture(torch.Generator().manual_seed(len(turns)))


def neighbors_twice(self: SearchSpace, architecture: Architecture) -> list[Architecture]:
    return 2 * NasBench201().list_neighbors(architecture)


def neighbors_in_turn(self: SearchSpace, architecture: Architecture) -> list[Architecture]:
    turns.append(1)
    return NasBench201().list_neighbors(architecture)[:: (-1) ** len(turns)]


def stray_arrow(self: SearchSpace, architecture: Architecture) -> tuple[CellGraph, ...]:
    return (CellGraph("cell", ("a",), (("a", "b", "conv"),)),)


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"choices": ()}, "space 'nasbench201' has no choices"),
        ({"choices": (Choice("a", ("x", "y")),) * 2}, "two choices of space 'nasbench201' have the same name"),
        ({"choices": (Choice("a", ("x", "x")),)}, "two candidates of a have the same name"),
        ({"choices": (Choice("a", ("x",), keep=2),)}, "a keeps 2 of 1 selectable candidates"),
        (
            {"choices": NasBench201.choices[::-1], "build_supernet": as_published},
            "the choices of the supernet must be those of the space",
        ),
        ({"parse": parse_wrong}, "parse does not read back what format wrote"),
        ({"build_supernet": other_classes}, r"the supernet must return logits of shape \[2, 5\], not \[2, 7\]"),
        ({"fixed_blocks": no_fixed_blocks}, "the cost of .* parameters, and its network has"),
        ({"cost": half_the_macs}, "the cost of .* MACs, and its network computes"),
        ({"all_blocks": no_fixed_blocks}, "all_blocks lacks"),
        ({"build_network": without_auxiliary}, r"with auxiliary=True .* must return \(logits, auxiliary logits\)"),
        ({"canonicalize": drift}, "canonicalize changes"),
        ({"build_cheapest_finder": dearest}, "the cheapest architecture has .* parameters, and another has"),
        ({"build_cheapest_finder": lambda *given: lambda allowed: None}, "finds no architecture, although"),
        ({"cells": stray_arrow}, "cell 'cell' has an arrow to a node that it lacks"),
        ({"sample_architecture": drawn_elsewhere}, "sample_architecture must draw from its generator alone"),
        ({"list_neighbors": lambda self, own: [own]}, "list_neighbors returns .* itself"),
        ({"list_neighbors": neighbors_twice}, "list_neighbors returns an architecture twice"),
        ({"list_neighbors": neighbors_in_turn}, "list_neighbors must return the same list every time"),
        ({"mutate": lambda self, own, generator: own}, "mutate returns no neighbour"),
    ],
)
def test_a_space_that_violates_the_contract_is_found(attributes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence) as raised:
        check_space(derive(**attributes), NetworkConfig(4, 1, 5, image_size=(8, 8)))
    assert re.fullmatch(r"[^\n]+\.", str(raised.value))


class Sound(Proxy):
    """Proxy that fulfils the contract; the tests below replace its ``score``."""

    name = "sound"
    higher_is_better = True

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return float(net(batch.images, mixture).double().norm())


def ignoring_the_mixture(net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
    return float(net(batch.images).norm())


def training(net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
    net.train()
    return 1.0


def keeping_gradients(net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
    with torch.enable_grad():
        net(batch.images, mixture).sum().backward()
    return 1.0


def updating_statistics(net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
    net.train()
    value = float(net(batch.images, mixture).norm())
    net.eval()
    return value


calls: list[int] = []


def counting(net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
    calls.append(1)
    return float(len(calls))


@pytest.mark.parametrize(
    ("score", "sentence"),
    [
        (ignoring_the_mixture, "scores .* with and without 'conv3': pass the mixture to the network"),
        (training, "changes the training mode of the network"),
        (keeping_gradients, "changes the gradient of 'stem.0.weight'"),
        (updating_statistics, "changes 'stem.1.running_mean'"),
        (counting, "its score must depend on its arguments alone"),
        (lambda net, batch, mixture: net(batch.images, mixture).norm(), "must return a float, not tensor"),
    ],
)
def test_a_proxy_that_violates_the_contract_is_found(score: Callable[..., Any], sentence: str) -> None:
    check_proxy(Sound())
    broken = cast(Proxy, type("Broken", (Sound,), {"score": lambda self, *given: score(*given)})())
    with pytest.raises(AssertionError, match=sentence):
        check_proxy(broken)


def test_a_proxy_without_a_direction_or_with_a_wrong_declaration_is_found() -> None:
    nameless = cast(Proxy, type("Nameless", (Proxy,), {"name": "n", "score": lambda self, *given: 1.0})())
    with pytest.raises(AssertionError, match="Nameless has no higher_is_better"):
        check_proxy(nameless)
    declared = cast(Proxy, type("Declared", (Sound,), {"depends_on_mixture": False})())
    with pytest.raises(AssertionError, match="proxy 'sound' depends on the mixture: set depends_on_mixture = True"):
        check_proxy(declared)


class Changing(nn.Module):
    """Module whose output differs from call to call."""

    count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x + self.count


@pytest.mark.parametrize(
    ("module", "stride", "sentence"),
    [
        (
            nn.Conv2d(4, 5, 1),
            1,
            r"Conv2d returns \[2, 5, 8, 8\] for .* at stride 1, not \[2, 4, 8, 8\]",
        ),
        (nn.AvgPool2d(2, 2), 2, r"AvgPool2d returns \[2, 4, 4, 3\] for an input \[2, 4, 9, 7\] at stride 2"),
        (nn.ReLU(inplace=True), 1, "ReLU changes its input, which other operations read: set inplace=False"),
        (nn.Threshold(9.0, float("nan")), 1, "Threshold returns numbers that are not finite"),
        (Changing(), 1, "Changing in evaluation mode returns different outputs for one input"),
    ],
)
def test_an_operation_that_violates_the_contract_is_found(module: nn.Module, stride: int, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_operation(module, 4, stride=stride)
