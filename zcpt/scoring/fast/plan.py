"""What has to be done to score P mixtures: what they share first, then what each one has of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from zcpt.mixture import Mixture
from zcpt.scoring.fast.graph import Value
from zcpt.scoring.fast.network import Factors, Network
from zcpt.scoring.fast.operations import Zeros

Times = Mapping[Value, tuple[int, ...]]
"""How often an observed value counts in each mixture."""
Spans = Mapping[Value, tuple[int, int]]
"""Values to be computed; of a sum, the summands from one to before the other."""


class Task(NamedTuple):
    """One operation; or, of a sum, one summand."""

    value: Value
    position: int | None
    """Of the summand."""
    weight: float
    """Of the summand."""
    ends: bool
    """Whether the value is there afterwards."""
    reads: tuple[Value, ...]
    frees: tuple[Value, ...]
    """What nobody reads any more."""


@dataclass(frozen=True)
class Phase:
    """Tasks in their order."""

    tasks: tuple[Task, ...]
    times: Times
    """Of what comes up in them."""


@dataclass(frozen=True)
class Plan:
    """What P mixtures share, and then one phase for each of them."""

    shared: Phase
    own: tuple[Phase, ...]


def plan(network: Network, mixtures: Sequence[Mixture | None], share: bool = True) -> Plan:
    """Plan how to score mixtures.

    Args:
        network: What is scored.
        mixtures: P mixtures.
        share: Compute once what does not depend on how they differ; it is then kept as long as it is needed.
            Sums are taken in the same order either way, so this changes no bit.
    """
    counts = [network.observed(mixture) for mixture in mixtures]
    factors = [network.factors(mixture) for mixture in mixtures]
    needed = [network.needed(count, each) for count, each in zip(counts, factors, strict=True)]
    varied = _varied(mixtures)
    everything = set[Value]().union(*needed)
    shared = {value for value in everything if value.choices.isdisjoint(varied)} if share else set[Value]()
    heads = {v: _head(v, shared, factors) for v in everything - shared if v in factors[0]}
    kept = {network.output, *(value for value, head in heads.items() if head)}
    kept.update(source for value in everything - shared for source in value.sources)
    spans = {v: (0, len(v.sources)) for v in shared} | {v: (0, head) for v, head in heads.items() if head}
    observed = [value for value in set[Value]().union(*counts) if network.holder(value) in shared]
    first = Phase(
        tuple(_tasks(network, spans, factors[0], kept)),
        {value: tuple(count[value] for count in counts) for value in observed},
    )
    own = []
    for index, count in enumerate(counts):
        mine = needed[index] - shared
        spans = {value: (heads.get(value, 0), len(value.sources)) for value in mine}
        tasks = tuple(_tasks(network, spans, factors[index], {network.output} | shared))
        alone = [int(i == index) for i in range(len(mixtures))]
        times = {v: tuple(n * i for i in alone) for v, n in count.items() if network.holder(v) in mine}
        own.append(Phase(tasks, times))
    return Plan(first, tuple(own))


def _varied(mixtures: Sequence[Mixture | None]) -> frozenset[str]:
    """The choices in which mixtures differ."""
    first = mixtures[0]
    if first is None:
        return frozenset()
    others = [mixture for mixture in mixtures[1:] if mixture is not None]
    return frozenset(c for c, row in first.weights.items() if any(m.weights[c] != row for m in others))


def _head(value: Value, shared: Set[Value], factors: Sequence[Factors]) -> int:
    """How many summands, from the first one on, are the same for all mixtures."""
    for position, source in enumerate(value.sources):
        weights = {each[value][position] for each in factors}
        if len(weights) > 1 or (source not in shared and weights != {0.0}):
            return position
    return len(value.sources)


def _tasks(network: Network, spans: Spans, factors: Factors, kept: Set[Value]) -> Iterator[Task]:
    """The tasks that compute values."""
    todo: list[tuple[Value, int | None, float, bool, tuple[Value, ...]]] = []
    for value, position in network.schedule:
        if value not in spans:
            continue
        if position is None:
            todo.append((value, None, 1.0, True, value.sources))
            continue
        start, stop = spans[value]
        weight, last = factors[value][position], position == len(value.sources) - 1
        if start <= position < stop and (weight or last):
            source = value.sources[position]
            read = (source,) if weight and not isinstance(source.op, Zeros) else ()
            todo.append((value, position, weight, last, read))
    left = Counter(source for *_, reads in todo for source in reads)
    for value, position, weight, ends, reads in todo:
        for source in reads:
            left[source] -= 1
        gone = [source for source in dict.fromkeys(reads) if not left[source] and source not in kept]
        if ends and not left[value] and value not in kept:
            gone.append(value)
        yield Task(value, position, weight, ends, reads, tuple(gone))
