"""Callbacks: methods that a search calls after every decision, proposal and validation batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from zcpt.architecture import Architecture
from zcpt.errors import CallbackError, ConfigError, LostError, ZcptError, is_out_of_memory, refuse_old_names
from zcpt.printing import shorten
from zcpt.search.config import SearchConfig
from zcpt.search.decision import Decision
from zcpt.search.result import Finalist, SearchResult
from zcpt.space import SearchSpace

_RENAMED = {
    "started": "on_search_start",
    "decided": "on_decision",
    "proposed": "on_proposal",
    "validating": "on_validation_start",
    "validated": "on_validation_batch",
    "finished": "on_search_end",
    "closed": "on_close",
}
"""Method of a listener in version 0.1 -> its name now."""
_METHODS = (*_RENAMED.values(), "on_finalists_start", "on_finalist")


class Callback:
    """Base class of callbacks: override the methods that you need.

    A resumed search repeats all calls from the journal, with ``replayed=True`` for events of the interrupted search.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        methods = {old: new for old, new in _RENAMED.items() if callable(getattr(cls, old, None))}
        refuse_old_names(cls, methods, ConfigError)

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        """Run before the first decision."""

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        """Run after a decision, or a survey, is written to the journal."""

    def on_proposal(self, proposal: int, architecture: Architecture) -> None:
        """Run after all choices of a proposal are decided."""

    def on_validation_start(self, candidates: Sequence[Architecture]) -> None:
        """Run before stage 2; with a single candidate, stage 2 is skipped."""

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        """Run after every candidate is scored on one validation batch."""

    def on_finalists_start(self, finalists: Sequence[Architecture]) -> None:
        """Run before the finalists are measured, the best proposals by validation, if there are any."""

    def on_finalist(self, finalist: Finalist, replayed: bool) -> None:
        """Run after a finalist is measured; the order is that in which they end."""

    def on_search_end(self, result: SearchResult) -> None:
        """Run after the result is written; not called when the search fails."""

    def on_close(self) -> None:
        """Run last, on success or failure, if ``on_search_start`` was called and did not fail."""


class CallbackList(Callback):
    """All callbacks of a search.

    An error in one that is not part of zcpt is raised as CallbackError.

    Args:
        callbacks: Called in this order.
        hold_replayed: Hold back events that are replayed from a journal until the first new event. A journal that turns
            out to belong to another search is then refused before any callback has acted on it.
    """

    def __init__(self, callbacks: Sequence[Callback], hold_replayed: bool = False) -> None:
        self.callbacks = [CallbackGuard(callback) for callback in check_callbacks(callbacks)]
        self._holding = hold_replayed
        self._held: list[Callable[[Any], None]] = []

    def _dispatch(self, event: Callable[[Any], None], is_new: bool = False) -> None:
        self._held.append(event)
        self._holding = self._holding and not is_new
        if self._holding:
            return
        # Emptied before the calls: when a callback raises, `on_close` follows and must not repeat the events before.
        events = self._held
        self._held = []
        for held_event in events:
            for callback in self.callbacks:
                held_event(callback)

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        self._dispatch(lambda callback: callback.on_search_start(space, config))

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        self._dispatch(lambda callback: callback.on_decision(proposal, decision, replayed), is_new=not replayed)

    def on_proposal(self, proposal: int, architecture: Architecture) -> None:
        self._dispatch(lambda callback: callback.on_proposal(proposal, architecture))

    def on_validation_start(self, candidates: Sequence[Architecture]) -> None:
        self._dispatch(lambda callback: callback.on_validation_start(candidates))

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        self._dispatch(lambda callback: callback.on_validation_batch(batch, scores, replayed), is_new=not replayed)

    def on_finalists_start(self, finalists: Sequence[Architecture]) -> None:
        # The journals of both stages are known by now to be those of this search, so nothing has to be held back.
        self._dispatch(lambda callback: callback.on_finalists_start(finalists), is_new=True)

    def on_finalist(self, finalist: Finalist, replayed: bool) -> None:
        self._dispatch(lambda callback: callback.on_finalist(finalist, replayed), is_new=not replayed)

    def on_search_end(self, result: SearchResult) -> None:
        self._dispatch(lambda callback: callback.on_search_end(result), is_new=True)

    def on_close(self) -> None:
        # While events are held, no callback has received `on_search_start`, so there is nothing to close.
        if self._holding:
            return
        with ExitStack() as stack:  # all are closed, whatever the others raise
            for callback in reversed(self.callbacks):
                if callback.has_started:
                    stack.callback(callback.on_close)


class CallbackGuard:
    """Callback whose errors name it, so that nobody looks for them in zcpt."""

    def __init__(self, callback: object, first: str = "on_search_start") -> None:
        self._callback = callback
        self._first = first
        self.has_started = False
        """Whether the first method, such as ``on_search_start``, has been called, and has not failed."""

    def __getattr__(self, method: str) -> Callable[..., None]:
        """Return a method of the callback that raises CallbackError."""
        call: Callable[..., None] = getattr(self._callback, method)

        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                call(*args, **kwargs)
            except (ZcptError, LostError):
                raise
            except Exception as error:
                kind = type(self._callback)
                if kind.__module__.partition(".")[0] == "zcpt" or is_out_of_memory(error):
                    raise
                raise CallbackError(
                    f"the callback {kind.__qualname__}.{method} raised {type(error).__name__}: {error}. "
                    "What was finished before is kept: correct the callback, and resume the search if it has a "
                    "run folder."
                ) from error
            self.has_started = self.has_started or method == self._first

        return guarded


def check_callbacks(callbacks: object) -> list[Callback]:
    """Return callbacks as a list; raise ConfigError unless each one has the methods of ``Callback``."""
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise ConfigError(f"callbacks must be a list of zcpt.Callback objects, not {shorten(repr(callbacks))}.")
    checked = list(callbacks)
    for callback in checked:
        lacking = [name for name in _METHODS if not callable(getattr(callback, name, None))]
        if isinstance(callback, type) or lacking:
            reason = "is a class: call it" if isinstance(callback, type) else f"has no method {lacking[0]}"
            raise ConfigError(f"a callback must be a zcpt.Callback object, and {shorten(repr(callback))} {reason}.")
    return checked


def add_listeners(callbacks: Sequence[Callback], listeners: Sequence[Callback] | None) -> Sequence[Callback]:
    """Return the callbacks with those of the deprecated argument ``listeners``, which warns."""
    if listeners is None:
        return callbacks
    # Level 3: the line of the user's call, behind this function and the one that has the argument.
    warnings.warn("the argument 'listeners' is now 'callbacks'", DeprecationWarning, stacklevel=3)
    return [*check_callbacks(callbacks), *check_callbacks(listeners)]
