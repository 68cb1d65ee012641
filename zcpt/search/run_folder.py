"""The run folder of a search: its configuration, its latency table, and its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from zcpt._version import __version__
from zcpt.errors import ConfigError, LostError, ZcptError
from zcpt.files import (
    describe_difference,
    parse_json,
    read_json,
    read_run_file,
    read_text,
    to_json_text,
    write_atomically,
)
from zcpt.folders import create_folder
from zcpt.options import format_flag
from zcpt.printing import shorten
from zcpt.search.config import SearchConfig, configure, upgrade_settings
from zcpt.search.records import COUNT, INTEGER, MAPPING, NUMBERS, TEXT, Kind
from zcpt.search.result import Finalist, SearchResult, ValidatedArchitecture
from zcpt.space import SearchSpace

CONFIG = "config.json"
PROPOSALS = "proposals.json"
GROWING = ("proposals", "validation_batches", "finalists")
"""Settings that may be larger when a search is resumed: then it is extended."""
JOURNAL = "journal"
LATENCY_TABLE = "latency.json"
"""Copy of the latency table, so that the run folder does not depend on a file elsewhere."""


def _is_data(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(k, ""), str | None) for k in ("dataset", "directory"))


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) and COUNT.has(v.get("proposals")) for v in value)


DATA = Kind("a mapping with the names of a data set and a directory", _is_data)
_KINDS = {
    "space": TEXT,
    "search": MAPPING,
    "search.seed": INTEGER,
    "search.proposals": COUNT,
    "search.validation_batches": COUNT,
    "images": MAPPING,
    "images.size": Kind("a list of height and width", lambda value: NUMBERS.has(value) and len(value) == 2),
    "images.channels": COUNT,
    "images.classes": COUNT,
    "device": TEXT,
    "engine": TEXT,
    "versions": MAPPING,
    "data": DATA,
    "fingerprint": TEXT,
    "budgets": MAPPING,
}
_OPTIONAL_KINDS = {
    "sample": MAPPING,
    "finalist_value": Kind("a mapping, or null", lambda value: value is None or MAPPING.has(value)),
    "extended": Kind("a list of mappings of proposals", _is_history),
}


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
            if not (folder.path / JOURNAL).exists():
                folder.withdraw()
            raise


def read_run_data(folder: Path) -> dict[str, Any]:
    """Read which images a search used from its run folder; ConfigError if the ``config.json`` is missing or damaged."""
    data: dict[str, Any] = read_json(folder / CONFIG, ("space", "data"))["data"]
    _check_kind(folder / CONFIG, "data", DATA, data)
    return data


def _check_kind(path: Path, name: str, kind: Kind, value: Any) -> None:
    if not kind.has(value):
        raise ConfigError(f"{path} is damaged: its '{name}' must be {kind.name}, and is {shorten(repr(value))}.")


def read_run_config(folder: Path) -> dict[str, Any]:
    """Read the ``config.json`` of a search's run folder; keys that a newer version has added are left as they are.

    Raises:
        ConfigError: The file is missing or damaged, or a newer version has settings that this one does not know.
    """
    path = folder / CONFIG
    if "trials" in read_json(path, ()):
        raise ConfigError(f"{folder} is a run of trials, no search: zcpt trials --resume {folder} goes on with it.")
    document = read_json(path, _KINDS)
    for name, kind in {**_KINDS, **{name: kind for name, kind in _OPTIONAL_KINDS.items() if name in document}}.items():
        value = document
        for key in name.split("."):
            value = value[key]
        _check_kind(path, name, kind, value)
    document["search"] = upgrade_settings(document["search"])
    unknown = [name for name in document["search"] if name not in SearchConfig.__dataclass_fields__]
    if unknown:
        writer = shorten(document["versions"].get("zcpt", "another version"))
        raise ConfigError(
            f"{path} has the setting '{shorten(unknown[0])}', which zcpt {__version__} does not know: use the "
            f"zcpt that wrote it ({writer}), or correct the file."
        )
    return document


def configure_from(folder: Path, space: SearchSpace, document: Mapping[str, Any], **changes: Any) -> SearchConfig:
    """Return the settings of a run folder, with changes; ConfigError or ProxyError names the file if one is wrong."""
    try:
        return use_own_latency_table(folder, configure(space, **{**document["search"], **changes}))
    except ZcptError as error:
        raise type(error)(f"the settings in {folder / CONFIG} cannot be used: {error}") from None


@dataclass(frozen=True)
class EarlierSearch:
    """What a search that is resumed was before."""

    warnings: tuple[str, ...] = ()
    """Differences that do not make it another search."""
    proposals: tuple[int, ...] = ()
    """Numbers of proposals before each extension, the last one perhaps by this resume."""


def check_run_folder(path: Path, document: Mapping[str, Any]) -> EarlierSearch:
    """Raise ConfigError unless a run folder belongs to the same search, or to one that it extends.

    Args:
        path: Run folder.
        document: Content of ``config.json`` for the search that is to be resumed.
    """
    before = read_run_config(path)
    extended = _check_growth(path, before["search"], document["search"])
    for key in ("space", "search", "images", "fingerprint", "sample"):
        old, new = before.get(key), document[key]
        if key == "search":
            old, new = _normalise_settings({**before[key], **extended}), _normalise_settings(new)
        if old != new and not (key == "sample" and old is None):  # older folders have no sample
            images = " If its images have moved, say where with --dataset." if key in ("fingerprint", "sample") else ""
            raise ConfigError(
                f"{path} belongs to another search: its {describe_difference(key, old, new)}.{images} "
                "Start a new search with another --out."
            )
    changed = describe_changed_prices(before["budgets"], document["budgets"])
    if changed:
        raise ConfigError(f"{path} cannot be resumed: {changed}. Start a new search with another --out.")
    warnings = [
        f"the search began with {key} {before[key]} and is resumed with {document[key]}: scores may differ"
        for key in ("device", "engine", "versions")
        if before[key] != document[key]
    ]
    measured_by = before.get("finalist_value")
    if measured_by is not None and measured_by != document["finalist_value"]:
        warnings.append(
            "finalists were measured by other settings before, and are measured anew: the "
            f"{describe_difference('value', measured_by, document['finalist_value'])}"
        )
    warnings += [
        f"the search in {path} is extended from {before['search'].get(name, 0)} to {value} {name.replace('_', ' ')}"
        for name, value in extended.items()
    ]
    earlier = [size["proposals"] for size in before.get("extended", [])]
    return EarlierSearch(tuple(warnings), (*earlier, *([before["search"]["proposals"]] if extended else [])))


def _check_growth(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes of a search that are larger now; raise ConfigError if one is smaller."""
    grown = {}
    for name in GROWING:
        old, new = before.get(name, 0), now[name]  # folders of earlier versions have no finalists
        if old > new:
            raise ConfigError(
                f"the search in {path} has {format_flag(name)} {old} already: give {old} or more to extend it."
            )
        if old != new:
            grown[name] = new
    return grown


def update_run_folder(path: Path, document: Mapping[str, Any]) -> None:
    """Record in ``config.json`` that a search is extended, or that its images have moved; call it under the lock."""
    before = read_run_config(path)
    now = {**before, "data": document["data"]}
    if document["finalist_value"] is not None:
        now["finalist_value"] = document["finalist_value"]
    sizes = {name: before["search"].get(name, 0) for name in GROWING}
    if sizes != {name: document["search"][name] for name in GROWING}:
        now["search"] = {**before["search"], **{name: document["search"][name] for name in GROWING}}
        now["extended"] = [*before.get("extended", []), sizes]
    if now != before:
        write_atomically(path / CONFIG, to_json_text(now))


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


def is_finished(path: Path, document: Mapping[str, Any]) -> bool:
    """Return whether a run folder has the result of a search of the size in its ``config.json``.

    While a search is extended, the result of the smaller one is still there.
    """
    if not ((path / "architecture.json").exists() and (path / PROPOSALS).exists()):
        return False
    proposals = parse_json(read_run_file(path / PROPOSALS), path / PROPOSALS)
    try:
        numbers = [number for proposal in proposals for number in proposal["proposals"]]
        batches = {len(proposal["scores"]) for proposal in proposals}
    except (TypeError, KeyError):
        raise ConfigError(
            f"{path / PROPOSALS} is damaged: it lists no proposals: resume with --resume {path}."
        ) from None
    search = document["search"]
    if len(numbers) != search["proposals"]:
        return False
    finalists = sum("finalist" in proposal for proposal in proposals)
    wanted = min(search.get("finalists", 0), len(proposals))
    return len(proposals) == 1 or (finalists == wanted and batches == {search["validation_batches"]})


def write_result(path: Path, space: SearchSpace, result: SearchResult) -> None:
    """Write ``proposals.json``, ``architecture.json`` and ``genotype.txt``."""
    finalists = {finalist.architecture: _describe_finalist(finalist) for finalist in result.finalists}
    proposals = [
        {**_describe_candidate(space, candidate, result), **finalists.get(candidate.architecture, {})}
        for candidate in result.candidates
    ]
    write_atomically(path / PROPOSALS, to_json_text(proposals))
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


def _describe_finalist(finalist: Finalist) -> dict[str, Any]:
    failure = {"failure": finalist.failure} if finalist.failure else {}
    value = {"value": _encode_number(finalist.value), "seconds": finalist.seconds, "report": dict(finalist.report)}
    return {"finalist": {**value, **failure}}


def _encode_number(value: float | None) -> float | str | None:
    """Return a number as JSON can hold it: NaN and infinities as text."""
    return value if value is None or abs(value) < float("inf") else str(value)
