"""Cells of the DARTS space with the accuracies that NAS-Bench-301's surrogate predicts (Zela et al., ICLR 2022): CSV.

``normal``, ``reduce`` (``op~source`` of the eight edges, divided by semicolons; each node has two) and
``nb301_surrogate_valid_acc_pct``. Nobody trained these networks: the accuracies are a model's, and its noise is in
them. Cells that are listed several times get the mean.
"""

from __future__ import annotations

import re
from pathlib import Path

from zcpt.architecture import Architecture
from zcpt.space import SearchSpace, WidthDepth
from zcpt.tabular._rows import Builder, Row, read_rows
from zcpt.tabular._table import Table

TITLE = "NAS-Bench-301 (surrogate)"
ACCURACY = "nb301_surrogate_valid_acc_pct"
SIZE = WidthDepth(32, 8)
"""Of the networks that the surrogate is about."""


def read(path: Path, space: SearchSpace) -> Table:
    """Read all cells; DataError if the file is missing or damaged."""
    listed: dict[Architecture, list[tuple[int, float]]] = {}
    for row in read_rows(path, ("normal", "reduce", ACCURACY)):
        cells = ", ".join(f"{kind}={_pairs(row, kind)}, {kind}_concat=range(2, 6)" for kind in ("normal", "reduce"))
        architecture = row.parsed(space.parse, f"Genotype({cells})")
        listed.setdefault(architecture, []).append((row.line, row.percent(row.text(ACCURACY))))
    builder = Builder(TITLE, space, path, SIZE)
    for architecture, found in listed.items():
        mean = sum(accuracy for _, accuracy in found) / len(found)
        builder.add(architecture, {("cifar10", "valid"): mean}, f"line {found[0][0]}")
    return builder.table()


def _pairs(row: Row, kind: str) -> list[tuple[str, int]]:
    edges = row.text(kind).split(";")
    found = [re.fullmatch(r"(\w+)~(\d)", edge) for edge in edges]
    if len(edges) != 8 or None in found:
        raise row.fail(f"'{kind}' must be eight edges such as sep_conv_3x3~0, divided by semicolons")
    return [(match[1], int(match[2])) for match in found if match]
