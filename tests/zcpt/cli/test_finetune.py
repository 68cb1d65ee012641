"""Tests of ``zcpt train --from``: a trained network goes on with other images or classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import zcpt
from tests.zcpt.cli.conftest import CELL, SMALL_TRAINING
from train.checkpoint import INITIAL, WEIGHTS
from zcpt.cli import main

SMALL = ["--batch-size", "16", "--workers", "0", "--device", "cpu"]


def finetune(source: Path, dataset: Path, run: Path, *words: str) -> int:
    return main(["train", "--from", str(source), "--dataset", str(dataset), "--out", str(run), *SMALL_TRAINING, *words])


def test_the_weights_are_those_of_the_trained_network(
    trained_on_pictures: Path, pictures: Path, tmp_path: Path
) -> None:
    # With a learning rate of 0 the weights stay what they were at the start.
    assert (
        finetune(trained_on_pictures, pictures, tmp_path / "run", "--epochs", "1", "--lr", "0", "--warmup-epochs", "0")
        == 0
    )
    before, after = zcpt.load(trained_on_pictures), zcpt.load(tmp_path / "run")
    assert after.classes == before.classes
    assert after.statistics == before.statistics
    for (name, old), new in zip(before.network.named_parameters(), after.network.parameters(), strict=True):
        assert torch.equal(old, new), name


def test_other_classes_get_a_new_classifier(trained_on_pictures: Path, pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "two"
    other.mkdir()
    for name in ("dark", "light"):
        (other / name).symlink_to(pictures / name)
    words = ("--epochs", "1", "--lr", "0", "--warmup-epochs", "0")
    assert finetune(trained_on_pictures / WEIGHTS, other, tmp_path / "run", *words) == 0
    before, after = zcpt.load(trained_on_pictures), zcpt.load(tmp_path / "run")
    assert after.classes == ("dark", "light")
    names = [name for name, _ in before.network.named_parameters() if "classifier" not in name]
    weights = before.network.state_dict(), after.network.state_dict()
    assert names
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in names)
    assert after.network.get_classifier().out_features == 2


def test_a_training_that_was_killed_in_its_first_epoch_starts_from_the_same_weights(
    trained_on_pictures: Path, pictures: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "whole", tmp_path / "cut"
    for run in runs:
        assert finetune(trained_on_pictures, pictures, run, "--epochs", "2") == 0
    assert (runs[1] / INITIAL).read_bytes() == (trained_on_pictures / WEIGHTS).read_bytes()
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
        (f"--arch {CELL} --space nasbench201", "--arch cannot be given with --from"),
    ],
)
def test_what_the_network_says_is_refused_as_a_flag(
    trained_on_pictures: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    assert finetune(trained_on_pictures, pictures, tmp_path / "run", *words.split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_images_of_other_channels_are_refused(
    trained_on_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        "--from",
        str(trained_on_pictures),
        "--dataset",
        "digits",
        "--out",
        str(tmp_path / "run"),
        *SMALL_TRAINING,
    ]
    assert main(words) == 2
    assert "for other images, of 12x12 pixels and 3 channels" in capsys.readouterr().err


def test_a_missing_network_is_named(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune(tmp_path / "nothing", pictures, tmp_path / "run") == 2
    assert "nothing" in capsys.readouterr().err
