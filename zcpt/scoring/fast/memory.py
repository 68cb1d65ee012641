"""Memory of a plan: an estimate, and signs packed into bits for batches that are scored in parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from zcpt.scoring.fast.graph import FusedChain, Value, images_per_slice
from zcpt.scoring.fast.kernels import UNITS_PER_PIECE, Counts, KernelAccumulator, SignRecorder
from zcpt.scoring.fast.operations import OpaqueModule, Zeros
from zcpt.scoring.fast.plan import ExecutionPlan, Instruction, PlanPhase

_LIBRARY_BYTES = 40 * 2**20
"""Bytes that libraries allocate beside the tensors."""


def estimate_peak(plan: ExecutionPlan, images: int, element_size: int, threads: int = 1) -> int:
    """Estimate the bytes that a plan takes at once beside the batch.

    Args:
        plan: The plan.
        images: Number of images.
        element_size: Bytes of one number.
        threads: Number of threads; each has a heap of its own, with gaps of its own.

    Returns:
        The largest sum of its tensors, and a share of that for gaps between them.
    """
    kept: dict[Value, int] = {}
    most = _estimate_phase(plan.shared, kept, images, element_size)
    most = max([most, *(_estimate_phase(phase, dict(kept), images, element_size) for phase in plan.own)])
    # The shares were measured: allocators leave gaps between tensors of different sizes.
    return most + (most // 6 if threads == 1 else most * 3 // 4) + _LIBRARY_BYTES


def _estimate_phase(phase: PlanPhase, sizes: dict[Value, int], images: int, element_size: int) -> int:
    """Return the peak of a phase, and leave in ``sizes`` the bytes of the values that are in memory after it."""
    live = most = sum(sizes.values())
    shared = set(sizes)
    for instruction in phase.instructions:
        value = instruction.value
        if value in shared or (value not in sizes and not isinstance(value.op, Zeros)):
            # A shared sum stays in memory while a mixture adds to a copy of it.
            shared.discard(value)
            sizes[value] = images * value.units * element_size
            live += sizes[value]
        most = max(most, live + _temporary_bytes(instruction, phase.counts, images, element_size))
        for freed in instruction.frees:
            live -= sizes.pop(freed, 0)
    return most


def _temporary_bytes(instruction: Instruction, counts: Mapping[Value, object], images: int, element_size: int) -> int:
    """Return the bytes that an instruction takes beside its sources and its result."""
    value = instruction.fused_summand or instruction.value
    size = images * value.units * element_size
    if isinstance(value.op, FusedChain):
        signs = sum(images * link.units for link in value.op.links if link in counts)
        # About four tensors of a slice at once: source and result of a link, and those of a convolution behind it.
        return 4 * images_per_slice(images, value.op.units, element_size) * element_size * value.op.units + signs
    if instruction.convolution is not None:
        units = max(value.units, instruction.reads[0].units)
        return images_per_slice(images, units, element_size) * element_size * units
    if isinstance(value.op, OpaqueModule):
        return 3 * size  # what it allocates inside is not known
    return images * min(UNITS_PER_PIECE, value.units) * (element_size + 1) if value in counts else 0


class PackedSigns(SignRecorder):
    """Stores the signs of one part of a batch after the other, eight in a byte, and multiplies those of all together.

    A kernel compares all pairs of images, so the signs of a part are needed until the last part is computed.

    Args:
        images: Number of images in the batch.
        width: Bytes for each of them, as ``count_packed_bytes`` gives them.
        device: Device of the signs.
    """

    def __init__(self, images: int, width: int, device: torch.device) -> None:
        # One tensor: many small ones that stay, between large ones that are freed, would leave gaps in memory.
        self._bits = torch.empty(images, width, dtype=torch.uint8, device=device)
        self._pieces: list[tuple[Counts, int, int]] = []
        self.clear()

    def clear(self) -> None:
        """Remove all signs, to store those of another network."""
        self._pieces.clear()
        self._rows = slice(0, 0)
        self._column = 0

    def begin_part(self, images: int) -> None:
        """Begin the next part of so many images; its tensors are recorded in the order of the part before."""
        self._rows = slice(self._rows.stop, self._rows.stop + images)
        self._column = 0

    def record_signs(self, counts: Counts, signs: Tensor) -> None:
        packed = _pack(signs)
        if self._rows.start == 0:
            self._pieces.append((counts, signs.shape[1], self._column))
        self._bits[self._rows, self._column : self._column + packed.shape[1]] = packed
        self._column += packed.shape[1]

    def accumulate(self) -> KernelAccumulator:
        """Return the products of the signs of all parts."""
        accumulator = KernelAccumulator()
        for counts, units, column in self._pieces:
            for start in range(0, units, UNITS_PER_PIECE):
                stop = min(start + UNITS_PER_PIECE, units)
                packed = self._bits[:, column + start // 8 : column + (stop + 7) // 8]
                accumulator.record_signs(counts, _unpack(packed)[:, : stop - start])
        return accumulator


def _pack(signs: Tensor) -> Tensor:
    bits = torch.nn.functional.pad(signs.view(torch.uint8), (0, -signs.shape[1] % 8)).unflatten(1, (-1, 8))
    packed: Tensor = bits[..., 0].clone()
    for place in range(1, 8):
        packed |= bits[..., place] << place
    return packed


def _unpack(packed: Tensor) -> Tensor:
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[..., None] >> places) & 1).flatten(1).to(torch.int8)


def count_packed_bytes(plan: ExecutionPlan, images: int) -> int:
    """Return the bytes of the signs of all observed values for so many images, as ``PackedSigns`` stores them."""
    phases = [plan.shared, *plan.own]
    return sum(images * ((value.units + 7) // 8) for phase in phases for value in phase.counts)
