"""Journals: records on disk before the work goes on, so that a killed run can be resumed."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from zcpt.errors import ConfigError

Record = dict[str, Any]

_FLOAT = "$float"
_NON_FINITE = ("nan", "inf", "-inf")
_NUMBER_FIELDS = ("scores", "importance", "parts", "seconds", "values")
"""Fields of records that hold numbers only."""


class Journal:
    """Append-only files of records, one JSON object a line. A line counts once its newline is on disk.

    JSON has no non-finite numbers: they are written as ``{"$float": "nan"}``, ``"inf"`` or ``"-inf"``. A decision of
    stage 1, with the first candidate's score infinite:

    ``{"step": 0, "choice": "op0", "candidates": ["inf", "skip"], "scores": [{"$float": "inf"}, 1.5], ...}``

    Args:
        folder: Folder of the files; None keeps the records in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._records: dict[str, list[Record]] = {}

    def records(self, name: str) -> list[Record]:
        """Return the records of one file. A last line that a kill cut short is removed from the file.

        Raises:
            ConfigError: A line is not a JSON object.
        """
        if name not in self._records:
            self._records[name] = [] if self.folder is None else _read(self.folder / f"{name}.jsonl")
        return self._records[name]

    def append(self, name: str, record: Record) -> None:
        """Append a record to a file, and wait until it is on disk."""
        self.records(name).append(record)
        if self.folder is None:
            return
        self.folder.mkdir(exist_ok=True)
        with open(self.folder / f"{name}.jsonl", "ab") as file:
            file.write(json.dumps(_encode(record), allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _read(path: Path) -> list[Record]:
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with open(path, "r+b") as file:
            file.truncate(len(whole))
    records = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            record = _decode(json.loads(line))
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            raise ConfigError(f"line {number} of {path} is damaged: start a new search with another --out.")
        records.append(record)
    return records


def _encode(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return [_encode(item) for item in value] if isinstance(value, list | tuple) else value


def _decode(value: Any, is_number: bool = False) -> Any:
    """Undo ``_encode``.

    Earlier journals hold the bare strings "nan", "inf" and "-inf". These are read as numbers in fields of numbers only,
    because elsewhere they may be the names of candidates.
    """
    if isinstance(value, dict):
        if list(value) == [_FLOAT] and value[_FLOAT] in _NON_FINITE:
            return float(value[_FLOAT])
        return {key: _decode(item, is_number or key in _NUMBER_FIELDS) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item, is_number) for item in value]
    return float(value) if is_number and value in _NON_FINITE else value
