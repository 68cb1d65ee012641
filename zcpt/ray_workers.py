"""Worker processes on many machines: functions applied to items by the tasks of a Ray cluster."""

from __future__ import annotations

import logging
import math
import os
import platform
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

import torch

from zcpt.errors import ConfigError, LostError
from zcpt.options import pluralize
from zcpt.printing import shorten
from zcpt.processes import make_portable
from zcpt.versions import get_versions
from zcpt.workers import Item, Pool, Result, WorkerPool

_log = logging.getLogger(__name__)
_MAX_ITEMS = 50
"""Items of a task at most."""
_SECONDS = 5.0
"""Time that a task should take: long beside the milliseconds that Ray needs for one, short beside a training. What a
lost or stopped task has computed is lost, and its results arrive together."""
_ATTEMPTS = 3
"""Times that a task is begun: several machines may be taken away while one item is computed."""
_PATIENCE = 30.0
"""Seconds without a result after which the pool looks whether the cluster can run tasks at all."""
_TIMEOUT = 10.0
"""Seconds for a connection to the address. Ray itself tries for two minutes."""
_MAX_REASON = 300
"""Longest reason of Ray's that is shown whole, in characters."""
_COMPARED = ("zcpt", "torch")
"""Packages that must have the same version on all machines, for the same results."""


def open_pool(
    workers: int | None, work: str, *, ray: str | None = None, devices: Sequence[str | torch.device] = ()
) -> Pool:
    """Return processes on this machine, or on a Ray cluster.

    Args:
        workers: Number of processes; None is 1 on this machine, and as many as the cluster has CPUs or GPUs on Ray.
        work: What they do, for messages: 'scores networks'.
        ray: Address of the Ray cluster, or 'auto' for the one of this machine; None stays on this machine.
        devices: Devices that the functions compute on; where one is a GPU, every task takes a GPU of the cluster.
    """
    if ray is None:
        return WorkerPool(workers or 1, work)
    return RayPool(ray, workers, work, needs_gpu=any(torch.device(device).type == "cuda" for device in devices))


def check_devices(devices: Sequence[str | torch.device]) -> None:
    """Raise ConfigError if a device cannot be used by the tasks of Ray, which see one GPU each at most."""
    for device in map(torch.device, devices):
        if device.type not in ("cpu", "cuda") or device.index is not None:
            raise ConfigError(f"--device {device} cannot be used with --ray: give cpu, or cuda for a GPU of each task.")


@dataclass(eq=False)
class _Function:
    """A function in the object store of the cluster."""

    function: object
    reference: Any
    seconds: float = math.inf
    """Time of an item, from those that have been measured."""


@dataclass(eq=False)
class _Part:
    """Items of one task."""

    indices: range
    attempts: int = 0


@dataclass(frozen=True)
class _Answer:
    """What a task returns: the results before an error, where there is one."""

    results: list[Any]
    error: Exception | None
    seconds: float


class RayPool(Pool):
    """Tasks of a Ray cluster that apply functions to items, several at once.

    The interface is that of ``WorkerPool``::

        with RayPool("auto", None, "scores networks") as pool:
            scores = pool.map(function, items)

    A function is put into the object store once, and every process reads it once. Each task computes in one thread. It
    takes up to 50 items, as many as take about five seconds together; what takes longer, such as a training, is a task
    of its own. If a process or a machine is lost, its tasks are repeated on what is left.

    Args:
        address: Address of the cluster, such as 'HOST:6379'; 'auto' is the one that runs on this machine. After
            ``ray.init`` in the same program its connection is used, and kept.
        size: Number of tasks at a time; None is one for each CPU of the cluster, or for each GPU.
        work: What the tasks do, for messages: 'scores networks'.
        needs_gpu: Whether each task takes a GPU.
    """

    has_same_files = False

    def __init__(self, address: str, size: int | None, work: str, needs_gpu: bool = False) -> None:
        self.address = address
        self.size = size or 0
        self.work = work
        self.resource = "GPU" if needs_gpu else "CPU"
        self._ray: Any = None
        self._task: Any = None
        self._is_connected_here = False
        self._functions: list[_Function] = []
        self._running: dict[Any, _Part] = {}

    def __enter__(self) -> RayPool:
        """Connect to the cluster.

        Raises:
            ConfigError: Ray is not installed, there is no cluster at the address, or it does not have the resources.
        """
        self._ray = _import_ray()
        if self._ray.is_initialized():
            connected = self._ray.get_runtime_context().gcs_address
            if self.address not in ("auto", connected):
                raise ConfigError(f"--ray {self.address}: this program is connected to the cluster at {connected}.")
        else:
            _connect(self._ray, self.address)
            self._is_connected_here = True
        total = self._count_resources()
        if total < 1:
            self._disconnect()
            raise ConfigError(
                f"the Ray cluster at {self.address} has no {self.resource}, and every task needs one"
                f"{': give --device cpu' if self.resource == 'GPU' else ''}."
            )
        self.size = self.size or total
        self.machines = sum(bool(node["Alive"]) for node in self._ray.nodes())
        # Lost tasks are repeated here, not by Ray, so that the log tells of them.
        self._task = self._ray.remote(_apply_function).options(
            num_cpus=1, num_gpus=int(self.resource == "GPU"), max_retries=0, scheduling_strategy="SPREAD"
        )
        _log.info(
            f"{pluralize(self.size, 'task')} at a time on the Ray cluster at {self.address}: "
            f"{pluralize(self.machines, 'machine')}, {pluralize(total, self.resource)}"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cancel()
        self._functions.clear()
        self._disconnect()

    def _count_resources(self) -> int:
        return int(self._ray.cluster_resources().get(self.resource, 0))

    def _disconnect(self) -> None:
        if self._is_connected_here:
            self._is_connected_here = False
            self._ray.shutdown()

    def _run(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[tuple[int, Result], None, None]:
        if not items:
            return
        known = self._put(function)
        lost: deque[_Part] = deque()
        first = 0
        try:
            while first < len(items) or lost or self._running:
                while (first < len(items) or lost) and len(self._running) < self.size:
                    part = lost.popleft() if lost else _Part(self._choose_indices(known, first, len(items)))
                    first = max(first, part.indices.stop)
                    self._submit(known, part, items)
                for part, answer in self._wait(lost):
                    if answer.results:
                        known.seconds = answer.seconds / len(answer.results)
                    yield from zip(part.indices, answer.results, strict=False)
                    if answer.error is not None:
                        raise answer.error
        finally:
            self._cancel()

    def _choose_indices(self, known: _Function, first: int, end: int) -> range:
        """Return the next items: about as many as fill ``_SECONDS``, and not more than the other tasks have."""
        fitting = int(min(_MAX_ITEMS, _SECONDS / max(known.seconds, 1e-6)))
        share = -(-(end - first) // (2 * self.size))
        return range(first, min(end, first + max(1, min(fitting, share))))

    def _put(self, function: object) -> _Function:
        """Return a function in the object store, after putting it there if it is new."""
        for known in self._functions:
            if known.function == function:
                return known
        try:
            reference = self._ray.put(function)
        except (TypeError, ValueError, AttributeError, self._ray.exceptions.RayError) as error:
            reason = shorten(" ".join(str(error).split()), _MAX_REASON)
            raise ConfigError(
                f"the code that {self.work} cannot be sent to other machines ({reason}): define its classes and "
                "functions in a module, or leave out --ray."
            ) from None
        self._functions.append(_Function(function, reference))
        return self._functions[-1]

    def _submit(self, known: _Function, part: _Part, items: Sequence[Item]) -> None:
        part.attempts += 1
        # In a tuple Ray sends the reference: each process reads the function once, not with every task.
        task = self._task.remote((known.reference,), [items[index] for index in part.indices], _get_compared())
        self._running[task] = part

    def _wait(self, lost: deque[_Part]) -> Iterator[tuple[_Part, _Answer]]:
        """Wait for tasks, and yield their answers; put those that were lost into ``lost``."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_PATIENCE)
        if not ready and not self._count_resources():
            _log.warning(f"the Ray cluster has no {self.resource} at the moment: waiting for a machine")
        for task in ready:
            part = self._running.pop(task)
            try:
                answer: _Answer = self._ray.get(task)
            except self._ray.exceptions.RayTaskError as error:
                # Errors of the function are in an answer, so the machine could not begin with it.
                raise ConfigError(
                    f"a machine of the Ray cluster cannot run zcpt ({_get_last_line(error)}): install the same "
                    "packages on all machines."
                ) from None
            except self._ray.exceptions.RayError as error:
                self._note_loss(part, error)
                lost.append(part)
            else:
                yield part, answer

    def _note_loss(self, part: _Part, error: Exception) -> None:
        """Log that a task was lost; raise LostError if it has been begun often enough."""
        is_node = isinstance(error, self._ray.exceptions.NodeDiedError)
        reason = "was lost with its machine" if is_node else f"was killed ({type(error).__name__})"
        if part.attempts == _ATTEMPTS:
            raise LostError(
                f"a Ray task that {self.work} {reason} in {_ATTEMPTS} attempts, perhaps because memory ran out: "
                "repeat the command with fewer --workers to resume."
            )
        _log.warning(f"a Ray task that {self.work} {reason}: its work is repeated")

    def _cancel(self) -> None:
        """Stop the tasks that are running."""
        tasks, self._running = list(self._running), {}
        for task in tasks:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(task, force=True)  # code of torch in progress does not see a gentle request


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("--ray needs the package 'ray': install it by \"pip install 'zcpt[ray]'\".") from None
    return ray


def _connect(ray: Any, address: str) -> None:
    """Connect to a cluster; ConfigError if that fails."""
    resolved = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    try:
        _check_port(resolved)
        with _keep_signal_handlers():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ImportError, AssertionError, ray.exceptions.RayError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        if address == "auto" and isinstance(error, ConnectionError):
            reason = "none runs on this machine"
        raise ConfigError(
            f"--ray {address}: cannot connect to a Ray cluster ({shorten(reason.rstrip('.'), _MAX_REASON)}): start one "
            "with 'ray start --head', give its address, and install the same Python and Ray on all machines."
        ) from None


def _check_port(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT; other kinds of addresses are left to Ray."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT).close()


@contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Restore the handler of SIGTERM, for which Ray sets its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _get_last_line(error: Exception) -> str:
    """Return the line of a traceback in an error that has the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")] or [type(error).__name__]
    return shorten(lines[-1].rstrip(".:"), _MAX_REASON)


def _get_compared() -> dict[str, str]:
    versions = get_versions()
    return {name: versions[name] for name in _COMPARED}


def _apply_function(references: tuple[Any], items: Sequence[Any], versions: dict[str, str]) -> _Answer:
    """Apply a function to items, in a process of the cluster."""
    machine, own = platform.node(), _get_compared()
    torch.set_num_threads(1)
    results: list[Any] = []
    started = time.perf_counter()
    try:
        for name, version in versions.items():
            if own[name] != version:
                raise ConfigError(
                    f"machine {machine} of the Ray cluster has {name} {own[name]}, and this one {version}: install the "
                    "same version on all."
                )
        function = _load_function(references[0], machine)
        started = time.perf_counter()
        for item in items:
            results.append(function(item))  # those before an error are kept
    except Exception as error:
        return _Answer(results, make_portable(error, f"machine {machine}"), time.perf_counter() - started)
    return _Answer(results, None, time.perf_counter() - started)


@lru_cache(maxsize=2)  # one that scores and one that measures
def _load_function(reference: Any, machine: str) -> Callable[[Any], Any]:
    ray = _import_ray()
    try:
        function: Callable[[Any], Any] = ray.get(reference)
    except (ImportError, AttributeError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"machine {machine} of the Ray cluster cannot load the code that is to run ({_get_last_line(error)}): "
            "install the same packages and modules on all machines."
        ) from None
    return function
