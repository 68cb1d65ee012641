"""The folder of a measurement: what was asked for, what is done, and the result."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from zcpt.devices import get_device_name
from zcpt.errors import ConfigError
from zcpt.files import create_folder, describe_difference, lock_folder, read_json, to_json_text, write_atomically
from zcpt.journal import Journal
from zcpt.versions import get_versions

_log = logging.getLogger(__name__)
CONFIG, RESULT, PAGE = "config.json", "result.json", "report.md"
_SURROUNDINGS = ("versions", "hardware")
"""What may differ when a measurement goes on."""


def surroundings(device: torch.device, workers: int = 1) -> dict[str, Any]:
    """What a result notes of the software and the machine that it was made with."""
    hardware = {"device": str(device), "name": get_device_name(device), "cores": os.cpu_count(), "workers": workers}
    return {"versions": get_versions(), "hardware": hardware}


@contextmanager
def opened(folder: Path, document: dict[str, Any]) -> Iterator[Journal]:
    """The journal in a folder that is made, or gone on with where it is of the same measurement.

    Raises:
        ConfigError: It is of another one, or holds something else, or another process works there.
    """
    document = json.loads(to_json_text(document))
    if (folder / CONFIG).exists():
        before = read_json(folder / CONFIG, ["benchmark"])
        if before["benchmark"] != document["benchmark"]:
            raise ConfigError(f"{folder} is of 'zcpt benchmark {before['benchmark']}'. Give another --out.")
        before = read_json(folder / CONFIG, document)
        for key, value in document.items():
            if before[key] != value:
                what = describe_difference(key, before[key], value)
                if key not in _SURROUNDINGS:
                    raise ConfigError(f"{folder} is of another measurement: its {what}. Give another --out.")
                _log.warning(f"the measurement in {folder} began elsewhere: its {what}")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is no folder of a measurement: give another one with --out.")
    else:
        create_folder(folder, {CONFIG: to_json_text(document)})
    with lock_folder(folder):
        yield Journal(folder / "journal")


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result; numbers that are not finite are null."""
    write_atomically(path, to_json_text(_plain(result)))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
