"""Budgets: which decisions leave a way to an architecture that keeps all of them.

The check is one question, asked before each decision: is there still an architecture inside, among those that the
decisions so far allow? The space finds the cheapest one (``SearchSpace.build_cheapest_finder``), so for one budget
the answer is exact. For several ones it is a search by branch and bound: where the cheapest architecture by a
weighted sum of the prices is too dear, none keeps all budgets; elsewhere a choice is split, and both parts are looked
through. The search gives up after so many parts: what is excluded may then be too much, but what is proposed is never
outside.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from zcpt.architecture import Architecture, Choice
from zcpt.cost import Block, BlockPrice
from zcpt.errors import InfeasibleError
from zcpt.latency import NANOSECONDS, LatencyTable
from zcpt.options import format_count, format_exact, format_flag, pluralize
from zcpt.search.config import SearchConfig
from zcpt.space import AllowedCandidates, CheapestFinder, NetworkConfig, SearchSpace

_PARTS = 4
"""Weights of several prices are tried in steps of one part in so many."""
_REGIONS = 200
"""So many parts of what is allowed are looked through for one answer."""
_FIRST = 10
"""So many times more for the first one, on which depends whether a search begins at all."""
_ROUNDING = 1 + 1e-9
"""Sums of weighted prices may be off by this factor."""


@dataclass(frozen=True)
class Budget:
    """The most that a network may have of something."""

    setting: str
    """Field of ``SearchConfig``."""
    unit: str
    limit: float
    """In the unit."""
    price: BlockPrice
    """Whole numbers, so that a network has the same sum in whatever order it is added up."""
    scale: int = 1
    """Price of one unit."""

    def text(self, value: float) -> str:
        """A value with its unit."""
        return f"{format_count(value)} {self.unit}"

    @property
    def given(self) -> str:
        """The flag that sets it."""
        return f"{format_flag(self.setting)} {format_exact(self.limit)}"

    def at_least(self, least: float) -> str:
        """The least possible value with its unit."""
        return f"at least {f'{least:,.0f}' if self.scale == 1 else format_exact(least)} {self.unit}"


def _params(block: Block) -> int:
    return block.cost.params


def _macs(block: Block) -> int:
    return block.cost.macs


def trained_network_config(config: SearchConfig, searched: NetworkConfig) -> NetworkConfig:
    """The network to be trained, which budgets are about.

    Args:
        config: The settings.
        searched: The network_config of the supernet, for all that the two have in common.
    """
    side = config.train_image_size
    size = (side, side) if side else searched.image_size
    classes = config.train_classes or searched.num_classes
    return NetworkConfig(config.train_channels, config.train_layers, classes, searched.in_channels, size)


def budgets(space: SearchSpace, config: SearchConfig, network_config: NetworkConfig) -> tuple[Budget, ...]:
    """The budgets that a search was given.

    Raises:
        ConfigError: The latency table is missing, damaged, or lacks a block.
    """
    found = []
    if config.max_params:
        found.append(Budget("max_params", "parameters", config.max_params, _params))
    if config.max_macs:
        found.append(Budget("max_macs", "MACs", config.max_macs, _macs))
    if config.max_latency:
        table = LatencyTable.read(Path(config.latency_table))
        table.check(space, network_config, config.latency_table)
        found.append(Budget("max_latency", "ms", config.max_latency, table.price, NANOSECONDS))
    return tuple(found)


def checksums(space: SearchSpace, network_config: NetworkConfig, budgets: Sequence[Budget]) -> dict[str, str]:
    """What a run folder notes of the prices, so that another latency table is noticed."""
    found = {}
    for budget in budgets:
        prices = sorted({f"{block.key} {budget.price(block)}" for block in space.all_blocks(network_config)})
        found[budget.setting] = f"{zlib.crc32(repr(prices).encode()):08x}"
    return found


class BudgetChecker:
    """What the proposals of a search have to keep.

    Args:
        space: The space.
        network_config: Of the networks that budgets are about.
        budgets: Each limit.
        valid_only: Whether proposals must pass ``SearchSpace.is_valid`` too.

    Raises:
        InfeasibleError: No architecture keeps a budget, or none was found that keeps all of them.
    """

    def __init__(
        self,
        space: SearchSpace,
        network_config: NetworkConfig,
        budgets: Sequence[Budget] = (),
        valid_only: bool = False,
    ) -> None:
        self.space, self.network_config, self.budgets, self.valid_only = space, network_config, budgets, valid_only
        self._prices: dict[Architecture, tuple[float, ...]] = {}
        self._mixes: list[tuple[tuple[float, ...], CheapestFinder]] = []
        self.start: Architecture | None = None
        """An architecture that keeps everything; None where there is nothing to keep."""
        if budgets or valid_only:
            self.start = self._begin()

    def _begin(self) -> Architecture:
        everything = {choice.name: choice.selectable for choice in self.space.choices}
        count = len(self.budgets)
        units = [tuple(float(i == j) for i in range(count)) for j in range(count)] or [()]
        alone = [(unit, self._cheapest(unit)) for unit in units]
        least = []
        for index, (budget, (_, complete)) in enumerate(zip(self.budgets, alone, strict=False)):
            found = complete(everything)
            if found is None:
                raise InfeasibleError(self._nothing([]))
            least.append(self.totals(found)[index])
            if least[-1] > budget.limit:
                raise InfeasibleError(self._impossible(budget, least[-1]))
        rooms = [max((b.limit - has) * b.scale, 1.0) for b, has in zip(self.budgets, least, strict=True)]
        # The middle comes first: it is most often an answer for all of them.
        for weights in sorted(_mixed(count), key=max):
            rates = tuple(weight / room for weight, room in zip(weights, rooms, strict=True))
            self._mixes.append((rates, self._cheapest(rates)))
        self._mixes += alone
        start = self.find(everything, _FIRST * _REGIONS)
        if start is None:
            raise InfeasibleError(self._nothing(least))
        return start

    def _cheapest(self, rates: Sequence[float]) -> CheapestFinder:
        rated = list(zip(rates, self.budgets, strict=True))

        def price(block: Block) -> float:
            return sum(rate * budget.price(block) for rate, budget in rated)

        return self.space.build_cheapest_finder(self.network_config, price, self.valid_only)

    def totals(self, architecture: Architecture) -> tuple[float, ...]:
        """What an architecture has of each budget, in its unit."""
        if architecture not in self._prices:
            blocks = list(self.space.blocks(architecture, self.network_config))
            self._prices[architecture] = tuple(sum(map(b.price, blocks)) / b.scale for b in self.budgets)
        return self._prices[architecture]

    def keeps(self, architecture: Architecture) -> bool:
        """Whether an architecture keeps everything."""
        inside = all(has <= b.limit for has, b in zip(self.totals(architecture), self.budgets, strict=True))
        return inside and not (self.valid_only and not self.space.is_valid(architecture))

    def find(self, allowed: AllowedCandidates, most: int = _REGIONS) -> Architecture | None:
        """An architecture among those still allowed that keeps everything.

        Returns:
            None if there is none, and where none was found in so many parts of what is allowed.
        """
        regions = [allowed]
        while regions and most:
            region, most = regions.pop(), most - 1
            cheapest = []
            for rates, complete in self._mixes:
                found = complete(region)
                if found is not None and self.keeps(found):
                    return found
                if found is None or self._too_dear(found, rates):
                    break  # and so is everything else in the region
                cheapest.append(found)
            else:
                regions += self._split(region, cheapest)
        return None

    def _too_dear(self, architecture: Architecture, rates: Sequence[float]) -> bool:
        rated = [(rate * b.scale, b.limit) for rate, b in zip(rates, self.budgets, strict=True)]
        spent = sum(rate * has for (rate, _), has in zip(rated, self.totals(architecture), strict=True))
        return spent > sum(rate * limit for rate, limit in rated) * _ROUNDING

    def _split(self, region: AllowedCandidates, cheapest: Sequence[Architecture]) -> Iterator[AllowedCandidates]:
        """Smaller parts that hold all of a region; none where it has but one architecture.

        What that one keeps of a choice is all that is left of the choice, or one of it is left out. The choice is the
        one about which the prices disagree most.
        """
        first = cheapest[0]
        found = [c for c in self.space.choices if c.name in first.kept and len(region[c.name]) > c.keep]
        if found:
            choice = max(found, key=lambda c: len({other.kept.get(c.name) for other in cheapest}))
            kept = first.kept[choice.name]
            yield {**region, choice.name: kept}
            for lost in kept:
                yield {**region, choice.name: tuple(c for c in region[choice.name] if c != lost)}

    def _where(self) -> str:
        height, width = self.network_config.image_size
        return (
            f"at C={self.network_config.channels}, {self.space.describe_layers(self.network_config.layers)}, "
            f"{height}x{width} images and {pluralize(self.network_config.num_classes, 'class', 'classes')}"
        )

    def _networks(self) -> str:
        return f"{'valid ' * self.valid_only}networks of space '{self.space.name}' {self._where()}"

    def _impossible(self, budget: Budget, least: float) -> str:
        return (
            f"{budget.given} cannot be kept: {self._networks()} have {budget.at_least(least)}. "
            f"Give {format_flag(budget.setting)} {format_count(least, up=True)} or more, "
            "or a smaller --train-channels, --train-layers or --train-image-size."
        )

    def _nothing(self, least: Sequence[float]) -> str:
        """What is said where every budget can be kept, but no architecture was found that keeps everything."""
        if not least:
            return f"--valid-only cannot be kept: no {self._networks()} were found. Leave it out."
        given = " with ".join(budget.given for budget in self.budgets)
        alone = ", ".join(budget.at_least(value) for budget, value in zip(self.budgets, least, strict=True))
        # The cheapest networks of a space that does not sort out what is not valid need not be valid.
        though = "" if self.valid_only else ", though each of these can be kept alone"
        return (
            f"of the {self._networks()} none was found that keeps {given}{though} (they have {alone}). "
            "Give larger limits, or leave one out."
        )


def _mixed(count: int) -> Iterator[tuple[float, ...]]:
    """Weights that sum to 1, in steps of a part, none of them 1."""
    for parts in product(range(_PARTS), repeat=count):
        if sum(parts) == _PARTS:
            yield tuple(part / _PARTS for part in parts)


class FeasibleSet:
    """What the choices of one proposal may still keep, and which decisions would leave no way to stay in bounds."""

    def __init__(self, bounds: BudgetChecker, choices: Sequence[Choice]) -> None:
        self._bounds = bounds
        self._allowed: dict[str, tuple[str, ...]] = {choice.name: choice.selectable for choice in choices}
        # Found before and still allowed: where there is one, nothing need be looked for.
        self._ways = [] if bounds.start is None else [bounds.start]

    def excluded(self, choice: Choice, remaining: Sequence[str]) -> tuple[str, ...]:
        """The candidates whose choice, or with several to keep whose loss, would leave no way."""
        if self._bounds.start is None:
            return ()
        return tuple(
            c for c in remaining if not self._way({**self._allowed, choice.name: _after(choice, remaining, c)})
        )

    def keep(self, choice: Choice, kept: Sequence[str]) -> None:
        """Note what a look has left of a choice."""
        self._allowed[choice.name] = tuple(kept)
        self._ways = [way for way in self._ways if _is_among(way, self._allowed)]
        assert self._ways or self._bounds.start is None, "what was not excluded has a way, and it was found"

    def _way(self, allowed: AllowedCandidates) -> bool:
        if any(_is_among(way, allowed) for way in self._ways):
            return True
        found = self._bounds.find(allowed)
        if found is not None:
            self._ways.append(found)
        return found is not None


def _after(choice: Choice, remaining: Sequence[str], candidate: str) -> tuple[str, ...]:
    """What may still be kept if a decision falls on a candidate: it alone, or all but it."""
    return (candidate,) if choice.keep == 1 else tuple(c for c in remaining if c != candidate)


def _is_among(architecture: Architecture, allowed: AllowedCandidates) -> bool:
    return all(set(kept) <= set(allowed[name]) for name, kept in architecture.kept.items())
