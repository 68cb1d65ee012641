"""Tests of ``zcpt train --from``: a trained network goes on with other images or classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zcpt
from train.checkpoint import INITIAL, WEIGHTS
from zcpt.cli import main

SMALL = ["--batch-size", "16", "--workers", "0", "--device", "cpu"]
TEXT = "|nor_conv_1x1~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three classes of one brightness with noise, 12x12 pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number, name in enumerate(("dark", "gray", "light")):
        (folder / name).mkdir()
        for index in range(24):
            values = 40 + 80 * number + random.integers(0, 40, (12, 12, 3))
            Image.fromarray(values.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of a network that was trained for an epoch on three classes."""
    run = tmp_path_factory.mktemp("trained") / "run"
    words = f"train --space nasbench201 --arch {TEXT} --recipe digits --epochs 1 --channels 4 --layers 1".split()
    assert main([*words, "--dataset", str(pictures), "--out", str(run), *SMALL]) == 0
    return run


def finetune(source: Path, dataset: Path, run: Path, *words: str) -> int:
    return main(["train", "--from", str(source), "--dataset", str(dataset), "--out", str(run), *SMALL, *words])


def test_the_weights_are_those_of_the_trained_network(trained: Path, pictures: Path, tmp_path: Path) -> None:
    # With a learning rate of 0 the weights stay what they were at the start.
    assert finetune(trained, pictures, tmp_path / "run", "--epochs", "1", "--lr", "0", "--warmup-epochs", "0") == 0
    before, after = zcpt.load(trained), zcpt.load(tmp_path / "run")
    assert after.classes == before.classes
    assert after.statistics == before.statistics
    for (name, old), new in zip(before.network.named_parameters(), after.network.parameters(), strict=True):
        assert torch.equal(old, new), name


def test_other_classes_get_a_new_classifier(trained: Path, pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "two"
    other.mkdir()
    for name in ("dark", "light"):
        (other / name).symlink_to(pictures / name)
    words = ("--epochs", "1", "--lr", "0", "--warmup-epochs", "0")
    assert finetune(trained / WEIGHTS, other, tmp_path / "run", *words) == 0
    before, after = zcpt.load(trained), zcpt.load(tmp_path / "run")
    assert after.classes == ("dark", "light")
    names = [name for name, _ in before.network.named_parameters() if "classifier" not in name]
    weights = before.network.state_dict(), after.network.state_dict()
    assert names
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in names)
    assert after.network.get_classifier().out_features == 2


def test_a_training_that_was_killed_in_its_first_epoch_starts_from_the_same_weights(
    trained: Path, pictures: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "whole", tmp_path / "cut"
    for run in runs:
        assert finetune(trained, pictures, run, "--epochs", "2") == 0
    assert (runs[1] / INITIAL).read_bytes() == (trained / WEIGHTS).read_bytes()
    for name in ("last.pt", "summary.csv", "classes.csv", WEIGHTS):
        (runs[1] / name).unlink()
    assert main(["train", "--resume", str(runs[1]), "--device", "cpu"]) == 0
    assert (runs[0] / WEIGHTS).read_bytes()[-4096:] == (runs[1] / WEIGHTS).read_bytes()[-4096:]
    loaded = [zcpt.load(run).network.state_dict() for run in runs]
    assert all(torch.equal(loaded[0][name], loaded[1][name]) for name in loaded[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--channels 8", "--channels cannot be given with --from"),
        ("--max-params 10k", "--max-params cannot be given with --from"),
        (f"--arch {TEXT} --space nasbench201", "--arch cannot be given with --from"),
    ],
)
def test_what_the_network_says_is_refused_as_a_flag(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert finetune(trained, pictures, tmp_path / "run", *words.split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_images_of_other_channels_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--from", str(trained), "--dataset", "digits", "--out", str(tmp_path / "run"), *SMALL]
    assert main(words) == 2
    assert "for other images, of 12x12 pixels and 3 channels" in capsys.readouterr().err


def test_a_missing_network_is_named(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune(tmp_path / "nothing", pictures, tmp_path / "run") == 2
    assert "nothing" in capsys.readouterr().err
