"""Architecture parameters of a supernet: a number for every candidate, whose softmax is its share of the mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from zcpt.architecture import Choice
from zcpt.errors import ConfigError
from zcpt.mixture import Mixture
from zcpt.seeding import derive_seed


def has_parameters(choice: Choice) -> bool:
    """Return whether a choice has architecture parameters.

    All have, but for the inputs of DARTS' nodes, which are added up unweighted: their importance follows from those of
    the operations.
    """
    return choice.keep == 1 or choice.start == "share"


class ArchitectureParameters:
    """Architecture parameters alpha of the choices of a supernet.

    Args:
        alphas: Tensor [candidates] for each choice that has parameters, by its name.
    """

    def __init__(self, alphas: Mapping[str, Tensor]) -> None:
        self.alphas = dict(alphas)

    @classmethod
    def draw(cls, choices: Sequence[Choice], noise: float, seed: int, device: torch.device) -> ArchitectureParameters:
        """Draw normal numbers of standard deviation ``noise``; each choice has a seed of its own."""
        alphas = {}
        for choice in filter(has_parameters, choices):
            generator = torch.Generator().manual_seed(derive_seed(seed, "alpha", choice.name))
            alpha = noise * torch.randn(len(choice.candidates), generator=generator)
            alphas[choice.name] = alpha.to(device).requires_grad_()
        return cls(alphas)

    def list_tensors(self) -> list[Tensor]:
        """Return all parameters."""
        return list(self.alphas.values())

    def list_open(self, mixture: Mixture) -> list[str]:
        """Return the choices with parameters that the mixture leaves open."""
        return [name for name in self.alphas if not mixture.is_decided(mixture.choices[name])]

    def share(self, mixture: Mixture) -> Mixture:
        """Return the mixture in which gradients flow into the parameters of open choices, through their softmax.

        A candidate that the mixture has removed keeps its share, which is not given to the others.
        """
        return replace(mixture, shares={name: torch.softmax(self.alphas[name], 0) for name in self.list_open(mixture)})

    def weigh(self, mixture: Mixture) -> Mixture:
        """Return the mixture in which the candidates of open choices weigh their shares, as numbers."""
        weights = dict(mixture.weights)
        for name in self.list_open(mixture):
            shares = torch.softmax(self.alphas[name].detach().cpu().double(), 0).tolist()
            weights[name] = tuple(share if kept else 0.0 for share, kept in zip(shares, weights[name], strict=True))
        return replace(mixture, weights=weights)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all parameters by the choice's name, on the CPU."""
        return {name: alpha.detach().cpu().clone() for name, alpha in self.alphas.items()}

    def load_state_dict(self, state: Mapping[str, Tensor], source: object) -> None:
        """Load copies of all parameters; ConfigError names the source if they are of other choices."""
        shapes = {name: tuple(alpha.shape) for name, alpha in self.alphas.items()}
        if not isinstance(state, Mapping) or shapes != {name: tuple(alpha.shape) for name, alpha in state.items()}:
            raise ConfigError(f"{source} is damaged: its architecture parameters are those of other choices.")
        with torch.no_grad():
            for name, alpha in self.alphas.items():
                alpha.copy_(state[name])
