"""A training in its run folder: what it leaves as it was."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import pytest
import torch

import zcpt
from tests.conftest import LAYERS, random_architecture
from train.data import load_data
from train.loop import keep_random_state
from train.recipe import make_train_config
from train.run import train_architecture

ROOT = Path(zcpt.__file__).parents[1]
PACKAGES = ("zcpt", "train", "darts_space", "mobilenet_space")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_a_training_on_the_cpu_touches_no_gpu_and_keeps_the_callers_random_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a GPU was touched")

    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.cuda.get_rng_state", fail)
    space = zcpt.get_space("nasbench201")
    config = make_train_config(space, "digits", epochs=1, channels=2, layers=LAYERS["nasbench201"], batch_size=512)
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*available devices")
        train_architecture(space, random_architecture(space, 0), load_data("digits"), config, tmp_path / "run")
    assert torch.equal(torch.rand(()), expected)


def test_a_training_on_a_gpu_keeps_the_state_of_that_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, object]] = []
    monkeypatch.setattr("torch.cuda.get_rng_state", lambda device: calls.append(("get", device)))
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda state, device: calls.append(("set", device)))
    device = torch.device("cuda:1")
    with keep_random_state(device):
        torch.rand(3)
    assert calls == [("get", device), ("set", device)]


def test_every_fork_of_random_numbers_names_its_devices() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("fork_rng"):
                keywords = [keyword.arg for keyword in node.keywords]
                assert "devices" in keywords, f"{path}, line {node.lineno} forks the generators of all GPUs"
