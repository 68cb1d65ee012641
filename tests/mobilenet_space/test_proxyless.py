"""The ProxylessNAS-like space against published counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import zcpt
from mobilenet_space.proxyless import CANDIDATES, Proxyless
from zcpt import SpaceError
from zcpt.space import NetworkConfig

SPACE = Proxyless()
# ProxylessNAS (GPU) as its authors published it; pytorchcv and others count 7,119,848 parameters.
PROXYLESS_GPU = (
    "k5_e3 skip skip skip k7_e3 skip skip k3_e3 k7_e6 skip skip k5_e3 "
    "k5_e6 skip k3_e3 k5_e3 k7_e6 k7_e6 k7_e6 k5_e6 k7_e6"
)
IMAGENET = NetworkConfig(40, 21, num_classes=1000, image_size=(224, 224))


def strides(size: Any) -> Any:
    skeleton = SPACE.skeleton(NetworkConfig(40, 21, image_size=size))
    return [skeleton.stem.stride, *(layer.stride for layer in skeleton.layers[::4])], skeleton.last.output_size


def test_published_size_of_proxyless_gpu() -> None:
    architecture = SPACE.parse(PROXYLESS_GPU)
    cost = SPACE.cost(architecture, IMAGENET)
    assert cost.params == 7_119_848
    assert round(cost.macs / 1e6) == 465
    network: Any = SPACE.build_network(architecture, IMAGENET)
    assert sum(p.numel() for p in network.parameters()) == cost.params


def test_published_number_of_architectures_and_of_choices() -> None:
    assert SPACE.count() == 6**6 * 7**15 == 221_502_229_807_900_608
    fixed = [i for i, choice in enumerate(SPACE.choices) if "identity" not in choice.candidates]
    assert fixed == [0, 4, 8, 12, 16, 20]
    assert all(choice.start == "one" for choice in SPACE.choices)


def test_the_supernet_has_the_documented_parameters() -> None:
    net = SPACE.supernet(channels=40, layers=21, num_classes=10)
    assert sum(parameter.numel() for parameter in net.parameters()) == 25_972_610


def test_images_of_imagenet_are_divided_by_32_and_smaller_ones_by_8() -> None:
    assert strides((224, 224)) == ([2, 2, 2, 2, 1, 2, 1], (7, 7))
    assert strides((128, 160))[1] == (4, 5)
    assert strides((127, 224)) == ([1, 1, 2, 2, 1, 2, 1], (16, 28))
    assert strides((32, 32))[1] == (4, 4)
    assert strides((1, 1))[1] == (1, 1)


def test_published_widths_come_out_at_the_published_width_and_others_in_proportion() -> None:
    def widths(channels: int) -> Any:
        skeleton = SPACE.skeleton(NetworkConfig(channels, 21))
        before = [layer.out_channels for layer in skeleton.fixed_layers]
        return [
            skeleton.stem.out_channels,
            *before,
            *(layer.out_channels for layer in skeleton.layers[::4]),
            skeleton.features,
        ]

    assert widths(40) == [40, 24, 32, 56, 112, 128, 256, 432, 1728]
    assert widths(20) == [20, 16, 16, 32, 56, 64, 128, 216, 864]
    assert min(widths(1)[1:]) == 8


def test_the_supernet_is_drawn_as_published_and_the_network_as_pytorch_does() -> None:
    net: Any = SPACE.supernet(channels=16, layers=21)
    for name in ("layer09.mb_k5_e6.branch.0.0", "layer09.mb_k5_e6.branch.1.0", "stem.0.0"):
        conv = net.get_submodule(name)
        expected = math.sqrt(2 / (math.prod(conv.kernel_size) * conv.out_channels))
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.1)
    network: Any = SPACE.build_network(SPACE.parse(" ".join(["k5_e6"] * 21)), NetworkConfig(16, 21))
    conv = network.get_submodule("layers.9.branch.1.0")
    assert conv.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 25), rel=0.1)


def test_only_the_network_has_dropout_and_only_its_features() -> None:
    assert not any(isinstance(m, nn.Dropout) for m in SPACE.supernet(channels=4, layers=21).modules())
    network: Any = SPACE.build_network(SPACE.parse(PROXYLESS_GPU), NetworkConfig(4, 21))
    (dropout,) = (m for m in network.modules() if isinstance(m, nn.Dropout))
    assert dropout.p == 0.2
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(network.eval()(images), network(images))
    logits = network.train()(images)
    assert not torch.equal(network(images), logits)


def test_all_activations_are_relu6_and_the_published_code_counts_each_of_them_once() -> None:
    net = SPACE.supernet(channels=8, layers=21).eval()
    # two in each of the 126 MBConvs, one in the layer before them, and those of the stem and of the head
    assert sum("ReLU" in type(m).__name__ for m in net.modules()) == 2 * 126 + 3
    assert sum(type(m) is nn.ReLU6 for m in net.modules()) == 2 * 126 + 3
    skeleton = SPACE.skeleton(NetworkConfig(8, 21, image_size=(16, 16)))
    units = sum(math.prod(layer.output_size) * layer.in_channels for layer in skeleton.fixed_layers)
    for layer in skeleton.layers:
        units += 3 * (3 + 6) * layer.in_channels * (math.prod(layer.input_size) + math.prod(layer.output_size))
    units += (
        math.prod(skeleton.stem.output_size) * skeleton.stem.out_channels
        + math.prod(skeleton.last.output_size) * skeleton.features
    )
    for proxy in ("naswot", "naswot-official"):
        with torch.no_grad():
            scorer: Any = zcpt.get_proxy(proxy)
            kernel = scorer.compute_kernel(net, torch.randn(2, 3, 16, 16))
        assert kernel.diagonal().tolist() == [units] * 2


def test_undecided_layers_are_an_unweighted_sum() -> None:
    net = SPACE.supernet(channels=8, layers=21).eval()
    mixed: Any = dict(net.named_children())["layer01"]
    seen: dict[str, torch.Tensor] = {}
    mixed["mb_k3_e3"].register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    net.get_submodule("layer02.mb_k3_e3").register_forward_pre_hook(lambda _, inputs: seen.update(sum=inputs[0]))
    with torch.no_grad():
        net(torch.randn(2, 3, 8, 8), net.initial_mixture().without("layer01", "mb_k7_e6"))
        terms = [module(seen["x"]) for name, module in mixed.items() if name != "mb_k7_e6"]
    assert len(terms) == 6
    torch.testing.assert_close(seen["sum"], sum(terms))


def test_the_notation_is_read_and_written() -> None:
    architecture = SPACE.parse(f"\n {PROXYLESS_GPU.replace(' ', '  ')} ")
    assert SPACE.format(architecture) == PROXYLESS_GPU
    assert [architecture[f"layer{i:02d}"] for i in (0, 1, 20)] == ["mb_k5_e3", "identity", "mb_k7_e6"]


def test_the_numbers_of_the_published_code_are_read_too() -> None:
    numbers = "2 -1 -1 -1 4 -1 -1 0 5 -1 -1 2 3 -1 0 2 5 5 5 3 5"
    assert SPACE.parse(numbers) == SPACE.parse(PROXYLESS_GPU)
    assert CANDIDATES == ("mb_k3_e3", "mb_k3_e6", "mb_k5_e3", "mb_k5_e6", "mb_k7_e3", "mb_k7_e6", "identity")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is 21 words such as 'k5_e3' and 'skip', one for each layer, not 0"),
        (PROXYLESS_GPU + " skip", "not 22"),
        (PROXYLESS_GPU.replace("k5_e3", "k5_e4", 1), "unknown operation 'k5_e4': did you mean 'k5_e"),
        (PROXYLESS_GPU.replace("k5_e3", "skip", 1), "layer00 begins a stage and cannot be 'skip'"),
        (PROXYLESS_GPU.replace("k7_e3", "-1", 1), "layer04 begins a stage and cannot be '-1'"),
        (PROXYLESS_GPU.replace("k5_e3", "6", 1), "unknown operation '6'"),
        (PROXYLESS_GPU.replace("k5_e3", "__import__('os')", 1), "unknown operation '__import__"),
    ],
)
def test_anything_else_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(SpaceError, match=complaint):
        SPACE.parse(text)
