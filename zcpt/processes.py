"""One search in several processes: who is who, and how they hear of each other's results and failures.

What travels between them is small, and always on the CPU, so a group of its own with the backend gloo carries it,
whatever the devices are and whichever backend the caller's own group has.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn, TypeVar

import torch.distributed as dist

from zcpt.errors import ConfigError, LostError, ZcptError

_TIMEOUT = timedelta(days=1)
"""A process that dies is noticed by its closed connections, at once. This is for a machine that vanishes without
closing them, and must be longer than a proposal takes: whoever is done with his waits for the others."""
_LOST = "another process of the search was lost, or torchrun was stopped"

Value = TypeVar("Value")


class ProcessGroup:
    """The processes of a search; this class is the only one of a search in one process."""

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes the result and speaks for all."""
        return self.rank == 0

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, by rank. All have to call it, and wait for each other.

        Raises:
            Exception: A process has failed; a user's mistake as it is, anything else as RuntimeError.
            LostError: A process is gone.
        """
        return [value]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Tell the others of an error inside, so that all end: they hear of it when they next gather."""
        yield

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the first process go ahead, for what must not be done by several at a time."""
        if not self.first:
            self.gather(None)
        yield
        if self.first:
            self.gather(None)

    def part(self) -> None:
        """Wait until everybody has come to the end, well or not."""


SINGLE_PROCESS = ProcessGroup()


class _Group(ProcessGroup):
    """The processes of torch.distributed's default group."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.group = dist.new_group(backend="gloo", timeout=_TIMEOUT)
        self._told = self._left = False

    def gather(self, value: Value) -> list[Value]:
        outcomes = self._exchange(None, value)
        failures = [failure for failure, _ in outcomes if failure is not None]
        if failures:
            self._told = True
            raise failures[0]
        return [gathered for _, gathered in outcomes]

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
            self.gather(None)  # here others hear of what went wrong after the last gathering
        except LostError:
            self._left = True
            raise
        except Exception as error:
            if not self._told:
                self._told = True
                self._exchange(_portable(error, self.rank), None)
            raise
        except BaseException:
            self._left = True  # at once: others may be busy for long, and will see that this process is gone
            raise

    def part(self) -> None:
        if not self._left:
            self._exchange(None, None)

    def _exchange(self, failure: Exception | None, value: Value) -> list[tuple[Exception | None, Value]]:
        outcomes: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(outcomes, (failure, value), group=self.group)
        except RuntimeError as error:
            self._left = True
            raise LostError(f"{_LOST}.") from error
        return outcomes


def _portable(error: Exception, rank: int) -> Exception:
    """What the other processes raise: nothing that only the process that failed could unpickle."""
    if isinstance(error, ZcptError):
        kind: type[ZcptError] = next(kind for kind in type(error).__mro__ if kind.__module__ == ZcptError.__module__)
        return kind(str(error))
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror or str(error), error.filename)
    return RuntimeError(f"process {rank} failed:\n{''.join(traceback.format_exception(error))}")


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """The processes of torch.distributed's default group, where there is one; else this one alone."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        yield SINGLE_PROCESS
        return
    ranks = _Group()
    try:
        with ranks.together():
            yield ranks
    finally:
        dist.destroy_process_group(ranks.group)


@contextmanager
def launched() -> Iterator[ProcessGroup]:
    """The processes that torchrun has started. All but the first one are silent: it speaks for all.

    Raises:
        ConfigError: The environment is not as torchrun makes it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE_PROCESS
        return
    with ExitStack() as left:
        if os.environ.get("RANK", "0") != "0":
            nowhere = left.enter_context(open(os.devnull, "w"))
            left.enter_context(redirect_stdout(nowhere))
            left.enter_context(redirect_stderr(nowhere))
        try:
            dist.init_process_group("gloo")
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ConfigError(
                f"WORLD_SIZE is set, and the processes do not meet ({reason}): start them with torchrun, or unset it."
            ) from None
        left.callback(dist.destroy_process_group)
        left.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _stopped))
        ranks = _Group()
        failed = False
        try:
            yield ranks
        except LostError:
            raise
        except Exception:
            failed = True
            traceback.print_exc()
        # torchrun stops all as soon as one has ended with an error, and by now the first one has said which.
        ranks.part()
        if failed:
            raise SystemExit(1)


def _stopped(number: int, frame: FrameType | None) -> NoReturn:
    """Stop as if the connection to a process were lost: that is when torchrun sends SIGTERM."""
    raise LostError(f"{_LOST}.")
