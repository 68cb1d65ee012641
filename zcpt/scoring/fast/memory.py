"""How much memory a plan takes, and how to do with less."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from zcpt.scoring.fast.graph import Chain, Value, at_a_time
from zcpt.scoring.fast.kernels import PIECE, Count, Tally
from zcpt.scoring.fast.operations import Opaque, Zeros
from zcpt.scoring.fast.plan import Phase, Plan, Task

_AROUND = 40 * 2**20
"""Bytes that libraries take beside the tensors."""


def peak(plan: Plan, images: int, element: int, threads: int = 1) -> int:
    """Bytes that a plan takes at once beside the batch: its tensors, and a share of that for gaps between them.

    Args:
        plan: What is done.
        images: How many there are.
        element: Bytes of one number.
        threads: Each has a heap of its own, with gaps of its own.
    """
    kept: dict[Value, int] = {}
    most = _walk(plan.shared, kept, images, element)
    most = max([most, *(_walk(phase, dict(kept), images, element) for phase in plan.own)])
    return most + (most // 6 if threads == 1 else most * 3 // 4) + _AROUND


def _walk(phase: Phase, sizes: dict[Value, int], images: int, element: int) -> int:
    live = most = sum(sizes.values())
    shared = set(sizes)
    for task in phase.tasks:
        value = task.value
        if value in shared or (value not in sizes and not isinstance(value.op, Zeros)):
            # What is shared stays, also where a sum goes on from it.
            shared.discard(value)
            sizes[value] = images * value.units * element
            live += sizes[value]
        most = max(most, live + _beside(task, phase.times, images, element))
        for gone in task.frees:
            live -= sizes.pop(gone, 0)
    return most


def _beside(task: Task, times: Mapping[Value, object], images: int, element: int) -> int:
    """Bytes that a task takes besides what it gives."""
    value = task.chain or task.value
    size = images * value.units * element
    if isinstance(value.op, Chain):
        signs = sum(images * link.units for _, link in value.op.links if link in times)
        # The last tensors of the chain, and what goes through a convolution behind it.
        return 4 * at_a_time(images, value.op.units, element) * element * value.op.units + signs
    if task.through is not None:
        units = max(value.units, task.reads[0].units)
        return at_a_time(images, units, element) * element * units
    if isinstance(value.op, Opaque):
        return 3 * size
    return images * min(PIECE, value.units) * (element + 1) if value in times else 0


class Packed(Count):
    """Remembers signs, eight in a byte, of one part of a batch after the other; then counts those of all together.

    Args:
        images: How many there are in the batch.
        width: Bytes for each of them, as ``packed_bytes`` has it.
        device: Where they are.
    """

    def __init__(self, images: int, width: int, device: torch.device) -> None:
        # In one tensor: many small ones, that stay, between large ones, that go, would leave gaps in memory.
        self._bits = torch.empty(images, width, dtype=torch.uint8, device=device)
        self._pieces: list[tuple[tuple[int, ...], int, int]] = []
        self.clear()

    def clear(self) -> None:
        """Forget everything, for another network."""
        self._pieces.clear()
        self._rows, self._column = slice(0, 0), 0

    def begin(self, images: int) -> None:
        """The next part, of so many images, comes; everything comes in the same order as of the part before."""
        self._rows, self._column = slice(self._rows.stop, self._rows.stop + images), 0

    def add_signs(self, times: tuple[int, ...], signs: Tensor) -> None:
        packed = _pack(signs)
        if self._rows.start == 0:
            self._pieces.append((times, signs.shape[1], self._column))
        self._bits[self._rows, self._column : self._column + packed.shape[1]] = packed
        self._column += packed.shape[1]

    def tally(self) -> Tally:
        """All parts, counted."""
        tally = Tally()
        for times, units, column in self._pieces:
            for start in range(0, units, PIECE):
                count = min(PIECE, units - start)
                first = column + start // 8
                tally.add_signs(times, _unpack(self._bits[:, first : first + (count + 7) // 8])[:, :count])
        return tally


def _pack(signs: Tensor) -> Tensor:
    bits = torch.nn.functional.pad(signs.view(torch.uint8), (0, -signs.shape[1] % 8)).unflatten(1, (-1, 8))
    packed: Tensor = bits[..., 0].clone()
    for place in range(1, 8):
        packed |= bits[..., place] << place
    return packed


def _unpack(packed: Tensor) -> Tensor:
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[..., None] >> places) & 1).flatten(1).to(torch.int8)


def packed_bytes(plan: Plan, images: int) -> int:
    """Bytes of the signs of everything observed in so many images, as ``Packed`` remembers them."""
    phases = [plan.shared, *plan.own]
    return sum(images * ((value.units + 7) // 8) for phase in phases for value in phase.times)
