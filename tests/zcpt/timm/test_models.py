"""The models that timm knows by name, against timm's contract and the published sizes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

import zcpt.timm
from zcpt import ConfigError, NetworkConfig, SpaceError
from zcpt.timm._models import choose_size, create_network

# Parameters in M and MACs in M of the network for CIFAR-10 (36 channels, 20 cells; of the table's 16 x 5 for
# NAS-Bench-201) and of the one for ImageNet (48 channels, 14 cells, 224 pixels). Printed by the papers, as far as they
# print it: DARTS 3.3 and 4.7; SNAS 2.8 and 4.3; P-DARTS 3.4 and 4.9; PC-DARTS 3.6 and 5.3 (on ImageNet);
# DrNAS 4.1 and 5.7; TE-NAS (found on ImageNet) 5.4; ProxylessNAS 7.12, 4.36, 4.08 and 6.86.
SIZES: dict[str, tuple[tuple[float, float], ...]] = {
    "zcpt_darts_v1": ((3.169, 501.0), (4.510, 505.9)),
    "zcpt_darts_v2": ((3.349, 528.4), (4.719, 529.9)),
    "zcpt_snas": ((2.661, 422.2), (3.939, 438.0)),
    "zcpt_pdarts": ((3.434, 532.2), (4.944, 542.8)),
    "zcpt_pcdarts": ((3.635, 556.7), (5.271, 571.1)),
    "zcpt_pcdarts_imagenet": ((3.722, 570.5), (5.342, 581.6)),
    "zcpt_drnas": ((4.099, 635.1), (5.738, 633.8)),
    "zcpt_drnas_imagenet": ((4.049, 617.9), (5.726, 624.4)),
    "zcpt_tenas": ((4.138, 637.6), (5.869, 641.4)),
    "zcpt_tenas_imagenet": ((3.779, 580.3), (5.420, 590.4)),
    "zcpt_c10_0": ((4.923, 764.7), (6.757, 749.3)),
    "zcpt_c10_1": ((4.581, 719.2), (6.332, 705.6)),
    "zcpt_c10_2": ((4.630, 731.6), (6.375, 714.0)),
    "zcpt_c10_3": ((4.522, 698.5), (6.307, 693.7)),
    "zcpt_imagenet_0": ((4.916, 771.5), (6.704, 750.2)),
    "zcpt_imagenet_1": ((4.513, 705.1), (6.251, 694.4)),
    "zcpt_imagenet_2": ((4.826, 747.6), (6.627, 734.3)),
    "zcpt_imagenet_3": ((4.920, 772.0), (6.708, 750.7)),
    "zcpt_nasbench201_best_c10": ((1.073, 153.3),),
    "zcpt_nasbench201_best_c100": ((1.294, 184.7),),
    "zcpt_nasbench201_best_in16": ((0.866, 30.5),),
    "zcpt_nasbench_macro_best_c10": ((1.986, 85.2),),
    "zcpt_proxyless_gpu": ((7.120, 465.3),),
    "zcpt_proxyless_cpu": ((4.362, 439.2),),
    "zcpt_proxyless_mobile": ((4.081, 320.4),),
    "zcpt_proxyless_mobile_14": ((6.858, 580.9),),
}
PUBLISHED = {published.name: published for published in zcpt.timm.list_published_networks()}


def create(name: str, **options: Any) -> Any:
    """Create a small model for images of 16 pixels."""
    space = PUBLISHED[name].space.name if name in PUBLISHED else "darts"
    small = {"darts": {"channels": 4, "layers": 3}, "nasbench201": {"channels": 4, "layers": 1}}
    return timm.create_model(name, **{"img_size": 16, **small.get(space, {"channels": 8}), **options})


def test_all_published_networks_are_listed() -> None:
    assert set(timm.list_models("zcpt*")) == {"zcpt", *SIZES}
    assert timm.list_models("zcpt_darts_v2*", include_tags=True) == [
        "zcpt_darts_v2.cifar10",
        "zcpt_darts_v2.imagenet",
    ]


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name: str) -> None:
    published = PUBLISHED[name]
    space, sizes = published.space, []
    small = [(32, 10)] if published.text.startswith("Genotype") else []
    for image_size, num_classes in (*small, (published.image_size, published.num_classes)):
        size = choose_size(space, (image_size, image_size))
        config = NetworkConfig(size.channels, size.layers, num_classes, 3, (image_size, image_size))
        cost = space.cost(space.parse(published.text), config)
        sizes.append((round(cost.params / 1e6, 3), round(cost.macs / 1e6, 1)))
    assert tuple(sizes) == SIZES[name]


FEW = {"zcpt_darts_v2", "zcpt_nasbench201_best_c10", "zcpt_nasbench_macro_best_c10", "zcpt_proxyless_mobile"}
"""Models that stand for the others."""


@pytest.mark.parametrize("name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in SIZES])
def test_the_contract_of_timm(name: str) -> None:
    network, images = create(name, num_classes=7, drop_rate=0.0), torch.randn(2, 3, 16, 16)
    logits = network(images)
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.zero_grad(set_to_none=True)
    checkpointed = copy.deepcopy(network)
    checkpointed.set_grad_checkpointing()
    torch.testing.assert_close(checkpointed(images), network(images), rtol=0, atol=0)
    checkpointed(images).sum().backward()
    maps = network.eval().forward_features(images)
    assert maps.shape[:2] == (2, network.num_features)
    assert torch.equal(network.forward_head(maps), network(images))
    assert network.get_classifier().out_features == network.num_classes == 7
    network.reset_classifier(5, "max")
    assert network(images).shape == (2, 5)
    network.reset_classifier(0, "")
    assert torch.equal(network(images), maps)


@pytest.mark.parametrize("name", ["zcpt_darts_v2", "zcpt_nasbench201_best_c10", "zcpt_proxyless_mobile"])
def test_features_only(name: str) -> None:
    extractor = create(name, features_only=True).eval()
    maps = extractor(torch.randn(2, 3, 16, 16))
    assert [x.shape[1] for x in maps] == extractor.feature_info.channels()
    assert [16 // x.shape[2] for x in maps] == extractor.feature_info.reduction()
    chosen = create(name, features_only=True, out_indices=(0, -2))
    assert [x.shape[2] for x in chosen(torch.randn(2, 3, 16, 16))] == [16, maps[-2].shape[2]]
    assert sum(p.numel() for p in chosen.parameters()) < sum(p.numel() for p in extractor.parameters())
    with pytest.raises(ConfigError, match=r"there are \d sizes of maps, so indices \(7,\) do not exist"):
        create(name, features_only=True, out_indices=(7,))


def test_maps_for_detectors_at_imagenet_size_are_those_of_strides_4_to_32() -> None:
    extractor = create("zcpt_pcdarts", img_size=128, features_only=True)
    assert extractor.feature_info.reduction() == [4, 8, 16, 32]
    assert [x.shape[2] for x in extractor(torch.randn(1, 3, 128, 128))] == [32, 16, 8, 4]


def test_arguments_of_timm() -> None:
    network = create("zcpt_darts_v2", num_classes=0, in_chans=1, drop_rate=0.25, drop_path_rate=0.5)
    assert network.dropout.p == 0.25
    probabilities = {float(buffer) for name, buffer in network.named_buffers() if name.endswith("probability")}
    assert probabilities == {0.5}
    assert network.eval()(torch.randn(2, 1, 16, 16)).shape == (2, network.num_features)
    assert create("zcpt_darts_v2", num_classes=3, global_pool="catavgmax")(torch.randn(2, 3, 16, 16)).shape == (2, 3)
    assert next(create("zcpt_darts_v2", dtype=torch.float64).parameters()).dtype == torch.float64
    assert create("zcpt_proxyless_gpu").dropout.p == 0.2
    with pytest.raises(RuntimeError, match="No pretrained weights exist for zcpt_darts_v2"):
        create("zcpt_darts_v2", pretrained=True)


def test_the_tag_chooses_the_published_network_of_the_data_set() -> None:
    """The widths follow from the size of the images."""
    with torch.device("meta"):
        cifar: Any = timm.create_model("zcpt_darts_v2.cifar10")
        imagenet: Any = timm.create_model("zcpt_darts_v2")
    assert (len(cifar.cells), cifar.num_features, cifar.num_classes) == (20, 36 * 16, 10)
    assert (len(imagenet.cells), imagenet.num_features, imagenet.num_classes) == (14, 48 * 16, 1000)
    assert cifar.pretrained_cfg["input_size"] == (3, 32, 32)
    assert imagenet.pretrained_cfg["crop_pct"] == 0.875


def test_parameters_are_grouped_by_depth_and_none_is_kept_from_decay() -> None:
    network = create("zcpt_pcdarts")
    assert network.no_weight_decay() == set()
    optimizer = create_optimizer_v2(network, opt="sgd", lr=0.1, layer_decay=0.5)
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    assert {0.5**power for power in range(1, 5)} <= scales


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_models_are_compiled_by_torchscript() -> None:
    network = create("zcpt_nasbench201_best_c10").eval()
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(torch.jit.script(network)(images), network(images), rtol=0, atol=0)


def test_any_architecture_is_a_model(tmp_path: Path) -> None:
    text = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    space = zcpt.get_space("nasbench201")
    (tmp_path / "architecture.json").write_text(json.dumps(space.parse(text).to_json()))
    options: dict[str, Any] = {"channels": 4, "layers": 1, "num_classes": 3}
    one: Any = timm.create_model("zcpt", architecture=text, space="nasbench201", **options)
    other: Any = timm.create_model("zcpt", architecture=str(tmp_path), **options)
    other.load_state_dict(one.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(one.eval()(images), other.eval()(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs an architecture=..."),
        ({"architecture": "runs/none"}, "runs/none is missing: give architecture the run folder"),
        ({"architecture": "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"}, "add space=nasbench201"),
    ],
)
def test_an_unreadable_architecture_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, SpaceError), match=message):
        timm.create_model("zcpt", **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_models_of_published_size_are_built_and_trained(name: str) -> None:
    tags = [""] if len(SIZES[name]) == 1 else [".cifar10", ".imagenet"]
    for tag, (params, _) in zip(tags, SIZES[name], strict=True):
        network: Any = timm.create_model(name + tag, drop_path_rate=0.2)
        assert round(sum(p.numel() for p in network.parameters()) / 1e6, 3) == params
        logits = network(torch.randn(2, *network.pretrained_cfg["input_size"]))
        nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
        extractor = timm.create_model(name + tag, features_only=True)
        maps = extractor(torch.randn(1, *network.pretrained_cfg["input_size"]))
        assert len(maps) == len(network.feature_info)


def test_the_network_is_the_one_of_the_space() -> None:
    """Weights of ``zcpt train`` fit without renaming."""
    space = zcpt.get_space("darts")
    published = PUBLISHED["zcpt_darts_v2"]
    network = create_network(lambda: (space, published.text), num_classes=5, img_size=(16, 24), channels=4, layers=3)
    plain = space.network(space.parse(published.text), channels=4, layers=3, num_classes=5, image_size=(16, 24))
    assert list(plain.state_dict()) == list(network.state_dict())
