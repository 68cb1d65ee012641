"""Table of the throughput of training, which ``benchmarks/training.py`` measures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zcpt.tabular.markdown import format_table

RESULT = Path(__file__).parent / "results" / "training.json"
LOOPS = {"zcpt": "`zcpt train`", "timm": "timm's `train.py`", "plain": "DARTS' `train.py`"}
"""Measured loops with their names in the table, in the order of its rows."""


def render_training() -> str:
    """Return the throughput of the loops, in one block of rows for each type of device and number."""
    rows = [row for name, measured in json.loads(RESULT.read_text()).items() for row in list_rows(name, measured)]
    header = ("measured on", "network, batch", "loop", "images/s", "range", "waiting for images", "`zcpt train`")
    return format_table(header, rows)


def list_rows(name: str, measured: Mapping[str, Any]) -> list[list[str]]:
    """List the rows of one measurement, by its type of device and number."""
    place = f"{measured['hardware']}, {name.split()[1]}, torch {measured['torch']}, {measured['date']}"
    network = f"DARTS, C={measured['channels']}, {measured['layers']} cells, B={measured['batch']}"
    rows: list[list[str]] = []
    for loop, title in LOOPS.items():
        result = measured["loops"][loop]
        low, high = result["range"]
        rows.append(
            [
                "" if rows else place,
                "" if rows else network,
                title,
                f"{result['images a second']:,.0f}",
                f"{low:,.0f} to {high:,.0f}",
                f"{result['share of waiting for images']:.1%}",
                f"{result['zcpt, times as fast']:.2f}x as fast" if loop != "zcpt" else "",
            ]
        )
    return rows
