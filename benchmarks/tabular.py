"""Search a space whose architectures have all been trained, and look the results up in its table.

    python benchmarks/tabular.py --space nasbench201 --table FILE --dataset folder:PATH --variants V=10 --random V=10
    python benchmarks/tabular.py --space nasbench201 --report

The first command adds rows to ``benchmarks/results/SPACE.json``, and goes on where it was stopped; the second one
writes ``benchmarks/results/SPACE.md`` from them. ``docs/benchmarks.md`` says what the tables look like. ``--random``
draws as many architectures as the search of that variant and seed, which has to be there, scored networks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import zcpt
from benchmarks.agreement import agreement
from benchmarks.random_search import random_search
from benchmarks.report import PAGES, report
from benchmarks.variants import AGREEMENTS, VARIANTS, settings
from train.data import ImageData, build_scoring_batches, load_data
from zcpt.batches import compute_fingerprint
from zcpt.files import to_json_text, write_atomically
from zcpt.tabular import Table, read_table

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


class Bench(NamedTuple):
    """What all measurements on a space share."""

    table: Table
    data: ImageData
    device: str
    rows: list[Row]
    """Those that are there already."""

    def clock(self) -> float:
        """Seconds of this process, so that others on the machine do not count; a GPU's work is none of them."""
        return time.process_time() if self.device == "cpu" else time.perf_counter()


class Stopwatch(zcpt.Callback):
    """Seconds of stage 1."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.began, self.stage1 = clock, clock(), 0.0

    def on_validation_start(self, candidates: Sequence[zcpt.Architecture]) -> None:
        self.stage1 = self.clock() - self.began


def searched(bench: Bench, config: zcpt.SearchConfig, variant: str) -> Row:
    """One search; the accuracies of what it proposed and of what it chose."""
    space, table, watch = bench.table.space, bench.table, Stopwatch(bench.clock)
    batches = build_scoring_batches(bench.data, config.seed)
    result = zcpt.search(space, batches, device=bench.device, callbacks=[watch], **asdict(config))
    proposals = {n: table.lookup(c.architecture, "cifar10") for c in result.candidates for n in c.proposals}
    return {
        "architecture": space.format(result.architecture),
        "accuracy": table.lookup(result.architecture, "cifar10"),
        "proposals": [proposals[n] for n in sorted(proposals)],
        "candidates": [
            {"accuracy": table.lookup(c.architecture, "cifar10"), "score": c.mean} for c in result.candidates
        ],
        "seconds": {"proposals": watch.stage1, "all": bench.clock() - watch.began},
    }


def drawn(bench: Bench, config: zcpt.SearchConfig, variant: str) -> Row:
    """Random search beside the search of this variant and seed."""
    began = bench.clock()
    searches = {(row["variant"], row["seed"]): row for row in bench.rows if row["kind"] == "search"}
    if (variant, config.seed) not in searches:
        sys.exit(f"--random {variant}: seed {config.seed} has to be searched first, by --variants.")
    candidates = len(searches[variant, config.seed]["candidates"])
    row = random_search(bench.table, config, bench.data, bench.device, candidates)
    return {**row, "seconds": {"all": bench.clock() - began}}


def agreeing(bench: Bench, config: zcpt.SearchConfig, variant: str) -> Row:
    """How well the first importances agree with the table."""
    return {**agreement(bench.table, config, bench.data, bench.device)}


def measure(args: argparse.Namespace, path: Path) -> None:
    """Add the rows that are not there yet."""
    space = zcpt.get_space(args.space)
    before = json.loads(path.read_text()) if path.exists() else {"rows": []}
    rows: list[Row] = before["rows"]
    bench = Bench(read_table(args.table, space), load_data(args.dataset), args.device, rows)
    about = {"table": bench.table.about("cifar10"), "made_of": sources(bench)}
    if rows and before["made_of"] != about["made_of"]:
        sys.exit(f"{path} was measured with another table or other images: move it away to begin anew.")
    plan = [("search", name, VARIANTS[name], searched) for name in args.variants]
    plan += [("random", name, VARIANTS[name], drawn) for name in args.random]
    plan += [("agreement", name, AGREEMENTS[name], agreeing) for name in args.agreement]
    known = {(row["kind"], row["variant"], row["seed"]) for row in rows}
    todo = [
        (kind, name, settings(space, options, seed), measure_cost)
        for kind, name, options, measure_cost in plan
        for seed in args.seeds
        if (kind, name, seed) not in known
    ]
    path.parent.mkdir(exist_ok=True)
    for kind, name, config, measure_cost in tqdm(todo, "runs"):
        row = measure_cost(bench, config, name)
        rows.append({"kind": kind, "variant": name, "seed": config.seed, **row, "on": machine(args.device)})
        write_atomically(path, to_json_text({**about, "rows": rows}))


def sources(bench: Bench) -> dict[str, str]:
    """What tells tables and images apart."""
    batch = build_scoring_batches(bench.data, 0).draw(64, 0)
    return {"table": bench.table.document("cifar10", "test")["content"], "images": compute_fingerprint(batch)}


def machine(device: str) -> dict[str, str]:
    """What a figure was measured with."""
    threads = f"{torch.get_num_threads()} CPU thread{'s' * (torch.get_num_threads() > 1)}"
    name = torch.cuda.get_device_name() if device.startswith("cuda") else threads
    return {"date": date.today().isoformat(), "device": name, "torch": torch.__version__}


def main() -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=list(PAGES), required=True)
    parser.add_argument("--table", type=Path, help="the benchmark's file")
    parser.add_argument("--dataset", default="cifar10", help="CIFAR-10, as 'zcpt search' takes it")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=[], help="searches")
    parser.add_argument("--random", nargs="*", choices=list(VARIANTS), default=[], help="random search beside them")
    parser.add_argument("--agreement", nargs="*", choices=list(AGREEMENTS), default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--report", action="store_true", help="write the tables and measure nothing")
    args = parser.parse_args()
    path = RESULTS / f"{args.space}.json"
    if args.report:
        write_atomically(path.with_suffix(".md"), report(args.space, json.loads(path.read_text())))
    elif args.table is None:
        parser.error("--table is needed to look accuracies up")
    else:
        try:
            measure(args, path)
        except zcpt.ZcptError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
