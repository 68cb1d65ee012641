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


def test_a_training_is_resumed_on_images_that_were_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_pictures(Path("pics"), 0)
    make_pictures(Path("others"), 1)
    genotype = "|none~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|none~2|"
    words = ["train", "--arch", genotype, "--space", "nasbench201", "--channels", "2", "--layers", "1"]
    assert main([*words, "--epochs", "1", "--device", "cpu", "--dataset", "folder:pics", "--out", "run"]) == 0
    Path("pics").rename("moved")
    arguments, resume = Path("run/args.yaml"), ["train", "--resume", "run", "--epochs", "2"]
    before = arguments.read_text()
    capsys.readouterr()
    assert main(resume) == 2
    assert "If the images of the run have moved, say where with --dataset or --data-dir." in capsys.readouterr().err
    for other, reason in (("folder:others", "its statistics is"), ("digits", "its name is folder:")):
        assert main([*resume, "--dataset", other]) == 2
        assert reason in capsys.readouterr().err
    assert arguments.read_text() == before
    assert main([*resume, "--dataset", "folder:moved"]) == 0
    assert f"name: folder:{tmp_path / 'moved'}\n" in arguments.read_text()
    assert main(["train", "--resume", "run"]) == 0
