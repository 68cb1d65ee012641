"""Tables of NAS-Bench-Macro (Su et al., CVPR 2021): CSV, and the JSON file of the benchmark.

CSV: ``arch8`` (``m`` and the eight digits), ``test_acc_run1_pct`` to ``test_acc_run3_pct``. JSON: the digits ->
``test_acc`` (a list), and more that is not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from zcpt.errors import DataError
from zcpt.space import SearchSpace
from zcpt.tabular._rows import Builder, Row, mean_and_best, read_rows
from zcpt.tabular._table import Key, Table

TITLE = "NAS-Bench-Macro"
RUNS = ("test_acc_run1_pct", "test_acc_run2_pct", "test_acc_run3_pct")


def read(path: Path, space: SearchSpace) -> Table:
    """Read either kind of file; DataError if it is missing or damaged."""
    builder = Builder(TITLE, space, path, space.train_size)
    if path.suffix == ".json":
        for text, runs in _json(path).items():
            row = Row(path, 1, {})
            values = [row.percent(str(run)) for run in runs]
            builder.add(row.parsed(space.parse, text), keyed(mean_and_best("test", values)), f"entry '{text}'")
    else:
        for row in read_rows(path, ("arch8", *RUNS)):
            architecture = row.parsed(space.parse, row.text("arch8").removeprefix("m"))
            builder.add(architecture, keyed(mean_and_best("test", runs_of(row, "test"))), f"line {row.line}")
    return builder.table()


def runs_of(row: Row, metric: str) -> list[float]:
    """The accuracies of up to three trainings, from the columns of a CSV file; nan where there is none."""
    names = ("run1", "run2", "run3", "single_run")
    return [row.percent(row.fields.get(f"{metric}_acc_{name}_pct", "")) for name in names]


def keyed(metrics: Mapping[str, float]) -> dict[Key, float]:
    """Metrics on CIFAR-10, the only data set of this and some other benchmarks."""
    return {("cifar10", metric): value for metric, value in metrics.items()}


def _json(path: Path) -> dict[str, list[float]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        return {str(text): _listed(found["test_acc"]) for text, found in document.items()}
    except FileNotFoundError:
        raise DataError(f"there is no table {path}: give the file of the benchmark with --table.") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: it is no JSON ({error.msg}).") from None
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} must map digits to a mapping with a list 'test_acc': {error!r}.") from None


def _listed(runs: object) -> list[float]:
    if not isinstance(runs, list):
        raise TypeError(f"{runs!r} is no list")
    return runs
