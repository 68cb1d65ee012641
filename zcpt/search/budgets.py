"""Budgets: which decisions leave a way to an architecture that keeps all of them.

The check is one question, asked before each decision: is there still an architecture inside, among those that the
decisions so far allow? The space finds the cheapest one (``SearchSpace.cheapest``), so for one budget the answer is
exact. For several ones a handful of weighted prices is tried, and only an architecture that keeps them all counts as
an answer: what is excluded may then be too much, but what is proposed is never outside.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from zcpt.cost import Block, Price
from zcpt.errors import InfeasibleError
from zcpt.latency import NANOSECONDS, LatencyTable
from zcpt.options import flag, written
from zcpt.search.config import SearchConfig
from zcpt.space import Allowed, Architecture, Choice, Completion, SearchSpace, Shape

_PARTS = 4
"""Weights of several prices are tried in steps of one part in so many."""
_TIE = 1e-6
"""A price without weight still decides between equals."""


@dataclass(frozen=True)
class Budget:
    """The most that a network may have of something."""

    setting: str
    """Field of ``SearchConfig``."""
    unit: str
    limit: float
    """In the unit."""
    price: Price
    """Whole numbers, so that a network has the same sum in whatever order it is added up."""
    scale: int = 1
    """Price of one unit."""

    def total(self, space: SearchSpace, architecture: Architecture, shape: Shape) -> float:
        """What a network has, in the unit."""
        return sum(map(self.price, space.blocks(architecture, shape))) / self.scale

    def text(self, value: float) -> str:
        """A value with its unit."""
        return f"{written(value)} {self.unit}"


def _params(block: Block) -> int:
    return block.cost.params


def _macs(block: Block) -> int:
    return block.cost.macs


def train_shape(config: SearchConfig, searched: Shape) -> Shape:
    """The network to be trained, which budgets are about.

    Args:
        config: The settings.
        searched: The shape of the supernet, for all that the two have in common.
    """
    side = config.train_image_size
    size = (side, side) if side else searched.image_size
    return Shape(config.train_channels, config.train_layers, searched.num_classes, searched.in_channels, size)


def budgets(space: SearchSpace, config: SearchConfig, shape: Shape) -> tuple[Budget, ...]:
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
        table.check(space, shape, config.latency_table)
        found.append(Budget("max_latency", "ms", config.max_latency, table.price, NANOSECONDS))
    return tuple(found)


class Bounds:
    """What the proposals of a search have to keep.

    Args:
        space: The space.
        shape: Of the networks that budgets are about.
        budgets: Each limit.
        valid_only: Whether proposals have to be ``valid`` too.

    Raises:
        InfeasibleError: No architecture keeps a budget, or none was found that keeps all of them.
    """

    def __init__(
        self, space: SearchSpace, shape: Shape, budgets: Sequence[Budget] = (), valid_only: bool = False
    ) -> None:
        self.space, self.shape, self.budgets, self.valid_only = space, shape, budgets, valid_only
        self._prices: dict[Architecture, tuple[float, ...]] = {}
        self._completions: list[Completion] = []
        self.start: Architecture | None = None
        """An architecture that keeps everything; None where there is nothing to keep."""
        if budgets or valid_only:
            self.start = self._begin()

    def _begin(self) -> Architecture:
        everything = {choice.name: choice.rivals for choice in self.space.choices}
        cheapest = [self._cheapest(budget.price) for budget in self.budgets] or [self._cheapest(lambda block: 0)]
        slack = []
        for index, (complete, budget) in enumerate(zip(cheapest, self.budgets, strict=False)):
            found = complete(everything)
            if found is None:
                raise InfeasibleError(self._nothing())
            least = self.totals(found)[index]
            if least > budget.limit:
                raise InfeasibleError(self._impossible(budget, least))
            slack.append(max((budget.limit - least) * budget.scale, 1.0))
        # The middle comes first: it is most often an answer for all of them.
        mixed = sorted(_weights(len(self.budgets)), key=max) if len(self.budgets) > 1 else []
        self._completions = [*(self._cheapest(partial(self._mixed, slack, weights)) for weights in mixed), *cheapest]
        start = self.find(everything)
        if start is None:
            raise InfeasibleError(self._nothing())
        return start

    def _cheapest(self, price: Price) -> Completion:
        return self.space.cheapest(self.shape, price, self.valid_only)

    def _mixed(self, slack: Sequence[float], weights: Sequence[float], block: Block) -> float:
        parts = zip(weights, self.budgets, slack, strict=True)
        return sum((weight + _TIE) * budget.price(block) / room for weight, budget, room in parts)

    def totals(self, architecture: Architecture) -> tuple[float, ...]:
        """What an architecture has of each budget, in its unit."""
        if architecture not in self._prices:
            blocks = list(self.space.blocks(architecture, self.shape))
            self._prices[architecture] = tuple(sum(map(b.price, blocks)) / b.scale for b in self.budgets)
        return self._prices[architecture]

    def keeps(self, architecture: Architecture) -> bool:
        """Whether an architecture keeps everything."""
        inside = all(has <= b.limit for has, b in zip(self.totals(architecture), self.budgets, strict=True))
        return inside and not (self.valid_only and not self.space.valid(architecture))

    def find(self, allowed: Allowed) -> Architecture | None:
        """An architecture among those still allowed that keeps everything."""
        for complete in self._completions:
            found = complete(allowed)
            if found is not None and self.keeps(found):
                return found
        return None

    def about(self) -> dict[str, Any]:
        """What a run folder notes of the prices, so that a resume with another latency table is noticed."""
        return {budget.setting: self._checksum(budget) for budget in self.budgets}

    def _checksum(self, budget: Budget) -> str:
        prices = sorted({f"{block.key} {budget.price(block)}" for block in self.space.all_blocks(self.shape)})
        return f"{zlib.crc32(repr(prices).encode()):08x}"

    def _where(self) -> str:
        height, width = self.shape.image_size
        return (
            f"at C={self.shape.channels}, {self.shape.layers} {self.space.layers_mean}, {height}x{width} images and "
            f"{self.shape.num_classes} classes"
        )

    def _impossible(self, budget: Budget, least: float) -> str:
        name, exact = flag(budget.setting), f"{least:,.0f}" if budget.scale == 1 else f"{least:g}"
        return (
            f"{name} {written(budget.limit)} cannot be kept: networks of space '{self.space.name}' "
            f"{self._where()} have at least {exact} {budget.unit}. Give {name} {written(least, up=True)} or more, "
            "or a smaller --train-channels, --train-layers or --train-image-size."
        )

    def _nothing(self) -> str:
        given = [f"{flag(budget.setting)} {written(budget.limit)}" for budget in self.budgets]
        given += ["--valid-only"] * self.valid_only
        together = " together" if len(given) > 1 else ""
        return (
            f"{' with '.join(given)} cannot be kept{together}: no such network of space '{self.space.name}' "
            f"{self._where()} was found. Give larger limits, or leave one out."
        )


def _weights(count: int) -> Iterator[tuple[float, ...]]:
    """Weights that sum to 1, in steps of a part."""
    for parts in product(range(_PARTS + 1), repeat=count):
        if sum(parts) == _PARTS:
            yield tuple(part / _PARTS for part in parts)


class Scope:
    """What the choices of one proposal may still keep, and which decisions would leave no way to stay in bounds."""

    def __init__(self, bounds: Bounds, choices: Sequence[Choice]) -> None:
        self._bounds = bounds
        self._allowed: dict[str, tuple[str, ...]] = {choice.name: choice.rivals for choice in choices}
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

    def _way(self, allowed: Allowed) -> bool:
        if any(_is_among(way, allowed) for way in self._ways):
            return True
        found = self._bounds.find(allowed)
        if found is not None:
            self._ways.append(found)
        return found is not None


def _after(choice: Choice, remaining: Sequence[str], candidate: str) -> tuple[str, ...]:
    """What may still be kept if a decision falls on a candidate: it alone, or all but it."""
    return (candidate,) if choice.keep == 1 else tuple(c for c in remaining if c != candidate)


def _is_among(architecture: Architecture, allowed: Allowed) -> bool:
    return all(set(kept) <= set(allowed[name]) for name, kept in architecture.kept.items())
