"""Stage 1: propose an architecture by deciding one choice after the other on the supernet."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from zcpt.architecture import Architecture, Choice
from zcpt.batches import Batch
from zcpt.errors import ConfigError, ProxyError
from zcpt.journal import REMEDY, Record
from zcpt.mixture import Mixture
from zcpt.options import pluralize
from zcpt.scoring import (
    ComponentScores,
    CriterionEvaluator,
    argmax_importance,
    compute_importances,
    get_component_scores,
)
from zcpt.search.budgets import FeasibleSet
from zcpt.search.config import SearchSeeds
from zcpt.search.context import SearchContext
from zcpt.search.decision import Decision, Purpose
from zcpt.search.orders import build_queues, get_order
from zcpt.search.records import check_decision_record, check_expected
from zcpt.seeding import derive_seed

_log = logging.getLogger(__name__)


def get_journal_name(proposal: int) -> str:
    """Return the name of a proposal's file in the journal."""
    return f"proposal_{proposal:03d}"


class FinishedProposal(NamedTuple):
    """A proposal as the process that made it sends it to the others."""

    architecture: Architecture
    records: tuple[Record, ...]
    num_replayed: int
    """Number of records, from the first, that were in the journal before."""


class Proposer:
    """Makes the proposals of a search; any of them, in any order, with the same result."""

    def __init__(self, context: SearchContext) -> None:
        self.context = context
        self._scorer = SupernetScorer(context)

    def propose_all(self) -> list[Architecture]:
        """Make all proposals, shared by the processes; callbacks receive those of other processes too."""
        context, processes = self.context, self.context.processes
        architectures = []
        decisions: list[Decision] = []
        for first in range(0, context.config.proposals, processes.size):
            numbers = range(first, min(first + processes.size, context.config.proposals))
            own = first + processes.rank
            # In the last round there may be fewer proposals than processes: the others still join the exchange.
            gathered = processes.gather(self._make_proposal(own) if own in numbers else None)
            for proposal, finished in zip(numbers, gathered, strict=False):
                assert finished is not None, "every process with a proposal returns it"
                if proposal != own:
                    self._replay_callbacks(proposal, finished)
                architectures.append(finished.architecture)
                decisions += map(Decision.from_record, finished.records)
            # After the first proposals as well, because the others of a proxy that decides nothing take long.
            if processes.is_main and (len(architectures) == context.config.proposals or first == 0):
                self._warn_of_ties(decisions, is_last=len(architectures) == context.config.proposals)
        return architectures

    def _warn_of_ties(self, decisions: Sequence[Decision], is_last: bool) -> None:
        """Log how many decisions only the order of the candidates has made; before the last, only if all of them."""
        tied, total = sum(d.is_tied for d in decisions), sum(d.is_open for d in decisions)
        if tied and (is_last or tied == total):
            _log.warning(
                "proxy '%s' scores all candidates alike in %d of %s: there their order in the list decides, which is "
                "no evidence. Look for images that occur twice, are constant or of one class, or try another --proxy.",
                self.context.config.criterion("operations").name,
                tied,
                pluralize(total, "decision"),
            )

    def _make_proposal(self, proposal: int) -> FinishedProposal:
        name = get_journal_name(proposal)
        num_replayed = len(self.context.journal.records(name))
        architecture = self.propose(proposal)
        return FinishedProposal(architecture, tuple(self.context.journal.records(name)), num_replayed)

    def _replay_callbacks(self, proposal: int, finished: FinishedProposal) -> None:
        callback = self.context.callback
        for index, record in enumerate(finished.records):
            callback.on_decision(proposal, Decision.from_record(record), replayed=index < finished.num_replayed)
        callback.on_proposal(proposal, finished.architecture)

    def propose(self, proposal: int) -> Architecture:
        """Decide every choice, and return the architecture; decisions that the journal holds are taken from there.

        Raises:
            ProxyError: No candidate of a choice has a finite score.
            ConfigError: The journal was written by another search.
        """
        kept = _ProposalRun(self.context, self._scorer, proposal).decide_all()
        architecture = self.context.space.architecture(kept)
        self.context.callback.on_proposal(proposal, architecture)
        return architecture


class SupernetScorer:
    """Scores mixtures of the supernet that a proposal is made on.

    The supernet and the mini-batch that were used last are kept, since most of the time they are used again.
    """

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._batch_seed = SearchSeeds.from_seed(context.config.seed).batch
        self._evaluator: tuple[int, CriterionEvaluator] | None = None
        self._batch: tuple[int, Batch] | None = None

    def score(self, proposal: int, step: int, mixtures: Sequence[Mixture], survey: bool = False) -> ComponentScores:
        """Score mixtures on the batch of a step.

        Args:
            proposal: Number of the proposal.
            step: Number of the step.
            mixtures: P mixtures.
            survey: Use another batch than the decisions do, so that a survey does not repeat their scores.

        Returns:
            Proxy name -> P scores.
        """
        return self._load_evaluator(proposal).score_components(mixtures, self._draw_batch(proposal, step, survey))

    def _load_evaluator(self, proposal: int) -> CriterionEvaluator:
        draw = proposal if self._context.config.supernet_weights == "proposal" else 0
        if self._evaluator is None or self._evaluator[0] != draw:
            self._evaluator = None  # frees the last supernet first, so that two never need memory at once
            net = self._context.supernets.build_supernet(draw)
            self._evaluator = draw, self._context.config.build_evaluator(net, "operations")
        return self._evaluator[1]

    def _draw_batch(self, proposal: int, step: int, survey: bool) -> Batch:
        config = self._context.config
        seed_path: list[int | str] = [proposal]
        if config.scoring_batch == "step":
            seed_path.append(step)
        if survey:
            seed_path.append("survey")
        seed = derive_seed(self._batch_seed, *seed_path)
        if self._batch is None or self._batch[0] != seed:
            batch = self._context.batches.draw(config.batch_size, seed)
            self._batch = seed, self._context.supernets.move_batch(batch)
        return self._batch[1]


class _ProposalRun:
    """A proposal in progress: its mixture, its feasible set, and the records of an earlier run still to be replayed."""

    def __init__(self, context: SearchContext, scorer: SupernetScorer, proposal: int) -> None:
        self.context = context
        self.config = context.config
        self.criterion = context.config.criterion("operations")
        self.scorer = scorer
        self.proposal = proposal
        self.step = 0
        self.mixture = context.supernets.draw_initial_mixture(proposal if self.config.alpha_draw == "proposal" else 0)
        self.feasible = FeasibleSet(context.budget_checker, context.space.choices)
        self.journal_name = get_journal_name(proposal)
        self.recorded = deque(context.journal.records(self.journal_name))
        self.num_recorded = len(self.recorded)

    def decide_all(self) -> dict[str, tuple[str, ...]]:
        """Decide every choice; return choice name -> kept candidates."""
        choices = self.context.space.choices
        seed = derive_seed(SearchSeeds.from_seed(self.config.seed).order, self.proposal)
        kept = {}
        for queues in build_queues(choices, self.config.order, seed, self.config.joint):
            while any(queue.remaining for queue in queues):
                # One step: a choice of every queue (normal and reduction cell), all on the same batch.
                for queue in queues:
                    if queue.remaining:
                        choice, survey = queue.pop(self._survey)
                        kept[choice.name] = self._decide(choice, survey)
                        self.mixture = self.mixture.select(choice.name, kept[choice.name])
                self.step += 1
        if self.recorded:
            place = self.context.journal.describe_line(self.journal_name, self.num_recorded - len(self.recorded) + 1)
            raise ConfigError(f"{place} is damaged: the proposal was finished before it: {REMEDY}.")
        return kept

    def _survey(self, choice: Choice) -> Decision:
        return self._run_round(choice, choice.selectable, "survey")

    def _decide(self, choice: Choice, survey: Decision | None) -> tuple[str, ...]:
        remaining = choice.selectable
        while len(remaining) > choice.keep:
            decision = self._run_round(choice, remaining, "settle" if survey else "decide", survey)
            survey = None  # it covers the first round only
            if not decision.kept:
                raise self._make_no_score_error(choice, decision)
            remaining = decision.kept
            self.feasible.restrict(choice, remaining)
        return remaining

    def _make_no_score_error(self, choice: Choice, decision: Decision) -> ProxyError:
        within = " within the budgets" if decision.excluded else ""
        scores = {name: list(row) for name, row in decision.parts.items()} or list(decision.scores)
        return ProxyError(
            f"no candidate of {choice.name}{within} got a finite score from proxy '{self.criterion.name}': the scores "
            f"are {scores}. Try another --batch-size, more --channels, or look for images that occur twice."
        )

    def _run_round(
        self, choice: Choice, remaining: tuple[str, ...], purpose: Purpose, survey: Decision | None = None
    ) -> Decision:
        """Take a decision from the journal, or score the candidates and write it there."""
        replayed = bool(self.recorded)
        # Also for replayed decisions: with several budgets, later answers can depend on the examples found here.
        excluded = () if purpose == "survey" else self.feasible.find_excluded(choice, remaining)
        if replayed:
            decision = self._read_decision(choice, remaining, purpose, excluded)
        else:
            if survey is None:
                decision = self._score_candidates(choice, remaining, purpose)
            else:
                decision = replace(survey, seconds=0.0, purpose=purpose)
            if purpose != "survey":
                kept = find_kept(choice, remaining, decision.importance, excluded)
                decision = replace(decision, kept=kept, excluded=excluded)
            self.context.journal.append(self.journal_name, decision.to_record())
        self.context.callback.on_decision(self.proposal, decision, replayed)
        return decision

    def _read_decision(
        self, choice: Choice, remaining: tuple[str, ...], purpose: Purpose, excluded: tuple[str, ...]
    ) -> Decision:
        """Return the next decision of the journal; ConfigError unless it is the one that the search has reached."""
        record = self.recorded.popleft()
        place = self.context.journal.describe_line(self.journal_name, self.num_recorded - len(self.recorded))
        keep = len(remaining) if purpose == "survey" else 1 if choice.keep == 1 else len(remaining) - 1
        check_decision_record(record, place, keep)
        expected = {
            "step": self.step,
            "choice": choice.name,
            "candidates": list(remaining),
            "purpose": purpose,
            "excluded": list(excluded),
        }
        check_expected(record, expected, place)
        return Decision.from_record(record)

    def _score_candidates(self, choice: Choice, remaining: tuple[str, ...], purpose: Purpose) -> Decision:
        started = time.perf_counter()
        mixture = self.mixture
        if self.config.removed_inputs == "absent":
            mixture = mixture.without(choice.name, *(c for c in choice.selectable if c not in remaining))
        perturbations = [mixture.without(choice.name, candidate) for candidate in remaining]
        # An order that decides by its survey must survey on the batch of the decision.
        on_survey_batch = purpose == "survey" and not get_order(self.config.order).settles
        table = self.scorer.score(self.proposal, self.step, perturbations, on_survey_batch)
        compare = self.config.non_finite == "compare"
        scores, importances = compute_importances(self.criterion, table, compare_infinite=compare)
        return Decision(
            step=self.step,
            choice=choice.name,
            candidates=remaining,
            scores=tuple(scores),
            importance=tuple(importances),
            kept=remaining,
            seconds=time.perf_counter() - started,
            purpose=purpose,
            parts=get_component_scores(self.criterion, table),
        )


def find_kept(
    choice: Choice, remaining: tuple[str, ...], importances: Sequence[float], excluded: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the candidates that remain after a round.

    Where one candidate is kept, the most important one remains; where several are kept, the least important one is
    dropped.

    Args:
        choice: The choice.
        remaining: Candidates that were scored.
        importances: One importance for each of them; -inf ranks last.
        excluded: Candidates on which the decision must not fall.

    Returns:
        No candidate if scores have to decide and no importance is finite.
    """
    allowed = [i for i, candidate in enumerate(remaining) if candidate not in excluded]
    is_forced = len(allowed) == 1  # budgets leave one decision, whatever the scores are
    if choice.keep == 1:
        best = allowed[argmax_importance([importances[i] for i in allowed])]
        return (remaining[best],) if is_forced or importances[best] > -math.inf else ()
    if not is_forced and not any(value > -math.inf for value in importances):
        return ()
    # The published code drops the last one of equally important inputs; hence -i.
    dropped = min(allowed, key=lambda i: (importances[i], -i))
    return tuple(c for i, c in enumerate(remaining) if i != dropped)
