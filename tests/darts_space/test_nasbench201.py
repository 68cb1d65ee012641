"""NAS-Bench-201 against published counts."""

import csv
import gzip

import pytest

import zcpt
from zcpt import SpaceError
from zcpt.space import Shape

SPACE = zcpt.get_space("nasbench201")
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def test_published_size_of_the_supernet_and_of_the_space():
    net = SPACE.supernet(channels=16, layers=5)
    assert sum(parameter.numel() for parameter in net.parameters()) == 1_686_106
    assert SPACE.count() == 15_625


def test_the_notation_is_read_and_written():
    architecture = SPACE.parse(f"  {BEST}\n")
    assert architecture["node3/edge0"] == "skip_connect"
    assert SPACE.format(architecture) == BEST


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not of the form"),
        (BEST[:-1], "is not of the form"),
        (BEST.replace("+", ""), "is not of the form"),
        (BEST.replace("nor_conv_1x1~2", "nor_conv_1x1~1"), "is not of the form"),
        (BEST + "+|none~0|", "is not of the form"),
        (BEST.replace("nor_conv_1x1", "nor_conv_1x"), "unknown operation 'nor_conv_1x': did you mean 'nor_conv_1x1'"),
    ],
)
def test_anything_else_is_refused(text, complaint):
    with pytest.raises(SpaceError, match=complaint):
        SPACE.parse(text)


@pytest.mark.data
def test_sizes_of_every_25th_cell_of_the_benchmark(real_data):
    with gzip.open(real_data / "tables" / "nb201_accuracy.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == SPACE.count() == len({SPACE.parse(row["arch_str"]) for row in rows})
    for row in rows[::25]:
        architecture = SPACE.parse(row["arch_str"])
        cost = SPACE.cost(architecture, Shape(16, 5))
        assert cost.params == int(row["c10_params_count"])
        # The benchmark counts the additions of the classifier's bias, too.
        assert cost.macs + 10 == round(float(row["c10_flops_M"]) * 1e6)


@pytest.mark.data
def test_networks_of_the_benchmark_have_the_parameters_that_the_formula_says(real_data):
    with gzip.open(real_data / "tables" / "nb201_accuracy.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))[::1500]
    for row in rows:
        network = SPACE.network(SPACE.parse(row["arch_str"]), channels=16, layers=5)
        assert sum(p.numel() for p in network.parameters()) == int(row["c10_params_count"])
