"""ReLUs and feature maps are found in networks of others, and blocks where a person would see them."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import zcpt
from tests.conftest import random_architecture, tiny_network_config
from tests.zcpt.proxies.test_field import pictures
from zcpt import ProxyError
from zcpt.proxies import clone_tensors
from zcpt.proxies._feature_maps import LastMapFinder, compute_block_outputs, find_blocks, observe_relus


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
def test_every_relu_is_seen_once_and_only_on_maps(relu):
    seen = []
    with observe_relus(seen.append):
        relu(torch.randn(2, 3, 4, 4))
        relu(torch.randn(2, 3))
        nn.LeakyReLU()(torch.randn(2, 3, 4, 4))
        nn.Hardtanh()(torch.randn(2, 3, 4, 4))
    assert len(seen) == 1
    assert float(seen[0].min()) == 0


def last_maps(net, images):
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
def test_the_last_maps_are_what_the_pooling_reads(make, pool, size):
    net, read = make().eval(), []
    net.get_submodule(pool).register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    assert torch.equal(last_maps(net, torch.randn(2, 3, size, size)), read[0])


class Head(nn.Module):
    def __init__(self, head, stride=1):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 8 if stride == 8 else 3, stride), head

    def forward(self, x):
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
def test_the_last_maps_of_all_sorts_of_heads(head, stride):
    net = Head(head, stride)
    assert torch.equal(last_maps(net, pictures().images), net.maps)


def test_a_transformer_has_no_last_maps():
    net = torchvision.models.VisionTransformer(8, 4, 1, 2, 16, 32, num_classes=5)
    with pytest.raises(ProxyError, match="VisionTransformer has none"):
        zcpt.score(net, pictures(), "zen")
    with pytest.raises(ProxyError, match="no ReLU or ReLU6 ran"):
        zcpt.score(net, pictures(), "swap")
    with pytest.raises(ProxyError, match="use a convolutional network made of blocks"):
        zcpt.score(net, pictures(), "az_expressivity")


class Wrapper(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


def maps_of(net, mixture=None):
    with torch.no_grad():
        return compute_block_outputs(net.eval(), clone_tensors(net), pictures().images, mixture, "az_expressivity")


def test_blocks_of_a_residual_network():
    net = torchvision.models.resnet18()
    assert [type(block).__name__ for block in find_blocks(net)] == ["BasicBlock"] * 8
    assert len(maps_of(net)) == 9
    assert find_blocks(Wrapper(net)) == find_blocks(net)


def test_blocks_of_our_own_networks_are_the_stem_and_the_cells(space):
    if space.name in ("toy", "nasbench1shot1-2", "nasbench1shot1-3", "darts-s1", "darts-s2", "darts-s3", "darts-s4"):
        return
    shape = tiny_network_config(space)
    net = space.build_network(random_architecture(space, 0, "identity"), shape)
    cells = {"darts": 3, "nasbench201": 5, "nasbench1shot1-1": 3, "nasbench-macro": 8, "proxyless": 22}[space.name]
    assert len(maps_of(net)) == 1 + cells
    supernet = space.build_supernet(shape)
    found = maps_of(supernet, supernet.initial_mixture())
    assert len(found) == {"nasbench1shot1-1": 5, "proxyless": 22}.get(space.name, 1 + cells)
    assert all(maps.ndim == 4 for maps in found)


def test_maps_are_not_changed_by_what_works_in_place():
    class Block(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.relu, self.conv = nn.ReLU(inplace), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.conv(self.relu(x))

    torch.manual_seed(0)
    plain, inplace = (nn.Sequential(nn.Conv2d(3, 3, 1), Block(i), Block(i), nn.Flatten()) for i in (False, True))
    inplace.load_state_dict(plain.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(maps_of(plain), maps_of(inplace), strict=True))
    assert len(maps_of(plain)) == 3


def test_an_identity_that_a_supernet_has_decided_on_is_no_block():
    space = zcpt.get_space("nasbench-macro")
    net = space.build_supernet(tiny_network_config(space))
    name = next(
        choice.name for choice in space.choices if isinstance(net.get_submodule(f"{choice.name}.identity"), nn.Identity)
    )
    assert len(maps_of(net, net.initial_mixture().select(name, ["identity"]))) == len(maps_of(net)) - 1
