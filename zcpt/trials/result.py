"""Trials, and the result of a multi-trial search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zcpt.architecture import Architecture
from zcpt.options import pluralize
from zcpt.printing import escape_text
from zcpt.trials.algorithm import Settings
from zcpt.trials.config import TrialsConfig


@dataclass(frozen=True)
class Trial:
    """An architecture that was measured."""

    number: int
    """Number of the trial, from 0."""
    architecture: Architecture
    reason: str
    """Why it was chosen: 'random', 'warm-up', 'mutation', 'move' ..."""
    value: float
    """Value that guides; -inf if the trial failed. An aggregate compares all trials, so that it may change later."""
    report: Mapping[str, float] = field(default_factory=dict)
    """Further numbers, such as the test accuracy."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Scores by the names of the proxies, as far as they were computed before the trial."""
    seconds: float = 0.0
    failure: str = ""
    """Why the trial failed; empty if it did not."""
    share: float = 1.0
    """Share of the measurement that was done after the trial, where trainings have stages."""


@dataclass(frozen=True)
class TrialsResult:
    """Result of ``zcpt.run_trials``."""

    architecture: Architecture
    """Architecture of the best value, of equal ones the first."""
    trials: tuple[Trial, ...]
    config: TrialsConfig
    settings: Settings
    """Settings of the algorithm."""
    run_dir: Path | None
    """Run folder; None if nothing was written."""

    @property
    def best(self) -> Trial:
        """The first trial of the best value."""
        best = find_best_trial(self.trials)
        assert best is not None
        return best

    def __repr__(self) -> str:
        folder = "" if self.run_dir is None else f", run folder {escape_text(str(self.run_dir))}"
        count = pluralize(len(self.trials), "trial")
        return (
            f"<{type(self).__name__} of {self.architecture.space}: best value {self.best.value:.6g} of {count}, in "
            f"trial {self.best.number}{folder}>"
        )


def find_best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the first trial of the best finite value, complete ones before those of a share; None if there is none."""
    finite = (trial for trial in trials if math.isfinite(trial.value))
    return max(finite, key=lambda trial: (trial.share >= 1, trial.value), default=None)
