"""Compare the engines side by side: seconds of a proposal, peak memory, and how the cost grows.

    python benchmarks/engine.py [--space darts] [--device cpu] [--repeats 3]

Of one proposal on random images, decided by the fast engine, some decisions are scored again by each engine, one after
the other: ``naive`` (the field's way, ``benchmarks/naive.py``), ``plain`` and ``fast``. What lies between two of them
is interpolated. Peak memory is measured in processes of their own. Writes ``benchmarks/results/engine.json``;
``--report`` makes the tables in ``benchmarks/results/engine.md`` from it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import zcpt
from benchmarks.engine_growth import measure_growth, measure_limits
from benchmarks.engine_report import report
from benchmarks.engine_setup import BATCHES, ENGINES, build_supernet, make_random_batch, measure_seconds
from benchmarks.naive import NaiveEngine
from zcpt.batches import Batch
from zcpt.devices import move_batch
from zcpt.files import to_json_text, write_atomically
from zcpt.mixture import Mixture
from zcpt.proxies import get_proxy
from zcpt.scoring import Evaluator
from zcpt.search import Callback, Decision
from zcpt.space import SearchSpace
from zcpt.supernet import Supernet

RESULT = Path(__file__).parent / "results" / "engine.json"
Score = Callable[[Sequence[Mixture], Batch], Any]


class Decisions(Callback):
    """What was decided in a search."""

    def __init__(self) -> None:
        self.all: list[Decision] = []

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        """Note it."""
        self.all.append(decision)


def scorer(engine: str, net: Supernet) -> Score:
    """Return the function that scores mixtures by an engine."""
    if engine == "naive":
        return NaiveEngine(net).scores
    return Evaluator(net, get_proxy("naswot"), engine="fast" if engine == "fast" else "plain").score_mixtures


def trajectory(space: SearchSpace, batch: Batch, device: torch.device) -> tuple[list[list[Mixture]], float]:
    """Return the mixtures of each decision of a proposal, and the seconds that the fast engine took for them all."""
    heard = Decisions()
    data = batch.images, batch.labels
    zcpt.search(
        space, data, proposals=1, batch_size=len(batch.images), device=device, num_classes=10, callbacks=[heard]
    )
    mixture, steps = Mixture.initial(space.choices), []
    remaining: dict[str, tuple[str, ...]] = {}
    for decision in heard.all:
        left = remaining.get(decision.choice, decision.candidates)
        steps.append([mixture.without(decision.choice, candidate) for candidate in left])
        remaining[decision.choice] = decision.kept
        keep = next(choice.keep for choice in space.choices if choice.name == decision.choice)
        if len(decision.kept) <= keep:
            mixture = mixture.select(decision.choice, decision.kept)
        else:
            mixture = mixture.without(decision.choice, *set(left) - set(decision.kept))
    return steps, sum(decision.seconds for decision in heard.all)


def measure(name: str, device: torch.device, repeats: int, samples: int) -> dict[str, Any]:
    """Seconds of a proposal by each engine."""
    space, batch = zcpt.get_space(name), move_batch(make_random_batch(BATCHES[name]), device)
    steps, whole = trajectory(space, batch, device)
    at = np.unique(np.linspace(0, len(steps) - 1, samples).round().astype(int))
    counts = [len(step) for step in steps]
    nets = {engine: build_supernet(space, device) for engine in ENGINES}
    score = {engine: scorer(engine, nets[engine]) for engine in ENGINES}
    looking = measure_seconds(lambda: score["fast"](steps[0][:1], batch), device)
    looking -= measure_seconds(lambda: score["fast"](steps[0][:1], batch), device)
    totals: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    first: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    last: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for repeat in range(repeats):
        each: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for index in at:
            for engine in ENGINES:
                # The fast engine shares work between the mixtures of a decision; for the others one is like another.
                some = steps[index] if engine == "fast" else [steps[index][repeat % counts[index]]]
                taken = measure_seconds(lambda some=some, engine=engine: score[engine](some, batch), device)  # type: ignore[misc]
                each[engine].append(taken / len(some))
        for engine in ENGINES:
            between = np.interp(range(len(steps)), at, each[engine])
            totals[engine].append(float((between * counts).sum()) + (looking if engine == "fast" else 0))
            first[engine].append(each[engine][0])
            last[engine].append(each[engine][-1])
    median = {engine: statistics.median(totals[engine]) for engine in ENGINES}
    return {
        "batch": BATCHES[name],
        "channels": space.search_size.channels,
        "layers": space.search_size.layers,
        "evaluations": sum(counts),
        "seconds of a proposal": median,
        "range": {engine: [min(totals[engine]), max(totals[engine])] for engine in ENGINES},
        "seconds of a whole proposal by fast, not interpolated": whole,
        "of it, seconds that fast looks into the network": looking,
        "seconds an evaluation, nothing decided": {e: statistics.median(first[e]) for e in ENGINES},
        "seconds an evaluation, at the end": {e: statistics.median(last[e]) for e in ENGINES},
        "times as fast as naive": {e: median["naive"] / median[e] for e in ENGINES},
    }


def peak_memory(name: str, engine: str, device: torch.device) -> int:
    """Bytes above what the process has after a small warm-up, for the first decision of a proposal."""
    space = zcpt.get_space(name)
    net, start = build_supernet(space, device), Mixture.initial(space.choices)
    choice = space.choices[0]
    removed = [start.without(choice.name, candidate) for candidate in choice.candidates]
    score, batch = scorer(engine, net), move_batch(make_random_batch(BATCHES[name]), device)
    score(removed[:1], move_batch(make_random_batch(2), device))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        score(removed, batch)
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    score(removed if engine == "fast" else removed[:2], batch)
    return _status("VmHWM") - before


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def _in_a_process_of_its_own(name: str, engine: str, device: str) -> int:
    words = [sys.executable, __file__, "--memory", engine, "--space", name, "--device", device]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and write the results down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=BATCHES, help="one space (default: all, and how the cost grows)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="of which the median counts")
    parser.add_argument("--samples", type=int, default=12, help="decisions of a proposal that all engines score")
    parser.add_argument("--memory", choices=ENGINES, help="only say the peak memory of one engine")
    parser.add_argument("--growth", action="store_true", help="only measure how the cost grows, and the limits")
    parser.add_argument("--report", action="store_true", help="only make the tables")
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.memory:
        sys.stdout.write(f"{peak_memory(args.space, args.memory, device)}\n")
        return
    hardware = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads, {_cpu()}"
    )
    document = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    mine = document.setdefault(device.type, {})
    if not args.report:
        mine |= {"hardware": hardware, "torch": torch.__version__, "date": date.today().isoformat()}
        for name in [args.space] if args.space else [] if args.growth else BATCHES:
            mine[name] = measure(name, device, args.repeats, args.samples)
            mine[name]["peak bytes"] = {e: _in_a_process_of_its_own(name, e, args.device) for e in ENGINES}
            write_atomically(RESULT, to_json_text(document))
        if args.growth or not args.space:
            mine |= {"growth": measure_growth(device), "limits": measure_limits(device)}
            write_atomically(RESULT, to_json_text(document))
    write_atomically(RESULT.with_suffix(".md"), report(document))


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    main()
