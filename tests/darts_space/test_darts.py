"""The DARTS space against published counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import zcpt
from zcpt import Architecture, SpaceError
from zcpt.space import NetworkConfig

DARTS = zcpt.get_space("darts")
SHORT = {
    "s3": "sep_conv_3x3", "s5": "sep_conv_5x5", "d3": "dil_conv_3x3", "d5": "dil_conv_5x5",
    "sk": "skip_connect", "ap": "avg_pool_3x3",
}  # fmt: skip
# Found and published by Zero-Cost-PT (N=10, V=100), with the sizes of their networks: parameters in M for CIFAR
# (C=36, 20 cells) and ImageNet (C=48, 14 cells, 224x224), MACs in M for ImageNet and, where known, for CIFAR.
PUBLISHED = {
    "C10_0": ("s5@0 s5@1 | s3@1 s5@2 | s3@0 s3@2 | s5@2 s3@4", "s5@0 s3@1 | s5@0 s3@1 | s5@1 s3@3 | s3@0 s5@1", 4.923, 6.757, 749, 765),
    "C10_1": ("sk@0 s5@1 | s3@1 s5@2 | s5@1 s5@2 | s3@0 s5@4", "s3@0 s5@1 | sk@0 s5@1 | s3@0 s5@1 | s5@0 s3@1", 4.581, 6.332, 706, 719),
    "C10_2": ("sk@0 s5@1 | s5@0 s5@2 | s5@0 s5@2 | s3@0 s5@3", "s5@0 s3@1 | s3@0 sk@1 | s5@0 s5@2 | s3@0 s5@1", 4.630, 6.375, 714, 732),
    "C10_3": ("sk@0 s5@1 | s3@0 s5@1 | s3@0 s5@3 | s3@0 s3@1", "s5@0 s5@1 | s3@0 s5@1 | s5@0 s3@1 | s3@0 s5@1", 4.522, 6.307, 694, 699),
    "in_0": ("s5@0 s5@1 | s3@1 s3@2 | s5@2 s5@3 | s3@0 s5@3", "s3@0 s5@1 | s5@0 d5@1 | s3@0 s5@1 | sk@0 s5@1", 4.916, 6.704, 750, None),
    "in_1": ("sk@0 s3@1 | s5@0 s5@1 | s5@0 s3@3 | s3@3 s5@4", "ap@0 s3@1 | s5@0 s5@1 | s5@0 s3@1 | s5@0 s5@1", 4.513, 6.251, 694, None),
    "in_2": ("s3@0 s5@1 | s3@0 s5@1 | s3@0 s3@3 | s3@3 s5@4", "s5@0 s5@1 | s5@0 s5@1 | sk@0 d5@1 | s3@0 s5@1", 4.826, 6.627, 734, None),
    "in_3": ("s5@0 s3@1 | s5@0 s3@2 | s5@2 s3@3 | s5@0 s5@3", "d3@0 sk@1 | s5@0 s5@1 | s5@0 s5@1 | s5@0 s3@1", 4.920, 6.708, 751, None),
}  # fmt: skip
CIFAR = NetworkConfig(channels=36, layers=20)
IMAGENET = NetworkConfig(channels=48, layers=14, num_classes=1000, image_size=(224, 224))


def genotype(name: str) -> Any:
    cells = []
    for row in PUBLISHED[name][:2]:
        cells.append([(SHORT[pair[:2]], int(pair[3:])) for pair in row.split() if pair != "|"])
    normal, reduce = cells
    return f"Genotype(normal={normal}, normal_concat=range(2, 6), reduce={reduce}, reduce_concat=range(2, 6))"


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_sizes_of_the_published_genotypes_to_the_printed_digit(name: str) -> None:
    *_, cifar_params, imagenet_params, imagenet_macs, cifar_macs = PUBLISHED[name]
    architecture = DARTS.parse(genotype(name))
    cifar, imagenet = DARTS.cost(architecture, CIFAR), DARTS.cost(architecture, IMAGENET)
    assert round(cifar.params / 1e6, 3) == cifar_params
    assert round(imagenet.params / 1e6, 3) == imagenet_params
    assert round(imagenet.macs / 1e6) == imagenet_macs
    assert cifar_macs is None or round(cifar.macs / 1e6) == cifar_macs


@pytest.mark.parametrize("shape", [CIFAR, IMAGENET])
def test_the_networks_have_the_parameters_that_the_formula_says(shape: Any) -> None:
    architecture = DARTS.parse(genotype("in_0"))
    network: Any = DARTS.build_network(architecture, shape)
    assert sum(p.numel() for p in network.parameters()) == DARTS.cost(architecture, shape).params


def test_published_size_of_the_supernet_and_of_the_space() -> None:
    net = DARTS.supernet(channels=16, layers=8)
    assert sum(parameter.numel() for parameter in net.parameters()) == 1_930_618
    assert DARTS.count() == 1_037_664_180**2
    assert len([choice for choice in DARTS.choices if choice.phase == 0]) == 28


def test_the_imagenet_supernet_has_the_wider_stem() -> None:
    net = DARTS.supernet(channels=16, layers=3, image_size=(128, 128))
    convs = [m for m in net.get_submodule("stem").modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.stride[0]) for c in convs] == [(3, 24, 2), (24, 48, 2), (48, 48, 2)]
    assert net.eval()(torch.randn(1, 3, 128, 128)).shape == (1, 10)
    network: Any = DARTS.build_network(DARTS.parse(genotype("in_0")), IMAGENET)
    convs = [m for m in network.stem.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convs] == [(3, 24), (24, 48), (48, 48)]


def test_pools_are_normalised_in_the_supernet_only() -> None:
    net = DARTS.supernet(channels=4, layers=3)
    pool: Any = net.get_submodule("cells.0.node2.edge0.max_pool_3x3")
    assert [type(m) for m in pool] == [nn.MaxPool2d, nn.BatchNorm2d]
    network: Any = DARTS.network(DARTS.parse(genotype("in_1")), channels=4, layers=3)
    pools = [m for m in network.modules() if isinstance(m, nn.AvgPool2d)]
    assert len(pools) == 2


def test_identities_are_not_dropped_and_other_operations_are() -> None:
    network: Any = DARTS.network(DARTS.parse(genotype("C10_1")), channels=4, layers=3)
    assert isinstance(network.cells[0].edges[0], nn.Identity)
    assert all(isinstance(edge, nn.Sequential) for edge in list(network.cells[0].edges)[1:])


def test_the_auxiliary_head_of_darts_pools_its_8x8_maps_to_2x2() -> None:
    network: Any = DARTS.network(DARTS.parse(genotype("C10_0")), channels=36, layers=20, auxiliary=True)
    assert network.auxiliary_after == 14  # cell 13: the stem is block 0
    # DARTS: 1x1 to 128, BN, 2x2 to 768, BN, linear; its input has 4 * 4 * 36 channels
    published = 576 * 128 + 2 * 128 + 128 * 768 * 4 + 2 * 768 + 768 * 10 + 10
    assert sum(p.numel() for p in network.auxiliary.parameters()) == published


def test_operations_of_inputs_that_were_not_kept_are_no_part_of_an_architecture() -> None:
    decisions = {c.name: c.candidates[: c.keep] for c in DARTS.choices}
    other = {**decisions, "normal/node5/edge4": ("skip_connect",)}
    assert DARTS.architecture(decisions) == DARTS.architecture(other)
    assert "normal/node5/edge4" not in DARTS.architecture(other).kept
    superfluous = {**DARTS.architecture(decisions).kept, "normal/node5/edge4": ("skip_connect",)}
    with pytest.raises(SpaceError, match="normal/node5/edge4"):
        DARTS.check(Architecture("darts", superfluous))


def test_too_few_cells_are_refused() -> None:
    with pytest.raises(SpaceError, match="at least 3 cells"):
        DARTS.supernet(channels=4, layers=2)


def test_each_cell_reads_the_two_cells_before_it() -> None:
    network: Any = DARTS.build_network(
        DARTS.parse(genotype("C10_0")), NetworkConfig(channels=4, layers=5, image_size=(8, 8))
    )
    reads: list[Any] = []
    made: list[Any] = []
    stem: list[Any] = []
    for cell in network.cells:
        cell.register_forward_pre_hook(lambda _, given: reads.append(given))
        cell.register_forward_hook(lambda _, given, output: made.append(output))
    network.stem[0].register_forward_hook(lambda _, given, output: stem.append(output))
    network.eval()(torch.randn(1, 3, 8, 8))
    history = [stem[0], stem[0], *made]
    for index, (before_last, last) in enumerate(reads):
        assert before_last is history[index]
        assert last is history[index + 1]
