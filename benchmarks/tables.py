"""Published tables of what the architectures of a space reached on CIFAR-10 once they were trained.

Each is a gzipped CSV with a line for every architecture:

- ``nasbench201``: ``arch_str``, ``c10_test_acc_200ep_pct`` (mean of the trainings) and
  ``c10_test_acc_200ep_nb201_per_seed_pct`` (each training's, divided by semicolons).
- ``nasbench-macro``: ``arch8`` (``m`` and the eight digits), ``test_acc_run1_pct`` to ``test_acc_run3_pct``,
  ``test_acc_mean_pct``.
- ``nasbench1shot1-1``, ``nasbench1shot1-2``: ``space`` (1 or 2: one file has both), ``adj49`` (``a`` and the matrix,
  row by row), ``ops`` (labels of the vertices, divided by commas), accuracies as above.
"""

from __future__ import annotations

import csv
import gzip
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from darts_space.nasbench1shot1 import VERTICES, NasBench1Shot1
from zcpt.space import Architecture, SearchSpace

Row = Mapping[str, str]


class Trained(NamedTuple):
    """Test accuracies of an architecture in percent: the mean of its trainings, and the best one."""

    mean: float
    best: float


class Table:
    """The accuracies of the architectures that a table lists, in its order."""

    def __init__(self, space: SearchSpace, trained: Mapping[Architecture, Trained]) -> None:
        self.space, self.trained = space, trained
        # NAS-Bench-101 trained each graph once, however its vertices are numbered.
        self._key: Callable[[Architecture], str] = (
            space.isomorphism_class if isinstance(space, NasBench1Shot1) else space.format
        )
        self._by_key = {self._key(architecture): each for architecture, each in trained.items()}

    def accuracy(self, architecture: Architecture) -> float | None:
        """Mean test accuracy in percent; None where the table lacks the architecture."""
        found = self._by_key.get(self._key(architecture))
        return found.mean if found else None

    def about(self) -> dict[str, float]:
        """Its size, the best accuracy, and the mean: what an architecture picked blindly has."""
        means = [each.mean for each in self.trained.values()]
        return {"architectures": len(means), "best": max(means), "mean": statistics.mean(means)}


def _nasbench201(space: SearchSpace, row: Row) -> tuple[Architecture, Trained]:
    runs = map(float, row["c10_test_acc_200ep_nb201_per_seed_pct"].split(";"))
    return space.parse(row["arch_str"]), Trained(float(row["c10_test_acc_200ep_pct"]), max(runs))


def _nasbench_macro(space: SearchSpace, row: Row) -> tuple[Architecture, Trained]:
    return space.parse(row["arch8"].removeprefix("m")), _of_three(row)


def _nasbench1shot1(space: Any, row: Row) -> tuple[Architecture, Trained] | None:
    if row["space"] != space.name[-1]:
        return None
    bits = [int(bit) for bit in row["adj49"].removeprefix("a")]
    matrix = [bits[start : start + VERTICES] for start in range(0, len(bits), VERTICES)]
    return space.from_spec(matrix, row["ops"].split(",")), _of_three(row)


def _of_three(row: Row) -> Trained:
    runs = [float(row[f"test_acc_run{run}_pct"]) for run in (1, 2, 3)]
    return Trained(float(row["test_acc_mean_pct"]), max(runs))


READERS: dict[str, Callable[[Any, Row], tuple[Architecture, Trained] | None]] = {
    "nasbench201": _nasbench201,
    "nasbench-macro": _nasbench_macro,
    "nasbench1shot1-1": _nasbench1shot1,
    "nasbench1shot1-2": _nasbench1shot1,
}


def read_table(space: SearchSpace, path: Path) -> Table:
    """Read the table of one of the spaces in ``READERS``."""
    with gzip.open(path, "rt", newline="") as file:
        found = (READERS[space.name](space, row) for row in csv.DictReader(file))
        return Table(space, dict(filter(None, found)))
