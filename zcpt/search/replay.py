"""Replay: repeat a finished search from its run folder, and find the first difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zcpt.architecture import Architecture
from zcpt.batches import as_batches, compute_fingerprint
from zcpt.errors import ConfigError
from zcpt.files import read_json, read_run_file
from zcpt.journal import Journal
from zcpt.search.callbacks import Callback, add_listeners
from zcpt.search.config import configure, upgrade_settings
from zcpt.search.decision import Decision
from zcpt.search.plan import plan_search
from zcpt.search.propose import get_journal_name
from zcpt.search.run import run_search
from zcpt.search.run_folder import CONFIG, JOURNAL, describe_changed_prices, use_own_latency_table
from zcpt.search.validate import JOURNAL_NAME
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


class _DifferenceError(Exception):
    """The repeated search differs, so it can stop."""


class _Comparison(Callback):
    """Compares every decision and validation score with those of a journal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
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
                self._compare_scores(record.get("parts", {})[name], scores)
        else:
            self._compare_scores(record["scores"], decision.scores)
        self.decisions += 1

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        self._compare_scores(self._read_next(JOURNAL_NAME)["scores"], scores)

    def _read_next(self, name: str) -> dict[str, Any]:
        index = self._next_line.get(name, 0)
        self._next_line[name] = index + 1
        records = self.journal.records(name)
        if index >= len(records):
            raise _DifferenceError(f"{name}.jsonl in the journal ends after {index} lines, and now there are more.")
        return records[index]

    def _compare_scores(self, before: Sequence[float], now: Sequence[float]) -> None:
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
    document = read_json(folder / CONFIG, ("space", "search", "images.classes", "fingerprint", "budgets"))
    if not (folder / "architecture.json").exists():
        raise ConfigError(f"the search in {folder} is not finished: resume it with --resume {folder}.")
    expected = Architecture.from_json(read_run_file(folder / "architecture.json"), str(folder / "architecture.json"))
    space = get_space(document["space"])
    config = use_own_latency_table(folder, configure(space, **upgrade_settings(document["search"])))
    source = as_batches(batches, document["images"]["classes"])
    if compute_fingerprint(source.draw(config.batch_size, seed=0)) != document["fingerprint"]:
        return Replay("the images, or their augmentation, are not those of the search.", 0, 0.0)
    plan = plan_search(space, source, config, device=device)
    changed = describe_changed_prices(document["budgets"], plan.document["budgets"])
    if changed:
        return Replay(f"{changed}.", 0, 0.0)
    comparison = _Comparison(Journal(folder / JOURNAL))
    try:
        result = run_search(plan, [comparison, *callbacks])  # stops at the first difference, by _DifferenceError
    except _DifferenceError as difference:
        return Replay(str(difference), comparison.decisions, comparison.largest_gap)
    text = "" if result.architecture == expected else "the proposals are equal, but validation selects another one."
    return Replay(text, comparison.decisions, comparison.largest_gap)
