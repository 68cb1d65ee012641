"""The loop of a multi-trial search: warm-up, then trials in batches, each written to the journal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from zcpt.architecture import Architecture
from zcpt.devices import use_standard_settings
from zcpt.errors import ConfigError, ProxyError, ZcptError
from zcpt.files import write_atomically
from zcpt.journal import REMEDY, Journal, Record
from zcpt.proxies import Aggregate
from zcpt.seeding import derive_seed
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space
from zcpt.trials.algorithm import ALGORITHMS, Algorithm, Suggestion
from zcpt.trials.callbacks import TrialsCallback, TrialsCallbackList
from zcpt.trials.candidates import Candidates
from zcpt.trials.config import configure_trials
from zcpt.trials.measuring import MeasuringTask, measure_task, send_checkpoint
from zcpt.trials.plan import PROXY, TrialsPlan, plan_trials
from zcpt.trials.result import Trial, TrialsResult, find_best_trial
from zcpt.trials.run_folder import CHECKPOINTS, open_run_folder, write_trials_result
from zcpt.trials.scores import ProxyScores, ScoreSource
from zcpt.values import Outcome, Value
from zcpt.workers import Pool

_JOURNAL_NAME = "trials"
_KEYS = {"trial", "architecture", "reason", "scores", "value", "report", "seconds", "failure"}


def run_trials(
    space: SearchSpace | str,
    value: Value | str,
    *,
    batches: object = None,
    scores: ScoreSource | None = None,
    architectures: Sequence[Architecture] | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    device: str | torch.device = "cpu",
    callbacks: Sequence[TrialsCallback] = (),
    **options: Any,
) -> TrialsResult:
    """Measure one architecture after another, each chosen from the values before, and return the best.

    The algorithms, and how a zero-cost proxy helps them, are those of "Zero-Cost Proxies for Lightweight NAS"
    (arXiv 2101.08134); docs/trials.md says what is published and what is ours. Any processes give the same trials.

    Args:
        space: A space or its name.
        value: What a trial measures: an object with the methods of ``zcpt.trials.Value``; or ``"proxy"`` for the score
            by the proxy itself, which searches without training anything.
        batches: Images on which the proxy scores networks, as for ``zcpt.search``.
        scores: Scores from elsewhere, such as a ``zcpt.trials.ScoreTable``, in place of ``batches``.
        architectures: The only architectures that may be measured; None allows all of the space.
        run_dir: Folder for the journal and the result; None writes nothing.
        resume: Resume the run in ``run_dir``, with as many trials or more.
        workers: Processes that measure and score side by side; by default 1, with ``ray`` the CPUs of the cluster.
        ray: Address of a Ray cluster that measures and scores, 'auto' for the one of this machine.
        device: Device on which networks are scored.
        callbacks: Objects whose methods are called after every trial, such as ``zcpt.monitor.TrialsProgress``.
        options: Fields of ``zcpt.trials.TrialsConfig``, such as ``trials=300``, and settings of the algorithm.

    Raises:
        InfeasibleError: No architecture meets the budgets; nothing has been written.
        ZcptError: An argument cannot be used; or no trial got a finite value, and the journal has the reasons.
        StorageError: A file cannot be written; what was finished before is kept, and can be resumed.
        LostError: Worker processes were killed again and again at the same architecture.

    Example:
        >>> result = zcpt.run_trials("nasbench201", "proxy", batches=(images, labels), proxy="naswot", trials=50)
        >>> zcpt.get_space("nasbench201").format(result.architecture)
        '|nor_conv_3x3~0|+|...'
    """
    space = get_space(space) if isinstance(space, str) else space
    config, settings = configure_trials(space, **options)
    plan = plan_trials(
        space,
        value,
        config,
        settings,
        batches=batches,
        scores=scores,
        architectures=architectures,
        device=device,
        workers=workers,
        ray=ray,
    )
    return execute_plan(plan, None if run_dir is None else Path(run_dir), resume=resume, callbacks=callbacks)


@use_standard_settings()
def execute_plan(
    plan: TrialsPlan, run_dir: Path | None = None, *, resume: bool = False, callbacks: Sequence[TrialsCallback] = ()
) -> TrialsResult:
    """Run planned trials; ``run_trials`` documents arguments and errors."""
    callback = TrialsCallbackList(callbacks)
    with ExitStack() as stack:
        journal = Journal()
        workers = stack.enter_context(plan.open_pool())  # before anything is written
        if run_dir is not None:
            run_dir = run_dir.absolute()  # now, since a callback may change the current folder
            journal = stack.enter_context(open_run_folder(run_dir, plan.document, resume))
        stack.callback(callback.on_close)
        callback.on_trials_start(plan.space, plan.config)
        checkpoints = open_checkpoints(plan, run_dir, stack)
        trials = TrialLoop(plan, journal, workers, callback, checkpoints).run()
        best = find_best_trial(trials)
        if best is None:
            raise _make_failure_error(plan, trials)
        result = TrialsResult(best.architecture, tuple(trials), plan.config, plan.settings, run_dir)
        if run_dir is not None:
            write_trials_result(run_dir, plan.space, result)
        callback.on_trials_end(result)
        return result


def open_checkpoints(plan: TrialsPlan, run_dir: Path | None, stack: ExitStack) -> Path | None:
    """Return the folder of checkpoints, which is a temporary one without a run folder; None if there are no stages."""
    if not plan.settings.trains_in_stages:
        return None
    if run_dir is None:
        return Path(stack.enter_context(TemporaryDirectory()))
    folder = run_dir / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    # A run that fails in its first trial leaves no new folder.
    stack.callback(lambda: None if any(folder.iterdir()) else folder.rmdir())
    return folder


def _make_failure_error(plan: TrialsPlan, trials: Sequence[Trial]) -> ZcptError:
    reason = next((trial.failure for trial in trials if trial.failure), "").rstrip(".")
    text = f"none of {len(trials)} trials got a finite value by {plan.describe_value()}{reason and f': {reason}'}"
    if plan.value == PROXY:
        return ProxyError(f"{text}. Give another --proxy.")
    return ConfigError(f"{text}. Give another --value.")


class TrialLoop:
    """Asks an algorithm for architectures, measures them, and tells it their values.

    A resumed run asks again from the beginning. Where the journal has the trial, its value is told; an architecture
    that differs from the one in the journal ends the run with an error.

    Args:
        plan: The trials.
        journal: Journal of the run.
        workers: Processes that measure.
        callback: Receives all events.
        checkpoints: Existing folder of checkpoints, where trials are stages of trainings.
    """

    def __init__(
        self,
        plan: TrialsPlan,
        journal: Journal,
        workers: Pool,
        callback: TrialsCallback | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        self.plan = plan
        self.space = plan.space
        self.journal = journal
        self.callback = callback or TrialsCallback()
        self._workers = workers
        self._records = _read_records(journal)
        criterion = plan.config.criterion
        # One object, since worker processes receive a function once.
        self._function = None if isinstance(plan.value, str) else partial(measure_task, plan.value)
        self._checkpoints = checkpoints if plan.settings.trains_in_stages else None
        self.scores = (
            ProxyScores(plan.space, criterion, plan.scores, workers, journal)
            if criterion is not None and plan.scores is not None
            else None
        )
        self.algorithm = self._build_algorithm(plan.candidates)
        self.trials: list[Trial] = []

    def _build_algorithm(self, candidates: Candidates) -> Algorithm:
        config = self.plan.config
        generator = torch.Generator().manual_seed(derive_seed(config.seed, "trials", "algorithm"))
        return ALGORITHMS[config.algorithm](candidates, generator, self.plan.settings, self.scores)

    def run(self) -> list[Trial]:
        """Run the warm-up and all trials, and return these in their order."""
        config = self.plan.config
        if config.warmup:
            self._warm_up(config.warmup)
        best: Trial | None = None
        while len(self.trials) < config.trials:
            first = len(self.trials)
            count = min(config.trial_batch, config.trials - first)
            ready = self.algorithm.count_ready()
            count = count if ready is None else min(count, ready)
            suggestions = [self.algorithm.ask() for _ in range(count)]
            done = {number for number in range(first, first + count) if number in self._records}
            self._measure_missing(first, suggestions)
            for number, suggestion in enumerate(suggestions, first):
                self.trials.append(self._make_trial(number, suggestion))
            if self._compares_all:
                self._compare_all(first)
                best = find_best_trial(self.trials[:first])
            for trial in self.trials[first:]:
                self.algorithm.tell(trial.architecture, trial.value)
                best = find_best_trial([*([best] if best else []), trial])
                self.callback.on_trial(trial, best, trial.number in done)
            if len(done) < count:  # the files of a resumed run are those after its last trial
                self._remove_checkpoints()
        return self.trials

    def _warm_up(self, count: int) -> None:
        """Score random architectures, each once, and hand them to the algorithm."""
        assert self.scores is not None
        generator = torch.Generator().manual_seed(derive_seed(self.plan.config.seed, "trials", "warm-up"))
        architectures = self.plan.candidates.sample_distinct(count, generator)
        self.scores.fetch(architectures, title="warm-up")
        values = self.scores.compare(architectures)
        if not any(map(math.isfinite, values)):
            reason = self.scores.explain_failure(architectures).rstrip(".")
            raise ProxyError(
                f"proxy '{self.scores.criterion.name}' gave none of {len(values)} architectures of the warm-up a "
                f"finite score{reason and f': {reason}'}. Give another --proxy."
            )
        self.algorithm.warm_up(architectures, values)

    def _measure_missing(self, first: int, suggestions: Sequence[Suggestion]) -> None:
        """Measure the trials of a batch that the journal lacks, and write their lines as they are finished."""
        missing = {}
        for number, suggestion in enumerate(suggestions, first):
            if number in self._records:
                self._check_same_architecture(number, suggestion)
            else:
                missing[number] = suggestion
        if self.plan.value == PROXY:
            assert self.scores is not None
            self.scores.fetch([suggestion.architecture for suggestion in suggestions])
            for number, suggestion in missing.items():
                record = self.scores.fetch([suggestion.architecture])[0]
                (value,) = self.scores.compare([suggestion.architecture])
                failure = "" if math.isfinite(value) else next(iter(record["failures"].values()), "it has no score")
                seconds = math.fsum(record["seconds"].values())
                self._append(number, suggestion, Outcome(value, {}, seconds, failure))
            return
        assert self._function is not None
        tasks = {number: self._make_task(number, suggestion) for number, suggestion in missing.items()}
        if not self._workers.has_same_files:
            tasks = {number: send_checkpoint(task) for number, task in tasks.items()}
        with closing(self._workers.run(self._function, list(tasks.values()))) as outcomes:
            for number, outcome, content in outcomes:
                checkpoint = tasks[number].checkpoint
                if checkpoint is not None and content is not None:
                    write_atomically(checkpoint, content)
                self._append(number, missing[number], outcome)

    def _make_task(self, number: int, suggestion: Suggestion) -> MeasuringTask:
        # All stages of a training have the seed of the first one.
        first = number if suggestion.origin is None else suggestion.origin
        seed = derive_seed(self.plan.config.seed, "trials", "value", first)
        has_file = suggestion.origin is not None and self._checkpoints is not None
        checkpoint = self._checkpoints / f"trial_{first:05d}.pt" if has_file and self._checkpoints else None
        return MeasuringTask(number, suggestion.architecture, seed, suggestion.share, checkpoint)

    def _remove_checkpoints(self) -> None:
        """Remove the files of trainings that do not go on; a missing one only costs time."""
        if self._checkpoints is not None:
            kept = {f"trial_{origin:05d}.pt" for origin in self.algorithm.unfinished}
            for path in self._checkpoints.glob("trial_*.pt"):
                if path.name not in kept:
                    path.unlink()

    def _append(self, number: int, suggestion: Suggestion, outcome: Outcome) -> None:
        record: Record = {
            "trial": number,
            "architecture": self.space.format(suggestion.architecture),
            "reason": suggestion.reason,
            "scores": self.scores.get_scores(suggestion.architecture) if self.scores is not None else {},
            "value": outcome.value,
            "report": dict(outcome.report),
            "seconds": outcome.seconds,
            "failure": outcome.failure,
            "share": suggestion.share,
        }
        self.journal.append(_JOURNAL_NAME, record)
        self._records[number] = record

    def _check_same_architecture(self, number: int, suggestion: Suggestion) -> None:
        """Raise ConfigError if the journal has another architecture than the algorithm asks for now."""
        before, now = self._records[number].get("architecture"), self.space.format(suggestion.architecture)
        if before != now:
            raise ConfigError(
                f"trial {number} in the journal is {before}, and now it would be {now}: another version of zcpt or of "
                f"a library chose it. Start a new run, or in {_JOURNAL_NAME}.jsonl {REMEDY}."
            )

    def _make_trial(self, number: int, suggestion: Suggestion) -> Trial:
        record = self._records[number]
        value = record["value"] if math.isfinite(record["value"]) else -math.inf
        return Trial(
            number,
            suggestion.architecture,
            suggestion.reason,
            value,
            record["report"],
            record["scores"],
            record["seconds"],
            record["failure"],
            suggestion.share,
        )

    def get_record(self, number: int) -> Record:
        """Return the line of a trial in the journal."""
        return self._records[number]

    @property
    def _compares_all(self) -> bool:
        """Whether the values are those of an aggregate, which change with every further architecture."""
        return self.plan.value == PROXY and isinstance(self.plan.config.criterion, Aggregate)

    def _compare_all(self, first: int) -> None:
        """Compare all trials anew, and revise the values of those before number ``first``."""
        assert self.scores is not None
        values = self.scores.compare([trial.architecture for trial in self.trials])
        self.trials = [replace(trial, value=value) for trial, value in zip(self.trials, values, strict=True)]
        self.algorithm.revise({trial.architecture: trial.value for trial in self.trials[:first]})


def _read_records(journal: Journal) -> dict[int, Record]:
    """Return the lines of the journal by the number of the trial."""
    records = {}
    for line, record in enumerate(journal.records(_JOURNAL_NAME), 1):
        if not set(record) >= _KEYS or not isinstance(record["value"], int | float):
            raise ConfigError(f"{journal.describe_line(_JOURNAL_NAME, line)} is damaged: it is no trial: {REMEDY}.")
        records[record["trial"]] = record
    return records
