"""Files of trained networks, ours and those of strangers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import zcpt
from tests.conftest import random_architecture
from train.checkpoint import TrainedNetwork, load_network, save_network
from zcpt import ConfigError, ZcptError
from zcpt.space import NetworkConfig

CONFIG = NetworkConfig(2, 1, 3, 1, (8, 8))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the file of a small network."""
    space = zcpt.get_space("nasbench201")
    architecture = random_architecture(space, 0)
    network = space.build_network(architecture, CONFIG)
    trained = TrainedNetwork(network, space, architecture, CONFIG, ((0.5,), (0.25,)), ("a", "b", "c"), {"epochs": 1})
    save_network(tmp_path / "model.safetensors", trained)
    return tmp_path / "model.safetensors"


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description in a file of a network."""
    with safe_open(str(path), "pt") as file:
        document = json.loads(file.metadata()["zcpt"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(document)
    save_file(weights, path, {"format": "pt", "zcpt": json.dumps(document)})


def test_a_network_is_read_back(model: Path) -> None:
    trained = load_network(model)
    assert trained.network_config == CONFIG
    assert trained.statistics == ((0.5,), (0.25,))
    assert trained.classes == ("a", "b", "c")
    assert trained.network(torch.zeros(2, 1, 8, 8)).shape == (2, 3)  # type: ignore[union-attr]


def shape(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["shape"].update(values)


DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a thousand million layers": (shape(layers=10**9), "layers must be an integer, at least 1 and at most 1000"),
    "many layers": (shape(layers=900), "those of another network: it describes one of"),
    "huge channels": (shape(channels=10**40), "channels must be an integer, at least 1 and at most 100000"),
    "many channels": (shape(channels=90_000), "those of another network: it describes one of"),
    "a few more channels": (shape(channels=3), "those of another network: it describes one of"),
    "fewer channels": (shape(channels=1), "those of another network: size mismatch"),
    "huge classes": (shape(num_classes=10**9), "num_classes must be an integer, at least 1 and at most 10000000"),
    "huge images": (shape(image_size=[10**9, 8]), "image_size must be an integer, at least 1 and at most 100000"),
    "images of one side": (shape(image_size=[8]), "image_size must be (height, width), not (8,)"),
    "images of no list": (shape(image_size="8x8"), "its 'shape' must have channels, layers"),
    "a text": (shape(layers="1"), "layers must be an integer"),
    "a float": (shape(layers=1.0), "layers must be an integer"),
    "true": (shape(layers=True), "layers must be an integer"),
    "null": (shape(channels=None), "channels must be an integer"),
    "a list": (shape(channels=[2]), "channels must be an integer"),
    "a newer key": (shape(width_multiplier=2), "or of a newer version of zcpt: its 'shape' must have"),
    "no shape": (lambda document: document.update(shape=[]), "has no 'shape.image_size'"),
    "no layers": (lambda document: document["shape"].pop("layers"), "its 'shape' must have"),
    "no about": (lambda document: document.pop("about"), "has no 'about'"),
    "another space": (lambda document: document["architecture"].update(space="drats"), "did you mean 'darts'"),
    "an architecture of another space": (
        lambda document: document["architecture"].update(space="darts"), "not one of space 'darts'"
    ),
    "no architecture": (lambda document: document.update(architecture=[1]), "holds no architecture"),
    "too few classes": (lambda document: document.update(classes=["a"]), "the names of 3 classes"),
    "classes of numbers": (lambda document: document.update(classes=[1, 2, 3]), "the names of 3 classes"),
    "no classes": (lambda document: document.update(classes=None), "the names of 3 classes"),
    "statistics of no number": (lambda document: document.update(statistics=[["a"], [1]]), "means and deviations"),
    "one statistic": (lambda document: document.update(statistics=[[1]]), "means and deviations"),
    "not finite": (lambda document: document.update(statistics=[[float("nan")], [1]]), "means and deviations"),
    "no deviation": (lambda document: document.update(statistics=[[0], [0]]), "a positive deviation of 1 channel"),
    "too many": (lambda document: document.update(statistics=[[0, 0], [1, 1]]), "a positive deviation of 1 channel"),
    "numbers": (lambda document: document.update(statistics=7), "means and deviations"),
}  # fmt: skip


@pytest.mark.parametrize("damage", list(DAMAGED))
def test_a_description_that_cannot_be_true_is_refused_at_once(damage: str, model: Path) -> None:
    change, complaint = DAMAGED[damage]
    rewrite(model, change)
    started = time.process_time()
    with pytest.raises(ZcptError) as caught:
        load_network(model)
    assert complaint in str(caught.value)
    assert len(str(caught.value)) < 500
    assert time.process_time() - started < 5


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "1" * 5_000, "7", "null"])
def test_a_description_that_is_no_document_is_refused(text: str, model: Path) -> None:
    save_file({"x": torch.zeros(1)}, model, {"zcpt": text})
    with pytest.raises(ConfigError, match="model.safetensors is damaged"):
        load_network(model)


@pytest.mark.parametrize("position", [0, 7, 8, 60, 900, -1])
def test_a_file_that_is_cut_is_refused(position: int, model: Path) -> None:
    model.write_bytes(model.read_bytes()[:position])
    with pytest.raises(ZcptError) as caught:
        load_network(model)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("position", [0, 7, 8, 60, 900])
def test_a_file_with_a_changed_byte_is_refused(position: int, model: Path) -> None:
    content = model.read_bytes()
    model.write_bytes(content[:position] + b"\xff" + content[position + 1 :])
    with pytest.raises(ZcptError) as caught:
        load_network(model)
    assert len(str(caught.value)) < 500
