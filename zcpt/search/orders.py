"""The order in which choices are decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest

import torch

from zcpt.errors import ConfigError, unknown
from zcpt.seeding import derive
from zcpt.space import Choice

Order = Callable[[Sequence[Choice], torch.Generator], list[Choice]]


def fixed(choices: Sequence[Choice], generator: torch.Generator) -> list[Choice]:
    """From the input of the cell to its output."""
    return list(choices)


def reverse(choices: Sequence[Choice], generator: torch.Generator) -> list[Choice]:
    """From the output of the cell to its input."""
    return list(reversed(choices))


def random(choices: Sequence[Choice], generator: torch.Generator) -> list[Choice]:
    """A permutation, another one for every proposal."""
    return [choices[i] for i in torch.randperm(len(choices), generator=generator).tolist()]


ORDERS: dict[str, Order] = {"fixed": fixed, "reverse": reverse, "random": random}


def get_order(name: str) -> Order:
    """The order of that name; ConfigError with the nearest name when there is none."""
    if name not in ORDERS:
        raise ConfigError(unknown("order", name, ORDERS, "zcpt list orders"))
    return ORDERS[name]


def schedule(choices: Sequence[Choice], order: str, seed: int) -> list[list[Choice]]:
    """The steps of one proposal: a phase after the other, and in each step the next choice of every group.

    Each group has an order of its own: with ``random``, normal and reduction cells are permuted separately.
    """
    arrange = get_order(order)
    steps: list[list[Choice]] = []
    for phase in sorted({choice.phase for choice in choices}):
        lanes = []
        for group in dict.fromkeys(choice.group for choice in choices):
            lane = [c for c in choices if (c.phase, c.group) == (phase, group)]
            generator = torch.Generator().manual_seed(derive(seed, phase, group))
            lanes.append(arrange(lane, generator))
        steps += [[c for c in step if c is not None] for step in zip_longest(*lanes)]
    return steps
