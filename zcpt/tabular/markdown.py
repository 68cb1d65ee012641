"""Numbers and tables as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, one line a row, with a line break at its end."""
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return "\n".join(lines + [f"| {' | '.join(map(escape_cell, row))} |" for row in rows]) + "\n"


def escape_cell(text: str) -> str:
    """Return the text as a cell: NAS-Bench-201 writes architectures with bars, and names may have line breaks."""
    return " ".join(text.split()).replace("|", "\\|")


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number, or ``-`` for None and nan."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def format_interval(statistics: Mapping[str, float | None], digits: int = 2) -> str:
    """Return `` [low, high]``, or nothing where there is no interval."""
    if statistics["low"] is None or math.isnan(statistics["low"]):
        return ""
    return f" [{format_number(statistics['low'], digits)}, {format_number(statistics['high'], digits)}]"


def format_mean(statistics: Mapping[str, float | None], digits: int = 2) -> str:
    """Return a mean with its interval, such as ``94.21 [94.13, 94.29]``."""
    return format_number(statistics["mean"], digits) + format_interval(statistics, digits)
