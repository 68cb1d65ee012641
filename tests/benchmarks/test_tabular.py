"""The benchmark of searches on tables, with tables of a few made-up rows."""

import csv
import gzip
import json
import sys

import pytest

import zcpt
from benchmarks import tabular
from benchmarks.tables import Trained, read_table
from benchmarks.variants import AGREEMENTS, VARIANTS, networks_scored, settings

RUNS = ["test_acc_run1_pct", "test_acc_run2_pct", "test_acc_run3_pct", "test_acc_mean_pct"]


def written(path, columns, *rows):
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture
def macro(tmp_path):
    rows = [[f"m{text}", 80 + i, 81 + i, 85 + i, 82 + i] for i, text in enumerate(["00000000", "22222222", "11111111"])]
    return written(tmp_path / "macro.csv.gz", ["arch8", *RUNS], *rows)


def test_nasbench201_has_the_mean_and_the_best_training(tmp_path):
    space = zcpt.get_space("nasbench201")
    cell = "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
    columns = ["arch_str", "c10_test_acc_200ep_pct", "c10_test_acc_200ep_nb201_per_seed_pct"]
    table = read_table(space, written(tmp_path / "t.csv.gz", columns, [cell, "51.5", "50;53"]))
    assert table.trained == {space.parse(cell): Trained(51.5, 53.0)}
    assert table.accuracy(space.parse(cell.replace("skip_connect", "none"))) is None


def test_nasbench_macro_is_looked_up_by_its_digits(macro):
    space = zcpt.get_space("nasbench-macro")
    table = read_table(space, macro)
    assert table.accuracy(space.parse("22222222")) == 83
    assert table.accuracy(space.parse("22222221")) is None
    assert table.about() == {"architectures": 3, "best": 84, "mean": 83}


def test_nasbench1shot1_is_looked_up_by_the_graph(tmp_path):
    space = zcpt.get_space("nasbench1shot1-1")

    def side_by_side(*operations):
        names = dict(zip(("node1", "node2", "node3"), operations, strict=True))
        kept = {f"{node}/operation": (name,) for node, name in names.items()}
        kept |= {"node3/parents": ("input", "1"), "output/parents": ("2", "3")}
        return space.architecture(kept)

    first = side_by_side("maxpool3x3", "conv3x3-bn-relu", "conv1x1-bn-relu")
    spec = space.spec(first)
    bits, ops = "a" + "".join(str(bit) for row in spec.matrix for bit in row), ",".join(spec.ops)
    rows = [["1", bits, ops, 90, 91, 95, 92], ["2", "of another space", ops, 1, 1, 1, 1]]
    table = read_table(space, written(tmp_path / "t.csv.gz", ["space", "adj49", "ops", *RUNS], *rows))
    assert table.trained == {first: Trained(92.0, 95.0)}
    assert table.accuracy(side_by_side("maxpool3x3", "conv1x1-bn-relu", "conv3x3-bn-relu")) == 92
    assert table.accuracy(side_by_side("conv3x3-bn-relu", "maxpool3x3", "conv1x1-bn-relu")) is None


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


def test_a_small_run_of_the_command(tmp_path, macro, monkeypatch):
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
