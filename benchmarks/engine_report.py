"""The page of Markdown that shows the measurements of ``benchmarks/engine.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zcpt.tabular.markdown import format_table

ENGINES = ("naive", "plain", "fast")
"""Measured engines, in the order of the columns."""
BATCH_SIZES = {"darts": 64, "nasbench201": 256, "proxyless": 64, "nasbench-macro": 256}
"""Measured spaces, in the order of the rows, each with the batch size of its published search."""

PAGE = """\
# The engines, side by side

Written by `python benchmarks/engine.py --report` from `engine.json`, which `python benchmarks/engine.py` measures.

`naive` is the field's way (`benchmarks/naive.py`): a deep copy of the supernet for each perturbation, hooks by class
name, two float products for each ReLU, contiguous tensors. `plain` is zcpt's definition of a score, `fast` its default
for naswot. All three count the same terms, except that `naive` still counts the ReLUs of dropped edges in the last
decisions of a `darts` proposal. Random images of 32x32 pixels.
"""
SECTION = """
## {hardware}, torch {torch}, {date}

One proposal, all its evaluations: seconds, and how many times as fast as `naive`. Peak memory is what scoring the first
decision takes beside network and batch.

{proposals}
Seconds an evaluation, while nothing is decided and for the last decision:

{evaluations}"""
GROWTH = """
How the fast engine's cost grows: seconds of an evaluation of the undecided `darts` at B={batch}, C={channels}, {layers}
cells, {side}x{side} pixels, while one of it is changed; for N and V seconds of a small search on `nasbench201`.

{growth}
What an undecided supernet asks of the machine: seconds at the rates measured for a large float32 product
({products:.0f} GFLOP/s), a product of signs ({signs:.0f} GOP/s) and a copy ({bandwidth:.0f} GB/s, read and write),
beside the seconds that an evaluation takes.

{limits}"""


def render_page(document: Mapping[str, Any]) -> str:
    """Return the page of all results, with one section for each type of device."""
    return PAGE + "".join(render_section(results) for results in document.values())


def render_section(results: Mapping[str, Any]) -> str:
    """Return the tables of one device: times and memory of each space, then growth and limits if measured."""
    spaces = [name for name in BATCH_SIZES if name in results]
    section = SECTION.format(
        **results,
        proposals=format_table(
            ("space", "B", "evaluations", *ENGINES, *ENGINES[1:], *(f"{engine}, memory" for engine in ENGINES)),
            (list_proposal_cells(name, results[name]) for name in spaces),
        ),
        evaluations=format_table(
            ("space", *(f"{engine}, {when}" for when in ("first", "last") for engine in ENGINES)),
            (list_evaluation_cells(name, results[name]) for name in spaces),
        ),
    )
    return section + (render_growth(results["growth"], results["limits"]) if "growth" in results else "")


def list_proposal_cells(name: str, row: Mapping[str, Any]) -> Sequence[str]:
    """List a space's cells of the first table: seconds, speed-ups and peak memory."""
    return (
        name,
        str(row["batch"]),
        str(row["evaluations"]),
        *(f"{row['seconds of a proposal'][engine]:.1f} s" for engine in ENGINES),
        *(f"{row['times as fast as naive'][engine]:.1f}x" for engine in ENGINES[1:]),
        *(f"{row['peak bytes'][engine] / 1e6:.0f} MB" for engine in ENGINES),
    )


def list_evaluation_cells(name: str, row: Mapping[str, Any]) -> Sequence[str]:
    """List a space's cells of the second table: seconds of an evaluation in the first and the last decision."""
    keys = ("seconds an evaluation, nothing decided", "seconds an evaluation, at the end")
    return (name, *(f"{row[key][engine]:.3f}" for key in keys for engine in ENGINES))


def render_growth(growth: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
    """Return the tables of the fast engine's growth and of the machine's limits."""
    changes = [
        (name, ", ".join(f"{value}: {seconds:.3f} s" for value, seconds in results.items()))
        for name, results in growth.items()
        if name != "of"
    ]
    rates = limits["rates"]
    return GROWTH.format(
        **growth["of"],
        growth=format_table(("changed", "seconds"), changes),
        products=rates["float32 products a second"] / 1e9,
        signs=rates["int8 products a second"] / 1e9,
        bandwidth=rates["bytes a second"] / 1e9,
        limits=format_table(
            ("space", "convolutions", "kernels", "moving", "measured", "share of computing alone"),
            (list_limit_cells(name, row) for name, row in limits.items() if name != "rates"),
        ),
    )


def list_limit_cells(name: str, row: Mapping[str, Any]) -> Sequence[str]:
    """List a space's cells of the table of limits: seconds at the machine's rates, and as measured."""
    seconds = row["seconds at the measured rates"]
    parts = (f"{seconds[key]:.3f}" for key in ("convolutions", "kernels", "moving"))
    return (name, *parts, f"{row['seconds']:.3f}", f"{row['share of computing alone']:.0%}")
