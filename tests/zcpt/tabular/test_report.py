"""Published figures, and pages that cannot be written."""

import json
import math
from pathlib import Path

import pytest

import zcpt
from zcpt.tabular.pictures import bars, scatter
from zcpt.tabular.published import (
    AGREEMENTS,
    CORRELATIONS,
    SEARCHES,
    SOURCES,
    GroundTruth,
    find_agreements,
    find_correlations,
)
from zcpt.tabular.report import write_page


def test_published_figures_are_found_however_names_are_written():
    for name in ("jacob_cov", "jacob-cov"):
        found = find_correlations(GroundTruth("nasbench201", "cifar100", "test"), name)
        assert [(fact.spearman, fact.source) for fact in found] == [(0.82, "VKDNW"), (0.704, "ZCN")]
    assert find_correlations(GroundTruth("nasbench201", "cifar10", "test"), "nothing") == []
    found = find_agreements(GroundTruth("nasbench201", "cifar10", "best-test"), "zc-pt naswot")
    assert [(figure.best_acc, figure.seeds) for figure in found] == [(0.77, 1), (0.758, 4)]
    for judged in (
        ("darts", "cifar10", "valid"),
        ("nasbench201", "cifar100", "test"),
        ("nasbench201", "cifar10", "valid"),
    ):
        assert find_agreements(GroundTruth(*judged), "zc-pt naswot") == []


def test_published_figures_are_correlations_of_known_spaces():
    for fact in CORRELATIONS:
        assert all(figure is None or -1 <= figure <= 1 for figure in (fact.spearman, fact.kendall))
    for fact in [*CORRELATIONS, *AGREEMENTS, *SEARCHES]:
        assert fact.space in zcpt.list_spaces()


def test_pictures_leave_out_what_is_not_finite_and_spread_what_spans_powers_of_ten():
    figure = scatter([1.0, 2.0, 3.0], {"a": [1.0, math.inf, 3.0], "b": [1e-3, 1.0, 1e30], "c": [math.nan] * 3})
    assert [len(axis.collections[0].get_offsets()) for axis in figure.axes] == [2, 3, 0]
    assert [axis.get_xscale() for axis in figure.axes] == ["linear", "log", "linear"]
    value = {"value": 0.5, "low": 0.4, "high": 0.6}
    none = dict.fromkeys(value)
    (axis,) = bars({"x": {"spearman": none, "kendall": none}, "y": {"spearman": value, "kendall": value}}).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["y", "x"]


def test_a_result_of_another_kind_is_refused(tmp_path):
    document = {"protocol": {"benchmark": "horses", "space": "darts", "table": {}}, "results": {}}
    (tmp_path / "result.json").write_text(json.dumps(document))
    with pytest.raises(zcpt.ConfigError, match="there is no benchmark 'horses'"):
        write_page([tmp_path], tmp_path / "page.md")
    with pytest.raises(zcpt.ConfigError, match=r"result\.json is missing"):
        write_page([tmp_path / "a"], tmp_path / "page.md")


def _searched(
    folder: Path, proxy: str, accuracies: list[float], data_set: str = "cifar10", content: str = "a", **settings: int
) -> Path:
    mean = sum(accuracies) / len(accuracies)
    searches = [
        {"seed": seed, "architecture": "a|b", "accuracy": accuracy, "rank": 1, "seconds": 2.0}
        for seed, accuracy in enumerate(accuracies)
    ]
    protocol = {
        "benchmark": "search",
        "space": "nasbench201",
        "table": {
            "title": "NAS-Bench-201",
            "data_set": data_set,
            "metric": "test",
            "best": 94.37,
            "mean": 87.06,
            "architectures": 15625,
            "content": content,
        },
        "search": {
            "proxy": proxy,
            "validation_proxy": "",
            "order": "random",
            "proposals": 1,
            "validation_batches": 10,
            "batch_size": 64,
            "validation_batch_size": 128,
            **settings,
        },
        "images": {"dataset": "digits"},
        "hardware": {"name": "a machine", "device": "cpu", "workers": 1, "cores": 2},
        "versions": {"zcpt": "0.1.0", "torch": "2.11.0"},
    }
    results = {
        "accuracy": {"mean": mean, "low": None, "high": None},
        "not_in_table": 0,
        "proposals": mean,
        "seconds": 2.0,
    }
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({"protocol": protocol, "searches": searches, "results": results}))
    return folder


def test_searches_that_are_judged_alike_share_a_table_with_the_best_first(tmp_path):
    folders = [
        _searched(tmp_path / "a", "synflow", [90.0, 91.0]),
        _searched(tmp_path / "b", "naswot", [94.0, 93.0]),
        _searched(tmp_path / "c", "naswot", [70.0], "cifar100"),
    ]
    text = write_page(folders, tmp_path / "page.md").read_text()
    assert text.count("## Searches on NAS-Bench-201, cifar10\n") == 1
    assert text.count("## Searches on NAS-Bench-201, cifar100\n") == 1
    naswot, synflow = text.index("| naswot | random | 1 | - | 93.50 | 94.00, 93.00 |"), text.index("| synflow |")
    assert naswot < synflow < text.index("cifar100\n")
    assert "| 0 | `a\\|b` | 70.00 | 1 | 2 |" in text
    assert text.count("Batches of 64 and 128 from digits.") == 2


def test_what_differs_among_searches_has_a_column_and_other_tables_a_page(tmp_path):
    folders = [
        _searched(tmp_path / "a", "naswot", [90.0, 91.0], channels=16),
        _searched(tmp_path / "b", "naswot", [94.0, 93.0], channels=8),
        _searched(tmp_path / "c", "synflow", [70.0, 70.0], content="b"),
    ]
    text = write_page(folders, tmp_path / "page.md").read_text()
    assert "| mean of the proposals | seconds | channels |" in text
    assert text.index("| 2 | 8 |") < text.index("| 2 | 16 |")
    assert text.count("## Searches on NAS-Bench-201, cifar10\n") == 2


def test_sources_of_published_figures_are_named_where_they_stand(tmp_path):
    text = write_page([_searched(tmp_path / "a", "naswot", [90.0])], tmp_path / "page.md").read_text()
    assert "- ZiCo: Li et al., ICLR 2023." in text
    assert "VKDNW" not in text
    assert {fact.source for facts in (CORRELATIONS, AGREEMENTS, SEARCHES) for fact in facts} == set(SOURCES)


def test_scores_of_any_span_have_an_axis():
    spread = {
        "flow": [0.0, 1e-3, 1e20],
        "positive": [1e-9, 1.0, 1e9],
        "low": [-1e6, -0.5, 0.3],
        "even": [1.0, 2.0, 3.0],
    }
    axes = scatter([1.0, 2.0, 3.0], spread).axes
    assert [axis.get_xscale() for axis in axes] == ["symlog", "log", "symlog", "linear"]
    assert scatter([1.0], {"nothing": [float("nan")], "zero": [0.0]}).axes[0].get_xscale() == "linear"
