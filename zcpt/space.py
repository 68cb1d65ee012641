"""What a search space is: its choices, its architectures, and the contract that the method relies on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor, nn

from zcpt.architecture import Architecture, Choice, check_kept
from zcpt.cost import Block, BlockPrice, Cost, sum_costs
from zcpt.errors import ConfigError, SpaceError
from zcpt.options import pluralize
from zcpt.supernet import Supernet


@dataclass(frozen=True)
class WidthDepth:
    """Width and depth: the channels of the first cells, and the layers as the space counts them."""

    channels: int
    layers: int


@dataclass(frozen=True)
class NetworkConfig:
    """Everything about a network that is not its architecture."""

    channels: int
    layers: int
    num_classes: int = 10
    in_channels: int = 3
    image_size: tuple[int, int] = (32, 32)
    """Height and width in pixels."""

    def __post_init__(self) -> None:
        numbers = (self.channels, self.layers, self.num_classes, self.in_channels, *self.image_size)
        if min(numbers) < 1:
            raise ConfigError(f"channels, layers, classes and image size must be at least 1: {self}.")


@dataclass(frozen=True)
class PublishedSettings:
    """Settings of the published Zero-Cost-PT experiments on one space."""

    batch_size: int
    """Of stage 1, and of stage 2 where that had no other."""
    alpha_draw: Literal["proposal", "run"]
    """Whether every proposal drew new architecture parameters."""
    alpha_noise: float = 1e-3
    """Standard deviation of the architecture parameters; 0 where all shares were equal."""
    validation_batch_size: int | None = None


@dataclass(frozen=True)
class CellGraph:
    """A cell as a picture shows it: named nodes, and arrows (source, target, operation)."""

    name: str
    nodes: tuple[str, ...]
    arrows: tuple[tuple[str, str, str], ...]


class DiscreteNetwork(nn.Module, ABC):
    """A discrete network, to be trained. ``forward`` returns logits [B, classes]; in training mode with an
    auxiliary head it returns ``(logits, auxiliary logits)``."""

    @abstractmethod
    def set_drop_path(self, probability: float) -> None:
        """Set the probability with which training drops an operation's output for one image."""

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]: ...


AllowedCandidates = Mapping[str, Sequence[str]]
"""For every choice the candidates that may still be kept."""
CheapestFinder = Callable[[AllowedCandidates], Architecture | None]
"""From what may still be kept to an architecture that keeps nothing else; None where there is none."""


class SearchSpace(ABC):
    """The contract of a space. A space has no state: every method is a function of its arguments."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    """One line for ``zcpt list``; where it is empty, that of the docstring."""
    layer_unit: ClassVar[str]
    """What ``layers`` counts here, such as 'cells'."""
    search_size: ClassVar[WidthDepth]
    """Width and depth of the supernet, and of the networks that validation scores."""
    train_size: ClassVar[WidthDepth]
    """Width and depth of the network that is trained on CIFAR-10."""
    small_size: ClassVar[WidthDepth]
    """Width and depth that suit small images such as the embedded digits."""
    published: ClassVar[PublishedSettings]
    """What the published experiments did differently from one space to the other."""

    choices: tuple[Choice, ...]

    def supernet(
        self,
        *,
        channels: int,
        layers: int,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: tuple[int, int] = (32, 32),
    ) -> Supernet:
        """Build the supernet; its fresh weights come from torch's generator."""
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
        """Build the discrete network of an architecture; its fresh weights come from torch's generator.

        Raises:
            SpaceError: The architecture is not one of this space's.
        """
        config = NetworkConfig(channels, layers, num_classes, in_channels, image_size)
        return self.build_network(architecture, config, auxiliary=auxiliary)

    @abstractmethod
    def build_supernet(self, config: NetworkConfig) -> Supernet:
        """What ``supernet`` calls."""

    @abstractmethod
    def build_network(
        self, architecture: Architecture, config: NetworkConfig, *, auxiliary: bool = False
    ) -> DiscreteNetwork:
        """What ``network`` calls; it starts with ``self.check(architecture)``."""

    def fixed_blocks(self, config: NetworkConfig) -> Iterable[Block]:
        """What all networks of that config have in common."""
        raise SpaceError(f"space '{self.name}' has no fixed_blocks: it cannot tell costs and keep budgets without.")

    def chosen_blocks(self, choice: str, candidate: str, config: NetworkConfig) -> Iterable[Block]:
        """What a candidate adds to a network that keeps it, whatever else the network keeps.

        A space whose choices depend on each other overrides ``blocks``, ``all_blocks`` and
        ``build_cheapest_finder`` instead.
        """
        raise SpaceError(f"space '{self.name}' has no chosen_blocks: it cannot tell costs and keep budgets without.")

    def blocks(self, architecture: Architecture, config: NetworkConfig) -> Iterator[Block]:
        """The operations of the network without its auxiliary head; additions and concatenations are none."""
        self.check(architecture)
        self.check_network_config(config)
        yield from self.fixed_blocks(config)
        for choice, kept in architecture.kept.items():
            for candidate in kept:
                yield from self.chosen_blocks(choice, candidate, config)

    def all_blocks(self, config: NetworkConfig) -> Iterator[Block]:
        """The blocks of all networks of that config; some may come several times."""
        yield from self.fixed_blocks(config)
        for choice in self.choices:
            for candidate in choice.selectable:
                yield from self.chosen_blocks(choice.name, candidate, config)

    def cost(self, architecture: Architecture, config: NetworkConfig) -> Cost:
        """Parameters and MACs of the network without its auxiliary head, by formula."""
        return sum_costs(self.blocks(architecture, config))

    def prices(self, config: NetworkConfig, price: BlockPrice) -> dict[str, dict[str, float]]:
        """What each candidate of each choice adds to the price of a network."""
        return {
            choice.name: {c: sum(map(price, self.chosen_blocks(choice.name, c, config))) for c in choice.selectable}
            for choice in self.choices
        }

    def build_cheapest_finder(
        self, config: NetworkConfig, price: BlockPrice, valid_only: bool = False
    ) -> CheapestFinder:
        """A function that finds an architecture of least price among those that are still allowed.

        Args:
            config: Of the networks.
            price: What a block counts.
            valid_only: Leave out what is not ``is_valid``. A space that says nothing of it here may find an
                architecture that is not; a search then looks on among the others, and may give up.
        """
        prices = self.prices(config, price)

        def complete(allowed: AllowedCandidates) -> Architecture:
            return self.architecture({c.name: pick_cheapest(c, allowed[c.name], prices[c.name]) for c in self.choices})

        return complete

    def is_valid(self, architecture: Architecture) -> bool:
        """Whether the published list of the space, where it leaves some out, has the architecture."""
        self.check(architecture)
        return True

    @property
    def has_invalid_architectures(self) -> bool:
        """Whether the published list may leave some architectures out: a space where it does overrides ``is_valid``."""
        return type(self).is_valid is not SearchSpace.is_valid

    @abstractmethod
    def parse(self, text: str) -> Architecture:
        """Read the field's own text notation of this space. SpaceError says what is wrong with it."""

    @abstractmethod
    def format(self, architecture: Architecture) -> str:
        """Write the field's own text notation of this space."""

    @abstractmethod
    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        """The cells of an architecture, to be drawn."""

    def check_network_config(self, config: NetworkConfig) -> None:  # noqa: B027  # most spaces have networks of every config
        """SpaceError if the space has no network of this width and depth."""

    def architecture(self, decisions: Mapping[str, tuple[str, ...]]) -> Architecture:
        """The architecture that a decision for every choice amounts to."""
        return Architecture(self.name, decisions)

    def describe_layers(self, layers: int) -> str:
        """Return the number of layers with its unit, such as '8 cells' or '1 cell in each of the three stages'."""
        noun, *rest = self.layer_unit.split(" ")
        return pluralize(layers, " ".join([noun.removesuffix("s"), *rest]), self.layer_unit)

    def check(self, architecture: Architecture) -> None:
        """SpaceError unless the architecture is one of this space's, complete and with known candidates."""
        if architecture.space != self.name:
            raise SpaceError(f"the architecture belongs to space '{architecture.space}', not to '{self.name}'.")
        missing = sorted({choice.name for choice in self.choices} - set(architecture.kept))
        extra = sorted(set(architecture.kept) - {choice.name for choice in self.choices})
        if missing or extra:
            what = f"lacks {missing[0]}" if missing else f"has {extra[0]}, which the space does not know"
            raise SpaceError(f"the architecture is not one of space '{self.name}': it {what}.")
        for choice in self.choices:
            check_kept(choice, architecture.kept[choice.name])

    def canonicalize(self, architecture: Architecture) -> Architecture:
        """The one that stands for all architectures with the same network, as far as the space knows of others."""
        self.check(architecture)
        return architecture

    def isomorphism_class(self, architecture: Architecture) -> str:
        """A text that architectures share exactly if a table of trained networks has one entry for them."""
        return self.format(architecture)

    def count(self) -> int:
        """How many architectures there are."""
        return math.prod(math.comb(len(c.selectable), c.keep) for c in self.choices)


def pick_cheapest(choice: Choice, allowed: Sequence[str], prices: Mapping[str, float]) -> tuple[str, ...]:
    """The allowed candidates that a choice keeps if it goes by price; the first ones of equals."""
    cheap = sorted(allowed, key=prices.__getitem__)[: choice.keep]
    return tuple(candidate for candidate in allowed if candidate in cheap)
