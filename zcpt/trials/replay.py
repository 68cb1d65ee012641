"""Replay: repeat a finished run of trials from its folder, and find the first difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from zcpt.architecture import Architecture
from zcpt.devices import use_standard_settings
from zcpt.errors import ConfigError
from zcpt.files import read_run_file
from zcpt.journal import Journal, Record
from zcpt.trials.callbacks import TrialsCallback, TrialsCallbackList
from zcpt.trials.plan import PROXY, TrialsPlan
from zcpt.trials.result import find_best_trial
from zcpt.trials.run import TrialLoop, open_checkpoints
from zcpt.trials.run_folder import JOURNAL, read_trials_config


@dataclass(frozen=True)
class TrialsReplay:
    """Result of repeating a run of trials."""

    difference: str
    """First difference, in one sentence; empty if there is none."""
    trials: int
    """Number of equal trials, up to the difference."""
    largest_gap: float
    """Largest difference between two corresponding values or scores; 0 on the same machine with the same versions."""


@use_standard_settings()
def replay_trials(
    plan: TrialsPlan, run_dir: str | Path, *, measure: bool = True, callbacks: Sequence[TrialsCallback] = ()
) -> TrialsReplay:
    """Repeat the run of a finished run folder, and compare every trial. The folder stays as it is.

    Proxy scores are computed again.

    Args:
        plan: The same trials, from the settings of the folder.
        run_dir: The folder.
        measure: Measure the architectures again, too. Without it the algorithm is told the values of the journal, which
            repeats a run of trainings in seconds; a different value is not noticed then.
        callbacks: Objects whose methods are called after every trial.

    Raises:
        ConfigError: The folder holds no finished run of trials.
    """
    folder = Path(run_dir)
    document = read_trials_config(folder)
    if not (folder / "architecture.json").exists():
        raise ConfigError(f"the run in {folder} is not finished: resume it with --resume {folder}.")
    expected = Architecture.from_json(read_run_file(folder / "architecture.json"), str(folder / "architecture.json"))
    for key in ("value", "scores", "fingerprint", "architectures"):
        if document.get(key) != plan.document[key]:
            return TrialsReplay(f"its {key} is not that of the run.", 0, 0.0)
    before = {record["trial"]: record for record in Journal(folder / JOURNAL).records("trials")}
    journal = Journal()
    if not measure and plan.value != PROXY:
        for record in before.values():
            journal.append("trials", record)
    callback = TrialsCallbackList(callbacks)
    with ExitStack() as stack:
        workers = stack.enter_context(plan.open_pool())
        callback.on_trials_start(plan.space, plan.config)
        loop = TrialLoop(plan, journal, workers, callback, open_checkpoints(plan, None, stack))
        try:
            loop.run()
        except ConfigError as error:  # an architecture that differs from that of the journal
            return TrialsReplay(str(error), len(loop.trials), 0.0)
        finally:
            callback.on_close()
    return _compare(loop, before, expected)


def _compare(loop: TrialLoop, before: Mapping[int, Record], expected: Architecture) -> TrialsReplay:
    """Compare the trials of a run with those of a journal, and its best one with the expected architecture."""
    gap = 0.0
    for trial in loop.trials:
        number, now = trial.number, loop.space.format(trial.architecture)
        if number not in before:
            return TrialsReplay(f"the journal has no trial {number}.", number, gap)
        record = before[number]
        if record["architecture"] != now:
            return TrialsReplay(
                f"trial {number}: the architecture is {now}, and was {record['architecture']}.", number, gap
            )
        gaps = [_compute_gap(record["value"], loop.get_record(number)["value"])]
        scores = {} if loop.scores is None else loop.scores.get_scores(trial.architecture)
        gaps += [_compute_gap(score, scores.get(name, math.nan)) for name, score in record["scores"].items()]
        gap = max(gap, *gaps)
    best = find_best_trial(loop.trials)
    same = best is not None and best.architecture == expected
    return TrialsReplay("" if same else "another trial has the best value.", len(loop.trials), gap)


def _compute_gap(before: float, now: float) -> float:
    """Return the difference of two numbers; 0 where one is not finite."""
    difference = abs(before - now)
    return difference if math.isfinite(difference) else 0.0
