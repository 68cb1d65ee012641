"""Tables of the searches by trials, beside what "Zero-Cost Proxies for Lightweight NAS" reads.

The published figures are readings of the curves in the README of the authors' code
(https://github.com/mohsaied/zero-cost-nas), NAS-Bench-201 with CIFAR-100. Those curves are the running maximum of the
test accuracy, so the column to compare with is the optimistic one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.fragments import load_result
from zcpt.tabular.markdown import format_mean, format_number, format_table

PAPER = "trials-nasbench201-cifar100"
PUBLISHED_TARGET = 73.2
"""Test accuracy in percent for which the paper's curves are read."""
PUBLISHED = {
    "random": "72.05 after 300",
    "random+warmup-1000": "72.8 after 300",
    "random+warmup-3000": "73.15 after 300",
    "random+warmup-15625": "73.2 after 300",
    "evolution": "73.2 after about 195",
    "evolution+warmup-3000": "73.2 after about 90",
    "evolution+move": "73.2 after about 85",
    "reinforce": "72.3 after 300",
    "reinforce+warmup-1000": "73.15 after 300",
    "reinforce+warmup-3000": "73.2 after 300",
    "reinforce+warmup-15625": "73.1 after 300",
    "reinforce+move-10": "73.0 after 300",
    "reinforce+move-100": "73.15 after 300",
    "predictor": "73.25 after about 115",
    "predictor+warmup-512": "73.2 after about 50",
}
ALGORITHMS = ("evolution", "local", "predictor")
BENCHMARKS = {
    "trials-nasbench201-cifar10": "`nasbench201`, CIFAR-10",
    PAPER: "`nasbench201`, CIFAR-100",
    "trials-nasbench201-imagenet16-120": "`nasbench201`, ImageNet16-120",
    "trials-nasbench1shot1-1": "`nasbench1shot1-1`, CIFAR-10",
    "trials-nasbench1shot1-2": "`nasbench1shot1-2`, CIFAR-10",
    "trials-darts": "`darts`, the cells of the surrogate's table",
}


def render_curves() -> str:
    """Return the curves on NAS-Bench-201 with CIFAR-100 beside the paper's."""
    rows = []
    for name, measures in load_result(PAPER)["results"].items():
        saved = measures.get("saved")
        curves = [measures[kind]["mean"] for kind in ("curve", "optimistic")]
        rows.append(
            [
                name,
                PUBLISHED.get(name, ""),
                *(f"{format_number(curve[-1], 2)} after {len(curve)}" for curve in curves),
                *(find_first(curve, PUBLISHED_TARGET) for curve in curves),
                format_mean(measures["mean_trials"], 0),
                format_mean(saved, 0) if saved else "",
            ]
        )
    target = f"mean at {PUBLISHED_TARGET}"
    header = ["way", "published", "accuracy", "optimistic", target, f"{target}, optimistic", "trials needed"]
    return format_table([*header, "saved"], rows)


def find_first(curve: Sequence[float | None], target: float) -> str:
    """Return the number of trials after which a curve is at the target."""
    reached = (number for number, value in enumerate(curve, 1) if value is not None and value >= target)
    return str(next(reached, "-"))


def render_savings() -> str:
    """Return for each benchmark and algorithm the trials needed, plain and with warm-up and move together."""
    rows = []
    for folder, title in BENCHMARKS.items():
        document = load_result(folder)
        results = document["results"]
        rows.append([title, str(len(document["protocol"]["seeds"])), format_number(count_mean(results["random"]), 0)])
        for algorithm in ALGORITHMS:
            if algorithm not in results:
                rows[-1].append("")
                continue
            helped = results[find_helped(document["protocol"]["variants"], algorithm)]
            before, now = count_mean(results[algorithm]), count_mean(helped)
            saved = f"{format_mean(helped['saved'], 0)}, {helped['saved']['ratio']:.1f}x"
            rows[-1].append(f"{before:.0f} to {now:.0f}: {saved}")
    return format_table(["benchmark", "seeds", "random", *ALGORITHMS], rows)


def count_mean(measures: Mapping[str, Any]) -> float:
    """Return the mean number of trials needed."""
    return float(measures["mean_trials"]["mean"])


def find_helped(variants: Mapping[str, Mapping[str, Any]], algorithm: str) -> str:
    """Return the name of the variant of an algorithm that has a warm-up and moves."""
    return next(n for n, s in variants.items() if s["algorithm"] == algorithm and s["warmup"] and s["move"])


TABLES: dict[str, Callable[[], str]] = {"trials": render_curves, "trials-saved": render_savings}
"""Functions without an argument, by their marker."""
