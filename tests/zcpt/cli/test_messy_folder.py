"""A messy folder of pictures goes through search, training, prediction and export by four commands."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.zcpt.cli.conftest import QUICK
from zcpt.cli import main

MODES = ("RGB", "L", "P", "RGBA", "CMYK")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a flat folder: pictures of all modes and sizes, and what archives and file managers leave behind."""
    folder = tmp_path_factory.mktemp("messy") / "photos ü & more"
    random = np.random.default_rng(0)
    for number, name in enumerate(("cats & dogs", "höhe", "one picture")):
        (folder / name).mkdir(parents=True)
        for index in range(1 if name == "one picture" else 11):
            height, width = random.integers(20, 40, 2)
            values = np.clip(80 * number + random.normal(20, 10, (height, width, 3)), 0, 255).astype(np.uint8)
            mode = MODES[index % len(MODES)]
            suffix = "jpg" if mode == "CMYK" else "png"
            Image.fromarray(values).convert(mode).save(folder / name / f"picture {index} é.{suffix}")
        for junk in (".DS_Store", "Thumbs.db", "._a.png", "notes.txt"):
            (folder / name / junk).write_bytes(b"x")
    Image.fromarray(np.full((30, 20), 30_000, np.uint16)).save(folder / "höhe" / "deep.png")
    (folder / "__MACOSX").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "loose.png")
    return folder


def test_four_commands_lead_from_a_messy_folder_to_a_product(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run = tmp_path / "run"
    search = ["search", "--space", "nasbench201", "--dataset", str(photos), "--image-size", "16", "--out", str(run)]
    assert main([*search, *QUICK]) == 0
    said = caplog.text
    for part in ("24 pictures of 3 classes", "3 .DS_Store", "3 Thumbs.db", "3 ._*", "3 .txt", "1 __MACOSX"):
        assert part in said
    for part in ("1 picture outside the classes", "test part: 20 % of each class", "more than 8 bits"):
        assert part in said
    train = ["train", "--arch", str(run), "--epochs", "2", "--max-params", "10k", "--batch-size", "8"]
    assert main([*train, "--device", "cpu"]) == 0
    pictures = [str(photos / "höhe"), str(photos / "loose.png")]
    capsys.readouterr()
    assert main(["predict", str(run), *pictures, "--device", "cpu"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 13
    assert main(["export", str(run), "--format", "python", "--out", str(tmp_path / "network.py")]) == 0
    assert (tmp_path / "network.py").is_file()
