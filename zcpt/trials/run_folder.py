"""The run folder of a multi-trial search: its configuration, its journal and its result."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from zcpt._version import __version__
from zcpt.errors import ConfigError, ZcptError
from zcpt.files import (
    describe_difference,
    parse_json,
    read_json,
    read_run_file,
    read_text,
    to_json_text,
    write_atomically,
)
from zcpt.folders import create_folder, lock_folder
from zcpt.journal import Journal
from zcpt.space import SearchSpace
from zcpt.trials.algorithm import Settings
from zcpt.trials.config import TrialsConfig, configure_trials
from zcpt.trials.result import TrialsResult

_log = logging.getLogger(__name__)
CONFIG, JOURNAL, LATENCY_TABLE = "config.json", "journal", "latency.json"
CHECKPOINTS = "checkpoints"
"""Folder of the trainings that may go on, where trials are stages."""
_KEYS = ("space", "trials", "algorithm", "value", "scores", "images", "device", "versions", "data", "fingerprint")
_SAME = ("space", "trials", "algorithm", "value", "scores", "images", "fingerprint", "architectures")
"""Entries of ``config.json`` that a resumed run must have too."""


def is_run_of_trials(folder: Path) -> bool:
    """Return whether a run folder is one of trials, not of a search or of something else."""
    path = folder / CONFIG
    if not path.is_file():
        return False
    document = parse_json(read_run_file(path), path)
    return isinstance(document, dict) and "trials" in document


def read_trials_config(folder: Path) -> dict[str, Any]:
    """Read the ``config.json`` of a run of trials.

    Raises:
        ConfigError: The file is missing, damaged, or that of another kind of run.
    """
    path = folder / CONFIG
    document = read_json(path, ())
    if "trials" not in document:
        raise ConfigError(f"{folder} is no run of 'zcpt trials': give the folder of one.")
    document = read_json(path, _KEYS)
    for name in ("trials", "algorithm", "versions", "data", "value"):
        if not isinstance(document[name], dict):
            raise ConfigError(f"{path} is damaged: its '{name}' must be a mapping.")
    unknown = [name for name in document["trials"] if name not in TrialsConfig.__dataclass_fields__]
    if unknown:
        raise ConfigError(
            f"{path} has the setting '{unknown[0]}', which zcpt {__version__} does not know: use the zcpt that wrote "
            f"it ({document['versions'].get('zcpt', 'another version')}), or correct the file."
        )
    return document


def configure_trials_from(
    folder: Path, space: SearchSpace, document: Mapping[str, Any], **changes: Any
) -> tuple[TrialsConfig, Settings]:
    """Return the settings of a run folder, with changes; an error names the file if one is wrong."""
    options = {**document["trials"], **document["algorithm"], **changes}
    if options.get("latency_table"):
        options["latency_table"] = str(folder / LATENCY_TABLE)
    try:
        return configure_trials(space, **options)
    except ZcptError as error:
        raise type(error)(f"the settings in {folder / CONFIG} cannot be used: {error}") from None


@contextmanager
def open_run_folder(path: Path, document: Mapping[str, Any], resume: bool) -> Iterator[Journal]:
    """Create a run folder, or check and lock that of the same run, and yield its journal.

    If a new run fails before its first record, its files are removed.

    Raises:
        ConfigError: The folder cannot be created, or belongs to another run.
    """
    current = json.loads(to_json_text(document))  # as it is read from a file: tuples are lists
    if resume:
        with lock_folder(path):
            before = read_trials_config(path)
            _check_same_run(path, before, current)
            if before["trials"] != current["trials"]:
                grown = {**before["trials"], "trials": current["trials"]["trials"]}
                write_atomically(path / CONFIG, to_json_text({**before, "trials": grown}))
            yield Journal(path / JOURNAL)
        return
    table = current["trials"]["latency_table"]
    files = {LATENCY_TABLE: read_text(Path(table))} if table else {}
    with create_folder(path, {**files, CONFIG: to_json_text(current)}) as folder:
        try:
            yield Journal(path / JOURNAL)
        except Exception:
            if not (folder.path / JOURNAL).exists():
                folder.withdraw()
            raise


def _check_same_run(path: Path, before: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raise ConfigError unless a run folder belongs to the same run, or to one with fewer trials; warn otherwise."""
    done, wanted = before["trials"]["trials"], current["trials"]["trials"]
    if wanted < done:
        raise ConfigError(f"the run in {path} has --trials {done} already: give {done} or more to extend it.")
    defaults = {setting.name: setting.default for setting in fields(TrialsConfig)}
    for key in _SAME:
        old, new = before.get(key), current.get(key)
        if key == "trials":  # a run of an earlier version lacks newer settings, which then have their defaults
            left_out = {"trials": 0, "latency_table": ""}
            old, new = ({**defaults, **settings, **left_out} for settings in (before[key], current[key]))
        if old != new:
            raise ConfigError(
                f"{path} belongs to another run: its {describe_difference(key, old, new)}. Start a new one with "
                "another --out."
            )
    for key in ("device", "versions"):
        if before[key] != current[key]:
            _log.warning(
                f"the run began with {key} {before[key]} and is resumed with {current[key]}: values may differ"
            )


def write_trials_result(path: Path, space: SearchSpace, result: TrialsResult) -> None:
    """Write ``architecture.json`` and ``genotype.txt``."""
    write_atomically(path / "architecture.json", to_json_text(result.architecture.to_json()))
    write_atomically(path / "genotype.txt", space.format(result.architecture) + "\n")
