"""Scores of operations against a table: by hand, against published scores, and as a search computes them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from scipy import stats

import zcpt
from tests.zcpt.search.conftest import run_small_search
from tests.zcpt.tabular.conftest import RUNS, write_csv
from zcpt.batches import DatasetBatches
from zcpt.search import configure
from zcpt.tabular import TabularBenchmark, read_table
from zcpt.tabular.operations import (
    OperationFunction,
    compare_values,
    compute_best_accuracies,
    compute_mean_accuracies,
    measure_operations,
    read_operation_values,
    score_undecided_supernet,
)

EDGES = [choice.name for choice in zcpt.get_space("nasbench201").choices]
# Published scores of none, skip_connect, 1x1, 3x3, avg_pool on each edge (Zero-Cost-PT's notebooks, CIFAR-10).
PUBLISHED = {
    "best-acc": """94.15 94.18 94.44 94.68 93.86  94.24 94.16 94.49 94.68 94.09  94.25 94.43 94.49 94.68 94.19
        94.16 94.68 94.03 94.04 93.85  94.29 94.18 94.56 94.68 94.23  94.05 94.16 94.68 94.56 94.10""",
    "avg-acc": """77.36 83.81 86.38 87.32 81.02  80.03 83.11 85.23 85.99 81.52  82.90 82.44 84.05 84.49 81.98
        74.02 85.17 87.30 88.28 81.38  80.14 83.05 85.09 85.70 81.89  77.61 83.43 86.18 86.95 81.74""",
    "-zc-pt": """3455.23 3449.90 3449.54 3441.82 3461.18  3452.15 3448.70 3441.81 3440.65 3453.74
        3446.52 3447.61 3435.46 3436.40 3449.28  3453.81 3435.99 3444.04 3445.60 3447.07
        3451.06 3449.80 3442.63 3441.13 3453.31  3450.97 3448.21 3440.80 3443.24 3452.99""",
    "disc-zc": """3331.01 3445.49 3366.88 3437.55 3423.18  3429.07 3435.75 3407.87 3434.58 3421.44
        3428.80 3423.36 3440.93 3437.29 3416.89  3408.99 3464.05 3359.89 3382.18 3431.81
        3433.99 3435.57 3424.47 3431.14 3423.15  3434.42 3437.66 3418.57 3397.52 3424.17""",
    "darts": """.1387 .4758 .1296 .1810 .0748  .1236 .5535 .1100 .1249 .0880  .2403 .3297 .1495 .1748 .1056
        .0636 .6513 .0826 .1335 .0691  .1183 .4800 .1305 .1732 .0979  .1648 .4853 .1223 .1397 .0880""",
    "-darts-pt": """85.43 17.02 78.13 59.09 85.34  85.52 36.10 84.39 80.95 85.49  85.51 80.29 81.86 77.68 85.32
        85.49 9.86 81.79 59.18 85.48  85.45 51.15 78.84 64.64 85.14  85.54 32.43 81.04 72.75 85.51""",
    "-tenas": """38.5 48 31 6 37.5  7 55 10 15 39  31.5 10 30 16.5 36.5  34 44 53.5 23 30  32 32.5 36.5 32 52
        38.5 16 20 17 27.5""",
}


def values(name: Any) -> Any:
    sign = -1 if name.startswith("-") else 1
    numbers = [sign * float(number) for number in PUBLISHED[name].split()]
    return {edge: numbers[5 * i : 5 * i + 5] for i, edge in enumerate(EDGES)}


@pytest.mark.parametrize(
    ("name", "best", "average", "kendall"),
    [
        ("-zc-pt", 0.77, 0.83, (0.67, 0.70)),
        ("disc-zc", 0.10, 0.03, (0.10, 0.07)),
        ("darts", 0.20, 0.32, (0.20, 0.23)),
        ("-darts-pt", 0.42, 0.67, (0.33, 0.57)),
        ("-tenas", 0.44, 0.30, (0.29, 0.25)),
        ("avg-acc", 0.65, 1.0, (0.57, 1.0)),
    ],
)
def test_published_scores_give_the_published_agreement(name: str, best: float, average: float, kendall: Any) -> None:
    comparisons = [compare_values(values(name), values(reference)) for reference in ("best-acc", "avg-acc")]
    assert [comparison["spearman"] for comparison in comparisons] == pytest.approx([best, average], abs=6e-3)
    assert [comparison["kendall"] for comparison in comparisons] == pytest.approx(kendall, abs=6e-3)


def test_nan_is_left_out_and_minus_infinity_ranks_last() -> None:
    reference = {"a": [1.0, 2.0, 3.0, math.nan], "b": [1.0, 1.0, 1.0, 1.0]}
    comparison = compare_values({"a": [-math.inf, 5.0, 6.0, 0.0], "b": [1.0, 2.0, 3.0, 4.0]}, reference)
    assert comparison["by_choice"]["a"] == pytest.approx(1)
    assert math.isnan(comparison["by_choice"]["b"])
    assert comparison["spearman"] == pytest.approx(1)


@pytest.fixture
def chains(tmp_path: Path) -> TabularBenchmark:
    """All chains of identities and 3x3 blocks in the first two layers, of 1 and 2 after them."""
    texts = [first + second + rest * 6 for first in "01" for second in "01" for rest in "12"]
    rows = [[f"m{text}", 50 + i, 50 + i, 50 + i] for i, text in enumerate(texts)]
    return read_table(write_csv(tmp_path / "t.csv", ["arch8", *RUNS], *rows), "nasbench-macro")


def test_references_are_the_best_and_the_mean_of_all_that_have_an_operation(chains: TabularBenchmark) -> None:
    first, *_, last = (choice.name for choice in chains.space.choices)
    best, average = compute_best_accuracies(chains, "cifar10"), compute_mean_accuracies(chains, "cifar10")
    assert best[first][:2] == [53, 57]
    assert average[first][:2] == [mean([50, 51, 52, 53]), mean([54, 55, 56, 57])]
    assert best[last][1:] == [56, 57]
    assert average[last][1:] == [53, 54]
    assert math.isnan(best[first][2])
    assert math.isnan(average[last][0])


def test_perturbation_is_the_first_decision_of_a_search(pictures: Any) -> None:
    space = zcpt.get_space("nasbench201")
    options: dict[str, Any] = {"channels": 4, "layers": 1, "batch_size": 4, "order": "fixed", "proposals": 1}
    batches = DatasetBatches(pictures, num_classes=10)
    values = score_undecided_supernet("zc_pt", space, batches, configure(space, **options), torch.device("cpu"))
    _, callback = run_small_search(space, pictures, **options)
    assert tuple(values[EDGES[0]]) == callback.all[0][1].importance
    assert list(values) == EDGES


def test_a_measurement_compares_selects_and_is_resumed(chains: TabularBenchmark, tmp_path: Path) -> None:
    calls = []

    def by_digit(seed: Any) -> Any:
        calls.append(seed)
        return {choice.name: [0, 1, 2 - 3 * seed] for choice in chains.space.choices}

    result = measure_operations(chains, {"by digit": by_digit}, tmp_path / "a", seeds=[0, 1])
    assert calls == [0, 1]
    measures = result["results"]["by digit"]
    assert [row["architecture"] for row in measures["chosen"]] == ["22222222", "11111111"]
    assert [row["accuracy"] for row in measures["chosen"]] == [None, 56]
    assert [row["rank"] for row in measures["chosen"]] == [None, 2]
    agreement = measures["agreement"]["avg-acc"]
    # The first two layers: 0 < 1 both times; the others: 1 < 2 by the first seed, not by the second.
    assert agreement["by_seed"] == [pytest.approx(1), pytest.approx((2 - 6) / 8)]
    assert agreement["spearman"]["mean"] == pytest.approx(0.25)
    assert result["results"]["best-acc"]["agreement"]["best-acc"]["spearman"]["mean"] == pytest.approx(1)
    text = (tmp_path / "a" / "result.json").read_text()
    measure_operations(chains, {"by digit": by_digit}, tmp_path / "a", seeds=[0, 1])
    assert calls == [0, 1]
    again = json.loads((tmp_path / "a" / "result.json").read_text())
    assert again["results"] == json.loads(text)["results"]
    more = {"by digit": by_digit, "twice": lambda seed: by_digit(seed + 5)}
    extended = measure_operations(chains, more, tmp_path / "a", seeds=[0, 1, 2])
    assert calls == [0, 1, 2, 5, 6, 7]
    assert extended["protocol"]["scores"] == ["by digit", "twice"]
    assert extended["results"]["by digit"]["agreement"]["avg-acc"]["by_seed"][:2] == agreement["by_seed"]


def test_scores_of_other_code_are_read_from_a_file(tmp_path: Path) -> None:
    space, path = zcpt.get_space("nasbench201"), tmp_path / "scores.json"
    path.write_text(json.dumps({"theirs": values("darts"), "others": values("avg-acc")}))
    scores = read_operation_values(path, space)
    assert scores["theirs"](7) == values("darts")
    assert scores["others"](7) == values("avg-acc")
    assert stats.spearmanr(scores["theirs"](0)[EDGES[0]], values("avg-acc")[EDGES[0]]).statistic > 0
    for document, word in (
        ("{", "not a complete JSON document"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "an integer of thousands of digits"),
        (json.dumps({"a": {edge: [10**400] * 5 for edge in EDGES}}), "a number for each candidate of node1/edge0"),
        (json.dumps({"a": {edge: [True] * 5 for edge in EDGES}}), "a number for each candidate of node1/edge0"),
        ("[]", "must map names of scores"),
        ('{"a": {"x": [1]}}', "'a' must have scores for exactly these choices: node1/edge0"),
        (json.dumps({"a": {edge: [1, 2] for edge in EDGES}}), "a number for each candidate of node1/edge0"),
    ):
        path.write_text(document)
        with pytest.raises(zcpt.ConfigError, match=word):
            read_operation_values(path, space)
    with pytest.raises(zcpt.ConfigError, match="is missing: give --scores a JSON file"):
        read_operation_values(tmp_path / "none.json", space)
    path.write_text(json.dumps({"a": {edge: [math.nan] * 5 for edge in EDGES}}))
    with pytest.raises(zcpt.ConfigError, match="'a' has no number for any candidate of node1/edge0"):
        read_operation_values(path, space)


def test_architectures_of_operations_that_tie_are_averaged(chains: TabularBenchmark, tmp_path: Path) -> None:
    constant = {choice.name: [0, 0, 1] for choice in chains.space.choices}
    first = chains.space.choices[0].name
    result = measure_operations(
        chains,
        {
            "tied": lambda seed: constant | {first: [1, 1, 0]},
            "nothing": lambda seed: {name: [0, 0, 0] for name in constant},
        },
        tmp_path / "a",
    )
    tied, nothing = (result["results"][name]["chosen"][0] for name in ("tied", "nothing"))
    assert (tied["equals"], nothing["equals"]) == (2, 3**8)
    assert nothing["accuracy"] == pytest.approx(chains.summarize("cifar10")["mean"])


def test_names_of_references_are_refused(chains: TabularBenchmark, tmp_path: Path) -> None:
    invalid: list[dict[str, OperationFunction]] = [{}, {"best-acc": lambda seed: {}}]
    for scores in invalid:
        with pytest.raises(zcpt.ConfigError, match="must have names other than best-acc, avg-acc"):
            measure_operations(chains, scores, tmp_path / "a")
