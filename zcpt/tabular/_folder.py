"""The folder of a measurement: its settings, its journal and its result."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import torch

from zcpt.devices import get_device_name
from zcpt.errors import ConfigError
from zcpt.files import describe_difference, read_json, to_json_text, write_atomically
from zcpt.folders import create_folder, lock_folder
from zcpt.journal import Journal
from zcpt.search import upgrade_settings
from zcpt.versions import get_versions
from zcpt.workers import Pool

_log = logging.getLogger(__name__)
CONFIG, RESULT, PAGE = "config.json", "result.json", "report.md"
_MAY_DIFFER = ("versions", "hardware", "date")
"""Entries of the protocol that may change when a measurement is resumed."""


def describe_environment(device: torch.device, pool: Pool | None = None) -> dict[str, Any]:
    """Return the software, the hardware and the day of a measurement, as its protocol keeps them."""
    hardware = {"device": str(device), "name": get_device_name(device), "cores": os.cpu_count()}
    hardware["workers"] = 1 if pool is None else pool.size
    if pool is not None and pool.machines > 1:
        hardware["machines"] = pool.machines
    return {"versions": get_versions(), "hardware": hardware, "date": date.today().isoformat()}


@contextmanager
def open_folder(folder: Path, protocol: dict[str, Any], growing: Sequence[str] = ()) -> Iterator[Journal]:
    """Create the folder of a measurement, or resume that of the same one, and yield its journal.

    Args:
        folder: The folder.
        protocol: Settings and environment of the measurement. A resumed one sets ``date`` to its first day.
        growing: Entries of the protocol to which a resumed measurement may add: items at the end of a list, or names
            of a mapping.

    Raises:
        ConfigError: The folder belongs to another measurement, holds something else, or another process uses it.
    """
    current = json.loads(to_json_text(protocol))  # as it is read from a file: tuples are lists
    has_grown = False
    if (folder / CONFIG).exists():
        before = read_json(folder / CONFIG, ["benchmark"])
        if before["benchmark"] != current["benchmark"]:
            raise ConfigError(f"{folder} belongs to 'zcpt benchmark {before['benchmark']}'. Give another --out.")
        # Folders of earlier versions lack these.
        later: dict[str, Any] = {"date": None, "trainings": {}, "finalists": {}}
        before = {**later, **read_json(folder / CONFIG, [key for key in current if key not in later])}
        if "search" in before:
            before["search"] = upgrade_settings(before["search"])
        for key, value in current.items():
            if key in growing and _is_extension(before[key], value):
                has_grown |= before[key] != value
            elif before[key] != value and not (key == "images" and _are_same_images(before[key], value)):
                difference = describe_difference(key, before[key], value)
                if key not in _MAY_DIFFER:
                    raise ConfigError(f"{folder} belongs to another measurement: its {difference}. Give another --out.")
                if key != "date":
                    _log.warning(f"the measurement in {folder} was started in another environment: its {difference}")
        protocol["date"] = before["date"]
    else:
        taken = f"{folder} is no folder of a measurement: give another one with --out."
        with create_folder(folder, {CONFIG: to_json_text(current)}, taken):
            yield Journal(folder / "journal")
        return
    with lock_folder(folder):
        if has_grown:
            # Before the work, so that an interrupted extension is resumed as one.
            write_atomically(folder / CONFIG, to_json_text({**before, **{key: current[key] for key in growing}}))
        yield Journal(folder / "journal")


def _are_same_images(before: Any, now: Any) -> bool:
    """Return whether two descriptions are of the same images, by the hash of a mini-batch: a folder may have moved."""
    return isinstance(before, dict) and before.get("fingerprint") == now["fingerprint"]


def _is_extension(before: Any, now: Any) -> bool:
    """Return whether a value has all of an earlier one: the first items of a list, the names of a mapping."""
    if isinstance(before, list) and isinstance(now, list):
        return before == now[: len(before)]
    if isinstance(before, dict) and isinstance(now, dict):
        return all(name in now and _is_extension(value, now[name]) for name, value in before.items())
    return bool(before == now)


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON; numbers that are not finite become null."""
    write_atomically(path, to_json_text(_replace_non_finite(result)))


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    return [_replace_non_finite(item) for item in value] if isinstance(value, list | tuple) else value
