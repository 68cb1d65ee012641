"""Executing a plan on one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from zcpt.scoring.fast.graph import FusedChain, InputImages, Value, WeightedSum, empty_like_layout, split_into_slices
from zcpt.scoring.fast.kernels import Counts, SignRecorder
from zcpt.scoring.fast.operations import OpaqueModule, Zeros
from zcpt.scoring.fast.plan import ExecutionPlan, Instruction, PlanPhase
from zcpt.scoring.fast.sums import add_summand


class PlanExecutor:
    """Computes P networks: first the phase that they share, then each one's own.

    Args:
        plan: The instructions.
        output: Value whose elements have to be finite.
        images: The batch, or a part of it.
        recorder: Receives the signs of every observed value.
    """

    def __init__(self, plan: ExecutionPlan, output: Value, images: Tensor, recorder: SignRecorder) -> None:
        self.plan = plan
        self.output = output
        self.images = images
        self.recorder = recorder
        self._shared: dict[Value, Tensor] = {}

    def run_shared(self) -> None:
        """Compute the values that the networks share."""
        self._run_phase(self.plan.shared, self._shared)

    def run_own(self, index: int) -> Tensor:
        """Compute the rest of one network, and return whether its output is finite."""
        values = dict(self._shared)
        self._run_phase(self.plan.own[index], values)
        return torch.isfinite(values[self.output]).all()

    def _run_phase(self, phase: PlanPhase, values: dict[Value, Tensor]) -> None:
        # Sums that this phase allocated, which may be added to in place. A sum that the shared phase began must not
        # be: the other mixtures go on from it too. Nor may one whose tensor is that of its first summand.
        owned: set[Value] = set()
        for instruction in phase.instructions:
            value = instruction.value
            if isinstance(value.op, WeightedSum):
                self._add_summand(instruction, values, owned, phase.counts)
            else:
                values[value] = self._compute(value, values, phase.counts)
            # Chains and opaque modules record their observed tensors themselves, which do not outlive them.
            if instruction.completes and value in phase.counts and not isinstance(value.op, OpaqueModule):
                self.recorder.record(phase.counts[value], values[value])
            for freed in instruction.frees:
                del values[freed]

    def _compute(self, value: Value, values: Mapping[Value, Tensor], counts: Mapping[Value, Counts]) -> Tensor:
        op, sources = value.op, [values[source] for source in value.sources]
        if isinstance(op, InputImages):
            return self.images
        if isinstance(op, Zeros):
            return op.expand_to(len(self.images))
        if isinstance(op, FusedChain):
            signs = self._allocate_signs(op, counts)
            output = op.compute_whole(sources[0], signs)
            self._record_signs(signs, counts)
            return output
        if isinstance(op, OpaqueModule) and value in counts:
            value_counts = counts[value]  # not looked up in the hook: torch.compile would trace the graph's values
            return op.run(sources[0], lambda seen: self.recorder.record(value_counts, seen))
        return op(*sources)

    def _allocate_signs(self, fused: FusedChain, counts: Mapping[Value, Counts]) -> dict[Value, Tensor]:
        observed = [link for link in fused.links if link in counts]
        return {link: self.recorder.allocate_signs(self.images, link.units) for link in observed}

    def _record_signs(self, signs: dict[Value, Tensor], counts: Mapping[Value, Counts]) -> None:
        for link in list(signs):
            self.recorder.record_signs(counts[link], signs.pop(link))  # popped, so that it can be freed at once

    def _add_summand(
        self,
        instruction: Instruction,
        values: dict[Value, Tensor],
        owned: set[Value],
        counts: Mapping[Value, Counts],
    ) -> None:
        total, fused, convolution = instruction.value, instruction.fused_summand, instruction.convolution
        for read in instruction.reads:
            source, before = values[read], values.get(total)
            if before is None and fused is None and convolution is None and instruction.weight == 1:
                values[total] = source  # no copy of a first summand that is added as it is
                continue
            if before is not None and total in owned:
                after = before
            else:
                after = empty_like_layout((len(source), *total.shape[1:]), source)
            signs = {}
            if fused is not None:
                assert isinstance(fused.op, FusedChain)
                signs = self._allocate_signs(fused.op, counts)
            for images, x in self._split_summand(instruction, source, signs):
                part = None if before is None else before[images]
                add_summand(part, x, instruction.weight, convolution, after[images])
            self._record_signs(signs, counts)
            values[total] = after
            owned.add(total)
        if instruction.completes and total not in values:  # every summand weighs 0 or is zeros
            zeros = Zeros(total.shape[1:], self.images.dtype, self.images.device)
            values[total] = zeros.expand_to(len(self.images))

    def _split_summand(
        self, instruction: Instruction, source: Tensor, signs: Mapping[Value, Tensor]
    ) -> Iterator[tuple[slice, Tensor]]:
        """Iterate over a summand as it is added: a few images at a time where something is computed."""
        if instruction.fused_summand is not None:
            assert isinstance(instruction.fused_summand.op, FusedChain)
            yield from instruction.fused_summand.op.compute_parts(source, signs)
        elif instruction.convolution is not None:
            for images in split_into_slices(source, max(math.prod(source.shape[1:]), instruction.value.units)):
                yield images, source[images]
        else:
            yield slice(None), source
