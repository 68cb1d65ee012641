"""Helpers to call the command line, and a finished run."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcpt.cli import main

QUICK = ["--proposals", "2", "--validation-batches", "2", "--channels", "2", "--layers", "1", "--batch-size", "8"]
QUICK += ["--validation-batch-size", "8", "--device", "cpu"]


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run a command; return exit code, standard output and standard error."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


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
