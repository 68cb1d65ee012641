"""Scores of architectures: from a table, by aggregates, and failures."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import pytest

import zcpt
from tests.conftest import random_architecture
from zcpt.journal import Journal
from zcpt.proxies import get_criterion
from zcpt.trials import ProxyScores, ScoreTable

SPACE = zcpt.get_space("nasbench201")
CELLS = list(dict.fromkeys(random_architecture(SPACE, seed) for seed in range(9)))[:4]


class Source:
    """Scores from a list: by params 3, 1, 2 and none; by ntk, of which lower is better, 1, 2, 3 and 4."""

    is_cheap = False

    def __init__(self) -> None:
        self.calls: list[zcpt.Architecture] = []

    def compute(self, architecture: zcpt.Architecture) -> dict[str, Any]:
        self.calls.append(architecture)
        index = CELLS.index(architecture)
        scores = {"params": [3.0, 1.0, 2.0, math.nan][index], "ntk": float(index + 1)}
        failures = {"params": "the score is nan"} if index == 3 else {}
        return {"architecture": SPACE.format(architecture), "scores": scores, "seconds": {}, "failures": failures}

    def describe(self) -> dict[str, Any]:
        return {}


def test_a_network_is_scored_once_and_kept_in_the_journal(tmp_path: Path) -> None:
    source, journal = Source(), Journal(tmp_path)
    scores = ProxyScores(SPACE, get_criterion("params"), source, journal=journal)
    assert scores([CELLS[0], CELLS[1], CELLS[0]]) == [3, 1, 3]
    assert scores(CELLS) == [3, 1, 2, -math.inf]
    assert source.calls == CELLS
    assert scores.get_scores(CELLS[2]) == {"params": 2, "ntk": 3}
    assert scores.explain_failure(CELLS) == "the score is nan"
    again = ProxyScores(SPACE, get_criterion("params"), source, journal=Journal(tmp_path))
    assert again.get_scores(CELLS[2]) == {}  # it was not asked for yet
    assert again(CELLS) == [3, 1, 2, -math.inf]
    assert len(source.calls) == 4


def test_the_direction_of_the_proxy_is_turned() -> None:
    assert ProxyScores(SPACE, get_criterion("ntk"), Source())(CELLS) == [-1, -2, -3, -4]


def test_an_aggregate_compares_all_that_have_been_scored() -> None:
    scores = ProxyScores(SPACE, get_criterion("rank_sum:params+ntk"), Source())
    assert scores(CELLS[1:3]) == [1 + 2, 2 + 1]
    # params: 3, 1, 2, none -> ranks 4, 2, 3, 1; ntk: 1, 2, 3, 4, of which lower is better -> ranks 4, 3, 2, 1.
    assert scores(CELLS) == [8, 5, 5, 2]
    assert scores(CELLS[1:3]) == [5, 5]


def write_table(path: Path) -> None:
    rows = [f"{i},{SPACE.format(CELLS[i])},90,{score}" for i, score in enumerate(["2.5", "", "inf"])]
    text = "\n".join(["index,architecture,accuracy,naswot", *rows]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def test_a_table_may_be_a_folder_or_a_file_gzipped_or_not(tmp_path: Path) -> None:
    criterion = get_criterion("naswot")
    for name in ("scores.csv", "other.csv.gz"):
        write_table(tmp_path / name)
    tables = [
        ScoreTable(path, SPACE, criterion) for path in (tmp_path, tmp_path / "scores.csv", tmp_path / "other.csv.gz")
    ]
    for table in tables:
        assert len(table) == 3
        # An empty field, an infinite score, and a cell that the table lacks.
        assert ProxyScores(SPACE, criterion, table)(CELLS) == [2.5, -math.inf, -math.inf, -math.inf]
    assert tables[0].describe() == {**tables[2].describe(), "source": "scores.csv"}


def test_a_wrong_table_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "scores.csv")
    with pytest.raises(zcpt.DataError, match="unknown proxy in .*scores.csv 'synflow'"):
        ScoreTable(tmp_path, SPACE, get_criterion("synflow"))
    with pytest.raises(zcpt.DataError, match="cannot be read: No such file"):
        ScoreTable(tmp_path / "none.csv", SPACE, get_criterion("naswot"))
    (tmp_path / "scores.csv").write_text("index,architecture,naswot\n0,cell,1\n")
    with pytest.raises(zcpt.DataError, match="scores.csv, line 2: "):
        ScoreTable(tmp_path, SPACE, get_criterion("naswot"))
    (tmp_path / "scores.csv").write_text("index,naswot\n0,1\n")
    with pytest.raises(zcpt.DataError, match="has no column 'architecture'"):
        ScoreTable(tmp_path, SPACE, get_criterion("naswot"))
