"""Cells of the DARTS space with accuracies predicted by NAS-Bench-301's surrogate (Zela et al., ICLR 2022): CSV.

Columns: ``normal`` and ``reduce`` (``op~source`` of the eight edges, separated by semicolons, two for each node), and
``nb301_surrogate_valid_acc_pct``. These networks were not trained: the accuracies are predictions of a model, with its
noise. A cell that is listed several times gets the mean.
"""

from __future__ import annotations

import re
from pathlib import Path

from zcpt.architecture import Architecture
from zcpt.space import SearchSpace, WidthDepth
from zcpt.tabular._benchmark import TabularBenchmark
from zcpt.tabular._csv import BenchmarkBuilder, Row, read_rows

TITLE = "NAS-Bench-301 (surrogate)"
ACCURACY = "nb301_surrogate_valid_acc_pct"
SIZE = WidthDepth(32, 8)
"""Width and depth of the networks whose accuracy the surrogate predicts."""


def read(path: Path, space: SearchSpace) -> TabularBenchmark:
    """Read all cells; DataError if the file is missing or damaged."""
    listed: dict[Architecture, list[tuple[int, float]]] = {}
    for row in read_rows(path, ("normal", "reduce", ACCURACY)):
        cells = ", ".join(
            f"{kind}={_parse_edges(row, kind)}, {kind}_concat=range(2, 6)" for kind in ("normal", "reduce")
        )
        architecture = row.parse_architecture(space.parse, f"Genotype({cells})")
        listed.setdefault(architecture, []).append((row.line, row.parse_percent(row.get_text(ACCURACY))))
    builder = BenchmarkBuilder(TITLE, space, path, SIZE)
    for architecture, lines in listed.items():
        mean = sum(accuracy for _, accuracy in lines) / len(lines)
        builder.add(architecture, {("cifar10", "valid"): mean}, f"line {lines[0][0]}")
    return builder.build()


def _parse_edges(row: Row, kind: str) -> list[tuple[str, int]]:
    """Return operation and source of the eight edges of a cell."""
    edges = row.get_text(kind).split(";")
    matches = [re.fullmatch(r"(\w+)~(\d)", edge) for edge in edges]
    if len(edges) != 8 or None in matches:
        raise row.make_error(f"'{kind}' must be eight edges like sep_conv_3x3~0, separated by semicolons")
    return [(match[1], int(match[2])) for match in matches if match]
