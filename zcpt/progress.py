"""Progress of long work: a bar on a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_log = logging.getLogger(__name__)
_SECONDS = 20.0
"""Time before the first line, and the least time between two."""
_SHARE = 0.05
"""Least time between two lines as a share of the time so far, so that a log of days stays short."""
_LINE = "{desc}: {percentage:.0f} % after {elapsed}, {remaining} left{postfix}"


class _Bar(tqdm):  # type: ignore[type-arg]  # the class is generic in its stubs only
    monitor_interval = 0  # tqdm would start a thread, which every bar of an exhausted process would wait for


class _LogLines(_Bar):
    """A bar that logs lines instead of drawing."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        _log.info(msg or str(self))
        self.mininterval = max(_SECONDS, _SHARE * self.format_dict["elapsed"])


def show_progress(
    iterable: Iterable[Any] | None = None, title: str = "", total: float | None = None, **options: Any
) -> tqdm[Any]:
    """Return a bar of tqdm on a terminal; elsewhere one whose updates are logged as a line now and then.

    Args:
        iterable: Items of the work; None for a bar that is advanced by ``update``.
        title: Name of the work.
        total: Amount of work; None takes the number of items.
        options: Further arguments of tqdm.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        return _Bar(iterable, title, total, **options)
    lines = {"bar_format": _LINE, "file": io.StringIO(), "miniters": 1, "mininterval": _SECONDS, "delay": _SECONDS}
    return _LogLines(iterable, title, total, **{**options, **lines})
