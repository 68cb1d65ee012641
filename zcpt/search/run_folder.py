"""The run folder of a search: its configuration, its latency table, and its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from zcpt.errors import ConfigError, LostError
from zcpt.files import describe_difference, read_json, read_text, to_json_text, write_atomically
from zcpt.folders import create_folder
from zcpt.options import format_flag
from zcpt.search.config import SearchConfig, upgrade_settings
from zcpt.search.result import SearchResult, ValidatedArchitecture
from zcpt.space import SearchSpace

CONFIG = "config.json"
JOURNAL = "journal"
LATENCY_TABLE = "latency.json"
"""Copy of the latency table, so that the run folder does not depend on a file elsewhere."""
TENSORBOARD = "tensorboard"


@contextmanager
def create_run_folder(path: Path, document: dict[str, Any], config: SearchConfig) -> Iterator[None]:
    """Create a run folder with its configuration, and hold its lock.

    If the search fails before its first decision, the files are removed, which would only block the next attempt with
    this folder. Nothing else is: what a callback has written there stays, and so does a folder that was there before.

    Raises:
        ConfigError: The folder is not empty, or cannot be created.
    """
    table = {LATENCY_TABLE: read_text(Path(config.latency_table))} if config.latency_table else {}
    with create_folder(path, {**table, CONFIG: to_json_text(document)}) as folder:
        try:
            yield
        except LostError:
            raise  # the run folder stays: other processes may still write there
        except Exception:
            if not (path / JOURNAL).exists():
                folder.withdraw()
            raise


def check_run_folder(path: Path, document: dict[str, Any]) -> list[str]:
    """Raise ConfigError unless a run folder belongs to the same search.

    Args:
        path: Run folder.
        document: Content of ``config.json`` for the search that is to be resumed.

    Returns:
        Warnings: differences that do not make it another search.
    """
    before = read_json(path / CONFIG, document)
    for key in ("space", "search", "images", "fingerprint"):
        old, new = before[key], document[key]
        if key == "search":
            old, new = _normalise_settings(old), _normalise_settings(new)
        if old != new:
            raise ConfigError(
                f"{path} belongs to another search: its {describe_difference(key, old, new)}. "
                "Start a new search with another --out."
            )
    changed = describe_changed_prices(before["budgets"], document["budgets"])
    if changed:
        raise ConfigError(f"{path} cannot be resumed: {changed}. Start a new search with another --out.")
    return [
        f"the search began with {key} {before[key]} and is resumed with {document[key]}: scores may differ"
        for key in ("device", "engine", "versions")
        if before[key] != document[key]
    ]


def _normalise_settings(search: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in a form that can be compared.

    An older folder lacks newer settings, which then have their defaults; the path of the latency table may differ,
    since the folder has its own copy.
    """
    defaults = {setting.name: setting.default for setting in fields(SearchConfig)}
    return {**defaults, **upgrade_settings(search), "latency_table": ""}


def describe_changed_prices(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Describe how the prices of the budgets differ from those of a run folder; return '' if they do not.

    Both arguments are checksums as ``compute_checksums`` returns them.
    """
    for name in now:
        if before.get(name) != now[name]:
            source = "the latency table" if name == "max_latency" else f"the cost model of {format_flag(name)}"
            return f"{source} has other numbers than at the start of the search"
    return ""


def use_own_latency_table(path: Path, config: SearchConfig) -> SearchConfig:
    """Return the settings with the latency table of the run folder, if they name one."""
    return replace(config, latency_table=str(path / LATENCY_TABLE)) if config.latency_table else config


def write_result(path: Path, space: SearchSpace, result: SearchResult) -> None:
    """Write ``proposals.json``, ``architecture.json`` and ``genotype.txt``."""
    proposals = [_describe_candidate(space, candidate, result) for candidate in result.candidates]
    write_atomically(path / "proposals.json", to_json_text(proposals))
    write_atomically(path / "architecture.json", to_json_text(result.architecture.to_json()))
    write_atomically(path / "genotype.txt", space.format(result.architecture) + "\n")


def _describe_candidate(space: SearchSpace, candidate: ValidatedArchitecture, result: SearchResult) -> dict[str, Any]:
    return {
        "text": space.format(candidate.architecture),
        "proposals": list(candidate.proposals),
        "chosen": candidate.architecture == result.architecture,
        "mean": _encode_number(candidate.mean),
        "scores": [_encode_number(score) for score in candidate.scores],
        "architecture": candidate.architecture.to_json(),
    }


def _encode_number(value: float | None) -> float | str | None:
    """Return a number as JSON can hold it: NaN and infinities as text."""
    return value if value is None or abs(value) < float("inf") else str(value)
