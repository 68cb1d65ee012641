"""NAS-Bench-Macro against published counts."""

from __future__ import annotations

import csv
import gzip
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import zcpt
from mobilenet_space.blocks import MBConv
from mobilenet_space.nasbench_macro import NasBenchMacro
from zcpt import SpaceError
from zcpt.search.propose import Proposer
from zcpt.space import NetworkConfig

SPACE = NasBenchMacro()
PUBLISHED = NetworkConfig(32, 8)


def every() -> Any:
    return (SPACE.parse("".join(digits)) for digits in product("012", repeat=8))


def test_published_number_of_architectures_and_of_distinct_networks() -> None:
    assert SPACE.count() == 6_561
    assert len({SPACE.canonicalize(architecture) for architecture in every()}) == 3_969


def test_identities_commute_behind_the_first_layer_of_a_stage() -> None:
    for text, canonical in {"22212202": "22212220", "00010002": "00010020", "01201012": "01210012"}.items():
        assert SPACE.format(SPACE.canonicalize(SPACE.parse(text))) == canonical


def test_a_search_compares_a_network_once(pictures: TensorDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["22212202", "00010000", "22212220", "22212202"]
    monkeypatch.setattr(Proposer, "propose", lambda self, number: SPACE.parse(texts[number]))
    options: dict[str, Any] = {
        "proposals": 4,
        "channels": 4,
        "num_classes": 10,
        "validation_batches": 2,
        "validation_inits": 1,
    }
    result = zcpt.search(SPACE, pictures, batch_size=6, validation_batch_size=6, **options)
    found = {SPACE.format(candidate.architecture): candidate.proposals for candidate in result.candidates}
    assert found == {"22212202": (0, 2, 3), "00010000": (1,)}


def test_published_sizes_of_the_smallest_and_the_best_network() -> None:
    for text, params, macs in (("00000000", 387_882, 7_713_280), ("22212202", 1_985_514, 85_164_544)):
        cost = SPACE.cost(SPACE.parse(text), PUBLISHED)
        assert (cost.params, cost.macs) == (params, macs)


def test_widths_follow_the_stem() -> None:
    skeleton = SPACE.skeleton(NetworkConfig(6, 8))
    assert [layer.out_channels for layer in skeleton.layers] == [12, 12, 24, 24, 24, 48, 48, 48]
    assert (skeleton.features, skeleton.last.output_size) == (240, (4, 4))


def test_activations_are_relu_and_every_norm_has_parameters() -> None:
    net = SPACE.supernet(channels=4, layers=8)
    assert all(m.affine for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    # two in each of the 16 MBConvs, and those of the stem and of the head
    assert sum(type(m) is nn.ReLU for m in net.modules()) == 2 * 16 + 2
    assert not any(isinstance(m, nn.ReLU6) for m in net.modules())


def test_published_masking_feeds_zeros_so_that_no_unit_is_lost() -> None:
    net = SPACE.supernet(channels=4, layers=8).eval()
    own: Any = zcpt.get_proxy("naswot")
    official: Any = zcpt.get_proxy("naswot-official")
    images, start = torch.randn(3, 3, 32, 32), net.initial_mixture()
    removed = start.without("layer03", "mb_k5_e6")
    before, after = (official.compute_kernel(net, images, mixture) for mixture in (start, removed))
    assert torch.equal(before.diagonal(), after.diagonal())
    # On zeros every two images agree in every unit.
    lost = own.compute_kernel(net, images, start) - own.compute_kernel(net, images, removed)
    block = net.get_submodule("layer03.mb_k5_e6")
    assert isinstance(block, MBConv)
    units = 2 * 6 * 16 * 8 * 8
    assert lost.diagonal().tolist() == [units] * 3
    with torch.no_grad():
        zeros = own.compute_kernel(block, torch.zeros(3, 16, 8, 8))
    assert zeros.tolist() == [[units] * 3] * 3


def test_the_notation_is_read_and_written() -> None:
    architecture = SPACE.parse("  22212220\n")
    assert [architecture[f"layer{i:02d}"] for i in (0, 3, 7)] == ["mb_k5_e6", "mb_k3_e3", "identity"]
    assert SPACE.format(architecture) == "22212220"


@pytest.mark.parametrize(
    "text", ["", "2221222", "222122200", "22212223", "mm22212220", "n22212220", "2221 2220", "\u06622212220", "9" * 99]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(SpaceError, match="is not of the form 22212220: eight digits, 0 for identity, 1 for mb_k3_e3"):
        SPACE.parse(text)


@pytest.mark.data
def test_sizes_of_every_20th_network_of_the_benchmark(real_data: Path) -> None:
    with gzip.open(real_data / "tables" / "nbmacro_c10.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == SPACE.count() == len({SPACE.parse(row["arch8"][1:]) for row in rows})
    for row in rows[::20]:
        cost = SPACE.cost(SPACE.parse(row["arch8"][1:]), PUBLISHED)
        assert (cost.params, cost.macs) == (int(row["params_count"]), int(row["flops_count"]))


@pytest.mark.data
def test_networks_of_the_benchmark_have_the_parameters_that_the_formula_says(real_data: Path) -> None:
    with gzip.open(real_data / "tables" / "nbmacro_c10.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))[::600]
    for row in rows:
        network = SPACE.build_network(SPACE.parse(row["arch8"][1:]), PUBLISHED)
        assert sum(p.numel() for p in network.parameters()) == int(row["params_count"])
