"""Replace the methods of mixers for a while: to read the weights that a network passes, or to give it others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from darts_space.nasbench201 import FED_ZEROS
from zcpt.compat.inspection import MixedEdge, Mixer
from zcpt.seeding import derive_seed

Row = tuple[float, ...]
"""Weights of all operations of an edge."""


@dataclass(frozen=True)
class MethodCall:
    """A call of a method of a mixer by its network."""

    number: int
    """Number of the mixer."""
    method: str
    arguments: inspect.BoundArguments

    @property
    def source(self) -> Tensor:
        """The input, which is the first argument."""
        x: Tensor = self.arguments.args[0]
        return x


Replacement = Callable[[MethodCall], Any]
"""Stands in for the methods of mixers."""


class MethodReplacer:
    """Replaces the methods of mixers.

    All methods whose names begin with 'forward' are replaced: AutoDL-Projects' cells have one for each way to sample
    operations (``forward_gdas``, ``forward_urs``, ...), and a mixture takes the place of the sampled operations.
    """

    def __init__(self, mixers: Sequence[Mixer]) -> None:
        self.mixers = mixers
        self._methods = [{name: getattr(mixer.module, name) for name in _list_methods(mixer)} for mixer in mixers]
        self._signatures = [
            {name: inspect.signature(method) for name, method in methods.items()} for methods in self._methods
        ]

    @contextmanager
    def replace_methods(self, replacement: Replacement) -> Iterator[None]:
        """Call ``replacement`` in place of the methods."""
        # Methods are put into the dictionary of the instance, where Python finds them before those of the class, so
        # that the class and other instances stay as they are. They go there directly: setattr would make torch's
        # nn.Module look for parameters and modules in them, and a user's class may have a __setattr__ of its own.
        # Entries that were there before (some code wraps ``forward`` per instance) are put back at the end.
        attributes = [vars(mixer.module) for mixer in self.mixers]
        earlier = [
            {name: own[name] for name in methods if name in own}
            for own, methods in zip(attributes, self._methods, strict=True)
        ]
        try:
            for number, (own, methods) in enumerate(zip(attributes, self._methods, strict=True)):
                own.update({name: partial(self._dispatch, replacement, number, name) for name in methods})
            yield
        finally:
            for own, methods, before in zip(attributes, self._methods, earlier, strict=True):
                for name in methods:
                    own.pop(name, None)
                own.update(before)

    def _dispatch(self, replacement: Replacement, number: int, method: str, /, *args: Any, **kwargs: Any) -> Any:
        return replacement(MethodCall(number, method, self._signatures[number][method].bind(*args, **kwargs)))

    def run(self, call: MethodCall) -> Any:
        """Run a call as it was made."""
        return self._methods[call.number][call.method](*call.arguments.args, **call.arguments.kwargs)

    def get_weights(self, call: MethodCall) -> Any:
        """Return the weights among the arguments of a call; None if the call has none."""
        if call.method != self.mixers[call.number].method:
            return None
        return call.arguments.arguments.get(self._get_weights_name(call.number))

    def mix(self, call: MethodCall, weights: Tensor) -> Any:
        """Add up the operations of a mixer with weights in place of those of the call."""
        mixing = self._methods[call.number][self.mixers[call.number].method]
        if self.get_weights(call) is None:
            # The call samples operations, or names one: SGAS passes no weights and the index of the operation for a
            # decided edge. Only the input is passed on, so that the weights decide.
            return mixing(call.source, weights)
        changed = {**call.arguments.arguments, self._get_weights_name(call.number): weights}
        arguments = inspect.BoundArguments(call.arguments.signature, changed)
        return mixing(*arguments.args, **arguments.kwargs)

    def _get_weights_name(self, number: int) -> str:
        # The first two parameters are input and weights in all code bases, under various names. Further ones are
        # passed on.
        _, name, *_ = self._signatures[number][self.mixers[number].method].parameters
        return name


def _list_methods(mixer: Mixer) -> list[str]:
    """Return the names of the methods by which a network runs a mixer."""
    names = sorted({name for name in dir(type(mixer.module)) if name.startswith("forward")} | {mixer.method})
    methods = {name: getattr(mixer.module, name) for name in names}
    return [
        name
        for name, method in methods.items()
        if callable(method) and getattr(method, "__func__", None) is not nn.Module.forward
    ]


class Steering:
    """Runs the mixers of a network with given weights: without the operations of weight 0.

    Args:
        replacer: Replaces the methods of the mixers.
        shapes: Shape [C, H, W] of the output of each mixer with one edge, by its number; filled where a shape is
            missing.
    """

    def __init__(self, replacer: MethodReplacer, shapes: dict[int, torch.Size]) -> None:
        self.shapes = shapes
        self._replacer = replacer
        self._active: set[int] = set()
        self._tensors: dict[tuple[Row, ...], Tensor] = {}

    @contextmanager
    def steer(self, rows: Sequence[Sequence[Row]], seed: int | None = None, feed_zeros: bool = False) -> Iterator[None]:
        """Give the mixers other weights for a while.

        Args:
            rows: Weights of all operations of the edges of each mixer.
            seed: Seed of the random numbers that operations draw; None leaves torch's generators alone.
            feed_zeros: Compute convolutions of weight 0 on zeros, as NAS-Bench-201's published search does.
        """
        with self._replacer.replace_methods(partial(self._run, rows, seed, feed_zeros)):
            yield

    def _run(self, rows: Sequence[Sequence[Row]], seed: int | None, feed_zeros: bool, call: MethodCall) -> Any:
        number, x = call.number, call.source
        if number in self._active:  # a method of the mixer that its own mixing method calls
            return self._replacer.run(call)
        mixer = self._replacer.mixers[number]
        kept = [_list_kept(edge, row, feed_zeros) for edge, row in zip(mixer.edges, rows[number], strict=True)]
        if mixer.rows is None and not kept[0]:
            # A sum over no operations would be the integer 0, which PC-DARTS cannot concatenate.
            return x.new_zeros(len(x), *self.shapes[number])
        weights = tuple(tuple(row[i] for i in indices) for row, indices in zip(rows[number], kept, strict=True))
        # One seed for each mixer: the numbers that random operations draw (DARTS-PT's 'noise' in space S4) must not
        # depend on which other edges and operations are present.
        reseed(seed, x.device, number)
        self._active.add(number)
        try:
            with _keep_operations(mixer.edges, kept, rows[number]):
                output = self._replacer.mix(call, self._make_tensor(mixer, weights, x))
        finally:
            self._active.discard(number)
        if isinstance(output, Tensor):
            self.shapes.setdefault(number, output.shape[1:])
        return output

    def _make_tensor(self, mixer: Mixer, weights: tuple[Row, ...], x: Tensor) -> Tensor:
        """Return the weights as the mixer expects them: [operations], or [edges, operations] padded by zeros."""
        if mixer.rows is not None:
            ordered: list[Row] = [()] * len(weights)
            for row, place in zip(weights, mixer.rows, strict=True):
                ordered[place] = row
            longest = max(map(len, ordered))
            weights = tuple(row + (0.0,) * (longest - len(row)) for row in ordered)
        # Cached: there are few distinct ones, and copying one to a GPU for every edge takes longer than some edges.
        if weights not in self._tensors:
            self._tensors[weights] = x.new_tensor(weights)
        tensor = self._tensors[weights]
        return tensor[0] if mixer.rows is None else tensor


def _list_kept(edge: MixedEdge, row: Row, feed_zeros: bool) -> list[int]:
    """Return the indices of the operations that run."""
    return [
        index
        for index, (name, weight) in enumerate(zip(edge.names, row, strict=True))
        if weight or (feed_zeros and name in FED_ZEROS)
    ]


class _FedZeros(nn.Module):
    """An operation that is computed on zeros; its weight is 0."""

    def __init__(self, operation: nn.Module) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.operation(x * 0)
        return output


@contextmanager
def _keep_operations(edges: Sequence[MixedEdge], kept: Sequence[Sequence[int]], rows: Sequence[Row]) -> Iterator[None]:
    """Shorten the lists of operations of some edges for a while."""
    # All code bases zip the weights with the list, so both are shortened. This, too, bypasses setattr.
    earlier = [edge.owner._modules[edge.attribute] for edge in edges]
    try:
        for edge, indices, row in zip(edges, kept, rows, strict=True):
            operations = edge.operations
            edge.owner._modules[edge.attribute] = nn.ModuleList(
                operations[index] if row[index] else _FedZeros(operations[index]) for index in indices
            )
        yield
    finally:
        for edge, operations_before in zip(edges, earlier, strict=True):
            edge.owner._modules[edge.attribute] = operations_before


def reseed(seed: int | None, device: torch.device, *purpose: int | str) -> None:
    """Seed torch's global generators, from which foreign operations draw; ``preserve`` restores them."""
    if seed is None:
        return
    derived = derive_seed(seed, *purpose)
    torch.default_generator.manual_seed(derived)
    if device.type == "mps":
        torch.mps.manual_seed(derived)
    elif device.type != "cpu":
        backend = getattr(torch, device.type)
        with backend.device(device):
            backend.manual_seed(derived)
