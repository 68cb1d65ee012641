"""Run a function in several processes at once."""

import os
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

SECONDS = 60
"""Time after which a process counts as deadlocked."""


def run_in_processes(size: int, work: Callable[[int], Any]) -> list[Any]:
    """Return what ``work(rank)`` returns or raises in each of ``size`` processes; None for one that was killed."""
    context = get_context("fork")
    pipes: list[Connection] = []
    processes = []
    for rank in range(size):
        receiver, sender = context.Pipe(duplex=False)
        processes.append(context.Process(target=_run_and_send, args=(rank, work, sender)))
        processes[-1].start()
        sender.close()  # so that the end of the process closes the last sending side
        pipes.append(receiver)
    try:
        return [_receive(pipe) for pipe in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _run_and_send(rank: int, work: Callable[[int], Any], pipe: Connection) -> None:
    try:
        outcome: Any = work(rank)
    except BaseException as error:
        outcome = type(error), str(error), "".join(traceback.format_exception(error))
    pipe.send(outcome)
    os._exit(0)  # without the teardown of the test's own process, which the fork copied


def _receive(pipe: Connection) -> Any:
    assert wait([pipe], SECONDS), "a process is deadlocked"
    try:
        return pipe.recv()
    except EOFError:
        return None
