"""The graph of a network: every tensor that it computes is one frozen value.

``build.build_graph`` makes a graph, the passes of ``rewrite`` return new ones, and ``plan.Planner`` reads the last one.
``str()`` of a graph lists its values; docs/engine.md walks through an example.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zcpt.scoring.fast.kernels import write_signs
from zcpt.scoring.fast.operations import Convolution, FunctionCall, OpaqueModule, TensorOp, TensorShape, compute_into

MixtureWeights = tuple[tuple[str, int], ...]
"""Candidates (choice, index) by whose weights a summand is multiplied."""


class ModulePlace(NamedTuple):
    """Place of a module in a supernet's program."""

    step: str
    """Name of the step's value; empty for a network that is one module."""
    candidate: int | None = None
    """Index among the candidates of a mixed step."""
    is_fed_zeros: bool = False

    def __str__(self) -> str:
        candidate = "" if self.candidate is None else f"[{self.candidate}]"
        return f"{self.step or 'network'}{candidate}{' on zeros' if self.is_fed_zeros else ''}"


WHOLE_NETWORK = ModulePlace("")


@dataclass(frozen=True, eq=False, repr=False)
class Value:
    """A tensor that a network computes. Values are compared by identity; sources come before their readers."""

    index: int
    """Number in listings; passes keep it, so that a value can be followed from graph to graph."""
    op: TensorOp
    sources: tuple[Value, ...]
    shape: TensorShape
    choices: frozenset[str]
    """Names of the choices whose mixture weights the value depends on."""

    def __repr__(self) -> str:
        return f"%{self.index}"

    def __str__(self) -> str:
        names = [repr(source) for source in self.sources]
        text = self.op.format(names) if isinstance(self.op, WeightedSum) else f"{self.op}({', '.join(names)})"
        return f"{self!r} = {text}"

    @property
    def units(self) -> int:
        """Number of elements for one image."""
        return math.prod(self.shape[1:])


@dataclass(frozen=True, eq=False)
class InputImages:
    """The batch."""

    def __call__(self, *sources: Tensor) -> Tensor:
        raise AssertionError("the images are an input and are not computed")

    def __str__(self) -> str:
        return "images"


@dataclass(frozen=True, eq=False)
class Term:
    """A factor, and perhaps a convolution, that is applied to a source before it is added to a sum."""

    mixture_weights: MixtureWeights = ()
    constant: float = 1.0
    """A further factor, the same under every mixture."""
    convolution: Convolution | None = None

    def format(self, source: str) -> str:
        """Return the term applied to a source as text, such as ``edge[1]*conv1x1(%3)``."""
        factors = [f"{choice}[{index}]" for choice, index in self.mixture_weights]
        if self.constant != 1:
            factors.insert(0, f"{self.constant:.4g}")
        return "*".join([*factors, source if self.convolution is None else f"{self.convolution}({source})"])


@dataclass(frozen=True, eq=False)
class WeightedSum:
    """A sum weighted by the mixture, always added up in the order of its sources."""

    terms: tuple[tuple[Term, ...], ...]
    """Terms of each source. Several terms of one source are convolutions that can be merged into one."""

    def __call__(self, *sources: Tensor) -> Tensor:
        raise AssertionError("a weighted sum is added up by the executor, which has the mixture's weights")

    def format(self, names: Sequence[str]) -> str:
        """Return the sum of named sources as text; terms in brackets are one merged convolution."""
        parts = []
        for name, terms in zip(names, self.terms, strict=True):
            text = " + ".join(term.format(name) for term in terms)
            parts.append(text if len(terms) == 1 else f"[{text}]")
        return " + ".join(parts)


@dataclass(frozen=True, eq=False)
class FusedChain:
    """Operations on single images that follow each other and whose intermediate results nothing else reads.

    They are computed for a few images at a time: intermediate results stay in the processor's cache and never exist
    for the whole batch.
    """

    links: tuple[Value, ...]
    """The fused values, as they were in the graph before: each has its operation, and is what a proxy observes."""

    def __call__(self, *sources: Tensor) -> Tensor:
        return self.compute_whole(sources[0], {})

    def __str__(self) -> str:
        return f"chain[{' > '.join(f'{link!r} {link.op}' for link in self.links)}]"

    def compute_whole(self, source: Tensor, signs: Mapping[Value, Tensor]) -> Tensor:
        """Compute the chain for all images; ``signs`` as for ``compute_parts``."""
        is_one_part = len(list(split_into_slices(source, self.units))) == 1
        output = None if is_one_part else empty_like_layout((len(source), *self.links[-1].shape[1:]), source)
        parts = [x for _, x in self.compute_parts(source, signs, output)]
        return parts[0] if output is None else output

    def compute_parts(
        self, source: Tensor, signs: Mapping[Value, Tensor], output: Tensor | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Compute the chain for a few images after the other.

        Args:
            source: Tensor that the chain reads.
            signs: int8 [B, units] for some of the links, into which it is written which units are positive.
            output: Tensor that the results are written into.

        Yields:
            The images as a slice, and the chain's result for them.
        """
        *inner, last = self.links
        for images in split_into_slices(source, self.units):
            x = source[images]
            for link in inner:
                x = link.op(x)
                # At once, while it is in the cache, and before a ReLU behind it overwrites it.
                if link in signs:
                    write_signs(x, signs[link][images])
            x = last.op(x) if output is None else compute_into(output[images], last.op, x)
            if last in signs:
                write_signs(x, signs[last][images])
            yield images, x

    @property
    def units(self) -> int:
        """Number of elements of the largest link, for one image."""
        return max(link.units for link in self.links)


_CACHE_BYTES = 2**20
"""Bytes of one tensor that are assumed to stay in a core's cache, beside its predecessor and its successor."""


def images_per_slice(batch: int, units: int, element_size: int) -> int:
    """Return how many images of so many units, with so many bytes each, a processor computes at a time."""
    return min(batch, max(1, _CACHE_BYTES // (element_size * units)))


def split_into_slices(x: Tensor, units: int) -> Iterator[slice]:
    """Iterate over the images of a tensor, as many as are computed at a time; on a GPU all at once."""
    step = images_per_slice(len(x), units, x.element_size()) if x.device.type == "cpu" else len(x)
    return (slice(start, start + step) for start in range(0, len(x), step))


def empty_like_layout(shape: TensorShape, like: Tensor) -> Tensor:
    """Allocate a tensor with the dtype, device and memory format of another one."""
    is_channels_last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if is_channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


@dataclass(frozen=True, eq=False)
class Graph:
    """The values of one network for batches of one shape."""

    values: tuple[Value, ...]
    """All values that the output or the proxy depends on, each after its sources."""
    output: Value
    """The logits."""
    observed: Mapping[ModulePlace, tuple[Value, ...]]
    """Inputs of the modules that the proxy watches, once for each time that one of them runs."""
    dtype: torch.dtype
    """Type to compute in."""
    chains: Mapping[Value, Value] = field(default_factory=dict)
    """For each link of a ``FusedChain``, which is no value of this graph any more, the value that computes it."""

    def computing_value(self, value: Value) -> Value:
        """Return the value of this graph in whose computation another one comes up: itself, or that of its chain."""
        return self.chains.get(value, value)

    def list_observed(self) -> dict[Value, None]:
        """Return all observed values, each once, in a fixed order."""
        return dict.fromkeys(chain.from_iterable(self.observed.values()))

    def count_readers(self) -> Counter[int]:
        """Count by value index how many sources of other values it is; the output has one reader more."""
        sources = chain.from_iterable(value.sources for value in self.values)
        return Counter(value.index for value in chain([self.output], sources))

    @property
    def is_per_image(self) -> bool:
        """Whether the results for an image are known not to depend on the other images of the batch."""
        return all(
            v.op.is_per_image if isinstance(v.op, FunctionCall) else not isinstance(v.op, OpaqueModule)
            for v in self.values
        )

    def __str__(self) -> str:
        lines = [f"{value!s:<68} {list(value.shape)}" for value in self.values]
        seen = [f"{place}: {', '.join(map(repr, values))}" for place, values in self.observed.items() if values]
        return "\n".join([*lines, f"output {self.output!r}", f"observed {'; '.join(seen)}"])


class GraphBuilder:
    """Collects the values of a graph while a network is traced; equal operations on equal sources are one value."""

    def __init__(self, shape: TensorShape, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device
        self.values: list[Value] = []
        self._by_identity: dict[Any, Value] = {}
        self.images = self.add(InputImages(), (), shape)

    def add(self, op: TensorOp, sources: Sequence[Value], shape: TensorShape, key: object = None) -> Value:
        """Return the value of an operation, which is a new one unless there is an equal one.

        Args:
            op: The operation.
            sources: Values that it reads.
            shape: Shape of its result.
            key: Operations with equal keys on the same sources give the same result; None equals no other.
        """
        identity = (key, tuple(source.index for source in sources))
        if key is not None and identity in self._by_identity:
            return self._by_identity[identity]
        choices = frozenset[str]().union(*(source.choices for source in sources))
        if isinstance(op, WeightedSum):
            choices |= {choice for terms in op.terms for term in terms for choice, _ in term.mixture_weights}
        value = Value(len(self.values), op, tuple(sources), shape, choices)
        self.values.append(value)
        self._by_identity[identity] = value
        return value
