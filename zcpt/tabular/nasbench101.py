"""NAS-Bench-101 (Ying et al., ICML 2019), limited to a space of NAS-Bench-1Shot1: CSV.

Columns: ``adj49`` (``a`` and the 7x7 matrix, row by row), ``ops`` (labels of the seven vertices, separated by commas),
``test_acc_run1_pct`` to ``test_acc_run3_pct`` and ``valid_acc_run1_pct`` to ``valid_acc_run3_pct`` after 108 epochs, or
``test_acc_single_run_pct`` and ``valid_acc_single_run_pct``. A cell may be listed several times, with its vertices in
different orders: all these lines are trainings of it.

If there is a column ``space`` (1, 2 or 3), only lines of that space are read. Otherwise lines whose cell is outside the
space are skipped.
"""

from __future__ import annotations

from pathlib import Path

from zcpt.architecture import Architecture
from zcpt.errors import DataError, SpaceError
from zcpt.space import SearchSpace
from zcpt.tabular._benchmark import TabularBenchmark
from zcpt.tabular._csv import BenchmarkBuilder, Row, read_rows, summarize_trainings
from zcpt.tabular.nasbench_macro import make_cifar10_keys, parse_trainings

TITLE = "NAS-Bench-101"
VERTICES = 7
METRICS = ("test", "valid")


def read(path: Path, space: SearchSpace) -> TabularBenchmark:
    """Read the cells of one of the three spaces.

    Raises:
        DataError: The file is missing, damaged or the benchmark's tfrecord, or has no cell of the space.
    """
    if path.suffix == ".tfrecord":
        raise DataError(
            f"{path} can only be read by TensorFlow: write a CSV of it with the benchmark's own API, as "
            "docs/benchmarks.md shows, and give that with --table."
        )
    listed: dict[str, list[tuple[Architecture, Row]]] = {}
    for row in read_rows(path, ("adj49", "ops")):
        if row.fields.get("space", space.name[-1]) == space.name[-1]:
            architecture = _parse_cell(row, space)
            if architecture is not None:
                listed.setdefault(space.isomorphism_class(architecture), []).append((architecture, row))
    builder = BenchmarkBuilder(TITLE, space, path, space.train_size)
    for lines in listed.values():
        accuracies: dict[str, float] = {}
        for metric in METRICS:
            trainings = [accuracy for _, row in lines for accuracy in parse_trainings(row, metric)]
            accuracies |= summarize_trainings(metric, trainings)
        for architecture, row in lines:
            builder.add(architecture, make_cifar10_keys(accuracies), f"line {row.line}")
    return builder.build()


def _parse_cell(row: Row, space: SearchSpace) -> Architecture | None:
    """Return the cell of a line; None if it is outside the space (an error if the line has a field ``space``)."""
    bits = row.get_text("adj49").removeprefix("a")
    if len(bits) != VERTICES**2 or set(bits) - {"0", "1"}:
        raise row.make_error(f"'adj49' must be an 'a' and {VERTICES**2} digits of 0 and 1, not '{row.fields['adj49']}'")
    matrix = [[int(bit) for bit in bits[i : i + VERTICES]] for i in range(0, len(bits), VERTICES)]
    text = f"ModelSpec(matrix={matrix}, ops={row.get_text('ops').split(',')})"
    try:
        return space.parse(text)
    except SpaceError as error:
        if "space" in row.fields:
            raise row.make_error(str(error).rstrip(".")) from None
        return None
