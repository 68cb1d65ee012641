"""``zcpt list``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import get_args

from train.data import DATASETS
from train.recipe import describe_recipe, list_recipes, read_recipe
from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.printing import print_lines
from zcpt.proxies import Aggregate, Need, Proxy, get_aggregate_class, get_proxy, list_aggregates, list_proxies
from zcpt.registry import get_docstring_summary
from zcpt.search import ORDERS, PRESETS
from zcpt.space import SearchSpace
from zcpt.space_registry import get_space, list_spaces
from zcpt.trials import ALGORITHMS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("kind", nargs="?", metavar="KIND", help="show only this kind, such as spaces")


def run(args: argparse.Namespace) -> None:
    """Print one line for each name."""
    tables = _make_tables()
    if args.kind and args.kind not in tables:
        raise ConfigError(describe_unknown_name("kind", args.kind, tables))
    for kind, table in tables.items():
        if args.kind in (None, kind):
            columns = _COLUMNS.get(kind, ())
            print_lines(*align_columns([(kind, *columns), *((f"  {name}", *row) for name, row in table.items())]))


def align_columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Format rows of cells, the first one being the heading."""
    widths = [max(map(len, column)) for column in zip(*rows[1:], strict=True)]
    cells = (zip(row, widths, strict=False) for row in rows)  # a heading may have fewer columns
    return ["  ".join(f"{cell:{width}}" for cell, width in row).rstrip() for row in cells]


def _make_tables() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return kind -> name -> cells."""
    return {
        "spaces": {name: (_get_summary(get_space(name)),) for name in list_spaces()},
        "proxies": {name: describe_proxy(get_proxy(name)) for name in list_proxies()},
        "aggregates": {name: (_get_summary(get_aggregate_class(name)),) for name in list_aggregates()},
        "algorithms": {name: (algorithm.summary,) for name, algorithm in sorted(ALGORITHMS.items())},
        "orders": {name: (order.summary,) for name, order in ORDERS.items()},
        "presets": {name: (preset.summary,) for name, preset in PRESETS.items()},
        "recipes": {name: describe_recipe(read_recipe(name)) for name in list_recipes()},
        "datasets": {name: (entry.summary,) for name, entry in DATASETS.items()},
    }


def _get_summary(entry: SearchSpace | Proxy | type[Aggregate]) -> str:
    return entry.summary or get_docstring_summary(entry if isinstance(entry, type) else type(entry))


_COLUMNS = {
    "proxies": ("better", "cost", "norms", "needs", "measures"),
    "recipes": ("epochs", "batch", "for", "rough cost"),
}
"""Kind -> headings of its columns, where there are several."""


def describe_proxy(proxy: Proxy) -> tuple[str, ...]:
    """Return the row of a proxy in ``zcpt list proxies`` and in docs/proxies.md: a text for each column."""
    better = "higher" if proxy.higher_is_better else "lower"
    measures = _get_summary(proxy) + (f" ({proxy.paper})" if proxy.paper else "")
    needs = ", ".join(need for need in get_args(Need) if need in proxy.needs) or "nothing"
    return better, f"{proxy.cost:g}", proxy.norms, needs, measures
