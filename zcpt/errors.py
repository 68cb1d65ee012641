"""Errors caused by user input. Each message has what was given, what is allowed and what to type."""

from __future__ import annotations

import difflib
import errno
import traceback
from collections.abc import Iterable, Mapping

from zcpt.printing import shorten


class ZcptError(Exception):
    """Base class of errors caused by user input. The command line prints the message and exits with code 2."""


class ConfigError(ZcptError):
    """An option, a run folder or a combination of options that cannot be used."""


class SpaceError(ZcptError):
    """An unknown search space or choice, or an architecture that does not belong to the space."""


class NotationError(SpaceError):
    """A text that is not in the notation of a space at all; the message may quote the beginning of the text."""


class ProxyError(ZcptError):
    """An unknown proxy, or a network or batch that the proxy cannot score."""


class InfeasibleError(ZcptError):
    """Budgets that no architecture of the space meets."""


class DataError(ZcptError):
    """A data set that is missing, empty, broken or too small."""


class StorageError(ZcptError):
    """A file that cannot be written: the disk is full or broken, or its folder was deleted meanwhile."""


class CallbackError(ZcptError):
    """A callback of the caller that raised an error, which is its ``__cause__``. The run can be resumed."""


class LostError(Exception):
    """A process of a group was lost. Not caused by user input: the run can be resumed."""


OUT_OF_MEMORY = (
    "memory ran out: give the process more, close other programs, or lower --batch-size, --validation-batch-size, "
    "--channels, --layers, --image-size or --workers"
)
_MEMORY_TEXTS = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "bad_alloc",
    "failed to map segment",
    "start new thread",
    "start a thread",
)
"""Parts of the messages by which torch, the C++ library, the dynamic linker and Python tell that memory ran out."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or the one that caused it, tells that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError | ImportError) and any(text in str(error) for text in _MEMORY_TEXTS):
            return True
        error = error.__cause__
    return False


_MAX_LISTED = 20
"""Number of known names that a message lists at most."""


def describe_error(error: BaseException, module: str = "") -> str:
    """Return the class and the first line of an error that code of the user raised, and where.

    Args:
        error: The error.
        module: Name of the user's module; the last line that ran in it is given.
    """
    reason = shorten((str(error).splitlines() or [""])[0].rstrip("."), 200)
    text = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    own = [
        (frame.f_code.co_filename, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") == module
    ]
    return f"{text} (line {own[-1][1]} of {shorten(own[-1][0], 200)})" if own else text


def describe_unknown_name(kind: str, given: str, known: Iterable[str], listing: str = "") -> str:
    """Return the message for an unknown name: the nearest known name, or a list of the known names.

    Args:
        kind: Kind of thing that the name should denote, such as 'proxy'.
        given: The unknown name.
        known: All known names.
        listing: Command that lists all names.

    Example:
        ``unknown proxy 'nasvot': did you mean 'naswot'? ('zcpt list proxies' lists all of them)``
    """
    names = sorted(known)
    given = shorten(given)
    # As NASWOT and grad-norm are written elsewhere.
    folded = {name.casefold().replace("-", "_"): name for name in names}
    near = difflib.get_close_matches(given.casefold().replace("-", "_"), folded, n=1, cutoff=0.5)
    choices = ", ".join(names[:_MAX_LISTED]) + (" and others" if len(names) > _MAX_LISTED else "")
    hint = f"did you mean '{folded[near[0]]}'?" if near else f"choose from {choices}."
    return f"unknown {kind} '{given}': {hint}" + (f" ('{listing}' lists all of them)" if listing else "")


def refuse_old_names(cls: type, renamed: Mapping[str, str], error: type[ZcptError]) -> None:
    """Raise an error if a subclass of the user overrides something under its name in version 0.1.

    Nothing reads the old name any more, so without this check the override would be ignored without a word.

    Args:
        cls: The new subclass, for ``__init_subclass__``.
        renamed: Old name -> name now.
        error: Class of the error.
    """
    for old, new in renamed.items():
        reader = next((base for base in cls.__mro__ if new in vars(base)), None)
        # A class that has both names works with both versions, as do its subclasses.
        if hasattr(cls, old) and not hasattr(reader, old):
            raise error(f"{cls.__name__}.{old} is now called {new}: rename it.")
