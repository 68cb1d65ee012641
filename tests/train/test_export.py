"""Export of trained networks: every format is read back and compared, for every space."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from packaging.version import Version
from torch import nn

import zcpt
from tests.conftest import FEW, SPACES, random_architecture, tiny_network_config
from train.checkpoint import TrainedNetwork
from train.export import FORMATS, Classify, ExportTask, compare_logits, export_network, make_task
from train.onnx_files import OLDEST_TORCH, make_onnx_classifier, quantize_onnx
from zcpt import ConfigError
from zcpt.space import SearchSpace

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
HAS_ONNX = Version(torch.__version__) >= OLDEST_TORCH and all(
    importlib.util.find_spec(package) for package in FORMATS["onnx"].packages
)
STATISTICS = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def make_trained(space: SearchSpace, *, seed: int = 0, without: str = "noise", **changes: Any) -> TrainedNetwork:
    """Return a small network whose BatchNorms have seen some images."""
    config = tiny_network_config(space, **{"image_size": (15, 17), **changes})
    architecture = random_architecture(space, seed, without)
    torch.manual_seed(seed)
    network = space.build_network(architecture, config)
    network.set_drop_path(0.2)
    for _ in range(3):
        network(torch.randn(8, 3, *config.image_size))
    classes = (*"abcdefghi", "a 'quoted' \"name\"\n{}")
    return TrainedNetwork(network.eval(), space, architecture, config, STATISTICS, classes, {"epochs": 1})


def export(space: SearchSpace, name: str, folder: Path, **options: Any) -> tuple[ExportTask, Path]:
    """Export a network in a format, and check how much it differs."""
    if name == "onnx" and not HAS_ONNX:
        pytest.skip("the packages of zcpt[export] are not installed")
    config = {"image_size": options["image_size"]} if "image_size" in options else {}
    task = make_task(make_trained(space, **config), **options)
    path = folder / f"net work{FORMATS[name].suffixes[0]}"
    comparison = export_network(task, name, path, [torch.rand(5, *task.images.shape[1:])])
    assert comparison.difference < 1e-5
    assert (comparison.random_images, comparison.real_images) == (10, 5)
    assert sorted(folder.iterdir()) == sorted(FORMATS[name].list_files(path))
    return task, path


@pytest.mark.slow
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", list(FORMATS))
def test_every_space_is_exported_to_every_format(
    space: SearchSpace, name: str, normalize: bool, tmp_path: Path
) -> None:
    if name == "safetensors" and normalize:
        pytest.skip("weights alone normalise nothing")
    export(space, name, tmp_path, normalize=normalize)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("space_name", ["darts", "proxyless"])
def test_networks_of_large_odd_images_are_exported(space_name: str, name: str, tmp_path: Path) -> None:
    export(zcpt.get_space(space_name), name, tmp_path, image_size=(129, 131))


@pytest.mark.parametrize("name", list(FORMATS))
def test_files_are_read_back_at_every_batch_size(name: str, tmp_path: Path) -> None:
    task, path = export(zcpt.get_space("nasbench201"), name, tmp_path)
    classify = FORMATS[name].load(path)
    for size in range(1, 8):
        images = torch.randn(size, 3, 15, 17)
        with torch.no_grad():
            torch.testing.assert_close(classify(images), task.network(images), atol=1e-5, rtol=0)


@pytest.mark.few_spaces
def test_each_kind_of_space_is_exported_at_another_size(space: SearchSpace, tmp_path: Path) -> None:
    task = make_task(make_trained(space), normalize=True, image_size=(9, 16))
    assert export_network(task, "torchscript", tmp_path / "net.torchscript").is_equal
    assert task.images.shape == (2, 3, 9, 16)


def test_normalisation_is_exported(tmp_path: Path) -> None:
    task, path = export(zcpt.get_space("nasbench201"), "torchscript", tmp_path, normalize=True)
    images = torch.rand(2, 3, 15, 17)
    mean, std = (torch.tensor(values)[:, None, None] for values in STATISTICS)
    network: Any = task.trained.network
    torch.testing.assert_close(FORMATS["torchscript"].load(path)(images), network((images - mean) / std))


def test_files_describe_the_network(tmp_path: Path) -> None:
    task, path = export(zcpt.get_space("nasbench201"), "torch-export", tmp_path)
    extra = {"zcpt.json": ""}
    torch.export.load(path, extra_files=extra)
    about = json.loads(extra["zcpt.json"])
    assert about == json.loads(json.dumps(task.description))
    assert about["classes"][-1] == "a 'quoted' \"name\"\n{}"
    assert (about["image_size"], about["mean"]) == ([15, 17], [0.5, 0.4, 0.3])


BLOCKED = ("zcpt", "train", "darts_space", "mobilenet_space", "timm", "torchvision", "safetensors")


RUN_FILES = f"""
import runpy, sys, torch

sys.modules.update(dict.fromkeys({BLOCKED!r}))
images = torch.load("images.pt")
for path in sys.argv[1:]:
    module = runpy.run_path(path)
    torch.save(module["load_network"]()(images), path + ".logits")
    print(module["CLASSES"][-1])
"""


@pytest.mark.parametrize("names", [FEW, pytest.param([n for n in SPACES if n not in FEW], marks=pytest.mark.slow)])
def test_the_python_files_run_without_zcpt(names: Sequence[str], tmp_path: Path) -> None:
    tasks = {}
    for name in names:
        (tmp_path / name).mkdir()
        task, path = export(zcpt.get_space(name), "python", tmp_path / name)
        tasks[path] = task
    images = torch.randn(3, 3, 15, 17)
    torch.save(images, tmp_path / "images.pt")
    words = [sys.executable, "-c", RUN_FILES, *map(str, tasks)]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.stderr == ""
    assert result.stdout == "".join(task.trained.classes[-1] + "\n" for task in tasks.values())
    for path, task in tasks.items():
        with torch.no_grad():
            assert torch.equal(torch.load(f"{path}.logits"), task.network(images))


@pytest.mark.skipif(not HAS_ONNX, reason="the packages of zcpt[export] are not installed")
def test_int8_gives_nearly_the_same_logits(tmp_path: Path) -> None:
    task, path = export(zcpt.get_space("nasbench201"), "onnx", tmp_path)
    quantize_onnx(path, tmp_path / "int8.onnx", [torch.randn(16, 3, 15, 17) for _ in range(4)])
    comparison = compare_logits(task, make_onnx_classifier(tmp_path / "int8.onnx"))
    assert 0 < comparison.difference < 0.5 * comparison.largest_logit
    assert b"QuantizeLinear" in (tmp_path / "int8.onnx").read_bytes()


def test_a_file_that_gives_other_logits_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(make_trained(zcpt.get_space("nasbench201")))

    def load(path: Path) -> Classify:
        return lambda images: task.network(images) + 2e-4

    monkeypatch.setitem(cast(dict[str, Any], FORMATS), "python", replace(FORMATS["python"], load=load))
    with pytest.raises(ConfigError, match=r"exported as python gives other logits, by up to 0\.0002"):
        export_network(task, "python", tmp_path / "net.py")
    assert list(tmp_path.iterdir()) == []


class Untraceable(nn.Module):
    """Branches on the values of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("name", ["python", "torchscript"])
def test_a_part_that_cannot_be_traced_is_named(name: str, tmp_path: Path) -> None:
    trained = make_trained(zcpt.get_space("nasbench201"))
    trained.network.stem = Untraceable()
    with pytest.raises(ConfigError, match=r"symbolically traced variables cannot be used .*choose another --format"):
        export_network(make_task(trained), name, tmp_path / f"net{FORMATS[name].suffixes[0]}")
    assert list(tmp_path.iterdir()) == []


def test_random_networks_are_refused() -> None:
    space = zcpt.get_space("darts-s4")
    with pytest.raises(ConfigError, match="random output"):
        make_task(make_trained(space, without="sep_conv|dil_conv|skip_connect"))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package 'onnx': install it by \"pip install 'zcpt\[export\]'\""):
        export_network(make_task(make_trained(zcpt.get_space("nasbench201"))), "onnx", tmp_path / "net.onnx")
