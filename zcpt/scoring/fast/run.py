"""Carrying out a plan on one batch."""

from __future__ import annotations

import torch
from torch import Tensor

from zcpt.scoring.fast.graph import Chain, Images, Mix, Value
from zcpt.scoring.fast.kernels import Count
from zcpt.scoring.fast.operations import Opaque, Zeros
from zcpt.scoring.fast.plan import Phase, Plan, Task, Times


class Run:
    """The computation of P networks.

    Args:
        plan: What to do.
        output: The value whose numbers have to be finite.
        images: The batch, or a part of it.
        tally: What is told of every observed value.
    """

    def __init__(self, plan: Plan, output: Value, images: Tensor, tally: Count) -> None:
        self.images, self.tally = images, tally
        shared: dict[Value, Tensor] = {}
        self._carry_out(plan.shared, shared)
        self.finite: list[Tensor] = []
        """For each network, whether its output is."""
        for phase in plan.own:
            values = dict(shared)
            self._carry_out(phase, values)
            self.finite.append(torch.isfinite(values[output]).all())

    def _carry_out(self, phase: Phase, values: dict[Value, Tensor]) -> None:
        fresh: set[Value] = set()
        for task in phase.tasks:
            if isinstance(task.value.op, Mix):
                self._add(task, values, fresh)
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
        if isinstance(op, Chain):
            watched = [link for _, link in op.links if link in times]
            signs = {link: sources[0].new_empty((len(self.images), link.units), dtype=torch.int8) for link in watched}
            output = op.run(sources[0], signs)
            for link in watched:
                self.tally.add_signs(times[link], signs.pop(link))
            return output
        if isinstance(op, Opaque) and value in times:
            return op.run(sources[0], lambda seen: self.tally.add(times[value], seen))
        return op(*sources)

    def _add(self, task: Task, values: dict[Value, Tensor], fresh: set[Value]) -> None:
        """Add one summand; ``fresh`` are the sums that are tensors of their own, which may be written to."""
        total = task.value
        for source in task.reads:
            summand = values[source]
            if total not in values:
                values[total] = summand if task.weight == 1 else summand * task.weight
                fresh.update([total] if task.weight != 1 else [])
            elif total in fresh:
                values[total].add_(summand, alpha=task.weight)
            else:
                values[total] = values[total].add(summand, alpha=task.weight)
                fresh.add(total)
        if task.ends and total not in values:
            values[total] = Zeros(total.shape, self.images.dtype, self.images.device)()
