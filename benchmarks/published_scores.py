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
"""Of our proxies, the columns of the published ones."""
Row = Mapping[str, str]


def rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV file, which may be gzipped."""
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        yield from csv.DictReader(file)


def pairs(ours: Mapping[str, Row], theirs: Mapping[str, Row], proxy: str) -> tuple[list[float], list[float]]:
    """Our scores and the published ones, of the architectures that have both."""
    both: tuple[list[float], list[float]] = ([], [])
    for architecture, row in theirs.items():
        if row[PUBLISHED[proxy]] and architecture in ours:
            mine, published = float(ours[architecture][proxy] or "nan"), float(row[PUBLISHED[proxy]])
            if math.isfinite(mine) and math.isfinite(published):
                both[0].append(mine)
                both[1].append(published)
    return both


def split(table: Path, indices: Set[str], folder: Path) -> None:
    """Write those rows of a table into one file, and the others into another one."""
    everything = list(rows(table))
    for name, wanted in (("published.csv", True), ("others.csv", False)):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(everything[0]))
            writer.writeheader()
            writer.writerows(row for row in everything if (row["index"] in indices) == wanted)


def main() -> None:
    """Compare and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--scores", type=Path, help="folder of 'zcpt benchmark proxies'")
    what.add_argument("--split", type=Path, metavar="FOLDER", help="only divide the table")
    parser.add_argument("--published", type=Path, required=True, help="CSV of published scores")
    parser.add_argument("--table", type=Path, required=True, help="CSV of the benchmark, with all architectures")
    args = parser.parse_args()
    if args.split:
        split(args.table, {row["index"] for row in rows(args.published)}, args.split)
        return
    ours = {row["architecture"]: row for row in rows(args.scores / "scores.csv")}
    names = {row["index"]: row["arch_str"] for row in rows(args.table)}
    published = [row for row in rows(args.published) if row["dataset"] == "cifar10"]
    runs = {
        run: {names[row["index"]]: row for row in published if row["run"] == run}
        for run in sorted({row["run"] for row in published})
    }
    lines = ["| proxy | " + " | ".join(runs) + " |", "|---" * (len(runs) + 1) + "|"]
    for proxy in [name for name in PUBLISHED if name in next(iter(ours.values()))]:
        cells = []
        for theirs in runs.values():
            mine, other = pairs(ours, theirs, proxy)
            cells.append(f"{spearman(mine, other):.3f} ({len(mine)})" if mine else "-")
        lines.append(f"| {proxy} | {' | '.join(cells)} |")
    text = "# Our scores beside published ones\n\n"
    text += "Spearman's correlation on NAS-Bench-201, CIFAR-10, with two published runs; in brackets the networks.\n"
    text += "Written by `python benchmarks/published_scores.py`.\n\n"
    write_atomically(RESULT, text + "\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
