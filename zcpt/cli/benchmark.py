"""``zcpt benchmark proxies|operations|search|report``."""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

from train.data import ImageData, load_data, scoring_batches
from zcpt.baselines import get_operation_score, list_operation_scores
from zcpt.batches import compute_fingerprint
from zcpt.cli._options import add_data_arguments, add_options, given, pick_device
from zcpt.errors import ConfigError
from zcpt.monitor import Progress
from zcpt.options import pluralize
from zcpt.search import PRESETS, SearchConfig, configure
from zcpt.tabular import Table, read_table
from zcpt.tabular.operations import OperationScore, measure_operations, read_scores, scored, settings
from zcpt.tabular.proxies import ProxyOptions, data_set_of, measure_proxies
from zcpt.tabular.report import write_page, write_report
from zcpt.tabular.searches import measure_searches
from zcpt.tabular.searches import settings as search_settings

_log = logging.getLogger(__name__)
_NOT_OF_OPERATIONS = [name for name in SearchConfig.__dataclass_fields__ if name not in settings(SearchConfig())]


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _numbers(text: str) -> list[int]:
    """Read 0,1,2."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"'{text}' are no seeds: write different numbers, such as 0,1,2,3")
    return numbers


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", type=Path, metavar="FILE", required=True, help="the benchmark; docs/benchmarks.md")
    parser.add_argument("--space", metavar="NAME", required=True, help="the space of its architectures")
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="a new folder, or one to go on with")


def _add_accuracy(parser: argparse.ArgumentParser) -> None:
    default = "that of --dataset if the table has it, else its first"
    help_data = f"data set of the table whose accuracies count (default: {default})"
    parser.add_argument("--accuracy-on", metavar="NAME", default="", help=help_data)
    parser.add_argument("--metric", metavar="NAME", default="test", help="which accuracies (default: test)")
    parser.add_argument(
        "--seeds", type=_numbers, metavar="INT,...", default=[0, 1, 2, 3], help="seeds (default: 0,1,2,3)"
    )


def _read(args: argparse.Namespace) -> tuple[Table, ImageData]:
    table = read_table(args.table, args.space)
    return table, load_data(args.dataset or "digits", args.data_dir, args.download)


def _written(folder: Path) -> None:
    sys.stdout.write(f"report        {write_report(folder)}\n")


class Proxies:
    """``zcpt benchmark proxies``."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of this command."""
        _add_shared(parser)
        parser.add_argument(
            "--proxies",
            type=_names,
            metavar="NAME,...",
            default=["naswot"],
            help="which ones, aggregates such as az_nas or log_rank:synflow+near among them (default: naswot)",
        )
        help_workers = "processes that share the work; 0 is one for each core, or one on a GPU (default: 0)"
        parser.add_argument("--workers", type=int, metavar="INT", default=0, help=help_workers)
        add_options(parser, ProxyOptions)

    @staticmethod
    def run(args: argparse.Namespace) -> None:
        """Score networks, and say how well each proxy ranks them."""
        options = ProxyOptions(**given(args, ProxyOptions))
        table, data = _read(args)
        batches, device = scoring_batches(data, options.seed), pick_device(args.device)
        data_set = data_set_of(table, batches, options.accuracy_on)
        _log.info(f"ranking networks of {table.title} by {', '.join(args.proxies)}: '{options.metric}' on {data_set}")
        result = measure_proxies(table, batches, args.proxies, args.out, options, device=device, workers=args.workers)
        for name, found in result["results"].items():
            failed = f", {found['failures']} failed" * bool(found["failures"])
            sys.stdout.write(
                f"{name:13} Spearman {found['spearman']['value']:.3f}, Kendall {found['kendall']['value']:.3f} over "
                f"{pluralize(found['networks'], 'network')}{failed}\n"
            )
        _written(args.out)


class Operations:
    """``zcpt benchmark operations``."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of this command."""
        _add_shared(parser)
        _add_accuracy(parser)
        help_methods = f"ways to score operations: {', '.join(list_operation_scores())} (default: zc_pt)"
        parser.add_argument("--methods", type=_names, metavar="NAME,...", help=help_methods)
        help_proxies = "what networks are compared by, for those methods that take any proxy (default: naswot)"
        parser.add_argument("--proxies", type=_names, metavar="NAME,...", help=help_proxies)
        help_scores = "JSON of other scores: name -> choice -> a number for each candidate, larger = keep"
        parser.add_argument("--scores", type=Path, metavar="FILE", help=help_scores)
        add_options(parser, SearchConfig, skip=[*_NOT_OF_OPERATIONS, "proxy"])

    @staticmethod
    def run(args: argparse.Namespace) -> None:
        """Score operations, and say how well that agrees with the table."""
        options = given(args, SearchConfig, skip=[*_NOT_OF_OPERATIONS, "proxy"])
        table, data = _read(args)
        device = pick_device(args.device)
        plans = {
            f"{method.replace('_', '-')} {proxy or ''}".rstrip(): (method, _settings(table, options, proxy))
            for method, proxy in _asked(args.methods, args.proxies)
        }

        def of(method: str, options: dict[str, Any], seed: int) -> dict[str, list[float]]:
            config = configure(table.space, **options, seed=seed)
            return scored(method, table.space, scoring_batches(data, seed), config, device)

        scores: dict[str, OperationScore] = {name: partial(of, *plan) for name, plan in plans.items()}
        about: dict[str, Any] = {"dataset": data.name, "scores": {name: plan for name, (_, plan) in plans.items()}}
        if args.scores:
            others = read_scores(args.scores, table.space)
            if twice := sorted(set(others) & set(scores)):
                raise ConfigError(f"{args.scores} has scores named like ours, {', '.join(twice)}: rename them.")
            scores |= others
            about["given"] = {name: score(0) for name, score in others.items()}
        first = scoring_batches(data, args.seeds[0])
        about["fingerprint"] = compute_fingerprint(first.draw(min(64, len(first)), args.seeds[0]))
        result = measure_operations(
            table,
            scores,
            args.out,
            seeds=args.seeds,
            data_set=data_set_of(table, scoring_batches(data, 0), args.accuracy_on),
            metric=args.metric,
            about=about,
            device=device,
        )
        for name, found in result["results"].items():
            means = {reference: each["spearman"]["mean"] for reference, each in found["agreement"].items()}
            said = ", ".join(f"{value:.3f} with {reference}" for reference, value in means.items())
            sys.stdout.write(f"{name:13} Spearman {said}\n")
        _written(args.out)


def _asked(methods: list[str] | None, proxies: list[str] | None) -> list[tuple[str, str | None]]:
    """The ways to score operations that are asked for, each with every proxy that it takes."""
    for name, asked in (("methods", methods), ("proxies", proxies)):
        if asked is not None and (not asked or len(set(asked)) < len(asked)):
            raise ConfigError(f"--{name} must name different {name}, divided by commas, not '{','.join(asked)}'.")
    methods = methods or ["zc_pt"]
    takes_any = {method: get_operation_score(method).proxies == "any" for method in methods}
    if proxies and not any(takes_any.values()):
        raise ConfigError(f"--proxies is not for {', '.join(methods)}, which have their own or none: leave it out.")
    return [(m, proxy) for m in methods for proxy in (proxies or ["naswot"] if takes_any[m] else [None])]


def _settings(table: Table, options: dict[str, Any], proxy: str | None) -> dict[str, Any]:
    return settings(configure(table.space, **options, **({"proxy": proxy} if proxy else {})))


class Search:
    """``zcpt benchmark search``."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of this command."""
        _add_shared(parser)
        _add_accuracy(parser)
        parser.add_argument("--preset", metavar="|".join(PRESETS), help="the published procedure, below other flags")
        add_options(parser, SearchConfig, skip=["seed"])

    @staticmethod
    def run(args: argparse.Namespace) -> None:
        """Search, and say how good what was found is."""
        options = given(args, SearchConfig, skip=["seed"])
        table = read_table(args.table, args.space)
        search_settings(table, 0, args.preset, **options)  # before data are read: a wrong option should not wait
        data = load_data(args.dataset or "digits", args.data_dir, args.download)
        result = measure_searches(
            table,
            partial(scoring_batches, data),
            args.out,
            seeds=args.seeds,
            data_set=data_set_of(table, scoring_batches(data, 0), args.accuracy_on),
            metric=args.metric,
            device=pick_device(args.device),
            preset=args.preset,
            callbacks=[Progress()],
            **options,
        )
        for row in result["searches"]:
            accuracy = "not in the table" if row["accuracy"] is None else f"{row['accuracy']:.2f} %, rank {row['rank']}"
            sys.stdout.write(f"seed {row['seed']:<8} {accuracy}, {row['seconds']:.0f} s: {row['architecture']}\n")
        _written(args.out)


class Report:
    """``zcpt benchmark report``."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of this command."""
        parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of finished measurements")
        parser.add_argument("--out", type=Path, metavar="FILE", required=True, help="the page, in Markdown")

    @staticmethod
    def run(args: argparse.Namespace) -> None:
        """Write the page."""
        sys.stdout.write(f"page          {write_page(args.folders, args.out)}\n")
