"""NAS-Bench-Macro (Su et al., CVPR 2021): CSV, and the JSON file of the benchmark.

Columns of the CSV: ``arch8`` (``m`` and the eight digits), ``test_acc_run1_pct`` to ``test_acc_run3_pct``. The JSON
maps the digits to a mapping, of which the list ``test_acc`` is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zcpt.errors import DataError
from zcpt.files import parse_json
from zcpt.space import SearchSpace
from zcpt.tabular._benchmark import Key, TabularBenchmark
from zcpt.tabular._csv import BenchmarkBuilder, Row, check_table_path, read_rows, summarize_trainings

TITLE = "NAS-Bench-Macro"
RUNS = ("test_acc_run1_pct", "test_acc_run2_pct", "test_acc_run3_pct")


def read(path: Path, space: SearchSpace) -> TabularBenchmark:
    """Read a CSV or JSON file; DataError if it is missing or damaged."""
    builder = BenchmarkBuilder(TITLE, space, path, space.train_size)
    if path.suffix == ".json":
        for text, runs in _read_json(path).items():
            row = Row(path, 1, {})
            values = [row.parse_percent(str(run)) for run in runs]
            builder.add(
                row.parse_architecture(space.parse, text),
                make_cifar10_keys(summarize_trainings("test", values)),
                f"entry '{text}'",
            )
    else:
        for row in read_rows(path, ("arch8", *RUNS)):
            architecture = row.parse_architecture(space.parse, row.get_text("arch8").removeprefix("m"))
            builder.add(
                architecture,
                make_cifar10_keys(summarize_trainings("test", parse_trainings(row, "test"))),
                f"line {row.line}",
            )
    return builder.build()


def parse_trainings(row: Row, metric: str) -> list[float]:
    """Return the accuracies of the trainings in a line, up to three or a single one; nan where a field is missing."""
    names = ("run1", "run2", "run3", "single_run")
    return [row.parse_percent(row.fields.get(f"{metric}_acc_{name}_pct", "")) for name in names]


def make_cifar10_keys(metrics: Mapping[str, float]) -> dict[Key, float]:
    """Return metrics with the data set in their keys: CIFAR-10, the only one of this and of some other benchmarks."""
    return {("cifar10", metric): value for metric, value in metrics.items()}


def _read_json(path: Path) -> dict[str, list[float]]:
    """Return the test accuracies of each architecture, by its digits."""
    check_table_path(path)
    try:
        document = parse_json(path.read_bytes(), path, error=DataError)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        return {str(text): _check_list(entry["test_acc"]) for text, entry in document.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path} must map digits to a mapping with a list 'test_acc': {error!r}.") from None


def _check_list(runs: object) -> list[float]:
    if not isinstance(runs, list):
        raise TypeError(f"{str(runs)[:80]!r} is no list")
    return runs
