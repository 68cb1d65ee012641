"""Planning: what P mixtures have in common is computed first, then the rest of each one.

Mixtures of one decision differ in one choice. With two edges in a row, of which the second is being decided, all values
up to the second edge are shared, and so is its sum up to the first summand that not all mixtures weigh alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from torch import nn

from zcpt.mixture import Mixture
from zcpt.scoring.fast.graph import WHOLE_NETWORK, FusedChain, Graph, ModulePlace, Value, WeightedSum
from zcpt.scoring.fast.kernels import Counts
from zcpt.scoring.fast.operations import Convolution, Zeros
from zcpt.scoring.fast.sums import compute_factor, merge_convolutions
from zcpt.supernet import Fixed, Mixed, Supernet, nothing_left_error

Factors = Mapping[Value, tuple[tuple[float, ...], ...]]
"""For each sum and each of its sources, the factors of its terms under one mixture."""
SummandRanges = Mapping[Value, tuple[int, int]]
"""Values to be computed; of a sum, the summands from the first index up to before the second."""
Step = tuple[Value, int | None]
"""A value to be computed; of a sum, the one summand to be added."""


class Instruction(NamedTuple):
    """One operation to compute; of a sum, the addition of one summand."""

    value: Value
    fused_summand: Value | None = None
    """The summand, where it is a chain that is computed while it is added."""
    weight: float = 1.0
    """Factor of a summand without convolution; 0 where nothing is added."""
    convolution: Convolution | None = None
    """Applied to the summand before it is added; it has the factor in its kernel."""
    completes: bool = True
    """Whether the value is complete afterwards; false for all summands but the last."""
    reads: tuple[Value, ...] = ()
    """Values that have to be in memory; of a sum at most one."""
    frees: tuple[Value, ...] = ()
    """Values that no later instruction reads."""

    def __str__(self) -> str:
        if not isinstance(self.value.op, WeightedSum):
            text = str(self.value)
        elif not self.reads:
            text = f"{self.value!r} += 0"
        else:
            summand = repr(self.reads[0])
            if self.fused_summand is not None:
                summand = f"{self.fused_summand.op}({summand})"
            if self.convolution is not None:
                summand = f"weighted {self.convolution}({summand})"
            text = f"{self.value!r} += {'' if self.weight == 1 else f'{self.weight:.4g}*'}{summand}"
        frees = f"free {', '.join(map(repr, self.frees))}" if self.frees else ""
        return f"{text:<68} {frees}".rstrip()


@dataclass(frozen=True)
class PlanPhase:
    """Instructions in their order."""

    instructions: tuple[Instruction, ...]
    counts: Mapping[Value, Counts]
    """Observed values that come up in the instructions, and how often each counts in each mixture."""

    def __str__(self) -> str:
        counted = ", ".join(f"{value!r} x {list(counts)}" for value, counts in self.counts.items())
        return "\n".join(f"  {line}" for line in (*self.instructions, f"count {counted or 'nothing'}"))


@dataclass(frozen=True)
class ExecutionPlan:
    """One phase that P mixtures share, and then one phase for each of them."""

    shared: PlanPhase
    own: tuple[PlanPhase, ...]

    def __str__(self) -> str:
        own = [f"mixture {index}:\n{phase}" for index, phase in enumerate(self.own)]
        return "\n".join([f"shared:\n{self.shared}", *own])


class Planner:
    """Makes plans for one network and one shape of batches.

    Args:
        net: The network.
        graph: Its graph, after all passes.
    """

    def __init__(self, net: nn.Module, graph: Graph) -> None:
        self.graph = graph
        self._net = net
        self._readers = graph.count_readers()
        self._steps = tuple(_order_steps(graph.values))
        self._merged: dict[tuple[Value, int, tuple[float, ...]], Convolution | None] = {}

    def plan(self, mixtures: Sequence[Mixture | None], share: bool = True) -> ExecutionPlan:
        """Plan the computation of P mixtures.

        Args:
            mixtures: P mixtures.
            share: Compute once what does not depend on how they differ, and keep it while it is needed. Sums are
                added up in the same order either way, so this changes no bit of a score.

        Raises:
            SpaceError: A mixture removes everything that a value could be computed from.
        """
        counted = [self.count_observed(mixture) for mixture in mixtures]
        factors = [self._compute_factors(mixture) for mixture in mixtures]
        needed = [self._find_needed(count, each) for count, each in zip(counted, factors, strict=True)]
        everything = set[Value]().union(*needed)
        varied = _find_varied_choices(mixtures)
        shared = {value for value in everything if value.choices.isdisjoint(varied)} if share else set[Value]()
        # Of a sum that is not shared as a whole, the leading summands may still be.
        prefixes = {v: _count_shared_summands(v, shared, factors) for v in everything - shared if v in factors[0]}
        kept = {self.graph.output, *(value for value, prefix in prefixes.items() if prefix)}
        kept.update(source for value in everything - shared for source in value.sources)
        ranges = {v: (0, len(v.sources)) for v in shared} | {v: (0, n) for v, n in prefixes.items() if n}
        observed = [v for v in set[Value]().union(*counted) if self.graph.computing_value(v) in shared]
        first = PlanPhase(
            tuple(self._make_instructions(ranges, factors[0], kept)),
            {value: tuple(count[value] for count in counted) for value in sorted(observed, key=_by_index)},
        )
        own = []
        for index, count in enumerate(counted):
            mine = needed[index] - shared
            ranges = {value: (prefixes.get(value, 0), len(value.sources)) for value in mine}
            instructions = tuple(self._make_instructions(ranges, factors[index], {self.graph.output} | shared))
            only_here = [int(i == index) for i in range(len(mixtures))]
            counts = {
                v: tuple(n * here for here in only_here)
                for v, n in count.items()
                if self.graph.computing_value(v) in mine
            }
            own.append(PlanPhase(instructions, counts))
        return ExecutionPlan(first, tuple(own))

    def count_observed(self, mixture: Mixture | None) -> Counter[Value]:
        """Count how often each observed value counts under a mixture.

        Raises:
            SpaceError: The mixture removes everything that a value could be computed from.
        """
        observed = self.graph.observed
        return Counter(chain.from_iterable(observed[place] for place in self._list_live_places(mixture)))

    def _list_live_places(self, mixture: Mixture | None) -> Iterator[ModulePlace]:
        if not isinstance(self._net, Supernet):
            yield WHOLE_NETWORK
            return
        mixture = mixture or self._net.initial_mixture()
        for step, reads in self._net.list_live_steps(mixture):
            if isinstance(step, Fixed):
                yield ModulePlace(step.out)
            elif isinstance(step, Mixed):
                row = mixture.weights[step.choice]
                if not any(row):
                    raise nothing_left_error(step.out)
                fed = step.fed_zeros if mixture.feed_zeros else ()
                yield from (ModulePlace(step.out, i, not weight) for i, weight in enumerate(row) if weight or i in fed)
            elif not reads:
                raise nothing_left_error(step.out)

    def _compute_factors(self, mixture: Mixture | None) -> Factors:
        rows = mixture.weights if mixture else {}
        return {
            value: tuple(tuple(compute_factor(term, rows) for term in terms) for terms in value.op.terms)
            for value in self.graph.values
            if isinstance(value.op, WeightedSum)
        }

    def _find_needed(self, observed: Counter[Value], factors: Factors) -> set[Value]:
        """Return the values that the output and the observed values depend on; summands of weight 0 are not needed."""
        needed = {self.graph.output, *map(self.graph.computing_value, observed)}
        for value in reversed(self.graph.values):
            if value in needed:
                weights = factors.get(value)
                needed.update(s for i, s in enumerate(value.sources) if weights is None or any(weights[i]))
        return needed

    def _make_instructions(self, ranges: SummandRanges, factors: Factors, kept: Set[Value]) -> Iterator[Instruction]:
        """Make the instructions that compute some values; all but the ``kept`` ones are freed after their last use."""
        instructions = list(self._order_instructions(ranges, factors))
        uses_left = Counter(source for instruction in instructions for source in instruction.reads)
        for instruction in instructions:
            for source in instruction.reads:
                uses_left[source] -= 1
            frees = [v for v in dict.fromkeys(instruction.reads) if not uses_left[v] and v not in kept]
            if instruction.completes and not uses_left[instruction.value] and instruction.value not in kept:
                frees.append(instruction.value)  # computed only because it is observed
            yield instruction._replace(frees=tuple(frees))

    def _order_instructions(self, ranges: SummandRanges, factors: Factors) -> Iterator[Instruction]:
        fused = {
            value.sources[position]
            for value, (start, stop) in ranges.items()
            if value in factors
            for position in range(start, stop)
            if any(factors[value][position])
            and value.sources[position] in ranges
            and self._is_fusible_summand(value.sources[position])
        }
        for value, position in self._steps:
            if value not in ranges or value in fused:
                continue
            if position is None:
                yield Instruction(value, reads=value.sources)
                continue
            start, stop = ranges[value]
            weights, is_last = factors[value][position], position == len(value.sources) - 1
            # The last summand gets an instruction also where it weighs 0: it completes the sum.
            if not start <= position < stop or not (any(weights) or is_last):
                continue
            source = value.sources[position]
            if not any(weights) or isinstance(source.op, Zeros):
                yield Instruction(value, weight=0.0, completes=is_last)
                continue
            convolution = self._merge_convolutions(value, position, weights)
            weight = weights[0] if convolution is None else 1.0
            if source in fused:
                yield Instruction(value, source, weight, convolution, is_last, source.sources)
            else:
                yield Instruction(value, None, weight, convolution, is_last, (source,))

    def _is_fusible_summand(self, source: Value) -> bool:
        """Return whether a summand is a chain without other readers, so that it can be added while it is computed."""
        return isinstance(source.op, FusedChain) and self._readers[source.index] == 1

    def _merge_convolutions(self, total: Value, position: int, weights: tuple[float, ...]) -> Convolution | None:
        # Kept: most sums have the same weights in all mixtures of a decision, and in the next decision too.
        key = (total, position, weights)
        if key not in self._merged:
            assert isinstance(total.op, WeightedSum)
            self._merged[key] = merge_convolutions(total.op.terms[position], weights, self.graph.dtype)
        return self._merged[key]


def _by_index(value: Value) -> int:
    return value.index


def _find_varied_choices(mixtures: Sequence[Mixture | None]) -> frozenset[str]:
    first = mixtures[0]
    if first is None:
        return frozenset()
    others = [mixture for mixture in mixtures[1:] if mixture is not None]
    return frozenset(c for c, row in first.weights.items() if any(m.weights[c] != row for m in others))


def _count_shared_summands(value: Value, shared: Set[Value], factors: Sequence[Factors]) -> int:
    """Count the leading summands of a sum that are shared values with the same factors under all mixtures.

    For example with sources (shared, shared, own, shared) it is 2: the last summand is added after the third, so that
    the order of additions, and with it every bit of the sum, is the same as without sharing.
    """
    for position, source in enumerate(value.sources):
        weights = {each[value][position] for each in factors}
        if len(weights) > 1 or (source not in shared and any(map(any, weights))):
            return position
    return len(value.sources)


def _order_steps(values: Sequence[Value]) -> Iterator[Step]:
    """Order the computation of values; each summand is added as soon as it and all those before it are complete.

    So a summand can be freed early, and several sums grow at the same time.
    """
    sums_of: dict[Value, list[Value]] = {}
    for value in values:
        if isinstance(value.op, WeightedSum):
            for source in set(value.sources):
                sums_of.setdefault(source, []).append(value)
    added = Counter[Value]()
    completed = set[Value]()

    def complete(value: Value) -> Iterator[Step]:
        completed.add(value)
        for total in sums_of.get(value, ()):
            while added[total] < len(total.sources) and total.sources[added[total]] in completed:
                yield total, added[total]
                added[total] += 1
            if added[total] == len(total.sources) and total not in completed:
                yield from complete(total)

    for value in values:
        if not isinstance(value.op, WeightedSum):
            yield value, None
            yield from complete(value)
