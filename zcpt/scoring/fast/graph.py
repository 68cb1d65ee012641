"""What a network computes, as a graph of values; a value that several read is computed once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zcpt.scoring.fast.kernels import positive
from zcpt.scoring.fast.operations import Op, PerImage, Size

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
class Mix:
    """A sum weighted by the mixture, taken in the order of its sources."""

    weighed_by: tuple[Weights, ...]
    """For each source."""
    constants: tuple[float, ...]
    """For each source another factor, whatever the mixture is."""

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
        return self.run(sources[0], {})

    def run(self, source: Tensor, signs: Mapping[Value, Tensor]) -> Tensor:
        """Compute it, and write for some of the values, into int8 [B, units], which units are positive."""
        outputs = []
        step = self.images(len(source), source.element_size()) if source.device.type == "cpu" else len(source)
        for start in range(0, len(source), step):
            x = source[start : start + step]
            for op, value in self.links:
                x = op(x)
                if value in signs:
                    signs[value][start : start + step] = positive(x)
            outputs.append(x)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def images(self, batch: int, element: int) -> int:
        """How many images of a batch a processor does at a time, with so many bytes for a number."""
        return min(batch, max(1, _CACHED // (element * max(value.units for _, value in self.links))))


_CACHED = 2**21
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
            choices |= {choice for weights in op.weighed_by for choice, _ in weights}
        value = Value(len(self.values), op, tuple(sources), shape, choices)
        self.values.append(value)
        self._known[identity] = value
        return value
