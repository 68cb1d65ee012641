"""Building the graph of a network: one value for everything that its modules compute."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zcpt.scoring.fast.graph import (
    WHOLE_NETWORK,
    Graph,
    GraphBuilder,
    MixtureWeights,
    ModulePlace,
    Term,
    Value,
    WeightedSum,
)
from zcpt.scoring.fast.lowering import concatenate
from zcpt.scoring.fast.operations import TensorShape
from zcpt.scoring.fast.trace import IsWatched, trace_module
from zcpt.supernet import Concat, Fixed, Mixed, Supernet, unequal_shapes_error


def build_graph(
    net: nn.Module,
    shape: TensorShape,
    dtype: torch.dtype,
    device: torch.device,
    is_watched: IsWatched,
    feed_zeros: bool = False,
) -> Graph:
    """Build the graph of a network, with all candidates of every choice.

    Args:
        net: A supernet, or any other network as one module; in evaluation mode. Its weights are read once.
        shape: Shape of a batch, [B, C, H, W].
        dtype: Type to compute in.
        device: Device to compute on.
        is_watched: Predicate of the modules whose inputs the proxy observes.
        feed_zeros: Whether the mixtures that will be scored have ``feed_zeros``.

    Raises:
        SpaceError: The candidates of a choice give tensors of different shapes.
    """
    program = _ProgramBuilder(GraphBuilder(shape, dtype, device), is_watched)
    if isinstance(net, Supernet):
        output = program.add_program(net, feed_zeros)
    else:
        output = program.add_module(WHOLE_NETWORK, net, program.builder.images)
    return Graph(tuple(program.builder.values), output, program.observed, dtype)


class _ProgramBuilder:
    def __init__(self, builder: GraphBuilder, is_watched: IsWatched) -> None:
        self.builder = builder
        self.is_watched = is_watched
        self.observed: dict[ModulePlace, tuple[Value, ...]] = {}

    def add_program(self, net: Supernet, feed_zeros: bool) -> Value:
        values = {net.IMAGES: self.builder.images}
        for step in net.program:
            if isinstance(step, Fixed):
                module = net.get_submodule(step.out)
                values[step.out] = self.add_module(ModulePlace(step.out), module, values[step.source])
            elif isinstance(step, Mixed):
                values[step.out] = self._add_mixed(net, step, values[step.source], feed_zeros)
            elif isinstance(step, Concat):
                values[step.out] = concatenate(self.builder, [values[name] for name in step.sources])
            else:
                weights = tuple(((step.choice, i),) if step.choice else () for i in range(len(step.sources)))
                values[step.out] = self._add_sum(step.out, weights, [values[name] for name in step.sources])
        return values[net.program[-1].out]

    def add_module(self, place: ModulePlace, module: nn.Module, source: Value) -> Value:
        arguments = {"blocked": True} if place.is_fed_zeros else {}
        traced = trace_module(self.builder, module, source, self.is_watched, **arguments)
        self.observed[place] = traced.observed
        return traced.output

    def _add_mixed(self, net: Supernet, step: Mixed, source: Value, feed_zeros: bool) -> Value:
        modules = list(net.get_submodule(step.out).children())
        outputs = [self.add_module(ModulePlace(step.out, i), module, source) for i, module in enumerate(modules)]
        # The output of a candidate that is fed zeros is in no sum: only its observed values count.
        for index in step.fed_zeros if feed_zeros else ():
            self.add_module(ModulePlace(step.out, index, is_fed_zeros=True), modules[index], source)
        return self._add_sum(step.out, tuple(((step.choice, index),) for index in range(len(outputs))), outputs)

    def _add_sum(self, name: str, weights: tuple[MixtureWeights, ...], sources: Sequence[Value]) -> Value:
        for source in sources:
            if source.shape != sources[0].shape:
                raise unequal_shapes_error(name, sources[0].shape, source.shape)
        return self.builder.add(WeightedSum(tuple((Term(each),) for each in weights)), sources, sources[0].shape)
