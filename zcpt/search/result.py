"""The outcome of a search, and the folder that it is written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from zcpt.architecture import Architecture
from zcpt.errors import ConfigError
from zcpt.files import describe_difference, read_json, to_json_text, write_atomically
from zcpt.options import format_flag
from zcpt.search.config import SearchConfig
from zcpt.space import SearchSpace

LATENCY = "latency.json"
"""The latency table in the folder of a search that was given one."""


@dataclass(frozen=True)
class Candidate:
    """A distinct network among the proposals: the first architecture that has it."""

    architecture: Architecture
    proposals: tuple[int, ...]
    """Which proposals came to this network."""
    scores: tuple[float, ...]
    """Proxy value on each validation batch; empty when it was the only candidate."""

    @property
    def mean(self) -> float | None:
        """Mean validation score."""
        return sum(self.scores) / len(self.scores) if self.scores else None


@dataclass(frozen=True)
class SearchResult:
    """What ``zcpt.search`` returns."""

    architecture: Architecture
    candidates: tuple[Candidate, ...]
    """All distinct networks among the proposals, in the order in which they first came up."""
    config: SearchConfig
    run_dir: Path | None
    """Where everything was written; None if nothing was."""


def check_folder(path: Path, document: dict[str, Any]) -> list[str]:
    """ConfigError unless the run folder at ``path`` is of the same search.

    Returns:
        Remarks for the log: what differs without making the search another one.
    """
    before = read_json(path / "config.json", document)
    for key in ("space", "search", "images", "fingerprint"):
        was, now = (_settings(d[key]) if key == "search" else d[key] for d in (before, document))
        if was != now:
            raise ConfigError(
                f"{path} is of another search: its {describe_difference(key, was, now)}. "
                "Start a new one with another --out."
            )
    others = other_prices(before["budgets"], document["budgets"])
    if others:
        raise ConfigError(f"{path} cannot go on: {others}. Start a new search with another --out.")
    return [
        f"the search began with {what} {before[what]} and goes on with {document[what]}: scores may differ"
        for what in ("device", "engine", "versions")
        if before[what] != document[what]
    ]


def _settings(search: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a search to compare: the folder has a latency table of its own; older ones lack new settings."""
    defaults = {setting.name: setting.default for setting in fields(SearchConfig)}
    return {**defaults, **search, "latency_table": ""}


def other_prices(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """How the prices that budgets are about differ from those that a run folder notes; empty if they do not."""
    for name in now:
        if before.get(name) != now[name]:
            what = "the latency table" if name == "max_latency" else f"what {format_flag(name)} counts"
            return f"{what} has other numbers than the one that the search began with"
    return ""


def with_own_table(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a search, with the latency table that lies in its folder where they name one."""
    return {**settings, "latency_table": str(folder / LATENCY)} if settings.get("latency_table") else settings


def write_result(path: Path, space: SearchSpace, result: SearchResult) -> None:
    """Write ``proposals.json``, ``architecture.json`` and ``genotype.txt``."""
    proposals = [_described(space, candidate, result) for candidate in result.candidates]
    write_atomically(path / "proposals.json", to_json_text(proposals))
    write_atomically(path / "architecture.json", to_json_text(result.architecture.to_json()))
    write_atomically(path / "genotype.txt", space.format(result.architecture) + "\n")


def _described(space: SearchSpace, candidate: Candidate, result: SearchResult) -> dict[str, Any]:
    return {
        "text": space.format(candidate.architecture),
        "proposals": list(candidate.proposals),
        "chosen": candidate.architecture == result.architecture,
        "mean": _finite(candidate.mean),
        "scores": [_finite(score) for score in candidate.scores],
        "architecture": candidate.architecture.to_json(),
    }


def _finite(value: float | None) -> float | str | None:
    return value if value is None or abs(value) < float("inf") else str(value)


def group(space: SearchSpace, proposals: Sequence[Architecture]) -> dict[Architecture, tuple[int, ...]]:
    """The first architecture of each distinct network, with the proposals that came to that network."""
    numbers: dict[Architecture, list[int]] = {}
    for number, architecture in enumerate(proposals):
        numbers.setdefault(space.canonicalize(architecture), []).append(number)
    return {proposals[same[0]]: tuple(same) for same in numbers.values()}
