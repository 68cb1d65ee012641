"""Compare EcoNAS' hierarchical strategy with ageing evolution that spends as many epochs, on scikit-learn's digits.

    python benchmarks/hierarchy.py --seeds 10 --out runs/hierarchy

Each seed searches NAS-Bench-201 in both ways by the trainings of ``benchmarks/recipes/digits-short.yaml``, which are
measured on training images kept back. What both found is then trained for longer, on four times the images, with other
seeds, and measured on the test images. Writes ``result.json`` and ``report.md`` into the folder; seeds that
``result.json`` has already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import zcpt
from train.data import load_data
from train.images import load_into_memory
from train.reduced import ReducedTraining, prepare_training
from zcpt.files import to_json_text, write_atomically
from zcpt.seeding import derive_seed
from zcpt.tabular.measures import Vector, bootstrap_interval, compute_mean_interval
from zcpt.trials import TrialsResult

RECIPE = Path(__file__).parent / "recipes" / "digits-short.yaml"
SPACE = "nasbench201"
TRAININGS = 32
"""Whole trainings that each search may spend."""
WAYS: Mapping[str, Mapping[str, Any]] = {
    "hierarchy": {"algorithm": "hierarchy", "initial": 8, "promote": "4,2", "parents": "3,3,2"},
    "evolution": {"algorithm": "evolution", "pool": 8, "tournament": 4},
}
"""The two ways to search; half of the published numbers of networks, since the searches are short."""
FINAL = {"epochs": 12, "samples": 1.0, "batch_size": 64}
"""Settings of the trainings that compare what was found."""
FINAL_SEEDS = 2
Row = dict[str, Any]


def search(training: ReducedTraining, way: str, seed: int, trainings: int = TRAININGS) -> TrialsResult:
    """Search with the epochs of so many whole trainings."""
    stages = 3 if way == "hierarchy" else 1
    return zcpt.run_trials(training.space, training, trials=trainings * stages, seed=seed, **WAYS[way])


def count_epochs(result: TrialsResult) -> int:
    """Return the number of epochs that a search has trained."""
    stages = getattr(result.settings, "stages", 1)
    return round(sum(trial.report["epochs"] / (stages * trial.share) for trial in result.trials))


def prepare_final(training: ReducedTraining, **settings: Any) -> ReducedTraining:
    """Prepare the trainings that compare what was found: they are measured on the test images."""
    data = load_data(training.data_name)
    longer = prepare_training(training.space, data, str(RECIPE), **{**FINAL, **settings})
    return replace(longer, held_back=load_into_memory(data.test))


def measure_seed(training: ReducedTraining, final: ReducedTraining, seed: int, trainings: int = TRAININGS) -> list[Row]:
    """Search in both ways with a seed, and return a row for each."""
    rows = []
    for way in WAYS:
        start = time.process_time()
        result = search(training, way, seed, trainings)
        seconds = time.process_time() - start
        accuracies = [
            final.measure(result.architecture, derive_seed(seed, "final", number)).value
            for number in range(FINAL_SEEDS)
        ]
        rows.append(
            {
                "way": way,
                "seed": seed,
                "epochs": count_epochs(result),
                "networks": len({training.space.canonicalize(trial.architecture) for trial in result.trials}),
                "value": result.best.value,
                "test accuracies": accuracies,
                "cpu seconds": seconds,
                "architecture": training.space.format(result.architecture),
            }
        )
    return rows


def compare_ways(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the mean of each way, and the difference of the first and the second with its 95 % intervals.

    Both ways have the same seeds. ``low`` and ``high`` are a bootstrap over them, which is too narrow for a few seeds;
    ``student`` is Student's interval of the mean difference.
    """
    means = {
        way: np.array([statistics.fmean(row["test accuracies"]) for row in rows if row["way"] == way]) for way in WAYS
    }
    first, second = means.values()

    def subtract(x: Vector, y: Vector) -> float:
        return float((x - y).mean())

    low, high = bootstrap_interval(subtract, first, second, resamples=10_000, seed=0)
    student = compute_mean_interval(list(first - second))
    return {
        "means": {way: float(values.mean()) for way, values in means.items()},
        "difference": {
            "value": subtract(first, second),
            "low": low,
            "high": high,
            "student": [student["low"], student["high"]],
            "seeds": len(first),
        },
    }


def write_report(rows: Sequence[Row], folder: Path) -> None:
    """Write ``result.json`` and ``report.md``."""
    result = compare_ways(rows)
    document = {"recipe": RECIPE.name, "ways": dict(WAYS), "final": FINAL, **result, "rows": list(rows)}
    write_atomically(folder / "result.json", to_json_text(document))
    names = ("way", "seed", "epochs", "networks", "value", "test accuracy", "CPU seconds")
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        accuracy = statistics.fmean(row["test accuracies"])
        lines.append(
            f"| {row['way']} | {row['seed']} | {row['epochs']} | {row['networks']} | {row['value']:.2f} | "
            f"{accuracy:.2f} | {row['cpu seconds']:.0f} |"
        )
    difference = result["difference"]
    first, second = WAYS
    lines += [
        "",
        f"Mean test accuracy: {', '.join(f'{way} {mean:.2f} %' for way, mean in result['means'].items())}. "
        f"{first} minus {second}: {difference['value']:+.2f} points [{difference['low']:+.2f}, "
        f"{difference['high']:+.2f}], 95 % interval by bootstrap over {difference['seeds']} paired seeds; Student's is "
        f"[{difference['student'][0]:+.2f}, {difference['student'][1]:+.2f}].",
    ]
    write_atomically(folder / "report.md", "\n".join(lines) + "\n")


def read_rows(folder: Path) -> list[Row]:
    """Return the rows that were measured before."""
    path = folder / "result.json"
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Compare both ways, and write what was measured after every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds, from 0 on (default: 10)")
    parser.add_argument("--trainings", type=int, default=TRAININGS, help=f"whole trainings (default: {TRAININGS})")
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="folder of the result")
    args = parser.parse_args(words)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    space = zcpt.get_space(SPACE)
    training = prepare_training(space, load_data("digits"), str(RECIPE))
    final = prepare_final(training)
    rows = read_rows(args.out)
    for seed in range(args.seeds):
        if not any(row["seed"] == seed for row in rows):
            rows += measure_seed(training, final, seed, args.trainings)
            write_report(rows, args.out)
            sys.stderr.write(f"seed {seed}: {rows[-2:]}\n")
    write_report(rows, args.out)
    sys.stdout.write((args.out / "report.md").read_text())


if __name__ == "__main__":
    main()
