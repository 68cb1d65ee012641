"""What has to be done to score P mixtures: what they share first, then what each one has of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from zcpt.mixture import Mixture
from zcpt.scoring.fast.graph import Value
from zcpt.scoring.fast.network import Factors, Network
from zcpt.scoring.fast.operations import Convolution, Zeros

Times = Mapping[Value, tuple[int, ...]]
"""How often an observed value counts in each mixture."""
Spans = Mapping[Value, tuple[int, int]]
"""Values to be computed; of a sum, the summands from one to before the other."""


class Task(NamedTuple):
    """One operation; or, of a sum, one summand."""

    value: Value
    chain: Value | None
    """The summand, where it is computed in this task too."""
    weight: float
    """Of the summand."""
    through: Convolution | None
    """What the summand goes through first; it has the weight in it."""
    ends: bool
    """Whether the value is there afterwards."""
    reads: tuple[Value, ...]
    """Of a sum, the one that makes the summand; none where nothing is left of it."""
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
        if len(weights) > 1 or (source not in shared and any(map(any, weights))):
            return position
    return len(value.sources)


def _tasks(network: Network, spans: Spans, factors: Factors, kept: Set[Value]) -> Iterator[Task]:
    """The tasks that compute values."""
    todo = list(_ungathered(network, spans, factors))
    left = Counter(source for task in todo for source in task.reads)
    for task in todo:
        for source in task.reads:
            left[source] -= 1
        gone = [source for source in dict.fromkeys(task.reads) if not left[source] and source not in kept]
        if task.ends and not left[task.value] and task.value not in kept:
            gone.append(task.value)
        yield task._replace(frees=tuple(gone))


def _ungathered(network: Network, spans: Spans, factors: Factors) -> Iterator[Task]:
    """The tasks that compute values; nothing is freed."""
    at_once = {
        value.sources[position]
        for value, (start, stop) in spans.items()
        if value in factors
        for position in range(start, stop)
        if any(factors[value][position]) and value.sources[position] in spans and network.adds_at_once(value, position)
    }
    for value, position in network.schedule:
        if value not in spans or value in at_once:
            continue
        if position is None:
            yield Task(value, None, 1.0, None, True, value.sources, ())
            continue
        start, stop = spans[value]
        weights, last = factors[value][position], position == len(value.sources) - 1
        if not start <= position < stop or not (any(weights) or last):
            continue
        source = value.sources[position]
        if not any(weights) or isinstance(source.op, Zeros):
            yield Task(value, None, 0.0, None, last, (), ())
            continue
        through = network.through(value, position, weights)
        chain, reads = (source, source.sources) if source in at_once else (None, (source,))
        yield Task(value, chain, weights[0] if through is None else 1.0, through, last, reads, ())
