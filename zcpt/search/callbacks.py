"""Callbacks: what a search calls after every decision, proposal and validation batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zcpt.architecture import Architecture
from zcpt.search.config import SearchConfig
from zcpt.search.decision import Decision
from zcpt.search.result import SearchResult
from zcpt.space import SearchSpace


class Callback:
    """Override what you want to hear. After a resume everything is told again from the journal, with ``replayed``."""

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        """The settings are known and nothing has been decided."""

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        """A decision, or a look at the candidates that decides nothing yet, is in the journal."""

    def on_proposal(self, proposal: int, architecture: Architecture) -> None:
        """All choices of a proposal are decided."""

    def on_validation_start(self, candidates: Sequence[Architecture]) -> None:
        """Stage 2 begins; with a single candidate it is skipped."""

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        """Every candidate has been scored on one validation batch."""

    def on_search_end(self, result: SearchResult) -> None:
        """The architecture is known."""

    def on_close(self) -> None:
        """Nothing more will be told: the search is finished or has failed. Not told if nothing was before."""


class CallbackList(Callback):
    """All listeners of a search.

    Args:
        listeners: Those who are told.
        patient: Hold back what is replayed from a journal until the first thing that is new: a journal that turns
            out to belong to another search is then refused before anybody has acted on it.
    """

    def __init__(self, callbacks: Sequence[Callback], patient: bool = False) -> None:
        self.callbacks, self._patient = callbacks, patient
        self._held: list[Callable[[Callback], None]] = []

    def _tell(self, message: Callable[[Callback], None], new: bool = False) -> None:
        self._held.append(message)
        self._patient = self._patient and not new
        if not self._patient:
            messages, self._held = self._held, []  # first: a listener that fails is not told again
            for held in messages:
                for callback in self.callbacks:
                    held(callback)

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        self._tell(lambda callback: callback.on_search_start(space, config))

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        self._tell(lambda callback: callback.on_decision(proposal, decision, replayed), new=not replayed)

    def on_proposal(self, proposal: int, architecture: Architecture) -> None:
        self._tell(lambda callback: callback.on_proposal(proposal, architecture))

    def on_validation_start(self, candidates: Sequence[Architecture]) -> None:
        self._tell(lambda callback: callback.on_validation_start(candidates))

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        self._tell(lambda callback: callback.on_validation_batch(batch, scores, replayed), new=not replayed)

    def on_search_end(self, result: SearchResult) -> None:
        self._tell(lambda callback: callback.on_search_end(result), new=True)

    def on_close(self) -> None:
        if not self._patient:
            self._tell(lambda callback: callback.on_close())
