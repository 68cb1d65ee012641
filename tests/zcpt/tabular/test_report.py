"""Published figures, and pages that cannot be written."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zcpt
from zcpt.tabular.papers import ENTRIES
from zcpt.tabular.pictures import MAX_BYTES, draw_correlations, draw_heat_maps, draw_scatter_plots, save_picture
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


def test_published_figures_are_found_however_names_are_written() -> None:
    for name in ("jacob_cov", "jacob-cov"):
        figures = find_correlations(GroundTruth("nasbench201", "cifar100", "test"), name)
        assert [(figure.spearman, figure.source) for figure in figures] == [(0.82, "VKDNW"), (0.704, "ZCN")]
    assert find_correlations(GroundTruth("nasbench201", "cifar10", "test"), "nothing") == []
    agreements = find_agreements(GroundTruth("nasbench201", "cifar10", "best-test"), "zc-pt naswot")
    assert [(agreement.best_acc, agreement.seeds) for agreement in agreements] == [(0.77, 1), (0.758, 4)]
    for truth in (
        ("darts", "cifar10", "valid"),
        ("nasbench201", "cifar100", "test"),
        ("nasbench201", "cifar10", "valid"),
    ):
        assert find_agreements(GroundTruth(*truth), "zc-pt naswot") == []


def test_published_figures_are_correlations_of_known_spaces() -> None:
    for figure in CORRELATIONS:
        assert all(value is None or -1 <= value <= 1 for value in (figure.spearman, figure.kendall))
    spaces = {figure.space for figures in (CORRELATIONS, AGREEMENTS, SEARCHES) for figure in figures}
    assert spaces <= set(zcpt.list_spaces())


def test_scatter_plots_spread_what_spans_powers_of_ten_and_cross_out_what_has_no_score() -> None:
    scores = {"a": [1.0, math.inf, 3.0], "b": [1e-3, 1.0, 1e30], "c": [math.nan] * 3, "d": [3.0, 2.0, 1.0]}
    figure = draw_scatter_plots([1.0, 2.0, 3.0], scores, higher_is_better={"d": False})
    points = [[np.asarray(dots.get_offsets()) for dots in axis.collections] for axis in figure.axes]
    assert [[len(dots) for dots in panel] for panel in points] == [[2, 1], [3], [0, 3], [3]]
    assert [axis.get_xscale() for axis in figure.axes] == ["linear", "log", "linear", "linear"]
    assert len({axis.get_ylim() for axis in figure.axes}) == 1
    assert [axis.get_title() for axis in figure.axes] == [
        "a\nSpearman 1.00, 1 without a score (x)",
        "b\nSpearman 1.00",
        "c\nno correlation, 3 without a score (x)",
        "d (lower is better)\nSpearman 1.00",
    ]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("score", "accuracy in %")


def test_a_scatter_plot_of_the_best_half_has_the_networks_of_the_highest_accuracies() -> None:
    accuracies = [float(i) for i in range(20)]
    (axis,) = draw_scatter_plots(accuracies, {"a": accuracies[::-1]}, best=0.5).axes
    assert np.asarray(axis.collections[0].get_offsets())[:, 1].tolist() == accuracies[10:]


def test_bars_of_correlations_are_sorted_and_long_names_have_room() -> None:
    value, none = {"value": 0.5, "low": 0.4, "high": 0.6}, dict.fromkeys(("value", "low", "high"))
    long = "log_rank:" + "+".join(["az_progressivity"] * 6)
    results = {name: {"spearman": v, "kendall": v} for name, v in (("x", none), ("y", value), (long, value))}
    figure = draw_correlations(results)
    (axis,) = figure.axes
    figure.canvas.draw()
    labels = axis.get_yticklabels()
    assert [label.get_text().replace("\n", "") for label in labels] == ["y", long, "x"]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_heat_maps_show_numbers_a_colour_bar_and_what_is_not_finite() -> None:
    values = {"a": {"e0": [1.0, 2.0, 4.5], "e1": [math.nan, 1.0, 2.0]}}
    figure = draw_heat_maps(values, {"e0": ["x", "y", "z"], "e1": ["x", "y", "z"]})
    panel, bar = figure.axes
    assert [text.get_text() for text in panel.texts] == ["-0.75", "-0.25", "+1.00", "-", "-1.00", "+1.00"]
    assert "keep" in bar.get_ylabel()
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("operation", "choice")


def test_a_result_of_another_kind_is_refused(tmp_path: Path) -> None:
    document = {"protocol": {"benchmark": "horses", "space": "darts", "table": {}}, "results": {}}
    (tmp_path / "result.json").write_text(json.dumps(document))
    with pytest.raises(zcpt.ConfigError, match="there is no benchmark 'horses'"):
        write_page([tmp_path], tmp_path / "page.md")
    with pytest.raises(zcpt.ConfigError, match=r"result\.json is missing"):
        write_page([tmp_path / "a"], tmp_path / "page.md")


def write_result(
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


def test_searches_with_the_same_ground_truth_share_a_table_with_the_best_first(tmp_path: Path) -> None:
    folders = [
        write_result(tmp_path / "a", "synflow", [90.0, 91.0]),
        write_result(tmp_path / "b", "naswot", [94.0, 93.0]),
        write_result(tmp_path / "c", "naswot", [70.0], "cifar100"),
    ]
    text = write_page(folders, tmp_path / "page.md").read_text()
    assert text.count("## Searches on NAS-Bench-201, cifar10\n") == 1
    assert text.count("## Searches on NAS-Bench-201, cifar100\n") == 1
    naswot, synflow = text.index("| naswot | random | 1 | - | 93.50 | 94.00, 93.00 |"), text.index("| synflow |")
    assert naswot < synflow < text.index("cifar100\n")
    assert "| 0 | `a\\|b` | 70.00 | 1 | 2 |" in text
    assert text.count("Batches of 64 and 128 from digits.") == 2


def test_what_differs_among_searches_has_a_column_and_other_tables_a_page(tmp_path: Path) -> None:
    folders = [
        write_result(tmp_path / "a", "naswot", [90.0, 91.0], channels=16),
        write_result(tmp_path / "b", "naswot", [94.0, 93.0], channels=8),
        write_result(tmp_path / "c", "synflow", [70.0, 70.0], content="b"),
    ]
    text = write_page(folders, tmp_path / "page.md").read_text()
    assert "| V | other settings | mean |" in text
    # Two values are equally common: the first one is not shown.
    assert text.index("| - | channels=8 | 93.50 |") < text.index("| - |  | 90.50 |")
    assert text.count("## Searches on NAS-Bench-201, cifar10\n") == 2


def test_sources_of_published_figures_are_named_where_they_stand(tmp_path: Path) -> None:
    text = write_page([write_result(tmp_path / "a", "naswot", [90.0])], tmp_path / "page.md").read_text()
    assert "- ZiCo: Li et al., ICLR 2023." in text
    assert "VKDNW" not in text
    measured = {figure.source for figures in (CORRELATIONS, AGREEMENTS, SEARCHES) for figure in figures}
    assert measured | {number.source for entry in ENTRIES.values() for number in entry.numbers} == set(SOURCES)


def test_random_search_with_one_seed_has_no_interval(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "a", "naswot", [94.0])
    result = json.loads((folder / "result.json").read_text())
    row = {"evaluations": 30, "accuracy": 93.0, "validated": 92.0, "best_drawn": 94.0, "spearman": None, "seconds": 2.0}
    result["random_search"] = [row]
    (folder / "result.json").write_text(json.dumps(result))
    text = write_page([folder], tmp_path / "page.md").read_text()
    assert "| naswot | 1 | 30 | 93.00 | 92.00 | 94.00 | - | 2 |" in text


def test_scores_of_any_span_have_an_axis() -> None:
    spread = {
        "flow": [0.0, 1e-3, 1e20],
        "positive": [1e-9, 1.0, 1e9],
        "low": [-1e6, -0.5, 0.3],
        "even": [1.0, 2.0, 3.0],
    }
    axes = draw_scatter_plots([1.0, 2.0, 3.0], spread).axes
    assert [axis.get_xscale() for axis in axes] == ["symlog", "log", "symlog", "linear"]
    assert draw_scatter_plots([1.0], {"nothing": [float("nan")], "zero": [0.0]}).axes[0].get_xscale() == "linear"


def test_a_large_picture_is_written_with_fewer_pixels(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    accuracies = list(generator.normal(size=1000))
    sizes = []
    for panels in (2, 20):
        scores = {f"proxy {panel}": list(generator.normal(size=1000)) for panel in range(panels)}
        path = tmp_path / f"{panels}.png"
        save_picture(draw_scatter_plots(accuracies, scores), path)
        assert path.stat().st_size <= MAX_BYTES
        with Image.open(path) as image:
            sizes.append(image.width / min(4, panels))
    assert sizes[1] < sizes[0], "pixels of a panel"
