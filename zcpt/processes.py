"""Processes that share a search or a training: their ranks, and the exchange of results and failures between them.

All messages are small and on the CPU, so a separate gloo group carries them, whatever the devices are and whichever
backend the caller's own group has.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from zcpt.errors import ConfigError, LostError, ZcptError, is_out_of_memory

_TIMEOUT = timedelta(days=1)
"""Timeout of an exchange. A process that dies is detected at once by its closed connections; the timeout is for a
machine that vanishes without closing them. It must be longer than a proposal takes, since a rank that has finished
its own blocks until the others have."""
LOST = "another process was lost, or torchrun was stopped"
"""Message of a LostError, without what to do."""

Value = TypeVar("Value")


class ProcessGroup:
    """Processes that share a search or a training. The base class is a group of a single process."""

    rank = 0
    size = 1

    @property
    def is_main(self) -> bool:
        """True on rank 0, which writes the result and calls the callbacks."""
        return self.rank == 0

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes by rank. A collective call: every process blocks until all have made it.

        Raises:
            Exception: A process has failed: its ZcptError as it is, any other error as RuntimeError.
            LostError: A process has died.
        """
        return [value]

    @contextmanager
    def propagate_errors(self) -> Iterator[None]:
        """Send an error inside the block to the other processes; they raise it at their next ``gather``."""
        yield

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block on rank 0 before the other ranks, for example to download a data set once."""
        # One exchange for all: the other ranks join it before their block and so wait; rank 0 joins it after its own.
        if not self.is_main:
            self.gather(None)
        yield
        if self.is_main:
            self.gather(None)

    @contextmanager
    def leave_on_error(self) -> Iterator[None]:
        """Leave the group at an error inside the block, where the other processes exchange tensors of their own.

        They would never join an exchange of errors; they detect the closed connection when this process ends. It
        prints its error, whatever its rank.
        """
        yield

    def barrier(self) -> None:
        """Wait for all ranks, including those that failed."""


SINGLE_PROCESS = ProcessGroup()


class _DistributedGroup(ProcessGroup):
    """The processes of torch.distributed's default group."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self.group = dist.new_group(backend="gloo", timeout=_TIMEOUT)
        self._error_is_shared = False
        self._has_left = False

    def gather(self, value: Value) -> list[Value]:
        outcomes = self._exchange(None, value)
        failures = [failure for failure, _ in outcomes if failure is not None]
        if failures:
            # All processes have it now. Sending it again would be an exchange that no other process joins.
            self._error_is_shared = True
            raise failures[0]
        return [gathered for _, gathered in outcomes]

    @contextmanager
    def propagate_errors(self) -> Iterator[None]:
        try:
            yield
            # One more exchange: a process that fails after its last `gather` would otherwise fail alone.
            self.gather(None)
        except LostError:
            self._has_left = True
            raise
        except Exception as error:
            if not self._error_is_shared and not self._has_left:
                self._error_is_shared = True
                self._exchange(make_portable(error, f"process {self.rank}"), None)
            raise
        except BaseException:
            # Ctrl-C: leave without an exchange, which could block for long; the others detect the closed connection.
            self._has_left = True
            raise

    @contextmanager
    def leave_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._has_left = True
            if not self.is_main and isinstance(error, Exception) and not isinstance(error, LostError):
                text = str(error) if isinstance(error, ZcptError) else "".join(traceback.format_exception(error))
                assert sys.__stderr__ is not None
                sys.__stderr__.write(f"process {self.rank}: {text}\n")
                sys.__stderr__.flush()
            raise

    def barrier(self) -> None:
        if not self._has_left:
            self._exchange(None, None)

    def _exchange(self, failure: Exception | None, value: Value) -> list[tuple[Exception | None, Value]]:
        outcomes: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(outcomes, (failure, value), group=self.group)
        except RuntimeError as error:
            self._has_left = True
            raise LostError(f"{LOST}.") from error
        return outcomes


def make_portable(error: Exception, process: str) -> Exception:
    """Return the error for other processes, free of classes that only the named, failed process can unpickle."""
    if isinstance(error, ZcptError):
        # The nearest class of zcpt.errors: a subclass defined elsewhere may not be importable in the other processes.
        classes = type(error).__mro__
        error_class: type[ZcptError] = next(c for c in classes if c.__module__ == ZcptError.__module__)
        return error_class(str(error))
    if is_out_of_memory(error):
        return MemoryError(str(error))
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror or str(error), error.filename)
    return RuntimeError(f"{process} failed:\n{''.join(traceback.format_exception(error))}")


@contextmanager
def join_default_group() -> Iterator[ProcessGroup]:
    """Yield the processes of torch.distributed's default group if it is initialised, else this process alone."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        yield SINGLE_PROCESS
        return
    processes = _DistributedGroup()
    try:
        with processes.propagate_errors():
            yield processes
    finally:
        dist.destroy_process_group(processes.group)


@contextmanager
def join_torchrun() -> Iterator[ProcessGroup]:
    """Yield the processes that torchrun has started. Only rank 0 prints.

    Raises:
        ConfigError: The environment variables are not those of torchrun.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE_PROCESS
        return
    with ExitStack() as stack:
        if os.environ.get("RANK", "0") != "0":
            devnull = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(devnull))
            stack.enter_context(redirect_stderr(devnull))
        try:
            # Tensors of a training on GPUs go by NCCL, which connects when the first of them does.
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ConfigError(
                f"WORLD_SIZE is set, but the processes cannot connect ({reason}): start them with torchrun, or "
                "unset it."
            ) from None
        stack.callback(dist.destroy_process_group)
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _raise_lost))
        processes = _DistributedGroup()
        failed = False
        try:
            yield processes
        except LostError:
            raise
        except Exception:
            failed = True
            traceback.print_exc()
        # torchrun stops all processes as soon as one exits with an error. Rank 0, which prints the error, must not be
        # stopped before it has done so.
        processes.barrier()
        if failed:
            raise SystemExit(1)


def _raise_lost(number: int, frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM, which torchrun sends after it has lost a process."""
    raise LostError(f"{LOST}.")
