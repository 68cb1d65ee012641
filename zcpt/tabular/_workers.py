"""Scores of many discrete networks, computed in this process or in several."""

from __future__ import annotations

import math
import os
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process

import torch

from zcpt.architecture import Architecture
from zcpt.batches import Batch
from zcpt.devices import move_batch, move_network
from zcpt.errors import ConfigError, LostError, ZcptError
from zcpt.journal import Record
from zcpt.proxies import Proxy
from zcpt.scoring import score
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import NetworkConfig, SearchSpace

IndexedArchitecture = tuple[int, Architecture]
"""An index into the benchmark, with the architecture there."""


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


def score_networks(scorer: NetworkScorer, items: Sequence[IndexedArchitecture], workers: int) -> Iterator[Record]:
    """Yield the record of every architecture, in any order.

    Each process computes in one thread: torch's sums depend on the number of threads, and scores should not depend on
    the number of processes.

    Raises:
        ConfigError: A proxy cannot be sent to other processes.
        LostError: A process was killed.
    """
    if workers == 1:
        with _use_one_thread():
            yield from map(scorer.score_network, items)
        return
    try:
        pickled = pickle.dumps(scorer)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the proxies cannot be sent to other processes ({error}): define them in a module, or use --workers 1."
        ) from None
    context = get_context("spawn")  # a forked process inherits locks of torch's threads, but not the threads
    with ProcessPoolExecutor(min(workers, max(len(items), 1)), context, _initialize_worker, (pickled,)) as pool:
        futures = [pool.submit(_score_in_worker, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise LostError(
                "a process that scores networks was killed, perhaps because memory ran out: repeat the command with "
                "fewer --workers to resume."
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_scorer: NetworkScorer | None = None
"""Scorer of this worker process."""


def _initialize_worker(pickled: bytes) -> None:
    global _scorer
    torch.set_num_threads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _scorer = pickle.loads(pickled)


def _exit_with_parent() -> None:
    """Exit when the parent does: a killed parent cannot stop its workers."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _score_in_worker(item: IndexedArchitecture) -> Record:
    assert _scorer is not None
    return _scorer.score_network(item)


@contextmanager
def _use_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
