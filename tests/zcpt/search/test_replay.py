"""Replays of finished searches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import zcpt
from tests.zcpt.search.conftest import run_small_search
from zcpt import ConfigError

SPACE = zcpt.get_space("nasbench201")


@pytest.fixture
def run(pictures: TensorDataset, tmp_path: Path) -> Any:
    run_small_search(SPACE, pictures, proxy="hashed", proposals=2, run_dir=tmp_path / "run")
    return tmp_path / "run"


def content(folder: Any) -> Any:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("order", ["random", "global-op-iter"])
def test_a_replay_is_the_same_search(order: str, pictures: TensorDataset, tmp_path: Path) -> None:
    run_small_search(SPACE, pictures, proxy="naswot", order=order, proposals=2, run_dir=tmp_path / "run")
    before = content(tmp_path / "run")
    outcome = zcpt.replay(tmp_path / "run", pictures)
    assert (outcome.difference, outcome.largest_gap) == ("", 0)
    assert outcome.decisions == 2 * (6 if order == "random" else 6 + 21)
    assert content(tmp_path / "run") == before


def test_the_first_difference_is_named(run: Any, pictures: TensorDataset) -> None:
    journal = run / "journal" / "proposal_001.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[2]["kept"] = ["none" if lines[2]["kept"] != ["none"] else "skip_connect"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcome = zcpt.replay(run, pictures)
    assert outcome.difference.startswith("proposal 1, step 2: kept is (")
    assert outcome.decisions == 6 + 2


def test_changed_scores_are_measured(run: Any, pictures: TensorDataset) -> None:
    journal = run / "journal" / "proposal_000.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[4]["scores"][1] += 0.25
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcome = zcpt.replay(run, pictures)
    assert outcome.difference == ""
    assert outcome.largest_gap == pytest.approx(0.25)


def test_other_images_another_result_and_a_short_journal_are_differences(run: Any, pictures: TensorDataset) -> None:
    others = TensorDataset(torch.randn(40, 3, 8, 8), torch.arange(40) % 10)
    assert "the images, or their augmentation, are not those" in zcpt.replay(run, others).difference
    (run / "journal" / "proposal_001.jsonl").write_text("")
    assert "ends after 0 lines" in zcpt.replay(run, pictures).difference


def test_replaying_an_unfinished_search_is_refused(run: Any, pictures: TensorDataset) -> None:
    (run / "architecture.json").unlink()
    with pytest.raises(ConfigError, match="is not finished: resume it with --resume"):
        zcpt.replay(run, pictures)
