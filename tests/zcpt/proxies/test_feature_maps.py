"""ReLUs, last feature maps and blocks are found in published networks and in our own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import zcpt
from tests.conftest import random_architecture, tiny_network_config
from tests.zcpt.proxies.test_field import make_batch
from zcpt import ProxyError
from zcpt.proxies import clone_tensors
from zcpt.proxies._feature_maps import LastMapFinder, compute_block_outputs, find_blocks, observe_relus
from zcpt.space import SearchSpace


@pytest.mark.parametrize(
    "relu",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.ReLU6(),
        nn.ReLU6(inplace=True),
        F.relu,
        F.relu_,
        F.relu6,
        torch.relu,
        torch.Tensor.relu_,
        lambda x: F.relu(x, inplace=True),
    ],
)
def test_every_relu_is_observed_once_and_only_on_maps(relu: Callable[[Tensor], Tensor]) -> None:
    seen: list[Tensor] = []
    with observe_relus(seen.append):
        relu(torch.randn(2, 3, 4, 4))
        relu(torch.randn(2, 3))
        nn.LeakyReLU()(torch.randn(2, 3, 4, 4))
        nn.Hardtanh()(torch.randn(2, 3, 4, 4))
    assert len(seen) == 1
    assert float(seen[0].min()) == 0


def find_last_maps(net: nn.Module, images: Tensor) -> Tensor:
    last = LastMapFinder(images)
    with torch.no_grad(), last.observe():
        net(images)
    return last.get_maps(net, "zen")


@pytest.mark.parametrize(
    ("make", "pool", "size"),
    [
        (torchvision.models.resnet18, "avgpool", 32),  # maps of one pixel
        (torchvision.models.resnet18, "avgpool", 64),
        (torchvision.models.mobilenet_v3_small, "avgpool", 32),
        (torchvision.models.squeezenet1_1, "classifier.3", 64),
        (lambda: timm.create_model("efficientnet_b0"), "global_pool", 32),
        (torchvision.models.convnext_tiny, "avgpool", 64),  # its head has a LayerNorm after the pooling
        (lambda: timm.create_model("test_convnext"), "head.global_pool", 64),
    ],
)
def test_the_last_maps_are_what_the_pooling_reads(make: Callable[[], nn.Module], pool: str, size: int) -> None:
    net, read = make().eval(), []
    net.get_submodule(pool).register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    assert torch.equal(find_last_maps(net, torch.randn(2, 3, size, size)), read[0])


class Head(nn.Module):
    def __init__(self, head: Callable[[Tensor], Tensor], stride: int = 1) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 8 if stride == 8 else 3, stride), head

    def forward(self, x: Tensor) -> Tensor:
        self.maps = self.conv(x)
        return self.head(self.maps)


@pytest.mark.parametrize("stride", [1, 8])
@pytest.mark.parametrize(
    "head",
    [
        lambda x: x.mean((2, 3)),
        lambda x: x.flatten(2).mean(2),
        lambda x: x.mean([2, 3], keepdim=True).flatten(1),
        lambda x: torch.flatten(x, 1),
        lambda x: x.view(len(x), -1),
        lambda x: F.adaptive_max_pool2d(x, 1).squeeze(-1).squeeze(-1),
        lambda x: F.avg_pool2d(x, x.shape[-1]).flatten(1),
    ],
)
def test_the_last_maps_before_different_heads(head: Callable[[Tensor], Tensor], stride: int) -> None:
    net = Head(head, stride)
    assert torch.equal(find_last_maps(net, make_batch().images), net.maps)


def test_a_transformer_has_no_last_maps() -> None:
    net = torchvision.models.VisionTransformer(8, 4, 1, 2, 16, 32, num_classes=5)
    with pytest.raises(ProxyError, match="VisionTransformer has none"):
        zcpt.score(net, make_batch(), "zen")
    with pytest.raises(ProxyError, match="no ReLU or ReLU6 ran"):
        zcpt.score(net, make_batch(), "swap")
    with pytest.raises(ProxyError, match="use a convolutional network made of blocks"):
        zcpt.score(net, make_batch(), "az_expressivity")


class Wrapper(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def compute_maps(net: nn.Module, mixture: zcpt.Mixture | None = None) -> list[Tensor]:
    with torch.no_grad():
        return compute_block_outputs(net.eval(), clone_tensors(net), make_batch().images, mixture, "az_expressivity")


def test_blocks_of_a_residual_network() -> None:
    net = torchvision.models.resnet18()
    assert [type(block).__name__ for block in find_blocks(net)] == ["BasicBlock"] * 8
    assert len(compute_maps(net)) == 9
    assert find_blocks(Wrapper(net)) == find_blocks(net)


def test_blocks_of_our_own_networks_are_the_stem_and_the_cells(space: SearchSpace) -> None:
    if space.name in ("toy", "nasbench1shot1-2", "nasbench1shot1-3", "darts-s1", "darts-s2", "darts-s3", "darts-s4"):
        return
    shape = tiny_network_config(space)
    net = space.build_network(random_architecture(space, 0, "identity"), shape)
    cells = {"darts": 3, "nasbench201": 5, "nasbench1shot1-1": 3, "nasbench-macro": 8, "proxyless": 22}[space.name]
    assert len(compute_maps(net)) == 1 + cells
    supernet = space.build_supernet(shape)
    maps = compute_maps(supernet, supernet.initial_mixture())
    assert len(maps) == {"nasbench1shot1-1": 5, "proxyless": 22}.get(space.name, 1 + cells)
    assert all(output.ndim == 4 for output in maps)


def test_maps_are_not_changed_by_in_place_operations() -> None:
    class Block(nn.Module):
        def __init__(self, inplace: bool) -> None:
            super().__init__()
            self.relu, self.conv = nn.ReLU(inplace), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.relu(x))

    torch.manual_seed(0)
    plain, inplace = (nn.Sequential(nn.Conv2d(3, 3, 1), Block(i), Block(i), nn.Flatten()) for i in (False, True))
    inplace.load_state_dict(plain.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(compute_maps(plain), compute_maps(inplace), strict=True))
    assert len(compute_maps(plain)) == 3


def test_a_chosen_identity_of_a_supernet_is_no_block() -> None:
    space = zcpt.get_space("nasbench-macro")
    net = space.build_supernet(tiny_network_config(space))
    name = next(
        choice.name for choice in space.choices if isinstance(net.get_submodule(f"{choice.name}.identity"), nn.Identity)
    )
    assert len(compute_maps(net, net.initial_mixture().select(name, ["identity"]))) == len(compute_maps(net)) - 1


CELLS = (
    "|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|",
    "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    "|avg_pool_3x3~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    "|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|none~1|skip_connect~2|",
)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_of_nasbench201_counts_also_without_convolutions(cell: str) -> None:
    """As in the authors' code: the stem, and a cell in each of the three stages with residual blocks between them."""
    space = zcpt.get_space("nasbench201")
    architecture, config = space.parse(cell), tiny_network_config(space)
    assert len(compute_maps(space.build_network(architecture, config))) == 6
    supernet = space.build_supernet(config)
    mixture = supernet.initial_mixture()
    for choice, kept in architecture.kept.items():
        mixture = mixture.select(choice, kept)
    assert len(compute_maps(supernet, mixture)) == 6


class Cell(nn.Module):
    def __init__(self, operation: nn.Module) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.operation(x)
        return output


class Cells(nn.Module):
    def __init__(self, *operations: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.cells = nn.ModuleList(Cell(operation) for operation in operations)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        return x.mean((2, 3))


class DeclaredCells(Cells):
    def list_blocks(self) -> list[nn.Module]:
        return list(self.cells)


def test_cells_of_other_networks_without_layers_count_beside_those_with_layers_or_where_they_are_declared() -> None:
    assert len(compute_maps(Cells(nn.Conv2d(4, 4, 1), nn.Identity(), nn.AvgPool2d(1)))) == 4
    assert len(compute_maps(DeclaredCells(nn.Identity(), nn.Identity()))) == 3
