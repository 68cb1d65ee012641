"""Several threads that each carry out a plan for some of the images.

What a network does to an image does not depend on the others, so the threads meet only where two images are compared.
That keeps each processor busy with tensors of its own; threads that share every operation wait for each other after
each.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from zcpt.scoring.fast.graph import Value
from zcpt.scoring.fast.kernels import Count, Tally
from zcpt.scoring.fast.plan import Plan
from zcpt.scoring.fast.run import Run

_MOST = 4
"""Threads: Python itself runs in one at a time, and is all the same for many images and for few."""
_WAITING = 4
"""So many tensors of signs may wait to be compared."""


def threads_for(images: Tensor) -> int:
    """How many threads carry out a plan for a batch."""
    return min(_MOST, torch.get_num_threads(), len(images)) if images.device.type == "cpu" else 1


def carried_out(plan: Plan, output: Value, images: Tensor, threads: int) -> tuple[Tally, list[bool]]:
    """The kernels of P networks, and for each whether its output is finite."""
    if threads == 1:
        tally = Tally()
        return tally, [bool(finite) for finite in Run(plan, output, images, tally).finite]
    before = torch.get_num_threads()
    together = _Together(len(images), threads)
    parts = images.tensor_split(threads)

    def work(index: int) -> list[bool]:
        torch.set_num_threads(before // threads)  # of this thread, and of those to come
        with torch.no_grad():
            first = sum(len(part) for part in parts[:index])
            count = _Share(together, slice(first, first + len(parts[index])))
            return [bool(finite) for finite in Run(plan, output, parts[index], count).finite]

    try:
        with ThreadPoolExecutor(threads) as pool:
            finite = list(pool.map(work, range(threads)))
    finally:
        torch.set_num_threads(before)
    together.compare(0)
    return together.tally, [all(each) for each in zip(*finite, strict=True)]


@dataclass(eq=False)
class _Signs:
    """Signs of one observed tensor."""

    signs: Tensor
    missing: int
    """Threads that have not written theirs."""


class _Together:
    """Collects the signs that threads take of their images, and compares them when they are complete."""

    def __init__(self, images: int, threads: int) -> None:
        self.images, self.threads, self.tally = images, threads, Tally()
        self._lock, self._open = threading.Lock(), dict[int, _Signs]()
        self._ready = deque[tuple[tuple[int, ...], Tensor]]()

    def room(self, number: int, units: int) -> Tensor:
        """Where the signs of the tensor of that number go: int8 [B, units]."""
        with self._lock:
            if number not in self._open:
                self._open[number] = _Signs(torch.empty(self.images, units, dtype=torch.int8), self.threads)
            return self._open[number].signs

    def written(self, number: int, times: tuple[int, ...]) -> None:
        """One thread has written its part; one that is ahead of another compares what is complete."""
        with self._lock:
            self._open[number].missing -= 1
            ahead = self._open[number].missing > 0
            if not ahead:
                self._ready.append((times, self._open.pop(number).signs))
        self.compare(0 if ahead else _WAITING)

    def compare(self, waiting: int) -> None:
        """Compare what is complete, until so many tensors are left."""
        while True:
            with self._lock:
                if len(self._ready) <= waiting:
                    return
                times, signs = self._ready.popleft()
            both = Tally()
            both.add_signs(times, signs)
            with self._lock:
                self.tally.join(both)


class _Share(Count):
    """What one thread tells of its images; all tell of the same tensors in the same order."""

    def __init__(self, together: _Together, images: slice) -> None:
        self._together, self._images = together, images
        self._begun = self._ended = 0

    def room(self, images: Tensor, units: int) -> Tensor:
        signs = self._together.room(self._begun, units)[self._images]
        self._begun += 1
        return signs

    def add_signs(self, times: tuple[int, ...], signs: Tensor) -> None:
        self._together.written(self._ended, times)
        self._ended += 1
