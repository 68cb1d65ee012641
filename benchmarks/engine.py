"""Measure the engines side by side: seconds of a proposal, peak memory, and how the cost grows.

    python benchmarks/engine.py [--space darts] [--device cpu] [--repeats 3]

The fast engine makes one proposal on random images. Each engine then scores some of its decisions again: ``naive`` (the
usual implementation, ``benchmarks/naive.py``), ``plain`` and ``fast``. The seconds of the decisions between them are
interpolated. Peak memory is measured in a process for each engine. Writes ``benchmarks/results/engine.json`` and
renders ``benchmarks/results/engine.md`` from it; ``--report`` only renders the page.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import zcpt
from benchmarks.engine_report import BATCH_SIZES, ENGINES, render_page
from benchmarks.naive import NaiveEngine
from zcpt.batches import Batch
from zcpt.devices import move_batch, move_network
from zcpt.files import to_json_text, write_atomically
from zcpt.mixture import Mixture
from zcpt.proxies import Naswot
from zcpt.scoring import Evaluator
from zcpt.scoring.fast.build import build_graph
from zcpt.scoring.fast.graph import FusedChain, Graph, Value, WeightedSum
from zcpt.scoring.fast.kernels import count_both_positive
from zcpt.scoring.fast.operations import Convolution
from zcpt.scoring.fast.plan import Planner
from zcpt.scoring.fast.rewrite import rewrite_graph
from zcpt.search import Callback, Decision
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.supernet import Supernet

RESULT = Path(__file__).parent / "results" / "engine.json"
GROWTH_SETTINGS = {"batch": 32, "channels": 16, "layers": 5, "side": 32}
"""Settings of the measurement of growth, which changes one of them at a time."""
GROWTH_REPEATS = 5
ScoreFunction = Callable[[Sequence[Mixture], Batch], Any]


class PerturbationRecorder(Callback):
    """Records the perturbations of every decision of one proposal."""

    def __init__(self, space: SearchSpace) -> None:
        self.choices = {choice.name: choice for choice in space.choices}
        self.mixture = Mixture.initial(space.choices)
        self.remaining = {choice.name: choice.candidates for choice in space.choices}
        self.perturbations: list[list[Mixture]] = []
        self.seconds = 0.0

    def on_decision(self, proposal: int, decision: Decision, replayed: bool) -> None:
        """Record the perturbations that the decision compared, then apply it to the mixture."""
        choice, remaining = self.choices[decision.choice], self.remaining[decision.choice]
        self.perturbations.append([self.mixture.without(choice.name, candidate) for candidate in remaining])
        self.seconds += decision.seconds
        if len(decision.kept) <= choice.keep:
            self.mixture = self.mixture.select(choice.name, decision.kept)
        else:
            self.mixture = self.mixture.without(choice.name, *set(remaining) - set(decision.kept))
        self.remaining[choice.name] = decision.kept


def make_random_batch(size: int, side: int = 32) -> Batch:
    """Draw a batch of square images from a normal distribution; all labels are 0."""
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randn(size, 3, side, side, generator=generator), torch.zeros(size, dtype=torch.int64))


def build_supernet(space: SearchSpace, device: torch.device, **changes: Any) -> Supernet:
    """Build the supernet of a search, with some fields of its network config changed."""
    network_config = NetworkConfig(space.search_size.channels, space.search_size.layers, 10, 3, (32, 32))
    torch.manual_seed(0)
    return move_network(space.build_supernet(replace(network_config, **changes)), device).eval()


def build_score_function(engine: str, net: Supernet) -> ScoreFunction:
    """Return the function of an engine that scores mixtures with naswot."""
    if engine == "naive":
        return NaiveEngine(net).score_mixtures
    return Evaluator(net, Naswot(), engine="fast" if engine == "fast" else "plain").score_mixtures


def measure_seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Measure the seconds of one call."""
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def measure_median(call: Callable[[], Any], device: torch.device) -> float:
    """Measure the median seconds of a call, after one call to warm up."""
    call()
    return statistics.median(measure_seconds(call, device) for _ in range(GROWTH_REPEATS))


def measure_proposal(name: str, device: torch.device, repeats: int, samples: int) -> dict[str, Any]:
    """Measure the seconds of one proposal by each engine, interpolated between ``samples`` of its decisions."""
    space, batch = zcpt.get_space(name), move_batch(make_random_batch(BATCH_SIZES[name]), device)
    recorder = PerturbationRecorder(space)
    data = batch.images, batch.labels
    settings: dict[str, Any] = {"proposals": 1, "batch_size": len(batch.images), "num_classes": 10, "device": device}
    zcpt.search(space, data, callbacks=[recorder], **settings)
    decisions = recorder.perturbations
    counts = [len(mixtures) for mixtures in decisions]
    sampled = np.unique(np.linspace(0, len(decisions) - 1, samples).round().astype(int))
    score = {engine: build_score_function(engine, build_supernet(space, device)) for engine in ENGINES}
    # The fast engine traces the network in its first call: the difference to a second call is the time of tracing.
    tracing = measure_seconds(lambda: score["fast"](decisions[0][:1], batch), device)
    tracing -= measure_seconds(lambda: score["fast"](decisions[0][:1], batch), device)
    totals: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    first: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    last: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for repeat in range(repeats):
        seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for index in sampled:
            for engine in ENGINES:
                # The fast engine shares work between the mixtures of a decision, so all are scored. The other engines
                # score each mixture by itself, so one is enough.
                mixtures = decisions[index] if engine == "fast" else [decisions[index][repeat % counts[index]]]
                taken = measure_seconds(partial(score[engine], mixtures, batch), device)
                seconds[engine].append(taken / len(mixtures))
        for engine in ENGINES:
            interpolated = np.interp(range(len(decisions)), sampled, seconds[engine])
            totals[engine].append(float((interpolated * counts).sum()) + (tracing if engine == "fast" else 0))
            first[engine].append(seconds[engine][0])
            last[engine].append(seconds[engine][-1])
    median = {engine: statistics.median(totals[engine]) for engine in ENGINES}
    return {
        "batch": BATCH_SIZES[name],
        "channels": space.search_size.channels,
        "layers": space.search_size.layers,
        "evaluations": sum(counts),
        "seconds of a proposal": median,
        "range": {engine: [min(totals[engine]), max(totals[engine])] for engine in ENGINES},
        "seconds of a whole proposal by fast, not interpolated": recorder.seconds,
        "of it, seconds that fast looks into the network": tracing,
        "seconds an evaluation, nothing decided": {engine: statistics.median(first[engine]) for engine in ENGINES},
        "seconds an evaluation, at the end": {engine: statistics.median(last[engine]) for engine in ENGINES},
        "times as fast as naive": {engine: median["naive"] / median[engine] for engine in ENGINES},
    }


def measure_peak_memory(name: str, engine: str, device: torch.device) -> int:
    """Measure the bytes that the first decision of a proposal takes beside network, batch and a small warm-up."""
    space = zcpt.get_space(name)
    net, mixture = build_supernet(space, device), Mixture.initial(space.choices)
    choice = space.choices[0]
    perturbations = [mixture.without(choice.name, candidate) for candidate in choice.candidates]
    score, batch = build_score_function(engine, net), move_batch(make_random_batch(BATCH_SIZES[name]), device)
    score(perturbations[:1], move_batch(make_random_batch(2), device))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        score(perturbations, batch)
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak, to what is resident now
    before = read_process_memory("VmRSS")
    # Only the fast engine scores several mixtures together; for the others two show the peak of any number.
    score(perturbations if engine == "fast" else perturbations[:2], batch)
    return read_process_memory("VmHWM") - before


def read_process_memory(key: str) -> int:
    """Read a number of bytes from the status of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def run_memory_measurement(name: str, engine: str, device: str) -> int:
    """Measure the peak memory in a new process, where no earlier measurement has left memory allocated."""
    command = [sys.executable, __file__, "--memory", engine, "--space", name, "--device", device]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_growth(device: torch.device) -> dict[str, Any]:
    """Measure seconds of an evaluation of the undecided ``darts``, or of a search, while one setting is changed."""
    darts = zcpt.get_space("darts")
    changes: Mapping[str, tuple[int, ...]] = {
        "batch": (16, 32, 64, 128),
        "channels": (8, 16, 32),
        "layers": (5, 8, 11),
        "side": (16, 32, 64),
    }
    growth: dict[str, Any] = {"of": {"space": "darts", **GROWTH_SETTINGS}}
    for name, values in changes.items():
        growth[name] = {v: measure_evaluation(darts, device, **{**GROWTH_SETTINGS, name: v}) for v in values}
    growth["edges undecided"] = {
        n: measure_evaluation(darts, device, **GROWTH_SETTINGS, undecided=n) for n in (0, 14, 28)
    }
    growth["operations of an edge"] = {
        len(space.choices[0].candidates): measure_evaluation(space, device, **GROWTH_SETTINGS)
        for space in map(zcpt.get_space, ("darts-s2", "darts-s3", "darts"))
    }
    growth["N"] = {n: measure_search(device, proposals=n, validation_batches=1) for n in (1, 2, 4)}
    growth["V"] = {v: measure_search(device, proposals=2, validation_batches=v) for v in (4, 16, 64)}
    return growth


def measure_evaluation(
    space: SearchSpace,
    device: torch.device,
    batch: int,
    channels: int,
    layers: int,
    side: int,
    undecided: int | None = None,
) -> float:
    """Measure the seconds of one evaluation by the fast engine, with all or the first ``undecided`` edges undecided."""
    net = build_supernet(space, device, channels=channels, layers=layers, image_size=(side, side))
    mixture = Mixture.initial(space.choices)
    if undecided is not None:
        edges = [choice for choice in space.choices if not choice.phase]
        for choice in edges[undecided:]:
            mixture = mixture.select(choice.name, choice.selectable[-1:])
    evaluator, images = Evaluator(net, Naswot()), move_batch(make_random_batch(batch, side), device)
    return measure_median(lambda: evaluator.score_mixtures([mixture], images), device)


def measure_search(device: torch.device, **settings: Any) -> float:
    """Measure the seconds of a small search on ``nasbench201``."""
    images = make_random_batch(64)
    data = images.images, images.labels
    settings |= {"batch_size": 32, "validation_batch_size": 32, "channels": 16, "layers": 1, "num_classes": 10}
    began = time.perf_counter()
    zcpt.search("nasbench201", data, device=device, supernet_weights="run", **settings)
    return time.perf_counter() - began


def measure_limits(device: torch.device) -> dict[str, Any]:
    """Compare one evaluation of an undecided supernet with the machine's rates.

    Counts the products of all convolutions and kernels, and the bytes of every tensor: written once, and read once for
    each value computed from it. A cache may save some of these reads, so ``moving`` is no lower bound.
    """
    rates = measure_rates(device)
    limits: dict[str, Any] = {"rates": rates}
    for name in ("darts", "nasbench201"):
        space, size = zcpt.get_space(name), BATCH_SIZES[name]
        net, batch = build_supernet(space, device), move_batch(make_random_batch(size), device)
        mixture, proxy = Mixture.initial(space.choices), Naswot()
        taken = measure_median(partial(Evaluator(net, proxy, engine="fast").score_mixtures, [mixture], batch), device)
        graph = build_graph(net, tuple(batch.images.shape), torch.float32, device, proxy.is_counted)
        graph = rewrite_graph(graph)
        values = list(unchain_values(graph))
        convolutions = 2 * sum(map(count_macs, values))
        kernels = 2 * sum(value.units for value in Planner(net, graph).count_observed(mixture)) * size * size
        moved = sum(4 * size * (value.units + sum(source.units for source in value.sources)) for value in values)
        seconds = {
            "convolutions": convolutions / rates["float32 products a second"],
            "kernels": kernels / rates["int8 products a second"],
            "moving": moved / rates["bytes a second"],
        }
        limits[name] = {
            "seconds": taken,
            "operations of convolutions": convolutions,
            "operations of kernels": kernels,
            "bytes": moved,
            "seconds at the measured rates": seconds,
            "share of computing alone": (seconds["convolutions"] + seconds["kernels"]) / taken,
        }
    return limits


def unchain_values(graph: Graph) -> Iterator[Value]:
    """Yield all values, with the links of a chain in place of the chain."""
    for value in graph.values:
        if isinstance(value.op, FusedChain):
            sources = value.sources
            for link in value.op.links:
                yield replace(link, sources=sources)
                sources = (link,)
        else:
            yield value


def count_macs(value: Value) -> int:
    """Count the multiply-accumulates of the convolutions that compute a value."""
    convolutions = [value.op] if isinstance(value.op, Convolution) else []
    if isinstance(value.op, WeightedSum):
        merged = [[term.convolution for term in terms if term.convolution] for terms in value.op.terms]
        # Convolutions that are merged, such as 1x1 and 3x3, run as one with the largest of their windows.
        convolutions = [max(group, key=lambda conv: conv.weight.numel()) for group in merged if group]
    windows = sum(math.prod(convolution.weight.shape[1:]) for convolution in convolutions)
    return value.shape[0] * value.units * windows


def measure_rates(device: torch.device) -> dict[str, float]:
    """Measure the machine's rates: a large float32 product, a product of signs, and a copy (read and write)."""
    side, signs = 2048, torch.randint(0, 2, (256, 2**14), dtype=torch.int8, device=device)
    square, source = torch.randn(side, side, device=device), torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    return {
        "float32 products a second": 2 * side**3 / measure_median(lambda: square @ square, device),
        "int8 products a second": 2 * 256**2 * 2**14 / measure_median(lambda: count_both_positive(signs), device),
        "bytes a second": 2 * 4 * 2**26 / measure_median(lambda: target.copy_(source), device),
    }


def describe_hardware(device: torch.device) -> str:
    """Return the name of the GPU, or the number of threads and the name of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return f"{torch.get_num_threads()} threads, {cpu}"


def main() -> None:
    """Measure, and write the results and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=BATCH_SIZES, help="measure one space (default: all, and the growth)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="measurements, of which the median is reported")
    parser.add_argument("--samples", type=int, default=12, help="decisions of a proposal that all engines score")
    parser.add_argument("--memory", choices=ENGINES, help="only print the peak memory of one engine, in bytes")
    parser.add_argument("--growth", action="store_true", help="measure only how the cost grows, and the limits")
    parser.add_argument("--report", action="store_true", help="only render the page from the results")
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.memory:
        sys.stdout.write(f"{measure_peak_memory(args.space, args.memory, device)}\n")
        return
    document = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if not args.report:
        results = document.setdefault(device.type, {})
        results |= {"hardware": describe_hardware(device), "torch": torch.__version__, "date": date.today().isoformat()}
        spaces = [args.space] if args.space else [] if args.growth else BATCH_SIZES
        for name in spaces:
            results[name] = measure_proposal(name, device, args.repeats, args.samples)
            results[name]["peak bytes"] = {e: run_memory_measurement(name, e, args.device) for e in ENGINES}
            write_atomically(RESULT, to_json_text(document))
        if args.growth or not args.space:
            results |= {"growth": measure_growth(device), "limits": measure_limits(device)}
            write_atomically(RESULT, to_json_text(document))
    write_atomically(RESULT.with_suffix(".md"), render_page(document))


if __name__ == "__main__":
    main()
