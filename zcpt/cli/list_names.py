"""``zcpt list``."""

from __future__ import annotations

import argparse
import sys

from train.data import DATASETS
from train.recipe import RECIPES
from zcpt.errors import ConfigError, unknown
from zcpt.proxies import Proxy, get_proxy, list_aggregates, list_proxies
from zcpt.registry import first_line
from zcpt.search import ORDERS, PRESETS
from zcpt.space import SearchSpace
from zcpt.spaces import get_space, list_spaces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument("kind", nargs="?", metavar="KIND", help="only one kind, such as spaces")


def run(args: argparse.Namespace) -> None:
    """Write one line for each name."""
    tables = _tables()
    if args.kind and args.kind not in tables:
        raise ConfigError(unknown("kind", args.kind, tables))
    for kind, table in tables.items():
        if args.kind in (None, kind):
            width = max(map(len, table))
            lines = (f"  {name:{width}}  {summary}\n" for name, summary in table.items())
            sys.stdout.write(f"{kind}\n{''.join(lines)}")


def _tables() -> dict[str, dict[str, str]]:
    return {
        "spaces": {name: _summary(get_space(name)) for name in list_spaces()},
        "proxies": {name: _directed(get_proxy(name)) for name in list_proxies()},
        "aggregates": {name: kind.summary or first_line(kind) for name, kind in list_aggregates().items()},
        "orders": {name: order.summary for name, order in ORDERS.items()},
        "presets": {name: first_line(preset) for name, preset in PRESETS.items()},
        "recipes": {name: recipe.summary for name, recipe in RECIPES.items()},
        "datasets": {name: source.summary for name, source in DATASETS.items()},
    }


def _summary(part: SearchSpace | Proxy) -> str:
    return part.summary or first_line(type(part))


def _directed(proxy: Proxy) -> str:
    return f"{_summary(proxy)}; {'higher' if proxy.higher_is_better else 'lower'} is better"
