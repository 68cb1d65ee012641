"""Values: what is measured of an architecture, such as the accuracy of a short training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from zcpt.architecture import Architecture
from zcpt.errors import StorageError, ZcptError


class Measured(Protocol):
    """Outcome of measuring an architecture."""

    @property
    def value(self) -> float:
        """Number that guides the search; higher is better. If it is not finite, the measurement has failed."""
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
    """Number that guides the search; higher is better. If it is not finite, the measurement has failed."""
    report: Mapping[str, float] = field(default_factory=dict)
    """Further numbers, such as the test accuracy. They are recorded and never guide."""
    seconds: float = 0.0
    """Time that it took."""


class Value(Protocol):
    """What is measured: the accuracy in a table, that of a short training, a number of the user's own.

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
            seed: Seed of this measurement. The same architecture and seed must give the same value in every process.

        Raises:
            ZcptError: It cannot be measured: this architecture has failed, and the search goes on.
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


@dataclass(frozen=True)
class Outcome:
    """What a journal keeps of a measurement."""

    value: float
    """The value; -inf if the measurement raised an error."""
    report: Mapping[str, float]
    seconds: float
    failure: str
    """Why the measurement failed; empty if it did not."""


def run_measurement(measure: Callable[[], Measured]) -> Outcome:
    """Measure an architecture, and record an error or a value that is not finite as a failure.

    Args:
        measure: Function that measures the architecture.

    Raises:
        StorageError: A file cannot be written, which is no fault of the architecture.
    """
    try:
        measured = measure()
    except StorageError:
        raise
    except ZcptError as error:
        return Outcome(-math.inf, {}, 0.0, str(error))
    failure = "" if math.isfinite(measured.value) else f"the value is {measured.value}"
    report = {name: float(number) for name, number in measured.report.items()}
    return Outcome(float(measured.value), report, float(measured.seconds), failure)
