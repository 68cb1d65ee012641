"""Callbacks of a multi-trial search."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from zcpt.errors import ConfigError
from zcpt.printing import shorten
from zcpt.search import CallbackGuard
from zcpt.space import SearchSpace
from zcpt.trials.config import TrialsConfig
from zcpt.trials.result import Trial, TrialsResult


class TrialsCallback:
    """Base class of callbacks: override the methods that you need.

    A resumed run repeats all calls from the journal, with ``replayed=True`` for trials of the interrupted run.
    """

    def on_trials_start(self, space: SearchSpace, config: TrialsConfig) -> None:
        """Run before the warm-up and the first trial."""

    def on_trial(self, trial: Trial, best: Trial | None, replayed: bool) -> None:
        """Run after a trial is written to the journal; ``best`` is the best one so far, None if all have failed."""

    def on_trials_end(self, result: TrialsResult) -> None:
        """Run after the result is written; not called when the run fails."""

    def on_close(self) -> None:
        """Run last, on success or failure, if ``on_trials_start`` was called and did not fail."""


class TrialsCallbackList(TrialsCallback):
    """All callbacks of a run; an error in one that is not part of zcpt is raised as CallbackError."""

    def __init__(self, callbacks: Sequence[TrialsCallback]) -> None:
        for callback in callbacks:
            if not isinstance(callback, TrialsCallback):
                raise ConfigError(
                    f"a callback of trials must be a zcpt.trials.TrialsCallback object, not {shorten(repr(callback))}."
                )
        self.callbacks = [CallbackGuard(callback, "on_trials_start") for callback in callbacks]

    def on_trials_start(self, space: SearchSpace, config: TrialsConfig) -> None:
        for callback in self.callbacks:
            callback.on_trials_start(space, config)

    def on_trial(self, trial: Trial, best: Trial | None, replayed: bool) -> None:
        for callback in self.callbacks:
            callback.on_trial(trial, best, replayed)

    def on_trials_end(self, result: TrialsResult) -> None:
        for callback in self.callbacks:
            callback.on_trials_end(result)

    def on_close(self) -> None:
        with ExitStack() as stack:  # all are closed, whatever the others raise
            for callback in reversed(self.callbacks):
                if callback.has_started:
                    stack.callback(callback.on_close)
