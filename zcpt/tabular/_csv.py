"""Reading of CSV files; errors name the file and the line."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zcpt.architecture import Architecture
from zcpt.errors import DataError, SpaceError
from zcpt.space import SearchSpace, WidthDepth
from zcpt.tabular._benchmark import Key, TabularBenchmark


@dataclass(frozen=True)
class Row:
    """One line of a CSV file."""

    path: Path
    line: int
    fields: Mapping[str, str]

    def make_error(self, problem: str) -> DataError:
        """Return an error that names this line."""
        return DataError(f"{self.path}, line {self.line}: {problem}.")

    def get_text(self, column: str) -> str:
        """Return a field that must not be empty."""
        if not self.fields.get(column):
            raise self.make_error(f"'{column}' is empty")
        return self.fields[column]

    def parse_percent(self, text: str) -> float:
        """Parse an accuracy in percent; an empty text is nan."""
        if not text:
            return math.nan
        try:
            return check_percent(float(text))
        except ValueError:
            raise self.make_error(f"'{text}' is no accuracy in percent") from None

    def parse_architecture(self, parse: Callable[[str], Architecture], text: str) -> Architecture:
        """Parse an architecture in the notation of its space."""
        try:
            return parse(text)
        except SpaceError as error:
            raise self.make_error(str(error).rstrip(".")) from None


def read_rows(path: Path, needed: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a CSV file, gzipped or not.

    Args:
        path: The file.
        needed: Columns that it must have.

    Raises:
        DataError: The file is missing, is no CSV with these columns, or has a line with a wrong number of fields.
    """
    # Spaces around fields are dropped: people write "arch_str, accuracy" by hand.
    reader = csv.reader(_read_lines(path), skipinitialspace=True)
    header = next(_read_fields(reader, path), [])
    for column in header:
        if header.count(column) > 1:
            raise DataError(f"{path}, line 1: there are two columns '{column}': remove one of them.")
    for column in needed:
        if column not in header:
            shown = ", ".join(header[:6]) or "nothing"
            raise DataError(
                f"{path}, line 1: there is no column '{column}', but {shown}: docs/benchmarks.md lists the columns."
            )
    for fields in _read_fields(reader, path):
        if len(fields) != len(header):
            raise DataError(f"{path}, line {reader.line_num}: it has {len(fields)} fields, the header {len(header)}.")
        yield Row(path, reader.line_num, dict(zip(header, fields, strict=True)))


def _read_fields(reader: Any, path: Path) -> Iterator[list[str]]:
    """Yield the fields of each line that is not blank."""
    try:
        yield from ([field.strip() for field in fields] for fields in reader if fields)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: it is no CSV ({error}).") from None


def check_table_path(path: Path) -> None:
    """Raise DataError if there is no file at the path of a table; for a folder, name the files in it."""
    if path.is_dir():
        names = [file.name for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
        listed = f"it has {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        raise DataError(
            f"{path} is a folder: give one file with --table; {listed if names else 'this folder has none'}."
        )
    if not path.exists():
        raise DataError(f"there is no table {path}: give the file of the benchmark with --table.")
    if not path.is_file():  # a device such as /dev/zero has no end
        raise DataError(f"{path} is a device or a pipe, no file: give the file of the benchmark with --table.")


def _read_lines(path: Path) -> Iterator[str]:
    check_table_path(path)
    try:
        # By the magic number, not by the name: files are renamed, and some tools unpack without changing the name.
        with open(path, "rb") as probe:
            zipped = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else open(path, "rb") as file:
            # Spreadsheets begin a file with a byte order mark, which -sig removes.
            yield from io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    except (EOFError, zlib.error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}.") from None


@dataclass
class BenchmarkBuilder:
    """Collects architectures and accuracies, line by line."""

    title: str
    space: SearchSpace
    path: Path
    size: WidthDepth
    _accuracies: dict[Architecture, Mapping[Key, float]] = field(default_factory=dict)
    _places: dict[Architecture, object] = field(default_factory=dict)

    def add(self, architecture: Architecture, accuracies: Mapping[Key, float], place: object) -> None:
        """Add an architecture.

        Args:
            architecture: The architecture.
            accuracies: Its accuracies in percent.
            place: Where the file lists it, for errors: ``line 7``.

        Raises:
            DataError: It was listed before, with other accuracies.
        """
        first = self._places.setdefault(architecture, place)
        # Compare as text: nan is not equal to nan, but its text is.
        if repr(self._accuracies.setdefault(architecture, accuracies)) != repr(accuracies):
            raise DataError(
                f"{self.path}, {place}: the architecture is that of {first} and has other accuracies there."
            )

    def build(self) -> TabularBenchmark:
        """Return the benchmark of all that was added.

        Raises:
            DataError: There is no architecture, none has an accuracy, or accuracies are fractions.
        """
        if not self._accuracies:
            raise DataError(f"{self.path} lists no architecture of space '{self.space.name}'.")
        keys = dict.fromkeys(key for accuracies in self._accuracies.values() for key in accuracies)
        columns = {}
        for key in keys:
            column = np.array([row.get(key, math.nan) for row in self._accuracies.values()], dtype=np.float64)
            if not np.isnan(column).all():
                columns[key] = column
        if not columns:
            raise DataError(f"{self.path} has no accuracies of {self.title}: docs/benchmarks.md lists the columns.")
        for (data_set, metric), column in columns.items():
            if np.nanmax(column) <= 1:
                raise DataError(
                    f"{self.path}: no accuracy '{metric}' of {data_set} is more than {np.nanmax(column):g} %: write "
                    "percent, not fractions."
                )
        return TabularBenchmark(self.title, self.space, self.path, self.size, tuple(self._accuracies), columns)


def check_percent(value: float) -> float:
    """Return the value; ValueError unless it is an accuracy in percent."""
    if not 0 <= value <= 100:
        raise ValueError(f"{value} is no accuracy in percent")
    return value


def summarize_trainings(metric: str, accuracies: Sequence[float]) -> dict[str, float]:
    """Return mean and best of an architecture's trainings, as ``metric`` and ``best-metric``; nan is left out."""
    listed = [accuracy for accuracy in accuracies if not math.isnan(accuracy)]
    return {metric: sum(listed) / len(listed), f"best-{metric}": max(listed)} if listed else {}
