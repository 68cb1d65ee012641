"""One search in several processes: who is who, and how they hear of each other's results and failures.

What travels between them is small, and always on the CPU, so a group of its own with the backend gloo carries it,
whatever the devices are and whichever backend the caller's own group has.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from zcpt.errors import LostError, ZcptError

_TIMEOUT = timedelta(days=1)
"""A process that dies is noticed by its closed connections, at once. This is for a machine that vanishes without
closing them, and must be longer than a proposal takes: whoever is done with his waits for the others."""
_LOST = "another process of the search was lost, or torchrun was stopped"

Value = TypeVar("Value")


class Ranks:
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


ALONE = Ranks()


class _Group(Ranks):
    """The processes of torch.distributed's default group."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.group = dist.new_group(backend="gloo", timeout=_TIMEOUT)
        self._told = False

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
            raise
        except Exception as error:
            if not self._told:
                self._told = True
                self._exchange(_portable(error, self.rank), None)
            raise

    def _exchange(self, failure: Exception | None, value: Value) -> list[tuple[Exception | None, Value]]:
        outcomes: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(outcomes, (failure, value), group=self.group)
        except RuntimeError as error:
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
def joined() -> Iterator[Ranks]:
    """The processes of torch.distributed's default group, where there is one; else this one alone."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        yield ALONE
        return
    ranks = _Group()
    try:
        with ranks.together():
            yield ranks
    finally:
        dist.destroy_process_group(ranks.group)
