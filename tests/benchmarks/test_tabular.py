"""The benchmark of searches on tables, with tables of a few made-up rows."""

import json
import sys

import pytest

import zcpt
from benchmarks import tabular
from benchmarks.variants import AGREEMENTS, VARIANTS, networks_scored, settings
from tests.zcpt.tabular.conftest import macro  # noqa: F401  # a fixture


@pytest.mark.parametrize(
    ("space", "variant", "candidates", "scored"),
    [
        ("nasbench201", "default", 10, (300, 1000)),
        ("nasbench-macro", "V=10", 8, (240, 80)),
        ("nasbench1shot1-1", "V=10", 1, (340, 0)),
        ("nasbench201", "global-op-iter order, N=1", 1, (105, 0)),
    ],
)
def test_networks_scored(space, variant, candidates, scored):
    space = zcpt.get_space(space)
    config = settings(space, VARIANTS[variant], seed=0)
    assert networks_scored(space, config, candidates) == scored
    assert config.valid_only == ("1shot1" in space.name)


def test_a_small_run_of_the_command(tmp_path, macro, monkeypatch):  # noqa: F811
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["tabular.py", "--space", "nasbench-macro", *words])
        tabular.main()
        return json.loads((tmp_path / "nasbench-macro.json").read_text())["rows"]

    small = {"channels": 4, "batch_size": 8, "validation_batch_size": 8}
    monkeypatch.setitem(VARIANTS, "V=10", {**small, "proposals": 2, "validation_batches": 3})
    monkeypatch.setitem(AGREEMENTS, "default", small)
    monkeypatch.setattr(tabular, "RESULTS", tmp_path)
    common = ("--table", str(macro), "--dataset", "digits", "--seeds", "0")
    searched = run(*common, "--variants", "V=10")
    rows = run(*common, "--variants", "V=10", "--random", "V=10", "--agreement", "default")
    assert rows[:1] == searched
    assert [row["kind"] for row in rows] == ["search", "random", "agreement"]
    assert rows[1]["evaluations"] == 2 * 24 + 3 * len(rows[0]["candidates"]) * (len(rows[0]["candidates"]) > 1)
    assert rows[1]["best drawn"] == 84
    assert rows[1]["accuracy"] == 83
    assert rows[1]["spearman"] == 0.5
    run("--report")
    page = (tmp_path / "nasbench-macro.md").read_text()
    assert "best of the\n3 architectures 84.00, mean, which is what picking one blindly comes to, 83.00" in page
    assert f"The table lacks {rows[0]['proposals'].count(None)} of 2 proposals." in page
    assert page.count("\n| V=10 | 0 |") == 2
    assert page.count("\n| default | 0 |") == 1
