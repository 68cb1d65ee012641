"""Short trainings by their names, ``train:RECIPE``, as proxies."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from train.data import ImageData
from train.reduced import ReducedTraining, prepare_training
from zcpt.architecture import Architecture
from zcpt.proxies import ArchitectureProxy, Criterion
from zcpt.space import SearchSpace

PREFIX = "train:"


class TrainingProxy(ArchitectureProxy):
    """The accuracy of a short training.

    Args:
        training: The training.
    """

    def __init__(self, training: ReducedTraining) -> None:
        self.name = training.name  # type: ignore[misc]  # each training has its own
        self.about = training.describe()
        self.training = training

    def score_architecture(self, architecture: Architecture, seed: int) -> float:
        """Train the network of an architecture, and return its accuracy on the images kept back."""
        return self.training.measure(architecture, seed).value


def read_criteria(
    names: Sequence[str], space: SearchSpace, data: ImageData, device: torch.device, seed: int
) -> list[str | Criterion]:
    """Return names of proxies and aggregates as they are, and the short trainings among them as proxies.

    Raises:
        ConfigError: There is no such recipe, or it keeps no images back.
    """
    return [
        TrainingProxy(prepare_training(space, data, name.removeprefix(PREFIX), device=device, seed=seed))
        if name.startswith(PREFIX)
        else name
        for name in names
    ]
