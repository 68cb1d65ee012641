"""Tables of NAS-Bench-101 (Ying et al., ICML 2019), as far as they are in a space of NAS-Bench-1Shot1: CSV.

``adj49`` (``a`` and the 7 x 7 matrix, row by row), ``ops`` (labels of the seven vertices, divided by commas),
``test_acc_run1_pct`` to ``test_acc_run3_pct`` and ``valid_acc_run1_pct`` to ``valid_acc_run3_pct`` of 108 epochs, or
``test_acc_single_run_pct`` and ``valid_acc_single_run_pct``. A cell that is listed several times, in whichever order of
its vertices, was trained in all of these lines.
With a column ``space`` (1, 2 or 3) only the lines of that space are read; without it, those that are in the space.
"""

from __future__ import annotations

from pathlib import Path

from zcpt.architecture import Architecture
from zcpt.errors import DataError, SpaceError
from zcpt.space import SearchSpace
from zcpt.tabular._rows import Builder, Row, mean_and_best, read_rows
from zcpt.tabular._table import Table
from zcpt.tabular.nasbench_macro import keyed, runs_of

TITLE = "NAS-Bench-101"
VERTICES = 7
METRICS = ("test", "valid")


def read(path: Path, space: SearchSpace) -> Table:
    """Read the lines of one of the three spaces.

    Raises:
        DataError: The file is missing, damaged or the benchmark's tfrecord, or has no line of the space.
    """
    if path.suffix == ".tfrecord":
        raise DataError(
            f"{path} can only be read by TensorFlow: write a CSV of it with the benchmark's own API, as "
            "docs/benchmarks.md shows, and give that with --table."
        )
    listed: dict[str, list[tuple[Architecture, Row]]] = {}
    for row in read_rows(path, ("adj49", "ops")):
        if row.fields.get("space", space.name[-1]) == space.name[-1]:
            architecture = _architecture(row, space)
            if architecture is not None:
                listed.setdefault(space.isomorphism_class(architecture), []).append((architecture, row))
    builder = Builder(TITLE, space, path, space.train_size)
    for alike in listed.values():
        metrics = (mean_and_best(name, [run for _, row in alike for run in runs_of(row, name)]) for name in METRICS)
        accuracies = {name: value for found in metrics for name, value in found.items()}
        for architecture, row in alike:
            builder.add(architecture, keyed(accuracies), f"line {row.line}")
    return builder.table()


def _architecture(row: Row, space: SearchSpace) -> Architecture | None:
    bits = row.text("adj49").removeprefix("a")
    if len(bits) != VERTICES**2 or set(bits) - {"0", "1"}:
        raise row.fail(f"'adj49' must be an 'a' and {VERTICES**2} digits of 0 and 1, not '{row.fields['adj49']}'")
    matrix = [[int(bit) for bit in bits[i : i + VERTICES]] for i in range(0, len(bits), VERTICES)]
    text = f"ModelSpec(matrix={matrix}, ops={row.text('ops').split(',')})"
    try:
        return space.parse(text)
    except SpaceError as error:
        if "space" in row.fields:
            raise row.fail(str(error).rstrip(".")) from None
        return None  # a cell of NAS-Bench-101 that this part of it lacks
