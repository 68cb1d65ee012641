"""Executing a plan in several threads, each for some of the images.

A network computes every image by itself, so the threads meet only where images are compared. That is faster than
torch's own threads, which divide every single operation and wait for each other after each.
"""

from __future__ import annotations

import threading
from _thread import start_new_thread
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from zcpt.scoring.fast.executor import PlanExecutor
from zcpt.scoring.fast.graph import Value
from zcpt.scoring.fast.kernels import Counts, KernelAccumulator, SignRecorder
from zcpt.scoring.fast.plan import ExecutionPlan

_MAX_THREADS = 4
"""Largest number of threads: only one at a time runs Python, and few images need as much of that as many."""
_SECONDS_TO_BEGIN = 30.0
"""Time after which a thread that has not begun counts as one that cannot."""
_MAX_PENDING = 4
"""Number of complete tensors of signs that may wait for their product, to bound the memory."""


def choose_threads(images: Tensor) -> int:
    """Return the number of threads that execute a plan for a batch."""
    return min(_MAX_THREADS, torch.get_num_threads(), len(images)) if images.device.type == "cpu" else 1


def execute_plan(
    plan: ExecutionPlan, output: Value, images: Tensor, threads: int
) -> tuple[KernelAccumulator, list[bool]]:
    """Execute a plan for P networks.

    Args:
        plan: The plan.
        output: Value whose elements have to be finite.
        images: The batch.
        threads: Number of threads that the images are divided among.

    Returns:
        The accumulated kernels, and for each network whether its output is finite.
    """
    if threads == 1:
        accumulator = KernelAccumulator()
        executor = PlanExecutor(plan, output, images, accumulator)
        executor.run_shared()
        return accumulator, [bool(executor.run_own(index)) for index in range(len(plan.own))]
    parts = _BatchParts(plan, output, images, threads)
    finite = _run_in_threads(parts, threads)
    parts.multiply_signs()
    return parts.accumulator, [all(each) for each in zip(*finite, strict=True)]


def _run_in_threads(parts: _BatchParts, threads: int) -> list[list[bool]]:
    """Execute each part in a thread, the first one in this thread; raise what a part has raised."""
    torch_threads = torch.get_num_threads()
    finite: list[list[bool]] = [[] for _ in range(threads)]
    errors: list[BaseException] = []
    begun, ended = set[int](), threading.Semaphore(0)

    def run(thread: int) -> None:
        begun.add(thread)
        try:
            # Torch's threads are divided among ours, so that there are not more than before.
            torch.set_num_threads(max(torch_threads // threads, 1))
            finite[thread] = parts.execute_part(thread)
        except BaseException as error:  # raised below, in the thread that can handle it
            errors.append(error)
            parts.stopped = True
        finally:
            ended.release()

    started = 0
    try:
        for thread in range(1, threads):
            # Not threading.Thread: its start() waits for ever where memory is too little for the new thread to begin.
            start_new_thread(run, (thread,))
            started += 1
        run(0)
        ended.acquire()  # what this thread has released
    finally:
        parts.stopped = parts.stopped or len(finite[0]) < len(parts.plan.own)
        for _ in range(started):
            while not ended.acquire(timeout=_SECONDS_TO_BEGIN):
                if len(begun) < threads:
                    torch.set_num_threads(torch_threads)
                    raise MemoryError("can't start a thread")
        torch.set_num_threads(torch_threads)  # the calls in the threads also changed the default of new threads
    if errors:
        raise errors[0]
    return finite


@dataclass(eq=False)
class _BatchSigns:
    """Signs of one observed tensor for all images."""

    signs: Tensor
    missing: int
    """Number of threads that have not yet written theirs."""


class _BatchParts:
    """Collects the signs of all threads, and multiplies those of a tensor when the last thread has written its part."""

    def __init__(self, plan: ExecutionPlan, output: Value, images: Tensor, threads: int) -> None:
        self.plan = plan
        self.output = output
        self.images = images
        self.threads = threads
        self.accumulator = KernelAccumulator()
        self.stopped = False
        """Whether a part has failed, so that the others need not go on."""
        self._lock = threading.Lock()
        self._incomplete: dict[int, _BatchSigns] = {}
        self._complete: deque[tuple[Counts, Tensor]] = deque()

    @torch.no_grad()  # gradient mode is a setting of each thread
    def execute_part(self, thread: int) -> list[bool]:
        """Execute the plan for one thread's images, and return for each network whether its output is finite."""
        first, last = (len(self.images) * number // self.threads for number in (thread, thread + 1))
        recorder = _PartRecorder(self, slice(first, last))
        executor = PlanExecutor(self.plan, self.output, self.images[first:last], recorder)
        executor.run_shared()
        return [bool(executor.run_own(index)) for index in range(len(self.plan.own)) if not self.stopped]

    def allocate_signs(self, number: int, units: int) -> Tensor:
        """Return the tensor for the signs of the observed tensor of that number, int8 [B, units]."""
        with self._lock:
            if number not in self._incomplete:
                signs = torch.empty(len(self.images), units, dtype=torch.int8)
                self._incomplete[number] = _BatchSigns(signs, self.threads)
            return self._incomplete[number].signs

    def finish_part(self, number: int, counts: Counts) -> None:
        """Note that a thread has written its signs, and multiply complete ones."""
        with self._lock:
            self._incomplete[number].missing -= 1
            is_last = not self._incomplete[number].missing
            if is_last:
                self._complete.append((counts, self._incomplete.pop(number).signs))
        # The thread that comes last leaves products to those ahead of it, which would only wait at the end.
        self.multiply_signs(_MAX_PENDING if is_last else 0)

    def multiply_signs(self, pending: int = 0) -> None:
        """Multiply complete signs, until only so many tensors are left."""
        while True:
            with self._lock:
                if len(self._complete) <= pending:
                    return
                counts, signs = self._complete.popleft()
            product = KernelAccumulator()
            product.record_signs(counts, signs)  # outside the lock, because it takes long
            with self._lock:
                self.accumulator.add(product)


class _PartRecorder(SignRecorder):
    """Records the signs of one thread's images; all threads record the same tensors in the same order."""

    def __init__(self, parts: _BatchParts, images: slice) -> None:
        self._parts = parts
        self._images = images
        self._allocated = 0
        self._recorded = 0

    def allocate_signs(self, images: Tensor, units: int) -> Tensor:
        signs = self._parts.allocate_signs(self._allocated, units)[self._images]
        self._allocated += 1
        return signs

    def record_signs(self, counts: Counts, signs: Tensor) -> None:
        self._parts.finish_part(self._recorded, counts)
        self._recorded += 1
