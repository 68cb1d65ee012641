"""Values for tests: cheap functions of an architecture."""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path
from typing import Any

import zcpt
from zcpt import Architecture
from zcpt.trials import Measurement


def hash_architecture(architecture: Architecture, salt: str = "") -> float:
    """Return a number between 0 and 1 that looks random."""
    return zlib.crc32(repr((salt, sorted(architecture.kept.items()))).encode()) / 2**32


class Convolutions:
    """The number of 3x3 convolutions, and a hash that makes every value different."""

    name = "convolutions"

    def measure(self, architecture: Architecture, seed: int) -> Measurement:
        """Return the number, and its opposite as what is reported."""
        count = sum("3x3" in name for kept in architecture.kept.values() for name in kept)
        value = count + 0.5 * hash_architecture(architecture)
        return Measurement(value, {"test": -value}, 0.25)

    def describe(self) -> dict[str, Any]:
        """Return nothing: there is nothing that it depends on."""
        return {}


class Interrupted(Convolutions):
    """Raises KeyboardInterrupt at the call of a number, as Ctrl-C does."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def measure(self, architecture: Architecture, seed: int) -> Measurement:
        """Count the calls."""
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return super().measure(architecture, seed)


class Failing(Convolutions):
    """Fails for most architectures, in one of three ways."""

    def __init__(self, share: float) -> None:
        self.share = share

    def measure(self, architecture: Architecture, seed: int) -> Measurement:
        """Fail by an error, nan or infinity."""
        number = hash_architecture(architecture, "fails")
        if number < self.share / 3:
            raise zcpt.SpaceError("it cannot be built.")
        if number < self.share:
            return Measurement(math.nan if number < 2 * self.share / 3 else math.inf)
        return super().measure(architecture, seed)


class KillsOnce(Convolutions):
    """Kills the process that measures, once."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def measure(self, architecture: Architecture, seed: int) -> Measurement:
        """Measure, after the first call has ended its process."""
        if not self.marker.exists():
            self.marker.touch()
            os._exit(9)
        return super().measure(architecture, seed)


class Staged(Interrupted):
    """Counts the stages in a checkpoint."""

    def __init__(self, calls: int = 1000) -> None:
        super().__init__(calls)

    def measure_share(
        self, architecture: Architecture, seed: int, share: float, checkpoint: Path | None = None
    ) -> Measurement:
        """Add a stage to those in the checkpoint, and to the value a hundredth of the seed."""
        assert checkpoint is not None
        stages = 1 + (int(checkpoint.read_text()) if checkpoint.exists() else 0)
        value = self.measure(architecture, seed).value + share + seed % 101 / 1000
        checkpoint.write_text(str(stages))
        return Measurement(value, {"stages": stages})
