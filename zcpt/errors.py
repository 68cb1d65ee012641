"""The errors that a user can cause. Each message says what was given, what is allowed and what to type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZcptError(Exception):
    """Anything that the caller can mend; the command line shows it as one sentence and exits with 2."""


class ConfigError(ZcptError):
    """An option, a run folder or a combination of them that cannot be used."""


class SpaceError(ZcptError):
    """An unknown search space, or an architecture that is not one of the space's."""


class ProxyError(ZcptError):
    """An unknown proxy, or a network and batch that the proxy cannot score."""


class InfeasibleError(ZcptError):
    """Budgets that no architecture of the space keeps."""


class DataError(ZcptError):
    """A data set that is missing, empty, broken or too small."""


class LostError(Exception):
    """Work in several processes that has lost one; nothing that the caller gave is wrong, and it can be resumed."""


_LISTED = 20


def describe_unknown_name(kind: str, given: str, known: Iterable[str], listing: str = "") -> str:
    """One sentence for a name that nothing is registered under, with the nearest one that is.

    Args:
        kind: What the name should have been.
        given: The name.
        known: All names.
        listing: A command that shows them all.
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    choices = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    hint = f"did you mean '{near[0]}'?" if near else f"choose from {choices}."
    return f"unknown {kind} '{given}': {hint}" + (f" ('{listing}' shows them all)" if listing else "")
