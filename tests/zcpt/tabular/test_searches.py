"""Searches, looked up."""

import json

import pytest

import zcpt
from tests.zcpt.tabular.conftest import RUNS, write_csv
from zcpt.batches import DatasetBatches
from zcpt.tabular import read_table
from zcpt.tabular.searches import measure_searches

SMALL = {"proxy": "hashed", "channels": 4, "proposals": 2, "validation_batches": 2, "batch_size": 4}
SMALL["validation_batch_size"] = 4


@pytest.fixture
def whole(tmp_path):
    """All chains, with the number that their digits make in base 3, from 0 to 93.7, as accuracy."""
    texts = [f"{a}{b}{c}{d}{e}{f}{g}{h}" for a in "012" for b in "012" for c in "012" for d in "012" for e in "012"
             for f in "012" for g in "012" for h in "012"]  # fmt: skip
    return read_table(
        write_csv(tmp_path / "t.csv", ["arch8", *RUNS], *([f"m{t}", *[int(t, 3) / 70] * 3] for t in texts)),
        "nasbench-macro",
    )


def run_measurement(table, pictures, folder, **options):
    return measure_searches(
        table, lambda seed: DatasetBatches(pictures, num_classes=10), folder, seeds=[0, 1, 2], **{**SMALL, **options}
    )


def test_what_each_seed_finds_is_looked_up(whole, pictures, tmp_path):
    result = run_measurement(whole, pictures, tmp_path / "a")
    for row in result["searches"]:
        run = tmp_path / "a" / f"seed_{row['seed']}"
        found = (run / "genotype.txt").read_text().strip()
        assert row["architecture"] == found
        assert row["accuracy"] == pytest.approx(int(found, 3) / 70)
        assert row["rank"] == 3**8 - int(found, 3)
        assert len(row["proposals"]) == 2
        assert json.loads((run / "config.json").read_text())["search"]["seed"] == row["seed"]
        assert row["seconds"] > 0
    summary = result["results"]
    accuracies = [row["accuracy"] for row in result["searches"]]
    assert summary["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 3)
    assert summary["not_in_table"] == 0
    assert result["protocol"]["table"]["best"] == pytest.approx((3**8 - 1) / 70)


def test_it_goes_on_where_it_was_stopped(whole, pictures, tmp_path):
    first = run_measurement(whole, pictures, tmp_path / "a")
    journal = tmp_path / "a" / "journal" / "searches.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:1]))
    decisions = tmp_path / "a" / "seed_1" / "journal" / "proposal_001.jsonl"
    decisions.write_bytes(b"".join(decisions.read_bytes().splitlines(keepends=True)[:3]))
    again = run_measurement(whole, pictures, tmp_path / "a")
    for one, other in zip(first["searches"], again["searches"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    with pytest.raises(zcpt.ConfigError, match="another measurement: its proposals is 2, not 3"):
        run_measurement(whole, pictures, tmp_path / "a", proposals=3)


def test_what_the_table_lacks_is_counted(pictures, macro, tmp_path):
    result = run_measurement(read_table(macro, "nasbench-macro"), pictures, tmp_path / "a")
    assert result["results"]["not_in_table"] == sum(row["accuracy"] is None for row in result["searches"]) > 0
    assert [row["rank"] is None for row in result["searches"]] == [
        row["accuracy"] is None for row in result["searches"]
    ]


def test_other_pictures_are_another_measurement(whole, pictures, tmp_path):
    run_measurement(whole, pictures, tmp_path / "a")
    others = [(1 - image, label) for image, label in pictures]
    with pytest.raises(zcpt.ConfigError, match="is of another measurement: its fingerprint is"):
        run_measurement(whole, others, tmp_path / "a")
