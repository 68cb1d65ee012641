"""Work in several processes at once."""

import os
import traceback
from multiprocessing import get_context
from multiprocessing.connection import wait

SECONDS = 60
"""A process that takes longer waits for ever."""


def forked(size, work):
    """What ``work(rank)`` returns or raises in each of several processes; None from one that was killed."""
    context, pipes, processes = get_context("fork"), [], []
    for rank in range(size):
        here, there = context.Pipe(duplex=False)
        processes.append(context.Process(target=_member, args=(rank, work, there)))
        processes[-1].start()
        there.close()
        pipes.append(here)
    try:
        return [_received(pipe) for pipe in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _member(rank, work, pipe):
    try:
        outcome = work(rank)
    except BaseException as error:
        outcome = type(error), str(error), "".join(traceback.format_exception(error))
    pipe.send(outcome)
    os._exit(0)  # nothing of the test's own process is to be torn down here


def _received(pipe):
    assert wait([pipe], SECONDS), "a process waits for ever"
    try:
        return pipe.recv()
    except EOFError:
        return None
