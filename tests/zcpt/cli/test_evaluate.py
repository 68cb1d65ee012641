"""Tests of ``zcpt evaluate`` on other data sets than the one of the training."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from train.checkpoint import WEIGHTS
from zcpt.cli import main


def evaluate(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["evaluate", *map(str, words), "--device", "cpu"])
    return code, *capsys.readouterr()


def read_accuracy(answer: str) -> tuple[float, int]:
    found = re.match(r"test accuracy (\S+) % on the (\d+) test images", answer)
    assert found
    return float(found[1]), int(found[2])


def test_a_file_of_weights_is_measured_on_a_named_data_set(
    trained_on_pictures: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, of_run, _ = evaluate(capsys, trained_on_pictures)
    assert code == 0
    words = (trained_on_pictures / WEIGHTS, "--dataset", pictures)
    assert evaluate(capsys, *words)[:2] == (0, of_run)


def test_a_file_of_weights_needs_a_data_set(trained_on_pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = evaluate(capsys, trained_on_pictures / WEIGHTS)
    assert code == 2
    assert "does not say on which images to measure: add --dataset" in err


def test_accuracies_by_class_add_up_to_the_whole(trained_on_pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = evaluate(capsys, trained_on_pictures, "--by-class")
    assert code == 0
    accuracy, count = read_accuracy(out)
    rows = re.findall(r"^(\w+) +(\S+) %  (\d+) of (\d+)", out, re.M)
    assert [row[0] for row in rows] == ["dark", "gray", "light"]
    assert sum(int(row[3]) for row in rows) == count
    assert accuracy == pytest.approx(100 * sum(int(row[2]) for row in rows) / count, abs=0.01)


def test_classes_are_matched_by_their_names(
    trained_on_pictures: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The classes of one data set after another have the same accuracies as all of them together."""
    _, whole, _ = evaluate(capsys, trained_on_pictures, "--dataset", pictures, "--validation-split", 1, "--by-class")
    for pair in (("gray", "light"), ("dark", "light")):
        folder = tmp_path / "-".join(pair)
        for name in pair:
            shutil.copytree(pictures / name, folder / name)
        words = (trained_on_pictures, "--dataset", folder, "--validation-split", 1, "--by-class")
        code, out, _ = evaluate(capsys, *words)
        assert code == 0
        for name in pair:
            line = next(line for line in whole.splitlines() if line.startswith(name))
            assert re.sub(" +", " ", line) in re.sub(" +", " ", out)


def test_a_class_that_the_network_does_not_know_is_named(
    trained_on_pictures: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "other"
    for old, new in (("dark", "dark"), ("light", "bright")):
        shutil.copytree(pictures / old, folder / new)
    code, _, err = evaluate(capsys, trained_on_pictures, "--dataset", folder)
    assert code == 2
    assert "of which it does not know bright" in err
