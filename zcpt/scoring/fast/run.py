"""Carrying out a plan on one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from zcpt.scoring.fast.graph import Chain, Images, Mix, Value, empty, slices
from zcpt.scoring.fast.kernels import Count
from zcpt.scoring.fast.operations import Opaque, Zeros
from zcpt.scoring.fast.plan import Phase, Plan, Task, Times
from zcpt.scoring.fast.sums import add_to


class Run:
    """The computation of P networks: first what they share, then each one's own.

    Args:
        plan: What to do.
        output: The value whose numbers have to be finite.
        images: The batch, or a part of it.
        tally: What is told of every observed value.
    """

    def __init__(self, plan: Plan, output: Value, images: Tensor, tally: Count) -> None:
        self.plan, self.output, self.images, self.tally = plan, output, images, tally
        self._shared: dict[Value, Tensor] = {}

    def shared(self) -> None:
        """Compute what the networks share."""
        self._carry_out(self.plan.shared, self._shared)

    def own(self, index: int) -> Tensor:
        """Compute the rest of one network: whether its output is finite."""
        values = dict(self._shared)
        self._carry_out(self.plan.own[index], values)
        return torch.isfinite(values[self.output]).all()

    def _carry_out(self, phase: Phase, values: dict[Value, Tensor]) -> None:
        fresh: set[Value] = set()
        for task in phase.tasks:
            if isinstance(task.value.op, Mix):
                self._add(task, values, fresh, phase.times)
            else:
                values[task.value] = self._computed(task.value, values, phase.times)
            if task.ends and task.value in phase.times and not isinstance(task.value.op, Chain | Opaque):
                self.tally.add(phase.times[task.value], values[task.value])
            for value in task.frees:
                del values[value]

    def _computed(self, value: Value, values: dict[Value, Tensor], times: Times) -> Tensor:
        op, sources = value.op, [values[source] for source in value.sources]
        if isinstance(op, Images):
            return self.images
        if isinstance(op, Zeros):
            return op.of(len(self.images))
        if isinstance(op, Chain):
            signs = self._room(value, times)
            output = op.whole(sources[0], signs)
            self._count(signs, times)
            return output
        if isinstance(op, Opaque) and value in times:
            return op.run(sources[0], lambda seen: self.tally.add(times[value], seen))
        return op(*sources)

    def _room(self, value: Value, times: Times) -> dict[Value, Tensor]:
        """Room for the signs of what counts in a chain."""
        assert isinstance(value.op, Chain)
        links = [link for _, link in value.op.links if link in times]
        return {link: self.tally.room(self.images, link.units) for link in links}

    def _count(self, signs: dict[Value, Tensor], times: Times) -> None:
        for link in list(signs):
            self.tally.add_signs(times[link], signs.pop(link))

    def _add(self, task: Task, values: dict[Value, Tensor], fresh: set[Value], times: Times) -> None:
        """Add one summand; ``fresh`` are the sums that are tensors of their own, which may be written to."""
        total = task.value
        for read in task.reads:
            source, before = values[read], values.get(total)
            if before is None and task.chain is None and task.through is None and task.weight == 1:
                values[total] = source
                continue
            after = before if before is not None and total in fresh else empty((len(source), *total.shape[1:]), source)
            signs = self._room(task.chain, times) if task.chain else {}
            for images, x in self._parts(task, source, signs):
                add_to(None if before is None else before[images], x, task.weight, task.through, after[images])
            self._count(signs, times)
            values[total] = after
            fresh.add(total)
        if task.ends and total not in values:
            values[total] = Zeros(total.shape[1:], self.images.dtype, self.images.device).of(len(self.images))

    def _parts(self, task: Task, source: Tensor, signs: dict[Value, Tensor]) -> Iterator[tuple[slice, Tensor]]:
        """A summand, as it is added: a few images at a time where something is computed."""
        if task.chain is not None:
            assert isinstance(task.chain.op, Chain)
            yield from task.chain.op.parts(source, signs)
        elif task.through is not None:
            for images in slices(source, max(math.prod(source.shape[1:]), task.value.units)):
                yield images, source[images]
        else:
            yield slice(None), source
