"""The list of tables and figures: every command, setting, source and path is valid."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from train.recipe import list_recipes
from zcpt.cli._options import get_given_options
from zcpt.cli._parser import parse
from zcpt.proxies import get_criterion
from zcpt.search import SearchConfig, configure
from zcpt.space_registry import get_space
from zcpt.tabular import published
from zcpt.tabular.papers import ENTRIES, PAPERS
from zcpt.tabular.proxies import ProxyOptions
from zcpt.tabular.reproduction import IMAGES, TABLES, Measurement, Scale
from zcpt.trials import configure_trials

MEASUREMENTS = {m.name: m for entry in ENTRIES.values() for m in entry.measurements}


@cache
def read_words(measurement: Measurement, scale: Scale) -> Any:
    images = ["--dataset", measurement.data_set, *IMAGES[measurement.data_set][1]]
    return parse(measurement.build_words(Path("out"), Path("table.csv"), images, scale, "cpu"))


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_the_commands_are_read_and_their_settings_are_valid(name: str) -> None:
    measurement = MEASUREMENTS[name]
    space = get_space(measurement.space)
    assert measurement.space in TABLES
    scales: list[Scale] = ["full"] if measurement.small is None else ["small", "full"]
    for scale in scales:
        args = read_words(measurement, scale)
        assert args.command == f"benchmark {measurement.kind}"
        if measurement.kind == "proxies":
            ProxyOptions(**get_given_options(args, ProxyOptions))
        elif measurement.kind == "search":
            configure(space, args.preset, **get_given_options(args, SearchConfig, skip=["seed"]))
        for proxy in getattr(args, "proxies", None) or []:
            recipe = proxy.removeprefix("train:")
            assert get_criterion(proxy) if recipe == proxy else recipe in list_recipes()
    assert bool(measurement.scaled) == (measurement.small is not None)
    assert (measurement.kind == "trials") == bool(measurement.variants)
    for settings in yaml.safe_load(measurement.variants or "{}").values():
        configure_trials(space, **settings)


def test_measurements_of_one_name_are_the_same() -> None:
    for entry in ENTRIES.values():
        assert all(MEASUREMENTS[m.name] == m for m in entry.measurements)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_has_published_numbers_with_sources_of_its_measurements(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.paper in PAPERS
    assert entry.numbers
    measured = [m.name for m in entry.measurements]
    assert {number.measurement for number in entry.numbers} == set(measured) - {m.scores for m in entry.measurements}
    assert len({(number.row, number.column) for number in entry.numbers}) == len(entry.numbers)
    for number in entry.numbers:
        assert number.source in published.SOURCES
        assert float(number.value.split(" ± ")[0]) is not None
    for measurement in entry.measurements:
        if measurement.scores:
            assert measured.index(measurement.scores) < measured.index(measurement.name)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_numbers_name_methods_that_are_measured(name: str) -> None:
    for number in ENTRIES[name].numbers:
        measurement = MEASUREMENTS[number.measurement]
        if measurement.kind == "trials":
            assert number.row in yaml.safe_load(measurement.variants)
        elif measurement.kind == "proxies":
            assert number.row in read_words(measurement, "full").proxies
        elif measurement.kind == "operations":
            method = number.path.split("/")[1].split(" ")
            assert method[0] in ("best-acc", "avg-acc") or method[0].replace("-", "_") in measurement.flags
            assert all(proxy in measurement.flags for proxy in method[1:])


def test_the_page_lists_every_table_and_figure() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reproduce.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith(("| `zc", "| `tcet"))]
    assert [row[0].strip("| `") for row in rows] == list(ENTRIES)
    for (_, paper, title, scales, smaller), entry in zip(rows, ENTRIES.values(), strict=True):
        assert (paper, title, scales) == (entry.paper, entry.title, ", ".join(entry.scales))
        assert smaller.rstrip(" |") == ("; ".join(dict.fromkeys(m.scaled for m in entry.measurements)) or "-")
