"""Tables and numbers of the documentation, each computed from ``benchmarks/results``."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
from scipy import stats

from zcpt.tabular import published
from zcpt.tabular._markdown import format_mean, format_number, format_table

RESULTS = Path(__file__).parent / "results"
VARIANTS = "nasbench201-cifar10-search-variants"
ORDERS = ("fixed", "reverse", "random", "global-op-once", "global-edge-once", "global-op-iter", "global-edge-iter")
ENGINE_SPACES = ("darts", "nasbench201", "proxyless", "nasbench-macro")
Result = dict[str, Any]
FRAGMENTS: dict[str, Callable[[], str]] = {}
"""Functions that return what stands between a pair of markers, by the markers' name."""


def fragment(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Register the function that renders a fragment."""

    def register(render: Callable[[], str]) -> Callable[[], str]:
        assert name not in FRAGMENTS, name
        FRAGMENTS[name] = render
        return render

    return register


@cache
def load_result(name: str) -> Result:
    """Read the result of a measurement."""
    result: Result = json.loads((RESULTS / "tables" / name / "result.json").read_text())
    return result


def load_variant(name: str) -> Result:
    """Read the searches of a variant (benchmarks/variants.yaml) on NAS-Bench-201 and CIFAR-10."""
    return load_result(f"{VARIANTS}/{name}")


@cache
def load_engines() -> Result:
    """Read the times of the engines on a CPU."""
    document: Result = json.loads((RESULTS / "engine.json").read_text())["cpu"]
    return document


def list_accuracies(result: Result) -> list[float]:
    """List the accuracies in percent of what was found, seed by seed."""
    return [row["accuracy"] for row in result["searches"]]


def median_seconds(result: Result) -> float:
    """Return the median seconds of a search."""
    return float(median(row["seconds"] for row in result["searches"]))


def median_evaluations(result: Result) -> str:
    """Return the median number of networks that a search scored, in both stages."""
    return f"{median(sum(row['evaluations']) for row in result['searches']):.0f}"


# README


@fragment("headline")
def render_headline() -> str:
    """Render the accuracy of thirty searches."""
    return format_mean(load_result("nasbench201-cifar10-search")["results"]["accuracy"])


@fragment("searches")
def render_searches() -> str:
    """Render the README's table: searches on NAS-Bench-201 with CIFAR-10 beside published figures."""
    thirty = load_result("nasbench201-cifar10-search")
    table = thirty["protocol"]["table"]
    v10, fixed = load_variant("v10"), load_variant("fixed-n1")
    rows = [
        ["zcpt, N=10, V=10, 30 seeds", format_mean(thirty["results"]["accuracy"]), f"{median_seconds(v10):.0f} s"],
        [
            "zcpt, N=1, fixed order, 4 seeds",
            format_mean(fixed["results"]["accuracy"]),
            f"{median_seconds(fixed):.0f} s",
        ],
        *([f"published: {figure.method}", figure.accuracy, ""] for figure in published.SEARCHES[:4:3]),
        [f"best of all {table['architectures']:,} cells", format_number(table["best"], 2), ""],
        ["mean of all cells", format_number(table["mean"], 2), ""],
    ]
    return format_table(["search", "test accuracy in % [95 % interval]", "on one CPU core"], rows)


@fragment("engine")
def render_engine() -> str:
    """Render the seconds of one proposal by the engines."""
    engines = load_engines()
    rows = []
    for space in ENGINE_SPACES:
        document = engines[space]
        seconds = document["seconds of a proposal"]
        rows.append(
            [
                f"`{space}`, B={document['batch']}",
                str(document["evaluations"]),
                *(f"{seconds[engine]:,.0f} s" for engine in ("naive", "plain", "fast")),
                f"{document['times as fast as naive']['fast']:.1f}",
            ]
        )
    header = [
        "space",
        "evaluations",
        "deep copies and hooks",
        "`--engine plain`",
        "`--engine fast` (default)",
        "speed-up",
    ]
    return format_table(header, rows)


@fragment("engine-speedup")
def render_engine_speedup() -> str:
    """Render the range of the fast engine's speed-up over deep copies and hooks."""
    speedups = [load_engines()[space]["times as fast as naive"]["fast"] for space in ENGINE_SPACES]
    return f"{min(speedups):.0f} to {max(speedups):.0f}"


# docs/orders.md


@fragment("orders")
def render_orders() -> str:
    """Render one proposal by each order."""
    rows = []
    for order in ORDERS:
        result = load_variant(f"{order}-n1")
        accuracies = list_accuracies(result)
        rows.append(
            [
                f"`{order}`",
                " ".join(f"{accuracy:.2f}" for accuracy in accuracies),
                f"{mean(accuracies):.2f}",
                median_evaluations(result),
                f"{median_seconds(result):.0f}",
                result["protocol"]["date"],
            ]
        )
    return format_table(
        [
            "order, N=1",
            "test accuracy in %, seeds 0 to 3",
            "mean",
            "evaluations",
            "seconds on one CPU core",
            "measured",
        ],
        rows,
    )


@fragment("orders-variance")
def render_orders_variance() -> str:
    """Render the analysis of variance of that table, by its rows (orders)."""
    return format_f_test(*analyse_variance()[0])


@fragment("seeds-variance")
def render_seeds_variance() -> str:
    """Render the analysis of variance of that table, by its columns (seeds)."""
    return format_f_test(*analyse_variance()[1])


@fragment("orders-spread")
def render_orders_spread() -> str:
    """Render the spread of the proposals in random order."""
    proposals = [accuracy for row in load_variant("v10")["searches"] for accuracy in row["proposals"]]
    return f"mean {mean(proposals):.2f} and standard deviation {stdev(proposals):.2f}"


def analyse_variance() -> tuple[tuple[float, int, int], tuple[float, int, int]]:
    """Return F and both degrees of freedom, of the orders and of the seeds: two ways, one value a cell."""
    table = np.array([list_accuracies(load_variant(f"{order}-n1")) for order in ORDERS])
    orders, seeds = table.mean(axis=1), table.mean(axis=0)
    residual = table - orders[:, None] - seeds[None, :] + table.mean()
    rows, columns = len(orders) - 1, len(seeds) - 1
    error = (residual**2).sum() / (rows * columns)
    return (
        (float(len(seeds) * orders.var(ddof=1) / error), rows, rows * columns),
        (float(len(orders) * seeds.var(ddof=1) / error), columns, rows * columns),
    )


def format_f_test(f: float, between: int, within: int) -> str:
    """Return F with its probability under the hypothesis that nothing differs."""
    p = float(stats.f.sf(f, between, within))
    return f"F({between}, {within}) = {f:.2f}, " + ("p < 0.001" if p < 0.001 else f"p = {p:.2g}")


# docs/defaults.md


@fragment("v10")
def render_v10() -> str:
    """Render the mean accuracy of the four searches that the variants stand beside."""
    return f"{mean(list_accuracies(load_variant('v10'))):.2f}"


def render_against(variant: str) -> str:
    """Return the mean of the four searches v10 against that of a variant."""
    return f"{render_v10()} against {mean(list_accuracies(load_variant(variant))):.2f}"


for _variant in ("naswot-official", "batch-for-each-step", "one-set-of-weights", "one-initialisation"):
    fragment(f"against-{_variant}")(partial(render_against, f"v10-{_variant}"))


@fragment("agreement-64")
def render_agreement_64() -> str:
    """Render how well importances on batches of 64 agree with the best training."""
    return format_agreement("zc-pt naswot")


@fragment("agreement-256")
def render_agreement_256() -> str:
    """Render how well importances on batches of 256 agree with the best training."""
    return format_agreement("zc-pt naswot, batch of 256")


def format_agreement(score: str) -> str:
    """Return the mean correlation of a score of operations with best-acc, with three digits."""
    agreement = load_result("nasbench201-cifar10-operations-settings")["results"][score]["agreement"]
    return f"{agreement['best-acc']['spearman']['mean']:.3f}"
