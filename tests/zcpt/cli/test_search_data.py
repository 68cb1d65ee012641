"""Where a run folder finds its images again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from PIL import Image

from zcpt.cli import main

SEARCH = (
    "search --space nasbench201 --channels 2 --layers 1 --proposals 1 --batch-size 4 --device cpu "
    "--dataset folder:pics --out run"
)


def make_pictures(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    for part in ("train", "test"):
        for label in ("a", "b"):
            (folder / part / label).mkdir(parents=True)
            for number in range(6):
                picture = Image.frombytes("RGB", (8, 8), draw.randbytes(8 * 8 * 3))
                picture.save(folder / part / label / f"{number}.png")


def test_a_search_on_a_relative_folder_is_resumed_from_elsewhere_and_after_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_figure", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    make_pictures(Path("pics"), 0)
    make_pictures(Path("others"), 1)
    assert main(SEARCH.split()) == 0
    config = Path("run/config.json").absolute()
    assert json.loads(config.read_text())["data"]["dataset"] == f"folder:{tmp_path / 'pics'}"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["search", "--resume", "../run"]) == 0
    (tmp_path / "pics").rename(tmp_path / "moved")
    capsys.readouterr()
    assert main(["search", "--resume", "../run"]) == 2
    assert "If the images of the run have moved, say where with --dataset or --data-dir." in capsys.readouterr().err
    assert main(["search", "--resume", "../run", "--dataset", "folder:../others"]) == 2
    assert "belongs to another search: its fingerprint" in capsys.readouterr().err
    assert main(["search", "--resume", "../run", "--dataset", "folder:../moved"]) == 0
    assert main(["search", "--resume", "../run"]) == 0
    assert main(["replay", "../run", "--device", "cpu"]) == 0
