"""``zcpt benchmark proxies|operations|search|report``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from train.data import ImageData, build_scoring_batches
from train.reduced import prepare_training
from zcpt.baselines import get_operation_score, list_operation_scores
from zcpt.batches import compute_fingerprint
from zcpt.cli._options import (
    add_data_arguments,
    add_options,
    add_workers_arguments,
    get_given_options,
    load_given_data,
    pick_device,
    split_names,
)
from zcpt.cli._supernets import TrainedSupernets, add_supernet_arguments, refuse_supernet_flags
from zcpt.cli._trainings import PREFIX, read_criteria
from zcpt.cli.search import FINALISTS, GROUPS, add_finalist_setting
from zcpt.errors import ConfigError
from zcpt.monitor import Progress
from zcpt.options import pluralize
from zcpt.printing import print_lines
from zcpt.search import PRESETS, SearchConfig, configure
from zcpt.tabular import TabularBenchmark, read_table
from zcpt.tabular.comparison import FORMATS, MEASURES, write_comparison
from zcpt.tabular.operations import (
    OperationFunction,
    measure_operations,
    read_operation_values,
    score_trained_supernet,
    score_undecided_supernet,
    select_settings,
)
from zcpt.tabular.proxies import ProxyOptions, choose_data_set, measure_proxies, read_measured_proxies
from zcpt.tabular.report import write_page, write_report
from zcpt.tabular.searches import configure_search, measure_searches, measure_variants, read_variants
from zcpt.tabular.trials import TableValue
from zcpt.values import Value

_NOT_OF_OPERATIONS = [name for name in SearchConfig.__dataclass_fields__ if name not in select_settings(SearchConfig())]


def _parse_seeds(text: str) -> list[int]:
    """Parse 0,1,2."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"'{text}' are no seeds: write different numbers, such as 0,1,2,3")
    return seeds


def _add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        required=True,
        help="tabular benchmark; see docs/benchmarks.md",
    )
    parser.add_argument("--space", metavar="NAME", required=True, help="search space of its architectures")
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="a new folder, or one to resume")
    add_data_arguments(parser)


def _add_accuracy_arguments(parser: argparse.ArgumentParser) -> None:
    default = "that of --dataset if the table has it, else the first of the table"
    help_data = f"data set of the table whose accuracies are the ground truth (default: {default})"
    parser.add_argument("--accuracy-on", metavar="NAME", default="", help=help_data)
    parser.add_argument(
        "--metric",
        metavar="NAME",
        default="",
        help="accuracies of the table, by name (default: test if the table has it, else its first)",
    )
    parser.add_argument(
        "--seeds", type=_parse_seeds, metavar="INT,...", default=[0, 1, 2, 3], help="seeds (default: 0,1,2,3)"
    )


def _load_table_and_data(args: argparse.Namespace) -> tuple[TabularBenchmark, ImageData]:
    table = read_table(args.table, args.space)
    return table, load_given_data(args)


def _write_report(folder: Path) -> None:
    print_lines(f"report        {write_report(folder)}")


class ProxiesCommand:
    """``zcpt benchmark proxies``."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of this command."""
        _add_common_arguments(parser)
        parser.add_argument(
            "--proxies",
            type=split_names,
            metavar="NAME,...",
            default=["naswot"],
            help="proxies, aggregates such as az_nas and log_rank:synflow+near, short trainings such as train:econas "
            "(default: naswot)",
        )
        add_workers_arguments(parser, "score networks", 0, "0, one for each core, or one on a GPU")
        add_options(parser, ProxyOptions, groups={"measurement": list(ProxyOptions.__dataclass_fields__)})

    @staticmethod
    def run(args: argparse.Namespace) -> None:
        """Score networks, and print the rank correlations of each proxy."""
        options = ProxyOptions(**get_given_options(args, ProxyOptions))
        table, data = _load_table_and_data(args)
        batches, device = build_scoring_batches(data, options.seed), pick_device(args.device)
        args.run_folder = args.out
        # A resumed folder goes on with its own trainings too, which are in no registry.
        measured = [name for name in read_measured_proxies(args.out) if name.startswith(PREFIX)]
        names = [*args.proxies, *(name for name in measured if name not in args.proxies)]
        criteria = read_criteria(names, table.space, data, device, options.seed)
        pool = {"workers": args.workers, "ray": args.ray}
        result = measure_proxies(table, batches, criteria, args.out, options, device=device, **pool)
        for name, row in result["results"].items():
            failed = f", {row['failures']} failed" if row["failures"] else ""
            print_lines(
                f"{name:13} Spearman {row['spearman']['value']:.3f}, Kendall {row['kendall']['value']:.3f} over "
                f"{pluralize(row['networks'], 'network')}{failed}"
            )
        _write_report(args.out)


class OperationsCommand:
    """``zcpt benchmark operations``."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of this command."""
        _add_common_arguments(parser)
        _add_accuracy_arguments(parser)
        help_methods = f"scores of operations: {', '.join(list_operation_scores())} (default: zc_pt)"
        parser.add_argument("--methods", type=split_names, metavar="NAME,...", help=help_methods)
        help_proxies = "proxies for those methods that take any (default: naswot)"
        parser.add_argument("--proxies", type=split_names, metavar="NAME,...", help=help_proxies)
        add_supernet_arguments(parser)
        help_scores = "JSON file of your own scores: name -> choice -> a number for each candidate, larger = keep"
        parser.add_argument("--scores", type=Path, metavar="FILE", help=help_scores)
        add_options(parser, SearchConfig, skip=[*_NOT_OF_OPERATIONS, "proxy"], groups=GROUPS)

    @staticmethod
    def run(args: argparse.Namespace) -> None:
        """Score operations, and print how well each score agrees with the table."""
        options = get_given_options(args, SearchConfig, skip=[*_NOT_OF_OPERATIONS, "proxy"])
        pairs = _pair_methods_with_proxies(args.methods, args.proxies)
        table, device = read_table(args.table, args.space), pick_device(args.device)
        trained = _load_supernets(args, table, [method for method, _ in pairs], device)
        data = trained.data if trained else load_given_data(args)
        options = {**(trained.size if trained else {}), **options}
        plans = {
            f"{method.replace('_', '-')} {proxy or ''}".rstrip(): (method, _make_settings(table, options, proxy))
            for method, proxy in pairs
        }

        def score(method: str, options: dict[str, Any], seed: int) -> dict[str, list[float]]:
            config, batches = configure(table.space, **options, seed=seed), build_scoring_batches(data, seed)
            if trained and get_operation_score(method).needs_training:
                supernet, built = trained.get(seed), trained.build_score(method, seed)
                validation = trained.get_validation_batches(seed)
                return score_trained_supernet(
                    built, supernet.net, supernet.mixture, batches, validation, config, device
                )
            return score_undecided_supernet(method, table.space, batches, config, device)

        scores: dict[str, OperationFunction] = {name: partial(score, *plan) for name, plan in plans.items()}
        about: dict[str, Any] = {"dataset": data.name, "scores": {name: plan for name, (_, plan) in plans.items()}}
        about |= trained.describe() if trained else {}
        if args.scores:
            own_scores = read_operation_values(args.scores, table.space)
            if duplicates := sorted(set(own_scores) & set(scores)):
                raise ConfigError(f"{args.scores} uses names of built-in scores, {', '.join(duplicates)}: rename them.")
            scores |= own_scores
            about["given"] = {name: own_score(0) for name, own_score in own_scores.items()}
        first = build_scoring_batches(data, args.seeds[0])
        about["fingerprint"] = compute_fingerprint(first.draw(min(64, len(first)), args.seeds[0]))
        args.run_folder = args.out
        data_set = choose_data_set(table, first, args.accuracy_on)
        result = measure_operations(
            table,
            scores,
            args.out,
            seeds=args.seeds,
            data_set=data_set,
            metric=table.choose_metric(data_set, args.metric),
            about=about,
            device=device,
        )
        for name, row in result["results"].items():
            means = {reference: agreement["spearman"]["mean"] for reference, agreement in row["agreement"].items()}
            text = ", ".join(f"{value:.3f} with {reference}" for reference, value in means.items())
            print_lines(f"{name:13} Spearman {text}")
        _write_report(args.out)


def _load_supernets(
    args: argparse.Namespace, table: TabularBenchmark, methods: list[str], device: torch.device
) -> TrainedSupernets | None:
    """Load the supernets of ``--supernet``, which some methods need."""
    needing = [method for method in methods if get_operation_score(method).needs_training]
    if args.supernet and needing:
        return TrainedSupernets(args, table.space, args.seeds, device)
    if args.supernet:
        raise ConfigError(f"--supernet has no effect on {', '.join(methods)}: leave it out.")
    if needing:
        raise ConfigError(
            f"{', '.join(needing)} need a trained supernet: train one by 'zcpt train-supernet', and add --supernet RUN."
        )
    refuse_supernet_flags(args)
    return None


def _pair_methods_with_proxies(methods: list[str] | None, proxies: list[str] | None) -> list[tuple[str, str | None]]:
    """Return a (method, proxy) pair for each proxy that a method takes; None for a method without a free proxy."""
    for kind, names in (("methods", methods), ("proxies", proxies)):
        if names is not None and (not names or len(set(names)) < len(names)):
            raise ConfigError(f"--{kind} must name different {kind}, separated by commas, not '{','.join(names)}'.")
    methods = methods or ["zc_pt"]
    takes_any = {method: get_operation_score(method).proxies == "any" for method in methods}
    if proxies and not any(takes_any.values()):
        raise ConfigError(f"--proxies has no effect on {', '.join(methods)}: leave it out.")
    pairs: list[tuple[str, str | None]] = []
    for method in methods:
        pairs += [(method, proxy) for proxy in (proxies or ["naswot"] if takes_any[method] else [None])]
    return pairs


def _make_settings(table: TabularBenchmark, options: dict[str, Any], proxy: str | None) -> dict[str, Any]:
    return select_settings(configure(table.space, **{**options, **({"proxy": proxy} if proxy else {})}))


class SearchCommand:
    """``zcpt benchmark search``."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of this command."""
        _add_common_arguments(parser)
        _add_accuracy_arguments(parser)
        parser.add_argument(
            "--variants",
            type=Path,
            metavar="FILE",
            help="YAML file of several ways of searching: name -> settings, which win over flags; each is measured in "
            "a folder of its own below --out",
        )
        parser.add_argument(
            "--random-search",
            action="store_true",
            help="also run random search with as many evaluations, by the same proxy",
        )
        parser.add_argument(
            "--preset", metavar="|".join(PRESETS), help="settings of a published procedure; other flags win"
        )
        group = add_options(parser, SearchConfig, skip=["seed"], groups=GROUPS)[FINALISTS]
        add_finalist_setting(group)
        help_guide = "accuracies of the table that stand in for the trainings of finalists, such as valid-12"
        group.add_argument("--guide", metavar="NAME", help=help_guide)

    @staticmethod
    def run(args: argparse.Namespace) -> None:
        """Search once for each seed, and print the accuracies of the architectures."""
        options: dict[str, Any] = {"preset": args.preset, **get_given_options(args, SearchConfig, skip=["seed"])}
        table = read_table(args.table, args.space)
        configure_search(table, 0, **options)  # reports a wrong option before the data are read
        variants = read_variants(args.variants, table) if args.variants else {}
        data = load_given_data(args)
        data_set = choose_data_set(table, build_scoring_batches(data, 0), args.accuracy_on)
        options |= {
            "seeds": args.seeds,
            "data_set": data_set,
            "metric": table.choose_metric(data_set, args.metric),
            "device": pick_device(args.device),
            "random_search": args.random_search,
            "finalist_value": _choose_finalist_value(args, table, data, data_set),
            "callbacks": [Progress()],
        }
        batches = partial(build_scoring_batches, data)
        args.run_folder = args.out
        if not variants:
            _print_searches(measure_searches(table, batches, args.out, **options))
            _write_report(args.out)
            return
        for name, result in measure_variants(table, batches, args.out, variants, **options).items():
            print_lines(name)
            _print_searches(result)
        page = write_page([args.out / name for name in variants], args.out / "report.md")
        print_lines(f"report        {page}")


def _choose_finalist_value(
    args: argparse.Namespace, table: TabularBenchmark, data: ImageData, data_set: str
) -> Callable[[int], Value] | None:
    """Return what measures the finalists of each seed: accuracies of the table, or short trainings."""
    if args.guide and args.finalist_setting:
        raise ConfigError("--guide and --finalist-setting both say what measures finalists: give one of them.")
    if args.guide:
        value = TableValue(table, data_set, args.guide)
        return lambda seed: value
    if args.finalist_setting:
        return cache(
            lambda seed: prepare_training(
                table.space, data, args.finalist_setting, device=pick_device(args.device), seed=seed
            )
        )
    return None


def _print_searches(result: dict[str, Any]) -> None:
    for row in result["searches"]:
        accuracy = "not in the table" if row["accuracy"] is None else f"{row['accuracy']:.2f} %, rank {row['rank']}"
        print_lines(f"seed {row['seed']:<8} {accuracy}, {row['seconds']:.0f} s: {row['architecture']}")
    if "gain" in result["results"]:
        summary = result["results"]
        print_lines(
            f"finalists     mean {summary['accuracy']['mean']:.2f} %, by validation alone "
            f"{summary['validated']['mean']:.2f} %, in {summary['finalist_seconds']:.0f} s more"
        )
    for row in result.get("random_search", []):
        print_lines(
            f"random {row['seed']:<6} {row['accuracy']:.2f} % by one score each, {row['validated']:.2f} % validated, "
            f"{row['seconds']:.0f} s: {pluralize(row['evaluations'], 'network')}"
        )


class ReportCommand:
    """``zcpt benchmark report``."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of this command."""
        parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folders of finished measurements")
        parser.add_argument("--out", type=Path, metavar="FILE", required=True, help="Markdown file to write")

    @staticmethod
    def run(args: argparse.Namespace) -> None:
        """Write one page from several results."""
        print_lines(f"page          {write_page(args.folders, args.out)}")


class TableCommand:
    """``zcpt benchmark table``."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of this command."""
        parser.add_argument(
            "folders", nargs="+", type=Path, metavar="FOLDER", help="folders of finished measurements of one kind"
        )
        help_out = f"file to write; its ending selects the format: {', '.join(FORMATS)}"
        parser.add_argument("--out", type=Path, metavar="FILE", required=True, help=help_out)
        kinds = "; ".join(f"{kind}: {', '.join(measures)}" for kind, measures in MEASURES.items())
        help_measure = f"number in the table; {kinds} (default: the first of the kind)"
        parser.add_argument("--measure", metavar="NAME", default="", help=help_measure)

    @staticmethod
    def run(args: argparse.Namespace) -> None:
        """Write one table of methods and data sets from several results."""
        print_lines(f"table         {write_comparison(args.folders, args.out, args.measure)}")
