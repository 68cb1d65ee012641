"""Width and depth of a network for a budget of parameters and MACs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from zcpt.architecture import Architecture
from zcpt.errors import InfeasibleError, SpaceError
from zcpt.options import format_count
from zcpt.space import NetworkConfig, SearchSpace, WidthDepth

_DEEPEST = 2
"""Largest depth that is tried, as a multiple of the usual one."""
_WEIGHT_OF_REST = 2
"""What an unused share of the budget counts, beside the logarithm of a changed ratio of width to depth."""


@dataclass(frozen=True)
class Budget:
    """Limits of a network; None does not limit."""

    max_params: float | None = None
    max_macs: float | None = None

    def compute_load(self, space: SearchSpace, architecture: Architecture, config: NetworkConfig) -> float:
        """Return the used share of the tighter limit; above 1 the network does not fit."""
        cost = space.cost(architecture, config)
        loads = [
            used / limit
            for used, limit in ((cost.params, self.max_params), (cost.macs, self.max_macs))
            if limit is not None
        ]
        return max(loads, default=0.0)

    def describe(self) -> str:
        """Return the limits as the user gave them."""
        flags = (("--max-params", self.max_params), ("--max-macs", self.max_macs))
        return " ".join(f"{flag} {format_count(limit)}" for flag, limit in flags if limit is not None)


def find_width_depth(
    space: SearchSpace,
    architecture: Architecture,
    usual: NetworkConfig,
    budget: Budget,
    channels: int | None = None,
    layers: int | None = None,
) -> WidthDepth:
    """Find the width and depth of a network for a budget.

    For each depth up to twice the usual one, the widest network that fits is a candidate. The chosen one keeps about
    the usual ratio of width to depth, and leaves little of the budget unused.

    Args:
        space: Space of the architecture.
        architecture: Architecture of the network.
        usual: Usual width and depth, with the classes and the image size of the network.
        budget: Limits of the network.
        channels: Given width; None finds it.
        layers: Given depth; None finds it.

    Raises:
        InfeasibleError: No network fits.
        SpaceError: The space has no network of the given width or depth.
    """
    best, least = None, math.inf
    for config, load in _list_fitting(space, architecture, usual, budget, channels, layers):
        ratio = config.channels / config.layers * usual.layers / usual.channels
        loss = abs(math.log(ratio)) + _WEIGHT_OF_REST * (1 - load)
        if loss < least:
            best, least = WidthDepth(config.channels, config.layers), loss
    if best is None:
        raise InfeasibleError(
            f"no width and depth fits {budget.describe()}: the smallest network has "
            f"{_describe_smallest(space, architecture, usual, channels, layers)}."
        )
    return best


def _list_fitting(
    space: SearchSpace,
    architecture: Architecture,
    usual: NetworkConfig,
    budget: Budget,
    channels: int | None,
    layers: int | None,
) -> Iterator[tuple[NetworkConfig, float]]:
    """Yield for each depth the widest network that fits, with the used share of the budget."""
    for config in _list_narrowest(space, usual, channels, layers):

        def compute_load(width: int, config: NetworkConfig = config) -> float:
            return budget.compute_load(space, architecture, replace(config, channels=width))

        if compute_load(config.channels) > 1:
            continue
        width = config.channels if channels else _find_widest(compute_load, config.channels)
        yield replace(config, channels=width), compute_load(width)


def _find_widest(compute_load: Callable[[int], float], narrowest: int) -> int:
    """Return the largest width whose load is at most 1, which that of the narrowest is."""
    fits, too_wide = narrowest, 2 * narrowest
    while compute_load(too_wide) <= 1:
        fits, too_wide = too_wide, 2 * too_wide
    while too_wide - fits > 1:
        middle = (fits + too_wide) // 2
        fits, too_wide = (middle, too_wide) if compute_load(middle) <= 1 else (fits, middle)
    return fits


def _list_narrowest(
    space: SearchSpace, usual: NetworkConfig, channels: int | None, layers: int | None
) -> Iterator[NetworkConfig]:
    """Yield for each depth that the space has the narrowest network, or that of the given width."""
    for depth in [layers] if layers else range(1, _DEEPEST * usual.layers + 1):
        for width in [channels] if channels else range(1, usual.channels + 1):
            config = replace(usual, channels=width, layers=depth)
            try:
                space.check_network_config(config)
            except SpaceError:
                if channels and layers:
                    raise
                continue
            yield config
            break


def _describe_smallest(
    space: SearchSpace, architecture: Architecture, usual: NetworkConfig, channels: int | None, layers: int | None
) -> str:
    config = next(_list_narrowest(space, usual, channels, layers), usual)
    cost = space.cost(architecture, config)
    return (
        f"{format_count(cost.params)} parameters and {format_count(cost.macs)} MACs (C={config.channels}, "
        f"{space.describe_layers(config.layers)})"
    )
