"""Journals: records on disk before the work goes on, so that a killed run can be resumed."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from zcpt.errors import ConfigError, StorageError
from zcpt.files import describe_os_error, open_file, parse_json

Record = dict[str, Any]

REMEDY = "delete this line and all below it, then resume: what they held is computed again"
"""What to do about a damaged line."""
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
        # Absolute, since a callback may change the current folder.
        self.folder = None if folder is None else folder.absolute()
        self._records: dict[str, list[Record]] = {}
        self._sizes: dict[str, int] = {}

    def records(self, name: str) -> list[Record]:
        """Return the records of one file. A last line that a kill cut short is removed from the file.

        Raises:
            ConfigError: The file cannot be read, or a line is not a JSON object.
        """
        if name not in self._records:
            if self.folder is None:
                self._records[name] = []
            else:
                self._records[name], self._sizes[name] = _read(self.folder / f"{name}.jsonl")
        return self._records[name]

    def append(self, name: str, record: Record) -> None:
        """Append a record to a file, and wait until it is on disk.

        Raises:
            StorageError: The record cannot be written, or another program has changed or deleted the file.
        """
        records = self.records(name)
        if self.folder is not None:
            line = json.dumps(_encode(record), allow_nan=False).encode() + b"\n"
            self._write(self.folder / f"{name}.jsonl", line, self._sizes[name])
            self._sizes[name] += len(line)
        records.append(record)

    def describe_line(self, name: str, number: int) -> str:
        """Return the place of a record, from 1, for messages: 'line 3 of runs/a/journal/proposal_000.jsonl'."""
        return f"line {number} of {name if self.folder is None else self.folder / f'{name}.jsonl'}"

    @staticmethod
    def _write(path: Path, line: bytes, size: int) -> None:
        """Append a line to a file that is to have ``size`` bytes before."""
        try:
            if size == 0:
                path.parent.mkdir(exist_ok=True)
            with open_file(path, os.O_WRONLY | os.O_APPEND | (os.O_CREAT if size == 0 else 0)) as file:
                # Lines of another process, or a new file in place of a deleted one, would make the journal useless.
                if os.fstat(file.fileno()).st_size != size:
                    raise StorageError(f"{path} was changed by another program while it was in use.")
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {describe_os_error(error)}.") from error


def _read(path: Path) -> tuple[list[Record], int]:
    """Return the records of a file, and the bytes that they take; a line that was cut short is removed."""
    if not os.path.lexists(path):
        return [], 0
    try:
        with open_file(path, os.O_RDONLY) as file:
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with open_file(path, os.O_RDWR) as file:
                file.truncate(len(whole))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {describe_os_error(error)}.") from error
    return [_read_line(line, number, path) for number, line in enumerate(whole.split(b"\n")[:-1], 1)], len(whole)


def _read_line(line: bytes, number: int, path: Path) -> Record:
    place = f"line {number} of {path}"
    record = _decode(parse_json(line, place, hint=REMEDY))
    if not isinstance(record, dict):
        raise ConfigError(f"{place} is damaged: it is no JSON object: {REMEDY}.")
    return record


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
