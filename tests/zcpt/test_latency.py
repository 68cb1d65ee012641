"""Latency tables."""

import json

import pytest
import torch

import zcpt
from tests.conftest import random_architecture, tiny_shape
from zcpt import ConfigError
from zcpt.latency import LatencyTable, measure


def test_a_measured_table_has_every_block_of_the_space(tmp_path):
    space = zcpt.get_space("nasbench201")
    shape = tiny_shape(space)
    table = measure(space, shape, torch.device("cpu"), batch_size=2, repeats=2)
    assert set(table.milliseconds) == {block.key for block in space.all_blocks(shape)}
    assert all(time > 0 for time in table.milliseconds.values())
    assert table.about["batch_size"] == 2
    assert table.about["shape"]["channels"] == 4
    table.write(tmp_path / "device.json")
    read = LatencyTable.read(tmp_path / "device.json")
    assert read.milliseconds == table.milliseconds
    read.check(space, shape, "device.json")


def test_latency_adds_up():
    space = zcpt.get_space("nasbench201")
    shape = tiny_shape(space)
    blocks = list(space.blocks(random_architecture(space, 0), shape))
    table = LatencyTable({}, {block.key: 0.25 for block in blocks})
    assert sum(map(table.price, blocks)) == 250_000 * len(blocks)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "is missing: 'zcpt latency --out FILE' measures one"),
        ("{", "is damaged"),
        ("[]", "has no 'about'"),
        (json.dumps({"about": {}, "milliseconds": {"a": -1}}), "numbers that are not negative"),
        (json.dumps({"about": {}, "milliseconds": {"a": "1"}}), "numbers that are not negative"),
    ],
)
def test_what_is_no_table_is_refused(text, complaint, tmp_path):
    path = tmp_path / "device.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        LatencyTable.read(path)
