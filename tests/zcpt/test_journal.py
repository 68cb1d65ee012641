"""Records that survive a kill."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.utils.data import TensorDataset

import zcpt
from zcpt import Choice, ConfigError, NetworkConfig, Supernet, SupernetSpace, WidthDepth
from zcpt.journal import Journal
from zcpt.search.decision import Decision

RECORDS = [{"step": 0, "scores": [1.5, -math.inf]}, {"step": 1, "scores": [0.1, math.inf]}]
NON_FINITE = ("nan", "inf", "-inf")


def write_journal(folder: Path) -> Path:
    journal = Journal(folder)
    for record in RECORDS:
        journal.append("proposal_000", record)
    return folder / "proposal_000.jsonl"


def test_records_are_read_back_exactly(tmp_path: Path) -> None:
    text = write_journal(tmp_path / "journal").read_text()
    assert "Infinity" not in text  # JSON has no such number
    assert Journal(tmp_path / "journal").records("proposal_000") == RECORDS
    assert Journal(tmp_path / "journal").records("proposal_001") == []


def test_every_line_is_on_disk_before_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk: list[int] = []
    monkeypatch.setattr("os.fsync", lambda file: on_disk.append(os.fstat(file).st_size))
    path = write_journal(tmp_path)
    first = path.read_bytes().index(b"\n") + 1
    assert on_disk == [first, path.stat().st_size]


def test_a_line_cut_short_at_any_byte_is_dropped_and_the_next_one_fits(tmp_path: Path) -> None:
    path = write_journal(tmp_path)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        journal = Journal(tmp_path)
        assert journal.records("proposal_000") == RECORDS[:1]
        journal.append("proposal_000", RECORDS[1])
        assert path.read_bytes() == whole


def as_decision(name: str, number: float) -> Decision:
    """Return a decision with one name for everything that has a name, and one number for every number."""
    numbers = (number, 0.5)
    parts = {"naswot": numbers, "synflow": numbers}
    return Decision(3, name, (name, "conv"), numbers, numbers, (name,), number, "decide", (name,), parts)


def same(one: Any, other: Any) -> bool:
    """Compare records; two values that are not a number are the same."""
    return repr(one) == repr(other)


@pytest.mark.parametrize("name", [*NON_FINITE, "NaN", "Infinity", "$float", "1.5"])
@pytest.mark.parametrize("number", [*map(float, NON_FINITE), -0.0, 0.1])
def test_names_stay_names_and_numbers_stay_numbers(tmp_path: Path, name: str, number: float) -> None:
    decision = as_decision(name, number)
    Journal(tmp_path).append("a", decision.to_record())
    assert same(Decision.from_record(Journal(tmp_path).records("a")[0]), decision)
    for record in ({"index": 7, "scores": {name: number}, "seconds": {name: 0.1}}, {"values": {name: [number]}}):
        Journal(tmp_path).append("b", record)
        assert same(Journal(tmp_path).records("b")[-1], record)


@pytest.mark.parametrize("name", NON_FINITE)
@pytest.mark.parametrize("number", NON_FINITE)
def test_journals_with_bare_strings_for_numbers_are_still_read(tmp_path: Path, name: str, number: str) -> None:
    record = as_decision(name, 0.25).to_record()
    (tmp_path / "a.jsonl").write_text(json.dumps(record).replace("0.25", f'"{number}"') + "\n")
    assert same(Decision.from_record(Journal(tmp_path).records("a")[0]), as_decision(name, float(number)))


class OddNames(SupernetSpace):
    """Candidates whose names read like numbers."""

    name = "odd-names"
    search_size = WidthDepth(4, 1)
    choices = tuple(Choice(name, NON_FINITE) for name in NON_FINITE)

    def build_supernet(self, config: NetworkConfig) -> Supernet:
        net = Supernet(self.choices)
        x = net.fixed("stem", nn.Conv2d(config.in_channels, 4, 3, padding=1), net.IMAGES)
        for choice in self.choices:
            x = net.mixed(f"edge{choice.name}", choice.name, {n: nn.Conv2d(4, 4, 1) for n in NON_FINITE}, x)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, config.num_classes))
        net.fixed("head", head, x)
        return net


def test_a_search_whose_candidates_read_like_numbers_is_resumed(tmp_path: Path, pictures: TensorDataset) -> None:
    options: dict[str, Any] = {"proxy": "hashed", "proposals": 1, "num_classes": 10, "batch_size": 4}
    options |= {"validation_batch_size": 4, "run_dir": tmp_path / "run"}
    result = zcpt.search(OddNames(), pictures, **options)
    journal = tmp_path / "run" / "journal" / "proposal_000.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))
    assert zcpt.search(OddNames(), pictures, resume=True, **options) == result


@pytest.mark.parametrize("line", ["{]", "[]", "1"])
def test_a_damaged_line_is_an_error_that_names_the_file(tmp_path: Path, line: str) -> None:
    path = write_journal(tmp_path)
    path.write_bytes(line.encode() + b"\n" + path.read_bytes())
    with pytest.raises(ConfigError, match=r"line 1 of .*proposal_000.jsonl is damaged"):
        Journal(tmp_path).records("proposal_000")


def test_without_a_folder_records_stay_in_memory() -> None:
    journal = Journal()
    journal.append("a", {"step": 0})
    assert journal.records("a") == [{"step": 0}]
