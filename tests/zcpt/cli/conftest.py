"""Helpers to call the command line, and a finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zcpt.cli import main

QUICK = ["--proposals", "2", "--validation-batches", "2", "--channels", "2", "--layers", "1", "--batch-size", "8"]
QUICK += ["--validation-batch-size", "8", "--device", "cpu"]
SMALL_TRAINING = ["--batch-size", "16", "--workers", "0", "--device", "cpu"]
CELL = "|nor_conv_1x1~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run a command; return exit code, standard output and standard error."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(autouse=True)
def quick_event_files(blank_pictures: None) -> None:
    """Draw no pictures in the tests of commands; the runs that several tests share have theirs."""


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished search with a finished training."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["search", "--space", "nasbench201", "--out", str(folder), *QUICK]) == 0
    words = [
        "train",
        "--arch",
        str(folder / "architecture.json"),
        "--epochs",
        "1",
        "--channels",
        "4",
        "--device",
        "cpu",
    ]
    assert main(words) == 0
    return folder


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[Path, bytes | None]:
    """Return the bytes of every file below a folder; None for folders."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def trained_on_pictures(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of a network that was trained for an epoch on three classes."""
    run = tmp_path_factory.mktemp("trained") / "run"
    words = f"train --space nasbench201 --arch {CELL} --recipe digits --epochs 1 --channels 4 --layers 1".split()
    assert main([*words, "--dataset", str(pictures), "--out", str(run), *SMALL_TRAINING]) == 0
    return run
