"""Worker processes: one function applied to many items, with the results of a single process."""

from __future__ import annotations

import logging
import os
import pickle
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

from zcpt._startup import block_interrupts
from zcpt.errors import ConfigError, LostError
from zcpt.processes import make_portable

_log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
Value = TypeVar("Value")


@dataclass(eq=False)
class _Worker:
    """A process of a pool, as its parent knows it."""

    process: BaseProcess
    connection: Connection
    has_started: bool = False
    task: int | None = None
    """Index of the item that it works on."""
    functions: set[int] = field(default_factory=set)
    """Numbers of the functions that it has received."""


@dataclass(frozen=True)
class _Answer(Generic[Value]):
    value: Value
    failed: bool = False


class Pool(ABC):
    """Processes that apply functions to items, several at once; a context manager.

    The results are those of a single process: every process computes in one thread.
    """

    size: int
    """Number of items that are worked on at a time."""
    work: str
    """What the processes do, for messages: 'scores networks'."""
    machines = 1
    """Number of machines that the processes run on."""
    has_same_files = True
    """Whether the processes see the files of the caller."""

    @abstractmethod
    def __enter__(self) -> Pool: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return what a function returns for each item, in the order of the items; errors are those of ``run``."""
        results = dict(self._run(function, items))
        return [results[index] for index in range(len(items))]

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result, None, None]:
        """Yield what a function returns for each item, as soon as it is there, in any order.

        Args:
            function: A function or method that can be pickled; it is sent to each process once.
            items: Arguments of the function, which can be pickled.

        Raises:
            Exception: The function has raised an error: a ZcptError as it is, most others as RuntimeError.
            ConfigError: The function cannot be sent to other processes.
            LostError: A process could not start, or the processes of an item were killed again and again.
        """
        with closing(self._run(function, items)) as results:
            for _, result in results:
                yield result

    @abstractmethod
    def _run(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield (index, result) in any order."""


class WorkerPool(Pool):
    """Processes on this machine that apply functions to items, several at once.

    They start with the first work that has more than one item, serve any number of functions, and end with the block::

        with WorkerPool(4, "scores networks") as pool:
            scores = pool.map(function, items)

    Every process computes in one thread, also where the caller's is the only one: torch's sums depend on the number of
    threads, and results must not depend on the number of processes.

    If a process is killed, its item is repeated once in a new process.

    Args:
        size: Number of processes; with 1 everything runs in the caller's process.
        work: What the processes do, for messages: 'scores networks'.
    """

    def __init__(self, size: int, work: str) -> None:
        self.size = size
        self.work = work
        self._workers: list[_Worker] = []
        self._functions: list[tuple[object, bytes]] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(self._workers)

    def _run(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[tuple[int, Result], None, None]:
        if self.size == 1 or len(items) < 2:
            with _use_one_thread():
                for index, item in enumerate(items):
                    yield index, function(item)
            return
        number = self._pickle(function)
        try:
            yield from self._share(number, items)
        finally:
            # After an error, or where the caller wants no more, what they are at is of no use.
            self._stop([worker for worker in self._workers if worker.task is not None])

    def _pickle(self, function: object) -> int:
        """Return the number of a function, after pickling it if it is new."""
        for number, (known, _) in enumerate(self._functions):
            if known == function:
                return number
        try:
            self._functions.append((function, pickle.dumps(function)))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"the code that {self.work} cannot be sent to other processes ({error}): define its classes and "
                "functions in a module, or use --workers 1."
            ) from None
        return len(self._functions) - 1

    def _share(self, number: int, items: Sequence[Item]) -> Iterator[tuple[int, Any]]:
        """Give each process the next item as soon as it has answered, and yield the answers."""
        waiting = deque(range(len(items)))
        lost: set[int] = set()
        while True:
            busy = [worker for worker in self._workers if worker.task is not None]
            if not waiting and not busy:
                return
            self._start(min(self.size, len(waiting) + len(busy)))
            for worker in [worker for worker in self._workers if worker.has_started and worker.task is None]:
                if waiting:
                    worker.task = waiting.popleft()
                    if not self._send(worker, number, items[worker.task]):
                        self._note_loss(worker, waiting, lost)
            for worker in self._wait():
                try:
                    answer: _Answer[Any] | None = worker.connection.recv()
                except (EOFError, ConnectionError):
                    self._note_loss(worker, waiting, lost)
                    continue
                if answer is None:
                    worker.has_started = True
                    continue
                index, worker.task = worker.task, None
                if answer.failed:
                    raise answer.value
                assert index is not None
                yield index, answer.value

    def _send(self, worker: _Worker, number: int, item: object) -> bool:
        """Send an item, and its function if that is new to the process; return False if the process is gone."""
        pickled = None if number in worker.functions else self._functions[number][1]
        worker.functions.add(number)
        try:
            worker.connection.send((number, pickled, item))
        except ConnectionError:
            return False
        return True

    def _wait(self) -> list[_Worker]:
        """Wait until processes have answered or ended, and return them."""
        expected = [worker for worker in self._workers if worker.task is not None or not worker.has_started]
        ready = wait([worker.connection for worker in expected])
        return [worker for worker in expected if worker.connection in ready]

    def _note_loss(self, worker: _Worker, waiting: deque[int], lost: set[int]) -> None:
        """Put the item of a process that was killed first in the queue; raise LostError the second time."""
        self._stop([worker])
        if not worker.has_started or worker.task in lost:
            raise LostError(
                f"a process that {self.work} {'was killed' if worker.has_started else 'could not start'}, perhaps "
                "because memory ran out: repeat the command with fewer --workers to resume. (A Python script has to "
                "call this below 'if __name__ == \"__main__\":'.)"
            )
        if worker.task is not None:
            _log.warning(f"a process that {self.work} was killed: its work is repeated in a new one")
            lost.add(worker.task)
            waiting.appendleft(worker.task)

    def _start(self, count: int) -> None:
        """Start processes until there are ``count``."""
        context = get_context("spawn")  # a forked process inherits locks of torch's threads, but not the threads
        # Ctrl-C reaches all processes of a terminal. The workers leave it to this one, which kills them.
        while len(self._workers) < count:
            with block_interrupts():
                connection, other_end = context.Pipe()
                process = context.Process(target=_work_for_parent, args=(other_end,))
                process.start()
                other_end.close()
                self._workers.append(_Worker(process, connection))

    def _stop(self, workers: Sequence[_Worker]) -> None:
        """Kill processes, whatever they are at."""
        for worker in list(workers):
            self._workers.remove(worker)
            worker.process.kill()
            worker.process.join()
            worker.connection.close()


def _work_for_parent(connection: Connection) -> None:
    """Apply functions to items in a worker process until the parent closes the connection or ends."""
    functions: dict[int, Callable[[Any], Any]] = {}
    torch.set_num_threads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        connection.send(None)
        while True:
            try:
                number, pickled, item = connection.recv()
                if pickled is not None:
                    functions[number] = pickle.loads(pickled)
                answer = _Answer(functions[number](item))
            except (EOFError, ConnectionError):
                return  # the parent has ended
            except Exception as error:
                connection.send(_Answer(make_portable(error, f"process {os.getpid()}"), failed=True))
            else:
                connection.send(answer)
    except ConnectionError:
        return


def _exit_with_parent() -> None:
    """Exit when the parent does: a killed parent cannot stop its workers."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _use_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
