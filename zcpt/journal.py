"""The journal of a search: what was decided, on disk before the next decision."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from zcpt.errors import ConfigError

Record = dict[str, Any]


class Journal:
    """Files of one JSON object a line. A line counts once its newline is on disk.

    Numbers that JSON lacks are written as the strings "nan", "inf" and "-inf".

    Args:
        folder: Where the files lie; None keeps the journal in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._records: dict[str, list[Record]] = {}

    def records(self, name: str) -> list[Record]:
        """The lines of one file. A last line that a kill cut short is taken off the file."""
        if name not in self._records:
            self._records[name] = [] if self.folder is None else _read(self.folder / f"{name}.jsonl")
        return self._records[name]

    def append(self, name: str, record: Record) -> None:
        """Write a line and wait until it is on disk."""
        self.records(name).append(record)
        if self.folder is None:
            return
        self.folder.mkdir(exist_ok=True)
        with open(self.folder / f"{name}.jsonl", "ab") as file:
            file.write(json.dumps(_encoded(record), allow_nan=False).encode() + b"\n")
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
            record = _decoded(json.loads(line))
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            raise ConfigError(f"line {number} of {path} is damaged: start a new search with another --out.")
        records.append(record)
    return records


def _encoded(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _encoded(item) for key, item in value.items()}
    return [_encoded(item) for item in value] if isinstance(value, list | tuple) else value


def _decoded(value: Any) -> Any:
    if value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, dict):
        return {key: _decoded(item) for key, item in value.items()}
    return [_decoded(item) for item in value] if isinstance(value, list) else value
