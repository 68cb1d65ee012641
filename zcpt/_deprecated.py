"""Public names of version 0.1, kept for one version with a DeprecationWarning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from zcpt.architecture import Architecture
from zcpt.scoring import score_mixtures
from zcpt.search import Callback, Decision, SearchConfig, SearchResult
from zcpt.space import NetworkConfig, SearchSpace, WidthDepth


class Listener(Callback):
    """A callback with the method names of version 0.1, such as ``decided`` for ``on_decision``."""

    def started(self, space: SearchSpace, config: SearchConfig) -> None:
        """Run before the first decision."""

    def decided(self, proposal: int, decision: Decision, replayed: bool) -> None:
        """Run after a decision is written to the journal."""

    def proposed(self, proposal: int, architecture: Architecture) -> None:
        """Run after all choices of a proposal are decided."""

    def validating(self, candidates: Sequence[Architecture]) -> None:
        """Run before stage 2."""

    def validated(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        """Run after every candidate is scored on one validation batch."""

    def finished(self, result: SearchResult) -> None:
        """Run after the result is written."""

    def closed(self) -> None:
        """Run last, on success or failure."""

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        self.started(space, config)

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        self.decided(proposal, decision, replayed)

    def on_proposal(self, proposal: int, architecture: Architecture) -> None:
        self.proposed(proposal, architecture)

    def on_validation_start(self, candidates: Sequence[Architecture]) -> None:
        self.validating(candidates)

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        self.validated(batch, scores, replayed)

    def on_search_end(self, result: SearchResult) -> None:
        self.finished(result)

    def on_close(self) -> None:
        self.closed()


DEPRECATED: dict[str, tuple[object, str]] = {
    "Listener": (Listener, "Callback"),
    "Shape": (NetworkConfig, "NetworkConfig"),
    "Size": (WidthDepth, "WidthDepth"),
    "evaluate": (score_mixtures, "score_mixtures"),
}
"""Old name -> the object, and its new name."""


def load_deprecated(name: str) -> object:
    """Return the object of an old public name, with a DeprecationWarning that gives the new name."""
    value, new_name = DEPRECATED[name]
    # Level 3: the line of the caller that wrote zcpt.NAME, behind this function and zcpt.__getattr__.
    warnings.warn(f"zcpt.{name} is now zcpt.{new_name}", DeprecationWarning, stacklevel=3)
    return value
