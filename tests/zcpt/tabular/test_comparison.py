"""Tables of methods and data sets from the results of several folders."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import zcpt
from tests.zcpt.tabular.test_report import write_result
from zcpt.cli import main
from zcpt.errors import StorageError
from zcpt.tabular.comparison import compare_results, write_comparison


def write_proxies(folder: Path, data_set: str, values: dict[str, float | None], space: str = "nasbench201") -> Path:
    table = {"data_set": data_set, "metric": "test", "content": "a"}
    statistics = {name: {"value": value, "low": value, "high": value} for name, value in values.items()}
    results = {
        name: {"spearman": value, "kendall": value, "best_found": 0.5, "argmax_accuracy": 93.126, "networks": 7}
        for name, value in statistics.items()
    }
    folder.mkdir()
    document = {"protocol": {"benchmark": "proxies", "space": space, "table": table}, "results": results}
    (folder / "result.json").write_text(json.dumps(document))
    return folder


def write_operations(folder: Path, values: dict[str, float]) -> Path:
    table = {"data_set": "cifar10", "metric": "test", "content": "a"}
    agreements = {
        name: {"spearman": {"mean": value, "sd": 0.1, "low": value - 0.2, "high": value + 0.2}, "by_seed": [value] * 4}
        for name, value in values.items()
    }
    results = {name: {"agreement": {"best-acc": row, "avg-acc": row}} for name, row in agreements.items()}
    folder.mkdir()
    document = {"protocol": {"benchmark": "operations", "space": "nasbench201", "table": table}, "results": results}
    (folder / "result.json").write_text(json.dumps(document))
    return folder


def test_proxies_are_sorted_and_the_best_of_each_data_set_is_bold(tmp_path: Path) -> None:
    folders = [
        write_proxies(tmp_path / "a", "cifar10", {"naswot": 0.7, "jacob_cov": 0.8, "ntk": None}),
        write_proxies(tmp_path / "b", "cifar100", {"naswot": 0.75, "jacob_cov": 0.75}),
    ]
    assert write_comparison(folders, tmp_path / "t.md").read_text() == (
        "| method (spearman) | cifar10 | cifar100 |\n"
        "|---|---|---|\n"
        "| jacob_cov | **0.800** [0.800, 0.800] | **0.750** [0.750, 0.750] |\n"
        "| naswot | 0.700 [0.700, 0.700] | **0.750** [0.750, 0.750] |\n"
        "| ntk | - |  |\n"
    )
    text = write_comparison(folders, tmp_path / "t.tex", "argmax_accuracy").read_text()
    assert r"method (argmax\_accuracy) & cifar10 & cifar100 \\" in text
    assert r"jacob\_cov & \textbf{93.13} & \textbf{93.13} \\" in text
    assert text.startswith(r"\begin{tabular}{lcc}")
    with open(write_comparison(folders, tmp_path / "t.csv")) as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["data set"], row["mean"], row["sd"]) for row in rows] == [
        ("jacob_cov", "cifar10", "0.8", ""),
        ("jacob_cov", "cifar100", "0.75", ""),
        ("naswot", "cifar10", "0.7", ""),
        ("naswot", "cifar100", "0.75", ""),
        ("ntk", "cifar10", "", ""),
    ]


def test_searches_are_named_by_the_settings_that_differ(tmp_path: Path) -> None:
    folders = [
        write_result(tmp_path / "a", "synflow", [90.0, 91.0]),
        write_result(tmp_path / "b", "naswot", [94.0, 93.0]),
        write_result(tmp_path / "c", "naswot", [92.0, 92.0], validation_batches=100),
    ]
    comparison = compare_results(folders)
    assert comparison.methods == (
        "naswot, validation_batches=10",
        "naswot, validation_batches=100",
        "synflow, validation_batches=10",
    )
    assert comparison.cells[comparison.methods[0], "cifar10"].mean == 93.5


def test_columns_name_what_else_differs_and_references_are_no_methods(tmp_path: Path) -> None:
    folders = [write_proxies(tmp_path / str(i), "cifar10", {"a": 0.1}, space) for i, space in enumerate("xy")]
    assert compare_results(folders).data_sets == ("cifar10, space=x", "cifar10, space=y")
    comparison = compare_results([write_operations(tmp_path / "o", {"zc-pt": 0.5, "best-acc": 1.0, "avg-acc": 0.9})])
    assert comparison.methods == ("zc-pt",)
    assert comparison.cells["zc-pt", "cifar10"] == (4, 0.5, 0.1, 0.3, 0.7)


@pytest.mark.parametrize(
    ("names", "out", "measure", "words"),
    [
        ("ac", "t.md", "", "results of one kind, not of proxies and search"),
        ("ab", "t.md", "", "both have 'naswot' on cifar10: leave one of them out"),
        ("a", "t.md", "spearmann", "did you mean 'spearman'"),
        ("c", "t.md", "spearman", "choose from accuracy"),
        ("a", "t.pdf", "", "must end in .md, .tex, .csv"),
        ("a", "no/folder/t.md", "", "cannot be written"),
        ("d", "t.md", "", "is missing"),
        ("e", "t.md", "", "there is no benchmark 'horses'"),
    ],
)
def test_what_no_table_can_show_is_refused(
    names: str, out: str, measure: str, words: str, tmp_path: Path, capsys: Any
) -> None:
    for name in "ab":
        write_proxies(tmp_path / name, "cifar10", {"naswot": 0.7})
    write_result(tmp_path / "c", "naswot", [94.0, 93.0])
    write_proxies(tmp_path / "e", "cifar10", {})
    document = (tmp_path / "e" / "result.json").read_text().replace("proxies", "horses")
    (tmp_path / "e" / "result.json").write_text(document)
    folders = [str(tmp_path / name) for name in names]
    words_of_command = ["benchmark", "table", *folders, "--out", str(tmp_path / out), "--measure", measure]
    assert main(words_of_command) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / out).exists()
    with pytest.raises((zcpt.ConfigError, StorageError)):
        write_comparison([tmp_path / name for name in names], tmp_path / out, measure)
