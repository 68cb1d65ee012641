"""``zcpt train`` by a recipe, and within budgets."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.zcpt.cli.conftest import run
from zcpt.space import NetworkConfig
from zcpt.space_registry import get_space

CELL = "|skip_connect~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
WORDS = ["train", "--space", "nasbench201", "--arch", CELL, "--epochs", 1, "--device", "cpu", "--out", "t"]
SMALL = ["--channels", 2, "--layers", 1]
Output = pytest.CaptureFixture[str]


def read_settings() -> dict[str, Any]:
    """Return what ``args.yaml`` holds."""
    settings: dict[str, Any] = yaml.safe_load(Path("t", "args.yaml").read_text())
    return settings


def test_a_budget_chooses_width_and_depth(cwd: Path, capsys: Output, caplog: pytest.LogCaptureFixture) -> None:
    code, out, _ = run(capsys, *WORDS, "--max-params", "4k", "--max-macs", "1M", "--batch-size", 512)
    assert code == 0
    settings, space = read_settings(), get_space("nasbench201")
    config = NetworkConfig(settings["channels"], settings["layers"], 10, 1, (8, 8))
    cost = space.cost(space.parse(CELL), config)
    assert 3000 < cost.params <= 4000
    assert f"C={config.channels}, {space.describe_layers(config.layers)}" in caplog.text
    assert re.search(r"size +3\.\d+k parameters", out)


def test_a_budget_that_nothing_fits_writes_nothing(cwd: Path, capsys: Output) -> None:
    code, _, err = run(capsys, *WORDS, "--max-params", "10")
    assert (code, err.count("\n")) == (2, 1)
    assert "no width and depth fits --max-params 10: the smallest network has" in err
    assert not Path("t").exists()


def test_a_recipe_of_the_user_trains(cwd: Path, capsys: Output) -> None:
    Path("mine.yaml").write_text("summary: mine\nimage_side: 8\nvalues: {batch_size: 512, lr: 0.07, cutout: 3}\n")
    code, _, _ = run(capsys, *WORDS, *SMALL, "--recipe", "mine.yaml", "--lr", 0.05)
    assert code == 0
    settings = read_settings()
    assert {key: settings[key] for key in ("recipe", "batch_size", "lr", "cutout")} == {
        "recipe": "mine",
        "batch_size": 512,
        "lr": 0.05,
        "cutout": 3,
    }


def test_large_pictures_are_brought_to_the_size_of_the_recipe(cwd: Path, capsys: Output) -> None:
    Path("mine.yaml").write_text("image_size: 16\nvalues: {batch_size: 8}\n")
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            Path("pics", part, label).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (30, 24), (label == "cat" and "red") or "blue").save(
                    Path("pics", part, label, f"{i}.png")
                )
    words = [*WORDS, *SMALL, "--recipe", "mine.yaml", "--dataset", "pics"]
    assert run(capsys, *words)[0] == 0
    assert read_settings()["data"]["image_size"] == "16x16"
    assert run(capsys, "evaluate", "t")[0] == 0
    assert run(capsys, *words[:-2], "--dataset", "pics", "--image-size", 20, "--out", "u")[0] == 0
    assert yaml.safe_load(Path("u", "args.yaml").read_text())["data"]["image_size"] == "20x20"


def test_a_reduced_recipe_has_fewer_channels_and_pixels(cwd: Path, capsys: Output) -> None:
    Path("mine.yaml").write_text(
        "size: usual\nwidth: 0.25\nresolution: 0.5\nvalues: {samples: 0.1, holdout: 0.2, batch_size: 64}\n"
    )
    for label in ("cat", "dog"):
        for part in ("train", "test"):
            Path("pics", part, label).mkdir(parents=True)
            for i in range(8):
                picture = Image.new("RGB", (32, 40), "red" if label == "cat" else "blue")
                picture.save(Path("pics", part, label, f"{i}.png"))
    words = [*WORDS, "--recipe", "mine.yaml", "--dataset", "pics", "--layers", 1, "--samples", 0.5]
    assert run(capsys, *words)[0] == 0
    settings = read_settings()
    assert (settings["channels"], settings["samples"], settings["batch_size"]) == (4, 0.5, 32)
    assert settings["data"]["image_size"] == "20x16"
    assert run(capsys, *words, "--image-size", 24, "--out", "u")[0] == 0
    assert yaml.safe_load(Path("u", "args.yaml").read_text())["data"]["image_size"] == "24x24"


def test_recipes_are_listed_with_epochs_batch_and_cost(capsys: Output) -> None:
    code, out, _ = run(capsys, "list", "recipes")
    assert code == 0
    heading, cifar, *_ = out.splitlines()
    assert heading.split() == ["recipes", "epochs", "batch", "for", "rough", "cost"]
    assert re.fullmatch(r"  cifar +600 +96 +DARTS' recipe for CIFAR-10, exactly +1\.5 GPU days.*", cifar)


def test_the_measurement_is_repeated_with_the_crop_of_the_training(cwd: Path, capsys: Output) -> None:
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in map(str, range(12)):
            Path("pics", part, label).mkdir(parents=True)
            for i in range(2):
                pixels = generator.integers(0, 256, (14, 14, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(Path("pics", part, label, f"{i}.png"))
    Path("mine.yaml").write_text("values: {batch_size: 8, test_crop: 0.5, interpolation: bicubic}\n")
    code, out, _ = run(capsys, *WORDS, *SMALL, "--recipe", "mine.yaml", "--dataset", "pics")
    assert code == 0
    accuracies = re.match(r"test accuracy ([\d.]+) % after 1 epoch, top-5 ([\d.]+) %", out)
    code, out, _ = run(capsys, "evaluate", "t")
    again = re.match(r"test accuracy ([\d.]+) % on the 24 .* \(top-5 ([\d.]+) %, loss ([\d.]+)\)", out)
    assert accuracies
    assert again
    assert accuracies.groups() == again.groups()[:2]
    (row,) = csv.DictReader(Path("t", "summary.csv").read_text().splitlines())
    assert float(again[3]) == pytest.approx(float(row["test_loss"]), abs=1e-4)
