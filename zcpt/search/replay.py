"""Replay: repeat a finished search from its run folder, and find the first difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zcpt.architecture import Architecture
from zcpt.batches import as_batches, compute_fingerprint
from zcpt.devices import use_standard_settings
from zcpt.errors import ConfigError, ZcptError
from zcpt.files import read_run_file
from zcpt.journal import Journal, Record
from zcpt.search.callbacks import Callback, add_listeners
from zcpt.search.config import SearchConfig
from zcpt.search.decision import Decision
from zcpt.search.finalists import JOURNAL_NAME as FINALISTS_NAME
from zcpt.search.finalists import RecordedValue, read_finalists
from zcpt.search.plan import describe_sample, plan_search
from zcpt.search.propose import get_journal_name
from zcpt.search.records import check_decision_record
from zcpt.search.result import Finalist
from zcpt.search.run import run_search
from zcpt.search.run_folder import (
    JOURNAL,
    configure_from,
    describe_changed_prices,
    is_finished,
    read_run_config,
)
from zcpt.search.validate import JOURNAL_NAME, read_scores
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space


@dataclass(frozen=True)
class Replay:
    """Result of repeating a search."""

    difference: str
    """First difference, in one sentence; empty if there is none."""
    decisions: int
    """Number of equal decisions, up to the difference."""
    largest_gap: float
    """Largest difference between two corresponding scores; 0 on the same machine with the same versions."""
    finalists: int = 0
    """Number of finalists whose values were taken from the journal: they are not measured again."""


class _DifferenceError(ZcptError):
    """The repeated search differs, so it can stop."""


class _Comparison(Callback):
    """Compares every decision and validation score with those of a journal."""

    def __init__(
        self, journal: Journal, config: SearchConfig, space: SearchSpace, finalists: Mapping[str, Record]
    ) -> None:
        self.journal = journal
        self.space = space
        self.finalists = finalists
        self.measured = 0
        self.validation = read_scores(journal, config)
        self.decisions = 0
        self.largest_gap = 0.0
        self._next_line: dict[str, int] = {}

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        record = self._read_next(get_journal_name(proposal))
        where = f"proposal {proposal}, step {decision.step}"
        for name in ("choice", "candidates", "kept"):
            before, now = record[name], getattr(decision, name)
            if now != (tuple(before) if isinstance(before, list) else before):
                raise _DifferenceError(f"{where}: {name} is {now} at {decision.choice}, and was {before}.")
        # An aggregate's own scores are ranks, which hide small differences: its parts are compared instead.
        if decision.parts:
            for name, scores in decision.parts.items():
                self._compare_scores(record.get("parts", {}).get(name, ()), scores)
        else:
            self._compare_scores(record["scores"], decision.scores)
        self.decisions += 1

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        if batch not in self.validation:
            raise _DifferenceError(f"{JOURNAL_NAME}.jsonl in the journal has no batch {batch}.")
        self._compare_scores(self.validation[batch], scores)

    def on_finalist(self, finalist: Finalist, replayed: bool) -> None:
        text = self.space.format(finalist.architecture)
        if text not in self.finalists:
            raise _DifferenceError(f"{FINALISTS_NAME}.jsonl in the journal has no {text}, which is a finalist now.")
        self.measured += 1

    def _read_next(self, name: str) -> dict[str, Any]:
        index = self._next_line.get(name, 0)
        self._next_line[name] = index + 1
        records = self.journal.records(name)
        if index >= len(records):
            raise _DifferenceError(f"{name}.jsonl in the journal ends after {index} lines, and now there are more.")
        check_decision_record(records[index], self.journal.describe_line(name, index + 1))
        return records[index]

    def _compare_scores(self, before: Sequence[float], now: Sequence[float]) -> None:
        if len(before) != len(now):
            raise _DifferenceError(f"there are {len(now)} scores where the journal has {len(before)}.")
        gaps = (abs(a - b) for a, b in zip(before, now, strict=True) if a != b)
        self.largest_gap = max([self.largest_gap, *(gap for gap in gaps if gap == gap)])  # NaN gaps are left out


def replay(
    run_dir: str | Path,
    batches: object,
    *,
    device: str | torch.device = "cpu",
    callbacks: Sequence[Callback] = (),
    listeners: Sequence[Callback] | None = None,
) -> Replay:
    """Repeat the search of a finished run folder, and compare every decision. The folder stays as it is.

    Finalists are not measured again: their values are those of the journal.

    Args:
        run_dir: Folder of a finished search.
        batches: Images of that search, as for ``zcpt.search``.
        device: Device on which networks are scored.
        callbacks: Called after every decision, such as ``zcpt.monitor.Progress``.
        listeners: Old name of ``callbacks``.

    Raises:
        ConfigError: The folder holds no finished search.
    """
    callbacks = add_listeners(callbacks, listeners)
    folder = Path(run_dir)
    document = read_run_config(folder)
    if not is_finished(folder, document):
        raise ConfigError(f"the search in {folder} is not finished: resume it with --resume {folder}.")
    expected = Architecture.from_json(read_run_file(folder / "architecture.json"), str(folder / "architecture.json"))
    space = get_space(document["space"])
    config = configure_from(folder, space, document)
    source = as_batches(batches, document["images"]["classes"])
    with use_standard_settings():
        fingerprint, sample = compute_fingerprint(source.draw(config.batch_size, seed=0)), describe_sample(source)
    if fingerprint != document["fingerprint"] or sample != document.get("sample", sample):
        return Replay("the images, or their augmentation, are not those of the search.", 0, 0.0)
    journal, by = Journal(folder / JOURNAL), document.get("finalist_value")
    finalists = read_finalists(journal, by)
    value = RecordedValue(finalists, by, space.format) if config.finalists and by is not None else None
    plan = plan_search(space, source, config, device=device, finalist_value=value)
    changed = describe_changed_prices(document["budgets"], plan.document["budgets"])
    if changed:
        return Replay(f"{changed}.", 0, 0.0)
    comparison = _Comparison(journal, config, space, finalists)
    try:
        result = run_search(plan, [comparison, *callbacks])  # stops at the first difference, by _DifferenceError
    except _DifferenceError as difference:
        return Replay(str(difference), comparison.decisions, comparison.largest_gap)
    chosen_by = "validation selects another one" if value is None else "another finalist has the best value"
    text = "" if result.architecture == expected else f"the proposals are equal, but {chosen_by}."
    return Replay(text, comparison.decisions, comparison.largest_gap, comparison.measured)
