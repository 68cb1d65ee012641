"""Callbacks that show the progress of a search: bars on a terminal, and TensorBoard."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from zcpt.architecture import Architecture, Choice
from zcpt.cell_pictures import draw_architecture, style_operations
from zcpt.options import pluralize
from zcpt.plot import average_importance, draw_importance, draw_importance_summary
from zcpt.printing import quote_words
from zcpt.progress import show_progress
from zcpt.search import (
    Callback,
    Decision,
    Finalist,
    SearchConfig,
    SearchResult,
    ValidatedArchitecture,
    simulate_rounds,
)
from zcpt.space import SearchSpace

if TYPE_CHECKING:
    from zcpt.event_files import EventFiles

_CONSTANT_SHARE = 0.3
"""Share of an evaluation's time that is spent on stem, preprocessing and kernels, however many candidates are left."""


class WorkEstimator:
    """Estimate of the time of each round of a proposal, in evaluations of the undecided supernet.

    Decisions make a supernet faster, and the order of the choices hardly matters for that. So the remaining time can be
    estimated before the first proposal is finished.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.total = self.remaining = sum(len(choice.candidates) for choice in choices)

    def add_round(self, evaluations: int, dropped: int) -> float:
        """Return the work of the next round, which scores ``evaluations`` candidates and then drops ``dropped``."""
        cost = _CONSTANT_SHARE + (1 - _CONSTANT_SHARE) * self.remaining / self.total
        self.remaining -= dropped
        return evaluations * cost


def estimate_proposal_work(choices: Sequence[Choice], order: str, joint: bool = False) -> list[float]:
    """Return the work of each round of one proposal, in evaluations of the undecided supernet."""
    work = WorkEstimator(choices)
    rounds = simulate_rounds(choices, order, joint)
    return [work.add_round(simulated.evaluations, simulated.dropped) for simulated in rounds]


class Progress(Callback):
    """A bar for each stage on a terminal; a line in the log now and then elsewhere."""

    _best = -math.inf
    """Best value of a finalist so far."""

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        self._space = space
        self._config = config
        self._work = WorkEstimator(space.choices)
        work = sum(estimate_proposal_work(space.choices, config.order, config.joint))
        self._bar = self._make_bar("proposals", work * config.proposals)

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        dropped = len(decision.candidates) - len(decision.kept)
        evaluations = 0 if decision.purpose == "settle" else len(decision.candidates)
        self._advance(self._work.add_round(evaluations, dropped), replayed)
        self._bar.set_postfix_str(
            f"proposal {proposal + 1} of {self._config.proposals}, {decision.choice}", refresh=False
        )

    def on_proposal(self, proposal: int, architecture: Architecture) -> None:
        self._work = WorkEstimator(self._space.choices)  # the next proposal starts from the undecided supernet

    def on_validation_start(self, candidates: Sequence[Architecture]) -> None:
        self._bar.close()
        self._bar = self._make_bar(f"validation of {len(candidates)}", self._config.validation_batches)

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        self._advance(1, replayed)

    def on_finalists_start(self, finalists: Sequence[Architecture]) -> None:
        self._bar.close()
        self._bar = self._make_bar(f"{len(finalists)} finalists", len(finalists))

    def on_finalist(self, finalist: Finalist, replayed: bool) -> None:
        self._best = max(self._best, finalist.value)
        self._bar.set_postfix_str(f"best {self._best:.6g}", refresh=False)
        self._advance(1, replayed)

    def on_close(self) -> None:
        self._bar.close()

    def _advance(self, work: float, replayed: bool) -> None:
        if replayed and not self._bar.disable:
            self._bar.initial += work  # replayed work takes no time and must not enter the rate
        assert self._bar.total is not None
        # The parts may add up to slightly more than the total by rounding, and tqdm warns of that.
        self._bar.update(min(work, self._bar.total - self._bar.n))

    @staticmethod
    def _make_bar(title: str, total: float) -> tqdm[Any]:
        layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        return show_progress(title=title, total=total, smoothing=0, bar_format=layout)


class TensorBoard(Callback):
    """TensorBoard event files of a search: pictures of every proposal, and one page with a line for each operation.

    Importances differ in level from choice to choice and from proposal to proposal. So they are shown as differences
    from the mean of their choice, and in the curves as shares of the largest of them, averaged over a group of choices.

    Args:
        folder: Folder of the event files. Files of an interrupted run are replaced: the journal replays all events.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        self._space = space
        self._config = config
        self._proposals: list[list[Decision]] = [[]]
        self._sums: list[float] = []
        self._batches = 0
        self._candidates: list[Architecture] = []

    @cached_property
    def _files(self) -> EventFiles:
        """Event files; made with the first event, so that a search that fails before leaves none."""
        from zcpt.event_files import EventFiles  # TensorBoard takes long to import

        command = quote_words(["zcpt", "search", "--resume", str(self.folder.parent)])
        remedy = f"The search goes on without them; {command} writes all of them anew."
        files = EventFiles(self.folder, remedy)
        operations = map(_name_run, style_operations(self._space.choices))
        candidates = (_name_candidate(index) for index in range(self._config.proposals))
        files.remove_earlier(["", *operations, *candidates])
        charts = {f"importance {group}".strip(): _make_tag(group) for group in self._list_groups()}
        files.add_charts("operations", {**charts, "mean validation score": _VALIDATION})
        files.add_settings({"space": self._space.name, **asdict(self._config)}, [_DISTINCT, _BEST])
        return files

    def _list_groups(self) -> list[str]:
        return list(dict.fromkeys(choice.group for choice in self._space.choices if choice.phase == 0))

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        self._proposals[-1].append(decision)

    def on_proposal(self, proposal: int, architecture: Architecture) -> None:
        decisions, title = self._proposals[-1], f"proposal {proposal}"
        for group in self._list_groups():
            choices = [choice for choice in self._space.choices if choice.group == group]
            for operation, mean in average_importance(choices, decisions).items():
                self._files.add_scalar(_make_tag(group), mean, proposal, _name_run(operation))
        heat_map = draw_importance(self._space.choices, decisions, title)
        self._files.add_picture("proposal/importance", heat_map, proposal)
        self._files.add_picture("proposal/cell", draw_architecture(self._space, architecture, title), proposal)
        self._files.add_text("proposal/genotype", f"`{self._space.format(architecture)}`", proposal)
        self._proposals.append([])

    def on_validation_start(self, candidates: Sequence[Architecture]) -> None:
        self._candidates = list(candidates)

    def on_finalist(self, finalist: Finalist, replayed: bool) -> None:
        index = self._candidates.index(finalist.architecture)
        if math.isfinite(finalist.value):
            self._files.add_scalar(_FINALISTS, finalist.value, index)
        for name, number in finalist.report.items():
            self._files.add_scalar(f"finalists/{name}", number, index)

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        self._sums = [a + b for a, b in zip(self._sums or [0.0] * len(scores), scores, strict=True)]
        self._batches += 1
        for index, total in enumerate(self._sums):
            self._files.add_scalar(_VALIDATION, total / self._batches, self._batches, _name_candidate(index))

    def on_search_end(self, result: SearchResult) -> None:
        text = self._space.format(result.architecture)
        self._files.add_text("result/genotype", f"`{text}`", 0)
        self._files.add_text("result/candidates", self._format_candidates(result.candidates), 0)
        if result.finalists:
            self._files.add_text("result/finalists", self._format_finalists(result), 0)
        self._files.add_picture("result/cell", draw_architecture(self._space, result.architecture, "result"), 0)
        proposals = self._proposals[:-1]
        title = f"importance of the operations in {pluralize(len(proposals), 'proposal')}"
        summary = draw_importance_summary(self._space.choices, proposals, title)
        self._files.add_picture("result/importance", summary, 0)
        best = max((c.mean for c in result.candidates if c.mean is not None), default=math.nan)
        self._files.add_scalar(_DISTINCT, len(result.candidates), 0)
        self._files.add_scalar(_BEST, best, 0)

    def on_close(self) -> None:
        if "_files" in vars(self):
            self._files.close()

    def _format_candidates(self, candidates: Sequence[ValidatedArchitecture]) -> str:
        rows = ["| candidate | mean score | proposals | genotype |", "|---|---|---|---|"]
        for index, candidate in enumerate(candidates):
            mean = "" if candidate.mean is None else f"{candidate.mean:.3f}"
            proposals = ", ".join(map(str, candidate.proposals))
            rows.append(f"| {index} | {mean} | {proposals} | `{self._space.format(candidate.architecture)}` |")
        return "\n".join(rows)

    def _format_finalists(self, result: SearchResult) -> str:
        """Format a table of the finalists in the order of validation."""
        rows = ["| finalist | value | seconds | chosen | failure | genotype |", "|---|---|---|---|---|---|"]
        for number, finalist in enumerate(result.finalists, 1):
            chosen = "yes" if finalist.architecture == result.architecture else ""
            rows.append(
                f"| {number} | {finalist.value:.6g} | {finalist.seconds:.1f} | {chosen} | {finalist.failure} | "
                f"`{self._space.format(finalist.architecture)}` |"
            )
        return "\n".join(rows)


_VALIDATION = "validation/mean_score"
_FINALISTS = "finalists/value"
_DISTINCT = "result/distinct_networks"
_BEST = "result/best_validation_score"


def _make_tag(group: str) -> str:
    return f"importance/{group or 'operations'}"


def _name_run(operation: str) -> str:
    """Return the run of an operation's lines: a folder name of plain letters."""
    return f"operations/{re.sub(r'[^A-Za-z0-9_.+-]', '_', operation).lstrip('.') or '_'}"


def _name_candidate(index: int) -> str:
    return f"candidates/{index:02d}"
