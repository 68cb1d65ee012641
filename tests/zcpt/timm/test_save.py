"""Folders for timm and the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.data import create_transform, resolve_model_data_config

import zcpt
import zcpt.timm
from tests.conftest import random_architecture
from train.checkpoint import TrainedNetwork, save_network
from zcpt import ConfigError
from zcpt.space import NetworkConfig
from zcpt.timm.__main__ import main

CONFIG = NetworkConfig(4, 1, 3, 3, (16, 12))
STATISTICS = (0.5, 0.4, 0.3), (0.25, 0.2, 0.15)


@pytest.fixture
def trained(tmp_path: Path) -> TrainedNetwork:
    """Return a small network that lies in the folder of a training."""
    space = zcpt.get_space("nasbench201")
    architecture = random_architecture(space, 0)
    network = space.build_network(architecture, CONFIG)
    about = {"epochs": 1, "test_accuracy": 0.5, "dataset": "folder:/home/me/insects"}
    found = TrainedNetwork(network, space, architecture, CONFIG, STATISTICS, ("ant", "bee", "cat"), about)
    (tmp_path / "run").mkdir()
    save_network(tmp_path / "run" / "model.safetensors", found)
    return found


def test_a_trained_network_makes_the_round_trip(trained: TrainedNetwork, tmp_path: Path) -> None:
    folder = zcpt.timm.save_model(tmp_path / "run", tmp_path / "hub", license="mit")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    images = torch.randn(2, 3, 16, 12)
    assert torch.equal(network.eval()(images), trained.network.eval()(images))  # type: ignore[arg-type]
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "zcpt"
    assert config["label_names"] == ["ant", "bee", "cat"]
    assert json.loads(config["model_args"]["architecture"]) == trained.architecture.to_json()
    data = resolve_model_data_config(network)
    assert (tuple(data["mean"]), tuple(data["std"])) == STATISTICS
    assert data["input_size"] == (3, 16, 12)
    assert create_transform(**data)


def test_the_network_is_adapted_to_other_classes_and_channels(trained: TrainedNetwork, tmp_path: Path) -> None:
    folder = zcpt.timm.save_model(tmp_path / "run" / "model.safetensors", tmp_path / "hub")
    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=5, in_chans=1)
    assert network.eval()(torch.randn(2, 1, 16, 12)).shape == (2, 5)
    weights = network.state_dict()
    for name, weight in trained.network.state_dict().items():
        is_new = name.startswith("classifier")
        if name == "stem.0.weight":
            torch.testing.assert_close(weights[name], weight.sum(1, keepdim=True))
        else:
            assert is_new != (weight.shape == weights[name].shape and torch.equal(weight, weights[name])), name


def test_the_model_card_says_what_it_is(trained: TrainedNetwork, tmp_path: Path) -> None:
    main(["save", str(tmp_path / "run"), str(tmp_path / "ants-and-bees")])
    card = (tmp_path / "ants-and-bees" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "library_name: timm\nlicense: other\n" in card
    assert "# Model card for ants-and-bees" in card
    assert trained.space.format(trained.architecture) in card
    assert "test_accuracy: 0.5" in card
    assert "dataset: insects\n" in card
    assert "/home/me" not in card + (tmp_path / "ants-and-bees" / "config.json").read_text()
    assert 'timm.create_model("hf-hub:OWNER/ants-and-bees", pretrained=True)' in card


def test_a_published_network_makes_the_round_trip(tmp_path: Path) -> None:
    network: Any = timm.create_model("zcpt_pcdarts.cifar10", channels=4, layers=3, num_classes=4)
    timm.models.save_for_hf(network, str(tmp_path), safe_serialization=True)
    again: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(network.eval()(images), again.eval()(images))
    assert again.num_classes == 4


def test_a_folder_without_a_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model.safetensors is missing"):
        zcpt.timm.save_model(tmp_path, tmp_path / "hub")
