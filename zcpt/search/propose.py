"""Stage 1: propose an architecture by deciding one choice after the other on the supernet."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import NamedTuple

from zcpt.architecture import Architecture, Choice
from zcpt.batches import Batch, Batches
from zcpt.errors import ConfigError, ProxyError
from zcpt.journal import Journal, Record
from zcpt.mixture import Mixture
from zcpt.processes import SINGLE_PROCESS, ProcessGroup
from zcpt.scoring import CriterionEvaluator, argmax_importance, compute_importances, get_component_scores
from zcpt.search.budgets import BudgetChecker, FeasibleSet
from zcpt.search.callbacks import Callback
from zcpt.search.config import SearchConfig
from zcpt.search.decision import Decision, Purpose
from zcpt.search.orders import get_order, phases
from zcpt.search.supernets import SearchSeeds, SupernetSource, panel
from zcpt.seeding import derive_seed
from zcpt.space import SearchSpace


def file_of(proposal: int) -> str:
    """Name of a proposal's file in the journal."""
    return f"proposal_{proposal:03d}"


class Report(NamedTuple):
    """What a process tells the others of a proposal that it has made."""

    architecture: Architecture
    records: tuple[Record, ...]
    replayed: int
    """How many of the records were in the journal before."""


class Proposer:
    """Makes the proposals of one search; any of them, in any order, with the same result."""

    def __init__(
        self,
        space: SearchSpace,
        origin: SupernetSource,
        config: SearchConfig,
        batches: Batches,
        journal: Journal,
        audience: Callback,
        bounds: BudgetChecker,
    ) -> None:
        self.space, self.origin, self.config, self.batches = space, origin, config, batches
        self.journal, self.audience, self.bounds = journal, audience, bounds
        self.criterion = config.criterion("operations")
        self.seeds = SearchSeeds.derived(config.seed)
        self._panel: tuple[int, CriterionEvaluator] | None = None
        self._batch: tuple[int, Batch] | None = None

    def propose_all(self, ranks: ProcessGroup = SINGLE_PROCESS) -> list[Architecture]:
        """Every proposal, each made by one of the processes; what was decided in others is told as if here."""
        made = []
        for start in range(0, self.config.proposals, ranks.size):
            ours = range(start, min(start + ranks.size, self.config.proposals))
            mine = start + ranks.rank
            gathered = ranks.gather(self._reported(mine) if mine in ours else None)
            for proposal, report in zip(ours, gathered, strict=False):
                assert report is not None, "who has a proposal reports"
                if proposal != mine:
                    self._tell(proposal, report)
                made.append(report.architecture)
        return made

    def _reported(self, proposal: int) -> Report:
        file = file_of(proposal)
        replayed = len(self.journal.records(file))
        return Report(self.propose(proposal), tuple(self.journal.records(file)), replayed)

    def _tell(self, proposal: int, report: Report) -> None:
        for index, record in enumerate(report.records):
            self.audience.on_decision(proposal, Decision.from_record(record), replayed=index < report.replayed)
        self.audience.on_proposal(proposal, report.architecture)

    def propose(self, proposal: int) -> Architecture:
        """Decide every choice; what the journal holds already is taken from there.

        Raises:
            ProxyError: No candidate of a choice has a finite score.
            ConfigError: The journal was written by another search.
        """
        architecture = self.space.architecture(_Pass(self, proposal).decide_all())
        self.audience.on_proposal(proposal, architecture)
        return architecture

    def start(self, proposal: int) -> Mixture:
        """The mixture that a proposal starts with."""
        return self.origin.start(proposal if self.config.alpha_draw == "proposal" else 0)

    def panel(self, proposal: int) -> CriterionEvaluator:
        """Scores the supernet that a proposal is made on."""
        draw = proposal if self.config.supernet_weights == "proposal" else 0
        if self._panel is None or self._panel[0] != draw:
            self._panel = None  # so that no two supernets need memory at once
            self._panel = draw, panel(self.origin.supernet(draw), self.config, "operations")
        return self._panel[1]

    def batch(self, proposal: int, step: int, survey: bool) -> Batch:
        """The mini-batch that a look sees. Surveys see another one than decisions, so that they do not repeat them."""
        per_step = (step,) if self.config.scoring_batch == "step" else ()
        seed = derive_seed(self.seeds.batch, proposal, *per_step, *(("survey",) if survey else ()))
        if self._batch is None or self._batch[0] != seed:
            batch = self.batches.draw(self.config.batch_size, seed)
            self._batch = seed, self.origin.place(batch)
        return self._batch[1]


class _Pass:
    """One proposal in the making: what is decided, and what the journal still holds of an earlier run."""

    def __init__(self, proposer: Proposer, proposal: int) -> None:
        self.proposer, self.proposal, self.step = proposer, proposal, 0
        self.order = get_order(proposer.config.order)
        self.mixture = proposer.start(proposal)
        self.scope = FeasibleSet(proposer.bounds, proposer.space.choices)
        self.file = file_of(proposal)
        self.recorded = deque(proposer.journal.records(self.file))

    def decide_all(self) -> dict[str, tuple[str, ...]]:
        """What every choice keeps."""
        config, seed = self.proposer.config, derive_seed(self.proposer.seeds.order, self.proposal)
        kept = {}
        for lanes in phases(self.proposer.space.choices, config.order, seed, config.joint):
            while any(lane.left for lane in lanes):
                for lane in filter(lambda lane: lane.left, lanes):
                    choice, look = lane.pop(self._survey)
                    kept[choice.name] = self._decide(choice, look)
                    self.mixture = self.mixture.select(choice.name, kept[choice.name])
                self.step += 1
        return kept

    def _survey(self, choice: Choice) -> Decision:
        return self._look(choice, choice.selectable, "survey")

    def _decide(self, choice: Choice, settled: Decision | None) -> tuple[str, ...]:
        remaining = choice.selectable
        while len(remaining) > choice.keep:
            decision = self._look(choice, remaining, "settle" if settled else "decide", settled)
            settled = None
            if not decision.kept:
                within = " that keeps the budgets" if decision.excluded else ""
                scores = {name: list(row) for name, row in decision.parts.items()} or list(decision.scores)
                raise ProxyError(
                    f"no candidate of {choice.name}{within} got a finite score from proxy "
                    f"'{self.proposer.criterion.name}': the scores are {scores}. Try another --batch-size, "
                    "more --channels, or look for images that occur twice."
                )
            remaining = decision.kept
            self.scope.keep(choice, remaining)
        return remaining

    def _look(
        self, choice: Choice, remaining: tuple[str, ...], purpose: Purpose, settled: Decision | None = None
    ) -> Decision:
        """Take a look from the journal, or make it and write it there."""
        replayed = bool(self.recorded)
        # Asked for what is replayed too: the ways that were found have to be the same ones afterwards.
        excluded = () if purpose == "survey" else self.scope.excluded(choice, remaining)
        if replayed:
            decision = _recalled(self.recorded.popleft(), self.step, choice, remaining, purpose, excluded)
        else:
            if settled is None:
                decision = self._scored(choice, remaining, purpose)
            else:
                decision = replace(settled, seconds=0.0, purpose=purpose)
            if purpose != "survey":
                kept = _kept(choice, remaining, decision.importance, excluded)
                decision = replace(decision, kept=kept, excluded=excluded)
            self.proposer.journal.append(self.file, decision.to_record())
        self.proposer.audience.on_decision(self.proposal, decision, replayed)
        return decision

    def _scored(self, choice: Choice, remaining: tuple[str, ...], purpose: Purpose) -> Decision:
        started, proposer, mixture = time.perf_counter(), self.proposer, self.mixture
        if proposer.config.struck_inputs == "absent":
            mixture = mixture.without(choice.name, *(c for c in choice.selectable if c not in remaining))
        removed = [mixture.without(choice.name, candidate) for candidate in remaining]
        # A survey that settles sees what the decision would have seen.
        survey = purpose == "survey" and not self.order.settles
        batch = proposer.batch(self.proposal, self.step, survey)
        table = proposer.panel(self.proposal).score_components(removed, batch)
        compare = proposer.config.non_finite == "compare"
        scores, importances = compute_importances(proposer.criterion, table, compare_infinite=compare)
        return Decision(
            self.step,
            choice.name,
            remaining,
            tuple(scores),
            tuple(importances),
            remaining,
            time.perf_counter() - started,
            purpose,
            parts=get_component_scores(proposer.criterion, table),
        )


def _kept(
    choice: Choice, remaining: tuple[str, ...], importances: Sequence[float], excluded: Sequence[str] = ()
) -> tuple[str, ...]:
    """What a look leaves; nothing if scores have to decide and no importance is finite."""
    open_to = [i for i, candidate in enumerate(remaining) if candidate not in excluded]
    forced = len(open_to) == 1  # by what budgets leave, whatever the scores are
    if choice.keep == 1:
        best = open_to[argmax_importance([importances[i] for i in open_to])]
        return (remaining[best],) if forced or importances[best] > -math.inf else ()
    if not forced and not any(value > -math.inf for value in importances):
        return ()
    # The published code strikes the last one of equals.
    struck = min(open_to, key=lambda i: (importances[i], -i))
    return tuple(c for i, c in enumerate(remaining) if i != struck)


def _recalled(
    record: Record,
    step: int,
    choice: Choice,
    remaining: tuple[str, ...],
    purpose: Purpose,
    excluded: tuple[str, ...],
) -> Decision:
    wanted = {"step": step, "choice": choice.name, "candidates": list(remaining), "purpose": purpose}
    wanted["excluded"] = list(excluded)
    for key in (f.name for f in fields(Decision)):
        if key not in record and key != "parts":  # which only an aggregate has
            raise ConfigError(f"the journal is damaged: a line has no '{key}'. Start a new search with another --out.")
    for key, value in wanted.items():
        if record.get(key) != value:
            raise ConfigError(
                f"the journal cannot be continued: it says {key} {record.get(key)!r} where this search comes to "
                f"{value!r}. Start a new search with another --out."
            )
    return Decision.from_record(record)
