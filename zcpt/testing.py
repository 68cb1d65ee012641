"""Contract tests for your own spaces, proxies and operations.

Call them in the tests of your project, with any test runner:

    from zcpt.testing import check_operation, check_proxy, check_space

    check_space(MySpace())
    check_proxy(MyProxy())
    check_operation(MyOperation(8, stride=2, affine=True), in_channels=8, stride=2)

Each function raises AssertionError with one sentence for the first violation that it finds. It does not catch errors
of your own code.
"""

from __future__ import annotations

import json
import math

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from zcpt.architecture import Architecture, Choice
from zcpt.batches import Batch
from zcpt.cost import compute_output_size, count_parameters
from zcpt.errors import SpaceError
from zcpt.proxies import Proxy
from zcpt.scoring import score
from zcpt.seeding import use_seed
from zcpt.snapshot import StateCopy
from zcpt.space import DiscreteNetwork, NetworkConfig, SearchSpace
from zcpt.supernet import Supernet

__all__ = ["check_operation", "check_proxy", "check_space"]

_SIZES = ((8, 8), (9, 7), (5, 5))
"""Heights and widths, also odd ones: stride 2 halves them and rounds up."""


def check_space(space: SearchSpace, config: NetworkConfig | None = None, *, architectures: int = 5) -> None:
    """Check that a space fulfils the contract of ``zcpt.SearchSpace``.

    The function checks the choices, the text and JSON notations, the outputs of the supernet and of discrete networks
    with and without auxiliary head, that the costs equal those of the built networks, and that the samples, neighbours
    and mutations are canonical architectures of the space.

    Args:
        space: The space.
        config: Config of the networks; None takes ``space.small_size`` for 16x16 RGB images of 5 classes.
        architectures: Number of random architectures to check.

    Raises:
        AssertionError: The space violates the contract.
    """
    if config is None:
        config = NetworkConfig(space.small_size.channels, space.small_size.layers, 5, image_size=(16, 16))
    _check_choices(space)
    _check_supernet(space, config)
    possible_blocks = set(space.all_blocks(config))
    for seed in range(architectures):
        architecture = _draw_architecture(space, seed)
        _check_notation(space, architecture)
        _check_network(space, architecture, config)
        for block in space.blocks(architecture, config):
            _require(
                block in possible_blocks, f"all_blocks lacks {block.key} of {space.format(architecture)}: yield it too"
            )
        canonical = space.canonicalize(architecture)
        _require(space.canonicalize(canonical) == canonical, f"canonicalize changes {canonical}, which it returned")
        _check_variation(space, seed)
        _require(
            space.cost(canonical, config) == space.cost(architecture, config),
            f"canonicalize changes the cost of {architecture}: it must return an architecture of the same network",
        )
    _check_cheapest(space, config, architectures)


def _check_choices(space: SearchSpace) -> None:
    _require(bool(space.choices), f"space '{space.name}' has no choices")
    names = [choice.name for choice in space.choices]
    _require(len(set(names)) == len(names), f"two choices of space '{space.name}' have the same name: {sorted(names)}")
    for choice in space.choices:
        _require(
            len(set(choice.candidates)) == len(choice.candidates), f"two candidates of {choice.name} have the same name"
        )
        _require(
            1 <= choice.keep <= len(choice.selectable),
            f"{choice.name} keeps {choice.keep} of {len(choice.selectable)} selectable candidates",
        )


def _check_supernet(space: SearchSpace, config: NetworkConfig) -> None:
    with use_seed(0):
        net = space.build_supernet(config).eval()
    with use_seed(0):
        again = space.build_supernet(config).eval()
    _require(
        _have_equal_states(net, again),
        "build_supernet builds other weights with the same seed: draw them from torch's generator, and keep no state",
    )
    _require(
        tuple(net.choices.values()) == tuple(space.choices),
        "the choices of the supernet must be those of the space, in the same order",
    )
    images, mixture = _draw_images(config), net.initial_mixture()
    with torch.no_grad():
        _check_logits(net(images, mixture), config, "the supernet")
        for choice, kept in _draw_architecture(space, 0).kept.items():
            mixture = mixture.select(choice, kept)
        _check_logits(net(images, mixture), config, "the supernet with all choices decided")


def _check_notation(space: SearchSpace, architecture: Architecture) -> None:
    text = space.format(architecture)
    _require(space.parse(text) == architecture, f"parse does not read back what format wrote: {text}")
    document = json.dumps(architecture.to_json())
    _require(Architecture.from_json(document) == architecture, f"JSON does not read back: {document}")
    for cell in space.cells(architecture):
        for source, target, _ in cell.arrows:
            _require({source, target} <= set(cell.nodes), f"cell '{cell.name}' has an arrow to a node that it lacks")


def _check_network(space: SearchSpace, architecture: Architecture, config: NetworkConfig) -> None:
    text, images = space.format(architecture), _draw_images(config)
    network = space.build_network(architecture, config).eval()
    _require(isinstance(network, DiscreteNetwork), "build_network must return a zcpt.space.DiscreteNetwork")
    network.set_drop_path(0.5)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = network(images[:1])
    _check_logits(logits, config, f"the network of {text}", 1)
    cost = space.cost(architecture, config)
    _require(
        cost.params == count_parameters(network),
        f"the cost of {text} has {cost.params} parameters, and its network has {count_parameters(network)}",
    )
    # The counter counts a multiply-accumulate as two operations.
    macs = counter.get_total_flops() // 2
    _require(cost.macs == macs, f"the cost of {text} has {cost.macs} MACs, and its network computes {macs}")
    outputs = space.build_network(architecture, config, auxiliary=True).train()(images)
    _require(
        isinstance(outputs, tuple) and len(outputs) == 2,
        "with auxiliary=True a network in training mode must return (logits, auxiliary logits)",
    )
    for output in outputs:
        _check_logits(output, config, f"the network of {text} with an auxiliary head")


def _check_variation(space: SearchSpace, seed: int) -> None:
    def sample() -> Architecture:
        return space.sample_architecture(torch.Generator().manual_seed(seed))

    architecture, neighbors = sample(), space.list_neighbors(sample())
    _require(sample() == architecture, "sample_architecture must draw from its generator alone")
    for found, source in ((architecture, "sample_architecture"), *((a, "list_neighbors") for a in neighbors)):
        space.check(found)
        _require(space.canonicalize(found) == found, f"{source} returns {found}, which is not canonical")
    _require(len(set(neighbors)) == len(neighbors), f"list_neighbors returns an architecture twice for {architecture}")
    _require(architecture not in neighbors, f"list_neighbors returns {architecture} itself")
    _require(space.list_neighbors(architecture) == neighbors, "list_neighbors must return the same list every time")
    if neighbors:
        generator = torch.Generator().manual_seed(seed)
        _require(space.mutate(architecture, generator) in neighbors, f"mutate returns no neighbour of {architecture}")


def _check_cheapest(space: SearchSpace, config: NetworkConfig, architectures: int) -> None:
    try:
        find = space.build_cheapest_finder(config, lambda block: block.cost.params)
    except SpaceError:
        return  # the contract of a space that does not support budgets
    cheapest = find({choice.name: choice.selectable for choice in space.choices})
    if cheapest is None:
        raise AssertionError("build_cheapest_finder finds no architecture, although every candidate is allowed.")
    space.check(cheapest)
    least = space.cost(cheapest, config).params
    for seed in range(architectures):
        params = space.cost(_draw_architecture(space, seed), config).params
        _require(least <= params, f"the cheapest architecture has {least} parameters, and another has {params}")


def check_proxy(proxy: Proxy, net: Supernet | None = None, batch: Batch | None = None) -> None:
    """Check that a proxy fulfils the contract of ``zcpt.Proxy``.

    The function scores a supernet with two mixtures. It checks that the score is a float, that it depends on network,
    batch and mixture only, and that the network is unchanged afterwards.

    Args:
        proxy: The proxy.
        net: Supernet to score; None builds a small one of convolutions, BatchNorms and ReLUs.
        batch: Batch to score on; None draws 16 RGB images 8x8 of 5 classes.

    Raises:
        AssertionError: The proxy violates the contract.
    """
    for attribute in ("name", "higher_is_better"):
        _require(hasattr(proxy, attribute), f"{type(proxy).__name__} has no {attribute}")
    net = (_build_tiny_supernet() if net is None else net).eval()
    if batch is None:
        generator = torch.Generator().manual_seed(0)
        batch = Batch(torch.randn(16, 3, 8, 8, generator=generator), torch.arange(16) % 5, seed=1)
    undecided = net.initial_mixture()
    choice = next(iter(net.choices.values()))
    removed = undecided.without(choice.name, choice.selectable[0])
    scores = []
    for mixture in (undecided, removed):
        before = StateCopy(net, {"the images of the batch": batch.images, "the labels of the batch": batch.labels})
        with use_seed(batch.seed), torch.no_grad():
            value = proxy.score(net, batch, mixture)
        _require(isinstance(value, float), f"proxy '{proxy.name}' must return a float, not {value!r}")
        change = before.find_change()
        _require(not change, f"proxy '{proxy.name}' changes {change}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)  # another state of the global generator, which must not matter
            repeated = score(net, batch, proxy, mixture)[proxy.name]
        _require(
            repeated == value or (math.isnan(repeated) and math.isnan(value)),
            f"proxy '{proxy.name}' scores {value}, then {repeated}: its score must depend on its arguments alone",
        )
        scores.append(value)
    if proxy.depends_on_mixture:
        _require(
            scores[0] != scores[1],
            f"proxy '{proxy.name}' scores {scores[0]} with and without '{choice.selectable[0]}': pass the mixture to "
            "the network, or set depends_on_mixture = False",
        )
    else:
        _require(scores[0] == scores[1], f"proxy '{proxy.name}' depends on the mixture: set depends_on_mixture = True")


def check_operation(module: nn.Module, in_channels: int, out_channels: int | None = None, stride: int = 1) -> None:
    """Check that a module can be a candidate operation.

    The function checks the output shapes for even and odd sizes. It also checks that the operation leaves its input
    unchanged, because other operations read it too, and that it is deterministic in evaluation mode.

    Args:
        module: The operation.
        in_channels: Channels of its input.
        out_channels: Channels that its output must have; None for ``in_channels``.
        stride: Factor by which it must divide height and width, rounding up.

    Raises:
        AssertionError: The module violates the contract.
    """
    name, expected_channels = type(module).__name__, in_channels if out_channels is None else out_channels
    module.eval()
    for size in _SIZES:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, in_channels, *size, generator=generator)
        original = images.clone()
        with torch.no_grad(), use_seed(0):
            output = module(images)
        _require(
            torch.equal(images, original), f"{name} changes its input, which other operations read: set inplace=False"
        )
        expected = [2, expected_channels, *compute_output_size(size, stride)]
        _require(
            list(output.shape) == expected,
            f"{name} returns {list(output.shape)} for an input {list(images.shape)} at stride {stride}, not {expected}",
        )
        _require(bool(output.isfinite().all()), f"{name} returns numbers that are not finite")
        with torch.no_grad(), use_seed(0):
            _require(
                torch.equal(module(images), output),
                f"{name} in evaluation mode returns different outputs for one input",
            )


def _require(condition: bool, message: str) -> None:
    # Not an assert statement, which 'python -O' would remove.
    if not condition:
        raise AssertionError(f"{message}.")


def _check_logits(logits: object, config: NetworkConfig, source: str, count: int = 2) -> None:
    expected = [count, config.num_classes]
    given = list(logits.shape) if isinstance(logits, Tensor) else logits
    _require(given == expected, f"{source} must return logits of shape {expected}, not {given}")


def _draw_images(config: NetworkConfig) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, config.in_channels, *config.image_size, generator=generator)


def _draw_architecture(space: SearchSpace, seed: int) -> Architecture:
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for choice in space.choices:
        drawn = torch.randperm(len(choice.selectable), generator=generator)[: choice.keep].sort().values
        kept[choice.name] = tuple(choice.selectable[index] for index in drawn.tolist())
    return space.architecture(kept)


def _have_equal_states(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )


def _build_tiny_supernet() -> Supernet:
    def conv(kernel: int) -> nn.Module:
        layers = nn.Conv2d(8, 8, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(8)
        return nn.Sequential(nn.ReLU(), *layers)

    def candidates() -> dict[str, nn.Module]:
        return {"conv3": conv(3), "conv1": conv(1), "skip": nn.Identity()}

    with use_seed(0):
        net = Supernet([Choice(f"op{index}", ("conv3", "conv1", "skip")) for index in range(2)])
        x = net.fixed("stem", nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)), net.IMAGES)
        for choice in net.choices:
            x = net.mixed(f"cell.{choice}", choice, candidates(), x)
        head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        net.fixed("head", head, x)
    return net
