"""Decisions drawn at random, and decisions that differ in one place from given ones."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, combinations

import torch

from zcpt.architecture import Architecture, Choice

Decisions = Mapping[str, tuple[str, ...]]
"""Kept candidates by the name of the choice."""


def draw_index(count: int, generator: torch.Generator) -> int:
    """Draw a whole number below ``count`` uniformly."""
    return int(torch.randint(count, (), generator=generator))


def draw_weighted_index(weights: Sequence[int], generator: torch.Generator) -> int:
    """Draw an index with a probability in proportion to its weight, a whole number."""
    sums = list(accumulate(weights))
    return bisect_right(sums, draw_index(sums[-1], generator))


def draw_kept(choice: Choice, generator: torch.Generator) -> tuple[str, ...]:
    """Draw the kept candidates of a choice uniformly."""
    candidates = choice.selectable
    if choice.keep == 1:
        return (candidates[draw_index(len(candidates), generator)],)
    drawn = torch.randperm(len(candidates), generator=generator)[: choice.keep].sort().values
    return tuple(candidates[index] for index in drawn.tolist())


def list_exchanges(choice: Choice, kept: Sequence[str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield every exchange of a kept candidate for another one: the old one, the new one, and those kept afterwards."""
    for old in kept:
        for new in choice.selectable:
            if new not in kept:
                exchanged = {new if candidate == old else candidate for candidate in kept}
                yield old, new, tuple(candidate for candidate in choice.selectable if candidate in exchanged)


def complete_decisions(
    choices: Sequence[Choice],
    build: Callable[[Decisions], Architecture],
    decisions: Decisions,
    is_possible: Callable[[Decisions], bool] | None = None,
) -> Iterator[Architecture]:
    """Yield an architecture for each way to make the decisions that matter and are missing.

    With no decisions these are all architectures of a space.

    Args:
        choices: All choices of the space.
        build: Builds an architecture from the decisions on all choices, and leaves out those that do not matter
            (``SearchSpace.architecture``).
        decisions: The decisions made so far; they may include some that do not matter.
        is_possible: Whether some architecture with given decisions is wanted; None wants all.
    """
    if is_possible and not is_possible(decisions):
        return
    # Any decision will do for a choice that does not matter, and the first that matters is then made in every way.
    architecture = build(
        {choice.name: decisions.get(choice.name, choice.selectable[: choice.keep]) for choice in choices}
    )
    missing = next((c for c in choices if c.name in architecture.kept and c.name not in decisions), None)
    if missing is None:
        yield architecture
        return
    for kept in combinations(missing.selectable, missing.keep):
        yield from complete_decisions(choices, build, {**decisions, missing.name: kept}, is_possible)


def sort_kept(architecture: Architecture, choices: Sequence[Choice]) -> Architecture:
    """Return an architecture with the kept candidates of every choice in the order of the choice."""
    several = [choice for choice in choices if choice.keep > 1 and choice.name in architecture.kept]
    if not several:
        return architecture
    kept = {c.name: tuple(sorted(architecture.kept[c.name], key=c.position)) for c in several}
    return Architecture(architecture.space, {**architecture.kept, **kept})
