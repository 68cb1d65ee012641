"""Carrying out a plan in several threads, each for some of the images.

What a network does to an image does not depend on the others, so the threads meet only where images are compared;
threads that share every operation wait for each other after each.
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


def threads_for(images: Tensor) -> int:
    """How many threads carry out a plan for a batch."""
    return min(_MOST, torch.get_num_threads(), len(images)) if images.device.type == "cpu" else 1


def carried_out(plan: Plan, output: Value, images: Tensor, threads: int) -> tuple[Tally, list[bool]]:
    """The kernels of P networks, and for each whether its output is finite.

    Args:
        plan: What to do.
        output: The value whose numbers have to be finite.
        images: The batch.
        threads: Among how many threads they are divided.
    """
    if threads == 1:
        tally = Tally()
        run = Run(plan, output, images, tally)
        run.shared()
        return tally, [bool(run.own(index)) for index in range(len(plan.own))]
    before, together = torch.get_num_threads(), _Together(plan, output, images, threads)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(before // threads,)) as pool:
            finite = list(pool.map(together.work, range(threads)))
    finally:
        torch.set_num_threads(before)  # of the threads to come: in a thread it sets that, too
    together.compare()
    return together.tally, [all(each) for each in zip(*finite, strict=True)]


@dataclass(eq=False)
class _Signs:
    """Signs of one observed tensor."""

    signs: Tensor
    missing: int
    """Threads that have not written theirs."""


class _Together:
    """What threads do together: they collect the signs of all images, and compare them when they are complete."""

    def __init__(self, plan: Plan, output: Value, images: Tensor, threads: int) -> None:
        self.plan, self.output, self.images, self.threads, self.tally = plan, output, images, threads, Tally()
        self._lock, self._open = threading.Lock(), dict[int, _Signs]()
        self._ready = deque[tuple[tuple[int, ...], Tensor]]()

    @torch.no_grad()
    def work(self, thread: int) -> list[bool]:
        """One thread's part of the work: for each network, whether what it gives is finite for its images."""
        first, last = (len(self.images) * each // self.threads for each in (thread, thread + 1))
        run = Run(self.plan, self.output, self.images[first:last], _Share(self, slice(first, last)))
        run.shared()
        return [bool(run.own(index)) for index in range(len(self.plan.own))]

    def room(self, number: int, units: int) -> Tensor:
        """Where the signs of the tensor of that number go: int8 [B, units]."""
        with self._lock:
            if number not in self._open:
                signs = torch.empty(len(self.images), units, dtype=torch.int8)
                self._open[number] = _Signs(signs, self.threads)
            return self._open[number].signs

    def written(self, number: int, times: tuple[int, ...]) -> None:
        """A thread has written its part; it compares what is complete, unless it is behind the others."""
        with self._lock:
            self._open[number].missing -= 1
            behind = not self._open[number].missing
            if behind:
                self._ready.append((times, self._open.pop(number).signs))
        self.compare(_WAITING if behind else 0)

    def compare(self, waiting: int = 0) -> None:
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


_WAITING = 4
"""So many tensors of signs may wait to be compared."""


class _Share(Count):
    """What a thread tells of its images; all tell of the same tensors in the same order."""

    def __init__(self, together: _Together, part: slice) -> None:
        self._together, self._part = together, part
        self._begun = self._ended = 0

    def room(self, images: Tensor, units: int) -> Tensor:
        signs = self._together.room(self._begun, units)[self._part]
        self._begun += 1
        return signs

    def add_signs(self, times: tuple[int, ...], signs: Tensor) -> None:
        self._together.written(self._ended, times)
        self._ended += 1
