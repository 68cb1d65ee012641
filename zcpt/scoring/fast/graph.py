"""What a network computes, as a graph of values; a value that several read is computed once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zcpt.scoring.fast.kernels import positive
from zcpt.scoring.fast.operations import Convolution, Op, PerImage, Size, into

Weights = tuple[tuple[str, int], ...]
"""Candidates (choice, index) by whose weights something is multiplied."""


@dataclass(eq=False, repr=False)
class Value:
    """A tensor that a network computes; values come after those that they read."""

    index: int
    op: Op
    sources: tuple[Value, ...]
    shape: Size
    choices: frozenset[str]
    """The choices on which it depends."""

    def __repr__(self) -> str:
        return f"{self.index} = {type(self.op).__name__}{tuple(source.index for source in self.sources)}"

    @property
    def units(self) -> int:
        """How many numbers it has for each image."""
        return math.prod(self.shape[1:])


@dataclass(frozen=True, eq=False)
class Images:
    """The batch."""

    def __call__(self, *sources: Tensor) -> Tensor:
        raise AssertionError("the images are given")


@dataclass(frozen=True, eq=False)
class Term:
    """What becomes of a source before it is added."""

    weighed_by: Weights = ()
    constant: float = 1.0
    """Another factor, whatever the mixture is."""
    through: Convolution | None = None
    """A convolution that it goes through first."""


@dataclass(frozen=True, eq=False)
class Mix:
    """A sum weighted by the mixture, taken in the order of its sources."""

    terms: tuple[tuple[Term, ...], ...]
    """For each source. Several terms go through convolutions that are one together, each with its factor."""

    def __call__(self, *sources: Tensor) -> Tensor:
        raise AssertionError("a mix needs weights")


@dataclass(frozen=True, eq=False)
class Chain:
    """Operations on single images that follow each other, and whose results in between nobody else reads.

    They are done for a few images at a time: what is in between stays in the processor's cache, and never exists as
    a whole.
    """

    links: tuple[tuple[PerImage, Value], ...]
    """Each operation, and the value that it gives."""

    def __call__(self, *sources: Tensor) -> Tensor:
        return self.whole(sources[0], {})

    def whole(self, source: Tensor, signs: Mapping[Value, Tensor]) -> Tensor:
        """Compute it for all images; ``signs`` as for ``parts``."""
        at_once = len(list(slices(source, self.units))) == 1
        output = None if at_once else empty((len(source), *self.links[-1][1].shape[1:]), source)
        parts = [x for _, x in self.parts(source, signs, output)]
        return parts[0] if output is None else output

    def parts(
        self, source: Tensor, signs: Mapping[Value, Tensor], output: Tensor | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Compute it for a few images after the other.

        Args:
            source: What the chain reads.
            signs: For some of the values, where it is written, into int8 [B, units], which units are positive.
            output: Where what the chain gives is written.

        Yields:
            Which images, and what the chain gives for them.
        """
        *before, last = self.links
        for images in slices(source, self.units):
            x = source[images]
            for op, value in before:
                x = op(x)
                if value in signs:
                    positive(x, signs[value][images])
            op, value = last
            x = op(x) if output is None else into(output[images], op, x)
            if value in signs:
                positive(x, signs[value][images])
            yield images, x

    @property
    def units(self) -> int:
        """Of the largest value, for each image."""
        return max(value.units for _, value in self.links)


def at_a_time(batch: int, units: int, element: int) -> int:
    """How many images of so many units a processor does at a time, with so many bytes for a number."""
    return min(batch, max(1, _CACHED // (element * units)))


def slices(x: Tensor, units: int) -> Iterator[slice]:
    """The images of a tensor, as many as are done at a time."""
    step = at_a_time(len(x), units, x.element_size()) if x.device.type == "cpu" else len(x)
    return (slice(start, start + step) for start in range(0, len(x), step))


def empty(shape: Size, like: Tensor) -> Tensor:
    """Room for a tensor in the layout of another one."""
    last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


_CACHED = 2**20
"""Bytes of a tensor that a processor's cores are supposed to keep at hand, beside those before and behind it."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A module of the network in its place: what it gives, and what a proxy watches in it."""

    output: Value
    observed: tuple[Value, ...]
    """The input of each watched module, once for each time that it runs."""


class Graph:
    """The values of one network for batches of one shape. What is added twice is one value."""

    def __init__(self, shape: Size, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.values: list[Value] = []
        self._known: dict[Any, Value] = {}
        self.images = self.add(Images(), (), shape)

    def add(self, op: Op, sources: Sequence[Value], shape: Size, key: object = None) -> Value:
        """The value of an operation.

        Args:
            op: The operation.
            sources: What it reads.
            shape: Of what it gives.
            key: Operations of equal keys on the same sources give the same; None equals no other.
        """
        identity = (key, tuple(source.index for source in sources))
        if key is not None and identity in self._known:
            return self._known[identity]
        choices = frozenset[str]().union(*(source.choices for source in sources))
        if isinstance(op, Mix):
            choices |= {choice for terms in op.terms for term in terms for choice, _ in term.weighed_by}
        value = Value(len(self.values), op, tuple(sources), shape, choices)
        self.values.append(value)
        self._known[identity] = value
        return value
