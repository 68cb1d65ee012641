"""Watching a search: progress bars, and TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from zcpt.architecture import Architecture, Choice
from zcpt.plot import draw_architecture, draw_importance
from zcpt.search import Callback, Decision, SearchConfig, SearchResult, ValidatedArchitecture, simulate_rounds
from zcpt.space import SearchSpace

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# Share of an evaluation's time that does not depend on how many candidates are left: stem, preprocessing, kernels.
_CONSTANT = 0.3


class _Work:
    """How long each look of a proposal takes, in evaluations of the undecided supernet.

    Decided choices make a supernet faster, and which one is decided first hardly matters: so the time left can
    be told before the first proposal is done.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.total = self.alive = sum(len(choice.candidates) for choice in choices)

    def of(self, evaluations: int, dropped: int) -> float:
        """The next look, which scores so many candidates and then drops so many of them."""
        each = _CONSTANT + (1 - _CONSTANT) * self.alive / self.total
        self.alive -= dropped
        return evaluations * each


def proposal_work(choices: Sequence[Choice], order: str, joint: bool = False) -> list[float]:
    """The looks of one proposal, in evaluations of the undecided supernet."""
    work = _Work(choices)
    return [work.of(look.evaluations, look.dropped) for look in simulate_rounds(choices, order, joint)]


class Progress(Callback):
    """A bar for each stage on a terminal; silent elsewhere."""

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        self._space, self._config = space, config
        self._work = _Work(space.choices)
        one = sum(proposal_work(space.choices, config.order, config.joint))
        self._bar = self._new("proposals", one * config.proposals)

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        dropped = len(decision.candidates) - len(decision.kept)
        evaluations = 0 if decision.purpose == "settle" else len(decision.candidates)
        self._advance(self._work.of(evaluations, dropped), replayed)
        self._bar.set_postfix_str(
            f"proposal {proposal + 1} of {self._config.proposals}, {decision.choice}", refresh=False
        )

    def on_proposal(self, proposal: int, architecture: Architecture) -> None:
        self._work = _Work(self._space.choices)

    def on_validation_start(self, candidates: Sequence[Architecture]) -> None:
        self._bar.close()
        self._bar = self._new(f"validation of {len(candidates)}", self._config.validation_batches)

    def on_validation_batch(self, batch: int, scores: Sequence[float], replayed: bool) -> None:
        self._advance(1, replayed)

    def on_close(self) -> None:
        self._bar.close()

    def _advance(self, work: float, replayed: bool) -> None:
        if replayed and not self._bar.disable:
            self._bar.initial += work  # it took no time, so it must not count into the rate
        assert self._bar.total is not None
        # Many parts may add up to a rounding error more than the whole, and tqdm warns of that.
        self._bar.update(min(work, self._bar.total - self._bar.n))

    @staticmethod
    def _new(title: str, total: float) -> tqdm[Any]:
        layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        return tqdm(desc=title, total=total, smoothing=0, disable=None, bar_format=layout)


def _tag(choice: str, candidate: str) -> str:
    return f"importance/{choice}/{candidate}"


def _charts(choices: Sequence[Choice]) -> dict[str, tuple[str, list[str]]]:
    """A chart for each choice, with a line for each candidate; the tab 'custom scalars' shows them."""
    return {c.name: ("Multiline", [f"^{_tag(c.name, candidate)}$" for candidate in c.selectable]) for c in choices}


class TensorBoard(Callback):
    """Writes a search to TensorBoard event files.

    Importances are shown as differences to the mean of their choice.

    Args:
        folder: Where they go. Those of an interrupted run are replaced: the journal tells everything again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_search_start(self, space: SearchSpace, config: SearchConfig) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for old in self.folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer: SummaryWriter = SummaryWriter(str(self.folder))
        self._space, self._config = space, config
        self._writer.add_custom_scalars({"importance of the candidates": _charts(space.choices)})
        self._decisions: list[Decision] = []
        self._sums: list[float] = []
        self._batches = 0

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        if all(decision.choice != earlier.choice for earlier in self._decisions):
            finite = [value for value in decision.importance if math.isfinite(value)]
            level = sum(finite) / max(len(finite), 1)  # it differs from proposal to proposal, and says nothing
            for candidate, value in zip(decision.candidates, decision.importance, strict=True):
                self._writer.add_scalar(_tag(decision.choice, candidate), value - level, proposal)
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
        self._writer.add_text("result/candidates", self._table(result.candidates))
        self._writer.add_figure("result/cell", cells)
        best = max((c.mean for c in result.candidates if c.mean is not None), default=math.nan)
        metrics = {"candidates": len(result.candidates), "validation score": best}
        self._writer.add_hparams(asdict(self._config), metrics, run_name=".")

    def on_close(self) -> None:
        self._writer.close()

    def _table(self, candidates: Sequence[ValidatedArchitecture]) -> str:
        rows = ["| candidate | mean score | proposals | genotype |", "|---|---|---|---|"]
        for index, candidate in enumerate(candidates):
            mean = "" if candidate.mean is None else f"{candidate.mean:.3f}"
            proposals = ", ".join(map(str, candidate.proposals))
            rows.append(f"| {index} | {mean} | {proposals} | `{self._space.format(candidate.architecture)}` |")
        return "\n".join(rows)
