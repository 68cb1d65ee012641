"""Tables of the searches by trials, beside what "Zero-Cost Proxies for Lightweight NAS" reads.

The published figures are readings of the curves in the README of the authors' code
(https://github.com/mohsaied/zero-cost-nas), NAS-Bench-201 with CIFAR-100. Those curves are the running maximum of the
test accuracy, so the column to compare with is the optimistic one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
BENCHMARKS = {
    "trials-nasbench201-cifar10": "`nasbench201`, CIFAR-10",
    PAPER: "`nasbench201`, CIFAR-100",
    "trials-nasbench201-imagenet16-120": "`nasbench201`, ImageNet16-120",
    "trials-nasbench-macro": "`nasbench-macro`, CIFAR-10",
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
    header = ["way", "published", "accuracy", "optimistic", target, f"{target}, optimistic", "trials to the optimum"]
    return format_table([*header, "saved"], rows)


def find_first(curve: Sequence[float | None], target: float) -> str:
    """Return the number of trials after which a curve is at the target."""
    reached = (number for number, value in enumerate(curve, 1) if value is not None and value >= target)
    return str(next(reached, "-"))


def render_savings() -> str:
    """Return for each benchmark the trials to the optimum of the best plain way and of the best with a proxy."""
    rows = []
    for folder, title in BENCHMARKS.items():
        document = load_result(folder)
        results, settings = document["results"], document["protocol"]["variants"]
        plain = find_quickest({name: m for name, m in results.items() if not settings[name]["proxy"]})
        helped = find_quickest({name: m for name, m in results.items() if settings[name]["proxy"]})
        before, now = results[plain]["mean_trials"]["mean"], results[helped]["mean_trials"]["mean"]
        rows.append(
            [
                title,
                str(len(document["protocol"]["seeds"])),
                *(format_number(results[name]["mean_trials"]["mean"], 0) for name in ("random", "evolution")),
                *(f"{name}: {format_mean(results[name]['mean_trials'], 0)}" for name in (plain, helped)),
                f"{before / now:.1f}",
            ]
        )
    header = ["benchmark", "seeds", "random", "evolution", "best without a proxy", "best with synflow", "times fewer"]
    return format_table(header, rows)


def find_quickest(results: dict[str, Any]) -> str:
    """Return the name of the way with the fewest trials in the mean."""
    return min(results, key=lambda name: float(results[name]["mean_trials"]["mean"]))


TABLES: dict[str, Callable[[], str]] = {"trials": render_curves, "trials-saved": render_savings}
"""Functions without an argument, by their marker."""
