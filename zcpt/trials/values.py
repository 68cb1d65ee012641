"""Values: what a trial measures of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from zcpt.architecture import Architecture


class Measured(Protocol):
    """Outcome of measuring an architecture."""

    @property
    def value(self) -> float:
        """Number that guides the search; higher is better. If it is not finite, the trial has failed."""
        ...

    @property
    def report(self) -> Mapping[str, float]:
        """Further numbers, such as the test accuracy. They are recorded and never guide."""
        ...

    @property
    def seconds(self) -> float:
        """Time that it took."""
        ...


@dataclass(frozen=True)
class Measurement:
    """Outcome of measuring an architecture."""

    value: float
    """Number that guides the search; higher is better. If it is not finite, the trial has failed."""
    report: Mapping[str, float] = field(default_factory=dict)
    """Further numbers, such as the test accuracy. They are recorded and never guide."""
    seconds: float = 0.0
    """Time that it took."""


class Value(Protocol):
    """What trials measure: the accuracy in a table, that of a short training, a number of the user's own.

    To measure in several processes, the object must be picklable.
    """

    @property
    def name(self) -> str:
        """Name for messages, such as 'train:econas'."""
        ...

    def measure(self, architecture: Architecture, seed: int) -> Measured:
        """Measure an architecture.

        Args:
            architecture: The architecture.
            seed: Seed of this trial. The same architecture and seed must give the same value in every process.

        Raises:
            ZcptError: It cannot be measured: the trial has failed, and the search goes on.
        """
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return all that the values depend on, as JSON can hold it; a run is resumed only with the same."""
        ...


@runtime_checkable
class StagedValue(Protocol):
    """A value whose measurements have stages, as trainings do."""

    def measure_share(
        self, architecture: Architecture, seed: int, share: float, checkpoint: Path | None = None
    ) -> Measured:
        """Measure an architecture after a share of the whole measurement.

        Args:
            architecture: The architecture.
            seed: Seed of the whole measurement.
            share: Share, above 0 and at most 1.
            checkpoint: File that the next share goes on from, and that of the one before where there is one. It only
                saves time: the outcome is the same without it.
        """
        ...
