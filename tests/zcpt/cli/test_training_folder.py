"""The run folder of a training: damaged, of another version, finished, extended."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.zcpt.cli.conftest import content, run
from train.checkpoint import load_network
from train.loaders import name_worker_errors
from zcpt.errors import DataError, LostError


@pytest.fixture
def training(run_folder: Path, cwd: Path) -> Path:
    """Return a copy of a finished training."""
    return shutil.copytree(run_folder / "train" / "digits", cwd / "t")


ARGUMENTS = {
    "a missing setting": ("^epochs: .*\n", ""),
    "a newer setting": ("^epochs:", "new_setting: 3\nepochs:"),
    "text for a number": ("^epochs: .*$", "epochs: many"),
    "a list for a number": ("^lr: .*$", "lr: [1, 2]"),
    "a huge integer": ("^epochs: .*$", "epochs: " + "9" * 5000),
    "a date that is none": ("^epochs: .*$", "epochs: 2024-13-45"),
    "a time that is none": ("^epochs: .*$", "epochs: 2024-01-01 99:99:99"),
    "nested too deeply": ("^epochs: .*$", "epochs: " + "[" * 3000),
    "a negative number": ("^epochs: .*$", "epochs: -1"),
    "not a number": ("^lr: .*$", "lr: .nan"),
    "a number for the device": ("^device: .*$", "device: 3"),
    "a device that is none": ("^device: .*$", "device: hpu"),
    "a list for the data": (r"^data:\n(.*\n)*", "data: [1]\n"),
    "no data": (r"^data:\n(.*\n)*", ""),
    "a number for the data set": ("^  name: .*$", "  name: 7"),
    "a number for the directory": ("^  directory: .*$", "  directory: 7"),
    "text for the number of images": ("^  train_images: .*$", "  train_images: all"),
    "statistics of another kind": (r"^  statistics:\n(  .*\n)*", "  statistics: 5\n"),
    "an object of Python": ("^epochs: .*$", "epochs: !!python/object/apply:os.getcwd []"),
    "an alias of nothing": ("^epochs: .*$", "epochs: *x"),
    "a control character": ("^epochs: .*$", "epochs: \x01"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong_settings_are_named_in_one_sentence(
    name: str, training: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = training / "args.yaml"
    text, count = re.subn(*ARGUMENTS[name], path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)
    before = content(training)
    for words in (["train", "--resume", training], ["evaluate", training]):
        if words[0] == "evaluate" and name == "a device that is none":
            continue  # measured on another device than that of the training
        code, out, err = run(capsys, *words)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert "args.yaml" in err or "--device hpu" in err
    assert content(training) == before


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"", b"\0" * 100, b"[1, 2]", b"epochs: [", "größe".encode("latin1")])
def test_settings_that_are_no_settings(damage: bytes, training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (training / "args.yaml").write_bytes(damage)
    code, _, err = run(capsys, "train", "--resume", training)
    assert (code, err.count("\n")) == (2, 1)
    assert "args.yaml" in err


CHECKPOINTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda state: [state],
    "nothing": lambda state: None,
    "no rows": lambda state: {**state, "rows": []},
    "rows of text": lambda state: {**state, "rows": ["a"]},
    "rows of no epochs": lambda state: {**state, "rows": [{"a": 1.0}]},
    "text in rows": lambda state: {**state, "rows": [{**state["rows"][0], "test_accuracy": "good"}]},
    "another epoch": lambda state: {**state, "rows": [{**state["rows"][0], "epoch": 7}]},
    "weights of text": lambda state: {**state, "network": dict.fromkeys(state["network"], "a")},
    "a list of weights": lambda state: {**state, "network": list(state["network"].values())},
    "other weights": lambda state: {**state, "network": {"a": torch.zeros(1)}},
    "weights of other shapes": lambda state: {**state, "network": dict.fromkeys(state["network"], torch.zeros(1))},
    "no optimizer": lambda state: {key: value for key, value in state.items() if key != "optimizer"},
    "an optimizer of text": lambda state: {**state, "optimizer": "sgd"},
    "an optimizer of other parameters": lambda state: {**state, "optimizer": {"state": {}, "param_groups": []}},
    "groups of text": lambda state: {**state, "optimizer": {"state": {}, "param_groups": ["a"]}},
    "an architecture of text": lambda state: {**state, "architecture": "a"},
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_of_wrong_kinds_is_refused(name: str, training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = training / "last.pt"
    torch.save(CHECKPOINTS[name](torch.load(path, weights_only=True)), path)
    before = content(training)
    code, out, err = run(capsys, "train", "--resume", training, "--epochs", 2)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "last.pt" in err
    assert content(training) == before


def test_a_checkpoint_of_a_newer_version_is_read(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = training / "last.pt"
    torch.save({**torch.load(path, weights_only=True), "new": 1}, path)
    assert run(capsys, "train", "--resume", training)[0] == 0


def test_a_named_pipe_is_not_waited_for(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("last.pt", "args.yaml"):
        (training / name).unlink()
        os.mkfifo(training / name)
        code, _, err = run(capsys, "train", "--resume", training)
        assert (code, err.count("\n")) == (2, 1)
        assert "no regular file" in err


def test_a_finished_training_is_left_as_it_is(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in training.rglob("*") if path.is_file()}
    code, out, _ = run(capsys, "train", "--resume", training)
    assert code == 0
    assert out.startswith("test accuracy ")
    after = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in training.rglob("*") if path.is_file()}
    assert after == before


def test_a_network_that_is_lost_or_damaged_is_written_again(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = training / "model.safetensors"
    weights = load_network(path).network.state_dict()
    for content_now in (None, b"damaged"):
        path.unlink()
        if content_now is not None:
            path.write_bytes(content_now)
        assert run(capsys, "train", "--resume", training)[0] == 0
        assert all(torch.equal(value, weights[name]) for name, value in load_network(path).network.state_dict().items())


def test_a_finished_training_is_extended_and_never_shortened(
    training: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (training / "summary.csv").read_text().splitlines()
    assert run(capsys, "train", "--resume", training, "--epochs", 2)[0] == 0
    extended = (training / "summary.csv").read_text().splitlines()
    assert extended[:2] == rows
    assert len(extended) == 3
    assert yaml.safe_load((training / "args.yaml").read_text())["epochs"] == 2
    assert load_network(training / "model.safetensors").about["epochs"] == 2
    before = content(training)
    code, _, err = run(capsys, "train", "--resume", training, "--epochs", 1)
    assert code == 2
    assert "--epochs 1 is less than the 2 of" in err
    assert run(capsys, "train", "--resume", training, "--lr", 1)[0] == 2
    assert content(training) == before


class _Loader:
    """Loader whose worker fails in a way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __iter__(self) -> Any:
        yield torch.zeros(1, 1, 2, 2), torch.zeros(1)
        raise self.error


def test_a_killed_reader_of_images_and_a_broken_image_are_named() -> None:
    text = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File\n"
    for error, kind, message in (
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), LostError, "images was killed"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), LostError, "images was killed"),
        (DataError(f"{text}zcpt.errors.DataError: x.png is broken.\n"), DataError, "^x.png is broken.$"),
        (DataError("x.png is broken."), DataError, "^x.png is broken.$"),
        (RuntimeError("a bug"), RuntimeError, "^a bug$"),
    ):
        loader: Any = _Loader(error)
        with pytest.raises(kind, match=message):
            list(name_worker_errors(loader))


@pytest.mark.parametrize("name", ["train", "train/digits"])
def test_a_link_in_the_folder_of_a_search_leads_no_training_out_of_it(
    name: str, run_folder: Path, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = shutil.copytree(run_folder, cwd / "run")
    (search / name).rename(cwd / "elsewhere")
    (search / name).symlink_to(cwd / "elsewhere")
    before = content(cwd / "elsewhere")
    for flags in (["--arch", search / "architecture.json"], ["--arch", search], ["--resume", search]):
        code, _, error = run(capsys, "train", *flags, "--device", "cpu", "--epochs", "2")
        assert code == 2
        assert f"{search / name} is a symbolic link" in error
    assert content(cwd / "elsewhere") == before
