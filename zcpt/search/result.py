"""The result of a search: the chosen architecture, and the architectures that it was chosen from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zcpt.architecture import Architecture
from zcpt.search.config import SearchConfig
from zcpt.space import SearchSpace


@dataclass(frozen=True)
class ValidatedArchitecture:
    """A distinct network among the proposals, represented by the first architecture that builds it."""

    architecture: Architecture
    proposals: tuple[int, ...]
    """Numbers of the proposals that build this network."""
    scores: tuple[float, ...]
    """Proxy value on each validation batch; empty if it was the only candidate."""

    @property
    def mean(self) -> float | None:
        """Mean validation score; None if it was the only candidate."""
        return sum(self.scores) / len(self.scores) if self.scores else None


@dataclass(frozen=True)
class SearchResult:
    """Result of ``zcpt.search``."""

    architecture: Architecture
    candidates: tuple[ValidatedArchitecture, ...]
    """All distinct networks among the proposals, in the order of the first proposal that builds each."""
    config: SearchConfig
    run_dir: Path | None
    """Run folder; None if nothing was written."""


def group_proposals(space: SearchSpace, proposals: Sequence[Architecture]) -> dict[Architecture, tuple[int, ...]]:
    """Group proposals that build the same network; return the first architecture of each group -> proposal numbers."""
    numbers: dict[Architecture, list[int]] = {}
    for number, architecture in enumerate(proposals):
        numbers.setdefault(space.canonicalize(architecture), []).append(number)
    return {proposals[same[0]]: tuple(same) for same in numbers.values()}
