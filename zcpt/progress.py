"""Progress of long work: a bar on a terminal and in a notebook, and elsewhere a line now and then."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_log = logging.getLogger(__name__)
_SECONDS = 20.0
"""Time before the first line, and the least time between two."""
_SHARE = 0.05
"""Least time between two lines as a share of the time so far, so that a log of days stays short."""
_LINE_WITHOUT_TOTAL = "{desc}: {n_fmt} after {elapsed}{postfix}"
_COLUMNS, _LINES = 80, 20
"""Size of the screen where it is unknown."""
_LINE = "{desc}: {percentage:.0f} % after {elapsed}, {remaining} left{postfix}"


class _Bar(tqdm):  # type: ignore[type-arg]  # the class is generic in its stubs only
    monitor_interval = 0  # tqdm would start a thread, which every bar of an exhausted process would wait for


class _LogLines(_Bar):
    """A bar that logs lines instead of drawing."""

    _next_line = 0.0

    # Longer pauses are made here and not by `mininterval`: tqdm's iterator keeps a copy of it, and would then count
    # some items twice.
    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        elapsed = self.format_dict["elapsed"]
        if msg == "":  # a bar that is closed and not left
            return
        if self.disable or elapsed >= self._next_line:
            _log.info(str(self))
            self._next_line = elapsed + max(_SECONDS, _SHARE * elapsed)


def is_notebook() -> bool:
    """Return whether Python runs in a Jupyter kernel, whose streams are no terminals but can show a bar."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def is_terminal() -> bool:
    """Return whether the standard error stream is open and a terminal."""
    # A replaced stream may lack any of these attributes.
    is_closed, isatty = getattr(sys.stderr, "closed", False), getattr(sys.stderr, "isatty", None)
    return isatty is not None and not is_closed and bool(isatty())


def _find_screen() -> dict[str, int]:
    """Return tqdm's options for the size of the screen, which notebooks and some terminals do not know."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, AttributeError):
        size = os.terminal_size((0, 0))
    return {"ncols": size.columns or _COLUMNS, "nrows": size.lines or _LINES}


def show_progress(
    iterable: Iterable[Any] | None = None, title: str = "", total: float | None = None, **options: Any
) -> tqdm[Any]:
    """Return a bar of tqdm on a terminal and in a notebook; elsewhere its updates are logged as a line now and then.

    Args:
        iterable: Items of the work; None for a bar that is advanced by ``update``.
        title: Name of the work.
        total: Amount of work; None takes the number of items.
        options: Further arguments of tqdm.
    """
    if is_terminal() or is_notebook():
        return _Bar(iterable, title, total, **{**_find_screen(), **options})
    if total is None and not hasattr(iterable, "__len__"):
        options["bar_format"] = _LINE_WITHOUT_TOTAL
    else:
        options["bar_format"] = _LINE
    lines = {"file": io.StringIO(), "miniters": 1, "mininterval": _SECONDS, "delay": _SECONDS}
    return _LogLines(iterable, title, total, **{**options, **lines})
