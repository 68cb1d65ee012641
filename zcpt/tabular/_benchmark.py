"""A tabular benchmark: architectures and the accuracies of their trained networks."""

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
"""A data set and a metric: ``("cifar10", "test")``."""


@dataclass(frozen=True)
class TabularBenchmark:
    """Architectures in the order of their file, with the accuracies of their trained networks."""

    title: str
    """Name of the benchmark, as published."""
    space: SearchSpace
    path: Path
    size: WidthDepth
    """Width and depth of the networks that were trained."""
    architectures: tuple[Architecture, ...]
    columns: Mapping[Key, NDArray[np.float64]]
    """Accuracies [N] in percent; nan where an architecture has none."""

    def __post_init__(self) -> None:
        for key, column in self.columns.items():
            assert column.shape == (len(self.architectures),), key

    def __len__(self) -> int:
        return len(self.architectures)

    @property
    def data_sets(self) -> tuple[str, ...]:
        """Data sets on which networks were trained."""
        return tuple(dict.fromkeys(data_set for data_set, _ in self.columns))

    def get_accuracies(self, data_set: str, metric: str = "test") -> NDArray[np.float64]:
        """Return the accuracies [N] in percent, in the order of the file.

        Args:
            data_set: One of ``data_sets``.
            metric: ``test`` or ``valid``: the mean over the trainings of an architecture; ``best-test`` or
                ``best-valid``: its best training; ``test-12`` or ``valid-12``: after NAS-Bench-201's short training.

        Raises:
            ConfigError: The file lacks the data set, or this metric of it.
        """
        if data_set not in self.data_sets:
            raise ConfigError(
                describe_unknown_name(f"value of --accuracy-on for {self.path}", data_set, self.data_sets)
            )
        metrics = [name for column_data_set, name in self.columns if column_data_set == data_set]
        if metric not in metrics:
            raise ConfigError(
                describe_unknown_name(f"value of --metric for {data_set} in {self.path}", metric, metrics)
            )
        return self.columns[data_set, metric]

    def choose_metric(self, data_set: str, requested: str = "") -> str:
        """Return the requested metric; by default ``test`` if the data set has it, else its first.

        Raises:
            ConfigError: As for ``get_accuracies``.
        """
        metrics = [name for column_data_set, name in self.columns if column_data_set == data_set]
        metric = requested or ("test" if "test" in metrics or not metrics else metrics[0])
        self.get_accuracies(data_set, metric)
        return metric

    def lookup(self, architecture: Architecture, data_set: str, metric: str = "test") -> float | None:
        """Return the accuracy of an architecture in percent, or None if the file lacks it."""
        index = self._index.get(self.space.isomorphism_class(architecture))
        value = self.get_accuracies(data_set, metric)[index] if index is not None else np.nan
        return None if np.isnan(value) else float(value)

    def find_best(self, data_set: str, metric: str = "test") -> tuple[Architecture, float]:
        """Return the architecture of the highest accuracy (the first of equals) and that accuracy in percent."""
        column = self.get_accuracies(data_set, metric)
        index = int(np.nanargmax(column))
        return self.architectures[index], float(column[index])

    def rank(self, accuracy: float, data_set: str, metric: str = "test") -> int:
        """Return the rank of an accuracy: 1, plus the number of architectures that are strictly better."""
        return 1 + int((self.get_accuracies(data_set, metric) > accuracy).sum())

    def summarize(self, data_set: str, metric: str = "test") -> dict[str, float]:
        """Return the number of architectures with an accuracy, the best accuracy and the mean.

        The mean is what an architecture drawn at random is expected to have.
        """
        column = self.get_accuracies(data_set, metric)
        listed = column[~np.isnan(column)]
        return {"architectures": len(listed), "best": float(listed.max()), "mean": float(listed.mean())}

    def describe(self, data_set: str, metric: str) -> dict[str, Any]:
        """Return the description that results keep; ``content`` is a hash of the accuracies."""
        column = self.get_accuracies(data_set, metric)
        content = hashlib.sha256(column.tobytes()).hexdigest()[:16]
        source = {"title": self.title, "file": self.path.name, "data_set": data_set, "metric": metric}
        return {**source, "content": content, **self.summarize(data_set, metric)}

    @cached_property
    def _index(self) -> dict[str, int]:
        # By isomorphism class: a search may describe the same cell in another way than the file does.
        return {self.space.isomorphism_class(a): index for index, a in enumerate(self.architectures)}
