"""Our scores beside published ones of the same networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import zcpt
from benchmarks.published_scores import pair_scores, read_rows, split_table
from zcpt.seeding import use_seed
from zcpt.tabular.measures import spearman

_EVERY = 40
"""Of the 1,104 architectures one in so many is scored here; ``benchmarks/published_scores.py`` compares all."""


def test_a_table_is_split_and_read_again(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("index,arch_str\n0,a\n1,b\n2,c\n")
    split_table(table, {"1"}, tmp_path)
    assert [row["arch_str"] for row in read_rows(tmp_path / "published.csv")] == ["b"]
    assert [row["arch_str"] for row in read_rows(tmp_path / "others.csv")] == ["a", "c"]


def test_scores_that_are_missing_or_not_finite_are_left_out() -> None:
    ours = {"a": {"synflow": "1"}, "b": {"synflow": "inf"}, "c": {"synflow": ""}, "d": {"synflow": "2"}}
    theirs = {name: {"synflow": value} for name, value in (("a", "5"), ("b", "6"), ("c", "7"), ("d", ""), ("e", "8"))}
    assert pair_scores(ours, theirs, "synflow") == ([1.0], [5.0])


@pytest.mark.data
def test_scores_rank_networks_as_published_ones_do(real_data: Path) -> None:
    tables = real_data / "tables"
    names = {row["index"]: row["arch_str"] for row in read_rows(tables / "nb201_accuracy.csv.gz")}
    published = {
        names[row["index"]]: row
        for row in read_rows(tables / "nb201_zcproxies_naslib_early.csv.gz")
        if (row["run"], row["dataset"]) == ("A725", "cifar10")
    }
    some = dict(list(published.items())[::_EVERY])
    space, batch = zcpt.get_space("nasbench201"), (torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]))
    shape = zcpt.NetworkConfig(16, 5, 10, 3, (32, 32))  # the benchmark's
    ours = {}
    for text in some:
        with use_seed(0):
            network = space.build_network(space.parse(text), shape)
        scores = zcpt.score(network, batch, ["synflow", "params"])
        ours[text] = {name: str(score) for name, score in scores.items()}
    for proxy, least in (("params", 0.9999), ("synflow", 0.98)):
        mine, theirs = pair_scores(ours, some, proxy)
        assert len(mine) == len(some) > 15
        assert spearman(mine, theirs) >= least
