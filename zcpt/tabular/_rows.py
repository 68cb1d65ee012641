"""Reading tables so that a mistake in them is said with its file and line."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zcpt.architecture import Architecture
from zcpt.errors import DataError, SpaceError
from zcpt.space import SearchSpace, WidthDepth
from zcpt.tabular._table import Key, Table

Value = TypeVar("Value")


@dataclass(frozen=True)
class Row:
    """One line of a CSV file."""

    path: Path
    line: int
    fields: Mapping[str, str]

    def fail(self, what: str) -> DataError:
        """The error of this line."""
        return DataError(f"{self.path}, line {self.line}: {what}.")

    def text(self, column: str) -> str:
        """A field that must not be empty."""
        if not self.fields.get(column):
            raise self.fail(f"'{column}' is empty")
        return self.fields[column]

    def percent(self, text: str) -> float:
        """Read an accuracy; nan where it is empty."""
        if not text:
            return math.nan
        try:
            return checked_percent(float(text))
        except ValueError:
            raise self.fail(f"'{text}' is no accuracy in percent") from None

    def parsed(self, parse: Callable[[str], Value], text: str) -> Value:
        """What a space's own notation stands for."""
        try:
            return parse(text)
        except SpaceError as error:
            raise self.fail(str(error).rstrip(".")) from None


def read_rows(path: Path, needed: Sequence[str]) -> Iterator[Row]:
    """The lines of a CSV file, gzipped or not.

    Raises:
        DataError: It is missing, is no CSV with these columns, or a line has more or fewer fields than the header.
    """
    reader = csv.reader(_lines(path))
    header = next(_split(reader, path), [])
    for column in header:
        if header.count(column) > 1:
            raise DataError(f"{path}, line 1: there are two columns '{column}': take one of them out.")
    for column in needed:
        if column not in header:
            shown = ", ".join(header[:6]) or "nothing"
            raise DataError(f"{path}, line 1: there is no column '{column}', but {shown}: docs/benchmarks.md has all.")
    for fields in _split(reader, path):
        if len(fields) != len(header):
            raise DataError(f"{path}, line {reader.line_num}: it has {len(fields)} fields, the header {len(header)}.")
        yield Row(path, reader.line_num, dict(zip(header, fields, strict=True)))


def _split(reader: Any, path: Path) -> Iterator[list[str]]:
    """The lines that are not blank, as fields."""
    try:
        yield from (fields for fields in reader if fields)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: it is no CSV ({error}).") from None


def _lines(path: Path) -> Iterator[str]:
    try:
        with open(path, "rb") as probe:
            zipped = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else open(path, "rb") as file:
            # Spreadsheets begin a file with a mark of its encoding, which -sig takes off.
            yield from io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        raise DataError(f"there is no table {path}: give the file of the benchmark with --table.") from None
    except (EOFError, zlib.error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}.") from None


@dataclass
class Builder:
    """Collects what lines say into a table."""

    title: str
    space: SearchSpace
    path: Path
    size: WidthDepth
    _accuracies: dict[Architecture, Mapping[Key, float]] = field(default_factory=dict)
    _places: dict[Architecture, object] = field(default_factory=dict)

    def add(self, architecture: Architecture, accuracies: Mapping[Key, float], place: object) -> None:
        """Add an architecture; DataError where it has other accuracies elsewhere. ``place`` says where it is listed."""
        first = self._places.setdefault(architecture, place)
        # Compared as text, in which nan equals nan.
        if repr(self._accuracies.setdefault(architecture, accuracies)) != repr(accuracies):
            raise DataError(
                f"{self.path}, {place}: the architecture is that of {first} and has other accuracies there."
            )

    def table(self) -> Table:
        """All of it; DataError if there is no architecture, or none has an accuracy."""
        if not self._accuracies:
            raise DataError(f"{self.path} lists no architecture of space '{self.space.name}'.")
        keys = dict.fromkeys(key for found in self._accuracies.values() for key in found)
        columns = {key: _column(found.get(key, math.nan) for found in self._accuracies.values()) for key in keys}
        known = {key: column for key, column in columns.items() if not np.isnan(column).all()}
        if not known:
            raise DataError(f"{self.path} has no accuracies of {self.title}: docs/benchmarks.md lists the columns.")
        for (data_set, metric), column in known.items():
            if np.nanmax(column) <= 1:
                raise DataError(
                    f"{self.path}: no accuracy '{metric}' of {data_set} is more than {np.nanmax(column):g} %: write "
                    "percent, not fractions."
                )
        return Table(self.title, self.space, self.path, self.size, tuple(self._accuracies), known)


def _column(values: Iterable[float]) -> NDArray[np.float64]:
    return np.array(list(values), dtype=np.float64)


def checked_percent(value: float) -> float:
    """The value; ValueError where it is no accuracy in percent."""
    if not 0 <= value <= 100:
        raise ValueError(f"{value} is no accuracy in percent")
    return value


def mean_and_best(metric: str, runs: Sequence[float]) -> dict[str, float]:
    """Mean and best of the trainings of one architecture that are known, as two metrics."""
    known = [run for run in runs if not math.isnan(run)]
    return {metric: sum(known) / len(known), f"best-{metric}": max(known)} if known else {}
