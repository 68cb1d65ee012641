"""Mixtures: the weights with which a supernet adds up the candidates of its choices."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from zcpt.architecture import Choice
from zcpt.errors import SpaceError, describe_unknown_name


@dataclass(frozen=True)
class Mixture:
    """A weight for every candidate of every choice. Immutable: ``without`` and ``select`` return new mixtures.

    An undecided candidate weighs 1/O (or 1 where the choice starts with ``"one"``), a removed one 0; the others are not
    renormalised. A decided choice weighs 1 for what is kept and 0 for the rest. Candidates of weight 0 are skipped.

    Example:
        >>> edge = Choice("edge", ("skip", "conv", "pool", "none"))
        >>> Mixture.initial([edge]).without("edge", "pool").weights
        {'edge': (0.25, 0.25, 0.0, 0.25)}
    """

    weights: Mapping[str, tuple[float, ...]]
    """Weights by choice name, in the order of the choice's candidates."""
    choices: Mapping[str, Choice] = field(repr=False)
    """Choices by name."""
    feed_zeros: bool = False
    """Whether candidates of weight 0 are computed on zeros where the published code of the space does so.

    This changes no output, only the activations that a proxy observes.
    """
    shares: Mapping[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    """Weights [candidates] of some choices as tensors, which apply in place of the numbers wherever these are not 0.

    Gradients flow into them: so architecture parameters are trained. They are for a forward pass of a ``Supernet``.
    """

    @classmethod
    def initial(cls, choices: Sequence[Choice], noise: float = 0.0) -> Mixture:
        """Return the mixture before any decision.

        Args:
            choices: All choices of the supernet.
            noise: Standard deviation of architecture parameters: with 1e-3 the weights are the softmax of
                1e-3 N(0, 1), drawn from torch's generator, as DARTS initialises them. With 0 they are equal.
        """
        weights = {}
        for choice in choices:
            count = len(choice.candidates)
            if choice.start == "one":
                weights[choice.name] = (1.0,) * count
            elif noise:
                alpha = noise * torch.randn(count, dtype=torch.float64)
                weights[choice.name] = tuple(torch.softmax(alpha, 0).tolist())
            else:
                weights[choice.name] = (1.0 / count,) * count
        return cls(weights, {c.name: c for c in choices})

    def without(self, choice: str, *candidates: str) -> Mixture:
        """Return this mixture with ``candidates`` of ``choice`` removed; the weights of the others stay.

        Raises:
            SpaceError: The mixture has no such choice, or the choice no such candidate.
        """
        found = self._get_choice(choice)
        removed = {found.position(candidate) for candidate in candidates}
        row = self.weights[choice]
        return self._replace_row(choice, tuple(0.0 if i in removed else w for i, w in enumerate(row)))

    def select(self, choice: str, kept: Collection[str]) -> Mixture:
        """Return this mixture with ``choice`` decided: the kept candidates weigh 1, the others 0.

        Args:
            choice: Name of the choice.
            kept: At least one candidate, and at most as many as the choice keeps, each once.

        Raises:
            SpaceError: The mixture has no such choice, the choice no such candidate, or it does not keep so many.
        """
        found = self._get_choice(choice)
        names = [kept] if isinstance(kept, str) else list(kept)
        for candidate in names:
            found.position(candidate)
        if len(set(names)) < len(names) or not 1 <= len(names) <= found.keep:
            allowed = "one candidate" if found.keep == 1 else f"1 to {found.keep} different candidates"
            raise SpaceError(f"{choice} keeps {allowed}, not {names}: choose from {', '.join(found.candidates)}.")
        decided = self._replace_row(choice, tuple(float(name in names) for name in found.candidates))
        return replace(decided, shares={name: row for name, row in self.shares.items() if name != choice})

    def is_decided(self, choice: Choice) -> bool:
        """Return whether no more candidates have a weight than are kept.

        Raises:
            SpaceError: The mixture has no such choice.
        """
        self._get_choice(choice.name)
        return sum(weight != 0 for weight in self.weights[choice.name]) <= choice.keep

    def check_choices(self, choices: Mapping[str, Choice]) -> None:
        """Check that this mixture has a weight for every candidate of some choices.

        Raises:
            SpaceError: It lacks one of the choices, or has other candidates for it: it belongs to another space.
        """
        for name, choice in choices.items():
            if name not in self.weights:
                raise SpaceError(
                    f"the mixture belongs to another supernet, and has no choice '{name}': use net.initial_mixture()."
                )
            candidates = self.choices[name].candidates if name in self.choices else choice.candidates
            if candidates != choice.candidates or len(self.weights[name]) != len(choice.candidates):
                raise SpaceError(
                    f"the mixture belongs to another supernet: it weighs {', '.join(candidates)} of {name}, and this "
                    f"one has {', '.join(choice.candidates)}. Use net.initial_mixture()."
                )

    def _get_choice(self, name: str) -> Choice:
        if name not in self.choices:
            raise SpaceError(describe_unknown_name("choice", name, self.choices))
        return self.choices[name]

    def _replace_row(self, choice: str, row: tuple[float, ...]) -> Mixture:
        return replace(self, weights={**self.weights, choice: row})
