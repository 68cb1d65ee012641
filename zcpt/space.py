"""What a search space is: its choices, its architectures, and the contract that the method relies on."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor, nn

from zcpt.cost import Block, Cost, Price, total
from zcpt.errors import ConfigError, SpaceError, unknown

if TYPE_CHECKING:
    from zcpt.supernet import Supernet

SCHEMA = 1


@dataclass(frozen=True)
class Choice:
    """One decision: the operation of an edge, or which of its inputs a node keeps."""

    name: str
    candidates: tuple[str, ...]
    keep: int = 1
    """How many candidates stay. With 1 all are looked at once; with more the least important one is dropped, again and
    again, until so many are left."""
    start: Literal["share", "one"] = "share"
    """Weight of an undecided candidate: an equal share of 1, or 1 each."""
    group: str = ""
    """Choices of different groups (normal and reduction cells) are decided side by side: one step, one batch."""
    phase: int = 0
    """All choices of a phase are decided before the next phase begins."""
    never_kept: tuple[str, ...] = ()
    """Candidates that have their share of the mixture but that no architecture keeps, such as RobustDARTS' 'none'."""

    def position(self, candidate: str) -> int:
        """Index of a candidate; SpaceError with the nearest one when there is none of that name."""
        try:
            return self.candidates.index(candidate)
        except ValueError:
            message = unknown(f"candidate of {self.name}", candidate, self.candidates)
            raise SpaceError(message) from None

    @property
    def rivals(self) -> tuple[str, ...]:
        """The candidates that may be kept, and so are compared."""
        return tuple(candidate for candidate in self.candidates if candidate not in self.never_kept)

    @property
    def looks(self) -> tuple[int, ...]:
        """How many candidates are scored, look by look, until the choice is decided."""
        count = len(self.rivals)
        if count <= self.keep:
            return ()
        return (count,) if self.keep == 1 else tuple(range(count, self.keep, -1))


@dataclass(frozen=True)
class Architecture:
    """What was kept, choice by choice, in one space."""

    space: str
    kept: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", dict(sorted(self.kept.items())))

    def __hash__(self) -> int:
        return hash((self.space, tuple(self.kept.items())))

    def __getitem__(self, choice: str) -> str:
        """The one candidate that a choice kept."""
        (candidate,) = self.kept[choice]
        return candidate

    def to_json(self) -> dict[str, object]:
        """The document that ``architecture.json`` holds."""
        kept = {choice: list(names) for choice, names in self.kept.items()}
        return {"schema": SCHEMA, "space": self.space, "choices": kept}

    @classmethod
    def from_json(cls, text: str, source: str = "the text") -> Architecture:
        """Read what ``to_json`` wrote. SpaceError says what is wrong with it and where it came from."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise SpaceError(
                f"{source} is not a complete JSON document ({error.msg}, {where}): "
                "give the architecture.json that 'zcpt search' wrote."
            ) from None
        if not isinstance(document, dict) or "space" not in document:
            raise SpaceError(
                f"{source} holds no architecture: a JSON object with 'schema', 'space' and 'choices' is expected."
            )
        if document.get("schema") != SCHEMA:
            raise SpaceError(
                f"{source} has schema {document.get('schema')!r}, and this version of zcpt reads schema {SCHEMA}."
            )
        return cls(str(document["space"]), _choices_from(document.get("choices"), source))


def _choices_from(choices: object, source: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(choices, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in choices.values()
    ):
        raise SpaceError(f"'choices' of {source} must map each choice to the list of candidates that it keeps.")
    return {choice: tuple(names) for choice, names in choices.items()}


@dataclass(frozen=True)
class Size:
    """Width and depth: the channels of the first cells, and the layers as the space counts them."""

    channels: int
    layers: int


@dataclass(frozen=True)
class Shape:
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
class Published:
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


class Network(nn.Module, ABC):
    """A discrete network, to be trained. ``forward`` returns logits [B, classes]; in training mode with an
    auxiliary head it returns ``(logits, auxiliary logits)``."""

    @abstractmethod
    def set_drop_path(self, probability: float) -> None:
        """Set the probability with which training drops an operation's output for one image."""

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]: ...


Allowed = Mapping[str, Sequence[str]]
"""For every choice the candidates that may still be kept."""
Completion = Callable[[Allowed], Architecture | None]
"""From what may still be kept to an architecture that keeps nothing else; None where there is none."""


class SearchSpace(ABC):
    """The contract of a space. A space has no state: every method is a function of its arguments."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    """One line for ``zcpt list``; where it is empty, that of the docstring."""
    layers_mean: ClassVar[str]
    """What ``layers`` counts here, such as 'cells'."""
    search_size: ClassVar[Size]
    """Width and depth of the supernet, and of the networks that validation scores."""
    train_size: ClassVar[Size]
    """Width and depth of the network that is trained on CIFAR-10."""
    small_size: ClassVar[Size]
    """Width and depth that suit small images such as the embedded digits."""
    published: ClassVar[Published]
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
        return self.build_supernet(Shape(channels, layers, num_classes, in_channels, image_size))

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
    ) -> Network:
        """Build the discrete network of an architecture; its fresh weights come from torch's generator.

        Raises:
            SpaceError: The architecture is not one of this space's.
        """
        shape = Shape(channels, layers, num_classes, in_channels, image_size)
        return self.build_network(architecture, shape, auxiliary=auxiliary)

    @abstractmethod
    def build_supernet(self, shape: Shape) -> Supernet:
        """What ``supernet`` calls."""

    @abstractmethod
    def build_network(self, architecture: Architecture, shape: Shape, *, auxiliary: bool = False) -> Network:
        """What ``network`` calls; it starts with ``self.check(architecture)``."""

    def fixed_blocks(self, shape: Shape) -> Iterable[Block]:
        """What all networks of that shape have in common."""
        raise SpaceError(f"space '{self.name}' has no fixed_blocks: it cannot tell costs and keep budgets without.")

    def chosen_blocks(self, choice: str, candidate: str, shape: Shape) -> Iterable[Block]:
        """What a candidate adds to a network that keeps it, whatever else the network keeps.

        A space whose choices depend on each other overrides ``blocks``, ``all_blocks`` and ``cheapest`` instead.
        """
        raise SpaceError(f"space '{self.name}' has no chosen_blocks: it cannot tell costs and keep budgets without.")

    def blocks(self, architecture: Architecture, shape: Shape) -> Iterator[Block]:
        """The operations of the network without its auxiliary head; additions and concatenations are none."""
        self.check(architecture)
        self.check_shape(shape)
        yield from self.fixed_blocks(shape)
        for choice, kept in architecture.kept.items():
            for candidate in kept:
                yield from self.chosen_blocks(choice, candidate, shape)

    def all_blocks(self, shape: Shape) -> Iterator[Block]:
        """The blocks of all networks of that shape; some may come several times."""
        yield from self.fixed_blocks(shape)
        for choice in self.choices:
            for candidate in choice.rivals:
                yield from self.chosen_blocks(choice.name, candidate, shape)

    def cost(self, architecture: Architecture, shape: Shape) -> Cost:
        """Parameters and MACs of the network without its auxiliary head, by formula."""
        return total(self.blocks(architecture, shape))

    def prices(self, shape: Shape, price: Price) -> dict[str, dict[str, float]]:
        """What each candidate of each choice adds to the price of a network."""
        return {
            choice.name: {c: sum(map(price, self.chosen_blocks(choice.name, c, shape))) for c in choice.rivals}
            for choice in self.choices
        }

    def cheapest(self, shape: Shape, price: Price, valid_only: bool = False) -> Completion:
        """A function that finds an architecture of least price among those that are still allowed.

        Args:
            shape: Of the networks.
            price: What a block counts.
            valid_only: Leave out what is not ``valid``. A space that says nothing of it here may find an
                architecture that is not; a search then looks on among the others, and may give up.
        """
        prices = self.prices(shape, price)

        def complete(allowed: Allowed) -> Architecture:
            return self.architecture({c.name: least(c, allowed[c.name], prices[c.name]) for c in self.choices})

        return complete

    def valid(self, architecture: Architecture) -> bool:
        """Whether the published list of the space, where it leaves some out, has the architecture."""
        self.check(architecture)
        return True

    @property
    def leaves_some_out(self) -> bool:
        """Whether the published list may leave some architectures out: a space where it does overrides ``valid``."""
        return type(self).valid is not SearchSpace.valid

    @abstractmethod
    def parse(self, text: str) -> Architecture:
        """Read the field's own text notation of this space. SpaceError says what is wrong with it."""

    @abstractmethod
    def format(self, architecture: Architecture) -> str:
        """Write the field's own text notation of this space."""

    @abstractmethod
    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        """The cells of an architecture, to be drawn."""

    def check_shape(self, shape: Shape) -> None:  # noqa: B027  # most spaces have networks of every shape
        """SpaceError if the space has no network of this width and depth."""

    def architecture(self, decisions: Mapping[str, tuple[str, ...]]) -> Architecture:
        """The architecture that a decision for every choice amounts to."""
        return Architecture(self.name, decisions)

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

    def canonical(self, architecture: Architecture) -> Architecture:
        """The one that stands for all architectures with the same network, as far as the space knows of others."""
        self.check(architecture)
        return architecture

    def isomorphism_class(self, architecture: Architecture) -> str:
        """A text that architectures share exactly if a table of trained networks has one entry for them."""
        return self.format(architecture)

    def count(self) -> int:
        """How many architectures there are."""
        return math.prod(math.comb(len(c.rivals), c.keep) for c in self.choices)


def least(choice: Choice, allowed: Sequence[str], prices: Mapping[str, float]) -> tuple[str, ...]:
    """The allowed candidates that a choice keeps if it goes by price; the first ones of equals."""
    cheap = sorted(allowed, key=prices.__getitem__)[: choice.keep]
    return tuple(candidate for candidate in allowed if candidate in cheap)


def check_kept(choice: Choice, kept: tuple[str, ...]) -> None:
    """SpaceError unless ``kept`` is the right number of different candidates of ``choice``."""
    for candidate in kept:
        choice.position(candidate)
        if candidate in choice.never_kept:
            raise SpaceError(f"no architecture keeps '{candidate}' at {choice.name}.")
    if len(set(kept)) != choice.keep or len(kept) != choice.keep:
        raise SpaceError(f"{choice.name} keeps {choice.keep} of its candidates, not {list(kept)}.")
