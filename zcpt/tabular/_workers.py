"""Scores of many discrete networks, computed in this process or in several."""

from __future__ import annotations

import math
import os
import pickle
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from zcpt._startup import block_interrupts
from zcpt.architecture import Architecture
from zcpt.batches import Batch
from zcpt.devices import move_batch, move_network
from zcpt.errors import ConfigError, LostError, ZcptError
from zcpt.journal import Record
from zcpt.processes import make_portable
from zcpt.proxies import Proxy
from zcpt.scoring import score
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import NetworkConfig, SearchSpace

IndexedArchitecture = tuple[int, Architecture]
"""An index into the benchmark, with the architecture there."""
Records = Generator[Record, None, None]


@dataclass(frozen=True)
class NetworkScorer:
    """Settings by which networks are scored. A record depends on them and on its architecture alone."""

    space: SearchSpace
    network_config: NetworkConfig
    proxies: tuple[Proxy, ...]
    batch: Batch
    seed: int
    own_weights: bool
    """Draw the weights of each network from a seed of its own; otherwise all use the same seed."""
    device: str

    def score_network(self, item: IndexedArchitecture) -> Record:
        """Build one network, score it by all proxies, and return its line of the journal."""
        index, architecture = item
        device = torch.device(self.device)
        with use_seed(derive_seed(self.seed, "weights", *([index] if self.own_weights else []))):
            network = move_network(self.space.build_network(architecture, self.network_config), device)
        batch = move_batch(self.batch, device)
        scores: dict[str, float] = {}
        seconds: dict[str, float] = {}
        failures: dict[str, str] = {}
        for proxy in self.proxies:
            started = time.perf_counter()
            try:
                value = score(network, batch, proxy)[proxy.name]
            except ZcptError as error:
                failures[proxy.name] = str(error)
                continue
            scores[proxy.name], seconds[proxy.name] = value, time.perf_counter() - started
            if not math.isfinite(value):
                failures[proxy.name] = f"the score is {value}"
        text = self.space.format(architecture)
        return {"index": index, "architecture": text, "scores": scores, "seconds": seconds, "failures": failures}


def score_networks(scorer: NetworkScorer, items: Sequence[IndexedArchitecture], workers: int) -> Records:
    """Yield the record of every architecture, in any order. Closing the iterator stops the processes.

    Each process computes in one thread: torch's sums depend on the number of threads, and scores should not depend on
    the number of processes.

    Raises:
        ConfigError: A proxy cannot be sent to other processes.
        LostError: A process was killed, or could not start.
    """
    if workers == 1 or len(items) < 2:
        with _use_one_thread():
            yield from map(scorer.score_network, items)
        return
    try:
        pickled = pickle.dumps(scorer)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the proxies cannot be sent to other processes ({error}): define them in a module, or use --workers 1."
        ) from None
    with _start_workers(min(workers, len(items)), pickled) as connections:
        yield from _share_among(connections, items)


@contextmanager
def _start_workers(count: int, pickled: bytes) -> Iterator[list[Connection]]:
    """Start processes that score networks, and kill them at the end, whatever they are at."""
    context = get_context("spawn")  # a forked process inherits locks of torch's threads, but not the threads
    processes: list[BaseProcess] = []
    connections: list[Connection] = []
    try:
        # Ctrl-C reaches all processes of a terminal. The workers leave it to this one, which kills them.
        with block_interrupts():
            for _ in range(count):
                connection, other_end = context.Pipe()
                connections.append(connection)
                processes.append(context.Process(target=_score_for_parent, args=(other_end,)))
                processes[-1].start()
                other_end.close()
        for connection in connections:
            with _explain_lost_worker("could not start"):
                connection.send_bytes(pickled)
        yield connections
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _share_among(connections: Sequence[Connection], items: Sequence[IndexedArchitecture]) -> Records:
    """Give each worker the next network as soon as it has answered, and yield the answers."""
    remaining = iter(items)
    busy = set(connections)
    started: set[Connection] = set()
    while busy:
        for connection in wait(list(busy)):
            assert isinstance(connection, Connection)
            with _explain_lost_worker("was killed" if connection in started else "could not start"):
                answer: Record | Exception | None = connection.recv()
                if isinstance(answer, Exception):
                    raise answer
                started.add(connection)
                item = next(remaining, None)
                if item is None:
                    busy.remove(connection)
                else:
                    connection.send(item)
            if answer is not None:  # the first answer only tells that the worker has started
                yield answer


@contextmanager
def _explain_lost_worker(what: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError):
        raise LostError(
            f"a process that scores networks {what}, perhaps because memory ran out: repeat the command with fewer "
            "--workers to resume. (A Python script has to call this below 'if __name__ == \"__main__\":'.)"
        ) from None


def _score_for_parent(connection: Connection) -> None:
    """Score networks in a worker process until the parent closes the connection or ends."""
    try:
        try:
            torch.set_num_threads(1)
            threading.Thread(target=_exit_with_parent, daemon=True).start()
            scorer: NetworkScorer = pickle.loads(connection.recv_bytes())
            connection.send(None)
            while True:
                connection.send(scorer.score_network(connection.recv()))
        except (EOFError, ConnectionError):
            return  # the parent has ended
        except Exception as error:
            connection.send(make_portable(error, f"process {os.getpid()}"))
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
