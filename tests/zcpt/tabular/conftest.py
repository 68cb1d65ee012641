"""Small tables of made-up rows."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pytest

import zcpt
from tests.conftest import random_architecture

RUNS = ["test_acc_run1_pct", "test_acc_run2_pct", "test_acc_run3_pct"]


def write_csv(path: Any, columns: Any, *rows: Any) -> Any:
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def cells(count: Any) -> Any:
    """Return different cells of NAS-Bench-201 as text."""
    space = zcpt.get_space("nasbench201")
    drawn = dict.fromkeys(space.format(random_architecture(space, seed)) for seed in range(2 * count))
    return list(drawn)[:count]


@pytest.fixture
def nb201(tmp_path: Path) -> Any:
    """Write a file with thirty cells of different accuracies."""
    rows = [[cell, 60 + i % 7 + i / 100, 30 + i / 10] for i, cell in enumerate(cells(30))]
    columns = ["arch_str", "c10_test_acc_200ep_pct", "c100_test_acc_200ep_pct"]
    return write_csv(tmp_path / "nb201.csv", columns, *rows)


@pytest.fixture
def macro(tmp_path: Path) -> Any:
    """Write a file with three chains."""
    texts = ["00000000", "22222222", "11111111"]
    rows = [[f"m{text}", 80 + i, 81 + i, 85 + i] for i, text in enumerate(texts)]
    return write_csv(tmp_path / "macro.csv.gz", ["arch8", *RUNS], *rows)
