"""Scoring many discrete networks, in this process or in several."""

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

Task = tuple[int, Architecture]
"""An architecture, and its place in the table."""


@dataclass(frozen=True)
class Job:
    """How networks are scored. A record depends on this and on its task alone."""

    space: SearchSpace
    network_config: NetworkConfig
    proxies: tuple[Proxy, ...]
    batch: Batch
    seed: int
    own_weights: bool
    """Whether every network draws weights of its own, or all draw from the same seed."""
    device: str

    def record(self, task: Task) -> Record:
        """Build one network and score it by all proxies."""
        index, architecture = task
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


def records(job: Job, tasks: Sequence[Task], workers: int) -> Iterator[Record]:
    """The record of every task, in any order. Each process computes in one thread, so that scores are the same.

    Raises:
        ConfigError: A proxy cannot be sent to other processes.
        LostError: One of them was killed.
    """
    if workers == 1:
        with _one_thread():
            yield from map(job.record, tasks)
        return
    try:
        sent = pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the proxies cannot be sent to other processes ({error}): define them in a module, or use --workers 1."
        ) from None
    context = get_context("spawn")  # forked processes inherit threads of torch that no longer run
    with ProcessPoolExecutor(min(workers, max(len(tasks), 1)), context, _start, (sent,)) as pool:
        futures = [pool.submit(_record, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise LostError(
                "a process that scores networks was killed, perhaps for want of memory: the same command goes on where "
                "this one ended; give it fewer --workers."
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_job: Job | None = None


def _start(sent: bytes) -> None:
    global _job
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _job = pickle.loads(sent)


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers to stop."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _record(task: Task) -> Record:
    assert _job is not None
    return _job.record(task)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
