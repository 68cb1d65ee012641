"""The contract of a search space: its choices, its networks, their costs and their text notation."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Literal

import torch

from zcpt.architecture import Architecture, Choice, check_kept
from zcpt.cost import Block, BlockPrice, Cost, sum_costs
from zcpt.discrete_network import DiscreteNetwork as DiscreteNetwork  # part of the contract, so this module has it too
from zcpt.errors import ConfigError, SpaceError, refuse_old_names
from zcpt.options import pluralize
from zcpt.printing import shorten
from zcpt.supernet import Supernet
from zcpt.variation import complete_decisions, draw_index, draw_kept, list_exchanges, sort_kept


@dataclass(frozen=True)
class WidthDepth:
    """Width and depth of a network."""

    channels: int
    """Channels of the first cells."""
    layers: int
    """Number of layers, in the unit of the space (``SearchSpace.layer_unit``)."""


# Beyond them the memory of the machine is full before the network is built. A file from elsewhere may ask for that.
_LIMITS = {
    "channels": 100_000,
    "layers": 1_000,
    "num_classes": 10_000_000,
    "in_channels": 10_000,
    "image_size": 100_000,
}
"""Largest value of each field of ``NetworkConfig``."""


@dataclass(frozen=True)
class NetworkConfig:
    """Width, depth, classes and image size of a network: everything that is not part of its architecture.

    Raises:
        ConfigError: One of the numbers is no integer, below 1, or beyond all networks that can be built.
    """

    channels: int
    """Channels of the first cells."""
    layers: int
    """Number of layers, in the unit of the space (``SearchSpace.layer_unit``)."""
    num_classes: int = 10
    in_channels: int = 3
    """Channels of the images."""
    image_size: tuple[int, int] = (32, 32)
    """Height and width of the images in pixels."""

    def __post_init__(self) -> None:
        if not isinstance(self.image_size, tuple) or len(self.image_size) != 2:
            raise ConfigError(f"image_size must be (height, width), not {shorten(self.image_size)}.")
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            for size in value if name == "image_size" else (value,):
                if isinstance(size, bool) or not isinstance(size, Integral) or not 1 <= int(size) <= limit:
                    raise ConfigError(
                        f"{name} must be an integer, at least 1 and at most {limit}, not {shorten(size)}."
                    )


@dataclass(frozen=True)
class PublishedSettings:
    """Settings of the published Zero-Cost-PT experiments that differ between spaces."""

    batch_size: int
    """Images of a batch in stage 1, and in stage 2 unless ``validation_batch_size`` is given."""
    alpha_draw: Literal["proposal", "run"]
    """How often the architecture parameters were drawn: for every proposal, or once for the whole run."""
    alpha_noise: float = 1e-3
    """Standard deviation of the architecture parameters; 0 where all candidates had equal shares."""
    validation_batch_size: int | None = None
    """Images of a batch in stage 2."""


@dataclass(frozen=True)
class CellGraph:
    """Cell as a graph, for pictures."""

    name: str
    nodes: tuple[str, ...]
    """Names of the nodes, from the inputs to the output."""
    arrows: tuple[tuple[str, str, str], ...]
    """(source, target, operation); the operation is an empty string where an arrow has none."""


AllowedCandidates = Mapping[str, Sequence[str]]
"""Candidates that may still be kept, by the name of the choice."""
CheapestFinder = Callable[[AllowedCandidates], Architecture | None]
"""Returns the cheapest architecture that keeps allowed candidates only; None if there is none."""


_RENAMED_METHODS = {
    "check_shape": "check_network_config",
    "leaves_some_out": "has_invalid_architectures",
    "valid": "is_valid",
    "cheapest": "build_cheapest_finder",
    "canonical": "canonicalize",
}
"""Method in version 0.1 -> its name now."""


class SearchSpace(ABC):
    """Contract of a search space. A space has no state: every method is a function of its arguments.

    To use a space, call ``supernet``, ``network``, ``cost``, ``parse`` and ``format``.

    To write one, set the class attributes and ``choices``, and implement ``build_supernet``, ``build_network``,
    ``parse``, ``format`` and ``cells``. For costs and budgets implement ``fixed_blocks`` and ``chosen_blocks`` too.
    Everything else has a default. ``zcpt.SupernetSpace`` derives all but the supernet, and
    ``zcpt.testing.check_space`` tests a space.
    """

    name: ClassVar[str]
    """Name of the space for ``zcpt.get_space``; ``zcpt.register_space`` sets it."""
    summary: ClassVar[str] = ""
    """One line for ``zcpt list``; if empty, the first line of the docstring."""
    layer_unit: ClassVar[str]
    """Unit that ``layers`` counts: 'cells', 'cells in each stage'. A plural whose first word ends in 's'."""
    search_size: ClassVar[WidthDepth]
    """Default width and depth of the supernet, and of the discrete networks that validation scores."""
    train_size: ClassVar[WidthDepth]
    """Default width and depth of the network that is trained on CIFAR-10."""
    small_size: ClassVar[WidthDepth]
    """Default width and depth for small images such as the embedded digits."""
    imagenet_size: ClassVar[WidthDepth]
    """Default width and depth of the network that is trained on ImageNet. If a space lacks it: ``train_size``."""
    published: ClassVar[PublishedSettings]
    """Settings of the published experiments, for ``preset="paper"``."""

    choices: tuple[Choice, ...]
    """All choices, in the order in which the published code lists them."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "layers_mean" in vars(cls) and "layer_unit" not in vars(cls):
            warnings.warn(f"{cls.__name__}.layers_mean is now called layer_unit: rename it.", DeprecationWarning, 3)
            cls.layer_unit = vars(cls)["layers_mean"]
        refuse_old_names(cls, _RENAMED_METHODS, SpaceError)

    def __repr__(self) -> str:
        choices = pluralize(len(self.choices), "choice")
        return f"<{type(self).__name__} space '{getattr(self, 'name', '')}' with {choices}>"

    def supernet(
        self,
        *,
        channels: int,
        layers: int,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: tuple[int, int] = (32, 32),
    ) -> Supernet:
        """Build the supernet with fresh weights from torch's generator.

        Users call this method. It puts the numbers into a ``NetworkConfig`` and calls ``build_supernet``, which every
        space implements.
        """
        return self.build_supernet(NetworkConfig(channels, layers, num_classes, in_channels, image_size))

    def network(
        self,
        architecture: Architecture,
        *,
        channels: int,
        layers: int,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: tuple[int, int] = (32, 32),
        auxiliary: bool = False,
    ) -> DiscreteNetwork:
        """Build the discrete network of an architecture with fresh weights from torch's generator.

        Users call this method. It puts the numbers into a ``NetworkConfig`` and calls ``build_network``, which every
        space implements.

        Raises:
            SpaceError: The architecture does not belong to this space.
        """
        config = NetworkConfig(channels, layers, num_classes, in_channels, image_size)
        return self.build_network(architecture, config, auxiliary=auxiliary)

    @abstractmethod
    def build_supernet(self, config: NetworkConfig) -> Supernet:
        """Build the supernet. Every space implements this method; users call ``supernet``."""

    @abstractmethod
    def build_network(
        self, architecture: Architecture, config: NetworkConfig, *, auxiliary: bool = False
    ) -> DiscreteNetwork:
        """Build the discrete network. Every space implements this method; users call ``network``.

        Start with ``self.check(architecture)``. With ``auxiliary``, add an auxiliary head (``zcpt.layers``).
        """

    def fixed_blocks(self, config: NetworkConfig) -> Iterable[Block]:
        """Return the blocks that all networks of a config have in common: stem, reductions, additions, classifier."""
        raise SpaceError(f"space '{self.name}' has no fixed_blocks: costs and budgets need this method.")

    def chosen_blocks(self, choice: str, candidate: str, config: NetworkConfig) -> Iterable[Block]:
        """Return the blocks that a candidate adds to a network that keeps it.

        They must not depend on other choices. If they do, override ``blocks``, ``all_blocks`` and
        ``build_cheapest_finder`` instead.
        """
        raise SpaceError(f"space '{self.name}' has no chosen_blocks: costs and budgets need this method.")

    def blocks(self, architecture: Architecture, config: NetworkConfig) -> Iterator[Block]:
        """Yield the blocks of a network without its auxiliary head."""
        self.check(architecture)
        self.check_network_config(config)
        yield from self.fixed_blocks(config)
        for choice, kept in architecture.kept.items():
            for candidate in kept:
                yield from self.chosen_blocks(choice, candidate, config)

    def all_blocks(self, config: NetworkConfig) -> Iterator[Block]:
        """Yield the blocks of all networks of a config, some of them more than once. Latency tables measure these."""
        yield from self.fixed_blocks(config)
        for choice in self.choices:
            for candidate in choice.selectable:
                yield from self.chosen_blocks(choice.name, candidate, config)

    def cost(self, architecture: Architecture, config: NetworkConfig) -> Cost:
        """Compute parameters and MACs of a network without its auxiliary head; no network is built."""
        return sum_costs(self.blocks(architecture, config))

    def prices(self, config: NetworkConfig, price: BlockPrice) -> dict[str, dict[str, float]]:
        """Compute the price that each candidate adds to a network: choice name -> candidate -> price."""
        return {
            choice.name: {c: sum(map(price, self.chosen_blocks(choice.name, c, config))) for c in choice.selectable}
            for choice in self.choices
        }

    def build_cheapest_finder(
        self, config: NetworkConfig, price: BlockPrice, valid_only: bool = False
    ) -> CheapestFinder:
        """Return a function that finds the cheapest architecture among those that are still allowed.

        The default takes the cheapest candidate of each choice. This is exact if the price of a candidate does not
        depend on other choices.

        Args:
            config: Config of the networks.
            price: Price of a block; a network costs the sum over its blocks.
            valid_only: Return only architectures for which ``is_valid`` is true. If a space ignores this, a search may
                have to try other candidates, and may fail.
        """
        prices = self.prices(config, price)

        def find_cheapest(allowed: AllowedCandidates) -> Architecture:
            return self.architecture({c.name: pick_cheapest(c, allowed[c.name], prices[c.name]) for c in self.choices})

        return find_cheapest

    def is_valid(self, architecture: Architecture) -> bool:
        """Return whether the published list of architectures contains this one.

        Override it if that list lacks some architectures of the space.
        """
        self.check(architecture)
        return True

    @property
    def has_invalid_architectures(self) -> bool:
        """Whether the published list may lack some architectures, that is, whether ``is_valid`` is overridden."""
        return type(self).is_valid is not SearchSpace.is_valid

    @abstractmethod
    def parse(self, text: str) -> Architecture:
        """Read an architecture in the published text notation of this space.

        Raises:
            SpaceError: The text has another form, or names unknown operations.
        """

    @abstractmethod
    def format(self, architecture: Architecture) -> str:
        """Write an architecture in the published text notation of this space; ``parse`` reads it."""

    @abstractmethod
    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        """Return the graphs of the cells for pictures; an empty tuple draws none."""

    def check_network_config(self, config: NetworkConfig) -> None:  # noqa: B027  # most spaces accept every config
        """Raise SpaceError if the space has no networks of this width, depth or image size."""

    def architecture(self, decisions: Mapping[str, tuple[str, ...]]) -> Architecture:
        """Build the architecture from the decisions on all choices.

        Override it if some decisions do not matter, for example the operations of edges that a node does not keep.
        """
        return Architecture(self.name, decisions)

    def describe_layers(self, layers: int) -> str:
        """Return the number of layers with its unit, for example '8 cells' or '1 cell in each of the three stages'."""
        noun, *rest = self.layer_unit.split(" ")
        return pluralize(layers, " ".join([noun.removesuffix("s"), *rest]), self.layer_unit)

    def check(self, architecture: Architecture) -> None:
        """Raise SpaceError unless the architecture is of this space, complete, and has known candidates only."""
        if architecture.space != self.name:
            raise SpaceError(
                f"the architecture belongs to space '{shorten(architecture.space)}', not to '{self.name}'."
            )
        missing = sorted({choice.name for choice in self.choices} - set(architecture.kept))
        extra = sorted(set(architecture.kept) - {choice.name for choice in self.choices})
        if missing or extra:
            reason = f"lacks {missing[0]}" if missing else f"has {shorten(extra[0])}, which is no choice of the space"
            raise SpaceError(f"the architecture is not one of space '{self.name}': it {reason}.")
        for choice in self.choices:
            check_kept(choice, architecture.kept[choice.name])

    def canonicalize(self, architecture: Architecture) -> Architecture:
        """Return the canonical representative of all architectures that build the same network.

        By default every architecture is its own representative, with the kept candidates of a choice in the order of
        the choice. A search validates each representative once.
        """
        self.check(architecture)
        return sort_kept(architecture, self.choices)

    def sample_architecture(self, generator: torch.Generator) -> Architecture:
        """Draw a canonical architecture from a generator, here: each choice uniformly.

        This is uniform over architectures unless ``architecture`` leaves decisions out or ``canonicalize`` merges
        architectures. A space where they do overrides this method, and says over what it is uniform.
        """
        kept = {choice.name: draw_kept(choice, generator) for choice in self.choices}
        return self.canonicalize(self.architecture(kept))

    def list_neighbors(self, architecture: Architecture) -> list[Architecture]:
        """Return all canonical architectures that are one decision away, each once, in a fixed order.

        Two architectures are neighbours if one kept candidate of one choice is exchanged for another. If the exchange
        makes decisions necessary that the architecture lacks, such as those on a node that had no influence, there is a
        neighbour for each way to make them. An architecture is not its own neighbour.
        """
        own, found = self.canonicalize(architecture), dict[Architecture, None]()
        for choice in self.choices:
            for _, _, kept in list_exchanges(choice, own.kept.get(choice.name, ())):
                changed = {**own.kept, choice.name: kept}
                for neighbor in complete_decisions(self.choices, self.architecture, changed):
                    found[self.canonicalize(neighbor)] = None
        found.pop(own, None)
        return list(found)

    def mutate(self, architecture: Architecture, generator: torch.Generator) -> Architecture:
        """Draw one of the neighbours uniformly.

        Raises:
            SpaceError: There is none, because the space has a single architecture.
        """
        neighbors = self.list_neighbors(architecture)
        if not neighbors:
            raise SpaceError(f"the architecture has no neighbours in space '{self.name}'.")
        return neighbors[draw_index(len(neighbors), generator)]

    def isomorphism_class(self, architecture: Architecture) -> str:
        """Return a text that is equal for exactly those architectures that share an entry of a tabular benchmark."""
        return self.format(architecture)

    def count(self) -> int:
        """Return the number of architectures."""
        return math.prod(math.comb(len(c.selectable), c.keep) for c in self.choices)


def pick_cheapest(choice: Choice, allowed: Sequence[str], prices: Mapping[str, float]) -> tuple[str, ...]:
    """Return the ``choice.keep`` cheapest allowed candidates in their given order; of equal ones the first."""
    cheapest = sorted(allowed, key=prices.__getitem__)[: choice.keep]
    return tuple(candidate for candidate in allowed if candidate in cheapest)
