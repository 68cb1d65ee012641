"""The order in which choices are decided."""

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
"""Scores the candidates of a choice and decides nothing."""


@dataclass(frozen=True)
class Order:
    """A way to pick the choice that is decided next.

    The global orders compare all operations that are still open (phase 0); which inputs to keep is no matter of
    operations, so the phases after it go in ``arrange``'s order.
    """

    summary: str
    arrange: Callable[[Sequence[Choice], torch.Generator], list[Choice]]
    rank: Callable[[Sequence[float]], float] | None = None
    """From the importances of a choice's candidates to its rank: the highest is next. None: as arranged."""
    repeated: bool = False
    """Survey all open choices before every decision, not only before the first one."""
    settles: bool = False
    """The survey's scores decide; otherwise the choice that comes out first is scored anew, on another batch."""


def _fixed(choices: Sequence[Choice], generator: torch.Generator) -> list[Choice]:
    return list(choices)


def _reverse(choices: Sequence[Choice], generator: torch.Generator) -> list[Choice]:
    return list(reversed(choices))


def _random(choices: Sequence[Choice], generator: torch.Generator) -> list[Choice]:
    return [choices[i] for i in torch.randperm(len(choices), generator=generator).tolist()]


def _mean(importances: Sequence[float]) -> float:
    finite = [value for value in importances if math.isfinite(value)]
    return mean(finite) if finite else -math.inf


ORDERS = {
    "fixed": Order("from the input of the cell to its output", _fixed),
    "reverse": Order("from the output of the cell to its input", _reverse),
    "random": Order("a permutation, another one for every proposal", _random),
    "global-op-iter": Order(
        "at every step the edge with the most important operation of all", _random, max, repeated=True, settles=True
    ),
    "global-op-once": Order("edges by their most important operation, scored once at the start", _random, max),
    "global-edge-iter": Order(
        "at every step the edge whose operations matter most on average", _random, _mean, repeated=True
    ),
    "global-edge-once": Order("edges by the mean importance of their operations, scored once", _random, _mean),
}


def get_order(name: str) -> Order:
    """The order of that name; ConfigError with the nearest name when there is none."""
    if name not in ORDERS:
        raise ConfigError(describe_unknown_name("order", name, ORDERS, "zcpt list orders"))
    return ORDERS[name]


class ChoiceQueue:
    """Choices that are decided one after the other: those of one phase and group."""

    def __init__(self, choices: Sequence[Choice], order: Order, generator: torch.Generator) -> None:
        self.order = order
        # Surveyed in the order of the space, so that equals go to the first one.
        self.left = list(choices) if _ranked(choices, order) else order.arrange(choices, generator)
        self._surveyed = not _ranked(choices, order)

    def pop(self, survey: Survey) -> tuple[Choice, Decision | None]:
        """Take the next choice, with the look that settles it already if the order is of that kind."""
        look = None
        if not self._surveyed:
            round_sizes = {choice.name: survey(choice) for choice in self.left}
            rank = self.order.rank or _mean
            self.left.sort(key=lambda choice: -rank(round_sizes[choice.name].importance))
            self._surveyed = not self.order.repeated
            look = round_sizes[self.left[0].name] if self.order.settles else None
        return self.left.pop(0), look


def _ranked(choices: Sequence[Choice], order: Order) -> bool:
    return order.rank is not None and all(choice.phase == 0 for choice in choices)


def phases(choices: Sequence[Choice], order: str, seed: int, joint: bool = False) -> Iterator[list[ChoiceQueue]]:
    """The lanes of each phase in turn. A step takes one choice of every lane.

    Each group has a lane of its own: with ``random``, normal and reduction cells are permuted separately. With
    ``joint`` one lane holds the choices of all groups.
    """
    strategy = get_order(order)
    for phase in sorted({choice.phase for choice in choices}):
        lanes = []
        for group in [None] if joint else dict.fromkeys(choice.group for choice in choices):
            members = [c for c in choices if c.phase == phase and group in (None, c.group)]
            generator = torch.Generator().manual_seed(derive_seed(seed, phase, group or ""))
            lanes.append(ChoiceQueue(members, strategy, generator))
        yield lanes


class Look(NamedTuple):
    """What a proposal does with a choice at one point."""

    choice: Choice
    evaluations: int
    dropped: int
    """How many candidates are removed for good after it."""


def rehearse(choices: Sequence[Choice], order: str, joint: bool = False) -> Iterator[Look]:
    """The looks of one proposal as they come if open choices rank as the space lists them."""
    for lanes in phases(choices, order, seed=0, joint=joint):
        while any(lane.left for lane in lanes):
            for lane in filter(lambda lane: lane.left, lanes):
                surveyed: list[Choice] = []
                choice, settled = lane.pop(partial(_pretend, surveyed))
                yield from (Look(seen, len(seen.selectable), 0) for seen in surveyed)
                for index, count in enumerate(choice.round_sizes):
                    dropped = count - 1 if choice.keep == 1 else 1
                    yield Look(choice, count if index or settled is None else 0, dropped)


def _pretend(surveyed: list[Choice], choice: Choice) -> Decision:
    surveyed.append(choice)
    return Decision(0, choice.name, choice.candidates, (0.0,), (0.0,), choice.candidates, 0.0, "survey")


def evaluations(choices: Sequence[Choice], order: str, joint: bool = False) -> tuple[int, int]:
    """The least and the largest number of evaluations of one proposal.

    They differ only where an order repeats its survey and choices have different numbers of candidates: what is
    decided late is surveyed often.
    """
    by_size = sorted(choices, key=lambda choice: len(choice.selectable))
    most, least = (sum(look.evaluations for look in rehearse(c, order, joint)) for c in (by_size, by_size[::-1]))
    return least, most
