"""The weights with which a supernet mixes its candidates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from zcpt.architecture import Choice


@dataclass(frozen=True)
class Mixture:
    """A weight for every candidate of every choice. Immutable: ``without`` and ``select`` return new ones.

    Undecided candidates weigh 1/O each (or 1 each where the choice starts with ``"one"``), a removed one
    weighs 0 and the others keep what they had; a decided choice weighs 1 for what is kept and 0 for the
    rest. A candidate that weighs 0 is absent: it is not computed at all.
    """

    weights: Mapping[str, tuple[float, ...]]
    choices: Mapping[str, Choice] = field(repr=False)
    feed_zeros: bool = False
    """Compute the candidates that weigh 0 too, on zeros, where the published code of the space does so.

    This changes no output, only what a proxy that watches activations gets to see.
    """

    @classmethod
    def initial(cls, choices: Sequence[Choice], noise: float = 0.0) -> Mixture:
        """The mixture before any decision.

        Args:
            choices: All choices of the supernet.
            noise: Standard deviation of architecture parameters: with 1e-3 the shares are the softmax of
                1e-3 N(0, 1), drawn from torch's generator, as DARTS initialises them. 0 shares equally.
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
        """This mixture with ``candidates`` of ``choice`` removed; the weights of the others stay."""
        position = self.choices[choice].position
        gone = {position(candidate) for candidate in candidates}
        row = self.weights[choice]
        return self._with_row(choice, tuple(0.0 if i in gone else w for i, w in enumerate(row)))

    def select(self, choice: str, kept: Collection[str]) -> Mixture:
        """This mixture with ``choice`` decided: the kept candidates weigh 1, the others 0."""
        for candidate in kept:
            self.choices[choice].position(candidate)
        row = tuple(float(name in kept) for name in self.choices[choice].candidates)
        return self._with_row(choice, row)

    def is_decided(self, choice: Choice) -> bool:
        """Whether there is nothing left to choose: no more candidates weigh something than are to be kept."""
        return sum(weight != 0 for weight in self.weights[choice.name]) <= choice.keep

    def _with_row(self, choice: str, row: tuple[float, ...]) -> Mixture:
        return replace(self, weights={**self.weights, choice: row})
