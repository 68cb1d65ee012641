"""The way of a user with a folder of pictures: search, training, evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from zcpt.cli import main

CELLS = "--space nasbench201 --channels 2 --layers 1 --proposals 1 --batch-size 4 --device cpu"


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pics" / label).mkdir(parents=True)
        for i in range(10):
            pixels = generator.integers(0, 256, (10 + i, 14, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pics" / label / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pics"


def test_a_flat_folder_is_searched_trained_on_and_evaluated_with_one_split_and_size(
    pictures: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    split = "--image-size 8 --validation-split 0.3 --split-seed 5"
    assert main(f"search --dataset pics --out run {CELLS} {split}".split()) == 0
    about = json.loads((Path("run") / "config.json").read_text())["data"]
    assert about["dataset"] == f"folder:{pictures}"
    kept = {"image_size": "8x8", "validation_split": 0.3, "split_seed": 5}
    assert {name: about[name] for name in kept} == kept
    assert any("6 pictures of them are the test part: 30 %" in record.getMessage() for record in caplog.records)
    size = "--epochs 1 --channels 2 --layers 1 --batch-size 8 --device cpu"
    assert main(f"train --arch run/architecture.json {size}".split()) == 0
    data = yaml.safe_load((Path("run") / "train" / "digits" / "args.yaml").read_text())
    assert {name: data["data"][name] for name in kept} == kept
    assert (data["crop_padding"], data["cutout"]) == (1, 2)
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 0
    answer = capsys.readouterr().out.splitlines()[0]
    shutil.move("pics", "moved")
    assert main(["evaluate", "run", "--dataset", "moved"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == answer.replace(str(pictures), str(pictures.parent / "moved"))
    assert main(["evaluate", "run"]) == 2


def test_other_images_are_brought_to_the_size_of_the_training(
    pictures: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(f"search --dataset pics --out run {CELLS}".split()) == 0
    size = "--epochs 1 --channels 2 --layers 1 --batch-size 8 --device cpu"
    assert main(f"train --arch run/architecture.json {size}".split()) == 0
    for label in ("cat", "dog"):
        (Path("large") / "test" / label).mkdir(parents=True)
        (Path("large") / "train" / label).mkdir(parents=True)
        for part in ("train", "test"):
            Image.new("RGB", (32, 24), (label == "cat" and "red") or "blue").save(Path("large", part, label, "a.png"))
    assert main(["evaluate", "run", "--dataset", "large"]) == 0
    assert "the images of 24x32 pixels are brought to the 14x14 of the training" in caplog.text
    assert "on the 2 test images" in capsys.readouterr().out


REFUSED = {
    "a wrong size": ("--dataset pics --image-size 8x", "'8x' is no image size: give pixels per side"),
    "an absurd size": ("--dataset pics --image-size 99999", "'99999' is no image size"),
    "a wrong share": ("--dataset pics --validation-split 2", "--validation-split 2.0 must be from 0 to 1"),
    "a split of digits": ("--dataset digits --split-seed 1", "digits has a test part of its own: leave out"),
    "nothing to search": ("--dataset pics --validation-split 1", "has no training images"),
}


@pytest.mark.parametrize(("words", "complaint"), REFUSED.values(), ids=REFUSED)
def test_wrong_flags_are_one_sentence(
    words: str, complaint: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(f"search --out run {CELLS} {words}".split()) == 2
    assert complaint in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_damaged_picture_ends_a_search_before_it_writes(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "cat" / "bad.png").write_bytes(b"DDS |\0\0\0" + bytes(90))
    assert main(f"search --dataset pics --out run {CELLS}".split()) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "bad.png cannot be read" in error
    assert not Path("run").exists()
