"""Accuracies of searches, variants and random search, looked up in a benchmark."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import zcpt
from tests.zcpt.tabular.conftest import RUNS, write_csv
from zcpt.batches import DatasetBatches
from zcpt.tabular import TabularBenchmark, read_table
from zcpt.tabular.report import write_page, write_report
from zcpt.tabular.searches import measure_searches, measure_variants, read_variants
from zcpt.trials import Measurement

SMALL: dict[str, Any] = {"proxy": "hashed", "channels": 4, "proposals": 2, "validation_batches": 2, "batch_size": 4}
SMALL["validation_batch_size"] = 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TabularBenchmark:
    """All chains; their digits, as a number in base 3, make accuracies from 0 to 93.7 %."""
    texts = map("".join, itertools.product("012", repeat=8))
    return read_table(
        write_csv(
            tmp_path_factory.mktemp("table") / "t.csv",
            ["arch8", *RUNS],
            *([f"m{t}", *[int(t, 3) / 70] * 3] for t in texts),
        ),
        "nasbench-macro",
    )


def run_measurement(table: TabularBenchmark, pictures: Any, folder: Path, **options: Any) -> dict[str, Any]:
    return measure_searches(
        table,
        lambda seed: DatasetBatches(pictures, num_classes=10),
        folder,
        **{"seeds": [0, 1, 2], **SMALL, **options},
    )


def test_the_architecture_of_each_seed_is_looked_up(whole: TabularBenchmark, pictures: Any, tmp_path: Path) -> None:
    result = run_measurement(whole, pictures, tmp_path / "a")
    for row in result["searches"]:
        run = tmp_path / "a" / f"seed_{row['seed']}"
        digits = (run / "genotype.txt").read_text().strip()
        assert row["architecture"] == digits
        assert row["accuracy"] == pytest.approx(int(digits, 3) / 70)
        assert row["rank"] == 3**8 - int(digits, 3)
        assert len(row["proposals"]) == 2
        assert json.loads((run / "config.json").read_text())["search"]["seed"] == row["seed"]
        assert row["seconds"] > 0
    summary = result["results"]
    accuracies = [row["accuracy"] for row in result["searches"]]
    assert summary["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 3)
    assert summary["not_in_table"] == 0
    assert result["protocol"]["table"]["best"] == pytest.approx((3**8 - 1) / 70)


def test_a_measurement_is_resumed(whole: TabularBenchmark, pictures: Any, tmp_path: Path) -> None:
    first = run_measurement(whole, pictures, tmp_path / "a")
    journal = tmp_path / "a" / "journal" / "searches.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:1]))
    decisions = tmp_path / "a" / "seed_1" / "journal" / "proposal_001.jsonl"
    decisions.write_bytes(b"".join(decisions.read_bytes().splitlines(keepends=True)[:3]))
    again = run_measurement(whole, pictures, tmp_path / "a")
    for one, other in zip(first["searches"], again["searches"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    with pytest.raises(zcpt.ConfigError, match=r"another measurement: its seeds is \[0, 1, 2\], not \[1, 2\]"):
        run_measurement(whole, pictures, tmp_path / "a", seeds=[1, 2])
    more = run_measurement(whole, pictures, tmp_path / "a", seeds=[0, 1, 2, 7])
    assert more["searches"][:3] == again["searches"]
    assert json.loads((tmp_path / "a" / "config.json").read_text())["seeds"] == [0, 1, 2, 7]
    with pytest.raises(zcpt.ConfigError, match="another measurement: its proposals is 2, not 3"):
        run_measurement(whole, pictures, tmp_path / "a", seeds=[0, 1, 2, 7], proposals=3)


def test_architectures_outside_the_table_are_counted(pictures: Any, macro: Path, tmp_path: Path) -> None:
    result = run_measurement(read_table(macro, "nasbench-macro"), pictures, tmp_path / "a")
    assert result["results"]["not_in_table"] == sum(row["accuracy"] is None for row in result["searches"]) > 0
    assert [row["rank"] is None for row in result["searches"]] == [
        row["accuracy"] is None for row in result["searches"]
    ]


def test_other_pictures_are_another_measurement(whole: TabularBenchmark, pictures: Any, tmp_path: Path) -> None:
    run_measurement(whole, pictures, tmp_path / "a")
    others = [(1 - image, label) for image, label in pictures]
    with pytest.raises(zcpt.ConfigError, match="belongs to another measurement: its fingerprint is"):
        run_measurement(whole, others, tmp_path / "a")


def test_random_search_scores_as_many_networks_and_can_be_added_later(
    whole: TabularBenchmark, pictures: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"proxy": "synflow", "seeds": [0, 1]}
    assert "random_search" not in run_measurement(whole, pictures, tmp_path / "a", **options)
    result = run_measurement(whole, pictures, tmp_path / "a", **options, random_search=True)
    for row, search in zip(result["random_search"], result["searches"], strict=True):
        distinct = len({*search["proposals"]})
        assert search["evaluations"] == {"proposals": 2 * 24, "validation": 2 * distinct if distinct > 1 else 0}
        assert row["evaluations"] == sum(search["evaluations"].values())
        assert row["accuracy"] <= row["best_drawn"]
        assert row["validated"] <= row["best_drawn"]
        assert -1 <= row["spearman"] <= 1, "the networks have different scores"
    journal = (tmp_path / "a" / "journal" / "random_searches.jsonl").read_bytes()
    again = run_measurement(whole, pictures, tmp_path / "a", **options)
    assert again["random_search"] == result["random_search"]
    assert (tmp_path / "a" / "journal" / "random_searches.jsonl").read_bytes() == journal
    page = write_report(tmp_path / "a").read_text()
    assert "| synflow | 2 | " in page


def test_random_search_draws_only_architectures_with_an_accuracy(pictures: Any, macro: Path, tmp_path: Path) -> None:
    table = read_table(macro, "nasbench-macro")
    result = run_measurement(table, pictures, tmp_path / "a", random_search=True)
    assert {row["evaluations"] for row in result["random_search"]} == {3}  # all that there are
    assert {row["best_drawn"] for row in result["random_search"]} == {84}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"validation_proxy": "vote"}, "'vote' is an aggregate"), ({"max_params": 1e9}, "leave out the budgets")],
)
def test_random_search_is_refused_where_it_would_not_compare(
    options: dict[str, Any], message: str, whole: TabularBenchmark, pictures: Any, tmp_path: Path
) -> None:
    with pytest.raises(zcpt.ConfigError, match=message):
        run_measurement(whole, pictures, tmp_path / "a", random_search=True, **options)


def test_variants_are_measured_in_folders_of_their_own(whole: TabularBenchmark, pictures: Any, tmp_path: Path) -> None:
    path = tmp_path / "variants.yaml"
    path.write_text("fixed: {order: fixed}\npaper: {preset: paper, max_params: 600M}\ndefault:\n")
    variants = read_variants(path, whole)
    assert variants == {"fixed": {"order": "fixed"}, "paper": {"preset": "paper", "max_params": 6e8}, "default": {}}
    del variants["paper"]
    results = measure_variants(
        whole, lambda seed: DatasetBatches(pictures, num_classes=10), tmp_path / "a", variants, seeds=[0], **SMALL
    )
    assert [result["protocol"]["search"]["order"] for result in results.values()] == ["fixed", "random"]
    page = write_page([tmp_path / "a" / name for name in variants], tmp_path / "page.md").read_text()
    assert "| fixed | hashed | fixed | 2 | 2 | " in page
    assert "| default | hashed | random | 2 | 2 | " in page
    with pytest.raises(zcpt.ConfigError, match="belongs to a single measurement: give the variants another --out"):
        measure_variants(whole, lambda seed: DatasetBatches(pictures), tmp_path / "a" / "fixed", variants)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is no YAML"),
        ("- fixed", "must map names of variants to settings"),
        ("{}", "must map names of variants to settings"),
        ("a/b: {}", "'a/b' is no name of a variant"),
        ("a: fixed", "variant 'a' must map settings to values, not be 'fixed'"),
        ("a: {seed: 3}", "must not have a seed: give --seeds"),
        ("a: {ordr: fixed}", "variant 'a': unknown option of search 'ordr': did you mean 'order'"),
    ],
)
def test_a_wrong_file_of_variants_is_refused(text: str, message: str, whole: TabularBenchmark, tmp_path: Path) -> None:
    path = tmp_path / "variants.yaml"
    path.write_text(text)
    with pytest.raises(zcpt.ConfigError, match=message):
        read_variants(path, whole)


def test_a_folder_of_the_version_before_is_resumed(whole: TabularBenchmark, pictures: Any, tmp_path: Path) -> None:
    """It has a setting by its old name, and no date."""
    first = run_measurement(whole, pictures, tmp_path / "a")
    config = tmp_path / "a" / "config.json"
    protocol = json.loads(config.read_text())
    protocol["search"]["struck_inputs"] = protocol["search"].pop("removed_inputs")
    del protocol["date"]
    config.write_text(json.dumps(protocol))
    again = run_measurement(whole, pictures, tmp_path / "a")
    assert again["searches"] == first["searches"]


class Digits:
    """The digits of a chain, read backwards."""

    name = "digits"

    def measure(self, architecture: zcpt.Architecture, seed: int) -> Measurement:
        """Read the digits backwards, as a number in base 3."""
        return Measurement(int(zcpt.get_space("nasbench-macro").format(architecture)[::-1], 3), seconds=2.0)

    def describe(self) -> dict[str, Any]:
        """Return nothing: there is nothing that it depends on."""
        return {}


def test_a_finished_measurement_is_extended_by_finalists(
    whole: TabularBenchmark, pictures: Any, tmp_path: Path
) -> None:
    options = {"proposals": 3, "seeds": [0, 1]}
    before = run_measurement(whole, pictures, tmp_path / "a", **options)
    assert "gain" not in before["results"]
    more = {**options, "finalists": 2, "finalist_value": lambda seed: Digits()}
    result = run_measurement(whole, pictures, tmp_path / "a", **more)
    for row, old in zip(result["searches"], before["searches"], strict=True):
        assert row["validated"] == old["accuracy"]
        assert row["proposals"] == old["proposals"]
        best = max(row["finalists"], key=lambda finalist: finalist["value"])
        assert (best["architecture"], best["accuracy"]) == (row["architecture"], row["accuracy"])
        assert row["seconds"] == pytest.approx(old["seconds"] + 4)
    summary = result["results"]
    gains = [row["accuracy"] - row["validated"] for row in result["searches"]]
    assert summary["gain"]["mean"] == pytest.approx(sum(gains) / 2)
    assert summary["finalist_seconds"] == 4
    assert result["protocol"]["finalists"] == {"number": 2, "name": "digits"}
    assert run_measurement(whole, pictures, tmp_path / "a", **more) == result
    page = write_report(tmp_path / "a").read_text()
    assert "the 2 best proposals by validation were measured by digits, and the best value won" in page
    assert "| by validation alone |" in page
    with pytest.raises(zcpt.ConfigError, match="another measurement: its number is 2, not None"):
        run_measurement(whole, pictures, tmp_path / "a", **options)
    with pytest.raises(zcpt.ConfigError, match="--finalists 2 needs what measures them"):
        run_measurement(whole, pictures, tmp_path / "b", **{**options, "finalists": 2})
