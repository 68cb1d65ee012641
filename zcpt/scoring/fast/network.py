"""A network as a graph: what its program computes, with the pieces that a mixture switches on and off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain

import torch
from torch import nn

from zcpt.mixture import Mixture
from zcpt.scoring.fast.graph import Chain, Graph, Mix, Piece, Term, Value, Weights
from zcpt.scoring.fast.lowering import joined
from zcpt.scoring.fast.operations import AveragePool, Call, Convolution, Join, Opaque, PerImage, Relu, Scale, Size
from zcpt.scoring.fast.sums import factor, flatten, merged
from zcpt.scoring.fast.trace import Watched, trace
from zcpt.supernet import Concat, Fixed, Mixed, Supernet, nothing_left_error, unequal_shapes_error

Place = tuple[str, int | None, bool]
"""A module's place in the program: its step, which candidate it is, and whether it is fed zeros."""
Factors = Mapping[Value, tuple[tuple[float, ...], ...]]
"""For each source of each sum, what its terms are multiplied by."""
_WHOLE: Place = ("", None, False)


class Network:
    """The graph of one network for batches of one shape.

    Args:
        net: In evaluation mode: a supernet, or any other network as one piece. Its weights are read once.
        shape: Of a batch.
        dtype: To compute in.
        device: To compute on.
        watched: Whether the input of a module is observed.
        feed_zeros: Whether mixtures have ``feed_zeros``.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: Size,
        dtype: torch.dtype,
        device: torch.device,
        watched: Watched,
        feed_zeros: bool = False,
    ) -> None:
        self.net, self.watched = net, watched
        self.graph = Graph(shape, dtype, device)
        self.pieces: dict[Place, Piece] = {}
        if isinstance(net, Supernet):
            self.output = self._program(net, feed_zeros)
        else:
            self.output = self._piece(_WHOLE, net, self.graph.images)
        self._simplify()
        self.schedule = tuple(_schedule(self.values))

    def _program(self, net: Supernet, feed_zeros: bool) -> Value:
        values = {net.IMAGES: self.graph.images}
        for step in net.program:
            if isinstance(step, Fixed):
                place = (step.out, None, False)
                values[step.out] = self._piece(place, net.get_submodule(step.out), values[step.source])
            elif isinstance(step, Mixed):
                values[step.out] = self._mixed(net, step, values[step.source], feed_zeros)
            elif isinstance(step, Concat):
                values[step.out] = joined(self.graph, [values[name] for name in step.sources])
            else:
                weights = tuple(((step.choice, i),) if step.choice else () for i in range(len(step.sources)))
                values[step.out] = self._sum(step.out, weights, [values[name] for name in step.sources])
        return values[net.program[-1].out]

    def _piece(self, place: Place, module: nn.Module, source: Value) -> Value:
        given = {"blocked": True} if place[2] else {}
        self.pieces[place] = trace(self.graph, module, source, self.watched, **given)
        return self.pieces[place].output

    def _mixed(self, net: Supernet, step: Mixed, source: Value, feed_zeros: bool) -> Value:
        modules = list(net.get_submodule(step.out).children())
        outputs = [self._piece((step.out, index, False), module, source) for index, module in enumerate(modules)]
        for index in step.fed_zeros if feed_zeros else ():
            self._piece((step.out, index, True), modules[index], source)
        return self._sum(step.out, tuple(((step.choice, index),) for index in range(len(outputs))), outputs)

    def _sum(self, name: str, weights: tuple[Weights, ...], sources: Sequence[Value]) -> Value:
        for source in sources:
            if source.shape != sources[0].shape:
                raise unequal_shapes_error(name, sources[0].shape, source.shape)
        return self.graph.add(Mix(tuple((Term(each),) for each in weights)), sources, sources[0].shape)

    def observed(self, mixture: Mixture | None) -> Counter[Value]:
        """How often each observed value counts under a mixture.

        Raises:
            SpaceError: The mixture removes everything that a value could be computed from.
        """
        return Counter(chain.from_iterable(self.pieces[place].observed for place in self._live(mixture)))

    def _live(self, mixture: Mixture | None) -> Iterator[Place]:
        if not isinstance(self.net, Supernet):
            yield _WHOLE
            return
        mixture = mixture or self.net.initial_mixture()
        for step, reads in self.net.list_live_steps(mixture):
            if isinstance(step, Fixed):
                yield step.out, None, False
            elif isinstance(step, Mixed):
                row = mixture.weights[step.choice]
                if not any(row):
                    raise nothing_left_error(step.out)
                fed = step.fed_zeros if mixture.feed_zeros else ()
                yield from ((step.out, i, not w) for i, w in enumerate(row) if w or i in fed)
            elif not reads:
                raise nothing_left_error(step.out)

    def factors(self, mixture: Mixture | None) -> Factors:
        """What the terms of each sum are multiplied by under a mixture."""
        rows = mixture.weights if mixture else {}
        return {
            value: tuple(tuple(factor(term, rows) for term in terms) for terms in value.op.terms)
            for value in self.values
            if isinstance(value.op, Mix)
        }

    def needed(self, observed: Iterable[Value], factors: Factors) -> set[Value]:
        """All values that the output and what is observed depend on."""
        found = {self.output, *map(self.holder, observed)}
        for value in reversed(self.values):
            if value in found:
                weights = factors.get(value)
                found.update(s for i, s in enumerate(value.sources) if weights is None or any(weights[i]))
        return found

    def through(self, total: Value, position: int, weights: tuple[float, ...]) -> Convolution | None:
        """The convolution that a summand goes through, its weights included; None where there is none."""
        key = (total, position, weights)
        if key not in self._through:
            assert isinstance(total.op, Mix)
            self._through[key] = merged(total.op.terms[position], weights, self.graph.dtype)
        return self._through[key]

    def adds_at_once(self, total: Value, position: int) -> bool:
        """Whether a summand is a chain that nobody else reads, so that it can be added while it is computed."""
        source = total.sources[position]
        return isinstance(source.op, Chain) and self._readers_of[source] == 1

    def holder(self, value: Value) -> Value:
        """The value in whose computation this one comes up: itself, or that of its chain."""
        return self._holder.get(value, value)

    @property
    def per_image(self) -> bool:
        """Whether all that is done to an image is known not to depend on what other images there are."""
        return all(v.op.per_image if isinstance(v.op, Call) else not isinstance(v.op, Opaque) for v in self.values)

    def _simplify(self) -> None:
        relus = {value.sources[0]: value for value in self.graph.values if isinstance(value.op, Relu)}

        def instead(value: Value) -> Iterator[Value]:
            """What tells the same: the parts of what is joined, and a ReLU's output, which is positive where it is."""
            if isinstance(value.op, Join):
                yield from chain.from_iterable(map(instead, value.sources))
            else:
                yield relus.get(value, value)

        self.pieces = {
            place: replace(piece, observed=tuple(chain.from_iterable(map(instead, piece.observed))))
            for place, piece in self.pieces.items()
        }
        observed = set(chain.from_iterable(piece.observed for piece in self.pieces.values()))
        values = self._reached(observed)
        readers = self._readers(values) + Counter(observed)
        for value in values:
            _fold(value, readers)
        values = self._reached(observed)
        for value in values:
            if isinstance(value.op, Convolution | Scale):
                value.op = value.op.to(self.graph.dtype)
        self._holder: dict[Value, Value] = {}
        self._through: dict[tuple[Value, int, tuple[float, ...]], Convolution | None] = {}
        self._chain(values, observed)
        self.values = [value for value in values if self.holder(value) is value]

    def _chain(self, values: Sequence[Value], observed: Set[Value]) -> None:
        """Join operations on single images that follow each other and that nobody else reads."""
        readers = self._readers_of = self._readers(values)
        added = {source for value in values if isinstance(value.op, Mix) for source in value.sources}
        for value in values:
            if not isinstance(value.op, PerImage):
                continue
            (source,) = value.sources
            if readers[source] == 1 and isinstance(source.op, Chain | PerImage):
                before = source.op.links if isinstance(source.op, Chain) else ((source.op, source),)
                value.op, value.sources = Chain((*before, (value.op, value))), source.sources
                self._holder.update((link, value) for _, link in value.op.links)
            elif value in observed or (value in added and readers[value] == 1):
                # Alone in its chain: its signs are taken, or it is added, while it is at hand.
                value.op = Chain(((value.op, value),))

    def _readers(self, values: Iterable[Value]) -> Counter[Value]:
        return Counter(chain([self.output], chain.from_iterable(value.sources for value in values)))

    def _reached(self, observed: Iterable[Value]) -> list[Value]:
        reached = {self.output, *observed}
        for value in reversed(self.graph.values):
            if value in reached:
                reached.update(value.sources)
        return [value for value in self.graph.values if value in reached]


def _fold(value: Value, readers: Counter[Value]) -> None:
    """Join a value with what it alone reads, where one operation can do both."""
    if isinstance(value.op, Mix):
        flatten(value, readers)
    elif len(value.sources) == 1 and readers[value.sources[0]] == 1:
        (source,) = value.sources
        if isinstance(value.op, Scale) and isinstance(source.op, Convolution):
            value.op, value.sources = source.op.scaled(value.op.scale, value.op.shift), source.sources
        elif isinstance(value.op, Relu) and isinstance(source.op, AveragePool | Convolution | Scale):
            value.op = Relu(value.op.top, in_place=True)


def _schedule(values: Sequence[Value]) -> Iterator[tuple[Value, int | None]]:
    """In which order to compute the values; of a sum each summand comes as soon as it and those before it are there."""
    sums: dict[Value, list[Value]] = {}
    for value in values:
        if isinstance(value.op, Mix):
            for source in set(value.sources):
                sums.setdefault(source, []).append(value)
    added, done = Counter[Value](), set[Value]()

    def finish(value: Value) -> Iterator[tuple[Value, int | None]]:
        done.add(value)
        for total in sums.get(value, ()):
            while added[total] < len(total.sources) and total.sources[added[total]] in done:
                yield total, added[total]
                added[total] += 1
            if added[total] == len(total.sources) and total not in done:
                yield from finish(total)

    for value in values:
        if not isinstance(value.op, Mix):
            yield value, None
            yield from finish(value)
