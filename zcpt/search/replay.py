"""Derive a finished search again from its folder, and say where it first differs."""

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
from zcpt.search.callbacks import Callback
from zcpt.search.decision import Decision
from zcpt.search.propose import file_of
from zcpt.search.result import other_prices, with_own_table
from zcpt.search.run import prepare, start
from zcpt.space_registry import get_space


@dataclass(frozen=True)
class Replay:
    """What came of deriving a search again."""

    difference: str
    """Where the two first differ, in one sentence; empty if they are the same."""
    decisions: int
    """How many decisions are the same, up to there."""
    largest_gap: float
    """Largest difference between two scores that should be equal; 0 on the same machine and versions."""


class _DifferenceError(Exception):
    """The search need not be derived any further."""


class _Comparison(Callback):
    def __init__(self, journal: Journal) -> None:
        self.journal, self.decisions, self.largest_gap = journal, 0, 0.0
        self._at: dict[str, int] = {}

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        record = self._next(file_of(proposal))
        where = f"proposal {proposal}, step {decision.step}"
        for name in ("choice", "candidates", "kept"):
            before, now = record[name], getattr(decision, name)
            if now != (tuple(before) if isinstance(before, list) else before):
                raise _DifferenceError(f"{where}: {name} is {now} at {decision.choice}, and was {before}.")
        before, now = record.get("parts", {}), decision.parts  # of an aggregate, which ranks are made of
        for each in [(before[name], now[name]) for name in now] or [(record["scores"], decision.scores)]:
            self._compare(*each)
        self.decisions += 1

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        self._compare(self._next("validation")["scores"], scores)

    def _next(self, name: str) -> dict[str, Any]:
        index = self._at[name] = self._at.get(name, -1) + 1
        records = self.journal.records(name)
        if index >= len(records):
            raise _DifferenceError(f"{name}.jsonl in the journal ends after {index} lines, and now there are more.")
        return records[index]

    def _compare(self, before: Sequence[float], now: Sequence[float]) -> None:
        gaps = (abs(a - b) for a, b in zip(before, now, strict=True) if a != b)
        self.largest_gap = max([self.largest_gap, *(gap for gap in gaps if gap == gap)])


def replay(
    run_dir: str | Path, batches: object, *, device: str | torch.device = "cpu", callbacks: Sequence[Callback] = ()
) -> Replay:
    """Search again with the settings of a finished run folder, and compare every decision; the folder stays as it is.

    Args:
        run_dir: The folder of a finished search.
        batches: The images that it was made on, as for ``zcpt.search``.
        device: Where networks are scored.
        listeners: Told of every decision, such as ``zcpt.monitor.Progress``.

    Raises:
        ConfigError: The folder holds no finished search.
    """
    folder = Path(run_dir)
    document = read_json(folder / "config.json", ("space", "search", "images.classes", "fingerprint", "budgets"))
    if not (folder / "architecture.json").exists():
        raise ConfigError(f"the search in {folder} is not finished: go on with --resume {folder}.")
    found = Architecture.from_json(read_run_file(folder / "architecture.json"), str(folder / "architecture.json"))
    settings, classes = with_own_table(folder, document["search"]), document["images"]["classes"]
    source = as_batches(batches, classes)
    if compute_fingerprint(source.draw(settings["batch_size"], seed=0)) != document["fingerprint"]:
        return Replay("the images are others, or are augmented otherwise.", 0, 0.0)
    plan = prepare(get_space(document["space"]), source, device=device, **settings)
    others = other_prices(document["budgets"], plan.document["budgets"])
    if others:
        return Replay(f"{others}.", 0, 0.0)
    comparison = _Comparison(Journal(folder / "journal"))
    try:
        result = start(plan, [comparison, *callbacks])
    except _DifferenceError as difference:
        return Replay(str(difference), comparison.decisions, comparison.largest_gap)
    same = result.architecture == found
    text = "" if same else "validation prefers another one of the same proposals."
    return Replay(text, comparison.decisions, comparison.largest_gap)
