"""Latency tables."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import zcpt
from tests.conftest import tiny_network_config
from zcpt import ConfigError
from zcpt.latency import (
    NANOSECONDS_PER_MILLISECOND,
    LatencyTable,
    average_quiet_rounds,
    measure_beside_blocks,
    measure_latency,
)
from zcpt.search.budgets import Budget, BudgetChecker
from zcpt.space import NetworkConfig


def test_a_measured_table_has_every_block_of_the_space(tmp_path: Path) -> None:
    space = zcpt.get_space("nasbench201")
    shape = tiny_network_config(space)
    table = measure_latency(space, shape, torch.device("cpu"), batch_size=2, repeats=2)
    assert set(table.milliseconds) == {block.key for block in space.all_blocks(shape)}
    assert all(time > 0 for time in table.milliseconds.values())
    assert table.about["batch_size"] == 2
    assert table.about["shape"]["channels"] == 4
    table.write(tmp_path / "device.json")
    read = LatencyTable.read(tmp_path / "device.json")
    assert read.milliseconds == table.milliseconds
    read.check(space, shape, "device.json")


def test_the_latency_of_a_network_adds_up() -> None:
    """Five cells in each of three stages; what counts is written down here, not asked of the code."""
    space = zcpt.get_space("nasbench201")
    shape = NetworkConfig(4, 5, image_size=(8, 8))
    cell = space.parse("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|nor_conv_3x3~0|skip_connect~1|avg_pool_3x3~2|")
    times = {"nor_conv_3x3": 0.25, "nor_conv_1x1": 0.125, "avg_pool_3x3": 0.5, "skip_connect": 0.0, "none": 0.0}
    outside = {"stem": 1.0, "classifier": 2.0, "add": 0.0625}
    table = LatencyTable(
        {}, {block.key: {**times, **outside}.get(block.name, 4.0) for block in space.all_blocks(shape)}
    )
    rest = {block.name for block in space.fixed_blocks(shape)} - {*outside}
    fixed = 1.0 + 2.0 + 4.0 * sum(block.name in rest for block in space.fixed_blocks(shape))
    budget = Budget("max_latency", "ms", 1e3, table.price, NANOSECONDS_PER_MILLISECOND)
    assert BudgetChecker(space, shape, [budget]).compute_totals(cell) == (
        fixed + 15 * (3 * 0.0625 + 2 * 0.25 + 0.125 + 0.5),
    )


def test_a_network_is_measured_in_turn_with_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    space = zcpt.get_space("nasbench201")
    config = tiny_network_config(space)
    cell = space.parse("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|skip_connect~1|avg_pool_3x3~2|")
    blocks = list(space.blocks(cell, config))
    images = torch.randn(2, config.in_channels, *config.image_size)
    clock = itertools.count()
    # Each function runs between two looks at the clock, so that it takes one second.
    monkeypatch.setattr("zcpt.latency.time", SimpleNamespace(perf_counter=clock.__next__, thread_time=clock.__next__))
    found, table = measure_beside_blocks(space.build_network(cell, config).eval(), images, blocks, repeats=2)
    assert found == 1000
    assert table.milliseconds == {block.key: 1000 for block in blocks}
    assert next(clock) == 2 * (3 + 2) * (1 + len(blocks))  # three rounds to warm up


def test_rounds_that_other_programs_disturb_are_left_out() -> None:
    quiet = [[1.0, 2.0], [3.0, 2.0]]
    times = torch.tensor([[90.0, 1.0], quiet[0], [1.0, 50.0], quiet[1]], dtype=torch.float64)
    assert average_quiet_rounds(times).tolist() == [2.0, 2.0]


def test_a_table_without_additions_is_that_of_an_old_version(tmp_path: Path) -> None:
    space = zcpt.get_space("darts")
    config = tiny_network_config(space)
    times = {block.key: 1.0 for block in space.all_blocks(config)}
    joins = {block.key for block in space.all_blocks(config) if block.inputs > 1}
    assert {key.split()[0] for key in joins} == {"add", "concat4"}
    old = LatencyTable({}, {key: time for key, time in times.items() if key not in joins})
    old.check(space, config, "old.json")
    assert {old.price(block) for block in space.all_blocks(config) if block.inputs > 1} == {0}
    del times[min(joins)]
    with pytest.raises(ConfigError, match=f"new.json lacks '{min(joins)}'"):
        LatencyTable({}, times).check(space, config, "new.json")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "is missing: 'zcpt latency --out FILE' measures one"),
        ("{", "is not a complete JSON document"),
        ('{"about": ' + 9999 * "[", "nested too deeply"),
        (f'{{"about": {5000 * "1"}}}', "integer of thousands of digits"),
        ("[]", "has no 'about'"),
        *(
            (f'{{"about": {{}}, "milliseconds": {{"a": {value}}}}}', r"numbers from 0 to 1e\+12")
            for value in ("-1", '"1"', "Infinity", "-Infinity", "NaN", "1e999", "true", "null", "1e12", "1" + 400 * "0")
        ),
    ],
)
def test_what_is_no_table_is_refused(text: str, complaint: Any, tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        LatencyTable.read(path)
