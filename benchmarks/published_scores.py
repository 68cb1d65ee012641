"""Compare scores with those that another library published for the same networks.

    T="--table nb201_accuracy.csv.gz --published nb201_zcproxies_naslib_early.csv.gz"
    python benchmarks/published_scores.py $T --split .
    zcpt benchmark proxies --table published.csv --space nasbench201 --dataset cifar10 --samples 0 \\
        --proxies synflow,naswot-batch,snip,grad_norm,fisher,l2_norm,jacob_cov,params --out runs/published
    python benchmarks/published_scores.py $T --scores runs/published

Spearman's correlation over the architectures of each published run. Writes ``benchmarks/results/published_scores.md``;
``--split`` divides the table into ``published.csv``, the architectures that have published scores, and ``others.csv``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zcpt.files import write_atomically
from zcpt.tabular.measures import spearman

RESULT = Path(__file__).parent / "results" / "published_scores.md"
PUBLISHED = {
    "synflow": "synflow",
    "naswot-batch": "nwot",
    "snip": "snip",
    "grad_norm": "grad_norm",
    "fisher": "fisher",
    "l2_norm": "l2_norm",
    "jacob_cov": "jacov",
    "params": "params_M",
    "epe_nas": "epe_nas",
    "grasp": "grasp",
    "plain": "plain",
}
"""Our proxies -> columns of published scores."""
Row = Mapping[str, str]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a CSV file, gzipped or not."""
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        yield from csv.DictReader(file)


def pair_scores(ours: Mapping[str, Row], theirs: Mapping[str, Row], proxy: str) -> tuple[list[float], list[float]]:
    """Return our scores and the published ones, of the architectures that have both."""
    scores: tuple[list[float], list[float]] = ([], [])
    for architecture, row in theirs.items():
        if row[PUBLISHED[proxy]] and architecture in ours:
            mine, published = float(ours[architecture][proxy] or "nan"), float(row[PUBLISHED[proxy]])
            if math.isfinite(mine) and math.isfinite(published):
                scores[0].append(mine)
                scores[1].append(published)
    return scores


def split_table(table: Path, indices: Set[str], folder: Path) -> None:
    """Write the rows of these indices to ``published.csv``, and all others to ``others.csv``."""
    every_row = list(read_rows(table))
    for name, wanted in (("published.csv", True), ("others.csv", False)):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(every_row[0]))
            writer.writeheader()
            writer.writerows(row for row in every_row if (row["index"] in indices) == wanted)


def main() -> None:
    """Compare and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--scores", type=Path, help="folder of 'zcpt benchmark proxies'")
    task.add_argument("--split", type=Path, metavar="FOLDER", help="only split the table")
    parser.add_argument("--published", type=Path, required=True, help="CSV of published scores")
    parser.add_argument("--table", type=Path, required=True, help="CSV of the benchmark, with all architectures")
    args = parser.parse_args()
    if args.split:
        split_table(args.table, {row["index"] for row in read_rows(args.published)}, args.split)
        return
    ours = {row["architecture"]: row for row in read_rows(args.scores / "scores.csv")}
    names = {row["index"]: row["arch_str"] for row in read_rows(args.table)}
    published = [row for row in read_rows(args.published) if row["dataset"] == "cifar10"]
    runs = {
        run: {names[row["index"]]: row for row in published if row["run"] == run}
        for run in sorted({row["run"] for row in published})
    }
    lines = ["| proxy | " + " | ".join(runs) + " |", "|---" * (len(runs) + 1) + "|"]
    for proxy in [name for name in PUBLISHED if name in next(iter(ours.values()))]:
        cells = []
        for theirs in runs.values():
            mine, published_scores = pair_scores(ours, theirs, proxy)
            cells.append(f"{spearman(mine, published_scores):.3f} ({len(mine)})" if mine else "-")
        lines.append(f"| {proxy} | {' | '.join(cells)} |")
    text = "# Our scores beside published ones\n\n"
    text += "Spearman's correlation on NAS-Bench-201, CIFAR-10, with two published runs; in brackets the networks.\n"
    text += "Written by `python benchmarks/published_scores.py`.\n\n"
    write_atomically(RESULT, text + "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
