"""What all benchmarks come to: architectures, and what their networks reached after training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zcpt.architecture import Architecture
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.space import SearchSpace, WidthDepth

Key = tuple[str, str]
"""A data set and a metric, such as ``("cifar10", "test")``."""


@dataclass(frozen=True)
class Table:
    """The architectures that a file lists, in its order, with their accuracies."""

    title: str
    """Of the benchmark."""
    space: SearchSpace
    path: Path
    size: WidthDepth
    """Of the networks that were trained."""
    architectures: tuple[Architecture, ...]
    columns: Mapping[Key, NDArray[np.float64]]
    """Accuracies [N] in percent; nan where there is none."""

    def __post_init__(self) -> None:
        for key, column in self.columns.items():
            assert column.shape == (len(self.architectures),), key

    def __len__(self) -> int:
        return len(self.architectures)

    @property
    def data_sets(self) -> tuple[str, ...]:
        """The data sets that networks were trained on."""
        return tuple(dict.fromkeys(data_set for data_set, _ in self.columns))

    def accuracies(self, data_set: str, metric: str = "test") -> NDArray[np.float64]:
        """Accuracies [N] in percent, in the order of the file.

        Args:
            data_set: One of ``data_sets``.
            metric: ``test`` or ``valid``: the mean over the trainings of an architecture; ``best-test`` or
                ``best-valid``: its best training; ``test-12`` or ``valid-12``: after NAS-Bench-201's short training.

        Raises:
            ConfigError: The file has no such data set, or not this metric of it.
        """
        if data_set not in self.data_sets:
            raise ConfigError(
                describe_unknown_name(f"value of --accuracy-on for {self.path}", data_set, self.data_sets)
            )
        metrics = [known for found, known in self.columns if found == data_set]
        if metric not in metrics:
            raise ConfigError(
                describe_unknown_name(f"value of --metric for {data_set} in {self.path}", metric, metrics)
            )
        return self.columns[data_set, metric]

    def lookup(self, architecture: Architecture, data_set: str, metric: str = "test") -> float | None:
        """Accuracy in percent of an architecture; None where the file lacks it."""
        index = self._index.get(self.space.isomorphism_class(architecture))
        value = self.accuracies(data_set, metric)[index] if index is not None else np.nan
        return None if np.isnan(value) else float(value)

    def best(self, data_set: str, metric: str = "test") -> tuple[Architecture, float]:
        """The architecture of the highest accuracy, the first one of equals, and that accuracy in percent."""
        column = self.accuracies(data_set, metric)
        index = int(np.nanargmax(column))
        return self.architectures[index], float(column[index])

    def rank(self, accuracy: float, data_set: str, metric: str = "test") -> int:
        """1 for the best accuracy: how many architectures are strictly better, and one."""
        return 1 + int((self.accuracies(data_set, metric) > accuracy).sum())

    def about(self, data_set: str, metric: str = "test") -> dict[str, float]:
        """How many architectures have an accuracy, the best one, and the mean: what picking one blindly comes to."""
        column = self.accuracies(data_set, metric)
        known = column[~np.isnan(column)]
        return {"architectures": len(known), "best": float(known.max()), "mean": float(known.mean())}

    def document(self, data_set: str, metric: str) -> dict[str, Any]:
        """What a result notes of the table; ``content`` tells accuracies apart."""
        column = self.accuracies(data_set, metric)
        content = hashlib.sha256(column.tobytes()).hexdigest()[:16]
        about = {"title": self.title, "file": self.path.name, "data_set": data_set, "metric": metric}
        return {**about, "content": content, **self.about(data_set, metric)}

    @cached_property
    def _index(self) -> dict[str, int]:
        return {self.space.isomorphism_class(each): index for index, each in enumerate(self.architectures)}
