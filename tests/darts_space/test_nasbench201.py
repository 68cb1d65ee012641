"""NAS-Bench-201 against published counts."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import zcpt
from zcpt import SpaceError
from zcpt.space import NetworkConfig

SPACE = zcpt.get_space("nasbench201")
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def test_published_size_of_the_supernet_and_of_the_space() -> None:
    net = SPACE.supernet(channels=16, layers=5)
    assert sum(parameter.numel() for parameter in net.parameters()) == 1_686_106
    assert SPACE.count() == 15_625


def test_published_size_of_the_best_cell() -> None:
    cost = SPACE.cost(SPACE.parse(BEST), NetworkConfig(16, 5))
    assert (cost.params, cost.macs) == (1_073_466, 153_272_960)


def test_the_notation_is_read_and_written() -> None:
    architecture = SPACE.parse(f"  {BEST}\n")
    assert architecture["node3/edge0"] == "skip_connect"
    assert SPACE.format(architecture) == BEST


def test_the_network_is_the_published_one_written_out() -> None:
    """Stem, two cells, and the residual block between them, from torch's functions alone."""
    network = SPACE.network(SPACE.parse(BEST), channels=4, layers=1).eval()
    parts = network.state_dict()

    def conv(x: Any, name: str, kernel: int, stride: int = 1, relu: bool = True) -> Any:
        x = F.conv2d(x.relu() if relu else x, parts[f"{name}.1.weight"], stride=stride, padding=kernel // 2)
        return F.batch_norm(x, parts[f"{name}.2.running_mean"], parts[f"{name}.2.running_var"])

    def cell(x: Any, name: str) -> Any:
        def edge(target: Any, source: Any, x: Any, kernel: int) -> Any:
            return conv(x, f"{name}.edges.{target}_{source}.0", kernel)

        one = edge(1, 0, x, 3)
        two = edge(2, 0, x, 3) + edge(2, 1, one, 3)
        return x + edge(3, 1, one, 3) + edge(3, 2, two, 1)

    def residual(x: Any, name: str) -> Any:
        short = F.conv2d(F.avg_pool2d(x, 2), parts[f"{name}.shortcut.1.weight"])
        return conv(conv(x, f"{name}.conv_a", 3, 2), f"{name}.conv_b", 3) + short

    def norm(x: Any, name: str) -> Any:
        return F.batch_norm(x, parts[f"{name}.running_mean"], parts[f"{name}.running_var"])

    images = torch.randn(2, 3, 8, 8)
    x = norm(F.conv2d(images, parts["stem.0.weight"], padding=1), "stem.1")
    for index, block in enumerate((cell, residual, cell, residual, cell)):
        x = block(x, f"blocks.{index}")
    x = norm(x, "head.0").relu().mean(dim=(2, 3))
    expected = F.linear(x, parts["classifier.weight"], parts["classifier.bias"])
    torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not of the form"),
        (BEST[:-1], "is not of the form"),
        (BEST.replace("+", ""), "is not of the form"),
        (BEST.replace("nor_conv_1x1~2", "nor_conv_1x1~1"), "is not of the form"),
        (BEST + "+|none~0|", "is not of the form"),
        (
            BEST.replace("nor_conv_1x1", "nor_conv_1x"),
            "unknown candidate of node3/edge2 'nor_conv_1x': did you mean 'nor_conv_1x1'",
        ),
    ],
)
def test_anything_else_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(SpaceError, match=complaint):
        SPACE.parse(text)


@pytest.mark.data
def test_sizes_of_every_25th_cell_of_the_benchmark(real_data: Path) -> None:
    with gzip.open(real_data / "tables" / "nb201_accuracy.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == SPACE.count() == len({SPACE.parse(row["arch_str"]) for row in rows})
    for row in rows[::25]:
        architecture = SPACE.parse(row["arch_str"])
        cost = SPACE.cost(architecture, NetworkConfig(16, 5))
        assert cost.params == int(row["c10_params_count"])
        # The benchmark counts the additions of the classifier's bias, too.
        assert cost.macs + 10 == round(float(row["c10_flops_M"]) * 1e6)


@pytest.mark.data
def test_networks_of_the_benchmark_have_the_parameters_that_the_formula_says(real_data: Path) -> None:
    with gzip.open(real_data / "tables" / "nb201_accuracy.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))[::1500]
    for row in rows:
        network = SPACE.network(SPACE.parse(row["arch_str"]), channels=16, layers=5)
        assert sum(p.numel() for p in network.parameters()) == int(row["c10_params_count"])
