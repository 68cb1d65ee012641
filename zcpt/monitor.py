"""Callbacks that show the progress of a search: bars on a terminal, and TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from zcpt.architecture import Architecture, Choice
from zcpt.plot import draw_architecture, draw_importance
from zcpt.progress import show_progress
from zcpt.search import Callback, Decision, SearchConfig, SearchResult, ValidatedArchitecture, simulate_rounds
from zcpt.space import SearchSpace

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

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


def _make_tag(choice: str, candidate: str) -> str:
    return f"importance/{choice}/{candidate}"


def _describe_charts(choices: Sequence[Choice]) -> dict[str, tuple[str, list[str]]]:
    """Describe a chart for each choice with a line for each candidate, for TensorBoard's tab 'custom scalars'."""
    return {c.name: ("Multiline", [f"^{_make_tag(c.name, candidate)}$" for candidate in c.selectable]) for c in choices}


class TensorBoard(Callback):
    """TensorBoard event files of a search: importances, heat maps, cells, validation scores and the result.

    Importances are shown as differences from the mean of their choice.

    Args:
        folder: Folder of the event files. Files of an interrupted run are replaced: the journal replays all events.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        self._space = space
        self._config = config
        self._decisions: list[Decision] = []
        self._sums: list[float] = []
        self._batches = 0

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        # Only the first scoring of a choice, on all of its candidates, is comparable between proposals.
        if all(decision.choice != earlier.choice for earlier in self._decisions):
            finite = [value for value in decision.importance if math.isfinite(value)]
            # The level differs from proposal to proposal and carries no information.
            level = sum(finite) / max(len(finite), 1)
            for candidate, value in zip(decision.candidates, decision.importance, strict=True):
                self._writer.add_scalar(_make_tag(decision.choice, candidate), value - level, proposal)
        self._decisions.append(decision)

    def on_proposal(self, proposal: int, architecture: Architecture) -> None:
        title = f"proposal {proposal}"
        heat_map = draw_importance(self._space.choices, self._decisions, title)
        self._writer.add_figure("proposal/importance", heat_map, proposal)
        self._writer.add_figure("proposal/cell", draw_architecture(self._space, architecture, title), proposal)
        self._writer.add_text("proposal/genotype", f"`{self._space.format(architecture)}`", proposal)
        self._writer.flush()
        self._decisions = []

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        self._sums = [a + b for a, b in zip(self._sums or [0.0] * len(scores), scores, strict=True)]
        self._batches += 1
        for index, total in enumerate(self._sums):
            self._writer.add_scalar(f"validation/candidate_{index:02d}", total / self._batches, self._batches)

    def on_search_end(self, result: SearchResult) -> None:
        text = self._space.format(result.architecture)
        cells = draw_architecture(self._space, result.architecture, "result")
        self._writer.add_text("result/genotype", f"`{text}`")
        self._writer.add_text("result/candidates", self._format_candidates(result.candidates))
        self._writer.add_figure("result/cell", cells)
        best = max((c.mean for c in result.candidates if c.mean is not None), default=math.nan)
        metrics = {"candidates": len(result.candidates), "validation score": best}
        self._writer.add_hparams(asdict(self._config), metrics, run_name=".")

    def on_close(self) -> None:
        if "_writer" in vars(self):
            self._writer.close()

    @cached_property
    def _writer(self) -> SummaryWriter:
        """Writer of the event files; made at the first decision, so that a search that fails before leaves no file."""
        from torch.utils.tensorboard import SummaryWriter

        for event_file in self.folder.glob("events.out.tfevents.*"):
            event_file.unlink()
        writer = SummaryWriter(str(self.folder))
        writer.add_custom_scalars({"importance of the candidates": _describe_charts(self._space.choices)})
        return writer

    def _format_candidates(self, candidates: Sequence[ValidatedArchitecture]) -> str:
        rows = ["| candidate | mean score | proposals | genotype |", "|---|---|---|---|"]
        for index, candidate in enumerate(candidates):
            mean = "" if candidate.mean is None else f"{candidate.mean:.3f}"
            proposals = ", ".join(map(str, candidate.proposals))
            rows.append(f"| {index} | {mean} | {proposals} | `{self._space.format(candidate.architecture)}` |")
        return "\n".join(rows)
