"""Tables and numbers of the documentation, each computed from ``benchmarks/results``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.training_report import render_training
from zcpt.errors import ConfigError
from zcpt.tabular import published
from zcpt.tabular.markdown import format_interval, format_mean, format_number, format_table
from zcpt.tabular.measures import compute_mean_interval

RESULTS = Path(__file__).parent / "results"
VARIANTS = "nasbench201-cifar10-search-variants"
ORDERS = ("fixed", "reverse", "random", "global-op-once", "global-edge-once", "global-op-iter", "global-edge-iter")
ENGINE_SPACES = ("darts", "nasbench201", "proxyless", "nasbench-macro")
DATA_SETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16-120": "ImageNet16-120"}
Result = dict[str, Any]


@cache
def load_result(folder: str) -> Result:
    """Read the result of a measurement, by its folder below ``benchmarks/results/tables``."""
    path = RESULTS / "tables" / folder / "result.json"
    if not path.exists():
        raise ConfigError(f"there is no result {path}: correct the marker, or measure it.")
    result: Result = json.loads(path.read_text())
    return result


def load_variant(name: str) -> Result:
    """Read the searches of a variant (benchmarks/variants.yaml) on NAS-Bench-201 and CIFAR-10."""
    return load_result(f"{VARIANTS}/{name}")


@cache
def load_engines() -> Result:
    """Read the times of the engines on a CPU."""
    document: Result = json.loads((RESULTS / "engine.json").read_text())["cpu"]
    return document


@cache
def load_decisions(other: str) -> list[Result]:
    """Read the decisions that were taken again by the engine ``plain`` or in ``bf16``, space by space."""
    document: Result = json.loads((RESULTS / "engine_decisions.json").read_text())[other]
    return list(document.values())


def list_accuracies(result: Result) -> list[float]:
    """List the accuracies in percent of the architectures that searches found, seed by seed."""
    return [row["accuracy"] for row in result["searches"]]


def list_proposal_accuracies(result: Result) -> list[float]:
    """List the accuracies in percent of all proposals of searches."""
    return [accuracy for row in result["searches"] for accuracy in row["proposals"]]


def list_random_accuracies(folder: str) -> list[float]:
    """List the accuracies of random search with as many evaluations, by one score each; empty if not measured."""
    # The thirty searches stand for the variant v10, which is the same search with four seeds.
    source = f"{VARIANTS}/v10" if folder == "nasbench201-cifar10-search" else folder
    return [row["accuracy"] for row in load_result(source).get("random_search", [])]


# Numbers within sentences: '<!-- results:mean:FOLDER -->'.


def render_mean(folder: str) -> str:
    """Return the mean accuracy of searches."""
    return format_number(load_result(folder)["results"]["accuracy"]["mean"], 2)


def render_mean_interval(folder: str) -> str:
    """Return the mean accuracy of searches with Student's 95 % interval."""
    return format_mean(load_result(folder)["results"]["accuracy"])


def render_deviation(folder: str) -> str:
    """Return the standard deviation of the accuracies of searches."""
    return format_number(load_result(folder)["results"]["accuracy"]["sd"], 2)


def render_error(folder: str) -> str:
    """Return the mean test error of searches."""
    return format_number(100 - load_result(folder)["results"]["accuracy"]["mean"], 2)


def render_accuracies(folder: str) -> str:
    """Return the accuracies of searches, seed by seed."""
    return " ".join(f"{accuracy:.2f}" for accuracy in list_accuracies(load_result(folder)))


def render_seconds(folder: str) -> str:
    """Return the median seconds of a search."""
    return f"{median(row['seconds'] for row in load_result(folder)['searches']):.0f}"


def render_evaluations(folder: str) -> str:
    """Return the median number of networks that a search scored, in both stages."""
    return f"{median(sum(row['evaluations'].values()) for row in load_result(folder)['searches']):.0f}"


def render_optimum(folder: str) -> str:
    """Return the best accuracy of the benchmark."""
    return format_number(load_result(folder)["protocol"]["table"]["best"], 2)


def render_table_mean(folder: str) -> str:
    """Return the mean accuracy of all architectures of the benchmark."""
    return format_number(load_result(folder)["protocol"]["table"]["mean"], 2)


def render_random_search(folder: str) -> str:
    """Return the mean accuracy of random search with as many evaluations, by one score each."""
    return f"{mean(row['accuracy'] for row in load_result(folder)['random_search']):.2f}"


def render_random_accuracies(folder: str) -> str:
    """Return the accuracies of random search with as many evaluations, seed by seed."""
    return " ".join(f"{row['accuracy']:.2f}" for row in load_result(folder)["random_search"])


def render_random_correlation(folder: str) -> str:
    """Return Spearman's correlation of the scores of random search with accuracy, averaged over the seeds."""
    return f"{mean(row['spearman'] for row in load_result(folder)['random_search']):.2f}"


def render_proposals(folder: str) -> str:
    """Return the number of proposals of all searches."""
    return f"{len(list_proposal_accuracies(load_result(folder))):,}"


def render_better(folder: str) -> str:
    """Return how many architectures of the benchmark are better than the one that searches found, at most."""
    return f"{max(row['rank'] for row in load_result(folder)['searches']) - 1:,}"


def render_agreement(score: str) -> str:
    """Return Spearman's correlation of an operation score with best-acc on NAS-Bench-201, with three digits."""
    agreement = load_result("nasbench201-cifar10-operations-settings")["results"][score]["agreement"]
    return f"{agreement['best-acc']['spearman']['mean']:.3f}"


def render_correlation(folder_and_proxy: str) -> str:
    """Return Spearman's correlation of a proxy."""
    folder, proxy = folder_and_proxy.split()
    return format_number(load_result(folder)["results"][proxy]["spearman"]["value"], 2)


def render_best_correlation(folder: str) -> str:
    """Return the highest of Spearman's correlations of proxies."""
    return f"{max(row['spearman']['value'] or -1 for row in load_result(folder)['results'].values()):.2f}"


def render_differing(other: str) -> str:
    """Return how many decisions differ from those of the fast engine in float32."""
    differing = sum(len(space["differing"]) for space in load_decisions(other))
    return f"{differing or 'none'} of {sum(space['decisions'] for space in load_decisions(other)):,}"


def render_largest_gap(other: str) -> str:
    """Return the largest difference between the scores of the two candidates where decisions differ."""
    return format_scientific(max(row["gap"] for space in load_decisions(other) for row in space["differing"]))


def render_largest_difference(other: str) -> str:
    """Return the largest difference of a score from that of the fast engine in float32."""
    return format_scientific(max(space["largest difference of scores"] for space in load_decisions(other)))


def format_scientific(value: float) -> str:
    """Return a small number with two digits, such as ``3.2e-4``."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


NUMBERS: dict[str, Callable[[str], str]] = {
    "mean": render_mean,
    "interval": render_mean_interval,
    "sd": render_deviation,
    "error": render_error,
    "accuracies": render_accuracies,
    "seconds": render_seconds,
    "evaluations": render_evaluations,
    "optimum": render_optimum,
    "table-mean": render_table_mean,
    "random": render_random_search,
    "random-accuracies": render_random_accuracies,
    "random-spearman": render_random_correlation,
    "proposals": render_proposals,
    "better": render_better,
    "agreement": render_agreement,
    "spearman": render_correlation,
    "best-spearman": render_best_correlation,
    "differing": render_differing,
    "largest-gap": render_largest_gap,
    "largest-difference": render_largest_difference,
}
"""Functions of the second part of a marker, mostly a folder, by the first part."""


# Tables and comparisons: '<!-- results:NAME -->'.


def render_readme_searches() -> str:
    """Return the README's table: searches on NAS-Bench-201 with CIFAR-10 beside published figures."""
    thirty = "nasbench201-cifar10-search"
    table = load_result(thirty)["protocol"]["table"]
    rows = [
        ["zcpt, N=10, V=10, 30 seeds", render_mean_interval(thirty), f"{render_seconds(f'{VARIANTS}/v10')} s"],
        [
            "zcpt, N=1, fixed order, 4 seeds",
            render_mean_interval(f"{VARIANTS}/fixed-n1"),
            f"{render_seconds(f'{VARIANTS}/fixed-n1')} s",
        ],
        *([f"published: {figure.method}", figure.accuracy, ""] for figure in published.SEARCHES[:4:3]),
        [f"best of all {table['architectures']:,} cells", format_number(table["best"], 2), ""],
        ["mean of all cells", format_number(table["mean"], 2), ""],
    ]
    accuracies = list_random_accuracies(thirty)
    if accuracies:
        interval = format_mean(compute_mean_interval(accuracies))
        rows.insert(2, [f"random search of as many evaluations, {len(accuracies)} seeds", interval, ""])
    return format_table(["search", "test accuracy in % [95 % interval]", "on one CPU core"], rows)


def render_engine() -> str:
    """Return the seconds of one proposal by the engines."""
    rows = []
    for space in ENGINE_SPACES:
        document = load_engines()[space]
        seconds = document["seconds of a proposal"]
        rows.append(
            [
                f"`{space}`, B={document['batch']}",
                str(document["evaluations"]),
                *(f"{seconds[engine]:,.0f} s" for engine in ("naive", "plain", "fast")),
                f"{document['times as fast as naive']['fast']:.1f}",
            ]
        )
    header = ["space", "evaluations", "deep copies and hooks", "`--engine plain`", "`--engine fast` (default)"]
    return format_table([*header, "speed-up"], rows)


def render_engine_speedup() -> str:
    """Return the range of the fast engine's speed-up over deep copies and hooks."""
    speedups = [load_engines()[space]["times as fast as naive"]["fast"] for space in ENGINE_SPACES]
    return f"{min(speedups):.0f} to {max(speedups):.0f}"


def render_searches() -> str:
    """Return searches with N=10 and V=10 on all benchmarks, beside random search where it was measured."""
    folders = [f"nasbench201-{data_set}-search" for data_set in DATA_SETS]
    folders += ["nasbench-macro-search", "nasbench1shot1-1-search", "nasbench1shot1-2-search"]
    rows = []
    for folder in folders:
        result = load_result(folder)
        protocol, table = result["protocol"], result["protocol"]["table"]
        random_search = list_random_accuracies(folder)
        rows.append(
            [
                f"`{protocol['space']}`, {DATA_SETS[table['data_set']]}",
                str(len(result["searches"])),
                render_mean_interval(folder),
                format_mean(compute_mean_interval(random_search)) if random_search else "",
                format_number(table["best"], 2),
                format_number(table["mean"], 2),
            ]
        )
    return format_table(["benchmark", "seeds", "search", "random search", "optimum", "mean"], rows)


def render_proxies() -> str:
    """Return Spearman's correlation of proxies on the three data sets of NAS-Bench-201, the best on CIFAR-10 first."""
    results = {data_set: load_result(f"nasbench201-{data_set}-proxies")["results"] for data_set in DATA_SETS}
    # The terms of AZ-NAS were measured again when they began to count every cell, on the first data set alone.
    results["cifar10"] = results["cifar10"] | load_result("nasbench201-cifar10-proxies-az")["results"]
    names = sorted(results["cifar10"], key=lambda name: -(results["cifar10"][name]["spearman"]["value"] or -1))
    rows = []
    for name in names:
        correlations = [results[data_set].get(name, {}).get("spearman") for data_set in DATA_SETS]
        cells = [format_number(c["value"], 2) + format_interval(c) if c else "" for c in correlations]
        figures = published.find_correlations(published.GroundTruth("nasbench201", "cifar10", "test"), name)
        rows.append([name, *cells, ", ".join(f"{f.spearman:g} ({f.source})" for f in figures if f.spearman)])
    return format_table(["proxy", *DATA_SETS.values(), "published, CIFAR-10"], rows)


def render_operations() -> str:
    """Return the agreement of operation scores with trained accuracies on NAS-Bench-201."""
    rows = []
    for name, measures in load_result("nasbench201-cifar10-operations")["results"].items():
        agreement = measures["agreement"]
        figures = published.find_agreements(published.GroundTruth("nasbench201", "cifar10", "test"), name)
        by_reference = [format_mean(agreement[reference]["spearman"]) for reference in ("best-acc", "avg-acc")]
        texts = [f"{f.best_acc:g} / {'-' if f.avg_acc is None else f.avg_acc} (seeds: {f.seeds})" for f in figures]
        rows.append([name, *by_reference, ", ".join(texts)])
    return format_table(["score", "best-acc", "avg-acc", "published"], rows)


def render_orders() -> str:
    """Return one proposal by each order."""
    rows = []
    for order in ORDERS:
        folder = f"{VARIANTS}/{order}-n1"
        cells = [render(folder) for render in (render_accuracies, render_mean, render_evaluations, render_seconds)]
        rows.append([f"`{order}`", *cells, load_result(folder)["protocol"]["date"]])
    header = ["order, N=1", "test accuracy in %, seeds 0 to 3", "mean", "evaluations", "seconds on one CPU core"]
    return format_table([*header, "measured"], rows)


def render_orders_variance() -> str:
    """Return the analysis of variance of the table of orders, by its rows (orders)."""
    return format_f_test(*analyse_variance()[0])


def render_seeds_variance() -> str:
    """Return the analysis of variance of the table of orders, by its columns (seeds)."""
    return format_f_test(*analyse_variance()[1])


def render_orders_range() -> str:
    """Return the difference between the largest and the smallest mean of the table of orders."""
    means = [mean(list_accuracies(load_variant(f"{order}-n1"))) for order in ORDERS]
    return f"{max(means) - min(means):.2f}"


def render_orders_spread() -> str:
    """Return mean and standard deviation of the proposals in random order."""
    proposals = list_proposal_accuracies(load_variant("v10"))
    return f"mean {mean(proposals):.2f} and standard deviation {stdev(proposals):.2f}"


def render_orders_error() -> str:
    """Return the standard error of a mean of the table of orders, and twice that of the difference of two means."""
    seeds = len(list_accuracies(load_variant("random-n1")))
    error = stdev(list_proposal_accuracies(load_variant("v10"))) / math.sqrt(seeds)
    return f"{error:.2f}, and two orders would have to differ by about {2 * math.sqrt(2) * error:.1f}"


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


def render_validation_proxy() -> str:
    """Return how often another validation proxy finds a better architecture, with two tests of the difference."""
    aggregate = "nasbench201-cifar10-search-validated-log_rank-naswot-synflow"
    differences = np.array(list_accuracies(load_result(aggregate)))
    differences -= np.array(list_accuracies(load_result("nasbench201-cifar10-search")))
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    sign_test = stats.binomtest(better, better + worse).pvalue
    t_test = stats.ttest_1samp(differences, 0).pvalue
    return (
        f"better at {better} of the seeds and worse at {worse}, which is no more than chance may do (sign test, "
        f"p = {sign_test:.2f}; paired t-test, p = {t_test:.2f})"
    )


TABLES: dict[str, Callable[[], str]] = {
    "searches": render_readme_searches,
    "engine": render_engine,
    "engine-speedup": render_engine_speedup,
    "training": render_training,
    "benchmarks": render_searches,
    "proxies": render_proxies,
    "operations": render_operations,
    "orders": render_orders,
    "orders-variance": render_orders_variance,
    "seeds-variance": render_seeds_variance,
    "orders-range": render_orders_range,
    "orders-spread": render_orders_spread,
    "orders-error": render_orders_error,
    "validation-proxy": render_validation_proxy,
}
"""Functions without an argument, by their marker."""
