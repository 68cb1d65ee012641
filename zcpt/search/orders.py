"""Orders: which choice is decided next."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import NamedTuple

import torch

from zcpt.architecture import Choice
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.search.decision import Decision
from zcpt.seeding import derive_seed

Survey = Callable[[Choice], Decision]
"""A function that scores the candidates of a choice and keeps them all."""


@dataclass(frozen=True)
class Order:
    """A rule for the choice that is decided next.

    The global orders rank all open choices of operations (phase 0) by the importances of their candidates. Later phases
    decide which inputs a node keeps; there is no operation to rank then, so these follow ``arrange``.
    """

    summary: str
    arrange: Callable[[Sequence[Choice], torch.Generator], list[Choice]]
    rank: Callable[[Sequence[float]], float] | None = None
    """Maps the importances of a choice's candidates to its rank; the highest is next. None: no ranking."""
    repeated: bool = False
    """Survey all open choices before every decision, not only before the first one."""
    settles: bool = False
    """Decide by the scores of the survey. Otherwise the chosen choice is scored anew, on another batch."""


def _arrange_fixed(choices: Sequence[Choice], generator: torch.Generator) -> list[Choice]:
    return list(choices)


def _arrange_reversed(choices: Sequence[Choice], generator: torch.Generator) -> list[Choice]:
    return list(reversed(choices))


def _arrange_randomly(choices: Sequence[Choice], generator: torch.Generator) -> list[Choice]:
    return [choices[i] for i in torch.randperm(len(choices), generator=generator).tolist()]


def _average_finite(importances: Sequence[float]) -> float:
    finite = [value for value in importances if math.isfinite(value)]
    return mean(finite) if finite else -math.inf


ORDERS = {
    "fixed": Order("from the input of the cell to its output", _arrange_fixed),
    "reverse": Order("from the output of the cell to its input", _arrange_reversed),
    "random": Order("a new permutation for every proposal", _arrange_randomly),
    "global-op-iter": Order(
        "at every step the edge with the most important operation of all",
        _arrange_randomly,
        max,
        repeated=True,
        settles=True,
    ),
    "global-op-once": Order(
        "edges by their most important operation, scored once at the start", _arrange_randomly, max
    ),
    "global-edge-iter": Order(
        "at every step the edge whose operations are most important on average",
        _arrange_randomly,
        _average_finite,
        repeated=True,
    ),
    "global-edge-once": Order(
        "edges by the mean importance of their operations, scored once at the start",
        _arrange_randomly,
        _average_finite,
    ),
}


def get_order(name: str) -> Order:
    """Return the order of that name; ConfigError with the nearest name if there is none."""
    if name not in ORDERS:
        raise ConfigError(describe_unknown_name("order", name, ORDERS, "zcpt list orders"))
    return ORDERS[name]


class ChoiceQueue:
    """Choices of one phase and group, which are decided one after the other.

    Args:
        choices: Choices in the order of the space.
        order: Rule for the next choice.
        generator: Source of the random permutation.
    """

    def __init__(self, choices: Sequence[Choice], order: Order, generator: torch.Generator) -> None:
        self.order = order
        ranks_operations = order.rank is not None and all(choice.phase == 0 for choice in choices)
        # A ranking order starts from the order of the space: the sort is stable, so ties go to the first choice.
        self.remaining = list(choices) if ranks_operations else order.arrange(choices, generator)
        self._needs_survey = ranks_operations

    def pop(self, survey: Survey) -> tuple[Choice, Decision | None]:
        """Remove and return the next choice, with its survey if the order decides by it."""
        if not self._needs_survey:
            return self.remaining.pop(0), None
        assert self.order.rank is not None
        rank = self.order.rank
        surveys = {choice.name: survey(choice) for choice in self.remaining}
        self.remaining.sort(key=lambda choice: -rank(surveys[choice.name].importance))
        self._needs_survey = self.order.repeated
        choice = self.remaining.pop(0)
        return choice, surveys[choice.name] if self.order.settles else None


def build_queues(choices: Sequence[Choice], order: str, seed: int, joint: bool = False) -> Iterator[list[ChoiceQueue]]:
    """Yield the queues of each phase. A step takes one choice of every queue.

    Each group has its own queue: with ``random``, normal and reduction cells are permuted separately. With ``joint``
    one queue holds the choices of all groups.
    """
    rule = get_order(order)
    for phase in sorted({choice.phase for choice in choices}):
        queues = []
        for group in [None] if joint else dict.fromkeys(choice.group for choice in choices):
            members = [c for c in choices if c.phase == phase and group in (None, c.group)]
            # One generator per queue: a permutation does not depend on how many choices the other queues have.
            generator = torch.Generator().manual_seed(derive_seed(seed, phase, group or ""))
            queues.append(ChoiceQueue(members, rule, generator))
        yield queues


class ScoringRound(NamedTuple):
    """One scoring of the remaining candidates of a choice."""

    choice: Choice
    evaluations: int
    dropped: int
    """Number of candidates that are removed for good afterwards."""


def simulate_rounds(choices: Sequence[Choice], order: str, joint: bool = False) -> Iterator[ScoringRound]:
    """Yield the rounds of one proposal, as if every survey ranked the open choices in the order of the space."""
    for queues in build_queues(choices, order, seed=0, joint=joint):
        while any(queue.remaining for queue in queues):
            for queue in queues:
                if not queue.remaining:
                    continue
                surveyed: list[Choice] = []
                choice, survey = queue.pop(partial(_simulate_survey, surveyed))
                for surveyed_choice in surveyed:
                    yield ScoringRound(surveyed_choice, len(surveyed_choice.selectable), 0)
                for index, count in enumerate(choice.round_sizes):
                    evaluations = 0 if index == 0 and survey is not None else count
                    yield ScoringRound(choice, evaluations, count - 1 if choice.keep == 1 else 1)


def _simulate_survey(surveyed: list[Choice], choice: Choice) -> Decision:
    surveyed.append(choice)
    # Equal importances for all choices: the stable sort of the queue then keeps the order of the space.
    return Decision(0, choice.name, choice.candidates, (0.0,), (0.0,), choice.candidates, 0.0, "survey")


def count_evaluations(choices: Sequence[Choice], order: str, joint: bool = False) -> tuple[int, int]:
    """Return the smallest and the largest number of evaluations of one proposal.

    They differ only where an order repeats its survey and choices have different numbers of candidates: a choice that
    is decided late is surveyed often.
    """
    by_size = sorted(choices, key=lambda choice: len(choice.selectable))
    smallest_first, largest_first = (
        sum(simulated.evaluations for simulated in simulate_rounds(c, order, joint)) for c in (by_size, by_size[::-1])
    )
    # Choices with few candidates first means that those with many are surveyed most often, so it is the larger number.
    return largest_first, smallest_first
