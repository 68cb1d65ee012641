"""Budgets: which decisions still lead to an architecture that meets all of them.

Before each decision, every candidate is checked: if it were decided, would a feasible architecture be left? The space
finds the cheapest architecture that is left (``SearchSpace.build_cheapest_finder``), so for one budget the answer is
exact. For several budgets it is a branch-and-bound search over regions: a region is the set of architectures that keep
only certain allowed candidates. Where the cheapest architecture by a weighted sum of the prices is too expensive, no
architecture of the region meets all budgets; otherwise the region is split at a choice, and its parts are searched. The
search stops after a fixed number of regions: it may then exclude too much, but a proposal never exceeds a budget.
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
from zcpt.latency import NANOSECONDS_PER_MILLISECOND, LatencyTable
from zcpt.options import format_count, format_exact, format_flag, pluralize
from zcpt.search.config import SearchConfig
from zcpt.space import AllowedCandidates, CheapestFinder, NetworkConfig, SearchSpace

_WEIGHT_STEPS = 4
"""The weights of several prices are tried in steps of 1/4."""
_MAX_REGIONS = 200
"""Largest number of regions that are searched for one answer."""
_START_FACTOR = 10
"""Factor on ``_MAX_REGIONS`` for the first answer, which decides whether the search starts at all."""
_MAX_TOTALS = 10_000
"""Number of architectures whose values are kept in memory: a search by trials may ask for millions."""
_ROUNDING = 1 + 1e-9
"""Tolerance of weighted sums of prices, whose terms are added in different orders."""


@dataclass(frozen=True)
class Budget:
    """An upper limit for one property of the network to be trained."""

    setting: str
    """Field of ``SearchConfig``."""
    unit: str
    limit: float
    """Limit in the unit."""
    price: BlockPrice
    """Price of a block, a whole number: a network has the same sum in whatever order its blocks are added."""
    scale: int = 1
    """Units of the price in one unit of the limit, such as nanoseconds in a millisecond."""

    def format_value(self, value: float) -> str:
        """Format a value with its unit."""
        return f"{format_count(value)} {self.unit}"

    @property
    def flag(self) -> str:
        """Flag that sets the budget, with its value."""
        return f"{format_flag(self.setting)} {format_exact(self.limit)}"

    def format_least(self, least: float) -> str:
        """Format the smallest possible value with its unit."""
        number = f"{least:,.0f}" if self.scale == 1 else format_exact(least)
        return f"at least {number} {self.unit}"


def _price_params(block: Block) -> int:
    return block.cost.params


def _price_macs(block: Block) -> int:
    return block.cost.macs


def build_trained_config(config: SearchConfig, supernet_config: NetworkConfig) -> NetworkConfig:
    """Return the configuration of the network to be trained, which budgets apply to.

    Args:
        config: Settings of the search.
        supernet_config: Configuration of the supernet, the source of values that the settings leave open.
    """
    side = config.train_image_size
    return NetworkConfig(
        channels=config.train_channels,
        layers=config.train_layers,
        num_classes=config.train_classes or supernet_config.num_classes,
        in_channels=supernet_config.in_channels,
        image_size=(side, side) if side else supernet_config.image_size,
    )


def build_budgets(space: SearchSpace, config: SearchConfig, trained_config: NetworkConfig) -> tuple[Budget, ...]:
    """Return the budgets of a search.

    Raises:
        ConfigError: The latency table is missing, damaged, or lacks a block.
    """
    budgets = []
    if config.max_params:
        budgets.append(Budget("max_params", "parameters", config.max_params, _price_params))
    if config.max_macs:
        budgets.append(Budget("max_macs", "MACs", config.max_macs, _price_macs))
    if config.max_latency:
        table = LatencyTable.read(Path(config.latency_table))
        table.check(space, trained_config, config.latency_table)
        budgets.append(Budget("max_latency", "ms", config.max_latency, table.price, NANOSECONDS_PER_MILLISECOND))
    return tuple(budgets)


def compute_checksums(space: SearchSpace, trained_config: NetworkConfig, budgets: Sequence[Budget]) -> dict[str, str]:
    """Return a checksum of the prices of each budget; the run folder keeps them to detect another latency table."""
    checksums = {}
    for budget in budgets:
        # Version 0.1.0 had no additions and concatenations, and its run folders keep checksums without them.
        blocks = [block for block in space.all_blocks(trained_config) if block.inputs == 1 or budget.price(block)]
        prices = sorted({f"{block.key} {budget.price(block)}" for block in blocks})
        checksums[budget.setting] = f"{zlib.crc32(repr(prices).encode()):08x}"
    return checksums


class BudgetChecker:
    """A check of architectures, and of partly decided ones, against all budgets of a search.

    Args:
        space: The search space.
        network_config: Configuration of the networks that the budgets apply to.
        budgets: All budgets.
        valid_only: Accept only architectures that pass ``SearchSpace.is_valid``.

    Raises:
        InfeasibleError: No architecture meets a budget, or none was found that meets all of them.
    """

    def __init__(
        self,
        space: SearchSpace,
        network_config: NetworkConfig,
        budgets: Sequence[Budget] = (),
        valid_only: bool = False,
    ) -> None:
        self.space = space
        self.network_config = network_config
        self.budgets = budgets
        self.valid_only = valid_only
        self._totals: dict[Architecture, tuple[float, ...]] = {}
        self._cheapest_finders: list[tuple[tuple[float, ...], CheapestFinder]] = []
        self.example: Architecture | None = None
        """A feasible architecture; None if there is no constraint at all."""
        if self.is_restrictive:
            self.example = self._find_example()

    @classmethod
    def from_config(cls, space: SearchSpace, config: SearchConfig, supernet_config: NetworkConfig) -> BudgetChecker:
        """Build the checker of a search.

        Raises:
            InfeasibleError: No architecture is feasible.
            ConfigError: The latency table is missing, damaged, or lacks a block.
            SpaceError: The space has no networks of the width and depth to be trained.
        """
        trained_config = build_trained_config(config, supernet_config)
        space.check_network_config(trained_config)
        return cls(space, trained_config, build_budgets(space, config, trained_config), config.valid_only)

    @property
    def is_restrictive(self) -> bool:
        """Whether there is anything to check: a budget, or that architectures are valid."""
        return bool(self.budgets) or self.valid_only

    def _find_example(self) -> Architecture:
        all_candidates = {choice.name: choice.selectable for choice in self.space.choices}
        count = len(self.budgets)
        # Without budgets, valid_only alone still needs one finder: by empty weights all architectures cost 0.
        unit_weights = [tuple(float(i == j) for i in range(count)) for j in range(count)] or [()]
        by_single_price = [(weights, self._build_cheapest_finder(weights)) for weights in unit_weights]
        least = []
        for index, (budget, (_, find_cheapest)) in enumerate(zip(self.budgets, by_single_price, strict=False)):
            cheapest = find_cheapest(all_candidates)
            if cheapest is None:
                raise InfeasibleError(self._format_none_found([]))
            least.append(self.compute_totals(cheapest)[index])
            if least[-1] > budget.limit:
                raise InfeasibleError(self._format_impossible(budget, least[-1]))
        # Prices are weighted relative to the slack between the cheapest architecture and the limit, so that a budget in
        # milliseconds and one in MACs count alike.
        slacks = [max((b.limit - value) * b.scale, 1.0) for b, value in zip(self.budgets, least, strict=True)]
        # Balanced weights come first: they most often give an architecture that meets all budgets at once.
        for weights in sorted(_enumerate_weights(count), key=max):
            rates = tuple(weight / slack for weight, slack in zip(weights, slacks, strict=True))
            self._cheapest_finders.append((rates, self._build_cheapest_finder(rates)))
        self._cheapest_finders += by_single_price
        example = self.find_feasible(all_candidates, _START_FACTOR * _MAX_REGIONS)
        if example is None:
            raise InfeasibleError(self._format_none_found(least))
        return example

    def _build_cheapest_finder(self, rates: Sequence[float]) -> CheapestFinder:
        rated = list(zip(rates, self.budgets, strict=True))

        def price(block: Block) -> float:
            return sum(rate * budget.price(block) for rate, budget in rated)

        return self.space.build_cheapest_finder(self.network_config, price, self.valid_only)

    def compute_totals(self, architecture: Architecture) -> tuple[float, ...]:
        """Return the value of an architecture for each budget, in the budget's unit."""
        if architecture not in self._totals:
            if len(self._totals) >= _MAX_TOTALS:
                self._totals.clear()
            blocks = list(self.space.blocks(architecture, self.network_config))
            self._totals[architecture] = tuple(sum(map(b.price, blocks)) / b.scale for b in self.budgets)
        return self._totals[architecture]

    def is_feasible(self, architecture: Architecture) -> bool:
        """Return whether an architecture meets all budgets, and is valid if it has to be."""
        totals = self.compute_totals(architecture)
        is_affordable = all(value <= b.limit for value, b in zip(totals, self.budgets, strict=True))
        return is_affordable and (not self.valid_only or self.space.is_valid(architecture))

    def find_feasible(self, allowed: AllowedCandidates, max_regions: int = _MAX_REGIONS) -> Architecture | None:
        """Find a feasible architecture among those that are still allowed.

        Returns:
            None if there is none, or if none was found after ``max_regions`` regions.
        """
        regions = [allowed]
        while regions and max_regions:
            region = regions.pop()
            max_regions -= 1
            cheapest = []
            for rates, find_cheapest in self._cheapest_finders:
                architecture = find_cheapest(region)
                if architecture is not None and self.is_feasible(architecture):
                    return architecture
                if architecture is None or self._is_too_expensive(architecture, rates):
                    break  # the bound: nothing else in the region is cheaper by these rates, so no part needs a search
                cheapest.append(architecture)
            else:
                regions += self._split(region, cheapest)
        return None

    def _is_too_expensive(self, architecture: Architecture, rates: Sequence[float]) -> bool:
        """Return whether the weighted sum of the prices exceeds that of the limits, so that some budget is exceeded."""
        scaled = [rate * b.scale for rate, b in zip(rates, self.budgets, strict=True)]
        spent = sum(rate * value for rate, value in zip(scaled, self.compute_totals(architecture), strict=True))
        available = sum(rate * b.limit for rate, b in zip(scaled, self.budgets, strict=True))
        return spent > available * _ROUNDING

    def _split(self, region: AllowedCandidates, cheapest: Sequence[Architecture]) -> Iterator[AllowedCandidates]:
        """Yield smaller regions that together cover a region; none if it holds one architecture only.

        Either a choice keeps exactly what the first of the cheapest architectures keeps, or it loses one of these
        candidates. The choice is the one on which the cheapest architectures differ most.
        """
        first = cheapest[0]
        open_choices = [c for c in self.space.choices if c.name in first.kept and len(region[c.name]) > c.keep]
        if open_choices:
            choice = max(open_choices, key=lambda c: len({architecture.kept.get(c.name) for architecture in cheapest}))
            kept = first.kept[choice.name]
            yield {**region, choice.name: kept}
            for lost in kept:
                yield {**region, choice.name: tuple(c for c in region[choice.name] if c != lost)}

    def _describe_networks(self) -> str:
        config = self.network_config
        height, width = config.image_size
        kind = "valid networks" if self.valid_only else "networks"
        return (
            f"{kind} of space '{self.space.name}' at C={config.channels}, "
            f"{self.space.describe_layers(config.layers)}, {height}x{width} images and "
            f"{pluralize(config.num_classes, 'class', 'classes')}"
        )

    def _format_impossible(self, budget: Budget, least: float) -> str:
        return (
            f"{budget.flag} cannot be met: {self._describe_networks()} have {budget.format_least(least)}. "
            f"Give {format_flag(budget.setting)} {format_count(least, up=True)} or more, "
            "or a smaller --train-channels, --train-layers or --train-image-size."
        )

    def _format_none_found(self, least: Sequence[float]) -> str:
        """Format the error for constraints that no architecture was found to meet together."""
        if not least:
            return f"--valid-only cannot be met: no {self._describe_networks()} were found. Leave it out."
        flags = " with ".join(budget.flag for budget in self.budgets)
        minima = ", ".join(b.format_least(value) for b, value in zip(self.budgets, least, strict=True))
        # With --valid-only this need not be true: build_cheapest_finder may return invalid networks in some spaces.
        alone = "" if self.valid_only else ", though each budget can be met alone"
        return (
            f"of the {self._describe_networks()} none was found that meets {flags}{alone} (they have {minima}). "
            "Give larger limits, or leave one out."
        )


def _enumerate_weights(count: int) -> Iterator[tuple[float, ...]]:
    """Yield all weights of ``count`` prices that sum to 1, in steps of 1/4, with none of them 1."""
    for steps in product(range(_WEIGHT_STEPS), repeat=count):
        if sum(steps) == _WEIGHT_STEPS:
            yield tuple(step / _WEIGHT_STEPS for step in steps)


class FeasibleSet:
    """Candidates that one proposal may still keep, and the decisions that would leave no feasible architecture."""

    def __init__(self, checker: BudgetChecker, choices: Sequence[Choice]) -> None:
        self._checker = checker
        self._allowed: dict[str, tuple[str, ...]] = {choice.name: choice.selectable for choice in choices}
        # Feasible architectures found so far that are still allowed: as long as one is, no search is needed. Every
        # proposal starts with the checker's example alone: those of other proposals could change its decisions,
        # depending on which proposals the same process has made before.
        self._examples = [] if checker.example is None else [checker.example]

    def find_excluded(self, choice: Choice, remaining: Sequence[str]) -> tuple[str, ...]:
        """Return the candidates that must not be chosen, or, where several are kept, must not be dropped."""
        if self._checker.example is None:
            return ()
        return tuple(
            candidate
            for candidate in remaining
            if not self._is_feasible({**self._allowed, choice.name: _apply_decision(choice, remaining, candidate)})
        )

    def restrict(self, choice: Choice, kept: Sequence[str]) -> None:
        """Restrict a choice to the candidates that a decision has kept."""
        self._allowed[choice.name] = tuple(kept)
        self._examples = [example for example in self._examples if _is_allowed(example, self._allowed)]
        assert self._examples or self._checker.example is None, "a decision that is not excluded leaves an example"

    def _is_feasible(self, allowed: AllowedCandidates) -> bool:
        if any(_is_allowed(example, allowed) for example in self._examples):
            return True
        example = self._checker.find_feasible(allowed)
        if example is not None:
            self._examples.append(example)
        return example is not None


def _apply_decision(choice: Choice, remaining: Sequence[str], candidate: str) -> tuple[str, ...]:
    """Return what may still be kept after a decision on a candidate: it alone, or all others."""
    return (candidate,) if choice.keep == 1 else tuple(c for c in remaining if c != candidate)


def _is_allowed(architecture: Architecture, allowed: AllowedCandidates) -> bool:
    return all(set(kept) <= set(allowed[name]) for name, kept in architecture.kept.items())
