"""The shell scripts that train on all GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FAKE = """#!{python}
import json, pathlib, sys
if sys.argv[1] == "-c":
    print({gpus})
elif sys.argv[1] == "-m":
    with open("calls", "a") as file:
        file.write(json.dumps(sys.argv[2:]) + "\\n")
    if "search" in sys.argv:
        pathlib.Path("runs/cifar10").mkdir(parents=True, exist_ok=True)
        pathlib.Path("runs/cifar10/architecture.json").touch()
"""
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "4", "-m"]
SEARCH = ["zcpt", "search", "--space", "darts", "--dataset", "cifar10", "--download", "--out", "runs/cifar10"]
FOUND = ["--arch", "runs/cifar10"]


def call_script(folder: Path, script: str, *words: str, gpus: int = 0) -> list[list[str]]:
    """Run a script with a fake interpreter; return the words of its calls of modules."""
    fake = folder / "bin" / "python"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text(FAKE.format(python=sys.executable, gpus=gpus))
    fake.chmod(0o755)
    environment = {"VIRTUAL_ENV": "yes", "PATH": f"{fake.parent}:/usr/bin:/bin"}
    (folder / "calls").write_text("")
    command = ["bash", str(ROOT / "scripts" / script), *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def test_cifar10_is_searched_once_and_trained(tmp_path: Path) -> None:
    train = ["zcpt", "train", *FOUND, "--dataset", "cifar10", "--download"]
    assert call_script(tmp_path, "train_cifar10.sh") == [SEARCH, train]
    assert call_script(tmp_path, "train_cifar10.sh", "--epochs", "3") == [[*train, "--epochs", "3"]]
    assert call_script(tmp_path, "train_cifar10.sh", gpus=4) == [[*TORCHRUN, *train]]
    given = ["--arch=a b", "--lr", "1"]
    assert call_script(tmp_path, "train_cifar10.sh", *given) == [[*train[:2], *train[4:], *given]]
    assert call_script(tmp_path, "train_cifar10.sh", "--resume", "r", gpus=1) == [["zcpt", "train", "--resume", "r"]]


def test_an_unfinished_search_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "runs" / "cifar10").mkdir(parents=True)
    (tmp_path / "runs" / "cifar10" / "config.json").touch()
    assert call_script(tmp_path, "train_cifar10.sh")[0] == ["zcpt", "search", "--resume", "runs/cifar10"]


def test_the_search_reads_the_images_of_the_training(tmp_path: Path) -> None:
    assert call_script(tmp_path, "train_cifar10.sh", "--data-dir", "a b")[0] == [
        *SEARCH[:-2], "--data-dir", "a b", *SEARCH[-2:]
    ]  # fmt: skip


@pytest.mark.parametrize(("gpus", "recipe"), [(0, "imagenet"), (4, "imagenet-large-batch")])
def test_imagenet_has_the_recipe_of_the_machine(gpus: int, recipe: str, tmp_path: Path) -> None:
    first = TORCHRUN if gpus else []
    train = [*first, "zcpt", "train", "--dataset", "/a b"]
    calls = call_script(tmp_path, "train_imagenet.sh", "/a b", gpus=gpus)
    assert calls == [SEARCH, [*train, *FOUND, "--recipe", recipe]]
    words = ["--arch", "x", "--recipe", "mine.yaml"]
    assert call_script(tmp_path, "train_imagenet.sh", "/a b", *words, gpus=gpus) == [[*train, *words]]
    assert call_script(tmp_path, "train_imagenet.sh", "/a b", "--resume", "r", gpus=gpus) == [
        [*first, "zcpt", "train", "--resume", "r"]
    ]


def test_imagenet_needs_its_folder(tmp_path: Path) -> None:
    for words in ([], ["--epochs", "1"]):
        command = ["bash", str(ROOT / "scripts" / "train_imagenet.sh"), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2
        assert "PATH holds train/CLASS/ and val/CLASS/" in done.stderr
