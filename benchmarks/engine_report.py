"""The measurements of the engines as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.engine_setup import BATCHES, ENGINES

PAGE = """\
# The engines, side by side

Written by `python benchmarks/engine.py --report` from `engine.json`, which `python benchmarks/engine.py` measures.

`naive` is the field's way (`benchmarks/naive.py`): a deep copy of the supernet for each perturbation, hooks by class
name, two float products for each ReLU, contiguous tensors. `plain` is zcpt's definition of a score, `fast` its default
for naswot. All three count the same terms. Random images of 32x32 pixels.
"""
SECTION = """
## {hardware}, torch {torch}, {date}

One proposal, all its evaluations: seconds, and how many times as fast as `naive`. Peak memory is what scoring the first
decision takes beside network and batch.

{proposals}

Seconds an evaluation, while nothing is decided and for the last decision:

{evaluations}
"""
GROWTH = """
How the fast engine's cost grows: seconds of an evaluation of the undecided `darts` at B={batch}, C={channels}, {layers}
cells, {side}x{side} pixels, while one of it is changed; for N and V seconds of a small search on `nasbench201`.

{growth}

What an undecided supernet asks of the machine: seconds at the rates measured for a large float32 product
({products:.0f} GFLOP/s), a product of signs ({signs:.0f} GOP/s) and a copy ({bandwidth:.0f} GB/s, read and write),
beside the seconds that an evaluation takes.

{limits}
"""


def report(document: Mapping[str, Any]) -> str:
    """Return the page."""
    return PAGE + "".join(_section(results) for results in document.values())


def _section(results: Mapping[str, Any]) -> str:
    spaces = [name for name in BATCHES if name in results]
    page = SECTION.format(
        **results,
        proposals=table(
            ("space", "B", "evaluations", *ENGINES, "plain", "fast", *(f"{engine}, memory" for engine in ENGINES)),
            (_proposal(name, results[name]) for name in spaces),
        ),
        evaluations=table(
            ("space", *(f"{engine}, {when}" for when in ("first", "last") for engine in ENGINES)),
            (_evaluation(name, results[name]) for name in spaces),
        ),
    )
    return page + (_growth(results["growth"], results["limits"]) if "growth" in results else "")


def _proposal(name: str, row: Mapping[str, Any]) -> Sequence[str]:
    times = row["times as fast as naive"]
    return (
        name,
        str(row["batch"]),
        str(row["evaluations"]),
        *(f"{row['seconds of a proposal'][engine]:.1f} s" for engine in ENGINES),
        *(f"{times[engine]:.1f}x" for engine in ENGINES[1:]),
        *(f"{row['peak bytes'][engine] / 1e6:.0f} MB" for engine in ENGINES),
    )


def _evaluation(name: str, row: Mapping[str, Any]) -> Sequence[str]:
    keys = ("seconds an evaluation, nothing decided", "seconds an evaluation, at the end")
    return (name, *(f"{row[key][engine]:.3f}" for key in keys for engine in ENGINES))


def _growth(growth: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
    rows = [
        (name, ", ".join(f"{value}: {taken:.3f} s" for value, taken in results.items()))
        for name, results in growth.items()
        if name != "of"
    ]
    rates = limits["rates"]
    return GROWTH.format(
        **growth["of"],
        growth=table(("changed", "seconds"), rows),
        products=rates["float32 products a second"] / 1e9,
        signs=rates["int8 products a second"] / 1e9,
        bandwidth=rates["bytes a second"] / 1e9,
        limits=table(
            ("space", "convolutions", "kernels", "moving", "measured", "share of computing alone"),
            (_limit(name, row) for name, row in limits.items() if name != "rates"),
        ),
    )


def _limit(name: str, row: Mapping[str, Any]) -> Sequence[str]:
    needs = row["seconds at the measured rates"]
    parts = (f"{needs[key]:.3f}" for key in ("convolutions", "kernels", "moving"))
    return (name, *parts, f"{row['seconds']:.3f}", f"{row['share of computing alone']:.0%}")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
