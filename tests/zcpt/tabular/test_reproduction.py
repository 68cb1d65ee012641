"""Reading of numbers, needs and hashes of measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

import zcpt
from zcpt.tabular.papers import ENTRIES
from zcpt.tabular.reproduction import Files, hash_journal, read_number

RESULT = {
    "mean": {"mean": 2.0, "sd": 1.0, "low": 1.0, "high": 3.0},
    "correlation": {"value": 0.5, "low": 0.4, "high": 0.6},
    "curve": [1.0, 2.0, 3.0],
    "chosen": [{"rank": 1}, None, {"rank": 3}, {"rank": None}],
    "single": [{"rank": 7}],
    "reached": None,
}


@pytest.mark.parametrize(
    ("path", "mean", "low"),
    [
        ("mean", 2.0, 1.0),
        ("correlation", 0.5, 0.4),
        ("curve/-1", 3.0, None),
        ("single/*/rank", 7.0, None),
        ("reached", None, None),
    ],
)
def test_a_number_is_read_with_its_interval(path: str, mean: float | None, low: float | None) -> None:
    number = read_number(RESULT, path)
    assert (number["mean"], number["low"]) == (mean, low)


def test_what_is_missing_does_not_count_in_a_mean() -> None:
    number = read_number(RESULT, "chosen/*/rank")
    assert number["mean"] == 2.0
    assert number["low"] is not None
    assert number["low"] < 1.0


def test_a_journal_has_another_hash_after_another_line(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "scores.jsonl").write_text("{}\n")
    before = hash_journal(tmp_path)
    assert before == hash_journal(tmp_path)
    (tmp_path / "seed_0" / "journal").mkdir(parents=True)
    (tmp_path / "seed_0" / "journal" / "proposal.jsonl").write_text("{}\n")
    assert hash_journal(tmp_path) != before


def test_files_are_found_by_their_names(tmp_path: Path) -> None:
    files = Files(tmp_path, tmp_path)
    assert files.find_table("nasbench201") is None
    assert files.find_images("cifar10") is None
    for name in ("nb201_accuracy.csv.gz", "nb201_other.csv.gz", "nb201.csv"):
        (tmp_path / name).touch()
    assert files.find_table("nasbench201") == tmp_path / "nb201.csv"
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert files.find_images("cifar10") == ["--dataset", "cifar10", "--data-dir", str(tmp_path)]
    (tmp_path / "imagenet16-120" / "train").mkdir(parents=True)
    assert files.find_images("imagenet16-120") == [
        "--dataset", f"folder:{tmp_path}/imagenet16-120", "--image-size", "16",
    ]  # fmt: skip


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    files = Files(tmp_path, tmp_path)
    with pytest.raises(zcpt.ConfigError, match="needs the table of darts .* and images of cifar10 .*, and a GPU"):
        ENTRIES["zcpt-darts-time"].check_needs(files, "full", has_gpu=False)
    with pytest.raises(zcpt.ConfigError, match=r"images of cifar10 .*--data-dir\)\.$"):
        ENTRIES["zcpt-darts-time"].check_needs(files, "small", has_gpu=False)
    with pytest.raises(zcpt.ConfigError, match="has no small scale: give --scale full"):
        ENTRIES["zcp-figure-1"].check_needs(files, "small", has_gpu=True)
